//! Limits are changed in place, told, and measured. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{ContainerConfig, LinuxResources};
use common::{SHARED, World};

const MIB: i64 = 1 << 20;

fn limits(memory: i64, quota: i64) -> LinuxResources {
    LinuxResources { memory_limit: memory, cpu_quota: quota, cpu_period: 100_000, ..LinuxResources::default() }
}

/// What the kernel holds a container to: memory, CPU quota.
fn held(world: &World, id: &cofferdam_model::ContainerId) -> (String, String) {
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; cat cpu*/cpu.cfs_quota_us cpu.max 2>/dev/null";
    let (_, out) = world.exec(id, script);
    let words: Vec<_> = out.split_whitespace().map(str::to_owned).collect();
    (words[0].clone(), words[1].clone())
}

#[test]
fn limits_change_in_place_and_are_told() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod_with(handler, |c| c.resources = limits(256 * MIB, 100_000));
        let id = world.start(&pod, "sleep 1000", |c: &mut ContainerConfig| c.resources = limits(64 * MIB, 50_000));
        assert_eq!(held(&world, &id), ((64 * MIB).to_string(), "50000".into()), "{handler}");
        for (memory, quota) in [(128, 20_000), (32, 80_000)] {
            world.engine.update_container(&id, &limits(memory * MIB, quota)).unwrap();
            assert_eq!(held(&world, &id), ((memory * MIB).to_string(), quota.to_string()), "{handler}");
            let told = world.engine.container_status(&id).unwrap().config.resources;
            assert_eq!((told.memory_limit, told.cpu_quota), (memory * MIB, quota));
        }
        let before = world.engine.container_status(&id).unwrap().config.resources;
        let why = world.engine.update_container(&id, &limits(4096, 0)).unwrap_err().to_string();
        assert!(why.contains("bytes of memory, which the new limit of 4096 would not hold"), "{why}");
        assert_eq!(world.engine.container_status(&id).unwrap().config.resources, before, "a refusal changes nothing");

        world.engine.update_sandbox(&pod, &limits(MIB, 1000), &limits(512 * MIB, 120_000)).unwrap();
        let (again, findings) = world.again();
        assert_eq!(findings, Vec::<String>::new());
        let told = again.sandbox_status(&pod).unwrap().config;
        assert_eq!((told.resources.memory_limit, told.overhead.memory_limit), (512 * MIB, MIB), "by another process too");
        world.engine.stop_container(&id, std::time::Duration::ZERO).unwrap();
        let why = world.engine.update_container(&id, &limits(MIB, 0)).unwrap_err().to_string();
        assert!(why.contains("has ended"), "{why}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn containers_are_measured_one_by_one() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let busy = "head -c 20000000 /dev/zero > /dev/shm/x; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; sleep 1000";
        let busy = world.start(&pod, busy, |c| c.name = "busy".into());
        world.start(&pod, "sleep 1000", |c| c.name = "idle".into());
        let ended = world.start(&pod, "true", |c| c.name = "ended".into());
        world.ended(&ended);
        let status = world.engine.container_status(&busy).unwrap();
        common::until("the busy one is done", || world.log(&status).contains("done").then_some(()));
        let stats = world.engine.container_stats(&pod).unwrap();
        let of = |name: &str| stats.iter().find(|s| s.name == name);
        let (busy, idle) = (of("busy").unwrap(), of("idle").unwrap());
        assert!(of("ended").is_none());
        assert!(busy.memory_working_set > Some(20_000_000) && idle.memory_working_set < Some(10_000_000), "{stats:?}");
        assert!(busy.cpu_nanos > idle.cpu_nanos, "{stats:?}");
        assert!(busy.pids >= Some(1) && idle.pids >= Some(1));
        let all = world.engine.pod_stats(&pod).unwrap();
        assert!(all.cpu_nanos >= busy.cpu_nanos.unwrap() && all.memory_working_set >= busy.memory_working_set.unwrap());
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn a_container_that_was_killed_for_memory_is_told_so_after_its_pod_was_stopped() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let id = world.start(&pod, "x=a; while :; do x=$x$x; done", |c| c.resources.memory_limit = 16 << 20);
        let ended = world.ended(&id);
        assert_eq!((ended.reason.as_str(), ended.exit_code), ("OOMKilled", 137), "{handler}");
        let other = world.start(&pod, "exit 137", |_| {});
        assert_eq!(world.ended(&other).reason, "Error", "{handler}");
        world.engine.stop_sandbox(&pod).unwrap();
        let reason = |id| world.engine.container_status(id).unwrap().reason;
        assert_eq!((reason(&id).as_str(), reason(&other).as_str()), ("OOMKilled", "Error"), "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn cpus_and_huge_pages_are_limited_where_asked() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let cpus = |list: &str| LinuxResources { cpuset_cpus: list.into(), ..LinuxResources::default() };
        let look = "grep Cpus_allowed_list /proc/self/status";
        match world.create(&pod, "sleep 1000", |c| c.resources = cpus("0")) {
            Ok(id) => {
                world.engine.start_container(&id).unwrap();
                assert!(world.exec(&id, look).1.trim().ends_with("\t0"), "{handler}");
                let plain = world.start(&pod, "sleep 1000", |_| {});
                assert!(!world.exec(&plain, look).1.trim().ends_with("\t0"), "{handler}");
                world.engine.update_container(&plain, &cpus("0")).unwrap();
                assert!(world.exec(&plain, look).1.trim().ends_with("\t0"), "{handler}");
            }
            Err(e) => assert!(e.to_string().contains("controller cpuset"), "{e}"),
        }
        let pages = |size: &str, bytes: u64| LinuxResources { hugepages: [(size.to_owned(), bytes)].into(), ..LinuxResources::default() };
        if std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            // Where the controller is missing, they are started without the limit.
            for bytes in [0, 4 << 20] {
                world.good(&pod, "true", |c| c.resources = pages("2MB", bytes));
            }
        }
        if let Err(why) = world.create(&pod, "true", |c| c.resources = pages("3MB", 4 << 20)) {
            assert!(why.to_string().contains("no huge pages of \"3MB\""), "{why}");
        }
        world.engine.remove_sandbox(&pod).unwrap();
    }
}
