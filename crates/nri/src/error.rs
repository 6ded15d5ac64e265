//! Why something failed: each error names the plugin, the field or the path that it is about.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket for plugins cannot be made.
    #[error("cannot listen for NRI plugins at {path}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another runtime listens for plugins.
    #[error("another runtime listens for NRI plugins at {path}: stop it, or configure another path")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The directory of pre-installed plugins or a plugin's configuration cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file among the pre-installed plugins has no name of the form `NN-name`.
    #[error("{path} is not named as an NRI plugin: NN-name is expected, NN two digits, name of letters, digits and _.+-")]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A plugin answered with an error.
    #[error("NRI plugin {plugin:?} refused {event}: {reason}")]
    Refused {
        /// The plugin, `NN-name`.
        plugin: String,
        /// What it was asked.
        event: &'static str,
        /// Its words.
        reason: String,
    },
    /// A plugin did not answer and cannot be done without: it is required, it validates, or it said so itself.
    #[error("NRI plugin {plugin:?} failed to handle {event}, which cannot go on without it: {reason}")]
    Failed {
        /// The plugin, `NN-name`.
        plugin: String,
        /// What it was asked.
        event: &'static str,
        /// What happened.
        reason: String,
    },
    /// A required plugin is not connected.
    #[error("NRI plugin {plugin:?}, which is required for {event} of pod {pod}, is not connected")]
    Missing {
        /// The plugin's name.
        plugin: String,
        /// What was about to happen.
        event: &'static str,
        /// The pod's id.
        pod: String,
    },
    /// An annotation does not hold what it should.
    #[error("annotation {key} of pod {pod} is {value:?}: {expected} is expected")]
    Annotation {
        /// Its key.
        key: String,
        /// The pod's id.
        pod: String,
        /// Its value, shortened.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Two plugins want to set the same (the sentence is upstream's).
    #[error("plugins {plugin:?} and {other:?} both tried to set {what}")]
    Conflict {
        /// The later plugin.
        plugin: String,
        /// The earlier one.
        other: String,
        /// The field, and the key within it.
        what: String,
    },
    /// A plugin asks for what Cofferdam does not do.
    #[error("NRI plugin {plugin:?} asks to change {field} of container {container}: {why}")]
    Unsupported {
        /// The plugin.
        plugin: String,
        /// The container's id.
        container: String,
        /// The field.
        field: String,
        /// Why it is refused.
        why: String,
    },
    /// A plugin asks to update the very container that is being created.
    #[error("plugin {plugin:?} asked update of {container:?} during creation")]
    SelfUpdate {
        /// The plugin.
        plugin: String,
        /// The container's id.
        container: String,
    },
    /// A validating plugin rejects what the plugins made of a container together.
    #[error("validator {plugin:?} rejected container adjustment, reason: {reason}")]
    Rejected {
        /// The plugin.
        plugin: String,
        /// Its words.
        reason: String,
    },
}
