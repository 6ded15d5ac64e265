//! The kernel and what it allows.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::facts::Facts;
use crate::finding::Severity::{Degrades, Note, StopsPods};
use crate::version::Version;

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "kernel-too-old",
        "the kernel is too old",
        StopsPods,
        "Cofferdam holds processes by descriptors (pidfd) and waits on them, which Linux has since 5.4; this kernel is older. Install a newer one.",
        &["uname -r"],
    )
    .seen(|facts| {
        let old = Version::find(&facts.kernel.release).is_some_and(|v| v < Version::new(5, 4, 0));
        old.then(|| Case::new(format!("Linux {}", facts.kernel.release))).into_iter().collect()
    }),
    row(
        "not-root",
        "not run as root",
        Note,
        "Pods need namespaces, mounts and cgroups, which only root may make. What was found here without root may be incomplete.",
        &["sudo cofferdam doctor"],
    )
    .heard(&[says("run cofferdam as root")])
    .seen(|facts| (facts.privileges.root == Some(false)).then(|| Case::new("the effective user is not 0")).into_iter().collect()),
    row(
        "capability-missing",
        "root without the capabilities that pods need",
        StopsPods,
        "This process is root but lacks <capability>, as in a container that is not privileged, so it can make no namespaces, mounts or links. Run on the machine itself, or give the container that capability.",
        &["grep CapEff /proc/self/status", "capsh --print"],
    )
    .heard(&[
        says("A mount namespace cannot be made: Operation not permitted"),
        says("unshare: operation not permitted"),
        says("cannot clone: Operation not permitted"),
        says("fork/exec /proc/self/exe: operation not permitted"),
    ])
    .seen(missing_capabilities),
    row(
        "namespaces-missing",
        "the kernel lacks namespaces",
        StopsPods,
        "The kernel was built without the <kind> namespace, which every pod needs. Use a distribution's kernel, or build it with CONFIG_NAMESPACES and its options.",
        &["ls /proc/self/ns"],
    )
    .seen(|facts| {
        let there = &facts.kernel.namespaces;
        let missing = ["mnt", "net", "ipc", "uts", "pid"].into_iter().filter(|n| !there.is_empty() && !there.contains(*n));
        missing.map(|n| Case::new(format!("/proc/self/ns has no {n}")).with("kind", n)).collect()
    }),
    row(
        "user-namespaces-off",
        "user namespaces are off",
        Degrades,
        "No user namespace can be made, so pods with hostUsers: false do not start, and gVisor's gofer and rootless tools may fail. Set the limit above 0, or build the kernel with CONFIG_USER_NS.",
        &["sysctl -w user.max_user_namespaces=28633", "sysctl -w kernel.unprivileged_userns_clone=1"],
    )
    .heard(&[
        says("user namespaces are not enabled"),
        says("A user namespace cannot be made:"),
        says("cannot make a user namespace:"),
        says("user namespaces aren't enabled"),
        says("creating user namespace<_>no space left on device"),
        says("fork/exec /proc/self/exe: invalid argument"),
    ])
    .seen(|facts| {
        let kernel = &facts.kernel;
        let absent = !kernel.namespaces.is_empty() && !kernel.namespaces.contains("user");
        let evidence = if absent { "/proc/self/ns has no user" } else { "user.max_user_namespaces = 0" };
        (absent || kernel.max_user_namespaces == Some(0)).then(|| Case::new(evidence)).into_iter().collect()
    }),
    row(
        "seccomp-off",
        "the kernel has no seccomp filters",
        Degrades,
        "Containers run without a system call filter, and gVisor, whose own isolation rests on one, does not run. Build the kernel with CONFIG_SECCOMP_FILTER.",
        &["ls /proc/sys/kernel/seccomp", "grep Seccomp /proc/self/status"],
    )
    .heard(&[says("seccomp is not supported"), says("seccomp: config provided but seccomp not supported"), says("The seccomp filter cannot be set: Invalid argument")])
    .seen(|facts| (facts.kernel.seccomp == Some(false)).then(|| Case::new("/proc/sys/kernel/seccomp is absent")).into_iter().collect()),
    row(
        "overlay-absent",
        "overlayfs is not available",
        StopsPods,
        "Containers' root file systems are overlays of their images' layers, and this kernel has neither overlayfs nor a module for it. Load the module, or install the kernel's package of modules.",
        &["modprobe overlay", "grep overlay /proc/filesystems"],
    )
    .heard(&[
        says("unknown filesystem type 'overlay'"),
        says("overlayfs<_>no such device"),
        says("cannot be mounted: No such device (os error 19)"),
    ])
    .seen(|facts| {
        let kernel = &facts.kernel;
        let there = kernel.filesystems.is_empty() || kernel.filesystems.contains("overlay") || kernel.filesystem_modules.contains("overlay");
        (!there).then(|| Case::new("overlay is neither in /proc/filesystems nor among the modules")).into_iter().collect()
    }),
    row(
        "cgroups-not-mounted",
        "no cgroups are mounted",
        StopsPods,
        "Nothing under /sys/fs/cgroup holds control groups, so pods could neither be limited nor ended as a whole. Mount cgroup2 there, or give the container in which this runs the machine's.",
        &["mount -t cgroup2 none /sys/fs/cgroup"],
    )
    .heard(&[says("no cgroup hierarchy is mounted on this machine"), says("cgroup mountpoint does not exist")])
    .seen(|facts| {
        // A machine of which nothing is known has no kernel's name either.
        let looked = !facts.kernel.release.is_empty();
        (looked && facts.cgroups.is_none()).then(|| Case::new("no mount of type cgroup or cgroup2")).into_iter().collect()
    }),
    row(
        "cgroup-controller-missing",
        "a cgroup controller is missing",
        StopsPods,
        "The kernel does not offer the controller <controller>, so limits that need it cannot be held and a pod that names one does not start. On a Raspberry Pi add cgroup_enable=memory to the kernel's command line; with v2 enable the controller at the root.",
        &["cat /proc/cgroups", "echo +<controller> > /sys/fs/cgroup/cgroup.subtree_control"],
    )
    .heard(&[
        says("the cgroup controller <controller> that <_> needs is not available"),
        says("Following Cgroup subsystem not mounted: [<controller>]"),
        says("the requested cgroup controller `<controller>` is not available"),
        says("cannot set <controller> limit: container could not join or create cgroup"),
        says("failed to find <controller> cgroup"),
    ])
    .seen(|facts| {
        let Some(cgroups) = &facts.cgroups else { return Vec::new() };
        let missing = ["memory", "cpu", "pids"].into_iter().filter(|c| !cgroups.controllers.contains(*c));
        missing.map(|c| Case::new(format!("cgroup {} without {c}", cgroups.mode)).with("controller", c)).collect()
    }),
    row(
        "cgroups-exhausted",
        "no more cgroups can be made",
        StopsPods,
        "The kernel refuses a new control group: leaked groups of old kernels filled the hierarchy, or a limit on descendants is reached. It is not the disk; restart the machine, and use a kernel newer than 4.19.",
        &["cat /proc/cgroups", "cat /sys/fs/cgroup/cgroup.max.descendants"],
    )
    .heard(&[says("/sys/fs/cgroup/<_>: no space left on device"), says("/sys/fs/cgroup/<_>cannot allocate memory")]),
    row(
        "memory-low",
        "the machine is nearly out of memory",
        Degrades,
        "Less than 128 MiB of memory are left, which a gVisor pod or a virtual machine does not fit into, and the kernel may end processes at any time. End something, or add memory.",
        &["free -m", "ps aux --sort=-rss | head"],
    )
    .seen(|facts| {
        let low = facts.memory_total > 0 && facts.memory_available < 128 << 20;
        let evidence = || Case::new(format!("{} MiB of {} MiB available", facts.memory_available >> 20, facts.memory_total >> 20));
        low.then(evidence).into_iter().collect()
    }),
];

fn missing_capabilities(facts: &Facts) -> Vec<Case> {
    if facts.privileges.root != Some(true) {
        return Vec::new();
    }
    let missing = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]
        .into_iter()
        .filter(|c| !facts.privileges.capabilities.contains(c));
    missing
        .map(|c| Case::new(format!("{c} is not in effect")).with("capability", c))
        .collect()
}
