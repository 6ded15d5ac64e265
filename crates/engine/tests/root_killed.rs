//! Killed in the middle of a change of limits, by SIGKILL: the next command finishes it. Needs root, and
//! the feature `failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::ContainerId;
use cofferdam_model::cri::LinuxResources;
use common::World;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const CHILD: &str = "COFFERDAM_TEST_CHILD";

fn limit(mib: i64) -> LinuxResources {
    LinuxResources { memory_limit: mib << 20, ..LinuxResources::default() }
}

/// What the next test runs in a process of its own; by itself nothing.
#[test]
fn child() {
    let Ok(asked) = std::env::var(CHILD) else { return };
    let [dir, number, id, mib] = asked.split(' ').collect::<Vec<_>>()[..] else { panic!("{asked}") };
    let options = common::options(std::path::Path::new(dir), number.parse().unwrap());
    let engine = cofferdam_engine::Engine::open(options).unwrap().0;
    engine.update_container(&ContainerId::new(id).unwrap(), &limit(mib.parse().unwrap())).unwrap();
}

const MAKER: &str = "COFFERDAM_TEST_MAKER";

/// What the next test runs in a process of its own; by itself nothing.
#[test]
fn maker() {
    let Ok(asked) = std::env::var(MAKER) else { return };
    let [dir, number] = asked.split(' ').collect::<Vec<_>>()[..] else { panic!("{asked}") };
    let options = common::options(std::path::Path::new(dir), number.parse().unwrap());
    let engine = cofferdam_engine::Engine::open(options).unwrap().0;
    let config = cofferdam_model::cri::SandboxConfig {
        name: "pod".into(),
        hostname: "pod".into(),
        cgroup_parent: format!("/cdte{number}killed/pod1").into(),
        ..cofferdam_model::cri::SandboxConfig::default()
    };
    engine.run_sandbox(&config, "crun").unwrap();
}

#[test]
fn a_pod_in_a_kubelets_cgroup_that_is_half_made_leaves_nothing() {
    let world = World::new();
    let parents = || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path());
        let all = hierarchies.chain([std::path::PathBuf::from("/sys/fs/cgroup")]);
        all.map(|at| at.join(format!("cdte{}killed/pod1", world.number))).filter(|at| at.is_dir()).collect::<Vec<_>>()
    };
    // Proved ahead, so that the pod is what is killed.
    world.engine.handler_ready("crun").unwrap();
    for step in ["run-dir", "intent", "cgroup", "monitor", "network", "enclosure", "result"] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "maker"])
            .env(MAKER, format!("{} {}", world.dir.display(), world.number))
            .env("COFFERDAM_KILL_AT", format!("sandbox.{step}"))
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{step} was not come by");
        let (again, _) = world.again();
        for pod in again.list_sandboxes().unwrap() {
            again.remove_sandbox(&pod.id).unwrap();
        }
        for parent in parents() {
            let left = std::fs::read_dir(&parent).unwrap().flatten().filter(|e| e.path().is_dir()).count();
            assert_eq!(left, 0, "{step}: {}", parent.display());
        }
    }
    for parent in parents() {
        std::fs::remove_dir(&parent).unwrap();
        std::fs::remove_dir(parent.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_change_of_limits_outlives_a_kill_at_any_step() {
    let world = World::new();
    let pod = world.pod("crun");
    let id = world.start(&pod, "sleep 1000", |c| c.resources = limit(64));
    for (number, place) in ["update.intent", "update.done", "update.recorded"].into_iter().enumerate() {
        let mib = 100 + number as i64;
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(CHILD, format!("{} {} {id} {mib}", world.dir.display(), world.number))
            .env("COFFERDAM_KILL_AT", place)
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{place} was not come by");
        let (again, findings) = world.again();
        assert_eq!(findings.len(), 1, "{place}: {findings:?}");
        assert_eq!(again.container_status(&id).unwrap().config.resources.memory_limit, mib << 20, "{place}");
        let (_, held) = world.exec(&id, "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null");
        assert_eq!(held.trim(), (mib << 20).to_string(), "{place}");
    }
}
