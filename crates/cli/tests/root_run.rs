//! `cofferdam run`: exit codes, what it prints, what it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, World, app, container, manifest, merge, message, pod, pod_in, with_volume};
use serde_json::{Value, json};

fn writes(file: &str) -> String {
    format!("echo ran > /v/{file}")
}

/// A pod that leaves a file in the world's directory if it runs at all.
fn marking(world: &World, name: &str, class: &str) -> Value {
    let mut pod = pod(name, class, &[app(&writes(name))]);
    with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
    pod
}

#[test]
fn a_run_in_which_all_succeed_ends_with_0() {
    let world = World::new();
    let pods: Vec<Value> = ALL.iter().map(|h| pod(h, h, &[app("exit 0")])).collect();
    assert_eq!(world.report(&pods).0, 0);
}

#[test]
fn a_run_ends_with_the_code_of_the_container_under_every_handler() {
    for handler in ALL {
        let world = World::new();
        assert_eq!(world.report(&[pod("p", handler, &[app("exit 37")])]).0, 37, "{handler}");
    }
}

#[test]
fn the_code_of_a_process_that_a_signal_killed_is_128_and_the_signal_under_every_handler() {
    let world = World::new();
    world.asserts(&ALL, "sleep 9 & kill -15 $!; wait $!; echo $? > /dev/termination-log", "143", |_| {});
}

#[test]
fn a_container_killed_from_outside_ends_with_137() {
    let world = World::new();
    for handler in common::SHARED {
        let child = world.spawn(&["run", "-f", "-", "-o", "json"], manifest(&[pod(handler, handler, &[app("sleep 60")])]).as_bytes());
        common::until("the pod runs", || (world.statuses().get(handler)? == "Running").then_some(()));
        common::signal(u32::try_from(world.container_pid(handler)).unwrap(), rustix::process::Signal::KILL);
        assert_eq!(common::finish(child).code, Some(137), "{handler}");
    }
}

#[test]
fn the_first_failed_container_in_the_manifests_order_gives_the_code() {
    let world = World::new();
    let pods = [
        pod("good", "crun", &[app("exit 0")]),
        pod("later", "crun", &[container("a", "exit 0"), container("b", "sleep 0.5; exit 5"), container("c", "exit 6")]),
        pod("sooner", "crun", &[app("exit 7")]),
    ];
    assert_eq!(world.report(&pods).0, 5);
}

#[test]
fn a_pod_that_is_not_admitted_gives_121_and_the_others_run() {
    let world = World::new();
    let (code, report) = world.report(&[marking(&world, "denied", "nowhere"), marking(&world, "good", "crun")]);
    assert_eq!(code, 121);
    assert_eq!(common::names(&world.out()), ["good"]);
    assert_eq!(report["denied"][0]["name"], "denied");
}

#[test]
fn a_failed_container_stands_before_a_denied_pod() {
    let world = World::new();
    assert_eq!(world.report(&[pod("denied", "nowhere", &[app("exit 0")]), pod("bad", "crun", &[app("exit 9")])]).0, 9);
}

#[test]
fn errors_of_ours_give_120() {
    let world = World::new();
    world.call(&["run", "-f", "/nonexistent.yaml"]).fails(120, "/nonexistent.yaml cannot be read");
    world.input(&["run", "-f", "-"], b"").fails(120, "there is nothing to run");
    world.call(&["logs", "nobody"]).fails(120, "pod \"nobody\" is not here");
}

#[test]
fn a_pod_whose_image_is_missing_never_starts_and_says_so() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("exit 0")]);
    pod["spec"]["containers"][0]["image"] = json!("no/such:1");
    pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let (code, report) = world.report(&[pod]);
    assert_eq!(code, 125, "{}", common::brief(&report));
    let text = report.to_string();
    assert!(text.contains("no/such:1"), "{}", common::brief(&report));
}

#[test]
fn a_command_that_is_not_in_the_image_fails_under_every_handler_and_says_so() {
    let world = World::new();
    let pods: Vec<Value> = ALL
        .iter()
        .map(|h| {
            let mut pod = pod(h, h, &[app("")]);
            pod["spec"]["containers"][0]["command"] = json!(["/not/there"]);
            pod
        })
        .collect();
    let (code, report) = world.report(&pods);
    assert_ne!(code, 0);
    for handler in ALL {
        assert_eq!(pod_in(&report, handler)["phase"], "Failed", "{}", common::brief(&report));
        assert!(pod_in(&report, handler).to_string().contains("/not/there"), "{handler}: {}", common::brief(&report));
    }
}

#[test]
fn the_images_own_command_runs_where_the_pod_gives_none() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("")]);
    pod["spec"]["containers"][0].as_object_mut().unwrap().remove("command");
    assert_eq!(message(&world.report(&[pod]).1, "p", "app"), "image command\n");
}

#[test]
fn folders_and_several_files_are_read_as_one_manifest() {
    let world = World::new();
    let dir = world.dir.join("m");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), manifest(&[])).unwrap();
    std::fs::write(dir.join("b.json"), marking(&world, "b", "runc").to_string()).unwrap();
    std::fs::write(dir.join("c.yml"), marking(&world, "c", "crun").to_string()).unwrap();
    std::fs::write(dir.join("note.txt"), "not a manifest").unwrap();
    let extra = world.dir.join("extra.yaml");
    std::fs::write(&extra, marking(&world, "d", "crun").to_string()).unwrap();
    world.call(&["run", "-f", dir.to_str().unwrap(), "-f", extra.to_str().unwrap()]).good();
    let mut ran = common::names(&world.out());
    ran.sort();
    assert_eq!(ran, ["b", "c", "d"]);
}

#[test]
fn a_deployment_runs_as_its_replicas() {
    let world = World::new();
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "runtimeClassName": "crun", "containers": [app(common::WAITS)],
    }});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    world.detach(&[deployment]);
    let running = world.ps().iter().filter(|p| p["status"] == "Running" && p["name"].as_str().unwrap().starts_with("web")).count();
    assert_eq!(running, 3);
}

/// Each of these stops the run before anything of it is made, with one sentence that names it.
#[test]
fn what_cannot_be_honoured_stops_the_run_and_nothing_runs() {
    let world = World::new();
    let change = |path: &str, value: Value| {
        let mut bad = marking(&world, "bad", "crun");
        let more = path.rsplit('.').fold(value, |inner, key| json!({ key: inner }));
        merge(&mut bad, &more);
        bad
    };
    let rows = [
        ("StatefulSet", json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"}, "spec": {}})),
        ("Gateway", json!({"apiVersion": "example.com/v1", "kind": "Gateway", "metadata": {"name": "x"}})),
        ("colour", change("spec.colour", json!("red"))),
        ("livenessProbe", {
            let mut bad = marking(&world, "bad", "crun");
            bad["spec"]["containers"][0]["livenessProbe"] = json!({});
            bad
        }),
        ("persistentVolumeClaim", {
            let mut bad = marking(&world, "bad", "crun");
            bad["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]);
            bad
        }),
    ];
    for (word, bad) in rows {
        let answer = world.run(&[marking(&world, "good", "crun"), bad], &[]);
        assert_eq!(answer.code, Some(120), "{word}: {answer:?}");
        assert!(answer.err.contains(word), "{word}: {}", answer.err);
        assert_eq!(answer.err.lines().filter(|l| l.contains(word)).count(), 1, "{word}: {}", answer.err);
        assert!(common::names(&world.out()).is_empty(), "{word}: something ran");
        assert!(world.pod_ids().is_empty(), "{word}: something was made");
    }
}

#[test]
fn a_pod_of_a_name_that_runs_is_not_started_again() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(common::WAITS)])]);
    world.run(&[pod("p", "crun", &[app("exit 0")])], &[]).fails(120, "pod default/p is here already");
    assert_eq!(world.statuses().len(), 1);
}

#[test]
fn the_report_names_handler_class_and_address() {
    let world = World::new();
    let (_, report) = world.report(&[pod("p", "runsc", &[app("exit 0")])]);
    let pod = pod_in(&report, "p");
    assert_eq!((pod["handler"].as_str(), pod["class"].as_str()), (Some("runsc"), Some("runsc")));
    assert!(pod["ip"].as_str().unwrap().starts_with(&format!("{}.", world.net)), "{pod:#}");
    assert_eq!(pod["phase"], "Succeeded");
}
