//! Removing a tree that has a mount in it. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::remove::remove_tree;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use std::path::{Path, PathBuf};

/// Unmounted however the test ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn refused_and_kept(tree: &Path, kept: &Path, mounted: Mounted) {
    assert!(remove_tree(tree).is_err());
    assert!(kept.exists(), "{} is gone", kept.display());
    drop(mounted);
    remove_tree(tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn mounts_are_refused_and_left_whole() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let inner = tree.join("a/inner");

    std::fs::create_dir_all(&inner).unwrap();
    mount("none", &inner, "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(inner.join("file"), "x").unwrap();
    refused_and_kept(&tree, &inner.join("file"), Mounted(inner.clone()));

    // A bind mount of the same file system: the device number does not tell it apart.
    let source = dir.path().join("source");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "x").unwrap();
    mount_bind(&source, &inner).unwrap();
    refused_and_kept(&tree, &source.join("file"), Mounted(inner.clone()));

    // The root of the tree itself is a mount.
    std::fs::create_dir(&tree).unwrap();
    mount_bind(&source, &tree).unwrap();
    refused_and_kept(&tree, &source.join("file"), Mounted(tree.clone()));
}
