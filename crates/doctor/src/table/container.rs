//! A container that does not start, or ends.

use crate::diagnose::{Diagnosis, Enclosure, prints, row, says, told};
use crate::finding::Severity::{Degrades, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "entrypoint-not-found",
        "the command is not in the image",
        StopsPods,
        "The container is to run <command>, and its image has no such file, none in $PATH, or not the interpreter that the file's first line names. Correct command and args, or take the image that has it; minimal images have no shell.",
        &["cofferdam check -f MANIFEST", "cofferdam image ls"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].command}'", "docker inspect --format '{{.Config.Entrypoint}} {{.Config.Cmd}}' <image>"])
    .heard(&[
        says("exec: \"<command>\": executable file not found in $PATH").unless(RUNTIMES),
        says("exec: \"<command>\": stat <_>: no such file or directory"),
        says("executable file `<command>` not found in $PATH"),
        says("error finding executable \"<command>\" in PATH"),
        says("failed to load <command>: no such file or directory"),
        says("the file <command> was not found"),
    ]),
    row(
        "interpreter-missing",
        "the command's interpreter or libraries are not in the image",
        StopsPods,
        "The file <command> is there, but what it needs to run is not: the interpreter of its first line, or the dynamic loader that it was linked for (glibc against musl). Add it to the image, or build the program statically.",
        &["file <command>", "head -c 64 <command>"],
    )
    .heard(&[
        told("exec container process (missing dynamic library?) `<command>`"),
        told("exec <command>: no such file or directory").unless(&["exec: ", "fork/exec"]),
    ]),
    row(
        "entrypoint-permission-denied",
        "the command may not be executed",
        StopsPods,
        "The container's command is there, but it is a folder, lacks the execute bit for the container's user, or lies on a file system mounted noexec. Set its mode in the image (chmod +x), or mount the volume without noexec.",
        &["cofferdam doctor", "cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["docker run --rm --entrypoint ls <image> -l /"])
    .heard(&[
        says("exec: \"<command>\": permission denied"),
        says("exec: \"<command>\": is a directory"),
        says("open executable: Permission denied"),
        says("open executable: Operation not permitted"),
        says("failed to load <command>: permission denied"),
        told("exec <command>: permission denied").unless(&["exec: "]),
        says("exec container process `<command>`: Permission denied"),
    ]),
    row(
        "working-directory-missing",
        "the working directory cannot be entered",
        StopsPods,
        "The container is to start in a folder that does not exist or that its user may not enter. Correct workingDir, or make the folder in the image.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].workingDir}'"])
    .heard(&[says("chdir to cwd (\"<path>\")"), says("mkdir cwd <path>"), says("cannot chdir to `<path>`"), says("chdir to `<path>`").unless(&["cannot chdir"])]),
    row(
        "command-empty",
        "neither image nor manifest names a command",
        StopsPods,
        "Container <container> names no command, and its image has no entrypoint to take in its place. Set command in the manifest.",
        &["cofferdam check -f MANIFEST"],
    )
    .heard(&[says("container \"<container>\" has no command, and neither has image"), says("no command specified")]),
    row(
        "user-unknown",
        "the container's user is not in its image",
        StopsPods,
        "The container is to run as a user whose name its image does not know. Use a number in runAsUser, or an image whose /etc/passwd has the name.",
        &["cofferdam check -f MANIFEST"],
    )
    .heard(&[
        says("unable to find user <user>: no matching entries in passwd file"),
        says("no users found"),
        says("user \"<user>\" of image"),
    ]),
    row(
        "run-as-non-root",
        "the image would run as root, which the pod forbids",
        StopsPods,
        "The pod sets runAsNonRoot, and its image runs as user 0, or as a name of which the kubelet cannot tell. Set runAsUser to a number above 0, or take an image that names one.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["docker inspect --format '{{.Config.User}}' <image>"])
    .heard(&[
        says("has runAsNonRoot and image will run as root"),
        says("has runAsNonRoot and the image will run as root"),
        says("has runAsNonRoot and image has non-numeric user"),
        says("container's runAsUser breaks non-root policy"),
    ]),
    row(
        "oom-killed",
        "killed for want of memory (OOMKilled)",
        StopsPods,
        "The container, or its whole pod, reached its limit of memory and the kernel ended it; where that happens at the start, the limit does not even hold the runtime or the enclosure. Raise the limit, and in a class for gVisor or VMs set overhead.podFixed.memory.",
        &["cofferdam describe <namespace>/<pod>", "dmesg | grep -i 'killed process'"],
    )
    .in_cluster(&["kubectl top pod <pod> --namespace=<namespace> --containers", "kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].resources}'"])
    .heard(&[
        says("OOMKilled"),
        says("container init was OOM-killed"),
        says("OOM: the memory limit could be too low"),
        says("unable to set memory limit to"),
        says("memory.limit_in_bytes: device or resource busy"),
    ]),
    row(
        "config-key-missing",
        "an environment variable or setting cannot be resolved",
        StopsPods,
        "The container's settings name something that cannot be resolved, and the message says what. Correct the reference, or mark it optional.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>"])
    .heard(&[says("CreateContainerConfigError")])
    .generic(),
    row(
        "hook-failed",
        "a lifecycle hook failed",
        StopsPods,
        "The container was started and its postStart or preStop hook did not succeed, so it was ended or its end was hurried. Run the hook's command by hand in the container.",
        &["cofferdam logs <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>"])
    .heard(&[says("FailedPostStartHook"), says("PostStartHookError"), says("FailedPreStopHook"), says("postStart hook of container")]),
    row(
        "processes-exhausted",
        "no more processes may be made",
        StopsPods,
        "A fork failed because a limit on processes or threads was reached: the pod's pids limit, the user's, or the machine's. Find what makes so many, or raise the limit.",
        &["cat /proc/sys/kernel/pid_max /proc/sys/kernel/threads-max", "cofferdam ps"],
    )
    .heard(&[
        told("fork: retry: Resource temporarily unavailable"),
        told("fork/exec <_>: resource temporarily unavailable"),
        told("cannot fork"),
        told("pthread_create failed"),
        told("newosproc"),
    ]),
    row(
        "too-many-open-files",
        "too many open files or watches",
        Degrades,
        "A process reached its limit of open files, or the machine its number of inotify instances, which many pods share. Raise the limit; without CAP_SYS_RESOURCE a container cannot have more files than Cofferdam itself.",
        &["sysctl fs.inotify.max_user_instances fs.inotify.max_user_watches fs.file-max", "sysctl -w fs.inotify.max_user_instances=8192"],
    )
    .heard(&[told("too many open files"), told("inotify_add_watch<_>no space left on device"), told("failed to create fsnotify watcher").unless(&["too many open files"])]),
    row(
        "dns-fails",
        "names cannot be resolved inside the pod",
        Degrades,
        "The container could not resolve a name: its resolv.conf names a server that it cannot reach, or the network lets nothing out. Compare the pod's resolver with the machine's, and look at what forwarding drops.",
        &["cofferdam exec <namespace>/<pod> -- cat /etc/resolv.conf", "cofferdam doctor"],
    )
    .in_cluster(&["kubectl exec <pod> --namespace=<namespace> -- cat /etc/resolv.conf", "kubectl get pods --namespace=kube-system -l k8s-app=kube-dns"])
    .heard(&[
        prints("Temporary failure in name resolution"),
        prints("Could not resolve host"),
        prints("server misbehaving"),
        prints("lookup <_>: no such host"),
        prints("EAI_AGAIN"),
        prints("bad address '"),
    ]),
    row(
        "root-read-only",
        "the container writes into its read-only root",
        Degrades,
        "The container tried to write where nothing can be written: its root is read-only by the pod's setting or its volume is mounted so. Give it an emptyDir for the folder that it writes to.",
        &["cofferdam logs <namespace>/<pod>", "cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.containers[*].securityContext}{.spec.containers[*].volumeMounts}'"])
    .heard(&[prints("read-only file system"), prints("EROFS").unless(&["read-only file system"])]),
    row(
        "permission-denied-inside",
        "an operation is not permitted inside the container",
        Degrades,
        "The container tried what its user, its capabilities or the system call filter do not allow. Give it the one capability that it needs, or run it as the user who owns the files; a volume needs fsGroup.",
        &["cofferdam check -f MANIFEST"],
    )
    .in_cluster(&["kubectl get pod <pod> --namespace=<namespace> -o jsonpath='{.spec.securityContext}{.spec.containers[*].securityContext}'"])
    .heard(&[
        prints("Operation not permitted").inside(Enclosure::Shared),
        prints("Operation not permitted").inside(Enclosure::Unknown),
        prints("Permission denied").unless(&["exec "]),
    ])
    .generic(),
    row(
        "container-not-made",
        "the container could not be made or started",
        StopsPods,
        "The runtime refused or failed to make or start container <container>, and its message is none that is known here. The runtime's own words are the evidence; its log has more.",
        &["cofferdam describe <namespace>/<pod>", "cofferdam doctor"],
    )
    .in_cluster(&["kubectl describe pod <pod> --namespace=<namespace>", "journalctl -u containerd -u crio -n 100"])
    .heard(&[
        says("CreateContainerError"),
        says("RunContainerError"),
        says("ContainerCannotRun"),
        says("StartError"),
        says("failed to create containerd task"),
        says("container \"<container>\" could not be made"),
        says("container \"<container>\" could not be started"),
    ])
    .generic(),
    row(
        "crash-loop",
        "the container ends again and again (CrashLoopBackOff)",
        StopsPods,
        "Container <container> ends soon after it starts (exit code <code>), and is started again after longer and longer pauses. The reason is in what it printed last: 126 and 127 mean a command that cannot be run, 137 that it was killed, 139 that it crashed.",
        &["cofferdam logs <namespace>/<pod> -c <container>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace> --container=<container> --previous"])
    .heard(&[says("CrashLoopBackOff"), says("Back-off restarting failed container <container> in pod")])
    .generic(),
    row(
        "container-failed",
        "the container ended with an error",
        StopsPods,
        "Container <container> ended with exit code <code>, which is its own answer and none of the enclosure's. The reason is in what it printed last.",
        &["cofferdam logs <namespace>/<pod> -c <container>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace> --container=<container>"]),
];

/// A runtime's own binary that is missing is not the container's command.
const RUNTIMES: &[&str] = &["exec: \"runsc\"", "exec: \"runc\"", "exec: \"crun\"", "exec: \"kata-runtime\""];
