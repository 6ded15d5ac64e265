//! Starting a command: what happens between fork and exec.

use crate::mounts;
use crate::streams::ChildStdio;
use crate::sys::{self, Range, sentence};
use cofferdam_monitor::protocol::Spawn;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Longest sentence that a child tells of its failure.
const MAX_SENTENCE: u64 = 4096;

/// Starts a command and returns its process id once the new program runs.
///
/// The monitor waits for that: what a child does before is short, and the answer is exact.
pub(crate) fn start(spawn: &Spawn, stdio: &ChildStdio) -> Result<i32, String> {
    let program = Program::new(spawn)?;
    let (mut told, tell) = pipe_with(PipeFlags::CLOEXEC)
        .map(|(read, write)| (std::fs::File::from(read).take(MAX_SENTENCE), std::fs::File::from(write)))
        .map_err(|e| format!("A pipe cannot be made: {e}"))?;
    let Some(pid) = sys::fork().map_err(|e| format!("{} cannot be forked: {e}", spawn.argv[0]))? else {
        let why = program.become_it(spawn, stdio);
        let _ = (&tell).write_all(why.as_bytes());
        sys::exit_now(127);
    };
    drop(tell);
    let mut why = Vec::new();
    // The pipe closes by itself at exec.
    let read = told.read_to_end(&mut why);
    if why.is_empty() && read.is_ok() {
        return Ok(pid);
    }
    let pid = rustix::process::Pid::from_raw(pid);
    while matches!(rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()), Err(Errno::INTR)) {}
    Err(String::from_utf8_lossy(&why).into_owned())
}

/// Writes `0` to each file, by which this process joins the cgroups that they are of. A task that
/// joins by itself is far quicker than one that is moved.
pub(crate) fn join_cgroups(files: &[PathBuf]) -> Result<(), String> {
    files.iter().try_for_each(|path| {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"0"))
            .map_err(|e| sentence(path, "cannot be joined", e))
    })
}

/// What `execve` takes.
struct Program {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn new(spawn: &Spawn) -> Result<Self, String> {
        let Some(path) = spawn.argv.first().filter(|path| path.starts_with('/')) else {
            return Err(format!("{:?} has no absolute path as its first argument.", spawn.key));
        };
        let argv = spawn.argv.iter().map(|a| sys::c_string(a.as_bytes())).collect::<Result<_, _>>()?;
        let env =
            spawn.env.iter().map(|(k, v)| sys::c_string(format!("{k}={v}").as_bytes())).collect::<Result<_, _>>()?;
        Ok(Self { path: sys::c_string(path.as_bytes())?, argv, env })
    }

    /// In the child: everything up to exec. Returns only to say why not.
    fn become_it(&self, spawn: &Spawn, stdio: &ChildStdio) -> String {
        if let Err(why) = prepare(spawn, stdio) {
            return why;
        }
        sentence(Path::new(&spawn.argv[0]), "cannot be executed", sys::exec(&self.path, &self.argv, &self.env))
    }
}

fn prepare(spawn: &Spawn, stdio: &ChildStdio) -> Result<(), String> {
    // First, so that all that follows is accounted, and before a mount can hide the files.
    join_cgroups(&spawn.cgroup_files)?;
    // A session of its own, so that its group can be killed whole and no terminal reaches it.
    rustix::process::setsid().map_err(|e| format!("A session cannot be made: {e}"))?;
    if !spawn.mounts.is_empty() {
        mounts::unshare(if spawn.slave { libc::MS_SLAVE } else { libc::MS_PRIVATE })?;
        mounts::apply(&spawn.mounts)?;
    }
    let cwd = if spawn.cwd.as_os_str().is_empty() { Path::new("/") } else { &spawn.cwd };
    rustix::process::chdir(cwd).map_err(|e| sentence(cwd, "cannot be entered", e))?;
    take_streams(stdio).map_err(|e| format!("The standard streams cannot be set: {e}"))?;
    // All ours are closed on exec; this is for what a library might have opened.
    sys::close_from(3, Range::CloseOnExec);
    sys::default_signals();
    sys::block_signals(&[]);
    if spawn.wide_table {
        sys::keep_high_descriptor().map_err(|e| format!("A high descriptor cannot be opened: {e}"))?;
    }
    // Last, so that nothing of the above is held to it.
    sys::set_filter(&spawn.filter).map_err(|e| format!("The seccomp filter cannot be set: {e}"))
}

fn take_streams(stdio: &ChildStdio) -> Result<(), Errno> {
    stdio.stdin.as_ref().map_or(Ok(()), rustix::stdio::dup2_stdin)?;
    stdio.stdout.as_ref().map_or(Ok(()), rustix::stdio::dup2_stdout)?;
    stdio.stderr.as_ref().map_or(Ok(()), rustix::stdio::dup2_stderr)
}
