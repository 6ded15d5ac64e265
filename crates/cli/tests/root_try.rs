//! `cofferdam try`: one pod under every handler, side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, Answer, World, app, container, manifest, merge, pod};
use serde_json::{Value, json};

/// The answer of `try -f - …`; whatever it was, nothing of the pods may be left.
#[track_caller]
fn attempt(world: &World, objects: &[Value], flags: &[&str]) -> Answer {
    let args: Vec<&str> = ["try", "-f", "-"].iter().chain(flags).copied().collect();
    let answer = world.input(&args, manifest(objects).as_bytes());
    for dir in ["l/pods", "l/volumes", "l/logs", "l/ended", "s/pods", "s/secrets", "s/owners"] {
        assert_eq!(
            common::names(&world.dir.join(dir)),
            Vec::<String>::new(),
            "left in {dir}: {answer:?}"
        );
    }
    answer
}

/// The exit code and the tries of the first pod by handler.
#[track_caller]
fn tries(world: &World, objects: &[Value], flags: &[&str]) -> (Option<i32>, Value, impl Fn(&str) -> Value + use<>) {
    let answer = attempt(world, objects, &[&["-o", "json"], flags].concat());
    let report = answer.json();
    let trials = report["pods"][0]["trials"].as_array().cloned().unwrap_or_default();
    let of = move |handler: &str| {
        trials
            .iter()
            .find(|t| t["handler"] == handler)
            .unwrap_or_else(|| panic!("no try under {handler}"))
            .clone()
    };
    (answer.code, report, of)
}

/// A pod that may be given any class: it names none.
fn plain(script: &str) -> Value {
    let mut pod = pod("p", "runc", &[app(script)]);
    pod["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    pod
}

fn verdict(trial: &Value) -> &str {
    trial["verdict"].as_str().unwrap()
}

/// A server on port 8080 that is ready after a moment, and ends at SIGTERM.
fn server() -> Value {
    let script =
        "mkdir /tmp/w; httpd -f -p 8080 -h /tmp/w & trap 'exit 0' TERM; sleep 0.3; echo fine > /tmp/w/health; sleep 100000 & wait $!";
    plain(script)
}

#[test]
fn a_pod_that_runs_the_same_everywhere_gives_0_and_its_costs() {
    let world = World::new();
    let (code, report, of) = tries(&world, &[plain("echo out; echo err >&2; exit 3")], &[]);
    assert_eq!((code, &report["same"]), (Some(0), &json!(true)), "{report:#}");
    for handler in ALL {
        let trial = of(handler);
        assert_eq!(trial["reference"], handler == "runc");
        assert_eq!(trial["containers"][0]["exitCode"], 3, "{trial:#}");
        assert_eq!(
            trial["containers"][0]["output"]["stdout"],
            json!({"text": "out\n", "truncated": false})
        );
        assert_eq!(trial["containers"][0]["output"]["stderr"]["text"], "err\n");
        assert_eq!((&trial["same"], &trial["differences"]), (&json!(true), &json!([])));
        for number in ["startMicros", "runMicros", "memoryPeak", "enclosurePeak", "overhead"] {
            assert!(trial[number].is_u64(), "{handler}: {number} in {trial:#}");
        }
    }
    assert!(verdict(&of("runc")).starts_with("runc: the reference: exit code 3; starts in "));
    assert!(verdict(&of("crun")).starts_with("crun: runs the same: exit code 3 and the same output"));
    let cost = |handler: &str| of(handler)["memoryPeak"].as_u64().unwrap();
    assert!(cost("runsc") > cost("runc"), "a kernel of one's own costs memory");
    assert!(verdict(&of("runsc")).contains(" MiB more"), "{}", verdict(&of("runsc")));
}

#[test]
fn lines_that_differ_are_shown_beside_each_other() {
    let world = World::new();
    let (code, report, of) = tries(&world, &[plain("echo same; uname -r")], &[]);
    assert_eq!((code, &report["same"]), (Some(1), &json!(false)));
    assert_eq!(of("crun")["same"], true);
    let trial = of("runsc");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let line = &trial["differences"][0]["lines"][0];
    assert_eq!((&line["line"], line["reference"].as_str().unwrap()), (&json!(2), kernel.trim()));
    assert!(line["here"].as_str().unwrap().contains("gvisor"), "{line}");
    assert!(
        verdict(&trial).starts_with("runsc: runs, but what it writes differs in 1 line; "),
        "{trial:#}"
    );

    let shown = attempt(
        &world,
        &[plain("echo same; uname -r")],
        &["--handler", "runsc", "--handler", "crun"],
    );
    assert_eq!(shown.code, Some(1), "{shown:?}");
    for part in [
        "HANDLER",
        "PEAK MEMORY",
        "\nDifferences\n  runsc, container app, stdout:\n",
        "\nVerdict\n  crun: the reference: ",
    ] {
        assert!(shown.out.contains(part), "looked for {part:?} in {}", shown.out);
    }
    assert!(shown.out.contains(&format!("2  crun   {}\n", kernel.trim())), "{}", shown.out);
}

#[test]
fn a_system_call_that_gvisor_lacks_is_named_as_the_cause_or_as_harmless() {
    let world = World::new();
    // Reading the clock's state; gVisor has neither of the two calls for it.
    let asking = |script: &str| {
        let mut pod = plain(script);
        merge(
            &mut pod["spec"]["containers"][0],
            &json!({"securityContext": {"capabilities": {"add": ["SYS_TIME"]}}}),
        );
        pod
    };
    let (code, _, of) = tries(&world, &[asking("busybox adjtimex -q > /dev/null 2>&1")], &[]);
    let trial = of("runsc");
    assert_eq!(code, Some(1), "{trial:#}");
    assert!(trial["refusedCalls"].to_string().contains("adjtime"), "{trial:#}");
    let said = verdict(&trial);
    assert!(
        said.starts_with("runsc: does not run the same: exit code 1 in place of 0; asked for "),
        "{said}"
    );
    assert!(said.ends_with(", which gVisor does not have") && !said.contains("rseq"), "{said}");
    assert_eq!(of("runc")["refusedCalls"], json!([]));

    let (code, _, of) = tries(&world, &[asking("busybox adjtimex -q > /dev/null 2>&1; true")], &[]);
    let trial = of("runsc");
    assert_eq!(code, Some(0), "{trial:#}");
    let said = verdict(&trial);
    assert!(
        said.contains("adjtime") && said.contains(", which gVisor does not have, and it did no harm"),
        "{said}"
    );
}

#[test]
fn a_pod_that_a_handler_refuses_does_not_run_there_and_says_why() {
    let world = World::new();
    let mut pod = plain("true");
    pod["spec"]["hostNetwork"] = json!(true);
    let (code, _, of) = tries(&world, &[pod], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(of("crun")["same"], true);
    let trial = of("runsc");
    assert_eq!((&trial["started"], &trial["same"]), (&json!(false), &json!(false)));
    assert!(
        verdict(&trial).starts_with("runsc: does not run: ") && verdict(&trial).contains("hostNetwork"),
        "{trial:#}"
    );
}

#[test]
fn a_server_is_waited_for_given_a_load_and_ended() {
    let world = World::new();
    let flags = [
        "--until",
        "http://:8080/health",
        "--exec",
        "wget -qO- localhost:8080/health; exit 5",
    ];
    let (code, report, of) = tries(&world, &[server()], &flags);
    assert_eq!(code, Some(0), "{report:#}");
    for handler in ALL {
        let trial = of(handler);
        assert!(trial["until"]["micros"].as_u64().unwrap() >= 300_000, "{trial:#}");
        assert_eq!(
            (&trial["exec"]["exitCode"], &trial["exec"]["output"]["stdout"]["text"]),
            (&json!(5), &json!("fine\n"))
        );
        assert_eq!(
            (&trial["stopped"], &trial["containers"][0]["exitCode"]),
            (&json!(true), &json!(0)),
            "{trial:#}"
        );
    }
    assert!(verdict(&of("runsc")).contains("runs the same: becomes ready, the command ends with exit code 5 and the same output"));

    let shown = attempt(&world, &[server()], &["--until", "exec:test -e /tmp/w/health", "--handler", "crun"]).good();
    assert!(
        shown.out.contains("READY") && shown.out.contains("the reference: becomes ready"),
        "{}",
        shown.out
    );
}

#[test]
fn a_load_that_differs_makes_the_difference() {
    let world = World::new();
    let (code, _, of) = tries(
        &world,
        &[server()],
        &["--exec", "dmesg 2> /dev/null | grep -qi gvisor; uname -r | grep -q gvisor"],
    );
    assert_eq!(code, Some(1));
    assert!(verdict(&of("runsc")).starts_with("runsc: does not run the same: the command ends with exit code 0 in place of 1"));
}

#[test]
fn a_server_that_is_never_ready_gives_124() {
    let world = World::new();
    let flags = [
        "--until",
        "http://:8080/nothing",
        "--until-timeout",
        "2",
        "--handler",
        "crun",
        "--handler",
        "runc",
    ];
    let (code, _, of) = tries(&world, &[server()], &flags);
    assert_eq!(code, Some(124));
    assert!(
        verdict(&of("runc")).contains("never becomes ready (it answered 404; waited for 2 s)"),
        "{}",
        verdict(&of("runc"))
    );
}

#[test]
fn a_pod_that_goes_on_without_a_condition_is_ended_at_the_limit() {
    let world = World::new();
    let (code, _, of) = tries(
        &world,
        &[plain(common::WAITS)],
        &["--until-timeout", "1", "--handler", "crun", "--handler", "runc"],
    );
    assert_eq!(code, Some(0));
    assert!(
        verdict(&of("crun")).starts_with("crun: runs the same: runs until it is ended and no output"),
        "{}",
        verdict(&of("crun"))
    );
}

#[test]
fn handlers_that_are_not_proved_are_told_and_never_run() {
    let world = World::new();
    let ran = world.dir.join("ran");
    let broken = world.script(
        "broken",
        &format!(
            "#!/bin/sh\ncase \"$*\" in *create*|*run*) echo \"$*\" >> {};; esac\nexit 1\n",
            ran.display()
        ),
    );
    world.drop_in("broken.toml", &format!("[handlers.broken]\ntype = \"oci\"\nbinary = {broken:?}\n"));
    let (code, report, _) = tries(&world, &[plain("true")], &[]);
    assert_eq!(code, Some(0));
    let tried: Vec<&Value> = report["pods"][0]["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["handler"])
        .collect();
    assert_eq!(tried, ["runc", "crun", "runsc"]);
    let unproved = report["unproved"]
        .as_array()
        .unwrap()
        .iter()
        .find(|h| h["handler"] == "broken")
        .unwrap();
    assert!(
        unproved["reason"].as_str().unwrap().contains("handler \"broken\" is not proved"),
        "{unproved}"
    );
    let calls = std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    let shown = attempt(&world, &[plain("true")], &[]).good();
    assert!(
        shown.out.contains("broken   not proved") && shown.out.contains("\nbroken: not tried: "),
        "{}",
        shown.out
    );
    attempt(&world, &[plain("true")], &["--handler", "broken"]).fails(120, "handler \"broken\" is not proved");
    let canaries = std::fs::read_to_string(&ran).unwrap_or_default().lines().count() - calls;
    assert_eq!(canaries, 2 * calls, "only its canaries were ever made");
}

#[test]
fn errors_of_ours_give_120_and_name_what_was_meant() {
    let world = World::new();
    attempt(&world, &[plain("true")], &["--handler", "runcs"]).fails(120, "did you mean handler \"runc\"?");
    attempt(&world, &[plain("true")], &["--until", "https://:1/"]).fails(120, "is neither http://:PORT/PATH nor exec:COMMAND");
    attempt(&world, &[], &[]).fails(120, "there is nothing to try");
}

#[test]
fn a_pod_that_is_not_admitted_gives_121_and_one_that_nobody_starts_125() {
    let world = World::new();
    let (code, report, _) = tries(&world, &[pod("p", "nowhere", &[app("true")])], &[]);
    assert_eq!((code, &report["denied"][0]["name"]), (Some(121), &json!("p")));
    let mut missing = plain("true");
    missing["spec"]["containers"][0]["image"] = json!("no/such:1");
    missing["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let (code, _, of) = tries(&world, &[missing], &["--handler", "runc", "--handler", "crun"]);
    assert_eq!(code, Some(125));
    assert!(
        verdict(&of("crun")).starts_with("crun: does not run, as under runc: ") && verdict(&of("crun")).contains("\"no/such:1\""),
        "{}",
        verdict(&of("crun"))
    );
}

#[test]
fn a_pod_sees_its_own_name_and_its_class_is_warned_of() {
    let world = World::new();
    let mut classed = pod("p", "runsc", &[app("echo $POD; hostname")]);
    classed["spec"]["restartPolicy"] = json!("Always");
    classed["spec"]["containers"][0]["env"] = json!([{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let answer = attempt(&world, &[classed.clone()], &["-o", "json"]).good();
    let report = answer.json();
    assert_eq!(
        report["pods"][0]["trials"][2]["containers"][0]["output"]["stdout"]["text"], "p\np\n",
        "{report:#}"
    );
    assert!(
        answer
            .err
            .contains("warning: pod p names RuntimeClass \"runsc\", and is tried under runc and crun too"),
        "{}",
        answer.err
    );
    // Under its own handler alone there is nothing to warn of.
    let alone = attempt(&world, &[classed], &["--handler", "runsc"]).good();
    assert!(!alone.err.contains("warning"), "{}", alone.err);
}

#[test]
fn each_pod_of_a_manifest_is_tried_and_replicas_once() {
    let world = World::new();
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [app("true"), container("b", "exit 2")]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    let (code, report, _) = tries(
        &world,
        &[plain("echo one"), deployment],
        &["--handler", "runc", "--handler", "crun"],
    );
    assert_eq!(code, Some(0), "{report:#}");
    let pods: Vec<(&Value, usize)> = report["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (&p["standsFor"], p["trials"].as_array().unwrap().len()))
        .collect();
    assert_eq!(pods, [(&json!(1), 2), (&json!(3), 2)]);
    assert!(
        report["pods"][1]["trials"][1]["verdict"]
            .as_str()
            .unwrap()
            .contains("exit codes 0 (app) and 2 (b)"),
        "{report:#}"
    );
}

#[test]
fn an_interrupted_try_leaves_nothing_and_tries_no_further() {
    let world = World::new();
    let child = world.spawn(&["try", "-f", "-"], manifest(&[plain(common::WAITS)]).as_bytes());
    common::until("the first try runs", || {
        (world.statuses().get("p-runc")? == "Running").then_some(())
    });
    let traces = world.traces();
    common::signal(child.id(), rustix::process::Signal::INT);
    let answer = common::finish(child).fails(120, "was ended by request; nothing more is tried");
    traces.assert_gone(&world);
    assert_eq!(answer.out, "");
    assert!(common::names(&world.root().join("logs")).is_empty());
}
