//! Archives of the tools that people have: umoci makes an image, skopeo converts it, and what is
//! loaded is the tree that went in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Input, LoadOptions, Reference};
use common::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every file with its kind, mode, owner, time, size, link count and target or content.
fn listing(root: &Path) -> String {
    let root = root.to_str().unwrap();
    let find = format!(
        "cd {root} && find . -mindepth 1 -printf '%p %y %m %U %G %T@ %s %n %l\\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum"
    );
    let mut lines: Vec<_> = run("sh", &["-c", &find])
        .lines()
        .map(str::to_owned)
        .collect();
    for line in &mut lines {
        // Directories have sizes and counts of their file system.
        let fields: Vec<_> = line.split(' ').collect();
        if fields.get(1) == Some(&"d") {
            *line = fields[..6].join(" ");
        }
    }
    lines.join("\n")
}

/// Two layers by umoci, as an OCI layout with gzip. Returns the layout and the tree.
fn made_by_umoci(dir: &Path) -> (PathBuf, PathBuf) {
    let layout = dir.join("layout");
    let image = format!("{}:v1", layout.display());
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    let script = |bundle: &str, body: &str| {
        let bundle = dir.join(bundle);
        let bundle_text = bundle.to_str().unwrap().to_owned();
        run("umoci", &["unpack", "--image", &image, &bundle_text]);
        run(
            "sh",
            &[
                "-ec",
                &format!("cd {bundle_text}/rootfs; umask 022; {body}"),
            ],
        );
        run("umoci", &["repack", "--image", &image, &bundle_text]);
        bundle.join("rootfs")
    };
    let long = "long/".repeat(30);
    script(
        "one",
        &format!(
            "mkdir -p bin etc d/gone tmp {long}; cp /bin/true bin/t; chmod 4755 bin/t; ln bin/t bin/hard; ln -s t bin/soft; \
             echo a > d/gone/x; echo b > d/removed; echo c > {long}deep; chmod 1777 tmp; chown 1000:1001 etc; mkfifo d/fifo; \
             truncate -s 5M d/sparse; printf 'app:x:5:6::/home/app:/bin/sh\\n' > etc/passwd; printf 'é' > d/ünïcode; \
             touch -d 2001-02-03T04:05:06.123456789 d/old"
        ),
    );
    let rootfs = script(
        "two",
        "rm -r d/gone d/removed; echo new > d/new; rm bin/soft; mkdir bin/soft; chmod 600 etc/passwd",
    );
    run(
        "umoci",
        &[
            "config",
            "--image",
            &image,
            "--config.user",
            "app",
            "--config.env",
            "A=b=c",
            "--config.entrypoint",
            "/bin/t",
            "--config.cmd",
            "x",
            "--config.workingdir",
            "/d",
        ],
    );
    (layout, rootfs)
}

#[test]
fn what_umoci_and_skopeo_write_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, _) = made_by_umoci(dir.path());
    // What umoci itself makes of the whole image is the truth to compare with: its repacked layers
    // keep seconds only, as the bundle before did not.
    let source = format!("oci:{}:v1", layout.display());
    let truth = dir.path().join("truth");
    run(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:v1", layout.display()),
            truth.to_str().unwrap(),
        ],
    );
    let want = listing(&truth.join("rootfs"));
    assert!(
        want.contains("./bin/hard f 4755 0 0") && want.contains("./etc d 755 1000 1001"),
        "{want}"
    );

    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let copy = |arguments: &[&str]| {
        run(
            "skopeo",
            &[&["--insecure-policy", "copy"], arguments].concat(),
        )
    };
    copy(&[
        &source,
        &format!("docker-archive:{}:me/app:1", text("docker.tar")),
    ]);
    copy(&[
        "--dest-compress-format",
        "zstd",
        "--dest-compress",
        &source,
        &format!("oci:{}:me/app:1", text("zstd")),
    ]);
    copy(&[
        &source,
        &format!("oci-archive:{}:me/app:1", text("oci.tar")),
    ]);
    run("gzip", &["-k", &text("docker.tar")]);
    let packed = zstd::encode_all(fs::File::open(path("oci.tar")).unwrap(), 3).unwrap();
    fs::write(path("oci.tar.zst"), packed).unwrap();
    // The index of skopeo's zstd layout names blobs that really are zstd.
    let blobs = fs::read_dir(path("zstd/blobs/sha256"))
        .unwrap()
        .map(|e| fs::read(e.unwrap().path()).unwrap());
    assert_eq!(
        blobs
            .filter(|blob| blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]))
            .count(),
        2
    );

    for name in [
        "docker.tar",
        "docker.tar.gz",
        "oci.tar",
        "oci.tar.zst",
        "zstd",
    ] {
        let fixture = Fixture::new();
        let loaded = fixture
            .store
            .load(Input::Path(&path(name)), &LoadOptions::default(), &())
            .unwrap();
        assert_eq!(loaded[0].names, ["docker.io/me/app:1"], "{name}");
        let image = fixture.store.resolve_for_run("me/app:1").unwrap();
        assert_eq!(image.layers.len(), 2, "{name}");
        let merged = path(&format!("merged-{name}"));
        fixture.in_overlay(
            &image,
            &format!("cp -a --sparse=always . {}", merged.display()),
        );
        assert_eq!(listing(&merged), want, "{name}");
        let config = &image.config;
        assert_eq!(
            (
                &config.user[..],
                &config.working_dir[..],
                &config.entrypoint[..],
                &config.cmd[..]
            ),
            (
                "app",
                "/d",
                &["/bin/t".to_owned()][..],
                &["x".to_owned()][..]
            )
        );
        assert!(
            config.env.contains(&("A".into(), "b=c".into())),
            "{:?}",
            config.env
        );
        let user = fixture.store.user(&image, &config.user).unwrap();
        assert_eq!(
            (user.uid, user.gid, user.home.as_str()),
            (5, 6, "/home/app")
        );
    }

    // The same image, however it came, has the same layers, and its id is the same where no tool
    // rewrote the configuration.
    let fixture = Fixture::new();
    for name in ["docker.tar", "oci.tar", "zstd"] {
        fixture
            .store
            .load(Input::Path(&path(name)), &LoadOptions::default(), &())
            .unwrap();
    }
    assert_eq!(fixture.names_in("layers").len(), 2);

    // The layout's own name is only a tag: it is loaded under its id, and says so.
    let mut loaded = Fixture::new()
        .store
        .load(Input::Path(&layout), &LoadOptions::default(), &())
        .unwrap();
    let one = loaded.remove(0);
    assert!(
        one.names.is_empty() && one.notes[0].contains("\"v1\""),
        "{:?}",
        one.notes
    );
    let options = LoadOptions {
        name: Some(Reference::parse("example.com/x").unwrap()),
    };
    let loaded = Fixture::new()
        .store
        .load(Input::Path(&layout), &options, &())
        .unwrap();
    assert_eq!(loaded[0].names, ["example.com/x:v1"]);
}

#[test]
fn blobs_of_a_layout_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (layout, _) = made_by_umoci(dir.path());
    let blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let load = || {
        let fixture = Fixture::new();
        let result = fixture
            .store
            .load(Input::Path(&layout), &LoadOptions::default(), &());
        assert!(result.is_ok() || fixture.names_in("images").is_empty());
        result
    };
    load().unwrap();
    let (mut failures, mut unused) = (0, 0);
    for blob in &blobs {
        let good = fs::read(blob).unwrap();
        for (what, bad) in [
            ("longer", [&good[..], b"\0"].concat()),
            ("shorter", good[..good.len() - 1].to_vec()),
            ("missing", Vec::new()),
        ] {
            match what {
                "missing" => fs::remove_file(blob).unwrap(),
                _ => fs::write(blob, &bad).unwrap(),
            }
            match load() {
                Ok(_) => unused += 1,
                Err(_) => failures += 1,
            }
            fs::write(blob, &good).unwrap();
        }
    }
    load().unwrap();
    // Manifest, configuration and two layers are used; umoci leaves earlier ones behind.
    assert_eq!((failures, unused), (12, 3 * blobs.len() - 12));
}

#[test]
fn a_built_image_runs_its_busybox() {
    use cofferdam_images::{BuildFile, BuildSpec, Content};
    let fixture = Fixture::new();
    let file = |path: &str, mode, content| BuildFile {
        path: path.into(),
        mode,
        content,
    };
    let spec = BuildSpec {
        name: "cofferdam/busybox".into(),
        files: vec![
            file("/bin/busybox", 0o755, Content::File(busybox())),
            file("bin/sh", 0o777, Content::Symlink("busybox".into())),
            file(
                "etc/passwd",
                0o644,
                Content::Bytes(b"root:x:0:0::/root:/bin/sh\n".to_vec()),
            ),
            file("tmp", 0o1777, Content::Dir),
        ],
        env: vec![("PATH".into(), "/bin".into())],
        cmd: vec!["sh".into()],
        ..BuildSpec::default()
    };
    let image = fixture.store.build(&spec, &()).unwrap();
    assert_eq!(image.names, ["docker.io/cofferdam/busybox:latest"]);
    assert_eq!(
        fixture.in_overlay(
            &image,
            "chroot . /bin/sh -c 'echo $0; test -k /tmp && echo yes'"
        ),
        "/bin/sh\nyes\n"
    );
    assert_eq!(
        Fixture::new().store.build(&spec, &()).unwrap().id,
        image.id,
        "the same files give the same image"
    );
    let mode = fs::metadata(image.layers[0].join("tmp"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        (
            mode & 0o7777,
            fs::metadata(image.layers[0].join("bin/busybox"))
                .unwrap()
                .uid()
        ),
        (0o1777, 0)
    );
    for (path, mode) in [("../x", 0o644), ("/", 0o755), ("x", 0o10644)] {
        let bad = BuildSpec {
            files: vec![file(path, mode, Content::Bytes(Vec::new()))],
            ..spec.clone()
        };
        assert!(fixture.store.build(&bad, &()).is_err(), "{path}");
    }
}

/// A static busybox: where the machine's own is not, the preflight unpacks one.
fn busybox() -> std::path::PathBuf {
    let unpacked = std::path::Path::new("/usr/local/lib/cofferdam/busybox");
    if unpacked.exists() { unpacked.to_owned() } else { "/bin/busybox".into() }
}
