//! Logs that are rotated, commands with much output, usage in detail, images as a kubelet asks for
//! them, and many records. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{Error, NamespaceMode};
use common::{IMAGE, SHARED, World, until};
use std::time::Duration;

#[test]
fn a_log_is_written_under_its_name_again() {
    let world = World::new();
    for handler in ["crun", "runsc"] {
        let pod = world.pod(handler);
        let id = world.start(&pod, "while true; do echo line; sleep 0.05; done", |_| {});
        let log = world.dir.join("logs").join(world.engine.container_status(&id).unwrap().config.log_path);
        until("it writes", || std::fs::metadata(&log).ok().filter(|m| m.len() > 0));
        std::fs::rename(&log, log.with_extension("1")).unwrap();
        world.engine.reopen_log(&id).unwrap();
        until("it writes again", || std::fs::metadata(&log).ok().filter(|m| m.len() > 0));
        world.engine.stop_container(&id, Duration::ZERO).unwrap();
        assert!(matches!(world.engine.reopen_log(&id), Err(Error::Precondition(_))), "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
        assert!(matches!(world.engine.reopen_log(&id), Err(Error::NotFound(_))));
    }
}

#[test]
fn a_command_may_say_much_and_take_too_long() {
    let world = World::new();
    for handler in ["crun", "runc", "runsc"] {
        let pod = world.pod(handler);
        let id = world.start(&pod, "sleep 1000", |_| {});
        let exec = |script: &str, limit| world.engine.exec_sync(&id, &["sh", "-c", script].map(str::to_owned), limit);
        let out = exec("head -c 5000000 /dev/zero; head -c 100000 /dev/zero >&2; exit 3", common::PATIENCE).unwrap();
        assert_eq!((out.stdout.len(), out.stderr.len(), out.exit_code), (5_000_000, 100_000, 3), "{handler}");
        let out = exec("head -c 18000000 /dev/zero", common::PATIENCE).unwrap();
        assert_eq!((out.stdout.len(), out.exit_code), (16 << 20, 0), "{handler}: bounded");
        let why = exec("sleep 777 & sleep 778", Duration::from_millis(800)).unwrap_err();
        assert!(matches!(why, Error::Timeout(_)), "{why}");
        if handler != "runsc" {
            until("all that it started is gone", || {
                let (_, out) = world.exec(&id, "ps | grep 'sleep 77[78]' | grep -v grep | wc -l");
                (out == "0\n").then_some(())
            });
        }
        let none = world.engine.exec_sync(&id, &["/none".to_owned()], common::PATIENCE);
        // gVisor tells of it by the exit code alone.
        assert!(none.as_ref().map_or(true, |out| handler == "runsc" && out.exit_code != 0), "{handler}: {none:?}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn usage_is_told_in_detail() {
    let world = World::new();
    for handler in ["crun", "runsc"] {
        let pod = world.pod_with(handler, |c| c.network = NamespaceMode::Pod);
        let id = world.start(&pod, "head -c 3000000 /dev/zero > /file; echo ready; sleep 1000", |_| {});
        until("it is ready", || (!world.log(&world.engine.container_status(&id).unwrap()).is_empty()).then_some(()));
        let used = world.engine.stats_of_container(&id).unwrap();
        assert!(used.cgroup.at > 0 && used.cgroup.cpu_nanos.is_some() && used.cgroup.processes.unwrap() >= 1, "{handler}: {used:?}");
        assert!(used.writable.used_bytes >= 3_000_000 && used.writable.inodes_used >= 2, "{handler}: {used:?}");
        if handler == "crun" {
            let memory = &used.cgroup.memory;
            assert!(memory.rss.is_some() && memory.page_faults.unwrap() > 0 && memory.available.is_none(), "{memory:?}");
        } else {
            // The sentry does not tell its containers' memory apart: each has an equal share.
            let alone = used.cgroup.memory.working_set.unwrap();
            assert!(alone > 10_000_000, "{used:?}");
            let cpu = world.engine.stats_of_pod(&pod).unwrap().cgroup.cpu_nanos;
            assert!(used.cgroup.cpu_nanos <= cpu && used.cgroup.cpu_nanos > Some(0), "{used:?} {cpu:?}");
            let second = world.start(&pod, "sleep 1000", |_| {});
            let shares = [&id, &second].map(|id| world.engine.stats_of_container(id).unwrap().cgroup.memory.working_set.unwrap());
            assert!(shares.iter().all(|s| *s > 0 && *s < alone * 3 / 4), "{alone} {shares:?}");
            world.engine.remove_container(&second).unwrap();
        }
        let all = world.engine.stats_of_pod(&pod).unwrap();
        assert_eq!(all.containers.len(), 1);
        assert!(all.cgroup.cpu_nanos.unwrap() > 0 && all.cgroup.memory.working_set.unwrap() > 0, "{all:?}");
        let eth: Vec<_> = all.network.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(eth, ["eth0"], "{handler}");
        world.engine.stop_container(&id, Duration::ZERO).unwrap();
        assert_eq!(world.engine.stats_of_container(&id).unwrap().cgroup.cpu_nanos, None);
        world.engine.stop_sandbox(&pod).unwrap();
        assert_eq!(world.engine.stats_of_pod(&pod).unwrap().network, vec![]);
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn images_are_told_and_removed_with_all_names() {
    let world = World::new();
    let all = world.engine.image_list().unwrap();
    assert_eq!((all.len(), all[0].tags.len()), (1, 1));
    let info = world.engine.image_info(IMAGE).unwrap().unwrap();
    assert_eq!((&info, info.tags[0].ends_with("test/busybox:1")), (&all[0], true));
    let config = String::from_utf8(world.engine.image_configuration(&info.id).unwrap()).unwrap();
    assert!(config.contains("\"rootfs\""), "{config}");
    assert_eq!(world.engine.image_info("none:1").unwrap(), None);
    assert!(matches!(world.engine.image_info("UPPER CASE"), Err(Error::Invalid(_))));
    let fs = world.engine.image_fs();
    assert!(fs.used_bytes > 100_000 && fs.inodes_used > 10 && fs.mountpoint.is_dir(), "{fs:?}");

    let pod = world.pod("crun");
    let id = world.start(&pod, "sleep 1000", |_| {});
    // One that a container has loses its names, and goes with the container.
    let removed = world.engine.remove_image_wholly(IMAGE).unwrap();
    assert_eq!((removed.names.len(), removed.image), (1, None));
    assert_eq!(world.engine.image_info(IMAGE).unwrap(), None);
    let left = world.engine.images().resolve(&info.id).unwrap();
    assert!(world.engine.image_is_unwanted(&left));
    assert_eq!(world.engine.exec_sync(&id, &["echo".into(), "on".into()], Duration::from_secs(10)).unwrap().stdout, b"on\n");
    world.engine.remove_container(&id).unwrap();
    assert_eq!(world.engine.image_info(&info.id).unwrap(), None, "it went with its last container");
    assert!(world.engine.remove_image_wholly(IMAGE).unwrap().names.is_empty(), "it is gone already");
    assert!(world.engine.image_fs().used_bytes < fs.used_bytes);
}

#[test]
fn what_another_process_does_is_seen_at_once() {
    let world = World::new();
    let (other, _) = world.again();
    for handler in SHARED {
        let pod = world.pod(handler);
        let id = world.start(&pod, "sleep 1000", |_| {});
        for engine in [&world.engine, &other] {
            assert_eq!(engine.container_status(&id).unwrap().pod, pod);
            assert_eq!(engine.list_containers(None).unwrap().len(), 1);
        }
        other.stop_sandbox(&pod).unwrap();
        assert_eq!(world.engine.sandbox_status(&pod).unwrap().reason.as_deref(), Some("it was stopped"));
        other.remove_sandbox(&pod).unwrap();
        assert!(matches!(world.engine.container_status(&id), Err(Error::NotFound(_))));
        assert_eq!(world.engine.list_containers(None).unwrap().len(), 0);
    }
}
