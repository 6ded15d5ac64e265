#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn objects() -> Objects {
    let config_maps = json!([{"metadata": {"name": "cm"}, "data": {"a": "1", "b": "2"}, "binaryData": {"bin": "/w=="}}, {"metadata": {"name": "evil"}, "data": {"../x": "1"}}]);
    let secrets = json!([{"metadata": {"name": "s"}, "data": {"k": "aHVudGVyMg=="}}]);
    Objects::new(
        serde_json::from_value(config_maps).unwrap(),
        serde_json::from_value(secrets).unwrap(),
    )
}

struct Fixture {
    _dir: tempfile::TempDir,
    root: PathBuf,
    dirs: Dirs,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let dirs = Dirs {
        volumes: root.join("v"),
        secrets: root.join("s"),
        logs: root.join("l"),
    };
    Fixture {
        _dir: dir,
        root,
        dirs,
    }
}

fn prepare(fixture: &Fixture, volume: Value) -> Result<PodVolumes, VolumeError> {
    let mut volume = volume;
    volume["name"] = json!("v");
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p", "uid": "u1"}, "spec": {"volumes": [volume]}}),
    )
    .unwrap();
    PodVolumes::prepare(&pod, &objects(), &fixture.dirs, 1 << 20)
}

fn mount(volumes: &PodVolumes, mount: Value) -> Result<Mount, VolumeError> {
    let mut mount = mount;
    mount["name"] = json!("v");
    let container: Container =
        serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
    volumes.mounts(&container).map(|mut m| m.remove(0))
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// Every file under `dir` as `path=text mode`.
fn listing(dir: &Path, prefix: &str) -> Vec<String> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    entries.sort_by_key(|e| e.file_name());
    let mut out = Vec::new();
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            out.extend(listing(&entry.path(), &format!("{name}/")));
        } else {
            out.push(format!(
                "{name}={} {:o}",
                std::fs::read(entry.path()).unwrap().escape_ascii(),
                mode(&entry.path())
            ));
        }
    }
    out
}

#[test]
fn files_of_config_maps_and_secrets() {
    let cm = |rest: Value| {
        let mut source = rest;
        source["name"] = json!(source.get("name").and_then(Value::as_str).unwrap_or("cm"));
        json!({"configMap": source})
    };
    let secret = |rest: Value| {
        let mut source = rest;
        source["secretName"] = json!(
            source
                .get("secretName")
                .and_then(Value::as_str)
                .unwrap_or("s")
        );
        json!({"secret": source})
    };
    type Row<'a> = (&'a str, Value, Result<&'a [&'a str], &'a str>);
    let rows: Vec<Row<'_>> = vec![
        (
            "all keys",
            cm(json!({})),
            Ok(&["a=1 644", "b=2 644", "bin=\\xff 644"]),
        ),
        (
            "default mode",
            cm(json!({"defaultMode": 0o400})),
            Ok(&["a=1 400", "b=2 400", "bin=\\xff 400"]),
        ),
        (
            "items",
            cm(
                json!({"items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o600}]}),
            ),
            Ok(&["x/y=1 644", "z=2 600"]),
        ),
        (
            "the later item of a path stands",
            cm(json!({"items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x"}]})),
            Ok(&["x=2 644"]),
        ),
        (
            "missing",
            cm(json!({"name": "none"})),
            Err("configmap \"none\" not found"),
        ),
        (
            "optional and missing",
            cm(json!({"name": "none", "optional": true})),
            Ok(&[]),
        ),
        (
            "missing key",
            cm(json!({"items": [{"key": "q", "path": "x"}]})),
            Err("configmap references non-existent config key: q"),
        ),
        (
            "optional key",
            cm(json!({"optional": true, "items": [{"key": "q", "path": "x"}]})),
            Ok(&[]),
        ),
        (
            "path that leaves",
            cm(json!({"items": [{"key": "a", "path": "x/../../y"}]})),
            Err("path \"x/../../y\" must not contain '..'"),
        ),
        (
            "absolute path",
            cm(json!({"items": [{"key": "a", "path": "/y"}]})),
            Err("path \"/y\" must be a relative path"),
        ),
        (
            "key that leaves",
            cm(json!({"name": "evil"})),
            Err(
                "key \"../x\" cannot be used as a file name: use 1 to 253 letters, digits, '-', '_' or '.', not beginning with '..'",
            ),
        ),
        (
            "mode",
            cm(json!({"defaultMode": 0o1777})),
            Err("the mode of key \"a\" must be between 0 and 0777 (octal)"),
        ),
        ("secret", secret(json!({})), Ok(&["k=hunter2 644"])),
        (
            "secret mode",
            secret(json!({"defaultMode": 0o400})),
            Ok(&["k=hunter2 400"]),
        ),
        (
            "missing secret",
            secret(json!({"secretName": "none"})),
            Err("secret \"none\" not found"),
        ),
        (
            "missing secret key",
            secret(json!({"items": [{"key": "q", "path": "x"}]})),
            Err("references non-existent secret key: q"),
        ),
    ];
    for (what, volume, expected) in rows {
        let fixture = fixture();
        match prepare(&fixture, volume) {
            Ok(volumes) => {
                let mount = mount(&volumes, json!({"mountPath": "/m"})).unwrap();
                assert!(mount.readonly, "{what}: always read-only");
                assert_eq!(
                    listing(&mount.host_path, ""),
                    expected.unwrap_or_else(|e| panic!("{what}: expected {e}")),
                    "{what}"
                );
                volumes.remove().unwrap();
            }
            Err(err) => {
                assert_eq!(
                    err.0,
                    format!(
                        "MountVolume.SetUp failed for volume \"v\" : {}",
                        expected.unwrap_err()
                    ),
                    "{what}"
                );
            }
        }
        assert!(
            !fixture.dirs.volumes.join("u1").exists(),
            "{what}: nothing stays"
        );
        assert!(
            !fixture.dirs.secrets.join("u1").exists(),
            "{what}: nothing stays"
        );
    }
}

#[test]
fn secrets_stay_in_their_own_root_for_the_owner_only() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"secret": {"secretName": "s"}})).unwrap();
    let mount = mount(&volumes, json!({"mountPath": "/m"})).unwrap();
    assert_eq!(mount.host_path, fixture.dirs.secrets.join("u1/v"));
    assert_eq!(mode(&fixture.dirs.secrets.join("u1")), 0o700);
}

#[test]
fn empty_dirs() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"emptyDir": {"sizeLimit": "1Mi"}})).unwrap();
    assert_eq!(volumes.warnings.len(), 1, "an unenforced limit is told");
    let found = mount(&volumes, json!({"mountPath": "m", "readOnly": true})).unwrap();
    let path = fixture.dirs.volumes.join("u1/volumes/v");
    assert_eq!(
        found,
        Mount {
            container_path: "/m".into(),
            host_path: path.clone(),
            readonly: true,
            tmpfs: None
        }
    );
    assert_eq!(mode(&path), 0o777);
    assert_eq!(mode(&fixture.dirs.volumes.join("u1")), 0o700);
    let again = prepare(&fixture, json!({})).unwrap_err();
    assert!(again.0.contains("is there already"), "{again}");
    assert!(path.exists(), "the first pod's volumes are left alone");
    volumes.remove().unwrap();
    volumes.remove().unwrap();
}

#[test]
fn memory_is_bounded_by_the_lower_limit() {
    for (limit, expected) in [
        (json!("512Ki"), 512 << 10),
        (json!("2Mi"), 1 << 20),
        (Value::Null, 1 << 20),
    ] {
        let fixture = fixture();
        let volumes = prepare(
            &fixture,
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": limit}}),
        )
        .unwrap();
        assert_eq!(
            mount(&volumes, json!({"mountPath": "/m"})).unwrap().tmpfs,
            Some(expected)
        );
        assert!(
            mount(&volumes, json!({"mountPath": "/m", "subPath": "x"}))
                .unwrap_err()
                .0
                .contains("mount the whole volume")
        );
    }
    let err = prepare(&fixture(), json!({"emptyDir": {"medium": "HugePages"}})).unwrap_err();
    assert!(
        err.0
            .ends_with("unknown storage medium \"HugePages\"; use \"\" or Memory"),
        "{err}"
    );
}

#[test]
fn host_paths() {
    let fixture = fixture();
    let root = &fixture.root;
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("f"), "").unwrap();
    symlink("d", root.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("sock")).unwrap();
    let rows: &[(&str, &str, Result<&str, &str>)] = &[
        ("d", "", Ok("d")),
        ("link", "", Ok("d")),
        ("d", "Directory", Ok("d")),
        ("f", "File", Ok("f")),
        ("sock", "Socket", Ok("sock")),
        ("new/deep", "DirectoryOrCreate", Ok("new/deep")),
        ("newfile", "FileOrCreate", Ok("newfile")),
        ("none", "", Err("does not exist; make it")),
        ("none", "Directory", Err("is not a directory")),
        ("f", "Directory", Err("is not a directory")),
        ("f", "DirectoryOrCreate", Err("is not a directory")),
        ("d", "File", Err("is not a file")),
        ("f", "Socket", Err("is not a socket file")),
        ("f", "CharDevice", Err("is not a character device")),
        ("f", "BlockDevice", Err("is not a block device")),
        ("absent/f", "FileOrCreate", Err("could not make")),
        ("d/../f", "", Err("must not contain '..'")),
        ("d", "Other", Err("unknown host path type \"Other\"")),
    ];
    for (path, kind, expected) in rows {
        let found = paths::host_path(&format!("{}/{path}", root.display()), kind);
        match expected {
            Ok(path) => assert_eq!(found.unwrap(), root.join(path), "{path} {kind}"),
            Err(part) => assert!(
                found.as_ref().is_err_and(|e| e.0.contains(part)),
                "{path} {kind}: {found:?}"
            ),
        }
    }
    assert!(paths::host_path("relative", "").is_err());
    assert_eq!(mode(&root.join("new/deep")), 0o755);
}

#[test]
fn sub_paths_stay_within() {
    let fixture = fixture();
    let base = fixture.root.join("vol");
    std::fs::create_dir_all(base.join("d/e")).unwrap();
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o2770)).unwrap();
    std::fs::write(base.join("f"), "").unwrap();
    symlink("d", base.join("inner")).unwrap();
    symlink("..", base.join("up")).unwrap();
    symlink("/etc", base.join("abs")).unwrap();
    symlink("../../../etc", base.join("d/far")).unwrap();
    symlink("/proc/self/root", base.join("magic")).unwrap();
    let rows: &[(&str, Result<&str, &str>)] = &[
        ("d/e", Ok("d/e")),
        ("f", Ok("f")),
        ("./d", Ok("d")),
        ("inner/e", Ok("d/e")),
        ("new/deep", Ok("new/deep")),
        ("inner/made", Ok("d/made")),
        ("up", Err("leads out of the volume")),
        ("up/etc", Err("leads out of the volume")),
        ("abs", Err("leads out of the volume")),
        ("abs/new", Err("leads out of the volume")),
        ("d/far/passwd", Err("leads out of the volume")),
        ("magic/etc", Err("leads out of the volume")),
        ("../vol", Err("must not contain '..'")),
        ("d/../../x", Err("must not contain '..'")),
        ("/etc", Err("must be a relative path")),
        ("f/x", Err("Not a directory")),
    ];
    for (sub, expected) in rows {
        let found = paths::sub_path(&base, sub);
        match expected {
            Ok(path) => assert_eq!(found.unwrap(), base.join(path), "{sub}"),
            Err(part) => assert!(
                found.as_ref().is_err_and(|e| e.0.contains(part)),
                "{sub}: {found:?}"
            ),
        }
    }
    assert_eq!(
        mode(&base.join("new/deep")),
        0o2770,
        "made with the volume's mode"
    );
    assert!(!Path::new("/etc/new").exists());
    assert_eq!(
        base.join("new/deep").metadata().unwrap().uid(),
        base.metadata().unwrap().uid()
    );
}

#[test]
fn unknown_volume() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({})).unwrap();
    let container: Container = serde_json::from_value(
        json!({"name": "c", "volumeMounts": [{"name": "w", "mountPath": "/m"}]}),
    )
    .unwrap();
    assert_eq!(
        volumes.mounts(&container).unwrap_err().0,
        "cannot find volume \"w\" to mount into container \"c\""
    );
}

#[test]
fn a_termination_file_is_new_each_attempt() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({})).unwrap();
    let (first, second) = (
        volumes.termination_file("c", 0).unwrap(),
        volumes.termination_file("c", 1).unwrap(),
    );
    assert_ne!(first, second);
    assert_eq!(mode(&first), 0o666);
    assert!(volumes.termination_file("../c", 0).is_err());
}
