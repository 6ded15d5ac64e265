//! `debug`: containers that are added to running pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::hold::{self, HELD, Hold};
use common::{ALL, IMAGE, Lines, Running, SHARED, WAITS, World, app, container, image, manifest, pod, until, until_runs};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Stdio;

/// Another image, whose `/etc/marker` says `other`.
const OTHER: &str = "test/other:1";

/// A world in which a pod of each handler runs a process that nothing else is taken for.
fn running() -> World {
    let world = World::new();
    world.input(&["image", "load"], &image::docker_archive(OTHER, "other")).good();
    world.detach(&ALL.map(|h| pod(h, h, &[app("trap 'exit 0' TERM; sleep 4242 & wait $!"), container("side", WAITS)])));
    world
}

/// `debug -i -q POD --image IMAGE FLAGS -- sh -c SCRIPT`.
fn look(world: &World, pod: &str, flags: &[&str], script: &str) -> common::Answer {
    let args: Vec<&str> = ["debug", "-i", "-q", pod, "--image", IMAGE]
        .into_iter()
        .chain(flags.iter().copied())
        .collect();
    world.call(&[&args[..], &["--", "sh", "-c", script]].concat())
}

/// The added containers of a pod, as `describe` shows them.
fn added(world: &World, pod: &str) -> Vec<Value> {
    let told = world.call(&["describe", pod, "-o", "json"]).good().json();
    told[0]["view"]["ephemeral"].as_array().cloned().unwrap_or_default()
}

#[test]
fn it_sees_the_processes_of_its_target_and_of_nobody_else() {
    let world = running();
    for handler in ALL {
        let with = look(&world, handler, &["--target", "app"], "ps").good().out;
        assert!(with.contains("sleep 4242"), "{handler}: {with}");
        let without = look(&world, handler, &[], "ps").good().out;
        assert!(!without.contains("sleep 4242") && without.contains("ps"), "{handler}: {without}");
        let of_other = look(&world, handler, &["--target", "side"], "ps").good().out;
        assert!(
            !of_other.contains("sleep 4242") && of_other.contains("sleep 100000"),
            "{handler}: {of_other}"
        );
    }
}

#[test]
fn it_has_its_own_image_and_environment_in_the_pods_network() {
    let world = running();
    for handler in ALL {
        let marker = world
            .call(&["debug", "-iq", handler, "--image", OTHER, "--", "cat", "/etc/marker"])
            .good()
            .out;
        assert_eq!(marker.trim(), "other", "{handler}");
        let told = look(&world, handler, &["--env", "A=b=c", "--env", "D="], "echo $A/$D/$(hostname)")
            .good()
            .out;
        assert_eq!(told, format!("b=c//{handler}\n"));
        let ip = world.ps().iter().find(|row| row["name"] == handler).unwrap()["ip"]
            .as_str()
            .unwrap()
            .to_owned();
        let addresses = look(&world, handler, &[], "ip addr").good().out;
        assert!(addresses.contains(&ip), "{handler}: {addresses}");
    }
}

#[test]
fn its_streams_and_its_exit_code_are_the_commands() {
    let world = running();
    for handler in ALL {
        let answer = look(&world, handler, &[], "echo to out; echo to err >&2; exit 42");
        assert_eq!(
            (answer.code, answer.out.as_str(), answer.err.as_str()),
            (Some(42), "to out\n", "to err\n"),
            "{handler}"
        );
        let cut = look(&world, handler, &[], "printf 'no end'; printf two >&2").good();
        assert_eq!((cut.out.as_str(), cut.err.as_str()), ("no end", "two"), "{handler}");
        let input: Vec<u8> = (0..20_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let args = ["debug", "-iq", handler, "--image", IMAGE, "--", "cat"];
        let echoed = world.input(&args, &input).good().out;
        assert!(
            echoed.as_bytes() == input,
            "{handler}: {} bytes came back of {}",
            echoed.len(),
            input.len()
        );
        let attached = ["debug", "--attach", "-q", handler, "--image", IMAGE, "--", "wc", "-c"];
        assert_eq!(world.input(&attached, b"unseen").good().out.trim(), "0", "{handler}");
    }
}

#[test]
fn what_it_writes_is_whole_however_much_and_input_that_is_cut_off_is_told() {
    let world = running();
    let input: Vec<u8> = (0..500_000u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for handler in ALL {
        let out = world
            .call(&["debug", "--attach", "-q", handler, "--image", IMAGE, "--", "seq", "1", "500000"])
            .good()
            .out;
        assert!(out.lines().map(|l| l.parse::<u32>().unwrap()).eq(1..=500_000), "{handler}");
        let counted = world
            .input(&["debug", "-iq", handler, "--image", IMAGE, "--", "wc", "-c"], &input)
            .good()
            .out;
        assert_eq!(counted.trim(), input.len().to_string(), "{handler}");
        // The monitor lets go of an attached client that it writes to faster than that reads.
        let echoed = world.input(&["debug", "-iq", handler, "--image", IMAGE, "--", "cat"], &input);
        match echoed.code {
            Some(0) => assert!(
                echoed.out.as_bytes() == input,
                "{handler}: {} bytes of {}",
                echoed.out.len(),
                input.len()
            ),
            _ => drop(echoed.fails(120, "its input was cut off")),
        }
    }
}

#[test]
fn it_can_have_the_callers_terminal() {
    let world = running();
    for handler in ALL {
        let script = "'read line; test -t 0 && echo a terminal, $line; stty size; exit 7'";
        let inner = world.command(&["debug", "-it", handler, "--image", IMAGE, "--", "sh", "-c", script]);
        let words: Vec<String> = std::iter::once(inner.get_program())
            .chain(inner.get_args())
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        let line = format!("stty rows 33 cols 99; {}", words.join(" "));
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().expect("script is missing; install Debian's bsdutils");
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"typed\n").unwrap();
        let answer = common::finish(child);
        drop(stdin);
        assert_eq!(answer.code, Some(7), "{handler}: {answer:?}");
        assert!(
            answer.out.contains("a terminal, typed") && answer.out.contains("33 99"),
            "{handler}: {answer:?}"
        );
        assert!(answer.out.contains("try pressing enter"), "{handler}: {answer:?}");
    }
}

#[test]
fn one_that_goes_on_is_shown_and_can_be_spoken_to_and_ends_with_the_pod() {
    let world = running();
    for handler in ALL {
        let told = world
            .call(&["debug", handler, "--image", IMAGE, "--", "sh", "-c", &format!("echo here; {WAITS}")])
            .good()
            .out;
        let name = told
            .trim()
            .strip_prefix("Defaulting debug container name to ")
            .and_then(|t| t.strip_suffix('.'));
        let name = name.unwrap_or_else(|| panic!("{handler}: {told}"));
        assert!(name.starts_with("debugger-") && name.len() == 14, "{name}");
        until("it runs", || added(&world, handler).first()?["state"].get("running").map(drop));
        assert_eq!(added(&world, handler)[0]["name"], name);
        assert!(world.call(&["describe", handler]).good().out.contains(name), "{handler}");
        let row = world.ps().into_iter().find(|row| row["name"] == handler).unwrap();
        assert_eq!(
            (row["containers"].as_i64(), row["status"].as_str()),
            (Some(2), Some("Running")),
            "as kubectl counts: {row}"
        );
        until("it writes", || {
            (world.call(&["logs", handler, "-c", name]).good().out == "here\n").then_some(())
        });
        assert_eq!(
            world.call(&["exec", handler, "-c", name, "--", "echo", "in it"]).good().out,
            "in it\n"
        );
        let id = world.id_of(handler);
        world.call(&["stop", handler]).good();
        assert!(common::traces::processes(&world, &[id]).is_empty(), "{handler}: processes are left");
    }
}

#[test]
fn a_pod_is_over_when_its_own_containers_are() {
    let world = World::new();
    let scripts = SHARED.map(|h| pod(h, h, &[app("until [ -e /tmp/go ]; do sleep 0.05; done")]));
    world.detach(&scripts);
    for handler in SHARED {
        world
            .call(&["debug", "-q", handler, "--image", IMAGE, "-c", "look", "--", "sh", "-c", WAITS])
            .good();
        until("it runs", || added(&world, handler).first()?["state"].get("running").map(drop));
        world.call(&["exec", handler, "-c", "app", "--", "touch", "/tmp/go"]).good();
        until("the pod is over", || {
            let all = world.call(&["ps", "--all", "-o", "json"]).good().json();
            let row = all.as_array().unwrap().iter().find(|row| row["name"] == handler)?;
            (row["status"] == "Completed").then_some(())
        });
    }
}

#[test]
fn who_is_attached_is_told_when_the_pod_ends() {
    let world = World::new();
    world.detach(&ALL.map(|h| pod(h, h, &[app(WAITS)])));
    for handler in ALL {
        let script = "echo here; trap 'echo told; exit 3' TERM; sleep 100000 & wait $!";
        let mut debug = Running(world.spawn(
            &["debug", "--attach", "-q", handler, "--image", IMAGE, "--", "sh", "-c", script],
            b"",
        ));
        let lines = Lines::of(debug.0.stdout.take().unwrap());
        lines.wait_for("here");
        world.call(&["stop", handler]).good();
        lines.wait_for("told");
        let ended = until("it ends", || debug.0.try_wait().unwrap());
        assert_eq!(ended.code(), Some(3), "{handler}");
    }
}

#[test]
fn a_pod_that_has_not_begun_is_told_at_once() {
    let world = World::new();
    let hold = Hold::new(&world);
    let pods = [
        hold::class(),
        pod("first", HELD, &[app(WAITS)]),
        pod("second", "crun", &[app(WAITS)]),
    ];
    let _run = Running(world.spawn(&["run", "-f", "-", "--parallel", "1"], manifest(&pods).as_bytes()));
    hold.until_held();
    world
        .call(&["debug", "second", "--image", IMAGE])
        .fails(120, "pod default/second has not begun yet");
    world
        .call(&["resize", "second", "--limits", "cpu=1"])
        .fails(120, "pod default/second has not begun yet");
    hold.release();
}

#[test]
fn what_must_not_be_is_refused_in_upstreams_words() {
    let world = World::new();
    let mut web = pod("web", "crun", &[app(WAITS)]);
    web["spec"]["initContainers"] = serde_json::json!([container("first", "true")]);
    world.detach(&[web]);
    let debug = |flags: &[&str]| world.call(&[&["debug", "web", "--image", IMAGE][..], flags, &["--", "sh", "-c", WAITS]].concat());
    debug(&["-c", "app"]).fails(120, "spec.ephemeralContainers[0].name: Duplicate value: \"app\"");
    debug(&["-c", "look"]).good();
    debug(&["-c", "look"]).fails(120, "spec.ephemeralContainers[1].name: Duplicate value: \"look\"");
    debug(&["-c", "Not_A_Name"]).fails(120, "spec.ephemeralContainers[1].name: Invalid value: \"Not_A_Name\"");
    debug(&["--target", "ap"]).fails(120, "has no container \"ap\"; did you mean app?");
    debug(&["--target", "first"]).fails(120, "its target, container \"first\", does not run");
    debug(&["--env", "novalue"]).fails(120, "NAME=VALUE");
    world
        .call(&["debug", "wep", "--image", IMAGE])
        .fails(120, "did you mean default/web?");
    world.call(&["debug", "web"]).fails(120, "--image");
    until("the one that was let in runs", || {
        added(&world, "web").first()?["state"].get("running").map(drop)
    });
    assert_eq!(added(&world, "web").len(), 1, "nothing was added that was refused");
}

#[test]
fn one_that_cannot_start_says_why_and_harms_nobody() {
    let world = World::new();
    world.detach(&ALL.map(|h| pod(h, h, &[app(WAITS)])));
    for handler in ALL {
        let with = |image: &str, policy: &str, command: &str| {
            world.call(&[
                "debug",
                "-iq",
                handler,
                "--image",
                image,
                "--image-pull-policy",
                policy,
                "--",
                command,
            ])
        };
        with("127.0.0.1:1/no/such:1", "Always", "sh").fails(120, "ErrImagePull");
        with("127.0.0.1:1/no/such:2", "Never", "sh").fails(120, "ErrImageNeverPull");
        let answer = with(IMAGE, "IfNotPresent", "/not/there");
        assert!(answer.code != Some(0) && answer.err.contains("/not/there"), "{handler}: {answer:?}");
        assert_eq!(world.statuses()[handler], "Running");
        assert_eq!(look(&world, handler, &[], "echo still").good().out, "still\n", "{handler}");
    }
}

#[test]
fn profiles_give_what_they_say() {
    let world = World::new();
    world.detach(&[pod("web", "crun", &[app(WAITS)])]);
    let bit = |profile: &str, bit: u32| {
        let out = look(&world, "web", &["--profile", profile], "grep CapEff /proc/self/status")
            .good()
            .out;
        u64::from_str_radix(out.split_whitespace().last().unwrap(), 16).unwrap() >> bit & 1 == 1
    };
    let (admin, ptrace) = (12, 19);
    assert_eq!((bit("legacy", admin), bit("legacy", ptrace)), (false, false));
    assert_eq!((bit("general", admin), bit("general", ptrace)), (false, true));
    assert_eq!((bit("netadmin", admin), bit("netadmin", ptrace)), (true, false));
    assert_eq!((bit("sysadmin", admin), bit("sysadmin", ptrace)), (true, true));
    look(&world, "web", &["--profile", "restricted"], "true").fails(120, "runAsNonRoot");
}

#[test]
fn pods_in_the_foreground_can_be_looked_at_and_pods_that_nobody_keeps_cannot() {
    let world = World::new();
    let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&[pod("web", "crun", &[app(WAITS)])]).as_bytes()));
    until_runs(&world, &mut run, "web");
    assert_eq!(
        look(&world, "web", &["--target", "app"], "echo in; ps").good().out.lines().next(),
        Some("in")
    );
    let json = world
        .call(&["debug", "web", "--image", IMAGE, "-c", "look", "-o", "json"])
        .good()
        .json();
    assert_eq!(
        (json["pod"].as_str(), json["container"]["name"].as_str()),
        (Some("web"), Some("look")),
        "{json}"
    );
    common::signal(run.0.id(), Signal::KILL);
    run.0.wait().unwrap();
    look(&world, "web", &[], "true").fails(120, "no process keeps it any more");
}
