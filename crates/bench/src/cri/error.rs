//! What can go wrong, a sentence each.

use std::path::PathBuf;

/// Why a bench ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing at the path.
    #[error("there is no socket {}: start the runtime, or name its CRI socket with --cri (containerd: /run/containerd/containerd.sock, CRI-O: /run/crio/crio.sock)", .0.display())]
    Missing(PathBuf),
    /// Not ours to open.
    #[error("no permission to connect to {}: run this as root", .0.display())]
    Denied(PathBuf),
    /// A file or a socket without a listener.
    #[error("nobody listens on {}: start the runtime that it belongs to", .0.display())]
    Deaf(PathBuf),
    /// Another reason not to connect.
    #[error("cannot connect to {}: {reason}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A socket of something else.
    #[error("{} does not speak CRI v1 ({reason}): give the socket of a container runtime", .socket.display())]
    NotCri {
        /// The socket.
        socket: PathBuf,
        /// What came in place of an answer.
        reason: String,
    },
    /// A call failed.
    #[error("{verb} on {} failed: {reason}", .socket.display())]
    Call {
        /// The socket.
        socket: PathBuf,
        /// The method.
        verb: &'static str,
        /// The runtime's words, with the code of gRPC.
        reason: String,
    },
    /// A call took too long.
    #[error("{verb} on {} gave no answer in {seconds} s: see the runtime's log", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// The method.
        verb: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The image is not there.
    #[error("{} has no image {image}: fetch it with --pull, or name another with --image", .socket.display())]
    NoImage {
        /// The socket.
        socket: PathBuf,
        /// The image.
        image: String,
    },
    /// The command that is run in a container failed.
    #[error("`true` in a container of {} ended with {code}: name an image that has it with --image", .socket.display())]
    Exec {
        /// The socket.
        socket: PathBuf,
        /// Its exit code.
        code: i32,
    },
    /// What is measured beside failed.
    #[error("{name} failed: {reason}")]
    Reference {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A number that measures nothing.
    #[error("{option} must be at least 1")]
    Zero {
        /// The option.
        option: &'static str,
    },
    /// No socket was given.
    #[error("name at least one CRI socket with --cri")]
    NoSocket,
    /// Pods of the bench that cannot be removed.
    #[error("{count} pods of the bench are left on {} ({reason}): run the bench again to remove them", .socket.display())]
    Left {
        /// The socket.
        socket: PathBuf,
        /// How many.
        count: usize,
        /// The last error.
        reason: String,
    },
    /// A signal came.
    #[error("interrupted; what was made is removed")]
    Interrupted,
    /// Two signals came.
    #[error("interrupted twice; run the bench again to remove what is left")]
    Abandoned,
    /// Something of this machine.
    #[error("{what}: {source}")]
    Machine {
        /// What was done, and with what.
        what: String,
        /// The system's words.
        source: std::io::Error,
    },
}
