//! What engine and monitor say to each other, over a Unix stream socket: frames of a little-endian
//! `u32` length and a postcard body. A connection begins with [`Request::Hello`].

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of this protocol. A monitor answers with its own; a client speaks the lower of both.
pub const VERSION: u32 = 1;

/// Greatest body of a frame, bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// How a monitor is started: as JSON-free arguments would be clumsy, this is postcard on standard
/// input. It answers one [`Started`] frame on standard output and then lets go of both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Start {
    /// Where it listens; the directory exists.
    pub socket: PathBuf,
    /// Directory where the exit of each process is written as a small file named by its key.
    pub exit_dir: PathBuf,
    /// Files (`tasks`, `cgroup.procs`) to write `0` to, in order.
    pub cgroup_files: Vec<PathBuf>,
    /// Unshare the network namespace.
    pub unshare_net: bool,
    /// Unshare the IPC namespace.
    pub unshare_ipc: bool,
    /// Unshare the UTS namespace, and set this host name.
    pub hostname: Option<String>,
    /// Done, in order, in the monitor's own mount namespace (always unshared, made a slave).
    pub mounts: Vec<MountOp>,
    /// Files of `/proc/sys` to write once the namespaces are there.
    pub sysctls: Vec<(PathBuf, String)>,
    /// oom_score_adj of the monitor; clamped by the caller.
    pub oom_score_adj: Option<i32>,
}

/// Answer to [`Start`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Started {
    /// It listens.
    Ok {
        /// Its process id.
        pid: i32,
    },
    /// It could not start: one sentence.
    Failed(String),
}

/// One operation on a mount namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountOp {
    /// `mkdir -p`, mode 0755.
    Mkdir(PathBuf),
    /// An empty file, where nothing is.
    Touch(PathBuf),
    /// `mount(2)`; `flags` are the kernel's `MS_*`.
    Mount {
        /// Source; empty for none.
        source: PathBuf,
        /// Target.
        target: PathBuf,
        /// File system type; empty for none.
        fstype: String,
        /// `MS_*`.
        flags: u64,
        /// Data; at most a page.
        data: String,
    },
    /// `umount2(2)` with `MNT_DETACH`.
    Unmount(PathBuf),
}

/// What a process's standard streams are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Stdio {
    /// `/dev/null`, all three.
    Null,
    /// Pipes held by the monitor: output goes to the log (CRI log format) and to who is attached.
    Pipes {
        /// The log file; `None` for none.
        log: Option<PathBuf>,
        /// Whether standard input is a pipe too (else `/dev/null`).
        stdin: bool,
        /// Close standard input when the first attached client closes its own.
        stdin_once: bool,
    },
    /// A terminal: the runtime sends its master over `console_socket`, on which the monitor listens.
    Terminal {
        /// The log file; `None` for none.
        log: Option<PathBuf>,
        /// Where to listen; removed once the terminal came.
        console_socket: PathBuf,
        /// Rows and columns; 0 leaves them.
        size: (u16, u16),
    },
    /// Output is collected, at most this many bytes of each stream, and given with the exit.
    Capture {
        /// Greatest number of bytes kept of each stream; the rest is read and dropped.
        max: u32,
    },
}

/// How a spawned command relates to the process that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Keep {
    /// The command itself is the process: its exit is the key's exit.
    Command,
    /// The command (an OCI runtime's `create` or `exec --detach`) writes a process id to this file
    /// and ends; that process becomes ours (subreaper) and its exit is the key's exit.
    PidFile(PathBuf),
    /// Nothing is kept after the command's end.
    /// Streams other than a terminal's are kept until the last writer is gone.
    Nothing,
    /// After the command's end, the exit comes from a server: connect, write, read until a whole
    /// JSON value has come; see [`Request::Await`].
    Await {
        /// Unix socket: a path, or `@name` for the abstract namespace.
        socket: String,
        /// What to write.
        payload: Vec<u8>,
    },
}

/// A command to spawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spawn {
    /// Names the process in later requests; unique in the pod.
    pub key: String,
    /// Absolute path of the binary, then its arguments.
    pub argv: Vec<String>,
    /// Whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Files (`tasks`, `cgroup.procs`) to write `0` to before anything else.
    pub cgroup_files: Vec<PathBuf>,
    /// Done in a mount namespace of the command's own, where not empty.
    pub mounts: Vec<MountOp>,
    /// Standard streams. Of the command, and so of what it leaves running.
    pub stdio: Stdio,
    /// A file that takes the command's standard error in place of `stdio`'s; its tail comes back in
    /// [`Response::Spawned`]. For runtimes whose errors must not reach the container's log.
    pub stderr_file: Option<PathBuf>,
    /// What is kept.
    pub keep: Keep,
    /// Milliseconds until the command is killed; 0 for never. With [`Keep::Command`] it bounds the
    /// process, otherwise only the command.
    pub timeout_ms: u32,
}

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection.
    Hello {
        /// The client's [`VERSION`].
        version: u32,
    },
    /// Mount operations in the pod's mount namespace.
    Mounts(Vec<MountOp>),
    /// Spawns; answered by [`Response::Spawned`] when the command has ended (with
    /// [`Keep::Command`]: when it was started).
    Spawn(Box<Spawn>),
    /// Keeps the exit of a process that a server knows (gVisor's control socket, a VM's agent).
    Await {
        /// Key.
        key: String,
        /// Unix socket: a path, or `@name` for the abstract namespace.
        socket: String,
        /// What to write.
        payload: Vec<u8>,
    },
    /// Answered by [`Response::Exited`] when the process has ended.
    Wait {
        /// Key.
        key: String,
    },
    /// All exits from now on, and of the past those not yet forgotten: a stream of [`Response::Exited`].
    Events,
    /// Sends a signal to a kept process (by pidfd; an error where the process has none).
    Signal {
        /// Key.
        key: String,
        /// Signal number.
        signal: i32,
    },
    /// From here on the connection is a stream of [`Frame`]s in both directions.
    Attach {
        /// Key.
        key: String,
    },
    /// Sets a terminal's size.
    Resize {
        /// Key.
        key: String,
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Opens the log file anew.
    ReopenLog {
        /// Key.
        key: String,
    },
    /// The kept processes.
    List,
    /// Drops an ended process.
    Forget {
        /// Key.
        key: String,
    },
    /// Kills what is left of the kept processes and ends the monitor.
    Shutdown,
}

/// What the monitor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// The monitor's [`VERSION`].
        version: u32,
        /// Its process id.
        pid: i32,
    },
    /// Done.
    Ok,
    /// Refused or failed: one sentence.
    Failed(String),
    /// To [`Request::Spawn`].
    Spawned {
        /// Exit of the command: its code, 128 + signal for a signal, `None` with [`Keep::Command`].
        code: Option<i32>,
        /// The kept process.
        pid: Option<i32>,
        /// Last 4 KiB of the command's standard error, where it had a file of its own.
        stderr: String,
        /// Whether the command was killed for its timeout.
        timed_out: bool,
    },
    /// A process has ended.
    Exited(Exit),
    /// To [`Request::List`].
    Processes(Vec<Process>),
}

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Key.
    pub key: String,
    /// Code; 128 + signal for a signal. -1 where only `reply` tells.
    pub code: i32,
    /// When, nanoseconds since 1970.
    pub at: i64,
    /// Whether it was killed for its timeout.
    pub timed_out: bool,
    /// What the server answered, for an awaited exit; empty where the connection broke.
    pub reply: Vec<u8>,
    /// Captured standard output.
    pub stdout: Vec<u8>,
    /// Captured standard error.
    pub stderr: Vec<u8>,
}

/// A kept process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Key.
    pub key: String,
    /// Process id, where it has one.
    pub pid: Option<i32>,
    /// Its end, where it has ended.
    pub exit: Option<Exit>,
}

/// A piece of an attached stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// To the process; empty closes its standard input.
    Stdin(Vec<u8>),
    /// From the process.
    Stdout(Vec<u8>),
    /// From the process.
    Stderr(Vec<u8>),
    /// New size of the terminal: rows, columns.
    Resize(u16, u16),
    /// The process has ended and all output was sent: the last frame.
    Exited(Exit),
}
