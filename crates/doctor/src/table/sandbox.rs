//! What keeps a sandbox from being made, or ends it.

use crate::diagnose::{Diagnosis, row, says};
use crate::finding::Severity::{Degrades, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "stuck-container-creating",
        "stuck in ContainerCreating",
        StopsPods,
        "The pod has a node, and its sandbox, network or volumes are not there yet; the last thing that was said of it: <message>. Look at the node's kubelet and container runtime for what it waits for.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&[
        "kubectl describe pod <pod> --namespace=<namespace>",
        "kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.nodeName}'",
        "journalctl -u kubelet -u containerd -n 100",
    ]),
    row(
        "sandbox-failed",
        "the pod's sandbox could not be made",
        StopsPods,
        "The container runtime refused or failed to make the pod's sandbox, and the message is none that is known here. The runtime's own log has more.",
        &["cofferdam describe <namespace>/<pod>", "cofferdam doctor"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "journalctl -u containerd -u crio -n 100"])
    .heard(&[
        says("Failed to create pod sandbox"),
        says("FailedCreatePodSandBox"),
        says("its sandbox could not be made in"),
        says("the pod's monitor did not start"),
    ])
    .generic(),
    row(
        "sandbox-image-unavailable",
        "the sandbox (pause) image cannot be pulled",
        StopsPods,
        "Before any container, the runtime pulls the pause image <image>, and the node cannot get it. Load it on the node, or name one in a registry that it reaches in the runtime's configuration (sandbox_image, in containerd 2 pinned_images.sandbox; pause_image for CRI-O).",
        &["crictl pull <image>"],
    )
    .heard(&[
        says("failed to get sandbox image \"<image>\""),
        says("failed to inspect sandbox image \"<image>\""),
        says("failed pulling image \"<image>\"").unless(&["failed to get sandbox image"]),
    ]),
    row(
        "cgroup-driver-mismatch",
        "kubelet and runtime disagree about the cgroup driver",
        StopsPods,
        "One side names cgroups as systemd does (slice:prefix:name), the other as paths, and the runtime cannot read the other's form. Set cgroupDriver of the kubelet and SystemdCgroup of the handler (systemd-cgroup in runsc.toml) to the same.",
        &["grep -rn -i cgroup /var/lib/kubelet/config.yaml /etc/containerd/config.toml /etc/containerd/runsc.toml"],
    )
    .heard(&[
        says("expected cgroupsPath to be of format \"slice:prefix:name\""),
        says("invalid systemd path:"),
        says("sd-bus call: Invalid unit name or type"),
    ]),
    row(
        "name-reserved",
        "an earlier try still holds the name",
        Degrades,
        "A try to make this sandbox or container took longer than the kubelet waits, and is still under way or stuck under the same name. It usually passes; where it stays, the runtime hangs on slow storage or a dead shim and needs a restart.",
        &["crictl ps -a", "systemctl restart containerd"],
    )
    .heard(&[says("name \"<name>\" is reserved for \"<_>\"")]),
    row(
        "runtime-timed-out",
        "the runtime did not answer in time",
        StopsPods,
        "A call to the runtime took longer than its time limit and was given up; a slow disk, too many pods starting at once, or software emulation of a VM are the usual reasons. What was half made is undone, and the pod is tried again where its policy says so.",
        &["uptime", "cofferdam doctor"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "uptime", "journalctl -u containerd -n 100"])
    .heard(&[
        says("context deadline exceeded").unless(&["failed to do request", "pull", "probe failed"]),
        says("DeadlineExceeded desc =").unless(&["vsock", "context deadline exceeded", "pull"]),
        says("failed: it did not end within <seconds> s and was killed"),
        says("the container did not take its start within <seconds> s"),
    ]),
    row(
        "active-deadline",
        "the pod ran into its own deadline",
        StopsPods,
        "The pod sets activeDeadlineSeconds, and was ended when that time was over, its start included. Raise or remove it if the work takes longer.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.activeDeadlineSeconds}'"])
    .heard(&[says("Pod was active on the node longer than the specified deadline")]),
    row(
        "monitor-dead",
        "the pod's monitor died",
        StopsPods,
        "Somebody or the kernel ended the process that stays with this pod, and without it nobody holds its streams and exits; so the pod was failed and nothing of it stays. Look for the out-of-memory killer, and start the pod again.",
        &["dmesg | grep -i -e oom -e 'killed process'", "cofferdam stop <namespace>/<pod>", "cofferdam run -f MANIFEST --detach"],
    )
    .heard(&[says("its monitor died"), says("monitor of pod <id>:").unless(&["its monitor died"])]),
    row(
        "enclosure-dead",
        "the pod's enclosure died",
        StopsPods,
        "The process that is the pod's sandbox (gVisor's sentry, or the pause process) ended while containers were in it, and they ended with it. A limit of memory that leaves no room for the enclosure is the usual reason: set overhead in the class.",
        &["dmesg | grep -i -e oom -e 'killed process'", "cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "journalctl -u containerd -n 100"])
    .heard(&[
        says("its enclosure died"),
        says("Pod sandbox changed, it will be killed and re-created"),
        says("sandbox container <_> is not running"),
    ]),
    row(
        "keeper-gone",
        "no process keeps the pod",
        Degrades,
        "The `cofferdam run` that started this pod was killed or hangs, so nothing restarts its containers, holds it to its deadline or removes it at its end. Stop the pod and start it again.",
        &["cofferdam stop <namespace>/<pod>", "cofferdam run -f MANIFEST --detach"],
    ),
    row(
        "machine-restarted",
        "the machine was restarted under the pod",
        StopsPods,
        "The pod's record is from before the machine's last start, so nothing of it runs any more. Remove the record and start the pod again.",
        &["cofferdam stop <namespace>/<pod>", "cofferdam run -f MANIFEST --detach"],
    )
    .heard(&[says("the machine was restarted")]),
    row(
        "stuck-terminating",
        "stuck in Terminating",
        Degrades,
        "The pod was told to end, and its finalizers (<name>) keep the record until their controllers have done their part. Look for those controllers; removing a finalizer by hand skips what it was for.",
        &["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.metadata.finalizers}'"],
    ),
    row(
        "left-behind",
        "something of the pod could not be removed",
        Degrades,
        "The pod is over, and not all that was its could be removed; that is tried again by every command. What is in the way is usually a process in uninterruptible sleep or a mount that somebody holds.",
        &["cofferdam stop <namespace>/<pod>", "ps -eo pid,stat,wchan:30,args | grep ' D'"],
    )
    .heard(&[says("its removal failed and is tried again"), says("it could not be put right and is tried again"), says("are still there after <millis> ms, the first is <pid>").unless(&["its removal failed", "could not be put right"])]),
    row(
        "shim-gone",
        "the pod's shim is gone",
        StopsPods,
        "containerd cannot reach the shim of this pod: it died, or was left behind when containerd was restarted. Remove the pod's sandbox by force, and the kubelet makes a new one.",
        &["crictl pods --name <pod>", "crictl rmp --force SANDBOX"],
    )
    .heard(&[
        says("ttrpc: closed"),
        says("shim disconnected"),
        says("/run/containerd/s/<_>: connect: connection refused"),
    ]),
    row(
        "volume-source-missing",
        "a ConfigMap or Secret that the pod uses does not exist",
        StopsPods,
        "The pod takes a volume or environment variables from the <kind> <name>, and its namespace has none of that name. Make it, or mark the reference optional.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get configmaps,secrets --namespace=<namespace>"])
    .heard(&[
        says("configmap \"<name>\" not found"),
        says("secret \"<name>\" not found"),
        says("couldn't find key <name> in "),
        says("references non-existent config key: <name>"),
    ]),
    row(
        "volume-not-attached",
        "a volume does not attach or mount",
        StopsPods,
        "A volume of the pod did not become ready on its node, so its containers wait. A claim that is not bound, a disk that another node holds, or a missing storage driver are the usual reasons.",
        &["cofferdam describe <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl get pvc --namespace=<namespace>", "kubectl get volumeattachments"])
    .heard(&[
        says("Unable to attach or mount volumes"),
        says("Multi-Attach error for volume"),
        says("has unbound immediate PersistentVolumeClaims"),
        says("persistentvolumeclaim \"<name>\" not found"),
    ]),
];
