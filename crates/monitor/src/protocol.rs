//! What engine and monitor say to each other, over a Unix stream socket: frames of a little-endian
//! `u32` length and a postcard body. A connection begins with [`Request::Hello`] and carries one
//! request at a time: the next is read when the last is answered. A client that closes, or shuts
//! down its writing half, gives up what it waits for; nothing happens to the processes.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of this protocol. A monitor answers with its own; a client speaks the lower of both.
pub const VERSION: u32 = 1;

/// Greatest body of a frame, bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// Greatest body of a [`Frame`] from the client of an attached stream, bytes.
pub const MAX_ATTACH_FRAME: usize = 64 << 10;

/// Greatest number of bytes that [`Stdio::Capture`] keeps of each stream, so that an [`Exit`]
/// fits a frame.
pub const MAX_CAPTURE: u32 = 448 << 10;

/// Greatest number of keys that a monitor knows at a time, ended ones not yet forgotten included.
pub const MAX_KEYS: usize = 4096;

/// Greatest number of connections that a monitor holds at a time.
pub const MAX_CONNECTIONS: usize = 64;

/// How a monitor is started: one frame on its standard input. It answers one [`Started`] frame on
/// its standard output and then lets go of both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Start {
    /// Where it listens; the directory exists. At most 102 bytes, as the kernel takes 107 and the
    /// socket is bound under a longer name first.
    pub socket: PathBuf,
    /// Directory where the exit of each process is written as a small file named by its key:
    /// `code at timed_out` and a line feed, as in [`Exit`] with 0 or 1 for `timed_out`, then
    /// [`Exit::reply`] as it came.
    pub exit_dir: PathBuf,
    /// Files (`tasks`, `cgroup.procs`) to write `0` to, in order.
    pub cgroup_files: Vec<PathBuf>,
    /// Unshare the network namespace.
    pub unshare_net: bool,
    /// With `unshare_net`: a namespace made ahead, with `lo` up, which is entered in place of a new one.
    /// It must stay open until the answer has come.
    pub net: Option<PathBuf>,
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
    /// Make a user namespace first, which the namespaces above belong to. The monitor itself stays in
    /// the machine's.
    pub user_namespace: Option<UserNamespace>,
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
    /// What lies at `sub` beneath `root`, bound with what is mounted in it at `target`, which is made.
    /// Resolved once, when it is done, by the kernel (openat2(2), `RESOLVE_BENEATH`): a link or a rename
    /// by who writes in `root` leads nowhere else.
    Within {
        /// A directory.
        root: PathBuf,
        /// A relative path without `..`; empty is `root` itself.
        sub: PathBuf,
        /// Where it is to be seen.
        target: PathBuf,
        /// Make directories that are missing, with the mode of `root`.
        make: bool,
    },
    /// `source`, bound with what is mounted in it at `target`, which is made; ids on its disk show as
    /// those of a user namespace (mount_setattr(2), `MOUNT_ATTR_IDMAP`), those of what is mounted in it
    /// as they are.
    Mapped {
        /// Source.
        source: PathBuf,
        /// Where it is to be seen.
        target: PathBuf,
        /// A file of the user namespace.
        user_namespace: PathBuf,
    },
    /// As [`MountOp::Within`], but as the machine sees it: what is mounted below either shows below the
    /// other, where the machine shares that mount.
    Shared {
        /// A directory of the machine, or a file with an empty `sub`.
        root: PathBuf,
        /// A relative path without `..`; empty is `root` itself.
        sub: PathBuf,
        /// Where it is to be seen.
        target: PathBuf,
    },
}

/// A user namespace that a monitor makes: its ids from 0 on are `count` of the machine's from `first`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// File at which it is seen in the monitor's mount namespace; made.
    pub file: PathBuf,
    /// First id on the machine, of users and groups alike.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What a process's standard streams are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Stdio {
    /// `/dev/null`, all three.
    Null,
    /// Pipes held by the monitor: output goes to the log (CRI log format) and to who is attached.
    /// With a log, the log never waits: an attached client that falls behind is disconnected.
    /// Without, the process waits for its clients: nothing is read before the first attaches, and
    /// no more than the slowest takes; what comes after the last has left is dropped.
    Pipes {
        /// The log file, appended to; `None` for none.
        log: Option<PathBuf>,
        /// Whether standard input is a pipe too (else `/dev/null`).
        stdin: bool,
        /// Close standard input when the first attached client leaves, too.
        stdin_once: bool,
    },
    /// A terminal: the runtime sends its master over `console_socket`, on which the monitor listens.
    /// The command itself has `/dev/null`. Output as with [`Stdio::Pipes`].
    Terminal {
        /// The log file; `None` for none.
        log: Option<PathBuf>,
        /// Where to listen (at most 107 bytes); removed once the terminal came.
        console_socket: PathBuf,
        /// Rows and columns; 0 leaves them.
        size: (u16, u16),
    },
    /// Output is collected, at most this many bytes of each stream, and given with the exit.
    Capture {
        /// Greatest number of bytes kept of each stream, at most [`MAX_CAPTURE`]; the rest is read
        /// and dropped.
        max: u32,
    },
}

/// How a spawned command relates to the process that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Keep {
    /// The command itself is the process: its exit is the key's exit.
    Command,
    /// The command (an OCI runtime's `create` or `exec --detach`) writes a process id to this file
    /// and ends; that process becomes ours (subreaper) and its exit is the key's exit. Where the
    /// command fails, nothing is kept.
    PidFile(PathBuf),
    /// Nothing is kept after the command's end.
    /// Streams are kept until the last writer is gone; until then the key is taken, and
    /// [`Request::Await`] with it keeps them together with the exit.
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

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterOp {
    /// What to do.
    pub code: u16,
    /// How far to jump where a comparison holds.
    pub if_true: u8,
    /// How far to jump where it does not.
    pub if_false: u8,
    /// Operand.
    pub operand: u32,
}

/// A command to spawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spawn {
    /// Names the process in later requests; unique in the pod, `[a-zA-Z0-9._-]{1,80}` and not
    /// `.` or `..`.
    pub key: String,
    /// Absolute path of the binary, then its arguments.
    pub argv: Vec<String>,
    /// Whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory; empty for `/`.
    pub cwd: PathBuf,
    /// Files (`tasks`, `cgroup.procs`) to write `0` to before anything else.
    pub cgroup_files: Vec<PathBuf>,
    /// Done in a mount namespace of the command's own, where not empty.
    pub mounts: Vec<MountOp>,
    /// That namespace goes on to receive what is mounted on the machine.
    pub slave: bool,
    /// Standard streams. Of the command, and so of what it leaves running.
    pub stdio: Stdio,
    /// A file that takes the command's standard error in place of `stdio`'s; its tail comes back in
    /// [`Response::Spawned`]. For runtimes whose errors must not reach the container's log.
    pub stderr_file: Option<PathBuf>,
    /// What is kept.
    pub keep: Keep,
    /// A seccomp filter (classic BPF) for the command and all that descends from it; none where
    /// empty. Filters only add up: nothing that is forbidden otherwise is allowed by one.
    pub filter: Vec<FilterOp>,
    /// Keeps a high descriptor open in the command, so that its table of descriptors is large from
    /// the start: growing it in a process with threads waits for the kernel's grace period.
    pub wide_table: bool,
    /// Milliseconds until the command's process group is killed; 0 for never. With
    /// [`Keep::Command`] it bounds the process, otherwise only the command.
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
    /// All exits from now on, and of the past those not yet forgotten: a stream of
    /// [`Response::Exited`], without captured output. A client that falls behind is disconnected.
    Events,
    /// Sends a signal to a kept process (by pidfd; an error where the process has none).
    Signal {
        /// Key.
        key: String,
        /// Signal number.
        signal: i32,
    },
    /// Answered by [`Response::Ok`]; from there on the connection is a stream of [`Frame`]s in both
    /// directions. Output from before is in the log only, where there is one.
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
    /// Opens the log file anew, under the same path.
    ReopenLog {
        /// Key.
        key: String,
    },
    /// What the monitor has keys for. Exits come without reply and captured output, which
    /// [`Request::Wait`] gives.
    List,
    /// Drops an ended process, its exit file and its streams.
    Forget {
        /// Key.
        key: String,
    },
    /// Kills the kept processes and all others that were left to the monitor, reaps them, and ends
    /// the monitor.
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
        /// Last 4 KiB of the command's standard error, where it had a file of its own or was
        /// captured.
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
    /// Whether more was written than [`Stdio::Capture`] keeps.
    pub truncated: bool,
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
    /// Bytes of output that could not be written to the log.
    pub log_lost: u64,
}

/// A piece of an attached stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// To the process; empty closes its standard input for good (but not that of a terminal).
    Stdin(Vec<u8>),
    /// From the process.
    Stdout(Vec<u8>),
    /// From the process.
    Stderr(Vec<u8>),
    /// New size of the terminal: rows, columns.
    Resize(u16, u16),
    /// The process has ended and its output was sent: the last frame.
    Exited(Exit),
}
