//! Hostile archives: nothing leaves the tree, nothing is endless, and what failed leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, Error, Limits};
use common::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Asserts that a failed load left no trace.
fn assert_empty(fixture: &Fixture, what: &str) {
    for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
        assert!(
            fixture.names_in(dir).is_empty(),
            "{what}: {dir} has {:?}",
            fixture.names_in(dir)
        );
    }
    assert!(fixture.store.list().unwrap().is_empty(), "{what}");
}

#[test]
fn layers_that_break_a_rule_are_refused_whole() {
    let small = Limits {
        entries: 50,
        image_bytes: 1 << 20,
        path_bytes: 90,
        directory_name_bytes: 600,
        ..Limits::default()
    };
    let many = (0..60).fold(Layer::new(), |layer, i| layer.file(&format!("f{i}"), b""));
    let dirs = (0..10).fold(Layer::new(), |layer, i| layer.dir(&format!("d{i}")));
    let deep = Layer::new().file(&"d/".repeat(40), b"");
    let longest = "x".repeat(95);
    let sparse = Layer::new()
        .pax(&[("GNU.sparse.size", "4000000000"), ("GNU.sparse.map", "")])
        .file("f", b"");
    for (what, layer, why) in [
        ("up", Layer::new().file("../evil", b"x"), "'..'"),
        ("up inside", Layer::new().file("a/../../evil", b"x"), "'..'"),
        (
            "up in a link target",
            Layer::new().link("evil", "../../../etc/passwd"),
            "'..'",
        ),
        (
            "link to nothing",
            Layer::new().link("evil", "/etc/passwd"),
            "does not exist",
        ),
        (
            "link through a symlink",
            Layer::new().symlink("s", "/etc").link("evil", "s/passwd"),
            "does not exist",
        ),
        (
            "link to a directory",
            Layer::new().dir("d").link("e", "d"),
            "is a directory",
        ),
        ("link to the root", Layer::new().link("e", "/"), "root"),
        (
            "file as parent",
            Layer::new().file("f", b"").file("f/g", b""),
            "not a directory",
        ),
        (
            "links in a circle",
            Layer::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b""),
            "oo many",
        ),
        (
            "endless links",
            Layer::new().symlink("a", "a/a").file("a/x", b""),
            "oo many",
        ),
        (
            "root as a file",
            Layer::new().file("./", b""),
            "only a directory",
        ),
        (
            "whiteout of up",
            Layer::new().file(".wh...", b""),
            "whiteout",
        ),
        (
            "whiteout of here",
            Layer::new().file("d/.wh..", b""),
            "whiteout",
        ),
        (
            "whiteout of nothing",
            Layer::new().file(".wh.", b""),
            "whiteout",
        ),
        (
            "whiteout as parent",
            Layer::new().file(".wh.x/y", b""),
            "whiteout",
        ),
        (
            "no such device",
            Layer::new().pax(&[]).node("n", b'3', 5000, 0),
            "no device",
        ),
        ("empty link", Layer::new().symlink("s", ""), "1 to 90 bytes"),
        (
            "odd type",
            Layer::new().raw(header("v", b'V', 0, ""), b""),
            "type 'V'",
        ),
        ("too many", many, "more than 50 entries"),
        (
            "too many made parents",
            (0..2).fold(Layer::new(), |l, i| {
                l.file(&format!("{i}/{}x", "d/".repeat(30)), b"")
            }),
            "more than 50 entries",
        ),
        (
            "too long",
            Layer::new().file(&longest, b""),
            "longer than 90 bytes",
        ),
        ("too many names", dirs, "more than 600 bytes"),
        (
            "too deep for its length",
            deep.file(&"d/".repeat(46), b""),
            "longer than 90 bytes",
        ),
        (
            "too large",
            Layer::new().raw(header("f", b'0', 2 << 20, ""), &vec![0; 2 << 20]),
            "more than 1048576 bytes",
        ),
        ("large with holes", sparse, "more than 1048576 bytes"),
        (
            "claims to be large",
            Layer::new().raw(header("f", b'0', 1 << 50, ""), b""),
            "more than 1048576 bytes",
        ),
        (
            "name too long for Linux",
            Layer::new().pax(&[("path", "a\0b")]).file("x", b""),
            "NUL",
        ),
        (
            "capability that is none",
            Layer::new()
                .pax(&[("SCHILY.xattr.security.capability", "x")])
                .file("f", b""),
            "security.capability",
        ),
    ] {
        let fixture = Fixture::with(small.clone());
        let canary = fixture.dir.path().join("evil");
        match fixture.layers(&[layer]) {
            Err(error @ Error::Unpack { .. }) => {
                assert!(error.to_string().contains(why), "{what}: {error}")
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(!canary.exists(), "{what}");
        assert_empty(&fixture, what);
    }
}

#[test]
fn what_points_out_stays_in() {
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("file"), "untouched").unwrap();
    let outside = victim.path().to_str().unwrap();
    let up = format!("../../../../../../../../../../..{outside}");
    let (absolute_in, up_in) = (format!("in{outside}"), format!("up{outside}"));
    let mode = fs::metadata(victim.path()).unwrap().mode();
    let fixture = Fixture::new();
    let image = fixture
        .layers(&[Layer::new()
            .symlink("abs", outside)
            .file("abs/file", b"pwned")
            .symlink("rel", &up)
            .file("rel/other", b"pwned")
            // The link itself is replaced, not what it leads to.
            .symlink("final", &format!("{outside}/file"))
            .file("final", b"mine")
            .symlink("dir", outside)
            .dir("dir")
            .file("dir/new", b"mine")
            .with("chmod", b'2', outside, |h| h.set_mode(0o777))
            .file(&format!("/{absolute_in}"), b"absolute")
            .file(&up_in, b"plain")
            .symlink("wh", outside)
            .file("wh/.wh.file", b"")
            .file("wh/.wh..wh..opq", b"")])
        .unwrap();
    let tree = &image.layers[0];
    assert_eq!(
        fs::read_to_string(victim.path().join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(victim.path()).unwrap().mode(), mode);
    let inner = tree.join(outside.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "pwned");
    assert_eq!(fs::read_to_string(inner.join("other")).unwrap(), "pwned");
    assert_eq!(fs::read_to_string(tree.join("final")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(tree.join("dir/new")).unwrap(), "mine");
    assert_eq!(
        fs::read_to_string(tree.join(absolute_in)).unwrap(),
        "absolute"
    );
}

#[test]
fn devices_are_made_and_device_0_0_is_a_whiteout() {
    let fixture = Fixture::new();
    let lower = Layer::new().file("gone", b"").file("stays", b"");
    let upper = Layer::new()
        .node("dev/null", b'3', 1, 3)
        .node("dev/disk", b'4', 8, 0)
        .with("fifo", b'6', "", |h| h.set_mode(0o622))
        .node("gone", b'3', 0, 0);
    let image = fixture.layers(&[lower, upper]).unwrap();
    let tree = &image.layers[1];
    let null = fs::metadata(tree.join("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    assert!(
        fs::metadata(tree.join("dev/disk"))
            .unwrap()
            .file_type()
            .is_block_device()
    );
    assert_eq!(
        fs::metadata(tree.join("fifo")).unwrap().mode() & 0o7777,
        0o622
    );
    assert_eq!(fixture.in_overlay(&image, "ls"), "dev\nfifo\nstays\n");
    assert_eq!(
        fs::metadata(fixture.root()).unwrap().mode() & 0o777,
        0o700,
        "users of the host must not reach them"
    );
}

#[test]
fn attributes_of_overlayfs_and_of_the_builder_are_left_out() {
    let fixture = Fixture::new();
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.user.mine", "1"),
        ])
        .dir("d")
        .pax(&[
            ("SCHILY.xattr.security.selinux", "x"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
        ])
        .dir("e");
    let layers = [layer.end()];
    let loaded = fixture
        .load(&docker_archive(&config(&layers, ""), &layers, &[]))
        .unwrap()
        .remove(0);
    let tree = &loaded.image.layers[0];
    assert_eq!(attributes(&tree.join("d")), ["user.mine=31"]);
    assert!(attributes(&tree.join("e")).is_empty());
    assert_eq!(loaded.notes.len(), 4, "{:?}", loaded.notes);
}

#[test]
fn bombs_stop_at_the_bounds() {
    let zeros = header("f", b'0', 16 << 20, "");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let mut plain = Vec::new();
    for chunk in [&zeros.as_bytes()[..], &vec![0; 16 << 20], &[0; 1024]] {
        gzip.write_all(chunk).unwrap();
        zstd.write_all(chunk).unwrap();
        plain.write_all(chunk).unwrap();
    }
    for packed in [gzip.finish().unwrap(), zstd.finish().unwrap()] {
        let limits = Limits {
            free_growth_bytes: 4 << 20,
            ratio: 10,
            ..Limits::default()
        };
        let archive = docker_archive(&config(std::slice::from_ref(&plain), ""), &[packed], &[]);
        let fixture = Fixture::with(limits);
        let error = fixture.load(&archive).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
        assert_empty(&fixture, "bomb");
        assert_eq!(
            Fixture::new().load(&archive).unwrap().len(),
            1,
            "within the default bounds it is an image"
        );
    }
    // After the end of the archive the stream goes on and on.
    let mut tail = Layer::new().file("f", b"x").end();
    tail.resize(8 << 20, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tail).unwrap();
    let fixture = Fixture::with(Limits {
        free_growth_bytes: 1 << 20,
        ratio: 10,
        ..Limits::default()
    });
    let error = fixture
        .load(&docker_archive(
            &config(&[tail], ""),
            &[gzip.finish().unwrap()],
            &[],
        ))
        .unwrap_err();
    assert!(error.to_string().contains("bomb"), "{error}");
}

#[test]
fn a_stream_without_end_is_refused() {
    let fixture = Fixture::with(Limits {
        archive_bytes: 4 << 20,
        ..Limits::default()
    });
    let mut endless = std::io::repeat(0).take(u64::MAX);
    let error = fixture
        .store
        .load(
            cofferdam_images::Input::Stream(&mut endless),
            &Default::default(),
            &(),
        )
        .unwrap_err();
    assert!(
        error.to_string().contains("more than 4194304 bytes"),
        "{error}"
    );
    assert_empty(&fixture, "endless");
}

#[test]
fn forged_archives_are_refused() {
    let layer = Layer::new().file("f", b"x").end();
    let other = Layer::new().file("f", b"y").end();
    let good = config(std::slice::from_ref(&layer), "");
    let config_name = format!("{}.json", Digest::of(&good).hex());
    let manifest = |config: &str, layers: &[&str]| {
        serde_json::json!([{"Config": config, "Layers": layers}]).to_string()
    };
    let archive = |manifest: &str, config: &[u8]| {
        Layer::new()
            .file("manifest.json", manifest.as_bytes())
            .file(&config_name, config)
            .file("l.tar", &layer)
            .end()
    };
    let cut = docker_archive(&good, std::slice::from_ref(&layer), &[]);
    let mut flipped = layer.clone();
    let last = flipped.len() - 1;
    flipped[last] = 1;
    for (what, archive, why) in [
        (
            "another layer",
            docker_archive(&good, &[other], &[]),
            "damaged or forged",
        ),
        (
            "behind the end",
            docker_archive(&good, &[flipped], &[]),
            "follows the end",
        ),
        (
            "another configuration",
            archive(&manifest(&config_name, &["l.tar"]), b"{}"),
            "damaged or forged",
        ),
        (
            "layer too many",
            archive(&manifest(&config_name, &["l.tar", "l.tar"]), &good),
            "names 1",
        ),
        (
            "layer too few",
            archive(&manifest(&config_name, &[]), &good),
            "names 1",
        ),
        (
            "layer is missing",
            archive(&manifest(&config_name, &["none.tar"]), &good),
            "has no \"none.tar\"",
        ),
        (
            "layer from outside",
            archive(&manifest(&config_name, &["../../etc/passwd"]), &good),
            "has no",
        ),
        (
            "configuration from outside",
            archive(&manifest("/etc/hostname", &["l.tar"]), &good),
            "has no",
        ),
        ("no image", archive("[]", &good), "names no image"),
        ("no manifest", archive("{", &good), "cannot be read"),
        (
            "bad name",
            docker_archive(&good, std::slice::from_ref(&layer), &["Not A Name"]),
            "not valid",
        ),
        ("cut off", cut[..1800].to_vec(), "cut off"),
        ("nothing", Vec::new(), "neither"),
        (
            "xz",
            b"\xfd7zXZ\0 and so on".to_vec(),
            "decompress it first",
        ),
        ("text", b"hello".to_vec(), "middle of a header"),
    ] {
        let fixture = Fixture::new();
        let error = fixture.load(&archive).unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert_empty(&fixture, what);
    }
}
