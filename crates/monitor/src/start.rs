//! How a monitor comes to be: from [`Start`] on standard input to a socket that listens.

use crate::monitor::Monitor;
use crate::mounts;
use crate::spawn::join_cgroups;
use crate::sys::{self, Range, sentence};
use crate::users;
use cofferdam_monitor::frame;
use cofferdam_monitor::protocol::{MAX_FRAME, Start, Started};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{getpid, set_child_subreaper, setsid};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Reads, starts, answers and serves. Returns only where it could not start.
pub(crate) fn run() -> Result<(), String> {
    // Before any descriptor is ours: whatever leaked into this process is not to stay for years.
    sys::close_from(3, Range::Close);
    sys::keep_heap_small();
    let result = read_start().and_then(|start| begin(&start));
    let answer = match &result {
        Ok(_) => Started::Ok { pid: getpid().as_raw_nonzero().get() },
        Err(why) => Started::Failed(why.clone()),
    };
    write_started(&answer)?;
    let monitor = result?;
    let_go_of_stdio()?;
    monitor.run()
}

fn read_start() -> Result<Start, String> {
    let failed = |e: std::io::Error| format!("The start request cannot be read: {e}.");
    let mut stdin =
        File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|e| failed(e.into()))?);
    frame::read(&mut stdin, MAX_FRAME).map_err(failed)?.map_err(|e| format!("The start request cannot be read: {e}."))
}

fn write_started(answer: &Started) -> Result<(), String> {
    let mut bytes = Vec::new();
    frame::encode(answer, MAX_FRAME, &mut bytes).map_err(|e| e.to_string())?;
    let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map_err(|e| e.to_string())?;
    File::from(stdout).write_all(&bytes).map_err(|e| format!("The answer cannot be written: {e}."))
}

/// Everything up to listening. The order matters: the cgroup first, so that all is accounted and no
/// mount hides its files; namespaces before what is set in them; the socket last, as its being
/// there says that all is done.
fn begin(start: &Start) -> Result<Monitor, String> {
    detach()?;
    join_cgroups(&start.cgroup_files)?;
    if let Some(score) = start.oom_score_adj {
        write_file(Path::new("/proc/self/oom_score_adj"), &score.to_string())?;
    }
    // Opened before a mount can hide it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let exit_dir = rustix::fs::open(&start.exit_dir, flags, Mode::empty())
        .map_err(|e| sentence(&start.exit_dir, "cannot be opened", e))?;
    enter_namespaces(start)?;
    mounts::apply(&start.mounts)?;
    for (path, value) in &start.sysctls {
        write_file(path, value)?;
    }
    let signals = sys::signalfd(&[libc::SIGCHLD]).map_err(|e| format!("Signals cannot be received: {e}."))?;
    let listener = listen_at(&start.socket)?;
    Ok(Monitor::new(start.socket.clone(), listener, signals, exit_dir))
}

/// Nothing that happens to the engine or its terminal reaches this process, and what its children
/// leave behind comes to it.
fn detach() -> Result<(), String> {
    set_child_subreaper(Some(getpid())).map_err(|e| format!("The monitor cannot become a subreaper: {e}."))?;
    // Fails only where it leads a group already, and then no terminal is lost by staying in it.
    let _ = setsid();
    // All: a SIGCHLD that is ignored, as some parents leave it, would reap children unseen.
    sys::default_signals();
    for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGINT, libc::SIGTERM] {
        sys::ignore_signal(signal);
    }
    sys::block_signals(&[libc::SIGCHLD]);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir("/").map_err(|e| format!("/ cannot be entered: {e}."))
}

fn enter_namespaces(start: &Start) -> Result<(), String> {
    let mut flags = 0;
    for (wanted, flag) in [
        (start.unshare_net && start.net.is_none(), libc::CLONE_NEWNET),
        (start.unshare_ipc, libc::CLONE_NEWIPC),
        (start.hostname.is_some(), libc::CLONE_NEWUTS),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    if let Some(path) = &start.net {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| sentence(path, "cannot be opened", e))?;
        sys::enter(fd.as_fd()).map_err(|e| format!("The network namespace cannot be entered: {e}."))?;
    }
    mounts::remember_machine()?;
    mounts::unshare(libc::MS_SLAVE)?;
    if let Some(wanted) = &start.user_namespace {
        users::make(wanted, flags)?;
    } else if flags != 0 {
        sys::unshare(flags).map_err(|e| format!("Namespaces cannot be made: {e}."))?;
    }
    if let Some(name) = &start.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|e| format!("The host name {name:?} cannot be set: {e}."))?;
    }
    if start.unshare_net && start.net.is_none() {
        sys::loopback_up().map_err(|e| format!("The loopback interface cannot be brought up: {e}."))?;
    }
    Ok(())
}

fn write_file(path: &Path, value: &str) -> Result<(), String> {
    let mut file =
        std::fs::OpenOptions::new().write(true).open(path).map_err(|e| sentence(path, "cannot be opened", e))?;
    file.write_all(value.as_bytes()).map_err(|e| sentence(path, &format!("cannot be set to {value:?}"), e))
}

/// Listens under a temporary name and renames: who finds the socket can connect to it.
fn listen_at(path: &Path) -> Result<OwnedFd, String> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new~");
    let temporary = PathBuf::from(temporary);
    let failed = |e| sentence(path, "cannot be made a socket", e);
    let address = SocketAddrUnix::new(&temporary).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let _ = rustix::fs::unlink(&temporary); // of a start that was killed
    bind(&listener, &address).map_err(failed)?;
    rustix::fs::chmod(&temporary, Mode::from_raw_mode(0o600)).map_err(failed)?;
    listen(&listener, 64).map_err(failed)?;
    rustix::fs::rename(&temporary, path).map_err(failed)?;
    Ok(listener)
}

fn let_go_of_stdio() -> Result<(), String> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| format!("/dev/null cannot be opened: {e}."))?;
    let set = rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null));
    set.map_err(|e| format!("The standard streams cannot be let go of: {e}."))
}
