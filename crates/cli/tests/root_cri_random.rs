//! Many calls in an order of chance, from several threads, with faults between them: daemons and monitors that
//! are killed, clients that leave, a runtime that fails or hangs. What must be true is looked at after each
//! answer, more of it at points of quiet, and in the end nothing is left.
//!
//! `COFFERDAM_SEED` repeats a seed that a failure named (the order of threads is the machine's all the same),
//! `COFFERDAM_RANDOM_CALLS` sets how many calls are made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use common::{World, until};
use cri::bystander::{Bystander, CgroupParent};
use cri::caller::Caller;
use cri::model::{Chance, Listener, Model};
use cri::{Daemon, Kubelet, Tally};
use std::fs;
use std::sync::Mutex;
use std::time::Duration;

/// Threads that call.
const THREADS: u64 = 4;
/// Calls between two points of quiet, all threads together.
const ROUND: usize = 48;

/// A runtime that does what the file `fault` says, at the verb that it names.
const FAULTY: &str = r#"#!/bin/sh
verb=
for word; do
  case "$word" in create|start|state|kill|delete|exec|run) [ -z "$verb" ] && verb=$word;; esac
done
case "$(cat DIR/fault 2>/dev/null)" in
  "$verb fails") echo "$verb fails as it was told to" >&2; exit 1;;
  "$verb dies") kill -9 $$;;
  "$verb hangs") sleep 1;;
  "$verb fails late") crun "$@"; exit 1;;
esac
exec crun "$@"
"#;

const FAULTS: [&str; 9] = [
    "",
    "",
    "create fails",
    "create dies",
    "create hangs",
    "create fails late",
    "exec fails",
    "exec hangs",
    "delete fails",
];

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn calls_in_any_order_with_any_fault_keep_what_must_be_true() {
    let seed = setting("COFFERDAM_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ chance_of_now());
    let calls = usize::try_from(setting("COFFERDAM_RANDOM_CALLS").unwrap_or(480)).unwrap();
    println!("COFFERDAM_SEED={seed}");
    let world = World::new();
    let script = world.script("crun-faulty", &FAULTY.replace("DIR", &world.dir.display().to_string()));
    world.drop_in("faulty.toml", &format!("[handlers.faulty]\nbinary = {script:?}\n"));
    let proved = world.call(&["handlers", "-o", "json"]).good().json();
    for handler in ["runc", "crun", "runsc", "faulty"] {
        let found = proved.as_array().unwrap().iter().find(|h| h["name"] == handler);
        assert!(found.is_some_and(|h| h["unproved"].is_null()), "{handler}: {found:?}");
    }

    let kubelet = Kubelet::new(&world);
    let parent = CgroupParent::new(&world);
    let mut daemon = Daemon::start(&world);
    let bystander = Bystander::new(&world, &kubelet, "crun");
    let model = Mutex::new(Model::new(&bystander));
    let tally = Mutex::new(Tally::default());
    let mut chance = Chance::new(seed);
    for round in 0..calls.div_ceil(ROUND) {
        let listener = Listener::new(&kubelet);
        let last = ROUND / usize::try_from(THREADS).unwrap();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let mut caller = Caller {
                        kubelet: &kubelet,
                        model: &model,
                        tally: &tally,
                        listener: &listener,
                        chance: Chance::new(seed ^ (round as u64) << 8 ^ thread << 40),
                        parent: &parent.path,
                    };
                    scope.spawn(move || (0..last).for_each(|_| caller.call()))
                })
                .collect();
            while !callers.iter().all(|c| c.is_finished()) {
                std::thread::sleep(Duration::from_millis(50 + chance.below(400)));
                // The daemon is killed once in any case; all else is left to chance.
                let killed = tally.lock().unwrap().0.contains_key("daemon killed");
                match if killed { chance.below(10) } else { 2 } {
                    0 | 1 => {
                        fs::write(world.dir.join("fault"), FAULTS[chance.index(FAULTS.len())]).unwrap();
                    }
                    2 => {
                        listener.broke();
                        kill(&mut daemon, &world);
                        tally.lock().unwrap().add("daemon killed");
                    }
                    3 => {
                        if let Some(pod) = model.lock().unwrap().a_pod_to_break(&mut chance)
                            && let Some(pid) = monitor(&world, &pod)
                        {
                            // It may have ended just before.
                            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                            tally.lock().unwrap().add("monitor killed");
                        }
                    }
                    _ => {}
                }
            }
            for caller in callers {
                caller.join().unwrap_or_else(|_| panic!("seed {seed}, round {round}"));
            }
        });
        let _ = fs::remove_file(world.dir.join("fault"));
        model.lock().unwrap().check_at_rest(&kubelet, &listener);
        bystander.assert_untouched(&world, &kubelet, &format!("seed {seed}, round {round}"));
    }

    // Nothing is left, whatever came before.
    let traces = world.traces();
    for pod in kubelet.pods() {
        kubelet.stop_pod(&pod.id).unwrap();
        kubelet.remove_pod(&pod.id).unwrap();
    }
    assert_eq!((kubelet.pods(), kubelet.containers()), (vec![], vec![]), "seed {seed}");
    traces.assert_gone(&world);
    assert_eq!(parent.within(), Vec::<std::path::PathBuf>::new(), "seed {seed}");
    daemon.end();
    let tally = tally.into_inner().unwrap();
    println!("{:#?}", tally.0);
    for what in [
        "daemon killed",
        "RunPodSandbox ok",
        "CreateContainer ok",
        "StartContainer ok",
        "ExecSync ok",
        "RemovePodSandbox ok",
    ] {
        assert!(
            tally.0.contains_key(what) || calls < 480,
            "seed {seed} never came by: {what}; {:?}",
            tally.0
        );
    }
}

fn chance_of_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos() & u128::from(u32::MAX)).unwrap()
}

/// Kills the daemon and starts the next.
fn kill(daemon: &mut Daemon, world: &World) {
    daemon.strike();
    *daemon = Daemon::start(world);
}

/// The process of a pod's monitor, where it has one.
fn monitor(world: &World, pod: &str) -> Option<rustix::process::Pid> {
    let text = fs::read(world.root().join("pods").join(pod).join("status.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let pid = i32::try_from(record["monitor_pid"].as_i64()?).ok()?;
    // The number may be another's by now.
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let is_monitor = String::from_utf8_lossy(&line).contains("monitor");
    is_monitor.then(|| rustix::process::Pid::from_raw(pid)).flatten()
}

/// A disk that is full at any step: verbs fail with a sentence, what was started runs on, what is removed makes
/// room, and nothing is left.
#[test]
fn a_full_disk_fails_verbs_and_loses_nothing() {
    let world = World::bare();
    let disk = common::disk::Disk::new(&world, 24);
    disk.input(&["image", "load"], common::image::archive()).good();
    disk.call(&["handlers"]).good();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start_as(&world, disk.command(&["cri"]));
    let bystander = Bystander::new(&world, &kubelet, "crun");
    let mut failed = 0;
    for (n, kib) in [0, 0, 4, 8, 12, 16, 24, 32, 48, 64].into_iter().enumerate() {
        disk.leave(kib);
        let name = format!("p{n}");
        let made = kubelet.run_pod(kubelet.pod_config(&name, 0), "crun");
        failed += usize::from(made.is_err());
        if let Ok(pod) = &made {
            let container = kubelet.create(pod, kubelet.container_config("app", 0, cri::bystander::COUNTS));
            let started = container.as_ref().map(|id| kubelet.start(id));
            failed += usize::from(!matches!(started, Ok(Ok(()))));
            if n % 3 == 0 {
                daemon.kill();
                daemon = Daemon::start_as(&world, disk.command(&["cri"]));
            }
            kubelet.stop_pod(pod).unwrap();
            kubelet.remove_pod(pod).unwrap();
        }
        assert_eq!(kubelet.pods().len(), 1, "{kib} KiB: {made:?}");
        bystander.assert_untouched(&world, &kubelet, &format!("{kib} KiB free"));
    }
    assert!(failed > 0, "nothing failed for want of room");
    disk.empty();
    kubelet.assert_alive(&bystander.container);
    let more = kubelet.begin(&bystander.pod, kubelet.container_config("more", 0, "exit 3"));
    assert_eq!(
        until("it ends", || kubelet.status(&more).ok().filter(|s| s.finished_at > 0)).exit_code,
        3
    );
    let traces = common::traces::Traces::of(&world, std::slice::from_ref(&bystander.pod));
    kubelet.end_pod(&bystander.pod);
    traces.assert_gone(&world);
    daemon.end();
}
