//! Volumes on a machine where files can be given away and devices made: as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{bed, ended, pod, text, until, up};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn files_and_their_links_belong_to_the_group() {
    let bed = bed();
    let handle = bed.start(pod(json!({
        "securityContext": {"fsGroup": 4242},
        "containers": [{"name": "a", "volumeMounts": [{"name": "p", "mountPath": "/p"}, {"name": "m", "mountPath": "/m"}]}],
        "volumes": [
            {"name": "p", "projected": {"defaultMode": 0o400, "sources": [
                {"configMap": {"name": "cm"}}, {"downwardAPI": {"items": [{"path": "d/name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            {"name": "m", "emptyDir": {"medium": "Memory"}},
        ],
    })));
    until(&handle, |v| up(v, "a"));
    let config = bed.fake.config("a");
    let dir = &config.mounts[0].host_path;
    for (name, mode) in [
        ("", "2755"),
        ("..data/", "2755"),
        ("..data/d", "2755"),
        ("a", "440"),
        ("d/name", "440"),
    ] {
        let meta = dir.join(name).metadata().unwrap();
        assert_eq!(
            (meta.gid(), format!("{:o}", meta.permissions().mode() & 0o7777)),
            (4242, mode.to_owned()),
            "{name:?}"
        );
    }
    for link in ["a", "d", "..data"] {
        assert_eq!(dir.join(link).symlink_metadata().unwrap().gid(), 4242, "{link}: the link itself");
    }
    assert_eq!(config.mounts[1].group, Some(4242), "the engine gives it to the group");
    handle.stop_all(None);
    ended(&handle);
    assert!(bed.is_clean());
}

#[test]
fn devices_of_the_machine_by_their_type() {
    let bed = bed();
    let make = |name: &str, kind| {
        let path = bed.dir.path().join(name);
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), makedev(1, 3)).unwrap();
        path
    };
    let (chars, blocks) = (make("char", FileType::CharacterDevice), make("block", FileType::BlockDevice));
    for (path, kind, expected) in [
        (&chars, "CharDevice", None),
        (&blocks, "BlockDevice", None),
        (&blocks, "CharDevice", Some("is not a character device")),
        (&chars, "BlockDevice", Some("is not a block device")),
        (&chars, "File", Some("is not a file")),
    ] {
        let handle = bed.start(pod(json!({
            "containers": [{"name": "a", "volumeMounts": [{"name": "h", "mountPath": "/h"}]}],
            "volumes": [{"name": "h", "hostPath": {"path": path, "type": kind}}],
        })));
        match expected {
            None => drop(until(&handle, |v| up(v, "a"))),
            Some(part) => {
                let wanted = format!(
                    "MountVolume.SetUp failed for volume \"h\" : hostPath type check failed: {} {part}",
                    path.display()
                );
                let view = ended(&handle);
                assert_eq!(view.message, wanted, "{}", text(&view));
            }
        }
        handle.stop_all(None);
        ended(&handle);
        assert!(bed.is_clean());
    }
}
