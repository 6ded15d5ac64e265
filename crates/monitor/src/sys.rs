//! The system calls that rustix leaves unsafe or lacks, each behind a safe function, and the
//! sentences that errors become.

#![allow(unsafe_code)]

use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// `path what: errno`, one sentence.
pub(crate) fn sentence(path: &Path, what: &str, errno: impl Into<std::io::Error>) -> String {
    format!("{} {what}: {}", path.display(), errno.into())
}

/// Text for the kernel.
pub(crate) fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| format!("{:?} contains a NUL byte", String::from_utf8_lossy(bytes)))
}

fn check(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Makes new namespaces for this process.
pub(crate) fn unshare(flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; this process has one thread and shares no file table.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// `mount(2)` with the kernel's own flags; empty text is a null pointer.
pub(crate) fn mount(source: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> Result<(), String> {
    if fstype == "overlay" && data.len() >= PAGE {
        return long_overlay(target, flags, data);
    }
    let text = [source.as_os_str().as_bytes(), fstype.as_bytes(), data.as_bytes()];
    let [source, fstype, data] = text.map(|t| (!t.is_empty()).then(|| c_string(t)).transpose());
    let (source, fstype, data) = (source?, fstype?, data?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
    let c_target = c_string(target.as_os_str().as_bytes())?;
    // SAFETY: every pointer is null or a C string that outlives the call.
    let result =
        unsafe { libc::mount(pointer(&source), c_target.as_ptr(), pointer(&fstype), flags, pointer(&data).cast()) };
    check(result).map(drop).map_err(|e| sentence(target, "cannot be mounted", e))
}

/// Most that `mount(2)` takes as data.
const PAGE: usize = 4096;

/// An overlay whose options do not fit a page: one by one, each layer by itself (`lowerdir+`, Linux 6.5).
fn long_overlay(target: &Path, flags: u64, data: &str) -> Result<(), String> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};
    let made = || {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for option in data.split(',') {
            match option.split_once('=') {
                Some(("lowerdir", layers)) => layers.split(':').try_for_each(|layer| fsconfig_set_string(&context, "lowerdir+", layer))?,
                Some((name, value)) => fsconfig_set_string(&context, name, value)?,
                None => fsconfig_set_flag(&context, option)?,
            }
        }
        fsconfig_create(&context)?;
        let set = |flag: u64, attribute| if flags & flag != 0 { attribute } else { MountAttrFlags::empty() };
        let attributes = set(libc::MS_RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY)
            | set(libc::MS_NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID)
            | set(libc::MS_NODEV, MountAttrFlags::MOUNT_ATTR_NODEV);
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    let tree = made().map_err(|e: Errno| sentence(target, "cannot be mounted from so many layers (Linux 6.5 can)", e))?;
    move_mount(&tree, target)
}

/// Binds what `found` is, with what is mounted in it, at `target`.
pub(crate) fn clone_mount(found: BorrowedFd<'_>, target: &Path) -> Result<(), String> {
    let tree = open_tree(found).map_err(|e| sentence(target, "cannot be mounted", e))?;
    move_mount(&tree, target)
}

/// As [`clone_mount`], with the ids of `found`'s file system shown as those of a user namespace.
pub(crate) fn mapped_mount(found: BorrowedFd<'_>, source: &Path, target: &Path, namespace: BorrowedFd<'_>) -> Result<(), String> {
    let tree = open_tree(found).map_err(|e| sentence(target, "cannot be mounted", e))?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).unwrap_or_default(),
    };
    // SAFETY: the path is an empty C string and the structure is as long as is said; both outlive the call.
    let set = unsafe {
        let size = std::mem::size_of::<libc::mount_attr>();
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &attributes, size)
    };
    if set < 0 {
        let why = match last_errno() {
            Errno::INVAL | Errno::NOSYS => "is on a file system whose ids the kernel cannot map, as hostUsers: false needs it",
            Errno::PERM => "has its ids mapped already, or is not the machine's to map",
            _ => "cannot have its ids mapped",
        };
        return Err(sentence(source, why, last_errno()));
    }
    move_mount(&tree, target)
}

/// A copy of a mount that is nowhere yet (open_tree(2)).
pub(crate) fn open_tree(found: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(found, c"", flags)
}

/// Puts such a copy at its place.
pub(crate) fn move_mount(tree: &OwnedFd, target: &Path) -> Result<(), String> {
    use rustix::mount::MoveMountFlags;
    rustix::mount::move_mount(tree, c"", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| sentence(target, "cannot be mounted", e))
}

/// Enters a namespace by its file.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers; this process has one thread.
    check(unsafe { libc::setns(namespace.as_raw_fd(), 0) }).map(drop)
}

/// Becomes user and group 0 of the user namespace that this process is in.
pub(crate) fn become_root() -> Result<(), Errno> {
    // SAFETY: no pointers; this process has one thread.
    unsafe {
        check(libc::setresgid(0, 0, 0))?;
        check(libc::setresuid(0, 0, 0)).map(drop)
    }
}

/// Has this process killed when its parent ends.
pub(crate) fn end_with_parent() {
    // SAFETY: no pointers. Where it fails the parent still kills it.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: libc::c_int) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Gives every signal its default. By the system call, as the C library refuses to touch the two
/// that it uses itself, which may have been inherited as ignored.
pub(crate) fn default_signals() {
    // The kernel's `sigaction`: handler (`SIG_DFL` is 0), flags, restorer and an empty mask.
    let action = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the action is as long as the kernel reads, the old one is not asked for, and a
        // signal that takes no disposition is an error only.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<u64>(), 8_usize) };
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: `sigemptyset` fills the set before `sigaddset` reads it; both are given valid memory.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Blocks exactly these signals.
pub(crate) fn block_signals(signals: &[libc::c_int]) {
    let set = signal_set(signals);
    // SAFETY: the set is valid and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &set, ptr::null_mut()) };
}

/// A descriptor that is readable while one of these blocked signals is pending.
pub(crate) fn signalfd(signals: &[libc::c_int]) -> Result<OwnedFd, Errno> {
    let set = signal_set(signals);
    // SAFETY: the set is valid; the returned descriptor is new and ours.
    let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of these blocked signals came and returns it.
pub(crate) fn wait_signal(signals: &[libc::c_int]) -> libc::c_int {
    let set = signal_set(signals);
    // SAFETY: the set is valid and no information is asked for.
    unsafe { libc::sigwaitinfo(&set, ptr::null_mut()) }
}

/// Sends a signal to a process, or to a process group where `pid` is negative.
pub(crate) fn kill(pid: i32, signal: libc::c_int) {
    // SAFETY: no pointers. A process that is gone is what was wanted.
    unsafe { libc::kill(pid, signal) };
}

/// Sends a signal by a pidfd. Unlike rustix's, it takes any number.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, the information is null and the flags are none.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<libc::siginfo_t>(), 0)
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// What to do with descriptors from `first` on.
pub(crate) enum Range {
    Close,
    CloseOnExec,
}

/// `close_range(2)` up to the last descriptor.
pub(crate) fn close_from(first: u32, range: Range) {
    let flags = match range {
        Range::Close => 0,
        Range::CloseOnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: closing happens before this process owns a descriptor from `first` on (see `start`).
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
}

/// Forks; `None` in the child. There is one thread, so the child may do whatever the parent may.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: no other thread holds a lock at this moment, as there is none.
    check(unsafe { libc::fork() }).map(|pid| (pid != 0).then_some(pid))
}

/// Becomes another program; returns only where that failed.
pub(crate) fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|t| t.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both are null-terminated arrays of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Ends this process at once: nothing is flushed, no destructor runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always allowed.
    unsafe { libc::_exit(code) }
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: both calls take an `ifreq` that is valid for reading and writing; the first writes the
    // flags that the second reads.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request)).map(drop)
    }
}

/// Tells the allocator to give memory back rather than to keep it for later: a monitor is idle for
/// most of its life.
pub(crate) fn keep_heap_small() {
    // SAFETY: only settings of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 32 << 10);
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// Number of the descriptor that [`keep_high_descriptor`] opens: tables grow by powers of two.
const HIGH: i32 = 1023;

/// Opens `/dev/null` under a high number that stays open at exec. Where the limit of descriptors is
/// lower, nothing is done.
pub(crate) fn keep_high_descriptor() -> io::Result<()> {
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: duplicates a descriptor that is open; the number is above all that are in use.
    let made = unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), HIGH) };
    let error = io::Error::last_os_error();
    if made >= 0 || error.raw_os_error() == Some(libc::EBADF) { Ok(()) } else { Err(error) }
}

/// Sets a seccomp filter for this process and its descendants (seccomp(2)).
pub(crate) fn set_filter(ops: &[cofferdam_monitor::protocol::FilterOp]) -> io::Result<()> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut program: Vec<libc::sock_filter> = ops
        .iter()
        .map(|op| libc::sock_filter { code: op.code, jt: op.if_true, jf: op.if_false, k: op.operand })
        .collect();
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program during the call; both live until after it.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
