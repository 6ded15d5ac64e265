//! Images: the store, loading of docker archives and OCI layouts, unpacking, users, building.
//!
//! Everything that comes from an archive is taken to be hostile: sizes, counts and depths are
//! bounded ([`Limits`]), digests are verified, and no path of an archive is ever joined to a path
//! of this machine. A registry's pull is to fill the same store: it makes an `Offer` whose blobs
//! come over the wire, and hands it to the same import.

mod archive;
mod build;
mod compress;
mod config;
mod digest;
mod error;
mod limits;
mod platform;
mod reference;
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
pub use store::{Image, Input, LoadOptions, Loaded, Removed, Store};
pub use users::User;
