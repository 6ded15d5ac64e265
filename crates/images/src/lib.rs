//! Images: the store, loading of docker archives and OCI layouts, unpacking, users, building.
//!
//! Everything that comes from an archive is taken to be hostile: sizes, counts and depths are
//! bounded ([`Limits`]), digests are verified, and no path of an archive is ever joined to a path
//! of this machine. What a registry gives ([`Remote`]) goes through the same import as an archive.

mod archive;
mod build;
mod checksum;
mod compress;
mod config;
mod digest;
mod error;
pub mod examine;
mod limits;
mod manifest;
mod platform;
mod reference;
mod remote;
mod source;
mod store;
mod tarball;
mod tree;
mod unpack;
mod users;

pub use build::{BuildFile, BuildSpec, Content};
pub use config::ImageConfig;
pub use digest::Digest;
pub use error::{Error, Result};
pub use limits::{Limits, Progress, Stage};
pub use platform::Platform;
pub use reference::Reference;
pub use remote::{Remote, RemoteManifest};
pub use store::{
    BlockRoot, ErofsSnapshotter, Finding, FsckReport, Image, Input, LoadOptions, Loaded,
    OverlaySnapshotter, PruneOptions, Pruned, PullEvent, PullOptions, Pulled, Removed, Repair, Root,
    SaveFormat, Snapshotter, Store,
};
pub use tarball::{Entry as TarEntry, Kind as TarKind, TarReader};
pub use users::User;
