//! Volumes, and where they are mounted.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::StopsPods;

const PLACE: &[&str] = &["cofferdam check -f MANIFEST", "cofferdam describe <namespace>/<pod>"];
const PLACE_IN_CLUSTER: &[&str] =
    &["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].volumeMounts}{.spec.volumes}'"];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "sub-path-fails",
        "a subPath cannot be mounted",
        StopsPods,
        "A part of the volume <volume> is to be mounted, and it is not there, is not of the kind that the mount wants, or leads out of the volume through a link, which is refused. Correct subPath or subPathExpr, or make the folder in the volume first.",
        PLACE,
    )
    .in_cluster(PLACE_IN_CLUSTER)
    .heard(&[
        says("failed to prepare subPath for volumeMount \"<volume>\""),
        says("failed to create subPath directory for volumeMount \"<volume>\""),
        says("unable to provision SubPath `<path>`"),
        says("subPath \"<path>\" leads out of the volume <volume> through a link"),
        says("could not open subPath \"<path>\" of <volume>:"),
        says("subPathExpr and subPath are mutually exclusive"),
    ]),
    row(
        "mount-of-other-kind",
        "a file is to be mounted over a folder, or a folder over a file",
        StopsPods,
        "What is mounted and the place where it goes are not of one kind; a key of a ConfigMap at a file's path needs subPath, without it a folder comes there. Set subPath to the key, or mount the folder elsewhere.",
        PLACE,
    )
    .in_cluster(PLACE_IN_CLUSTER)
    .heard(&[says("Are you trying to mount a directory onto a file (or vice-versa)"), says("error mounting <_>: not a directory"), says("mount `<_>` to `<_>`: Not a directory")]),
    row(
        "host-path-of-other-kind",
        "a hostPath is not what its type says",
        StopsPods,
        "The volume names <path> of the machine with a type, and what lies there is nothing or something else. Make it on the machine, use DirectoryOrCreate or FileOrCreate, or correct the type.",
        &["ls -ld <path>"],
    )
    .heard(&[says("hostPath type check failed: <path> is not a"), says("hostPath type check failed")]),
    row(
        "mount-not-shared",
        "the machine's mount does not pass mounts on",
        StopsPods,
        "The pod mounts a folder with HostToContainer or Bidirectional propagation, and the machine's mount that it lies on is private. Make that mount shared, as systemd does for all of them.",
        &["findmnt -o TARGET,PROPAGATION /", "mount --make-rshared /"],
    )
    .heard(&[says("but it is not a shared mount"), says("but it is not a shared or slave mount"), says("is not shared, so no mount can pass")]),
    row(
        "recursive-read-only-refused",
        "a mount cannot be made read-only all the way down",
        StopsPods,
        "The pod sets recursiveReadOnly: Enabled, and the handler or the kernel (Linux before 5.12) cannot do that, or the mount is not read-only or is propagated. Use IfPossible, another handler, or set readOnly and no mountPropagation.",
        &["cofferdam handlers", "uname -r"],
    )
    .in_cluster(&["kubectl get node <node> -o jsonpath='{.status.runtimeHandlers}'"])
    .heard(&[
        says("failed to resolve recursive read-only mode: volume \"<volume>\""),
        says("failed to resolve recursive read-only mode"),
        says("rro<_>is not supported by the runtime"),
        says("unknown mount option `rro`"),
    ]),
    row(
        "image-volume-fails",
        "an image cannot be mounted as a volume",
        StopsPods,
        "The pod mounts an image as a volume, and the runtime could not make that mount: the image or the subPath in it is not there, or the runtime is older than image volumes (containerd has them since 2.1, CRI-O since 1.31). Pull the image by hand, or upgrade the runtime.",
        &["cofferdam image ls", "cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get node <node> -o jsonpath='{.status.nodeInfo.containerRuntimeVersion}'", "crictl images"])
    .heard(&[
        says("ImageVolumeMountFailed"),
        says("image volume has no reference"),
        says("failed to mount image volume"),
        says("failed to generate spec: failed to mkdir \"\": mkdir : no such file or directory"),
    ]),
    row(
        "huge-pages-volume-unmatched",
        "a volume of huge pages fits no request for them",
        StopsPods,
        "An emptyDir has the medium HugePages, and the containers request no huge pages of that size, or of several sizes without the volume naming one. Request hugepages-SIZE in the containers' resources, and write the medium as HugePages-SIZE.",
        PLACE,
    )
    .in_cluster(PLACE_IN_CLUSTER)
    .heard(&[
        says("hugePages storage requested, but there is no resource request for huge pages"),
        says("can't be used if container requests multiple huge page sizes"),
    ]),
    row(
        "emptydir-limit-exceeded",
        "an emptyDir grew over its limit",
        StopsPods,
        "The volume <volume> held more than its sizeLimit (<limit>), and the pod was evicted for that; it does not come back by itself. Raise the limit, write less, or use a volume that is made for it.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.volumes}'"])
    .heard(&[says("Usage of EmptyDir volume \"<volume>\" exceeds the limit \"<limit>\"")]),
    row(
        "ephemeral-storage-exceeded",
        "the pod wrote more than its limit of ephemeral storage",
        StopsPods,
        "Logs, emptyDir volumes and, under a kubelet, what containers write in their roots count together, and they passed the limit ephemeral-storage of the container or of all of them; the pod was evicted for that. Raise the limit, rotate logs, or write into a volume.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].resources}'"])
    .heard(&[
        says("Pod ephemeral local storage usage exceeds the total limit of containers"),
        says("Container <container> exceeded its local ephemeral storage limit"),
    ]),
];
