//! Runtimes, monitors and commands that fail, die, hang or lie: one sentence each, nothing stays, and
//! other pods do not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::disk::Disk;
use common::traces::{self, Traces};
use common::{Running, WAITS, World, app, brief, finish, manifest, names, pod, pod_in, until, until_runs};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A handler whose runtime can be made to fail at a verb. Its name is the runtime's with `-broken`.
struct Broken<'a> {
    world: &'a World,
    name: String,
}

/// The runtime. A file named by handler and verb says what that does in place of what it should: for
/// `by-name`, what the pod's name says.
const WRAPPER: &str = r#"#!/bin/sh
real=$(command -v REAL); verb=; id=; pid=; last=
for word; do
  [ "$last" = --pid-file ] && pid=$word
  case "$word" in create|start|state|kill|delete|exec|run|features|--version) [ -z "$verb" ] && verb=$word;; esac
  case "$word" in */pods/*/sandbox) verb=$verb-enclosure;; esac
  case "$word" in */pods/*/*) id=${word#*/pods/}; id=${id%%/*};; esac
  last=$word
done
echo "$verb" >> DIR/NAME.verbs
how=$(cat DIR/NAME.$verb 2>/dev/null)
[ "$how" = by-name ] && how=$(sed 's/.*"config":{"name":"\([^"]*\)".*/\1/' DIR/l/pods/$id/pod.json)
case "$how" in
  long) head -c 300000 /dev/zero | tr '\0' x >&2; exit 1;;
  binary) head -c 30000 /dev/urandom >&2; exit 1;;
  silent) exit 7;;
  dies) kill -9 $$;;
  hangs|"hangs-at-$verb") exec sleep 100000;;
  nothing) exit 0;;
  no-pid) "$real" "$@"; code=$?; rm -f "$pid"; exit $code;;
  garbage-pid) "$real" "$@"; code=$?; head -c 5000 /dev/urandom > "$pid"; exit $code;;
  huge-pid) "$real" "$@"; code=$?; echo 99999999999999999999 > "$pid"; exit $code;;
  negative-pid) "$real" "$@"; code=$?; echo -1 > "$pid"; exit $code;;
  others-pid) "$real" "$@"; code=$?; cat DIR/stranger > "$pid"; exit $code;;
  other-process) sleep 100000 & echo $! > "$pid"; exit 0;;
  leaves-process) "$real" "$@"; code=$?; sleep 100000 & exit $code;;
  fails-after) "$real" "$@"; exit 1;;
esac
exec "$real" "$@"
"#;

impl<'a> Broken<'a> {
    /// Adds the handler, and proves it while nothing is wrong with it.
    fn new(world: &'a World, real: &'static str) -> Self {
        let broken = Self::unproved(world, real);
        let handlers = world.call(&["handlers", "-o", "json"]).good().json();
        let found = handlers.as_array().unwrap().iter().find(|h| h["name"] == broken.name.as_str()).unwrap().clone();
        assert_eq!(found["unproved"], Value::Null, "{found}");
        broken
    }

    fn unproved(world: &'a World, real: &'static str) -> Self {
        let name = format!("{real}-broken");
        let script = WRAPPER.replace("REAL", real).replace("DIR", &world.dir.display().to_string()).replace("NAME", &name);
        let binary = world.script(&name, &script);
        world.drop_in(&format!("{name}.toml"), &format!("[handlers.{name}]\nbinary = {binary:?}\n"));
        Self { world, name }
    }

    /// From now on, `verb` fails in this way.
    fn fail(&self, verb: &str, how: &str) {
        fs::write(self.world.dir.join(format!("{}.{verb}", self.name)), how).unwrap();
    }

    /// Nothing is wrong with `verb` any more.
    fn mend(&self, verb: &str) {
        fs::remove_file(self.world.dir.join(format!("{}.{verb}", self.name))).unwrap();
    }

    fn class(&self) -> Value {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": self.name}, "handler": self.name})
    }

    /// A pod of the handler; with an enclosure where the verb is of one.
    fn pod(&self, name: &str, script: &str, verb: &str) -> [Value; 2] {
        let mut pod = pod(name, &self.name, &[app(script)]);
        if verb.ends_with("-enclosure") {
            pod["spec"]["shareProcessNamespace"] = json!(true);
        }
        [self.class(), pod]
    }

    /// Forgets which verbs were called.
    fn called_anew(&self) {
        fs::write(self.world.dir.join(format!("{}.verbs", self.name)), "").unwrap();
    }

    /// The verbs that were called so far.
    fn verbs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.world.dir.join(format!("{}.verbs", self.name))).unwrap_or_default();
        let mut verbs: Vec<String> = text.lines().map(str::to_owned).collect();
        verbs.sort();
        verbs.dedup();
        verbs
    }
}

/// A process of nobody's pod, which a runtime names as its own.
struct Stranger(Child);

impl Stranger {
    fn new(world: &World) -> Self {
        let child = Command::new("sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(world.dir.join("stranger"), child.id().to_string()).unwrap();
        Self(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}


/// Waits until pods have the processes that they had: what a command began may take a moment to go.
#[track_caller]
fn same(world: &World, pods: &[String], before: &[PathBuf]) {
    let line = |pid: &PathBuf| fs::read_to_string(pid.join("cmdline")).unwrap_or_default().replace('\0', " ");
    let deadline = std::time::Instant::now() + common::patience();
    loop {
        let now = traces::processes(world, pods);
        // A container's shell may have begun its `sleep` after it was looked at, and a sentry its stubs, which have no
        // command line; a process that nobody reaps has none either.
        let zombie = |pid: &PathBuf| fs::read_to_string(pid.join("status")).is_ok_and(|status| status.contains("State:\tZ"));
        let late = |pid: &&PathBuf| line(pid) == "sleep 100000 " || (line(pid).is_empty() && !zombie(pid));
        let new = now.iter().filter(|p| !before.contains(p) && !late(p));
        let more: Vec<String> = new.map(|p| format!("{} {}", p.display(), line(p))).collect();
        let less: Vec<_> = before.iter().filter(|p| !now.contains(p)).collect();
        if more.is_empty() && less.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "more: {more:?}, gone: {less:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A sentence of an error: one line, not long.
#[track_caller]
fn sentence(text: &str) {
    assert!(!text.is_empty() && !text.contains('\n') && text.chars().count() < 800, "{text:?}");
    assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
}

/// What a pod that failed says: itself, or its container.
#[track_caller]
fn why(pod: &Value) -> &str {
    let end = &pod["containers"][0]["state"]["terminated"];
    let said = [&pod["message"], &end["message"]].into_iter().filter_map(Value::as_str).find(|m| !m.is_empty());
    said.unwrap_or_else(|| panic!("it says nothing: {pod}"))
}

/// What goes wrong when a container or an enclosure is made, and a part of the sentence.
const WRONG: [(&str, &str); 11] = [
    ("long", "ended with code 1"),
    ("binary", "ended with code 1"),
    ("silent", "ended with code 7"),
    ("dies", "ended with code 137"),
    ("nothing", "cannot be read"),
    ("no-pid", "cannot be read"),
    ("garbage-pid", "cannot be read"),
    ("huge-pid", "holds no process id"),
    ("negative-pid", "holds no process id"),
    ("others-pid", "was not left to the monitor"),
    ("fails-after", "ended with code 1"),
];

/// A pod for each way in which `verb` can go wrong, beside one that goes on.
fn goes_wrong(real: &'static str, verb: &str) {
    let world = World::new();
    let mut stranger = Stranger::new(&world);
    world.detach(&[pod("stays", real, &[app(WAITS)])]);
    let stays = [world.id_of("stays")];
    let before = traces::settled(&world, &stays);
    let broken = Broken::new(&world, real);
    broken.fail(verb, "by-name");
    // The sentry's own end, not a pid file, tells of gVisor's containers.
    let told = |how: &str| verb == "run" && how.ends_with("-pid");
    let wrong: Vec<_> = WRONG.iter().filter(|(how, _)| !told(how)).collect();
    let mut objects: Vec<Value> = wrong.iter().flat_map(|(how, _)| broken.pod(how, "exit 0", verb)).collect();
    objects.extend(broken.pod("other-process", "exit 0", verb));
    objects.extend(broken.pod("leaves-process", "exit 0", verb));
    objects.dedup_by(|a, b| a == b && a["kind"] == "RuntimeClass");
    let mut seen = std::collections::BTreeSet::new();
    objects.retain(|o| seen.insert(o["metadata"]["name"].to_string()));
    let answer = world.run(&objects, &["-o", "json"]);
    assert_ne!(answer.code, Some(0));
    let report = answer.json();
    for (how, words) in wrong {
        let pod = pod_in(&report, how);
        let whole = pod.to_string();
        let end = &pod["containers"][0]["state"]["terminated"];
        if verb == "run" && *how == "nothing" {
            // The sentry does not know it: it ended before anybody looked.
            assert_eq!(end["exitCode"], 137, "{whole}");
            continue;
        }
        assert_eq!(pod["phase"], "Failed", "{real} {verb} {how}: {whole}");
        let said = why(pod);
        sentence(said);
        assert!(said.contains(words), "{real} {verb} {how}: {said}");
    }
    assert_eq!(pod_in(&report, "leaves-process")["phase"], "Succeeded", "{real} {verb}: {}", brief(&report));
    if verb != "run" {
        assert_eq!(pod_in(&report, "other-process")["phase"], "Failed", "{real} {verb}: {}", brief(&report));
    }
    assert_eq!(world.pod_ids(), stays, "{real} {verb}");
    same(&world, &stays, &before);
    assert!(stranger.0.try_wait().unwrap().is_none(), "{real} {verb}: somebody else's process was ended");
}

#[test]
fn a_runtime_that_fails_to_make_a_container_is_one_sentence_and_nothing_of_the_pod_stays() {
    for (real, verb) in [("crun", "create"), ("runc", "create"), ("runsc", "run")] {
        goes_wrong(real, verb);
    }
}

#[test]
fn a_runtime_that_fails_to_make_an_enclosure_is_one_sentence_and_nothing_of_the_pod_stays() {
    for (real, verb) in [("crun", "create-enclosure"), ("runc", "create-enclosure"), ("runsc", "run-enclosure")] {
        goes_wrong(real, verb);
    }
}

#[test]
fn a_runtime_that_fails_to_exec_is_one_sentence_and_its_container_goes_on() {
    for real in common::ALL {
        let world = World::new();
        let mut stranger = Stranger::new(&world);
        let broken = Broken::new(&world, real);
        world.detach(&broken.pod("p", WAITS, ""));
        let ids = world.pod_ids();
        let before = traces::settled(&world, &ids);
        for (how, words) in [("silent", "7"), ("dies", "137"), ("nothing", ""), ("no-pid", ""), ("garbage-pid", ""), ("others-pid", ""), ("fails-after", "1")] {
            broken.fail("exec", how);
            let answer = world.call(&["exec", "p", "--", "true"]);
            broken.mend("exec");
            // `runsc exec` stays as long as the command, and its end is the command's.
            if real != "runsc" {
                assert_eq!(answer.code, Some(120), "{how}: {answer:?}");
                sentence(answer.err.trim_end());
                assert!(answer.err.contains(&format!("{real}-broken exec failed")) && answer.err.contains(words), "{how}: {answer:?}");
            }
            assert_eq!(world.call(&["exec", "p", "--", "echo", "alive"]).good().out, "alive\n", "{real} {how}");
        }
        same(&world, &ids, &before);
        assert!(stranger.0.try_wait().unwrap().is_none(), "{real}: somebody else's process was ended");
    }
}

#[test]
fn verbs_that_are_never_called_cannot_fail() {
    for real in common::ALL {
        let world = World::new();
        let broken = Broken::unproved(&world, real);
        for verb in ["start", "state", "kill", "delete"] {
            broken.fail(verb, "hangs");
        }
        world.detach(&broken.pod("p", WAITS, ""));
        world.call(&["exec", "p", "--", "true"]).good();
        world.call(&["stop", "p"]).good();
        let called = broken.verbs();
        let known = ["--version", "features", "create", "run", "run-enclosure", "exec"];
        assert!(called.iter().all(|verb| known.contains(&verb.as_str())), "{real}: {called:?}");
    }
}

#[test]
fn a_runtime_that_does_not_tell_its_version_is_not_proved_with_the_reason() {
    let world = World::new();
    for (how, words) in [("long", "exit status: 1"), ("silent", "exit status: 7"), ("dies", "signal: 9"), ("nothing", "printed nothing"), ("hangs", "did not end within 10 s")] {
        let broken = Broken::unproved(&world, "crun");
        broken.fail("--version", how);
        let answer = world.run(&broken.pod("p", "exit 0", ""), &["-o", "json"]);
        assert_eq!((answer.code, &answer.json()["pods"][0]["reason"]), (Some(125), &json!("HandlerUnavailable")), "{how}: {answer:?}");
        let said = answer.json()["pods"][0]["message"].as_str().unwrap().to_owned();
        sentence(&said);
        assert!(said.contains("is not proved") && said.contains(words), "{how}: {said}");
        // Nothing is kept of it.
        broken.mend("--version");
        let (code, report) = world.report(&broken.pod("p", "exit 0", ""));
        assert_eq!(code, 0, "{how}: {}", brief(&report));
        for proof in names(&world.state().join("handlers")) {
            fs::remove_file(world.state().join("handlers").join(proof)).unwrap();
        }
    }
}

/// Waits until the runtime of each of these pods was called.
fn until_called(broken: &Broken<'_>, verb: &str) {
    until(&format!("{} {verb} is called", broken.name), || broken.verbs().iter().any(|v| v == verb).then_some(()));
}

/// It is waited for a minute: all at once.
#[test]
fn a_command_of_a_runtime_that_hangs_is_killed_and_tried_again() {
    let world = World::new();
    let (crun, runsc) = (Broken::new(&world, "crun"), Broken::new(&world, "runsc"));
    let rows = [(&crun, "create"), (&crun, "create-enclosure"), (&runsc, "run-enclosure"), (&runsc, "run")];
    let mut pods = vec![crun.class(), runsc.class()];
    for (broken, verb) in rows {
        broken.called_anew();
        broken.fail(verb, "by-name");
        pods.extend(broken.pod(&format!("hangs-at-{verb}"), "exit 0", verb).into_iter().skip(1));
    }
    let run = Running(world.spawn(&["run", "-f", "-", "-o", "json"], manifest(&pods).as_bytes()));
    for (broken, verb) in rows {
        until_called(broken, verb);
    }
    let hang = |pid: &PathBuf| fs::read_to_string(pid.join("cmdline")).is_ok_and(|line| line == "sleep\x00100000\x00");
    until("all hang", || (traces::processes(&world, &world.pod_ids()).iter().filter(|p| hang(p)).count() == rows.len()).then_some(()));
    rows.iter().for_each(|(broken, verb)| broken.mend(verb));
    // Others do not notice.
    let (code, report) = world.report(&[pod("other", "crun", &[app("exit 0")])]);
    assert_eq!(code, 0, "{}", brief(&report));
    assert_eq!(world.statuses().len(), rows.len());
    let answer = finish(take(run));
    let report = answer.json();
    for (_, verb) in rows {
        let pod = pod_in(&report, &format!("hangs-at-{verb}"));
        assert!(pod.to_string().contains("did not end within 60 s and was killed"), "{verb}: {pod}");
        // What began to run has failed; all else is tried again.
        assert_eq!(pod["phase"], if verb == "run" { "Failed" } else { "Succeeded" }, "{verb}: {pod}");
    }
}

/// The child of a run that is to be waited for.
fn take(mut run: Running) -> Child {
    let empty = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    std::mem::replace(&mut run.0, empty)
}

#[test]
fn what_a_killed_command_left_hanging_is_ended_by_stop_all() {
    for (real, verb) in [("crun", "create"), ("crun", "create-enclosure"), ("runsc", "run-enclosure"), ("runsc", "run")] {
        let world = World::new();
        let broken = Broken::new(&world, real);
        world.detach(&[pod("other", real, &[app(WAITS)])]);
        broken.called_anew();
        broken.fail(verb, "hangs");
        let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&broken.pod("victim", "exit 0", verb)).as_bytes()));
        until_called(&broken, verb);
        common::signal(run.0.id(), Signal::KILL);
        until("it is dead", || run.0.try_wait().unwrap());
        let traces = world.traces();
        assert_eq!(world.statuses()["other"], "Running", "{real} {verb}");
        world.call(&["stop", "--all", "--grace", "0"]).good();
        traces.assert_gone(&world);
    }
}

/// The process of a pod whose binary is the monitor.
#[track_caller]
fn monitor(world: &World, id: &str) -> u32 {
    let socket = world.state().join("pods").join(id);
    let ours = |pid: &PathBuf| fs::read_link(pid.join("exe")).is_ok_and(|exe| exe.to_string_lossy().contains("cofferdam-monitor"));
    let found = until("its monitor is there", || traces::processes(world, &[id.to_owned()]).into_iter().find(ours));
    assert!(socket.exists());
    found.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_monitor_that_dies_while_its_pod_starts_is_one_sentence_and_nothing_stays() {
    for (real, verb) in [("crun", "create"), ("crun", "create-enclosure"), ("runsc", "run-enclosure"), ("runsc", "run")] {
        let world = World::new();
        let broken = Broken::new(&world, real);
        broken.called_anew();
        broken.fail(verb, "hangs");
        let run = Running(world.spawn(&["run", "-f", "-", "-o", "json"], manifest(&broken.pod("victim", "exit 0", verb)).as_bytes()));
        until_called(&broken, verb);
        let traces = world.traces();
        broken.mend(verb);
        common::signal(monitor(&world, &traces.ids[0]), Signal::KILL);
        let answer = finish(take(run));
        let report = answer.json();
        // A sandbox is tried again; a pod that was up has failed.
        let pod = pod_in(&report, "victim");
        assert!(brief(&report).contains("monitor"), "{real} {verb}: {}", brief(&report));
        if answer.code != Some(0) {
            assert_eq!(pod["phase"], "Failed", "{real} {verb}: {}", brief(&report));
            sentence(why(pod));
        }
        traces.assert_gone(&world);
        assert_eq!(world.pod_ids(), [""; 0]);
    }
}

/// A container that does not end when it is asked to.
const STUBBORN: &str = "trap '' TERM; while true; do sleep 1; done";

#[test]
fn a_monitor_that_dies_while_its_pod_is_stopped_keeps_nothing() {
    for real in common::ALL {
        let world = World::new();
        world.detach(&[pod("p", real, &[app(STUBBORN)]), pod("other", real, &[app(WAITS)])]);
        let id = world.id_of("p");
        let (traces, other) = (Traces::of(&world, std::slice::from_ref(&id)), [world.id_of("other")]);
        let before = traces::settled(&world, &other);
        let stop = Running(world.spawn(&["stop", "p", "--grace", "20"], b""));
        std::thread::sleep(std::time::Duration::from_millis(400));
        common::signal(monitor(&world, &id), Signal::KILL);
        finish(take(stop)).good();
        traces.assert_gone(&world);
        same(&world, &other, &before);
    }
}

#[test]
fn a_monitor_that_is_stopped_for_a_while_loses_nothing() {
    for real in common::ALL {
        let world = World::new();
        world.detach(&[pod("p", real, &[app("while ! [ -e /tmp/go ]; do sleep 0.05; done; exit 9")])]);
        let id = world.id_of("p");
        let monitor = monitor(&world, &id);
        common::signal(monitor, Signal::STOP);
        let exec = Running(world.spawn(&["exec", "p", "--", "touch", "/tmp/go"], b""));
        assert_eq!(world.statuses()["p"], "Running", "{real}");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(world.pod_ids(), std::slice::from_ref(&id), "{real}");
        common::signal(monitor, Signal::CONT);
        finish(take(exec)).good();
        let row = until("it ends", || world.call(&["ps", "--all", "-o", "json"]).good().json().as_array().unwrap().iter().find(|p| p["status"] != "Running").cloned());
        assert!(row.to_string().contains('9'), "{real}: {row}");
    }
}

#[test]
fn a_containers_process_that_is_killed_from_outside_is_told_or_started_again() {
    for real in ["crun", "runc"] {
        let world = World::new();
        let mut again = pod("again", real, &[app(&format!("echo begun >> /v/begun; {WAITS}"))]);
        again["spec"]["restartPolicy"] = json!("Always");
        common::with_volume(&mut again, &json!({"hostPath": {"path": world.out()}}));
        world.detach(&[again]);
        let mut run = Running(world.spawn(&["run", "-f", "-", "-o", "json"], manifest(&[pod("once", real, &[app(WAITS)])]).as_bytes()));
        until_runs(&world, &mut run, "once");
        for pod in ["once", "again"] {
            common::signal(u32::try_from(world.container_pid(pod)).unwrap(), Signal::KILL);
        }
        let answer = finish(take(run));
        let report = answer.json();
        let end = common::end_of(&report, "once", "app");
        assert_eq!((answer.code, end["exitCode"].as_i64(), end["reason"].as_str()), (Some(137), Some(137), Some("Error")), "{}", brief(&report));
        let before = world.id_of("again");
        until("it is started again", || {
            let begun = fs::read_to_string(world.out().join("begun")).unwrap();
            (begun.lines().count() == 2 && world.statuses()["again"] == "Running").then_some(())
        });
        assert_eq!(world.id_of("again"), before, "{real}: the sandbox is the same");
    }
}

#[test]
fn pods_on_a_disk_that_is_full_or_can_only_be_read_are_refused_in_one_sentence_and_stopped_all_the_same() {
    let world = World::bare();
    let disk = Disk::new(&world, 64);
    disk.input(&["image", "load"], common::image::archive()).good();
    let run = |pods: &[Value], flags: &[&str]| disk.input(&[&["run", "-f", "-"], flags].concat(), manifest(pods).as_bytes());
    run(&common::ALL.map(|real| pod(real, real, &[app(WAITS)])), &["--detach"]).good();
    let pods = names(&disk.root().join("pods"));
    let before = traces::settled(&world, &pods);
    let victims = common::ALL.map(|real| pod(&format!("victim-{real}"), real, &[app("exit 0")]));
    let all = || disk.call(&["ps", "-o", "json"]).good().json();

    disk.leave(0);
    let answer = run(&victims, &["-o", "json"]);
    assert_eq!(answer.code, Some(125), "{answer:?}");
    for pod in answer.json()["pods"].as_array().unwrap() {
        sentence(why(pod));
        assert!(why(pod).contains("No space left on device"), "{pod}");
    }
    let rows = all();
    assert!(rows.as_array().unwrap().len() == 3 && rows.as_array().unwrap().iter().all(|p| p["status"] == "Running"), "{rows}");
    for real in common::ALL {
        assert_eq!(disk.call(&["exec", real, "--", "echo", "alive"]).good().out, "alive\n");
    }
    same(&world, &pods, &before);
    let ended = Traces::of(&world, &pods);
    disk.call(&["stop", "crun", "--grace", "0"]).good();
    assert_eq!(all().as_array().unwrap().len(), 2);
    disk.empty();

    disk.remount("ro");
    for answer in [run(&victims, &["-o", "json"]), disk.call(&["ps"]), disk.call(&["stop", "--all", "--grace", "0"])] {
        assert_eq!((answer.code, answer.out.as_str()), (Some(120), ""), "{answer:?}");
        sentence(answer.err.trim_end());
        assert!(answer.err.contains("Read-only file system"), "{answer:?}");
    }
    disk.remount("rw");
    assert_eq!(all().as_array().unwrap().len(), 2);
    disk.call(&["stop", "--all", "--grace", "0"]).good();
    ended.assert_gone(&world);
    assert_eq!(names(&disk.root().join("pods")), [""; 0]);
    assert_eq!(all(), json!([]));
}

/// Kills who keeps eight pods at moments of their start, of their life and of their end.
#[test]
fn a_command_that_is_killed_with_eight_pods_leaves_nothing_after_stop_all() {
    let world = World::new();
    let pods: Vec<Value> = (0..8).map(|n| pod(&format!("p{n}"), ["crun", "runc", "crun", "runsc"][n % 4], &[app(WAITS)])).collect();
    let text = manifest(&pods);
    world.report(&[pod("a", "crun", &[app("true")]), pod("b", "runc", &[app("true")]), pod("c", "runsc", &[app("true")])]);
    for moment in [20, 80, 150, 300, 600] {
        let mut run = Running(world.spawn(&["run", "-f", "-", "--parallel", "8"], text.as_bytes()));
        std::thread::sleep(std::time::Duration::from_millis(moment));
        common::signal(run.0.id(), Signal::KILL);
        until("it is dead", || run.0.try_wait().unwrap());
        let traces = world.traces();
        // Pods that were up go on, the others are undone; either way `ps` and `stop` answer.
        assert!(world.statuses().values().all(|s| s != "NotReady"), "{moment}: {:?}", world.ps());
        let mut stop = Running(world.spawn(&["stop", "--all", "--grace", "0"], b""));
        if moment >= 300 {
            std::thread::sleep(std::time::Duration::from_millis(moment / 4));
            let _ = stop.0.kill();
        }
        drop(stop);
        world.call(&["stop", "--all", "--grace", "0"]).good();
        traces.assert_gone(&world);
        assert_eq!(world.pod_ids(), [""; 0], "{moment}");
    }
}
