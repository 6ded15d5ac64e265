//! What can go wrong with images, one sentence each.

use std::io;
use std::path::{Path, PathBuf};

/// Why something about an image failed. Every message says what, where, and what to do where there
/// is something to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on a file of the store or of the archive failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A reference to an image is not written as references are.
    #[error("image reference {reference:?} is not valid: {rule}")]
    Reference {
        /// As the user wrote it.
        reference: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// A digest is not written as digests are.
    #[error("digest {0:?} is not valid: write sha256: and 64 lowercase hex digits")]
    BadDigest(String),
    /// The archive is not what it should be.
    #[error("{archive}: {why}")]
    Archive {
        /// File or blob.
        archive: String,
        /// What is wrong with it.
        why: String,
    },
    /// A blob or layer is not what its digest says.
    #[error(
        "{what} has digest {found}, but {expected} was promised: the archive is damaged or forged"
    )]
    DigestMismatch {
        /// Which blob.
        what: String,
        /// From the manifest or configuration.
        expected: String,
        /// Of the bytes that were read.
        found: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer} cannot be unpacked: entry {entry:?}: {why}")]
    Unpack {
        /// Digest of the layer, unpacked.
        layer: String,
        /// Name of the entry in the layer; empty where it is about no entry.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// An image cannot be pulled.
    #[error("image {image} cannot be pulled: {why}")]
    Pull {
        /// As the user wrote it, completed.
        image: String,
        /// What is wrong: the registry's answer, or with what it sent.
        why: String,
    },
    /// An image cannot be written to an archive.
    #[error("image {image} cannot be saved: {why}")]
    Save {
        /// As the user wrote it.
        image: String,
        /// What is missing, and what to do.
        why: String,
    },
    /// A block image cannot be made.
    #[error("no block image can be made of image {image}: {why}")]
    Block {
        /// Id of the image.
        image: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No such image.
    #[error("image {0} is not in the store: load it with `cofferdam image load`")]
    NotFound(String),
    /// An id prefix fits several images.
    #[error("image id {prefix} is ambiguous: it fits {}", fits.join(" and "))]
    Ambiguous {
        /// As the user wrote it.
        prefix: String,
        /// Ids that it fits.
        fits: Vec<String>,
    },
    /// Something runs from the image.
    #[error("image {image} is in use by {by}: stop and remove that first")]
    InUse {
        /// As the user wrote it.
        image: String,
        /// Who uses it.
        by: String,
    },
    /// The image is for other machines.
    #[error("image {image} is for {found}; this machine is {machine}")]
    Platform {
        /// As the user wrote it.
        image: String,
        /// Platform of the image.
        found: String,
        /// Platform of this machine.
        machine: String,
    },
    /// A file of the store cannot be read or does not fit together.
    #[error("{}: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The user of a container cannot be found in its image.
    #[error("user {user:?} of image {image}: {why}")]
    User {
        /// `user[:group]`.
        user: String,
        /// Id of the image.
        image: String,
        /// What is wrong.
        why: String,
    },
    /// A [`crate::BuildSpec`] cannot be built.
    #[error("image {name} cannot be built: {why}")]
    Build {
        /// Name of the image to be.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds action and path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io {
            action,
            path: path.to_path_buf(),
            source: e.into(),
        })
    }
}

/// An I/O error with a sentence of ours.
pub(crate) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
