#![allow(clippy::unwrap_used)]
use super::*;

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        process: Process {
            args: strings(&["sh"]),
            ..Process::default()
        },
        rootfs: "rootfs".into(),
        network: Namespace::Join("/proc/7/ns/net".into()),
        ipc: Namespace::Host,
        cgroup: Namespace::Host,
        ..ContainerSpec::default()
    }
}

#[test]
fn only_a_privileged_container_sees_what_is_masked() {
    let plain = container_json(&spec());
    assert_eq!(plain["linux"]["resources"]["devices"][0]["allow"], false);
    assert!(plain["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    let privileged = container_json(&ContainerSpec {
        privileged: true,
        ..spec()
    });
    assert!(privileged["linux"].get("maskedPaths").is_none());
    // Devices are asked for apart: a handler may give a privileged container none.
    assert_eq!(privileged["linux"]["resources"]["devices"][0]["allow"], false);
    let kvm = SpecDevice {
        path: "/dev/kvm".into(),
        kind: 'c',
        major: 10,
        minor: 232,
        mode: 0o660,
        uid: 0,
        gid: 104,
    };
    let all = container_json(&ContainerSpec {
        all_devices: true,
        devices: vec![kvm],
        ..spec()
    });
    assert_eq!(all["linux"]["resources"]["devices"][0]["allow"], true);
    let wanted = json!({"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232, "fileMode": 432, "uid": 0, "gid": 104});
    assert_eq!(all["linux"]["devices"][0], wanted);
}

#[test]
fn a_host_namespace_is_not_listed_and_a_joined_one_has_its_path() {
    let value = container_json(&spec());
    let list = value["linux"]["namespaces"].as_array().unwrap();
    assert!(list.contains(&json!({"type": "network", "path": "/proc/7/ns/net"})));
    assert!(!list.iter().any(|n| n["type"] == "ipc" || n["type"] == "cgroup"));
    let value = container_json(&ContainerSpec {
        cgroup: Namespace::New,
        ..spec()
    });
    assert!(
        value["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!({"type": "cgroup"}))
    );
}

#[test]
fn a_users_mount_replaces_a_standard_one_and_parents_come_first() {
    let mounts = vec![
        SpecMount::bind("/a", "/data/in/deep", false),
        SpecMount::bind("/b", "/data", true),
        SpecMount::bind("/c", "/dev/shm", false),
    ];
    let value = container_json(&ContainerSpec { mounts, ..spec() });
    let targets: Vec<_> = value["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["destination"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(targets.iter().filter(|t| *t == "/dev/shm").count(), 1);
    let at = |t: &str| targets.iter().position(|x| x == t).unwrap();
    assert!(at("/data") < at("/data/in/deep"));
}

#[test]
fn of_equal_variables_the_last_wins_in_the_first_place() {
    let env: Vec<(String, String)> = [("A", "1"), ("B", "2"), ("A", "3")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec();
    assert_eq!(environment(&env), ["A=3", "B=2"]);
}

#[test]
fn only_what_is_asked_for_unmasks_proc() {
    let unmasked = container_json(&ContainerSpec {
        unmasked_proc: true,
        ..spec()
    });
    assert!(unmasked["linux"].get("maskedPaths").is_none() && unmasked["linux"].get("readonlyPaths").is_none());
    let sys = unmasked["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["destination"] == "/sys")
        .unwrap();
    assert!(sys["options"].as_array().unwrap().contains(&json!("ro")), "only /proc is meant");
}

#[test]
fn a_user_namespace_comes_with_its_ids() {
    let map = Some(IdMap {
        host: 65_536,
        size: 65_536,
    });
    let value = container_json(&ContainerSpec {
        user_namespace: Some("/run/p/userns".into()),
        id_map: map,
        ..spec()
    });
    let wanted = json!({"type": "user", "path": "/run/p/userns"});
    assert!(value["linux"]["namespaces"].as_array().unwrap().contains(&wanted));
    for ids in ["uidMappings", "gidMappings"] {
        assert_eq!(value["linux"][ids], json!([{"containerID": 0, "hostID": 65_536, "size": 65_536}]));
    }
}

#[test]
fn volumes_say_how_they_propagate_and_the_root_follows() {
    use Propagation::{Bidirectional, HostToContainer, Private};
    let rows = [
        (false, false, Private, "rbind rprivate rw", None),
        (true, true, Private, "rbind rprivate ro rro", None),
        (false, true, Private, "rbind rprivate rw", None),
        (true, false, HostToContainer, "rbind rslave ro", Some("slave")),
        (false, false, Bidirectional, "rbind rshared rw", Some("shared")),
    ];
    for (readonly, recursive, propagation, options, root) in rows {
        let mount = SpecMount::volume("/a", "/b", readonly, recursive, propagation);
        assert_eq!(mount.options.join(" "), options);
        let with = ContainerSpec {
            mounts: vec![mount],
            ..spec()
        };
        assert_eq!(with.propagates(), root.is_some());
        assert_eq!(
            container_json(&with)["linux"].get("rootfsPropagation").and_then(Value::as_str),
            root
        );
    }
}

#[test]
fn devices_that_are_asked_for_are_allowed_by_name() {
    let fuse = SpecDeviceRule {
        kind: 'c',
        major: 10,
        minor: 229,
        access: "rw".into(),
    };
    let value = container_json(&ContainerSpec {
        device_rules: vec![fuse],
        ..spec()
    });
    assert_eq!(
        value["linux"]["resources"]["devices"][1],
        json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"})
    );
}

#[test]
fn hooks_are_told_apart_by_their_moment() {
    let hook = |moment: &str, timeout| Hook {
        moment: moment.into(),
        path: "/h".into(),
        timeout,
        ..Hook::default()
    };
    let value = container_json(&ContainerSpec {
        hooks: vec![hook("createRuntime", Some(5)), hook("poststop", None)],
        ..spec()
    });
    assert_eq!(value["hooks"]["createRuntime"][0]["timeout"], 5);
    assert!(value["hooks"]["poststop"][0].get("timeout").is_none());
}

#[test]
fn confinement_is_written_where_the_specification_has_it() {
    let process = Process {
        apparmor: Some("strict".into()),
        selinux: Some("u:r:t:s0".into()),
        ..spec().process
    };
    let value = container_json(&ContainerSpec {
        process,
        seccomp: Some(json!({"defaultAction": "SCMP_ACT_ERRNO"})),
        mount_label: Some("u:o:f:s0".into()),
        ..spec()
    });
    assert_eq!(
        (&value["process"]["apparmorProfile"], &value["process"]["selinuxLabel"]),
        (&json!("strict"), &json!("u:r:t:s0"))
    );
    assert_eq!(
        (&value["linux"]["mountLabel"], &value["linux"]["seccomp"]["defaultAction"]),
        (&json!("u:o:f:s0"), &json!("SCMP_ACT_ERRNO"))
    );
}

#[test]
fn pages_of_a_volume_are_the_pods_own() {
    let ids = Some(crate::userns::IdRange::of(65_536));
    assert_eq!(memory_options(0, Some(3000), None), "mode=2777,gid=3000");
    assert_eq!(memory_options(9, Some(3000), ids), "mode=2777,size=9,uid=65536,gid=68536");
    assert_eq!(hugetlbfs_options(2 << 20, 0, None, None), "pagesize=2097152,mode=0777");
    assert_eq!(
        hugetlbfs_options(2 << 20, 4 << 20, None, ids),
        "pagesize=2097152,mode=0777,size=4194304,uid=65536,gid=65536"
    );
}

#[test]
fn a_mount_target_is_absolute_and_plain() {
    for (path, ok) in [
        ("/data", true),
        ("data", false),
        ("/", false),
        ("/a/../etc", false),
        ("/a/./b", true),
    ] {
        assert_eq!(is_mount_target(Path::new(path)), ok, "{path}");
    }
}
