//! The same verbs under gVisor. Needs root and runsc.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{LinuxResources, Mount, NamespaceMode, Profile};
use common::{World, build, until, volume};
use std::io::Read;
use std::net::TcpStream;

#[test]
fn volumes_are_as_under_any_handler() {
    let world = World::new();
    build(&world.engine, "test/data:1", &[("/data/deep/file", "of an image\n")]);
    let vol = world.path("vol");
    std::fs::create_dir_all(vol.join("a/b")).unwrap();
    std::fs::write(vol.join("a/b/file"), "within\n").unwrap();
    std::os::unix::fs::symlink("/etc", vol.join("out")).unwrap();
    let pod = world.pod("runsc");
    let sub = |path: &str| Mount { sub_path: path.into(), ..volume(&vol, "/v") };
    assert_eq!(world.good(&pod, "cat /v/file", |c| c.mounts = vec![sub("a/b")]), "within\n");
    world.good(&pod, "touch /v/made", |c| c.mounts = vec![sub("new")]);
    assert!(vol.join("new/made").exists());
    let led_out = world.create(&pod, "true", |c| c.mounts = vec![sub("out")]).and_then(|id| world.engine.start_container(&id));
    let why = led_out.unwrap_err().to_string();
    assert!(why.contains("leads out of"), "{why}");
    let image = |sub: &str| Mount { image: Some("test/data:1".into()), image_sub_path: sub.into(), ..volume("", "/i") };
    assert_eq!(world.good(&pod, "cat /i/data/deep/file; touch /i/x 2>/dev/null && echo written; true", |c| c.mounts = vec![image("")]), "of an image\n");
    assert_eq!(world.good(&pod, "cat /i/file", |c| c.mounts = vec![image("data/deep")]), "of an image\n");
    let why = world.create(&pod, "true", |c| c.mounts = vec![image("none")]).unwrap_err().to_string();
    assert!(why.contains("has no such path"), "{why}");
    let memory = |path: &str| Mount { tmpfs: Some(1 << 20), sub_path: path.into(), ..volume("/memory", "/m") };
    world.good(&pod, "echo there > /m/file", |c| c.mounts = vec![memory("x")]);
    assert_eq!(world.good(&pod, "cat /m/x/file", |c| c.mounts = vec![memory("")]), "there\n");
}

#[test]
fn a_pod_is_measured_changed_and_dialled() {
    let world = World::new();
    let pod = world.pod_with("runsc", |c| {
        c.network = NamespaceMode::Pod;
        c.resources.memory_limit = 1 << 30;
    });
    world.start(&pod, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 1000", |c| c.name = "busy".into());
    world.start(&pod, "while true; do echo hello | nc -l -p 8080; done", |c| c.name = "server".into());
    let stats = world.engine.container_stats(&pod).unwrap();
    assert_eq!(stats.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["busy", "server"], "{stats:?}");
    let heard = until("it answers", || {
        let mut text = String::new();
        let mut stream = TcpStream::from(world.engine.dial(&pod, 8080).ok()?);
        let _ = stream.read_to_string(&mut text);
        Some(text).filter(|t| !t.is_empty())
    });
    assert_eq!(heard, "hello\n");
    let limits = LinuxResources { memory_limit: 2 << 30, ..LinuxResources::default() };
    world.engine.update_sandbox(&pod, &LinuxResources::default(), &limits).unwrap();
    assert_eq!(world.engine.sandbox_status(&pod).unwrap().config.resources.memory_limit, 2 << 30);
    let containers = world.engine.list_containers(Some(&pod)).unwrap();
    world.engine.update_container(&containers[0].id, &LinuxResources { memory_limit: 1 << 28, ..LinuxResources::default() }).unwrap();
    assert_eq!(world.engine.container_status(&containers[0].id).unwrap().config.resources.memory_limit, 1 << 28);
}

#[test]
fn what_it_cannot_do_is_refused() {
    let world = World::new();
    let pod = world.pod("runsc");
    let devices = cofferdam_model::cri::Device { host_path: "/dev/null".into(), container_path: "/dev/x".into(), permissions: String::new() };
    for (why, told) in [
        (world.create(&pod, "true", |c| c.devices = vec![devices]), "device"),
        (world.create(&pod, "true", |c| c.security.apparmor = Some(Profile::RuntimeDefault)), "AppArmor"),
    ] {
        let why = why.unwrap_err().to_string();
        assert!(why.contains(told) && why.contains("handler \"runsc\" cannot run container"), "{why}");
    }
    // It would leave both as they are.
    let hidden = world.create(&pod, "true", |c| c.security.masked_paths = Some(vec!["/bin/ls".into()]));
    let kept = world.create(&pod, "true", |c| c.security.readonly_paths = Some(vec!["/tmp".into()]));
    for why in [hidden, kept] {
        let why = why.unwrap_err().to_string();
        assert!(why.contains("is not below /proc or /sys"), "{why}");
    }
    // As Linux has them: sorted.
    let groups = world.good(&pod, "id -G", |c| (c.security.run_as_user, c.security.supplemental_groups) = (Some(0), vec![5000, 77]));
    assert_eq!(groups, "0 77 5000\n");
}
