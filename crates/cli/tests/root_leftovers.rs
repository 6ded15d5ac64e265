//! The machine after `stop --all` is the machine before, whatever ran in between. This looks at the
//! whole machine, so nothing else runs beside it: it is the only test of its file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, WAITS, World, app, container, names, object, pod, with_volume};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    tables: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    monitors: usize,
    in_our_cgroup: usize,
}

fn look(world: &World) -> Machine {
    let tables = Command::new("nft").args(["list", "tables"]).output().expect("nft is missing; install Debian's nftables");
    let hierarchies = names(Path::new("/sys/fs/cgroup")).into_iter().map(|n| Path::new("/sys/fs/cgroup").join(n));
    let roots = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|h| h.join("cofferdam"));
    let pids: Vec<PathBuf> =
        names(Path::new("/proc")).into_iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit())).map(|n| Path::new("/proc").join(n)).collect();
    Machine {
        mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect(),
        links: names(Path::new("/sys/class/net")).into_iter().collect(),
        tables: String::from_utf8_lossy(&tables.stdout).lines().map(str::to_owned).collect(),
        cgroups: roots.filter(|r| r.is_dir()).collect(),
        monitors: pids.iter().filter(|p| fs::read_link(p.join("exe")).is_ok_and(|e| e.starts_with(&world.dir))).count(),
        in_our_cgroup: pids.iter().filter(|p| fs::read_to_string(p.join("cgroup")).is_ok_and(|g| g.contains(":/cofferdam/"))).count(),
    }
}

#[test]
fn after_stop_all_the_machine_is_as_before() {
    let world = World::new();
    let before = look(&world);
    let mut pods = vec![object("Secret", "s", json!({"stringData": {"k": "v"}}))];
    for handler in ALL {
        let mut full = pod(handler, handler, &[app(WAITS), container("second", WAITS)]);
        with_volume(&mut full, &json!({"emptyDir": {"medium": "Memory"}}));
        full["spec"]["initContainers"] = json!([container("init", "exit 0")]);
        pods.push(full);
        let mut secret = pod(&format!("{handler}-secret"), handler, &[app("exit 3")]);
        with_volume(&mut secret, &json!({"secret": {"secretName": "s"}}));
        pods.push(secret);
    }
    let mut on_machine = pod("on-machine", "runc", &[app(WAITS)]);
    on_machine["spec"]["hostNetwork"] = json!(true);
    pods.push(on_machine);
    world.run(&pods, &["--detach"]);
    for handler in ALL {
        world.call(&["exec", handler, "-c", "second", "--", "true"]).good();
    }
    assert!(look(&world).in_our_cgroup > 0, "the look sees what runs");
    let traces = world.traces();
    world.call(&["stop", "--all", "--grace", "1"]).good();
    traces.assert_gone(&world);
    let mut after = look(&world);
    // A link goes a moment after the namespace that it leads into.
    for _ in 0..100 {
        if after == before {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        after = look(&world);
    }
    assert_eq!(after, before);
    let run_time = names(&world.state());
    assert!(run_time.iter().all(|d| names(&world.state().join(d)).is_empty()), "files left in {run_time:?}");
}
