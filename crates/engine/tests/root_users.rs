//! Pods with user namespaces: ids inside are not those of the machine; files keep theirs. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{Mount, NamespaceMode};
use common::{SHARED, World, build, volume};
use std::os::unix::fs::MetadataExt;

#[test]
fn ids_are_the_pods_own_and_files_keep_theirs() {
    let world = World::new();
    build(&world.engine, "test/data:1", &[("/data/file", "of an image\n")]);
    let vol = world.path("vol");
    std::fs::create_dir_all(vol.join("sub")).unwrap();
    std::fs::write(vol.join("root"), "").unwrap();
    std::fs::write(vol.join("worker"), "").unwrap();
    std::os::unix::fs::chown(vol.join("worker"), Some(1000), Some(1000)).unwrap();
    for (handler, network) in SHARED.into_iter().flat_map(|h| [(h, NamespaceMode::Pod)]) {
        let users = |c: &mut cofferdam_model::cri::SandboxConfig| (c.user_namespace, c.network) = (true, network);
        let (one, two) = (world.pod_with(handler, users), world.pod_with(handler, users));
        let map = |pod| world.good(pod, "cat /proc/self/uid_map", |_| {}).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(map(&one)[0], "0");
        assert_eq!(map(&one)[2], "65536");
        assert_ne!(map(&one)[1], map(&two)[1], "{handler}: no two pods have the same ids");

        let mounts = vec![
            volume(&vol, "/v"),
            Mount { sub_path: "sub".into(), ..volume(&vol, "/s") },
            Mount { tmpfs: Some(0), ..volume("/memory", "/m") },
            Mount { image: Some("test/data:1".into()), ..volume("", "/i") },
        ];
        let script = "stat -c '%u %n' / /etc/passwd /v/root /v/worker /i/data/file /m /etc/hosts /dev/shm && touch /made /v/made /s/made /m/made /dev/shm/made && cat /i/data/file";
        let out = world.good(&one, script, |c| c.mounts = mounts.clone());
        let wanted = "0 /\n0 /etc/passwd\n0 /v/root\n1000 /v/worker\n0 /i/data/file\n0 /m\n0 /etc/hosts\n0 /dev/shm\nof an image\n";
        assert_eq!(out, wanted, "{handler}");
        for made in ["made", "sub/made"] {
            assert_eq!(std::fs::metadata(vol.join(made)).unwrap().uid(), 0, "the pod's root is root of its volumes");
            std::fs::remove_file(vol.join(made)).unwrap();
        }
        // What only a user namespace gives: root of its own network, and of nothing else.
        let id = world.start(&one, "sleep 1000", |c| c.security.add_capabilities = vec!["NET_ADMIN".into(), "SYS_ADMIN".into()]);
        let status = world.engine.container_status(&id).unwrap();
        let on_machine = std::fs::metadata(format!("/proc/{}", status.pid.unwrap())).unwrap().uid();
        assert_eq!(on_machine.to_string(), map(&one)[1]);
        let (code, out) = world.exec(&id, "ip address add 10.9.8.7/32 dev lo && id -u && cat /proc/self/uid_map");
        assert!(code == 0 && out.starts_with("0\n"), "{handler}: {out}");
        let (code, _) = world.exec(&id, "echo 1 > /proc/sys/kernel/printk");
        assert_ne!(code, 0);
        let user = world.good(&one, "id -u; touch /tmp/x && stat -c %u /tmp/x", |c| c.security.run_as_user = Some(1000));
        assert_eq!(user, "1000\n1000\n");
        for pod in [one, two] {
            world.engine.remove_sandbox(&pod).unwrap();
        }
    }
    for (what, of) in [("hostNetwork", 0), ("hostPID", 1), ("hostIPC", 2)] {
        let why = world.try_pod("crun", |c| {
            c.user_namespace = true;
            *[&mut c.network, &mut c.pid, &mut c.ipc][of] = NamespaceMode::Node;
        });
        let why = why.unwrap_err().to_string();
        assert!(why.contains(what), "{why}");
    }
}

#[test]
fn containers_may_share_processes_in_a_user_namespace() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod_with(handler, |c| (c.user_namespace, c.pid) = (true, NamespaceMode::Pod));
        let first = world.start(&pod, "exec sleep 4321", |_| {});
        assert!(world.good(&pod, "ps", |_| {}).contains("sleep 4321"), "{handler}");
        assert!(world.exec(&first, "ps").1.contains("pause"), "{handler}");
    }
}
