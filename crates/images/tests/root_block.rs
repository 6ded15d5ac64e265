//! An image as an EROFS file system is what its layers are under overlayfs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{ErofsSnapshotter, Image, OverlaySnapshotter, Root, Snapshotter};
use common::*;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mount that is in no namespace: it is gone with its descriptor.
fn mount(fstype: &str, options: &[(&str, &str)]) -> OwnedFd {
    let fs = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&fs, *key, *value).unwrap();
    }
    rustix::mount::fsconfig_create(&fs).unwrap();
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap()
}

/// Every file with all that a container sees of it.
fn listing(root: &OwnedFd) -> Vec<String> {
    let root = PathBuf::from(format!("/proc/{}/fd/{}/", std::process::id(), root.as_raw_fd()));
    let script = format!(
        "cd {} && find . -mindepth 1 -printf '%P\\t%y %m %U %G %T@ %l\\n' | sort",
        root.display()
    );
    let line = |line: &str| {
        use std::os::unix::fs::MetadataExt;
        let path = root.join(line.split('\t').next().unwrap());
        let meta = fs::symlink_metadata(&path).unwrap();
        let own = if meta.is_dir() {
            String::new()
        } else {
            format!("{} {} {:x}", meta.len(), meta.nlink(), meta.rdev())
        };
        let data = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        format!(
            "{line} {own} {} {}",
            attributes(&path).join(","),
            cofferdam_images::Digest::of(&data).short()
        )
    };
    run("sh", &["-c", &script]).lines().map(line).collect()
}

fn both(fixture: &Fixture, image: &Image) -> (Vec<String>, Vec<String>, PathBuf) {
    let Root::Overlay { lower } = OverlaySnapshotter(&fixture.store).root(image).unwrap() else {
        panic!()
    };
    let mut lower: Vec<_> = lower.iter().map(|dir| dir.to_str().unwrap().to_owned()).collect();
    if lower.len() == 1 {
        // overlayfs wants two without an upper one.
        lower.push(fixture.root().join("empty").to_str().unwrap().to_owned());
    }
    let overlay = mount("overlay", &lower.iter().map(|dir| ("lowerdir+", dir.as_str())).collect::<Vec<_>>());
    let Root::Block(block) = ErofsSnapshotter(&fixture.store).root(image).unwrap() else {
        panic!()
    };
    assert_eq!(block.fstype, "erofs");
    let erofs = mount("erofs", &[("source", block.path.to_str().unwrap())]);
    (listing(&overlay), listing(&erofs), block.path)
}

#[test]
fn a_block_image_is_what_overlayfs_shows() {
    let capability = "\u{1}\0\0\u{2}\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let base = Layer::new()
        .with("d", b'5', "", |h| {
            h.set_mode(0o3711);
            h.set_uid(70_000);
            h.set_gid(5);
        })
        .pax(&[("SCHILY.xattr.user.dir", "x"), ("mtime", "1234567890.123456789")])
        .dir("d/sub")
        .file("d/sub/gone", b"gone")
        .file("d/sub/stays", b"stays")
        .pax(&[("SCHILY.xattr.user.mine", "1"), ("SCHILY.xattr.security.capability", capability)])
        .file("capable", b"#!")
        .with("setuid", b'0', "", |h| h.set_mode(0o4755))
        .link("setuid-too", "setuid")
        .file("empty", b"")
        .symlink("link", "d/sub/stays")
        .file("opaque/hidden", b"")
        .file("becomes-dir", b"")
        .file("becomes-file/x", b"")
        .node("null", b'3', 1, 3)
        .node("disk", b'4', 8, 1)
        .with("fifo", b'6', "", |h| h.set_mode(0o600))
        .file("large", &vec![3; 300_000]);
    let middle = Layer::new()
        .file("d/sub/.wh.gone", b"")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/seen", b"")
        .file("becomes-dir/x", b"");
    let top = Layer::new()
        .file(".wh.becomes-file", b"")
        .file("becomes-file", b"file")
        .file("d/sub/new", b"new")
        .link("d/copy", "d/sub/stays");
    let fixture = Fixture::new();
    let image = fixture.layers(&[base, middle, top]).unwrap();
    let before: Vec<_> = image
        .layers
        .iter()
        .map(|tree| fs::metadata(tree).unwrap().modified().unwrap())
        .collect();
    let (overlay, erofs, path) = both(&fixture, &image);
    assert_eq!(overlay.join("\n"), erofs.join("\n"));
    assert!(
        overlay.len() >= 18 && overlay.iter().any(|line| line.contains("security.capability")),
        "{overlay:#?}"
    );
    let after: Vec<_> = image
        .layers
        .iter()
        .map(|tree| fs::metadata(tree).unwrap().modified().unwrap())
        .collect();
    assert_eq!(before, after, "the layers are as they were");
    assert!(fixture.store.fsck(None, &|_| ()).unwrap().findings.is_empty());
    assert!(fixture.names_in("tmp").is_empty());
    // It is made once, and goes with its image.
    let made = fs::metadata(&path).unwrap().modified().unwrap();
    fixture.store.block_root(&image).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made);
    fixture.store.remove("test", &|_| None).unwrap();
    assert!(!path.exists());
}

#[test]
fn an_image_without_files_is_an_empty_root() {
    let fixture = Fixture::new();
    let image = fixture.layers(&[]).unwrap();
    let Root::Block(block) = ErofsSnapshotter(&fixture.store).root(&image).unwrap() else {
        panic!()
    };
    let erofs = mount("erofs", &[("source", block.path.to_str().unwrap())]);
    assert!(listing(&erofs).is_empty());
    assert!(Path::new(&block.path).starts_with(fixture.root()));
}
