//! `resize`: resources of running pods, changed in place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Running, SHARED, WAITS, World, app, container, manifest, pod, until, until_runs};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;

const MIB: i64 = 1 << 20;

/// Requests and limits; the pod is burstable.
fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": cpu, "memory": memory}})
}

/// A pod with a container of these limits that waits.
fn held(name: &str, class: &str, cpu: &str, memory: &str) -> Value {
    let mut pod = pod(name, class, &[app(WAITS)]);
    pod["spec"]["containers"][0]["resources"] = resources(cpu, memory);
    pod
}

/// Whether this machine has cgroup v2 alone.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Memory limit in MiB and cpu quota in microseconds of a group below ours; -1 for a quota is none.
fn limits(group: &str) -> (i64, i64) {
    let read = |v1: &str, v2: &str| {
        let root = Path::new("/sys/fs/cgroup");
        let (controller, _) = v1.split_once('.').unwrap();
        let file = if unified() {
            root.join("cofferdam").join(group).join(v2)
        } else {
            root.join(controller).join("cofferdam").join(group).join(v1)
        };
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        // `max` is what v2 says for -1.
        text.split_whitespace().next().unwrap().replace("max", "-1").parse::<i64>().unwrap()
    };
    (
        read("memory.limit_in_bytes", "memory.max") / MIB,
        read("cpu.cfs_quota_us", "cpu.max"),
    )
}

/// The group of the newest container of a name in a pod.
fn group(world: &World, pod: &str, container: &str) -> String {
    let view = view(world, pod);
    let all = view["containers"].as_array().unwrap();
    let found = all.iter().find(|c| c["name"] == container).unwrap();
    format!("{}/{}", world.id_of(pod), found["id"].as_str().unwrap())
}

fn view(world: &World, pod: &str) -> Value {
    let told = world.call(&["describe", pod, "-o", "json"]).good().json();
    told[0]["view"].clone()
}

/// What a container sees of its own memory limit, in MiB.
fn seen_inside(world: &World, pod: &str, container: &str) -> i64 {
    let file = if unified() {
        "/sys/fs/cgroup/memory.max"
    } else {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    };
    let told = world.call(&["exec", pod, "-c", container, "--", "cat", file]).good().out;
    told.trim().parse::<i64>().unwrap() / MIB
}

#[test]
fn containers_and_pods_grow_and_shrink_and_nothing_is_started_again() {
    let world = World::new();
    world.detach(&SHARED.map(|h| held(h, h, "200m", "64Mi")));
    for handler in SHARED {
        let (pid, container) = (world.container_pid(handler), group(&world, handler, "app"));
        assert_eq!(
            (limits(&container), limits(&world.id_of(handler))),
            ((64, 20_000), (64, 20_000)),
            "{handler}"
        );
        for (asked, memory, quota) in [
            ("cpu=400m,memory=128Mi", 128, 40_000),
            ("cpu=150m", 128, 15_000),
            ("memory=32Mi", 32, 15_000),
            ("cpu=1,memory=24Mi", 24, 100_000),
        ] {
            let told = world.call(&["resize", handler, "--limits", asked]).good();
            assert_eq!(told.out, format!("pod/{handler} resized\n"));
            assert_eq!(limits(&container), (memory, quota), "{handler} {asked}");
            assert_eq!(limits(&world.id_of(handler)), (memory, quota), "the pod of {handler}, {asked}");
            assert_eq!(seen_inside(&world, handler, "app"), memory, "{handler} {asked}");
        }
        assert_eq!(world.container_pid(handler), pid, "{handler}");
        let shown = &view(&world, handler)["containers"][0];
        assert_eq!(shown["resources"]["limits"], json!({"cpu": "1", "memory": "24Mi"}), "{shown}");
        assert_eq!(shown["restarts"], 0);
        let again = world.call(&["resize", handler, "--limits", "cpu=1"]).good().out;
        assert_eq!(again, format!("pod/{handler} has these resources already\n"));
    }
}

#[test]
fn requests_move_the_shares() {
    let world = World::new();
    world.detach(&SHARED.map(|h| held(h, h, "400m", "64Mi")));
    for handler in SHARED {
        world.call(&["resize", handler, "-c", "app", "--requests", "cpu=250m"]).good();
        let group = group(&world, handler, "app");
        let file = if unified() {
            format!("/sys/fs/cgroup/cofferdam/{group}/cpu.weight")
        } else {
            format!("/sys/fs/cgroup/cpu/cofferdam/{group}/cpu.shares")
        };
        let told = std::fs::read_to_string(&file).unwrap();
        assert_eq!(told.trim(), if unified() { "10" } else { "256" }, "{handler}");
        assert_eq!(view(&world, handler)["containers"][0]["allocatedResources"]["cpu"], "250m");
    }
}

#[test]
fn a_gvisor_pod_is_resized_as_a_whole() {
    let world = World::new();
    let mut two = held("two", "runsc", "200m", "64Mi");
    let mut side = container("side", WAITS);
    side["resources"] = resources("100m", "32Mi");
    two["spec"]["containers"].as_array_mut().unwrap().push(side);
    world.detach(&[held("one", "runsc", "200m", "64Mi"), two]);
    // The class has an overhead of 50m and 64Mi.
    assert_eq!(
        (limits(&world.id_of("one")), limits(&world.id_of("two"))),
        ((128, 25_000), (160, 35_000))
    );
    let answer = world.call(&["resize", "one", "--limits", "cpu=400m,memory=128Mi"]).good();
    assert_eq!((answer.err.as_str(), limits(&world.id_of("one"))), ("", (192, 45_000)));
    world.call(&["resize", "one", "--limits", "cpu=300m,memory=100Mi"]).good();
    assert_eq!(limits(&world.id_of("one")), (164, 35_000));
    let answer = world
        .call(&["resize", "two", "-c", "side", "--limits", "cpu=200m,memory=64Mi"])
        .good();
    assert!(answer.err.contains("the pod as a whole is held to their sum"), "{answer:?}");
    assert_eq!(limits(&world.id_of("two")), (192, 45_000));
    assert_eq!(
        world.call(&["exec", "two", "-c", "side", "--", "echo", "lives"]).good().out,
        "lives\n"
    );
}

#[test]
fn containers_of_one_pod_change_together_or_by_name() {
    let world = World::new();
    let mut two = held("web", "crun", "200m", "64Mi");
    let mut side = container("side", WAITS);
    side["resources"] = resources("100m", "32Mi");
    two["spec"]["containers"].as_array_mut().unwrap().push(side);
    world.detach(&[two]);
    let now = || {
        (
            limits(&group(&world, "web", "app")),
            limits(&group(&world, "web", "side")),
            limits(&world.id_of("web")),
        )
    };
    world.call(&["resize", "web", "--limits", "memory=48Mi"]).good();
    assert_eq!(now(), ((48, 20_000), (48, 10_000), (96, 30_000)));
    let json = world
        .call(&["resize", "web", "-c", "side", "--limits", "cpu=500m", "-o", "json"])
        .good()
        .json();
    assert_eq!(now(), ((48, 20_000), (48, 50_000), (96, 70_000)));
    let changed = json["containers"].as_array().unwrap();
    assert_eq!(
        (changed.len(), &changed[0]["name"], &changed[0]["restarted"]),
        (1, &json!("side"), &json!(false)),
        "{json}"
    );
    assert_eq!(changed[0]["resources"]["limits"]["cpu"], "500m");
}

#[test]
fn a_container_whose_policy_asks_for_it_is_started_again_with_what_is_new() {
    let world = World::new();
    let mut web = held("web", "crun", "200m", "64Mi");
    web["spec"]["restartPolicy"] = json!("Always");
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    web["spec"]["containers"][0]["resizePolicy"] = policy.clone();
    let mut side = container("side", WAITS);
    side["resources"] = resources("100m", "32Mi");
    side["resizePolicy"] = policy;
    web["spec"]["containers"].as_array_mut().unwrap().push(side);
    world.detach(&[web]);
    let told = world.call(&["resize", "web", "-c", "app", "--limits", "cpu=300m"]).good().out;
    assert_eq!(told, "pod/web resized\n");
    assert_eq!(limits(&group(&world, "web", "app")), (64, 30_000));
    let told = world.call(&["resize", "web", "--limits", "memory=96Mi"]).good().out;
    assert!(
        told.contains("container app is started again") && told.contains("container side is started again"),
        "{told}"
    );
    // The change before is still under way; this one waits for it.
    world.call(&["resize", "web", "--limits", "cpu=250m"]).good();
    until("both were started again", || {
        let view = view(&world, "web");
        let again = |c: &Value| c["restarts"] == 1 && c["state"].get("running").is_some();
        view["containers"].as_array().unwrap().iter().all(again).then_some(())
    });
    assert_eq!(limits(&group(&world, "web", "app")), (96, 25_000));
    assert_eq!(limits(&group(&world, "web", "side")), (96, 25_000));
    until("the pod follows", || (limits(&world.id_of("web")) == (192, 50_000)).then_some(()));
}

#[test]
fn what_must_not_be_is_refused_in_upstreams_words_and_changes_nothing() {
    let world = World::new();
    let mut sure = held("sure", "crun", "200m", "64Mi");
    sure["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "200m", "memory": "64Mi"}});
    let mut never = held("never", "crun", "200m", "64Mi");
    never["spec"]["initContainers"] = json!([{"name": "first", "image": common::IMAGE, "command": ["true"]}]);
    world.detach(&[sure, never]);
    let resize = |args: &[&str]| world.call(&[&["resize"][..], args].concat());
    resize(&["sure", "--requests", "cpu=100m"]).fails(120, "Pod QOS Class may not change as a result of resizing");
    resize(&["sure", "--limits", "cpu=100m"]).fails(120, "must be less than or equal to cpu limit");
    resize(&["sure", "--limits", "ephemeral-storage=1Gi"]).fails(120, "only cpu and memory resources are mutable");
    resize(&["never", "-c", "first", "--limits", "cpu=100m", "--requests", "cpu=100m"])
        .fails(120, "resources for non-sidecar init containers are immutable");
    resize(&["sure", "-c", "ap", "--limits", "cpu=100m"]).fails(120, "has no container \"ap\"; did you mean app?");
    resize(&["sur", "--limits", "cpu=100m"]).fails(120, "did you mean default/sure?");
    resize(&["sure"]).fails(120, "--limits");
    resize(&["sure", "--limits", "cpu"]).fails(120, "expected <resource>=<value>");
    resize(&["never", "--limits", "memory=9Ti", "--requests", "memory=9Ti"]).fails(120, "Node didn't have enough capacity: memory");
    for name in ["sure", "never"] {
        assert_eq!(limits(&group(&world, name, "app")), (64, 20_000), "{name}");
    }
    assert_eq!(limits(&world.id_of("sure")), (64, 20_000));
}

#[test]
fn memory_in_use_is_not_cut_and_all_stays_as_it_was() {
    let world = World::new();
    // The buffer of `dd` is full, and nobody reads it.
    let script = "dd if=/dev/zero bs=40M count=1 | { echo full; exec sleep 100000; }";
    world.detach(&SHARED.map(|h| {
        let mut pod = pod(h, h, &[app(script)]);
        pod["spec"]["containers"][0]["resources"] = resources("200m", "96Mi");
        pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
        pod
    }));
    for handler in SHARED {
        let used = || world.call(&["top", handler, "-o", "json"]).good().json()[0]["containers"][0]["memoryBytes"].as_i64();
        until("the memory is in use", || used().filter(|used| *used > 40 * MIB));
        let refused = world.call(&["resize", handler, "--limits", "cpu=400m,memory=32Mi"]);
        refused.fails(
            120,
            "attempting to set container \"app\" memory limit (33554432) below current usage",
        );
        assert_eq!(limits(&group(&world, handler, "app")), (96, 20_000), "{handler}");
        assert_eq!(limits(&world.id_of(handler)), (96, 20_000), "{handler}");
        assert_eq!(world.statuses()[handler], "Running");
        world.call(&["resize", handler, "--limits", "memory=64Mi"]).good();
        assert_eq!(limits(&group(&world, handler, "app")), (64, 20_000), "{handler}");
    }
}

#[test]
fn a_gvisor_pod_is_not_cut_below_what_it_uses() {
    let world = World::new();
    let mut pod = pod(
        "web",
        "runsc",
        &[app("dd if=/dev/zero bs=80M count=1 | { echo full; exec sleep 100000; }")],
    );
    pod["spec"]["containers"][0]["resources"] = resources("200m", "192Mi");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    world.detach(&[pod]);
    let used = || world.call(&["top", "web", "-o", "json"]).good().json()[0]["memoryBytes"].as_i64();
    until("the memory is in use", || used().filter(|used| *used > 84 * MIB));
    // With the class's overhead that is 80 MiB for the pod.
    let refused = world.call(&["resize", "web", "--limits", "cpu=400m,memory=16Mi"]);
    refused.fails(120, "which the new limit of 83886080 would not hold");
    assert_eq!(limits(&world.id_of("web")), (256, 25_000));
    assert_eq!(world.statuses()["web"], "Running");
    let shown = &view(&world, "web")["containers"][0]["resources"]["limits"];
    assert_eq!(*shown, json!({"cpu": "200m", "memory": "192Mi"}));
}

#[test]
fn a_limit_that_becomes_zero_is_none() {
    let world = World::new();
    world.detach(&SHARED.map(|h| held(h, h, "200m", "64Mi")));
    for handler in SHARED {
        world.call(&["resize", handler, "--limits", "cpu=0", "--requests", "cpu=0"]).good();
        assert_eq!(
            (limits(&group(&world, handler, "app")), limits(&world.id_of(handler))),
            ((64, -1), (64, -1)),
            "{handler}"
        );
        world
            .call(&["resize", handler, "--limits", "cpu=150m", "--requests", "cpu=100m"])
            .good();
        assert_eq!(
            (limits(&group(&world, handler, "app")), limits(&world.id_of(handler))),
            ((64, 15_000), (64, 15_000)),
            "{handler}"
        );
    }
}

#[test]
fn sidecars_are_resized_by_name() {
    let world = World::new();
    let mut web = held("web", "crun", "200m", "64Mi");
    let mut beside = container("beside", WAITS);
    beside["restartPolicy"] = json!("Always");
    beside["resources"] = resources("100m", "32Mi");
    web["spec"]["initContainers"] = json!([beside]);
    world.detach(&[web]);
    world.call(&["resize", "web", "-c", "beside", "--limits", "memory=48Mi"]).good();
    assert_eq!(
        (limits(&group(&world, "web", "beside")), limits(&group(&world, "web", "app"))),
        ((48, 10_000), (64, 20_000))
    );
    assert_eq!(limits(&world.id_of("web")), (112, 30_000));
}

#[test]
fn two_who_resize_one_pod_at_once_both_get_what_they_asked_for() {
    let world = World::new();
    world.detach(&[held("web", "crun", "200m", "64Mi")]);
    for round in 1..=5 {
        let (cpu, memory) = (format!("cpu={}m", 200 + 100 * round), format!("memory={}Mi", 64 + 16 * round));
        let both = [&cpu, &memory].map(|asked| Running(world.spawn(&["resize", "web", "--limits", asked], b"")));
        for mut one in both {
            assert!(until("it ends", || one.0.try_wait().unwrap()).success());
        }
        let wanted = (64 + 16 * round, 20_000 + 10_000 * round);
        assert_eq!(
            (limits(&group(&world, "web", "app")), limits(&world.id_of("web"))),
            (wanted, wanted)
        );
    }
}

#[test]
fn pods_in_the_foreground_can_be_resized_and_pods_that_nobody_keeps_cannot() {
    let world = World::new();
    let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&[held("web", "runc", "200m", "64Mi")]).as_bytes()));
    until_runs(&world, &mut run, "web");
    world.call(&["resize", "default/web", "--limits", "memory=96Mi"]).good();
    assert_eq!(limits(&group(&world, "web", "app")), (96, 20_000));
    common::signal(run.0.id(), Signal::KILL);
    run.0.wait().unwrap();
    world
        .call(&["resize", "web", "--limits", "memory=64Mi"])
        .fails(120, "no process keeps it any more");
}
