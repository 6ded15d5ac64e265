//! `cofferdam demo`: its last line counts what is left behind, and only what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Running, WAITS, World, app, finish, names, nft_has, pod, until};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the last line counts.
#[track_caller]
fn counted(out: &str) -> BTreeMap<String, usize> {
    let line = out
        .lines()
        .find_map(|l| l.strip_prefix("Left behind: "))
        .unwrap_or_else(|| panic!("no last line: {out}"));
    let pair = |part: &str| {
        part.split_once(' ')
            .map(|(kind, count)| (kind.to_owned(), count.parse().unwrap()))
            .unwrap()
    };
    line.split(", ").map(pair).collect()
}

/// Runs the demo, and returns when its pods are there.
fn demo(world: &World) -> Running {
    let run = Running(world.spawn(&["demo"], b""));
    until("pods of the demo run", || {
        let running = world.statuses().values().filter(|s| *s == "Running").count();
        (running >= 2).then_some(())
    });
    run
}

/// Waits for a command that was started.
fn end(mut running: Running) -> common::Answer {
    // What is left of it in the guard is a process that has ended.
    let placeholder = Command::new("true").spawn().unwrap();
    finish(std::mem::replace(&mut running.0, placeholder))
}

fn start(program: &str, args: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    Running(command.spawn().unwrap_or_else(|e| panic!("{program} is missing: {e}")))
}

#[track_caller]
fn does(program: &str, args: &[&str]) {
    let status = Command::new(program)
        .args(args)
        .status()
        .unwrap_or_else(|e| panic!("{program} is missing: {e}"));
    assert!(status.success(), "{program} {args:?}");
}

#[test]
fn nothing_is_left_and_what_else_starts_beside_it_is_not_counted() {
    let world = World::bare();
    let run = demo(&world);
    let other = World::new();
    other.detach(&[pod("p", "crun", &[app(WAITS)])]);
    let _namespaces = start("unshare", &["--net", "--mount", "--ipc", "--uts", "sleep", "1000"]);
    does("mount", &["-t", "tmpfs", "tmpfs", other.out().to_str().unwrap()]);
    let answer = end(run);
    does("umount", &[other.out().to_str().unwrap()]);
    assert_eq!(other.statuses()["p"], "Running");
    assert!(
        counted(&answer.out).values().all(|count| *count == 0),
        "{}\n{}",
        answer.out,
        answer.err
    );
    assert_eq!(answer.code, Some(0), "{}\n{}", answer.out, answer.err);
    assert_eq!(counted(&answer.out).len(), 7);
}

/// What is planted in the middle of a demo, and taken away in the end.
struct Plants {
    world: PathBuf,
    id: String,
    bridge: String,
    _processes: Vec<Running>,
}

/// An id that a pod may have and none has.
const ID: &str = "5eed5eed5eed5eed5eed5eed5eed5eed";

impl Plants {
    fn new(world: &World) -> Self {
        let plants = |kept: Vec<Running>| Self {
            world: world.dir.clone(),
            id: ID.into(),
            bridge: world.bridge.clone(),
            _processes: kept,
        };
        // Of a pod: its run-time directory (which goes), cgroup, link and volumes.
        fs::create_dir(world.state().join("pods").join(ID)).unwrap();
        fs::create_dir(cgroup()).unwrap();
        does(
            "ip",
            &[
                "link",
                "add",
                &format!("cd{}", &ID[..12]),
                "type",
                "veth",
                "peer",
                "name",
                "cdt-planted",
            ],
        );
        fs::create_dir_all(world.root().join("volumes/planted")).unwrap();
        // Under the directories: a mount, and a process that runs from there.
        let point = world.state().join("planted");
        fs::create_dir(&point).unwrap();
        does("mount", &["-t", "tmpfs", "tmpfs", point.to_str().unwrap()]);
        let sleep = world.root().join("bin/planted");
        fs::copy("/bin/sleep", &sleep).unwrap();
        // In a pod's namespaces, and not in its cgroup.
        let pid = world.container_pid("in-fast").to_string();
        let inside = start("nsenter", &["--target", &pid, "--net", "sleep", "1000"]);
        plants(vec![inside, start(sleep.to_str().unwrap(), &["1000"])])
    }
}

impl Drop for Plants {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.world.join("s/planted")).status();
        let _ = Command::new("ip").args(["link", "del", &format!("cd{}", &self.id[..12])]).status();
        let _ = Command::new("nft").args(["delete", "table", "inet", &table(&self.bridge)]).status();
        let _ = fs::remove_dir(cgroup());
        let _ = fs::remove_dir_all(self.world.join("l/volumes/planted"));
    }
}

/// A pod's cgroup in the first hierarchy that has ours.
fn cgroup() -> PathBuf {
    let top = Path::new("/sys/fs/cgroup");
    let all = names(top).into_iter().map(|name| top.join(name)).chain([top.to_owned()]);
    all.map(|h| h.join("cofferdam"))
        .find(|dir| dir.is_dir())
        .expect("pods have cgroups")
        .join(ID)
}

fn table(bridge: &str) -> String {
    format!("cofferdam_{bridge}")
}

#[test]
fn what_is_left_is_counted_kind_by_kind() {
    let world = World::bare();
    let run = demo(&world);
    let plants = Plants::new(&world);
    // Rules are torn down with the bridge; what comes after that is still seen, as the last count waits.
    until("all is torn down", || {
        (!Path::new("/sys/class/net").join(&world.bridge).exists()).then_some(())
    });
    until("the rules are gone", || (!nft_has(&table(&world.bridge))).then_some(()));
    does("nft", &["add", "table", "inet", &table(&world.bridge)]);
    let answer = end(run);
    drop(plants);
    let counted = counted(&answer.out);
    for (kind, least) in [
        ("processes", 1),
        ("mounts", 1),
        ("namespaces", 1),
        ("cgroups", 1),
        ("links", 1),
        ("rules", 1),
        ("files", 1),
    ] {
        assert!(counted[kind] >= least, "{kind}: {}\n{}", answer.out, answer.err);
    }
    assert_eq!(answer.code, Some(1), "{}\n{}", answer.out, answer.err);
}
