//! What is done with pods that run: `ps`, `logs`, `exec`, `stop`, Ctrl-C, `--detach`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, Lines, Running, SHARED, WAITS, World, app, brief, container, manifest, pod, until, with_volume};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

/// A world in which a pod of each handler runs.
fn running() -> World {
    let world = World::new();
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(&format!("echo out; echo err >&2; {WAITS}"))])));
    world
}

#[test]
fn detach_returns_when_the_pods_run() {
    let world = running();
    let statuses = world.statuses();
    assert!(ALL.iter().all(|h| statuses[*h] == "Running"), "{statuses:?}");
}

#[test]
fn detach_tells_why_a_pod_did_not_start() {
    let world = World::new();
    let mut bad = pod("p", "crun", &[app("exit 0")]);
    bad["spec"]["containers"][0]["image"] = json!("no/such:1");
    bad["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let answer = world.run(&[bad], &["--detach", "-o", "json"]);
    assert_eq!(answer.code, Some(125));
    assert!(brief(&answer.json()).contains("no/such:1"), "{answer:?}");
}

#[test]
fn ps_tells_class_handler_address_and_usage() {
    let world = running();
    for row in world.ps() {
        let handler = row["handler"].as_str().unwrap();
        assert_eq!((row["name"].as_str(), row["class"].as_str()), (Some(handler), Some(handler)));
        assert_eq!((row["ready"].as_i64(), row["containers"].as_i64()), (Some(1), Some(1)), "{row}");
        assert!(row["ip"].as_str().unwrap().starts_with(&world.net), "{row}");
        assert!(row["stats"].to_string().contains("memory"), "{row}");
    }
    assert_eq!(world.ps().len(), 3);
    let table = world.call(&["ps"]).good().out;
    assert!(table.lines().next().unwrap().starts_with("NAMESPACE") && table.lines().count() == 4, "{table}");
}

#[test]
fn ps_of_an_empty_machine_says_so() {
    let world = World::bare();
    assert_eq!(world.call(&["ps"]).good().out, "No pods run here.\n");
    assert_eq!(world.call(&["ps", "-o", "json"]).good().json(), json!([]));
}

#[test]
fn logs_keep_the_streams_apart_and_whole() {
    let world = running();
    for handler in ALL {
        let answer = until("both lines are there", || {
            let answer = world.call(&["logs", handler]).good();
            (!answer.out.is_empty() && !answer.err.is_empty()).then_some(answer)
        });
        assert_eq!((answer.out.as_str(), answer.err.as_str()), ("out\n", "err\n"), "{handler}");
    }
}

#[test]
fn logs_of_long_and_many_lines_lose_nothing() {
    let world = World::new();
    world.detach(&SHARED.map(|h| pod(h, h, &[app("head -c 100000 /dev/zero | tr '\\0' x; echo; seq 1 20000")])));
    for handler in SHARED {
        let out = world.call(&["logs", "-f", handler]).good().out;
        let mut lines = out.lines();
        assert_eq!(lines.next().unwrap().len(), 100_000, "{handler}");
        assert!(lines.map(|l| l.parse::<u32>().unwrap()).eq(1..=20_000), "{handler}");
    }
}

#[test]
fn logs_can_be_cut_and_dated() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(&format!("seq 1 5; {WAITS}"))])]);
    until("all is written", || world.call(&["logs", "p"]).good().out.ends_with("5\n").then_some(()));
    assert_eq!(world.call(&["logs", "p", "--tail", "2"]).good().out, "4\n5\n");
    let dated = world.call(&["logs", "p", "--tail", "1", "--timestamps"]).good().out;
    assert!(dated.starts_with("20") && dated.contains('T') && dated.trim_end().ends_with("Z 5"), "{dated}");
}

#[test]
fn logs_of_the_run_before_are_there_after_a_restart() {
    let world = World::new();
    let mut again = pod("p", "crun", &[app(&format!("[ -e /v/first ] && {{ echo second; {WAITS}; }}; touch /v/first; echo first; exit 1"))]);
    again["spec"]["restartPolicy"] = json!("OnFailure");
    with_volume(&mut again, &json!({"emptyDir": {}}));
    world.call(&["logs", "p"]).fails(120, "is not here");
    world.detach(&[again]);
    until("it was started again", || world.call(&["logs", "p"]).good().out.contains("second").then_some(()));
    assert_eq!(world.call(&["logs", "p", "--previous"]).good().out, "first\n");
    assert_eq!(world.call(&["logs", "p", "--since", "1h"]).good().out, "second\n");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(world.call(&["logs", "p", "--since", "1s"]).good().out, "");
    world.detach(&[pod("q", "crun", &[app(WAITS)])]);
    world.call(&["logs", "q", "--previous"]).fails(120, "no previous log");
}

#[test]
fn logs_follow_until_the_container_ends() {
    let world = World::new();
    let script = "echo first; until [ -e /v/go ]; do sleep 0.05; done; echo last";
    world.detach(&ALL.map(|handler| {
        let mut pod = pod(handler, handler, &[app(script)]);
        with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
        pod
    }));
    let mut followers: Vec<Running> = ALL.iter().map(|handler| Running(world.spawn(&["logs", "-f", handler], b""))).collect();
    let lines: Vec<Lines> = followers.iter_mut().map(|f| Lines::of(f.0.stdout.take().unwrap())).collect();
    lines.iter().for_each(|l| drop(l.wait_for("first")));
    std::fs::write(world.out().join("go"), "").unwrap();
    lines.iter().for_each(|l| drop(l.wait_for("last")));
    for follower in &mut followers {
        assert!(until("it ends", || follower.0.try_wait().unwrap()).success());
    }
}

#[test]
fn logs_of_a_pod_that_is_over_are_kept() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app("echo done")])]);
    until("it is over", || world.statuses().get("p").is_none_or(|s| s != "Running").then_some(()));
    assert_eq!(world.call(&["logs", "p"]).good().out, "done\n");
}

#[test]
fn a_container_must_be_chosen_where_there_are_several() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[container("a", &format!("echo of a; {WAITS}")), container("b", WAITS)])]);
    world.call(&["logs", "p"]).fails(120, "choose one with -c: a, b");
    until("it is written", || (world.call(&["logs", "p", "-c", "a"]).good().out == "of a\n").then_some(()));
    world.call(&["logs", "p", "-c", "z"]).fails(120, "has no container \"z\"; it has: a, b");
}

#[test]
fn exec_passes_output_and_exit_code_on() {
    let world = running();
    for handler in ALL {
        let answer = world.call(&["exec", handler, "--", "sh", "-c", "echo to out; echo to err >&2; exit 42"]);
        assert_eq!((answer.code, answer.out.as_str(), answer.err.as_str()), (Some(42), "to out\n", "to err\n"), "{handler}");
    }
}

#[test]
fn exec_passes_input_on_and_its_end() {
    let world = running();
    let input: Vec<u8> = (0..200_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for handler in ALL {
        let answer = world.input(&["exec", "-i", handler, "--", "wc", "-c"], &input).good();
        assert_eq!(answer.out.trim(), input.len().to_string(), "{handler}");
        let echoed = world.input(&["exec", "-i", handler, "--", "cat"], &input).good();
        assert!(echoed.out.as_bytes() == input, "{handler}: {} bytes came back of {}", echoed.out.len(), input.len());
    }
}

#[test]
fn exec_without_input_has_none() {
    let world = running();
    for handler in ALL {
        assert_eq!(world.input(&["exec", handler, "--", "wc", "-c"], b"unseen").good().out.trim(), "0", "{handler}");
    }
}

#[test]
fn exec_runs_inside_the_containers_limits_and_namespaces() {
    let world = running();
    for handler in SHARED {
        let of = |pid: &str, kind: &str| world.call(&["exec", handler, "--", "readlink", &format!("/proc/{pid}/ns/{kind}")]).good().out;
        for kind in ["pid", "cgroup"] {
            assert_eq!(of("1", kind), of("self", kind), "{handler}");
        }
        let id = world.id_of(handler);
        let groups = world.call(&["exec", handler, "--", "cat", "/proc/self/cgroup"]).good().out;
        // On v2 the container's group is the root of what it sees; another would be named from there.
        assert!(groups.contains(&id) || groups == "0::/\n", "{handler}: {groups}");
    }
}

#[test]
fn exec_of_a_command_that_is_not_there_fails_and_says_so() {
    let world = running();
    for handler in ALL {
        let answer = world.call(&["exec", handler, "--", "/not/there"]);
        assert!(answer.code != Some(0), "{handler}: {answer:?}");
        assert!(answer.err.contains("/not/there"), "{handler}: {answer:?}");
    }
}

#[test]
fn exec_in_a_terminal_is_one() {
    for handler in SHARED {
        terminal(handler);
    }
}

#[test]
fn exec_in_a_terminal_is_one_under_gvisor() {
    terminal("runsc");
}

#[track_caller]
fn terminal(handler: &str) {
    let world = World::new();
    world.detach(&[pod("p", handler, &[app(WAITS)])]);
    // crun hands the terminal over and goes on: the command may begin before the size is set.
    let sized = "for i in $(seq 100); do s=$(stty size 2>/dev/null) && break; sleep 0.1; done; echo $s";
    let told = format!("'test -t 0 && echo a terminal; {sized}; exit 7'");
    // `script` gives the command a terminal of its own.
    let inner = world.command(&["exec", "-it", "p", "--", "sh", "-c", &told]);
    let words: Vec<String> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(|a| a.to_string_lossy().into_owned()).collect();
    let line = format!("stty rows 33 cols 99; {}", words.join(" "));
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("script is missing; install Debian's bsdutils");
    // Its input stays open until it has ended.
    let stdin = child.stdin.take();
    let answer = common::finish(child);
    drop(stdin);
    assert_eq!(answer.code, Some(7), "{answer:?}");
    assert!(answer.out.contains("a terminal") && answer.out.contains("33 99"), "{answer:?}");
}

#[test]
fn exec_wants_a_terminal_where_it_is_told_to_use_one() {
    let world = World::new();
    world.call(&["exec", "-t", "p", "--", "sh"]).fails(120, "-t needs a terminal");
}

#[test]
fn pods_are_found_by_namespace_and_by_id() {
    let world = World::new();
    let mut other = pod("p", "crun", &[app(WAITS)]);
    other["metadata"]["namespace"] = json!("elsewhere");
    world.detach(&[other]);
    let id = world.ps()[0]["id"].as_str().unwrap().to_owned();
    world.call(&["exec", "elsewhere/p", "--", "true"]).good();
    world.call(&["exec", &id, "--", "true"]).good();
    world.call(&["exec", "p", "--", "true"]).fails(120, "pod \"p\" is not here; did you mean elsewhere/p?");
}

/// A pod that tells how it was ended.
fn telling(world: &World, handler: &str, script: &str) -> Value {
    let mut pod = pod(handler, handler, &[app(script)]);
    with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
    pod
}

/// Waits until the pods have set what they do when they are asked: to run is not enough.
fn until_they_listen(world: &World) {
    until("all listen", || ALL.iter().all(|h| world.call(&["logs", h]).out.contains("listens")).then_some(()));
}

#[test]
fn stop_asks_first() {
    let world = World::new();
    let script = "trap 'echo asked > /v/$(hostname); exit 0' TERM; echo listens; while :; do sleep 0.05; done";
    world.detach(&ALL.map(|handler| telling(&world, handler, script)));
    until_they_listen(&world);
    let mut args = vec!["stop"];
    args.extend(ALL);
    world.call(&args).good();
    let mut asked = common::names(&world.out());
    asked.sort();
    assert_eq!(asked, ["crun", "runc", "runsc"]);
    assert!(world.pod_ids().is_empty());
}

#[test]
fn stop_kills_who_does_not_listen_when_the_grace_is_over() {
    let world = World::new();
    let script = "trap 'echo asked > /v/$(hostname)' TERM; echo listens; while :; do sleep 0.05; done";
    world.detach(&ALL.map(|handler| telling(&world, handler, script)));
    until_they_listen(&world);
    let began = std::time::Instant::now();
    let mut args = vec!["stop", "--grace", "2"];
    args.extend(ALL);
    world.call(&args).good();
    assert!(began.elapsed() >= std::time::Duration::from_secs(2), "they were given no time");
    assert_eq!(common::names(&world.out()).len(), 3, "they were not asked");
    assert!(world.pod_ids().is_empty());
}

#[test]
fn stop_without_grace_does_not_ask() {
    let world = World::new();
    let script = "trap 'echo asked > /v/$(hostname); exit 0' TERM; echo listens; while :; do sleep 0.05; done";
    world.detach(&ALL.map(|handler| telling(&world, handler, script)));
    until_they_listen(&world);
    let mut args = vec!["stop", "--grace", "0"];
    args.extend(ALL);
    world.call(&args).good();
    assert!(common::names(&world.out()).is_empty());
}

#[test]
fn stop_ends_one_pod_and_leaves_the_others() {
    let world = running();
    let traces = common::traces::Traces::of(&world, &[world.id_of("crun")]);
    let pid = world.container_pid("runc");
    world.call(&["stop", "crun"]).good();
    traces.assert_gone(&world);
    let statuses = world.statuses();
    assert!(statuses["runc"] == "Running" && statuses["runsc"] == "Running", "{statuses:?}");
    assert_eq!(world.container_pid("runc"), pid);
}

#[test]
fn stop_of_an_unknown_pod_fails_and_names_those_there_are() {
    let world = running();
    world.call(&["stop", "nobody"]).fails(120, "there are: ");
}

/// Starts a run in the foreground whose pods all run.
fn foreground(world: &World, script: &str) -> Running {
    let pods = ALL.map(|handler| telling(world, handler, script));
    let run = Running(world.spawn(&["run", "-f", "-"], manifest(&pods).as_bytes()));
    until("all run", || {
        let statuses = world.statuses();
        ALL.iter().all(|h| statuses.get(*h).is_some_and(|s| s == "Running")).then_some(())
    });
    if script.contains("echo listens") {
        until_they_listen(world);
    }
    run
}

#[test]
fn ctrl_c_asks_the_pods_to_end_and_leaves_nothing() {
    let world = World::new();
    let mut run = foreground(&world, "trap 'echo asked > /v/$(hostname); exit 0' TERM; echo listens; while :; do sleep 0.05; done");
    let traces = world.traces();
    common::signal(run.0.id(), Signal::INT);
    until("it ends", || run.0.try_wait().unwrap());
    assert_eq!(common::names(&world.out()).len(), 3);
    traces.assert_gone(&world);
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let world = World::new();
    let mut run = foreground(&world, "trap 'echo asked > /v/$(hostname)' TERM; echo listens; while :; do sleep 0.05; done");
    let traces = world.traces();
    common::signal(run.0.id(), Signal::INT);
    until("they were asked", || (common::names(&world.out()).len() == 3).then_some(()));
    common::signal(run.0.id(), Signal::INT);
    let began = std::time::Instant::now();
    until("it ends", || run.0.try_wait().unwrap());
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "the pods' own grace is 5 s");
    traces.assert_gone(&world);
}

#[test]
fn a_run_whose_output_nobody_reads_any_more_still_ends_its_pods() {
    let world = World::new();
    let mut run = foreground(&world, WAITS);
    let traces = world.traces();
    // As when a terminal is closed, or the next command of a pipe has ended.
    drop((run.0.stdout.take(), run.0.stderr.take()));
    common::signal(run.0.id(), Signal::HUP);
    until("it ends", || run.0.try_wait().unwrap());
    traces.assert_gone(&world);
}

#[test]
fn a_hang_up_and_a_sigterm_end_a_run_too() {
    for signal in [Signal::HUP, Signal::TERM] {
        let world = World::new();
        let mut run = foreground(&world, WAITS);
        let traces = world.traces();
        common::signal(run.0.id(), signal);
        until("it ends", || run.0.try_wait().unwrap());
        traces.assert_gone(&world);
    }
}

#[test]
fn stop_from_elsewhere_ends_a_run_in_the_foreground() {
    let world = World::new();
    let mut run = foreground(&world, WAITS);
    world.call(&["stop", "--all"]).good();
    let status = until("it ends", || run.0.try_wait().unwrap());
    assert_ne!(status.code(), None, "it was not killed");
}

#[test]
fn a_pod_reads_the_input_that_exec_writes_into_its_file() {
    let world = running();
    let mut child = world.command(&["exec", "-i", "crun", "--", "sh", "-c", "cat > /tmp/x; cat /tmp/x"]);
    let mut child = Running(child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    stdin.write_all(b"typed").unwrap();
    stdin.flush().unwrap();
    assert!(child.0.try_wait().unwrap().is_none(), "it waits for the end of its input");
    drop(stdin);
    assert!(until("it ends", || child.0.try_wait().unwrap()).success());
}
