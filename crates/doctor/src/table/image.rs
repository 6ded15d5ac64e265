//! Images.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::StopsPods;

const SANDBOX: &[&str] = &["sandbox image", "pause"];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "image-not-found",
        "the image was not found",
        StopsPods,
        "Image <image> is neither on the machine nor, where one was asked, in its registry. Check name and tag; Cofferdam pulls from no registry yet, so load the image from an archive.",
        &["cofferdam image ls", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "crictl pull <image>"])
    .heard(&[
        says("image \"<image>\" is not on this machine"),
        says("image <image> is not in the store"),
        says("Container image \"<image>\" is not present with pull policy of Never"),
        says("Failed to pull image \"<image>\": <_>: not found").unless(&["sandbox image", "insufficient_scope"]),
        says("manifest unknown").unless(&["Failed to pull image"]),
        says("Failed to pull image \"<image>\": <_>manifest unknown").unless(&[": not found"]),
        says("manifest for <image> not found").unless(&["Failed to pull image"]),
    ]),
    row(
        "image-pull-denied",
        "the registry refuses the image",
        StopsPods,
        "The registry does not give <image> to this node: the repository is private or does not exist, or the credentials are wrong. Make a pull secret and name it in the pod's imagePullSecrets.",
        &["docker login", "docker pull <image>", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["kubectl create secret docker-registry NAME --namespace=<namespace> --docker-server=SERVER --docker-username=USER --docker-password=PASSWORD"])
    .heard(&[
        says("Failed to pull image \"<image>\": <_>authorization failed"),
        says("Failed to pull image \"<image>\": <_>401 Unauthorized").unless(&["authorization failed"]),
        says("Failed to pull image \"<image>\": <_>403 Forbidden").unless(&["authorization failed"]),
        says("pull access denied").unless(SANDBOX),
        says("Failed to pull image \"<image>\": <_>denied:").unless(&["pull access denied", "authorization failed"]),
    ]),
    row(
        "registry-rate-limit",
        "the registry's rate limit is reached",
        StopsPods,
        "The registry counts pulls and refuses more of them for now. Log in, use a mirror, or wait.",
        &["docker login", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["kubectl create secret docker-registry NAME --namespace=<namespace> --docker-server=SERVER --docker-username=USER --docker-password=PASSWORD"])
    .heard(&[says("toomanyrequests"), says("429 Too Many Requests").unless(&["toomanyrequests"])]),
    row(
        "registry-unreachable",
        "the registry cannot be reached",
        StopsPods,
        "The node could not talk to the image's registry: name resolution, a proxy, a firewall or a certificate is in the way; the message says which. Try the same address from the node.",
        &["curl -sSI https://REGISTRY/v2/"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.nodeName}'", "curl -sSI https://REGISTRY/v2/"])
    .heard(&[
        says("failed to do request:").unless(SANDBOX),
        says("Failed to pull image \"<image>\": <_>dial tcp").unless(&["failed to do request", "pause"]),
        says("Failed to pull image \"<image>\": <_>pinging container registry").unless(&["dial tcp"]),
        says("Failed to pull image \"<image>\": <_>context deadline exceeded").unless(&["failed to do request", "dial tcp"]),
    ]),
    row(
        "image-pull-back-off",
        "the image was not pulled (ImagePullBackOff)",
        StopsPods,
        "Pulling <image> failed and is tried again after longer and longer pauses; why is in an event that is gone or says nothing known. Pull it by hand on the node and read the answer.",
        &["cofferdam image ls", "docker pull <image>"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "crictl pull <image>"])
    .heard(&[says("ImagePullBackOff"), says("ErrImagePull"), says("Back-off pulling image \"<image>\""), says("Failed to pull image \"<image>\"")])
    .generic(),
    row(
        "image-name-invalid",
        "the image's name is not valid",
        StopsPods,
        "<image> is not written as image references are: capitals, spaces, a missing name or a wrong digest are the usual reasons. Correct it in the manifest.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].image}'"])
    .heard(&[
        says("image reference \"<image>\" is not valid"),
        says("couldn't parse image name \"<image>\""),
        says("couldn't parse image reference \"<image>\"").unless(&["couldn't parse image name"]),
        says("invalid reference format").unless(&["couldn't parse image", "sandbox image"]),
        says("InvalidImageName").unless(&["couldn't parse image", "invalid reference format"]),
    ]),
    row(
        "image-broken",
        "the image is damaged",
        StopsPods,
        "What is stored or was sent of the image is not what its digests say, or a layer cannot be unpacked. Remove it and load it anew; where it stays, build or push it anew.",
        &["cofferdam image rm <image>", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["crictl rmi <image>", "crictl pull <image>"])
    .heard(&[
        says("but <_> was promised: the archive is damaged or forged"),
        says("layer <layer> cannot be unpacked"),
        says("failed to extract layer").unless(&["no space left", "failed to mount"]),
        says("unexpected commit digest").unless(&["failed to extract layer"]),
        says("invalid tar header").unless(&["failed to extract layer", "cannot be unpacked"]),
        says("failed size validation").unless(&["failed to extract layer"]),
        says("blob <_> is missing").unless(&["cannot be unpacked"]),
        says("it is damaged: load the image again"),
        says("a layer of image <image> is gone"),
        says("cannot open the layers in <path>: No such file or directory"),
        says("it was put aside as <path>.unreadable"),
        says("a record that could not be read lies there as .unreadable"),
    ]),
    row(
        "image-wrong-architecture",
        "the image is for another architecture",
        StopsPods,
        "The image, or the program in it, is for other CPUs than this machine's, so the kernel cannot execute it; a script without its first line #! gives the same error. Take an image for this architecture, or one for several.",
        &["uname -m", "cofferdam image ls"],
    )
    .in_cluster(&["kubectl get node <node> -o jsonpath='{.status.nodeInfo.architecture}'", "docker manifest inspect <image>"])
    .heard(&[
        says("image <image> is for <found>; this machine is <machine>"),
        says("no match for platform in manifest"),
        says("no matching manifest for "),
        says("exec format error").unless(&["is not proved"]),
        crate::diagnose::prints("exec <_>: exec format error"),
        crate::diagnose::prints("exec container process <_> Exec format error"),
        crate::diagnose::prints("cannot execute binary file: Exec format error"),
    ]),
];
