//! `fsGroup` on a machine where files can be given away: as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{bed, ended, pod, until, up};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn volumes_belong_to_the_group() {
    let bed = bed();
    let mounts = json!([{"name": "e", "mountPath": "/e"}, {"name": "c", "mountPath": "/c"}, {"name": "h", "mountPath": "/h"}, {"name": "e", "mountPath": "/s", "subPath": "s"}]);
    let handle = bed.start(pod(json!({
        "securityContext": {"fsGroup": 4242},
        "containers": [{"name": "a", "volumeMounts": mounts}],
        "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "cm", "defaultMode": 0o400}}, {"name": "h", "hostPath": {"path": bed.dir.path()}}],
    })));
    until(&handle, |v| up(v, "a"));
    let config = bed.fake.config("a");
    assert_eq!(config.security.supplemental_groups, [4242]);
    let look = |path: &std::path::Path| {
        let meta = path.metadata().unwrap();
        (
            meta.gid(),
            format!("{:o}", meta.permissions().mode() & 0o7777),
        )
    };
    assert_eq!(look(&config.mounts[0].host_path), (4242, "2777".into()));
    assert_eq!(
        look(&config.mounts[1].host_path.join("a")),
        (4242, "440".into())
    );
    assert_ne!(
        look(&config.mounts[2].host_path).0,
        4242,
        "a path of the machine keeps its owner"
    );
    assert_eq!(
        look(&config.mounts[3].host_path.join(&config.mounts[3].sub_path)),
        (4242, "2777".into()),
        "made within the volume"
    );
    handle.stop_all(None);
    ended(&handle);
    assert!(bed.is_clean());
}
