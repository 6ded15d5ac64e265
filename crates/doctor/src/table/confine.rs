//! What confines a container: seccomp, AppArmor, user namespaces, kernel settings.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::finding::Severity::{Note, StopsPods};
use crate::version::Version;

/// Reasons why a profile cannot be loaded because it is not there.
const NOT_THERE: &[&str] = &["no such file", "does not exist"];

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "seccomp-profile-missing",
        "the seccomp profile is not on the node",
        StopsPods,
        "The pod asks for the Localhost profile <path>, and there is no such file on this machine; profiles are named relative to /var/lib/kubelet/seccomp. Put the profile there on every node that may run the pod, or use RuntimeDefault.",
        &["ls -R /var/lib/kubelet/seccomp"],
    )
    .heard(&[
        says("cannot load seccomp profile \"<path>\": <_>no such file"),
        says("cannot load seccomp profile \"<path>\": <_>does not exist"),
        says("seccomp profile cannot read <path>: No such file"),
    ]),
    row(
        "seccomp-profile-broken",
        "the seccomp profile cannot be used",
        StopsPods,
        "The profile <path> is there, and it is not one that can be taken, so the container does not start rather than run without it. Correct what the message names; the forms of Docker, containers/common and the OCI specification are read.",
        &["python3 -m json.tool <path>"],
    )
    .heard(&[
        says("cannot load seccomp profile \"<path>\":").unless(NOT_THERE),
        says("decoding seccomp profile failed"),
        says("seccomp profile cannot read <path>: ").unless(NOT_THERE),
        says("seccomp profile <path>: ").unless(&["cannot load seccomp profile", "seccomp profile cannot read"]),
        says("error adding seccomp filter rule for syscall"),
    ]),
    row(
        "apparmor-off",
        "AppArmor is not enabled on the node",
        StopsPods,
        "The pod asks for an AppArmor profile, and this kernel does not enforce AppArmor, or the tool that loads profiles is missing; so it is not started rather than run without. Boot with apparmor=1 security=apparmor, install apparmor, or remove appArmorProfile.",
        &["cat /sys/module/apparmor/parameters/enabled", "apt-get install apparmor"],
    )
    .heard(&[
        says("AppArmor is not enabled on the host"),
        says("apparmor: config provided but apparmor not supported"),
        says("Cannot enforce AppArmor: the runtime's own profile is not loaded"),
        says("apparmor is not supported"),
    ]),
    row(
        "apparmor-profile-missing",
        "the AppArmor profile is not loaded",
        StopsPods,
        "The container asks for an AppArmor profile that this kernel has not loaded. Load it on every node that may run the pod, or remove it from the pod.",
        &["aa-status", "apparmor_parser --replace PROFILE"],
    )
    .heard(&[
        says("AppArmor profile not found <name>; load it"),
        says("apparmor profile not found <name>"),
        says("Cannot enforce AppArmor: profile \"<name>\" is not loaded"),
        says("apparmor failed to apply profile"),
        says("AppArmor profile \"<name>\" is not loaded"),
        says("apparmor_parser").unless(&["is not loaded", "AppArmor profile not found"]),
    ]),
    row(
        "ids-not-mappable",
        "a file system's ids cannot be mapped for the user namespace",
        StopsPods,
        "The pod sets hostUsers: false, and a file system that it uses cannot show its files with other ids: the kernel is older than that support (overlayfs and most others have it since 5.19, tmpfs since 6.3, NFS has none). Use a newer kernel, put the volume on another file system, or remove hostUsers.",
        &["uname -r", "findmnt --target <path>"],
    )
    .heard(&[
        says("<path> is on a file system whose ids the kernel cannot map"),
        says("failed to set MOUNT_ATTR_IDMAP on <path>: "),
        says("doesn't support idmap mounts on this host"),
        says("idmap mounts are not supported"),
        says("has its ids mapped already, or is not the machine's to map"),
        says("mount_setattr `<path>`: Invalid argument"),
    ])
    .seen(|facts| {
        // One older than 5.4 runs no pods at all.
        let version = Version::find(&facts.kernel.release).filter(|v| (Version::new(5, 4, 0)..Version::new(5, 19, 0)).contains(v));
        let case = |_| Case::new(format!("Linux {}: overlayfs takes no mapped ids before 5.19", facts.kernel.release)).severe(Note);
        version.map(case).into_iter().collect()
    }),
    row(
        "user-ids-exhausted",
        "no range of user ids is left",
        StopsPods,
        "Each pod with hostUsers: false has 65536 user ids of its own, and all ranges that pods may have are in use. End such pods, or give the user kubelet more ids in /etc/subuid and /etc/subgid.",
        &["grep kubelet /etc/subuid /etc/subgid", "cofferdam ps"],
    )
    .heard(&[
        says("ranges of user ids are in use by pods with hostUsers: false"),
        says("could not find an empty slot to allocate a user namespace"),
    ]),
    row(
        "subordinate-ids-wrong",
        "/etc/subuid or /etc/subgid cannot be used",
        StopsPods,
        "The ids that user namespaces may have are named in /etc/subuid and /etc/subgid, and the lines there are missing, differ, or are no multiples of 65536. Correct both files to the same range.",
        &["cat /etc/subuid /etc/subgid"],
    )
    .heard(&[
        says("/etc/subuid gives \""),
        says("/etc/subuid and /etc/subgid give \""),
        says("/etc/subuid<_> is no line of"),
        says("no subuid ranges found for user"),
        says("no subgid ranges found for"),
        says("newuidmap: uid range"),
        says("newuidmap: write to uid_map failed"),
    ]),
    row(
        "sysctl-forbidden",
        "a kernel setting is not allowed",
        StopsPods,
        "The pod sets <name>, which is not on the list of settings that are safe, or would change the whole machine as it belongs to no namespace of the pod. Remove it, set it on the machine, or allow it on the nodes (allowedUnsafeSysctls of the kubelet).",
        &["cofferdam check -f MANIFEST", "sysctl <name>"],
    )
    .in_cluster(&["grep -n -A 4 allowedUnsafeSysctls /var/lib/kubelet/config.yaml", "kubectl describe pod <pod> --namespace=<namespace>"])
    .heard(&[
        says("forbidden sysctl: \"<name>\""),
        says("sysctl \"<name>\" does not belong to a namespace of the pod"),
        says("sysctl \"<name>\" is not in a separate kernel namespace"),
        says("sysctl \"<name>\" not allowed in host network namespace"),
        says("the sysctl `<name>` requires a new"),
        says("SysctlForbidden"),
    ]),
    row(
        "sysctl-absent",
        "the kernel does not have a setting",
        StopsPods,
        "The pod sets a kernel setting whose file is not in /proc/sys of its namespace: this kernel, or the module that brings it, is not there, or it exists only on the machine. Load the module, or remove the setting.",
        &["ls /proc/sys/net", "cofferdam check -f MANIFEST"],
    )
    .heard(&[says("open /proc/sys/<name>: no such file"), says("open `/proc/sys/<name>`: No such file"), says("/proc/sys/<name> cannot be written: No such file")]),
];
