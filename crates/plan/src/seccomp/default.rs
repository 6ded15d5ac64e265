//! The runtime's own profile: system calls that containers need and that let nobody out. What is
//! allowed is what containerd 2.x allows (`contrib/seccomp/seccomp_default.go`), as people and images
//! rely on that; everything else answers EPERM.

use super::{Target, clone_argument};
use serde_json::{Value, json};

/// Allowed for every container.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 \
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir \
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork \
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount \
    listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules \
    lsm_set_self_attr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir \
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget \
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl \
    pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read \
    readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
    removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 \
    send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid \
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid \
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Allowed on one architecture beside the above.
const OF_ARCHITECTURE: [(&str, &str); 6] = [
    (
        "aarch64",
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    (
        "arm",
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    ),
    ("ppc64le", "swapcontext sync_file_range2"),
    ("riscv64", "riscv_flush_icache riscv_hwprobe"),
    ("s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    ("x86_64", "arch_prctl modify_ldt"),
];

/// Allowed to who has a capability.
const OF_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// Personalities (personality(2)) that change nothing for others: Linux, Linux of 32 bits, both with
/// the old `uname`, and the question what it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// From here on a filter is asked again after a tracer has changed a call, so that ptrace(2) is no way
/// around one.
const SAFE_PTRACE: (u32, u32) = (4, 8);
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
/// Flags of clone(2) that make namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const ENOSYS: u32 = 38;

/// The profile of a container that asks for `RuntimeDefault`.
pub fn runtime_default(target: &Target<'_>) -> Value {
    let mut rules = vec![allow(ALWAYS)];
    rules.extend(sockets());
    let personality = |value: &u64| allow_where("personality", 0, *value, 0, "SCMP_CMP_EQ");
    rules.extend(PERSONALITIES.iter().map(personality));
    if target.kernel >= SAFE_PTRACE {
        rules.push(allow("process_vm_readv process_vm_writev ptrace"));
    }
    let own = OF_ARCHITECTURE.iter().filter(|(name, _)| *name == target.architecture);
    rules.extend(own.map(|(_, names)| allow(names)));
    let given = OF_CAPABILITY.iter().filter(|(name, _)| target.capabilities.contains(*name));
    rules.extend(given.map(|(_, names)| allow(names)));
    if !target.capabilities.contains("CAP_SYS_ADMIN") {
        let flags = clone_argument(target.architecture);
        rules.push(allow_where("clone", flags, NEW_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"));
        // Its flags are in memory, where no filter sees them: the C library then takes clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": super::architectures(target.architecture), "syscalls": rules})
}

/// All families but AF_ALG and AF_VSOCK, which is neither ours nor the machine's network. As three
/// ranges, because runc makes alternatives of two conditions on one argument.
fn sockets() -> [Value; 3] {
    [
        allow_where("socket", 0, AF_ALG, 0, "SCMP_CMP_LT"),
        allow_where("socket", 0, AF_ALG + 1, 0, "SCMP_CMP_EQ"),
        allow_where("socket", 0, AF_VSOCK, 0, "SCMP_CMP_GT"),
    ]
}

fn allow(names: &str) -> Value {
    let names: Vec<&str> = names.split_ascii_whitespace().collect();
    json!({"names": names, "action": "SCMP_ACT_ALLOW"})
}

fn allow_where(name: &str, index: u32, value: u64, second: u64, op: &str) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": index, "value": value, "valueTwo": second, "op": op}]})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn allowed(capabilities: &[&str], kernel: (u32, u32), architecture: &str) -> BTreeSet<String> {
        let capabilities = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let profile = runtime_default(&Target {
            architecture,
            kernel,
            capabilities: &capabilities,
        });
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let plain = |r: &&Value| r["action"] == "SCMP_ACT_ALLOW" && r.get("args").is_none();
        let names = |r: &Value| {
            r["names"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(plain)
            .flat_map(names)
            .collect()
    }

    #[test]
    fn what_is_allowed_follows_capabilities_kernel_and_architecture() {
        let plain = allowed(&[], (6, 1), "x86_64");
        assert_eq!(plain.len(), 363 + 3 + 2);
        for (call, wanted) in [
            ("openat", true),
            ("arch_prctl", true),
            ("ptrace", true),
            ("mount", false),
            ("unshare", false),
            ("clone", false),
            ("clone3", false),
            ("socket", false),
            ("keyctl", false),
            ("add_key", false),
            ("userfaultfd", false),
            ("io_uring_setup", false),
            ("kexec_load", false),
            ("bpf", false),
            ("chroot", false),
            ("open_by_handle_at", false),
        ] {
            assert_eq!(plain.contains(call), wanted, "{call}");
        }
        assert!(!allowed(&[], (4, 7), "x86_64").contains("ptrace"));
        assert!(allowed(&["CAP_SYS_PTRACE"], (4, 7), "x86_64").contains("ptrace"));
        assert!(!allowed(&[], (6, 1), "aarch64").contains("arch_prctl"));
        assert!(allowed(&[], (6, 1), "aarch64").contains("set_tls"));
        for (capability, call) in [
            ("CAP_SYS_ADMIN", "clone3"),
            ("CAP_SYS_ADMIN", "mount"),
            ("CAP_SYS_CHROOT", "chroot"),
            ("CAP_SYSLOG", "syslog"),
        ] {
            assert!(allowed(&[capability], (6, 1), "x86_64").contains(call), "{call}");
        }
    }

    #[test]
    fn namespaces_are_not_made_without_sys_admin() {
        let none = BTreeSet::new();
        let profile = runtime_default(&Target {
            architecture: "x86_64",
            kernel: (6, 1),
            capabilities: &none,
        });
        let rule = |name: &str| {
            let found = profile["syscalls"].as_array().unwrap().iter().find(|r| r["names"] == json!([name]));
            found.cloned().unwrap()
        };
        assert_eq!(
            rule("clone")["args"][0],
            json!({"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"})
        );
        assert_eq!(
            (&rule("clone3")["action"], &rule("clone3")["errnoRet"]),
            (&json!("SCMP_ACT_ERRNO"), &json!(38))
        );
    }
}
