//! The seccomp filter that gVisor's own processes start under.

use cofferdam_monitor::protocol::FilterOp;

/// Answers `membarrier(REGISTER_PRIVATE_EXPEDITED)` with success, without doing it: each of gVisor's
/// processes asks for it as it starts (`pkg/sentry/hostmm/membarrier.go`), already with threads, and
/// then waits about 10 ms for the kernel's grace period; its systrap and ptrace platforms use the
/// global barrier instead (`platform.UseHostGlobalMemoryBarrier`) and never this one.
pub(super) fn no_private_membarrier() -> Vec<FilterOp> {
    // linux/audit.h, the system call tables, linux/membarrier.h, linux/seccomp.h, linux/filter.h
    const ARCH: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
    const MEMBARRIER: u32 = if cfg!(target_arch = "aarch64") { 283 } else { 324 };
    const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
    let (load, equal, give) = (0x20, 0x15, 0x06);
    let (allow, succeed) = (0x7fff_0000, 0x0005_0000);
    let op = |code, if_true, if_false, operand| FilterOp {
        code,
        if_true,
        if_false,
        operand,
    };
    vec![
        op(load, 0, 0, 4), // architecture
        op(equal, 0, 5, ARCH),
        op(load, 0, 0, 0), // number of the system call
        op(equal, 0, 3, MEMBARRIER),
        op(load, 0, 0, 16), // lower half of the first argument
        op(equal, 0, 1, REGISTER_PRIVATE_EXPEDITED),
        op(give, 0, 0, succeed),
        op(give, 0, 0, allow),
    ]
}
