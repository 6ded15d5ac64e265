//! Linux: namespaces, cgroups v1 and v2, pidfds, atomic files, safe paths.
//!
//! One kind of contact with the kernel a module; calls block. Nothing here knows a pod: callers
//! give names, paths and numbers.
//!
//! - [`cgroup`]: groups of processes and their limits, on v1, hybrid and v2
//! - [`process`]: processes that cannot be mistaken for another after their id was used again
//! - [`privilege`]: what this process may do, and values clamped to it
//! - [`files`]: atomic writes, bounded reads, locks, private directories
//! - [`rooted`]: paths that cannot leave a root
//! - [`remove`]: removing a tree without following links or crossing mounts
//! - [`ids`]: random ids, the boot's id, clocks
//! - [`netns`]: network namespaces
//! - [`mountinfo`]: the kernel's mount table
//! - [`machine`]: facts about the machine for a preflight
//! - [`inotify`]: waiting for files to change
//! - [`idmap`]: clones of mounts, with other ids, read-only through and through, or with other propagation
//! - [`userns`]: user namespaces by descriptor
//! - [`lsm`]: AppArmor and SELinux
//! - [`pass_fd`]: a descriptor of ours for a child, at a number that the child knows
//! - [`memory`]: what this process holds, and gives back
//! - [`spec_dirs`]: directories of descriptions that programs leave for others

pub mod cgroup;
pub mod devices;
mod error;
pub mod files;
pub mod idmap;
pub mod ids;
pub mod inotify;
pub mod lsm;
pub mod machine;
pub mod memory;
pub mod mountinfo;
pub mod netns;
pub mod pass_fd;
pub mod privilege;
pub mod process;
pub mod remove;
pub mod rooted;
pub mod spec_dirs;
pub mod userns;

pub use error::{Error, Result};
