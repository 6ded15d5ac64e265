#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod files;

use super::*;
use crate::env::Environment;
use cofferdam_model::cri::Mount;
use cofferdam_model::pod::Container;
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
    Fixture { _dir: dir, root, dirs }
}

fn prepare(fixture: &Fixture, volume: Value) -> Result<PodVolumes, VolumeError> {
    let mut volume = volume;
    volume["name"] = json!("v");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u1"}, "spec": {"volumes": [volume]}})).unwrap();
    make(fixture, &pod, true)
}

fn make(fixture: &Fixture, pod: &Pod, able: bool) -> Result<PodVolumes, VolumeError> {
    let given = Given {
        objects: &objects(),
        dirs: &fixture.dirs,
        machine: &Machine {
            cpu_millis: 2000,
            memory: 8 << 30,
            ..Machine::default()
        },
        memory_limit: 1 << 20,
        features: &BTreeMap::from([("recursive_read_only_mounts".to_owned(), able)]),
    };
    PodVolumes::prepare(pod, given)
}

fn mount(volumes: &PodVolumes, mount: Value) -> Result<Mount, VolumeError> {
    let mut mount = mount;
    mount["name"] = json!("v");
    let privileged = mount["mountPropagation"] == "Bidirectional" && mount["as"] != "nobody";
    let container: Container =
        serde_json::from_value(json!({"name": "c", "volumeMounts": [mount], "securityContext": {"privileged": privileged}})).unwrap();
    let env = Environment {
        vars: vec![("POD".into(), "p-0".into()), ("UP".into(), "../..".into())],
        ..Environment::default()
    };
    volumes.mounts(&container, &env).map(|mut m| m.remove(0))
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn empty_dirs() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"emptyDir": {"sizeLimit": "1Mi"}})).unwrap();
    assert!(volumes.warnings.is_empty() && volumes.over_limit().is_none());
    let found = mount(&volumes, json!({"mountPath": "m", "readOnly": true})).unwrap();
    let path = fixture.dirs.volumes.join("u1/volumes/v");
    assert_eq!(
        found,
        Mount {
            container_path: "/m".into(),
            host_path: path.clone(),
            readonly: true,
            ..Mount::default()
        }
    );
    std::fs::write(path.join("f"), vec![1; 2 << 20]).unwrap();
    assert_eq!(
        volumes.over_limit().unwrap(),
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
    );
    std::fs::remove_file(path.join("f")).unwrap();
    assert_eq!(mode(&path), 0o777);
    assert_eq!(mode(&fixture.dirs.volumes.join("u1")), 0o700);
    let again = prepare(&fixture, json!({})).unwrap_err();
    assert!(again.0.contains("is there already"), "{again}");
    assert!(path.exists(), "the first pod's volumes are left alone");
    volumes.remove().unwrap();
    volumes.remove().unwrap();
}

#[test]
fn memory_volumes() {
    let container = |limits: Value| json!([{"name": "c", "resources": {"limits": limits}}]);
    let two = json!([{"name": "c", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}, {"name": "d", "resources": {"requests": {"hugepages-1Gi": "1Gi"}}}]);
    let none = || json!([]);
    let huge = |size: &str| container(json!({format!("hugepages-{size}"): "2Gi"}));
    let no_request =
        |medium: &str| format!("medium {medium}: hugePages storage requested, but there is no resource request for huge pages");
    let rows = [
        (
            "its own limit",
            json!({"medium": "Memory", "sizeLimit": "512Ki"}),
            none(),
            1 << 20,
            Ok((512 << 10, None)),
        ),
        (
            "the pod's",
            json!({"medium": "Memory", "sizeLimit": "2Mi"}),
            none(),
            1 << 20,
            Ok((1 << 20, None)),
        ),
        ("none of its own", json!({"medium": "Memory"}), none(), 1 << 20, Ok((1 << 20, None))),
        ("the machine's", json!({"medium": "Memory"}), none(), 0, Ok((8 << 30, None))),
        (
            "more than the machine has",
            json!({"medium": "Memory", "sizeLimit": "9Gi"}),
            none(),
            0,
            Ok((8 << 30, None)),
        ),
        ("huge pages", json!({"medium": "HugePages"}), huge("2Mi"), 0, Ok((0, Some(2 << 20)))),
        (
            "of a size",
            json!({"medium": "HugePages-1Gi"}),
            two.clone(),
            0,
            Ok((0, Some(1 << 30))),
        ),
        (
            "of which size?",
            json!({"medium": "HugePages"}),
            two,
            0,
            Err("medium: HugePages can't be used if container requests multiple huge page sizes".into()),
        ),
        (
            "that nobody asked for",
            json!({"medium": "HugePages"}),
            none(),
            0,
            Err(no_request("HugePages")),
        ),
        (
            "of another size",
            json!({"medium": "HugePages-1Gi"}),
            huge("2Mi"),
            0,
            Err(no_request("HugePages-1Gi")),
        ),
        (
            "of no size",
            json!({"medium": "HugePages-x"}),
            huge("2Mi"),
            0,
            Err("unknown storage medium \"HugePages-x\"; write HugePages or HugePages-2Mi".into()),
        ),
        (
            "unknown",
            json!({"medium": "x"}),
            none(),
            0,
            Err("unknown storage medium \"x\"".into()),
        ),
        (
            "negative",
            json!({"sizeLimit": "-1"}),
            none(),
            0,
            Err("sizeLimit must not be negative".into()),
        ),
    ];
    for (what, source, containers, memory_limit, expected) in rows {
        let fixture = fixture();
        let pod = json!({"metadata": {"name": "p", "uid": "u1"}, "spec": {"volumes": [{"name": "v", "emptyDir": source}], "containers": containers, "securityContext": {"fsGroup": 7}}});
        let machine = Machine {
            memory: 8 << 30,
            ..Machine::default()
        };
        let given = Given {
            objects: &objects(),
            dirs: &fixture.dirs,
            machine: &machine,
            memory_limit,
            features: &BTreeMap::new(),
        };
        let found = PodVolumes::prepare(&serde_json::from_value(pod).unwrap(), given)
            .map(|volumes| mount(&volumes, json!({"mountPath": "/m", "subPath": "a/b"})).unwrap());
        match (found, expected) {
            (Ok(found), Ok((limit, size))) => {
                assert_eq!(
                    (found.tmpfs, found.huge_page_size, found.group),
                    (Some(limit), size, Some(7)),
                    "{what}"
                );
                assert_eq!(
                    (found.host_path, found.sub_path),
                    (fixture.dirs.volumes.join("u1/volumes/v"), "a/b".into()),
                    "{what}"
                );
            }
            (Err(found), Err(expected)) => assert_eq!(found.0, format!("MountVolume.SetUp failed for volume \"v\" : {expected}"), "{what}"),
            (found, _) => panic!("{what}: {found:?}"),
        }
    }
}

#[test]
fn images_are_mounted_by_the_engine() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"image": {"reference": "r:1"}})).unwrap();
    let found = mount(&volumes, json!({"mountPath": "/m", "subPath": "etc"})).unwrap();
    let expected = Mount {
        container_path: "/m".into(),
        image: Some("r:1".into()),
        image_sub_path: "etc".into(),
        readonly: true,
        ..Mount::default()
    };
    assert_eq!(found, expected);
    volumes.remove().unwrap();
    let err = prepare(&fixture, json!({"image": {}})).unwrap_err();
    assert!(err.0.ends_with("image volume has no reference; name an image"), "{err}");
}

#[test]
fn a_volume_has_one_source() {
    let err = prepare(&fixture(), json!({"emptyDir": {}, "hostPath": {"path": "/"}})).unwrap_err();
    assert!(err.0.ends_with("may not specify more than 1 volume type; keep one"), "{err}");
}

#[test]
fn mounts_are_as_asked() {
    use cofferdam_model::cri::Propagation::{Bidirectional, HostToContainer, Private};
    let rro = |why: &str| Err(format!("failed to resolve recursive read-only mode: {why}"));
    let rows = [
        ("plain", json!({}), true, Ok((false, false, Private, ""))),
        (
            "read-only",
            json!({"readOnly": true, "recursiveReadOnly": "Disabled"}),
            true,
            Ok((true, false, Private, "")),
        ),
        (
            "if possible",
            json!({"readOnly": true, "recursiveReadOnly": "IfPossible"}),
            true,
            Ok((true, true, Private, "")),
        ),
        (
            "if not possible",
            json!({"readOnly": true, "recursiveReadOnly": "IfPossible"}),
            false,
            Ok((true, false, Private, "")),
        ),
        (
            "enabled",
            json!({"readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "None"}),
            true,
            Ok((true, true, Private, "")),
        ),
        (
            "enabled where it cannot be",
            json!({"readOnly": true, "recursiveReadOnly": "Enabled"}),
            false,
            rro("volume \"v\" requested recursive read-only mode, but it is not supported by the runtime"),
        ),
        (
            "not read-only",
            json!({"recursiveReadOnly": "IfPossible"}),
            true,
            rro("volume \"v\" requested recursive read-only mode, but it is not read-only"),
        ),
        (
            "with propagation",
            json!({"readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}),
            true,
            rro("volume \"v\" requested recursive read-only mode, but it is not compatible with propagation \"HostToContainer\""),
        ),
        (
            "unknown",
            json!({"readOnly": true, "recursiveReadOnly": "x"}),
            true,
            rro("unknown recursive read-only mode \"x\""),
        ),
        (
            "from the machine",
            json!({"mountPropagation": "HostToContainer"}),
            true,
            Ok((false, false, HostToContainer, "")),
        ),
        (
            "both ways",
            json!({"mountPropagation": "Bidirectional"}),
            true,
            Ok((false, false, Bidirectional, "")),
        ),
        (
            "both ways, not privileged",
            json!({"mountPropagation": "Bidirectional", "as": "nobody"}),
            true,
            Err("Bidirectional mount propagation is available only to privileged containers".into()),
        ),
        (
            "unknown ways",
            json!({"mountPropagation": "x"}),
            true,
            Err("invalid MountPropagation mode: \"x\"".into()),
        ),
        (
            "a path within",
            json!({"subPath": "./a//b"}),
            true,
            Ok((false, false, Private, "a/b")),
        ),
        (
            "by a name",
            json!({"subPathExpr": "$(POD)/log"}),
            true,
            Ok((false, false, Private, "p-0/log")),
        ),
        (
            "by an unknown name",
            json!({"subPathExpr": "$(NONE)"}),
            true,
            Err("missing value for NONE".into()),
        ),
        (
            "a name that leads out",
            json!({"subPathExpr": "$(UP)/etc"}),
            true,
            Err("unable to provision SubPath `../../etc`: must not contain '..'".into()),
        ),
        (
            "an absolute one",
            json!({"subPath": "/etc"}),
            true,
            Err("error SubPath `/etc` must not be an absolute path".into()),
        ),
    ];
    for (what, given, able, expected) in rows {
        let fixture = fixture();
        let pod = json!({"metadata": {"name": "p", "uid": "u1"}, "spec": {"volumes": [{"name": "v"}]}});
        let volumes = make(&fixture, &serde_json::from_value(pod).unwrap(), able).unwrap();
        let mut given = given;
        given["mountPath"] = json!("/m");
        let found = mount(&volumes, given);
        let base = fixture.dirs.volumes.join("u1/volumes/v");
        let expected = expected
            .map_err(VolumeError)
            .map(|(readonly, recursive_read_only, propagation, sub_path): (_, _, _, &str)| {
                assert!(base.join(sub_path).is_dir(), "{what}: what is missing is made");
                Mount {
                    container_path: "/m".into(),
                    host_path: base.clone(),
                    readonly,
                    recursive_read_only,
                    propagation,
                    sub_path: sub_path.into(),
                    ..Mount::default()
                }
            });
        assert_eq!(found, expected, "{what}");
    }
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
        ("d", "Other", Err("Other is an invalid volume type")),
    ];
    for (path, kind, expected) in rows {
        let found = paths::host_path(&format!("{}/{path}", root.display()), kind);
        match expected {
            Ok(path) => assert_eq!(found.unwrap(), root.join(path), "{path} {kind}"),
            Err(part) => assert!(found.as_ref().is_err_and(|e| e.0.contains(part)), "{path} {kind}: {found:?}"),
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
        ("..data", Ok("..data")),
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
        let found = paths::descending(sub).and_then(|sub| paths::make_sub_path(&base, &sub));
        match expected {
            Ok(path) => assert!(found.is_ok() && base.join(path).exists(), "{sub}: {found:?}"),
            Err(part) => assert!(found.as_ref().is_err_and(|e| e.0.contains(part)), "{sub}: {found:?}"),
        }
    }
    assert_eq!(mode(&base.join("new/deep")), 0o2770, "made with the volume's mode");
    assert!(!Path::new("/etc/new").exists());
    assert_eq!(base.join("new/deep").metadata().unwrap().uid(), base.metadata().unwrap().uid());
}

#[test]
fn unknown_volume() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({})).unwrap();
    let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [{"name": "w", "mountPath": "/m"}]})).unwrap();
    assert_eq!(
        volumes.mounts(&container, &Environment::default()).unwrap_err().0,
        "cannot find volume \"w\" to mount into container \"c\""
    );
}

#[test]
fn a_termination_file_is_new_each_attempt() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({})).unwrap();
    let (first, second) = (volumes.termination_file("c", 0).unwrap(), volumes.termination_file("c", 1).unwrap());
    assert_ne!(first, second);
    assert_eq!(mode(&first), 0o666);
    assert!(volumes.termination_file("../c", 0).is_err());
}

#[test]
fn what_a_pod_made_too_deep_is_removed() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"emptyDir": {}})).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = open(fixture.dirs.volumes.join("u1/volumes/v"), flags, Mode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    // A stack and descriptors as a worker may have, which a recursion of a level a directory exhausts.
    let remove = move || volumes.remove().map_err(|err| err.to_string());
    let removed = std::thread::Builder::new().stack_size(256 * 1024).spawn(remove).unwrap().join().unwrap();
    removed.unwrap();
    assert!(!fixture.dirs.volumes.join("u1").exists());
}
