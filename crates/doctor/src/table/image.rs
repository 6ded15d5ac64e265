//! Images.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::StopsPods;

/// What a failed pull of the sandbox's own image says.
pub(super) const SANDBOX: &[&str] = &["sandbox image", "pause"];

/// `not found` of something other than a name.
const OTHER_NOT_FOUND: &[&str] = &["sandbox image", "insufficient_scope", "no match for platform", "no matching manifest"];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "image-not-found",
        "the image was not found",
        StopsPods,
        "Image <image> is neither on the machine nor, where one was asked, in its registry. Check name and tag, pull it by hand to see the registry's answer, or load it from an archive.",
        &["cofferdam image ls", "cofferdam image pull <image>"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "crictl pull <image>"])
    .heard(&[
        says("image \"<image>\" is not on this machine").unless(&["ErrImageNeverPull"]),
        says("image <image> is not in the store"),
        says(": image <image> cannot be pulled: <_> has no <_> (404"),
        says("image <image> cannot be pulled: <_> has no <_> (404"),
        says(" has no <image> (404"),
        says("Failed to pull image \"<image>\": <_>: not found").unless(OTHER_NOT_FOUND),
        says("failed to resolve reference \"<image>\": <_>: not found").unless(OTHER_NOT_FOUND),
        says("Failed to pull image \"<image>\": <_>manifest unknown"),
        says("manifest unknown").unless(&["has no"]),
        says("manifest for <image> not found").unless(OTHER_NOT_FOUND),
    ]),
    row(
        "image-never-pulled",
        "the image is not here and may not be pulled (ErrImageNeverPull)",
        StopsPods,
        "The pod says imagePullPolicy: Never, so <image> must be on the machine that runs it, and it is not on this one. Load it there, or let it be pulled.",
        &["cofferdam image ls", "docker save <image> | cofferdam image load"],
    )
    .in_cluster(&["crictl images", "docker save <image> | ctr --namespace k8s.io images import -"])
    .heard(&[
        says("Container image \"<image>\" is not present with pull policy of Never"),
        says("ErrImageNeverPull: image \"<image>\" is not on this machine"),
        says("ErrImageNeverPull"),
    ]),
    row(
        "image-pull-back-off",
        "the image was not pulled (ImagePullBackOff)",
        StopsPods,
        "Pulling <image> failed and is tried again after longer and longer pauses; why is in an event that is gone or says nothing known. Pull it by hand on the node and read the answer.",
        &["cofferdam image ls", "cofferdam image pull <image>"],
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
        &["cofferdam image fsck --repair", "cofferdam image rm <image>", "cofferdam image pull <image>"],
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
        says("with the digest <_> instead of <_>: it is not used"),
        says("failed commit on ref"),
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
        says(": image <image> is for <found>; this machine is <machine>"),
        says("image <image> is for <found>; this machine is <machine>"),
        says("no match for platform in manifest"),
        says("no matching manifest for "),
        says("no image found in image index for architecture"),
        says("no image found in manifest list for architecture"),
        says("exec format error").unless(&["is not proved"]),
        crate::diagnose::prints("exec <_>: exec format error"),
        crate::diagnose::prints("exec container process <_> Exec format error"),
        crate::diagnose::prints("cannot execute binary file: Exec format error"),
    ]),
];
