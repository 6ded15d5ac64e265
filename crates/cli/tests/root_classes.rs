//! Which enclosure a pod gets, and that it is never another: classes, defaults, old forms, handlers
//! that are missing, broken, changed or reloaded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, WAITS, World, app, brief, manifest, object, pod, pod_in, until, with_volume};
use serde_json::{Value, json};

/// A pod that leaves a file on the machine if any instruction of it runs.
fn marking(world: &World, name: &str, class: Option<&str>) -> Value {
    let mut pod = pod(name, "", &[app(&format!("touch /v/{name}"))]);
    match class {
        Some(class) => pod["spec"]["runtimeClassName"] = json!(class),
        None => drop(pod["spec"].as_object_mut().unwrap().remove("runtimeClassName")),
    }
    with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
    pod
}

fn class(name: &str, handler: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler})
}

#[track_caller]
fn nothing_ran(world: &World) {
    assert!(common::names(&world.out()).is_empty(), "ran: {:?}", common::names(&world.out()));
}

/// Runs one pod that must not be admitted, for this reason.
#[track_caller]
fn denied(world: &World, objects: &[Value], saying: &str) {
    let (code, report) = world.report(objects);
    let said = report["denied"][0]["reason"].as_str().unwrap_or_default();
    assert_eq!(code, 121, "{}", brief(&report));
    assert!(said.contains(saying), "looked for {saying:?} in {said}");
    nothing_ran(world);
}

/// Runs one pod that is admitted and must not start, for this reason.
#[track_caller]
fn unavailable(world: &World, objects: &[Value], saying: &str) {
    let (code, report) = world.report(objects);
    let pod = &report["pods"][0];
    let said = pod["message"].as_str().unwrap_or_default();
    assert_eq!((code, pod["reason"].as_str()), (125, Some("HandlerUnavailable")), "{}", brief(&report));
    assert!(said.contains("not started anywhere weaker"), "{said}");
    assert!(said.contains(saying), "looked for {saying:?} in {said}");
    assert_eq!(pod["began"], false);
    nothing_ran(world);
}

#[track_caller]
fn ran_under(world: &World, objects: &[Value], handler: &str) {
    let (code, report) = world.report(objects);
    assert_eq!((code, report["pods"][0]["handler"].as_str()), (0, Some(handler)), "{}", brief(&report));
}

#[test]
fn each_class_runs_its_handler() {
    let world = World::new();
    let pods: Vec<Value> = ALL.iter().map(|h| marking(&world, h, Some(h))).collect();
    let (code, report) = world.report(&pods);
    assert_eq!(code, 0, "{}", brief(&report));
    for handler in ALL {
        assert_eq!(pod_in(&report, handler)["handler"], *handler);
    }
}

#[test]
fn a_class_that_does_not_exist_is_refused() {
    let world = World::new();
    denied(&world, &[marking(&world, "p", Some("vault"))], "pod rejected: RuntimeClass \"vault\" not found");
}

#[test]
fn an_overhead_that_contradicts_the_class_is_refused() {
    let world = World::new();
    let mut pod = marking(&world, "p", Some("runsc"));
    pod["spec"]["overhead"] = json!({"cpu": "1m", "memory": "1Mi"});
    denied(&world, &[pod], "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
}

#[test]
fn an_overhead_without_one_of_the_class_is_refused() {
    let world = World::new();
    let mut pod = marking(&world, "p", Some("crun"));
    pod["spec"]["overhead"] = json!({"cpu": "1m"});
    denied(&world, &[pod], "Pod Overhead set without corresponding RuntimeClass defined Overhead");
}

#[test]
fn a_node_selector_that_contradicts_the_class_is_refused() {
    let world = World::new();
    let mut picky = class("picky", "crun");
    picky["scheduling"] = json!({"nodeSelector": {"disk": "fast"}});
    let mut pod = marking(&world, "p", Some("picky"));
    pod["spec"]["nodeSelector"] = json!({"disk": "slow"});
    denied(&world, &[picky, pod], "conflict: runtimeClass.scheduling.nodeSelector[disk] = fast; pod.spec.nodeSelector[disk] = slow");
}

/// Manifests whose classes are refused: nothing of them runs.
#[test]
fn a_class_that_is_invalid_stops_the_run() {
    let world = World::new();
    let mut negative = class("x", "crun");
    negative["overhead"] = json!({"podFixed": {"memory": "-1Mi"}});
    let mut misread = class("x", "crun");
    misread["metadata"]["annotations"] = json!({"cofferdam.dev/is-default-class": "yes"});
    let rows = [
        (vec![class("legacy", "crun")], "\"legacy\" is reserved"),
        (vec![class("x", "")], "handler"),
        (vec![class("x", "Not A Name")], "handler"),
        (vec![class("Not A Name", "crun")], "metadata.name"),
        (vec![negative], "overhead"),
        (vec![misread], "is-default-class"),
        (vec![class("x", "crun"), class("x", "runc")], "the same object stands already"),
    ];
    for (mut objects, word) in rows {
        objects.push(marking(&world, "p", Some("crun")));
        world.run(&objects, &[]).fails(120, word);
        nothing_ran(&world);
    }
}

#[test]
fn a_pod_that_names_no_class_gets_the_default_handler() {
    let world = World::new();
    ran_under(&world, &[marking(&world, "p", None)], "runc");
    world.configure("default_handler = \"crun\"");
    ran_under(&world, &[marking(&world, "p", None)], "crun");
}

#[test]
fn legacy_and_the_empty_name_mean_the_default_handler_with_no_class() {
    let world = World::new();
    world.configure("default_handler = \"crun\"");
    let mut default = class("everybody", "runsc");
    default["metadata"]["annotations"] = json!({"cofferdam.dev/is-default-class": "true"});
    for name in ["legacy", ""] {
        ran_under(&world, &[default.clone(), marking(&world, "p", Some(name))], "crun");
    }
}

#[test]
fn the_clusters_default_class_is_set_where_a_pod_names_none() {
    let world = World::new();
    let mut default = class("everybody", "crun");
    default["metadata"]["annotations"] = json!({"cofferdam.dev/is-default-class": "true"});
    let (_, report) = world.report(&[default, marking(&world, "p", None)]);
    assert_eq!((report["pods"][0]["class"].as_str(), report["pods"][0]["handler"].as_str()), (Some("everybody"), Some("crun")));
}

#[test]
fn the_namespaces_default_class_stands_before_the_clusters() {
    let world = World::new();
    let mut default = class("everybody", "runc");
    default["metadata"]["annotations"] = json!({"cofferdam.dev/is-default-class": "true"});
    let mut space = object("Namespace", "secure", json!({}));
    space["metadata"]["annotations"] = json!({"cofferdam.dev/default-runtime-class": "crun"});
    let mut pod = marking(&world, "p", None);
    pod["metadata"]["namespace"] = json!("secure");
    ran_under(&world, &[default, space, pod], "crun");
}

#[test]
fn a_namespaces_default_class_that_does_not_exist_is_refused() {
    let world = World::new();
    let mut space = object("Namespace", "secure", json!({}));
    space["metadata"]["annotations"] = json!({"cofferdam.dev/default-runtime-class": "vault"});
    let mut pod = marking(&world, "p", None);
    pod["metadata"]["namespace"] = json!("secure");
    denied(&world, &[space, pod], "RuntimeClass \"vault\" not found; it is the default of namespace \"secure\"");
}

#[test]
fn an_untrusted_pod_of_old_runs_under_the_configured_handler_with_a_warning() {
    let world = World::new();
    world.configure("untrusted_handler = \"crun\"");
    let mut pod = marking(&world, "p", None);
    pod["metadata"]["annotations"] = json!({"io.kubernetes.cri.untrusted-workload": "true"});
    let answer = world.run(&[pod], &["-o", "json"]).good();
    assert_eq!(answer.json()["pods"][0]["handler"], "crun");
    assert!(answer.err.contains("io.kubernetes.cri.untrusted-workload"), "{}", answer.err);
}

#[test]
fn an_untrusted_pod_of_old_is_refused_where_no_handler_is_configured_for_it() {
    let world = World::new();
    let mut pod = marking(&world, "p", None);
    pod["metadata"]["annotations"] = json!({"io.kubernetes.cri-o.TrustedSandbox": "false"});
    denied(&world, &[pod], "asks for the handler of untrusted pods, and none is configured");
}

#[test]
fn an_old_annotation_beside_a_class_is_refused() {
    let world = World::new();
    world.configure("untrusted_handler = \"crun\"");
    let mut pod = marking(&world, "p", Some("runc"));
    pod["metadata"]["annotations"] = json!({"io.kubernetes.cri.untrusted-workload": "true"});
    denied(&world, &[pod], "io.kubernetes.cri.untrusted-workload");
}

#[test]
fn the_first_form_of_runtime_class_is_read_with_a_warning() {
    let world = World::new();
    let first = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "old"}, "spec": {"runtimeHandler": "crun"}});
    let answer = world.run(&[first, marking(&world, "p", Some("old"))], &["-o", "json"]).good();
    assert_eq!(answer.json()["pods"][0]["handler"], "crun");
    assert!(answer.err.contains("warning") && answer.err.contains("handler: crun"), "{}", answer.err);
}

#[test]
fn a_limit_range_and_a_quota_refuse_pods() {
    let world = World::new();
    let range = object("LimitRange", "r", json!({"spec": {"limits": [{"type": "Container", "max": {"memory": "10Mi"}}]}}));
    let mut pod = marking(&world, "p", Some("crun"));
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "20Mi"}});
    denied(&world, &[range, pod], "maximum memory usage per Container is 10Mi");
    let quota = object("ResourceQuota", "q", json!({"spec": {"hard": {"pods": "0"}}}));
    denied(&world, &[quota, marking(&world, "p", Some("crun"))], "exceeded quota: q");
}

#[test]
fn the_overhead_counts_against_the_quota() {
    let world = World::new();
    let quota = object("ResourceQuota", "q", json!({"spec": {"hard": {"requests.memory": "70Mi"}}}));
    let mut pod = marking(&world, "p", Some("runsc"));
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "10Mi"}});
    denied(&world, &[quota, pod], "exceeded quota: q");
}

#[test]
fn a_handler_that_is_not_configured_starts_nothing() {
    let world = World::new();
    unavailable(&world, &[class("x", "nowhere"), marking(&world, "p", Some("x"))], "no runtime for \"nowhere\" is configured");
}

#[test]
fn a_handler_whose_binary_is_missing_starts_nothing() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\nbinary = \"/no/such/runc\"\n");
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "needs /no/such/runc, which does not exist");
}

#[test]
fn a_handler_whose_binary_is_nowhere_in_the_path_starts_nothing() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\nbinary = \"no-such-runtime\"\n");
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "needs no-such-runtime, which is not installed");
}

#[test]
fn a_handler_whose_binary_cannot_be_executed_starts_nothing() {
    let world = World::new();
    std::fs::write(world.dir.join("plain"), "#!/bin/sh\n").unwrap();
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = \"{}/plain\"\n", world.dir.display()));
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "is not an executable file");
}

#[test]
fn a_handler_whose_binary_fails_starts_nothing() {
    let world = World::new();
    let broken = world.script("broken", "#!/bin/sh\necho broken on purpose >&2\nexit 1\n");
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {broken:?}\n"));
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "is not proved");
}

#[test]
fn a_handler_whose_binary_is_another_program_starts_nothing() {
    let world = World::new();
    // It knows `--version`, and does nothing else that a runtime does.
    let other = world.script("other", "#!/bin/sh\n[ \"$1\" = --version ] && echo other 1.0\nexit 0\n");
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {other:?}\n"));
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "its canary pod failed");
}

/// A runtime that runs something, but not what it was told to.
#[test]
fn a_handler_whose_pods_do_not_end_as_they_should_starts_nothing() {
    let world = World::new();
    let text = "#!/bin/sh\nfor a in \"$@\"; do\n  [ \"$a\" = create ] && sed -i 's#\"/canary\",\"canary\"#\"/canary\",\"nonsense\"#' config.json\ndone\nexec runc \"$@\"\n";
    let fake = world.script("fake", text);
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {fake:?}\n"));
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "its canary pod failed");
}

#[test]
fn a_handler_that_needs_a_driver_not_built_yet_starts_nothing_and_says_so() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\ntype = \"vm\"\n");
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "not built yet");
}

#[test]
fn a_handler_that_is_turned_off_starts_nothing_and_gives_the_reason() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\nbinary = \"crun\"\nunusable = \"not before the audit\"\n");
    unavailable(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "not before the audit");
}

#[test]
fn a_handler_runs_the_very_binary_that_it_names() {
    let world = World::new();
    let log = world.dir.join("calls");
    let own = world.script("own-runc", &format!("#!/bin/sh\necho \"$0\" >> {}\nexec runc \"$@\"\n", log.display()));
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {own:?}\n"));
    ran_under(&world, &[class("x", "x"), marking(&world, "p", Some("x"))], "x");
    let calls = std::fs::read_to_string(&log).unwrap();
    // Version, features, the canary's container, the pod's container.
    assert_eq!(calls.lines().count(), 4, "{calls}");
}

#[test]
fn a_binary_that_was_replaced_since_its_proof_is_proved_anew() {
    let world = World::new();
    let own = world.script("own-runc", "#!/bin/sh\nexec runc \"$@\"\n");
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {own:?}\n"));
    let objects = [class("x", "x"), marking(&world, "p", Some("x"))];
    ran_under(&world, &objects, "x");
    std::fs::remove_file(world.out().join("p")).unwrap();
    world.script("own-runc", "#!/bin/sh\n[ \"$1\" = --version ] && echo runc 1\nexit 0\n");
    unavailable(&world, &objects, "is not proved");
}

#[test]
fn handlers_lists_each_with_its_proof_or_its_reason() {
    let world = World::new();
    let broken = world.script("broken", "#!/bin/sh\nexit 1\n");
    world.drop_in("x.toml", &format!("[handlers.x]\nbinary = {broken:?}\n"));
    let listed = world.call(&["handlers", "-o", "json"]).good().json();
    let of = |name: &str| listed.as_array().unwrap().iter().find(|h| h["name"] == name).unwrap().clone();
    for handler in ALL {
        assert_eq!(of(handler)["unproved"], Value::Null, "{handler}");
        assert!(of(handler)["binary"].as_str().unwrap().ends_with(handler), "{handler}");
        assert!(!of(handler)["version"].as_str().unwrap().is_empty(), "{handler}");
    }
    assert!(of("x")["unproved"].as_str().unwrap().contains("is not proved"));
    assert_eq!((of("runc")["default"].as_bool(), of("crun")["default"].as_bool()), (Some(true), Some(false)));
    assert!(world.ps().is_empty(), "canaries are no pods of users");
}

#[test]
fn handlers_come_from_containerds_file_where_it_is_imported() {
    let world = World::new();
    let theirs = world.dir.join("containerd.toml");
    std::fs::write(
        &theirs,
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"quick\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.quick]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.quick.options]\nBinaryName = \"crun\"\n",
    )
    .unwrap();
    let text = std::fs::read_to_string(world.dir.join("etc/config.toml")).unwrap();
    std::fs::write(world.dir.join("etc/config.toml"), text.replace("import = []", &format!("import = [{theirs:?}]"))).unwrap();
    ran_under(&world, &[class("x", "quick"), marking(&world, "p", Some("x"))], "quick");
    ran_under(&world, &[marking(&world, "q", None)], "quick");
}

#[test]
fn a_configuration_with_an_error_starts_nothing() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\nbinary = 7\n");
    let answer = world.run(&[marking(&world, "p", Some("crun"))], &[]);
    assert_eq!(answer.code, Some(120), "{answer:?}");
    assert!(answer.err.contains("conf.d/x.toml") && answer.err.contains("handlers.x.binary"), "{}", answer.err);
    nothing_ran(&world);
    world.call(&["config"]).fails(120, "handlers.x.binary");
    std::fs::remove_file(world.dir.join("etc/conf.d/x.toml")).unwrap();
}

#[test]
fn config_tells_where_each_value_came_from() {
    let world = World::new();
    world.drop_in("x.toml", "[handlers.x]\nbinary = \"crun\"\n");
    let answer = world.call(&["config"]).good();
    let line = answer.out.lines().find(|l| l.contains("handlers.x")).map(str::to_owned);
    assert!(line.is_some(), "{}", answer.out);
    assert!(answer.out.contains("conf.d/x.toml:1"), "{}", answer.out);
}

#[test]
fn a_handler_added_while_pods_run_is_listed_and_used() {
    let world = World::new();
    world.detach(&[pod("stays", "crun", &[app(WAITS)])]);
    let pid = world.container_pid("stays");
    world.run(&[class("x", "late"), marking(&world, "early", Some("x"))], &[]).fails(125, "no runtime for \"late\" is configured");
    nothing_ran(&world);
    world.drop_in("late.toml", "[handlers.late]\nbinary = \"crun\"\n");
    assert!(world.call(&["handlers"]).good().out.contains("late"));
    ran_under(&world, &[class("x", "late"), marking(&world, "p", Some("x"))], "late");
    assert_eq!((world.container_pid("stays"), world.statuses()["stays"].as_str()), (pid, "Running"));
}

#[test]
fn a_handler_removed_while_its_pod_runs_does_the_pod_no_harm_and_takes_no_new_one() {
    let world = World::new();
    world.drop_in("late.toml", "[handlers.late]\nbinary = \"crun\"\n");
    world.detach(&[class("x", "late"), pod("stays", "x", &[app(WAITS)])]);
    let pid = world.container_pid("stays");
    std::fs::remove_file(world.dir.join("etc/conf.d/late.toml")).unwrap();
    unavailable(&world, &[class("x", "late"), marking(&world, "p", Some("x"))], "no runtime for \"late\" is configured");
    assert_eq!((world.container_pid("stays"), world.statuses()["stays"].as_str()), (pid, "Running"));
    assert_eq!(world.call(&["exec", "stays", "--", "echo", "alive"]).good().out, "alive\n");
    world.call(&["stop", "stays"]).good();
    assert!(world.statuses().is_empty());
}

#[test]
fn a_running_command_takes_a_changed_configuration_and_keeps_the_old_one_where_it_has_an_error() {
    let world = World::new();
    let mut run = common::Running(world.spawn(&["run", "-f", "-"], manifest(&[pod("stays", "crun", &[app(WAITS)])]).as_bytes()));
    let lines = common::Lines::of(run.0.stderr.take().unwrap());
    lines.wait_for("Running");
    world.drop_in("late.toml", "[handlers.late]\nbinary = \"crun\"\n");
    lines.wait_for("handler late was added");
    world.drop_in("late.toml", "[handlers.late]\nbinary = 7\n");
    lines.wait_for("configuration not taken");
    std::fs::remove_file(world.dir.join("etc/conf.d/late.toml")).unwrap();
    lines.wait_for("handler late was removed");
    assert_eq!(world.statuses()["stays"], "Running");
    common::signal(run.0.id(), rustix::process::Signal::INT);
    until("it ends", || run.0.try_wait().unwrap());
}
