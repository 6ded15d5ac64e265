//! What fails is told in one sentence, and leaves nothing. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_engine::handlers::{Definition, Kind};
use cofferdam_model::PodId;
use cofferdam_model::cri::{ContainerState, Event, SandboxState};
use common::{SHARED, World, until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A handler `broken` whose binary is crun, but for what the gate file says of a verb: `create dies`.
fn broken(world: &World) -> PathBuf {
    let (gate, binary) = (world.path("gate"), world.path("crun-broken"));
    std::fs::write(&gate, "").unwrap();
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$last\" in --log) log=$word;; esac; case \"$word\" in create|exec) verb=$word;; esac; last=$word; done\ncase \"$verb $(cat {gate})\" in\n\
         \"create create fails\"|\"exec exec fails\") echo '{{\"level\":\"error\",\"msg\":\"the disk is on fire\"}}' >> $log; exit 1;;\n\
         \"create create dies\"|\"exec exec dies\") kill -SEGV $$;;\n\
         \"create create hangs\"|\"exec exec hangs\") sleep 1000;;\n\
         \"create create lies\"|\"exec exec lies\") exit 0;;\nesac\nexec crun \"$@\"\n",
        gate = gate.display()
    );
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut table = (*world.engine.table()).clone();
    let definition = Definition { kind: Kind::Crun, binary, ..table.resolve("crun").unwrap().1.clone() };
    table.insert("broken", definition);
    world.engine.set_table(table);
    gate
}

/// Processes in the pod's cgroup, its container directories, and its sessions.
fn traces(world: &World, pod: &PodId) -> (Vec<i32>, usize, Vec<String>) {
    let dirs = world.engine.layout().pod(pod);
    let groups = cofferdam_host::cgroup::Cgroups::detect().unwrap();
    let mut procs: Vec<i32> = groups.group(dirs.cgroup()).unwrap().procs().unwrap().into_iter().collect();
    procs.sort_unstable();
    let names = |dir: &Path| std::fs::read_dir(dir).map(|d| d.flatten().map(|e| e.file_name().into_string().unwrap()).collect()).unwrap_or_default();
    let of_run: Vec<String> = names(&dirs.run);
    let sessions = of_run.into_iter().filter(|n| n.starts_with("x-")).collect();
    let containers: Vec<String> = names(&dirs.containers());
    (procs, containers.len(), sessions)
}

fn verbs(world: &World, gate: &Path, pod: &PodId, how: &str, told: &str) {
    std::fs::write(gate, "").unwrap();
    let id = world.start(pod, "sleep 1000", |_| {});
    let before = traces(world, pod);
    std::fs::write(gate, format!("create {how}")).unwrap();
    let why = world.create(pod, "true", |_| {}).unwrap_err().to_string();
    assert!(why.contains("create failed") || why.contains("create"), "{why}");
    assert!(why.contains(told) && !why.contains('\n'), "{how}: {why}");
    assert_eq!(traces(world, pod), before, "create {how}");
    std::fs::write(gate, format!("exec {how}")).unwrap();
    let command = ["true".to_owned()];
    let why = world.engine.exec_sync(&id, &command, Duration::from_secs(100)).unwrap_err().to_string();
    assert!(why.contains(told) && !why.contains('\n'), "{how}: {why}");
    assert_eq!(traces(world, pod), before, "exec {how}");
    std::fs::write(gate, "").unwrap();
    assert_eq!(world.exec(&id, "echo well").1, "well\n", "and it works again");
    world.engine.remove_container(&id).unwrap();
}

#[test]
fn a_runtime_that_fails_at_a_verb_leaves_nothing() {
    let world = World::new();
    let gate = broken(&world);
    let pod = world.pod("broken");
    for (how, told) in [("fails", "the disk is on fire"), ("dies", "139"), ("lies", "pid")] {
        verbs(&world, &gate, &pod, how, told);
    }
}

/// It waits for the drivers' limits of a minute.
#[test]
#[ignore = "takes two minutes"]
fn a_runtime_that_hangs_at_a_verb_is_killed() {
    let world = World::new();
    let gate = broken(&world);
    let pod = world.pod("broken");
    verbs(&world, &gate, &pod, "hangs", "it did not end within 60 s and was killed");
}

#[test]
fn a_monitor_that_is_killed_takes_its_pod_with_it() {
    for handler in SHARED {
        let world = World::new();
        let events = world.engine.events();
        let pod = world.pod(handler);
        let id = world.start(&pod, "sleep 1000", |_| {});
        let status = world.engine.container_status(&id).unwrap();
        let parent = std::fs::read_to_string(format!("/proc/{}/stat", status.pid.unwrap())).unwrap();
        let monitor = parent.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
        assert!(Command::new("kill").args(["-9", &monitor]).status().unwrap().success());
        let told = events.iter().find_map(|e| match e {
            Event::SandboxDied { reason, .. } => Some(reason),
            Event::ContainerExited { .. } => None,
        });
        assert_eq!(told.as_deref(), Some("its monitor died"));
        let sandbox = world.engine.sandbox_status(&pod).unwrap();
        assert_eq!((sandbox.state, sandbox.reason.as_deref()), (SandboxState::NotReady, Some("its monitor died")));
        assert_eq!(traces(&world, &pod).0, Vec::<i32>::new(), "{handler}");
        let status = world.engine.container_status(&id).unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
        for refused in [world.engine.exec_sync(&id, &["true".into()], Duration::ZERO).map(drop), world.engine.update_container(&id, &Default::default())] {
            assert!(refused.is_err());
        }
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

/// A file system of its own for the records, which can be filled.
struct Disk(PathBuf);

impl Disk {
    fn new(at: PathBuf) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "none"]).arg(&at).status().unwrap();
        assert!(status.success());
        Self(at)
    }

    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let world = World::new();
    world.engine.handler_ready("crun").unwrap();
    let disk = Disk::new(world.engine.layout().pods());
    let full = |why: &str| assert!(why.contains("No space left") && !why.contains('\n'), "{why}");

    disk.fill();
    full(&world.try_pod("crun", |_| {}).unwrap_err().to_string());
    assert_eq!(std::fs::read_dir(world.engine.layout().run_pods()).unwrap().count(), 0, "nothing of the pod is left");
    disk.free();

    let pod = world.pod("crun");
    let before = traces(&world, &pod);
    disk.fill();
    full(&world.create(&pod, "true", |_| {}).unwrap_err().to_string());
    assert_eq!(traces(&world, &pod), before);
    disk.free();

    let id = world.create(&pod, "sleep 1000", |_| {}).unwrap();
    disk.fill();
    full(&world.engine.start_container(&id).unwrap_err().to_string());
    let state = world.engine.container_status(&id).unwrap().state;
    assert_eq!(state, cofferdam_model::cri::ContainerState::Created, "what nobody would know of is not let go");
    let limits = cofferdam_model::cri::LinuxResources { memory_limit: 1 << 30, ..Default::default() };
    full(&world.engine.update_sandbox(&pod, &limits, &limits).unwrap_err().to_string());
    disk.free();
    assert_eq!(world.engine.sandbox_status(&pod).unwrap().config.resources.memory_limit, 0);
    world.engine.start_container(&id).unwrap();
    world.engine.remove_container(&id).unwrap();
    assert_eq!(traces(&world, &pod).0, before.0);
    assert_eq!(world.good(&pod, "echo well", |_| {}), "well\n");

    disk.fill();
    world.engine.remove_sandbox(&pod).unwrap();
    disk.free();
}

#[test]
fn a_change_of_limits_that_was_begun_is_finished() {
    let world = World::new();
    let pod = world.pod("crun");
    let id = world.start(&pod, "sleep 1000", |_| {});
    let status = world.engine.layout().pod(&pod).status();
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&status).unwrap()).unwrap();
    // As a kill between the intent and the deed leaves it.
    value["changing"] = serde_json::json!({"Container": [id.as_str(), {"memory_limit": 64 << 20}]});
    std::fs::write(&status, value.to_string()).unwrap();
    let (again, findings) = world.again();
    assert!(findings.iter().any(|f| f.contains("a change of its limits that was begun is finished")), "{findings:?}");
    assert_eq!(again.container_status(&id).unwrap().config.resources.memory_limit, 64 << 20);
    let (_, held) = world.exec(&id, "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null");
    assert_eq!(held.trim(), (64 << 20).to_string());
    assert_eq!(world.again().1, Vec::<String>::new(), "it is told once");
    until("nothing is left to do", || Some(()));
}
