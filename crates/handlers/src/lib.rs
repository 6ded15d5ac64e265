//! Handler tables from the configuration files that people have: containerd's, CRI-O's and our own.
//!
//! Pure: the caller reads files and hands their texts in. [`load()`] answers with one merged
//! [`HandlerTable`], the errors beside it, and the files that it would still like to see
//! ([`Loaded::wanted`]); the caller supplies those and calls again until nothing is wanted.
//!
//! Priority, lowest first: built in (runc, crun, youki and runsc, searched in `$PATH`), containerd,
//! CRI-O, our own. A handler of a later family replaces the earlier one whole, with a warning that
//! names both places; nothing ever falls back to another binary.
//!
//! - [`table`]: what comes out
//! - [`load`](mod@load): texts in, table out
//! - [`render`](mod@render): the table as a configuration file of our own form
//! - [`diff`](mod@diff): what a reload changes

mod beyond;
mod containerd;
mod containerd_handler;
mod containerd_keys;
pub mod cri;
mod crio;
mod crio_keys;
mod defaults;
pub mod diff;
mod driver;
pub mod load;
mod own;
pub mod place;
pub mod render;
mod runsc;
mod schema;
pub mod table;
mod tree;

pub use beyond::Beyond;
pub use cri::{CriSettings, NriSettings};
pub use defaults::{Defaults, Snapshotter, Ulimit, UnsetSeccomp};
pub use diff::{Diff, diff};
pub use load::{Files, Loaded, Roots, Text, Wanted, load};
pub use place::{ConfigError, Level, Origin, Place, Warning};
pub use render::render;
pub use table::{
    Binary, Driver, Flavor, Handler, HandlerTable, OciHandler, Settings, ShimHandler, VmHandler,
};

/// Greatest size of one configuration file, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// Greatest length of a chain of imports.
pub const MAX_IMPORT_DEPTH: usize = 8;
/// Greatest number of files of one family.
pub const MAX_FILES: usize = 256;
