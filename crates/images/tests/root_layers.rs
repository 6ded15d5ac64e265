//! What layers become on disk, looked at through a real overlay mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

const LIST: &str = "find . -mindepth 1 | sort";

#[test]
fn whiteouts_hide_what_lies_below_and_only_that() {
    for (what, lower, upper, want) in [
        (
            "file",
            Layer::new().file("a", b"").file("b", b""),
            Layer::new().file(".wh.a", b""),
            "./b",
        ),
        (
            "directory",
            Layer::new().file("d/x", b"").file("b", b""),
            Layer::new().file(".wh.d", b""),
            "./b",
        ),
        (
            "in a directory",
            Layer::new().file("d/x", b"").file("d/y", b""),
            Layer::new().file("d/.wh.x", b""),
            "./d ./d/y",
        ),
        (
            "opaque",
            Layer::new().file("d/x", b"").file("d/y/z", b""),
            Layer::new()
                .dir("d")
                .file("d/.wh..wh..opq", b"")
                .file("d/n", b""),
            "./d ./d/n",
        ),
        (
            "opaque comes last",
            Layer::new().file("d/x", b""),
            Layer::new().file("d/n", b"").file("d/.wh..wh..opq", b""),
            "./d ./d/n",
        ),
        (
            "opaque root",
            Layer::new().file("x", b""),
            Layer::new().file(".wh..wh..opq", b"").file("n", b""),
            "./n",
        ),
        (
            "same layer keeps its file",
            Layer::new().file("a", b""),
            Layer::new().file("a", b"new").file(".wh.a", b""),
            "./a",
        ),
        (
            "file after its whiteout",
            Layer::new().file("a/x", b""),
            Layer::new().file(".wh.a", b"").file("a", b""),
            "./a",
        ),
        (
            "directory after its whiteout",
            Layer::new().file("d/x", b""),
            Layer::new().file(".wh.d", b"").dir("d").file("d/n", b""),
            "./d ./d/n",
        ),
        (
            "directory before its whiteout",
            Layer::new().file("d/x", b""),
            Layer::new().dir("d").file("d/n", b"").file(".wh.d", b""),
            "./d ./d/n",
        ),
        (
            "made parent after whiteout",
            Layer::new().file("d/x", b""),
            Layer::new().file(".wh.d", b"").file("d/n", b""),
            "./d ./d/n",
        ),
        (
            "of nothing",
            Layer::new().file("a", b""),
            Layer::new().file("n/.wh.none", b"").file(".wh.none", b""),
            "./a ./n",
        ),
        (
            "through a link",
            Layer::new().file("d/x", b"").file("d/y", b""),
            Layer::new().symlink("l", "d").dir("d").file("l/.wh.x", b""),
            "./d ./d/y ./l",
        ),
        (
            "aufs",
            Layer::new().file("a", b""),
            Layer::new()
                .dir(".wh..wh.plnk")
                .file(".wh..wh.plnk/1.2", b"")
                .file(".wh..wh.aufs", b""),
            "./a",
        ),
    ] {
        let fixture = Fixture::new();
        let image = fixture.layers(&[lower, upper]).unwrap();
        let seen = fixture.in_overlay(&image, LIST);
        assert_eq!(
            seen.split_whitespace().collect::<Vec<_>>().join(" "),
            want,
            "{what}"
        );
    }
}

#[test]
fn later_entries_take_the_place_of_earlier_ones() {
    for (what, layer, want) in [
        (
            "file over directory",
            Layer::new().file("a/b/c", b"").file("a", b""),
            "./a",
        ),
        (
            "directory over file",
            Layer::new().file("a", b"").dir("a").file("a/b", b""),
            "./a ./a/b",
        ),
        (
            "directory over link",
            Layer::new()
                .dir("d")
                .symlink("a", "d")
                .file("a/x", b"")
                .dir("a")
                .file("a/b", b""),
            "./a ./a/b ./d ./d/x",
        ),
        (
            "directory stays",
            Layer::new().file("a/b", b"").dir("a"),
            "./a ./a/b",
        ),
        (
            "moved under a cached parent",
            Layer::new()
                .file("a/b/x", b"")
                .symlink("a", "c")
                .file("a/b/y", b""),
            "./a ./c ./c/b ./c/b/y",
        ),
        (
            "link to itself under its own name",
            Layer::new()
                .dir("d")
                .symlink("d/l", ".")
                .dir("d/l/l")
                .file("d/l/y", b""),
            "./d ./d/l ./d/l/y",
        ),
        (
            "dangling link",
            Layer::new()
                .symlink("a", "/x/../y")
                .dir("x")
                .file("a/b", b""),
            "./a ./x ./y ./y/b",
        ),
    ] {
        let fixture = Fixture::new();
        let image = fixture.layers(&[layer]).unwrap();
        let seen = fixture.in_overlay(&image, LIST);
        assert_eq!(
            seen.split_whitespace().collect::<Vec<_>>().join(" "),
            want,
            "{what}"
        );
    }
}

#[test]
fn owners_modes_times_and_attributes_are_kept() {
    let fixture = Fixture::new();
    let owned = |h: &mut tar::Header| {
        h.set_uid(70_000);
        h.set_gid(80_000);
        h.set_mode(0o6755);
    };
    let layer = Layer::new()
        .with("./", b'5', "", |h| h.set_mode(0o711))
        .with("suid", b'0', "", owned)
        .with("sticky", b'5', "", |h| h.set_mode(0o1777))
        .file("sticky/in", b"x")
        .with("link", b'2', "nowhere", owned)
        // cap_net_raw=ep in the kernel's form, version 2.
        .pax(&[
            (
                "SCHILY.xattr.security.capability",
                "\u{1}\0\0\u{2}\0\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            ("mtime", "-5.5"),
        ])
        .with("ping", b'0', "", |h| h.set_uid(9))
        .link("ping2", "./ping");
    let image = fixture.layers(&[layer]).unwrap();
    let stat = |path: &str| fs::symlink_metadata(image.layers[0].join(path)).unwrap();
    assert_eq!(
        (
            stat("suid").uid(),
            stat("suid").gid(),
            stat("suid").mode() & 0o7777
        ),
        (70_000, 80_000, 0o6755)
    );
    assert_eq!(
        (stat("link").uid(), stat("link").gid(), stat("link").mtime()),
        (70_000, 80_000, 1_000_000_000)
    );
    assert_eq!(
        (stat("sticky").mode() & 0o7777, stat("sticky").mtime()),
        (0o1777, 1_000_000_000),
        "its time is set after its files"
    );
    assert_eq!(
        (stat("").mode() & 0o7777, stat("").mtime()),
        (0o711, 1_000_000_000)
    );
    assert_eq!(
        (
            stat("ping").mtime(),
            stat("ping").mtime_nsec(),
            stat("ping").uid()
        ),
        (-6, 500_000_000, 9)
    );
    assert_eq!(
        (stat("ping").ino(), stat("ping").nlink()),
        (stat("ping2").ino(), 2)
    );
    assert_eq!(
        attributes(&image.layers[0].join("ping")),
        ["security.capability=0100000200200000000000000000000000000000"]
    );
}

#[test]
fn sparse_files_stay_sparse() {
    let fixture = Fixture::new();
    let layer = Layer::new()
        .pax(&[
            ("GNU.sparse.size", "100000000"),
            ("GNU.sparse.map", "50000000,3"),
            ("GNU.sparse.name", "s"),
        ])
        .file("x", b"abc");
    let image = fixture.layers(&[layer]).unwrap();
    let path = image.layers[0].join("s");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.len(), image.size), (100_000_000, 100_000_000));
    assert!(meta.blocks() < 1000, "{} blocks", meta.blocks());
    assert_eq!(
        &fs::read(&path).unwrap()[49_999_999..50_000_004],
        b"\0abc\0"
    );
}

#[test]
fn parents_that_a_layer_does_not_describe_keep_their_attributes() {
    let fixture = Fixture::new();
    let lower = Layer::new().with("tmp", b'5', "", |h| {
        h.set_mode(0o1777);
        h.set_uid(5);
    });
    let image = fixture
        .layers(&[
            lower.with("tmp/d", b'5', "", |h| h.set_mode(0o700)),
            Layer::new().file("tmp/d/new/x", b""),
        ])
        .unwrap();
    let seen = fixture.in_overlay(
        &image,
        "stat -c '%a %u %Y' tmp tmp/d; stat -c '%a %u' tmp/d/new",
    );
    assert_eq!(seen, "1777 5 1000000000\n700 0 1000000000\n755 0\n");
}

#[test]
fn a_hard_link_to_a_file_of_a_layer_below_brings_it_up() {
    let fixture = Fixture::new();
    let lower = Layer::new()
        .with("d/f", b'0', "", |h| h.set_mode(0o4711))
        .file("e", b"deep");
    let image = fixture
        .layers(&[
            lower,
            Layer::new().link("g", "d/f").link("h", "e").link("i", "h"),
        ])
        .unwrap();
    let seen = fixture.in_overlay(
        &image,
        "stat -c '%a %h' d/f g; cat i; [ h -ef i ] && [ e -ef h ] && [ d/f -ef g ] && echo same",
    );
    assert_eq!(seen, "4711 2\n4711 2\ndeepsame\n");
    let gone = [
        Layer::new().file("f", b""),
        Layer::new().file(".wh.f", b"").link("g", "f"),
    ];
    assert!(
        fixture
            .layers(&gone)
            .unwrap_err()
            .to_string()
            .contains("is removed")
    );
}

#[test]
fn a_hundred_and_twenty_seven_layers_fit_one_mount() {
    let layers: Vec<_> = (0..127)
        .map(|i| {
            Layer::new()
                .file(&format!("f{i}"), b"")
                .file("top", format!("{i}").as_bytes())
        })
        .collect();
    let fixture = Fixture::new();
    let image = fixture.layers(&layers).unwrap();
    assert_eq!(
        fixture.in_overlay(&image, "ls | wc -l; cat top"),
        "128\n126"
    );
    let more: Vec<_> = (0..128)
        .map(|i| Layer::new().file(&format!("f{i}"), b""))
        .collect();
    assert!(
        fixture
            .layers(&more)
            .unwrap_err()
            .to_string()
            .contains("128 layers")
    );
}

#[test]
fn users_are_looked_up_through_the_layers() {
    let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:10:20::/app:/bin/sh\n";
    let group = b"wheel:x:30:app\n";
    let base = || {
        Layer::new()
            .file("etc/passwd", passwd)
            .file("etc/group", group)
    };
    let secret = format!("/{}", "../".repeat(20));
    let app = Ok((10, 20, vec![20, 30], "/app".to_owned()));
    let none = Err("there is no user \"app\"");
    let unreadable = Err("cannot read /etc/passwd");
    for (what, layers, want) in [
        ("plain", vec![base()], app.clone()),
        (
            "below",
            vec![base(), Layer::new().file("etc/other", b"")],
            app.clone(),
        ),
        (
            "above wins",
            vec![Layer::new().file("etc/passwd", b"app:x:1:1::/:\n"), base()],
            app.clone(),
        ),
        (
            "removed",
            vec![base(), Layer::new().file("etc/.wh.passwd", b"")],
            none.clone(),
        ),
        (
            "opaque",
            vec![base(), Layer::new().file("etc/.wh..wh..opq", b"")],
            none.clone(),
        ),
        (
            "directory removed",
            vec![base(), Layer::new().file(".wh.etc", b"")],
            none.clone(),
        ),
        (
            "absolute link",
            vec![
                base(),
                Layer::new()
                    .file("data/p", passwd)
                    .symlink("etc/passwd", "/data/p"),
            ],
            app.clone(),
        ),
        (
            "relative link across layers",
            vec![
                base().file("data/p", passwd),
                Layer::new().symlink("etc/passwd", "../data/./p"),
            ],
            app.clone(),
        ),
        (
            "link to a directory",
            vec![
                Layer::new()
                    .file("real/passwd", passwd)
                    .file("real/group", group),
                Layer::new().symlink("etc", "real"),
            ],
            app.clone(),
        ),
        (
            "a link to the host's file finds none",
            vec![
                base(),
                Layer::new().symlink("etc/passwd", &format!("{secret}proc/self/mounts")),
            ],
            none.clone(),
        ),
        (
            "circle",
            vec![base(), Layer::new().symlink("etc/passwd", "passwd")],
            unreadable.clone(),
        ),
        (
            "a pipe does not block",
            vec![base(), Layer::new().with("etc/passwd", b'6', "", |_| ())],
            unreadable.clone(),
        ),
        (
            "a directory",
            vec![base(), Layer::new().dir("etc/passwd")],
            unreadable.clone(),
        ),
    ] {
        let fixture = Fixture::new();
        let image = fixture.layers(&layers).unwrap();
        match (fixture.store.user(&image, "app"), want) {
            (Ok(user), Ok(want)) => {
                assert_eq!((user.uid, user.gid, user.groups, user.home), want, "{what}")
            }
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{what}: {error}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}
