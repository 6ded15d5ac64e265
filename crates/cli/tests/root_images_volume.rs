//! Volumes that are the files of an image: read, run, never written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::image::docker_archive;
use common::{ALL, SHARED, WAITS, World, app, brief, container, message, pod, pod_in, until};
use serde_json::{Value, json};

const TELL: &str = "/dev/termination-log";
/// An image that is only mounted.
const FILES: &str = "test/files:1";

/// A world with both images.
fn world() -> World {
    let world = World::new();
    world.input(&["image", "load"], &docker_archive(FILES, "of the volume\n")).good();
    world
}

/// Mounts the image at `/v` in the pod's containers; `sub` is a path in it, or "".
fn mounts(pod: &mut Value, reference: &str, sub: &str) {
    pod["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": reference, "pullPolicy": "Never"}}]);
    let mut mount = json!({"name": "v", "mountPath": "/v"});
    if !sub.is_empty() {
        mount["subPath"] = json!(sub);
    }
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container["volumeMounts"] = json!([mount]);
    }
}

#[test]
fn a_path_in_it_is_mounted_alone() {
    let world = world();
    let pods = ALL.map(|handler| {
        let mut pod = pod(handler, handler, &[app(&format!("(ls /v; cat /v/marker; cat /w) > {TELL}"))]);
        mounts(&mut pod, FILES, "etc");
        let file = json!({"name": "v", "mountPath": "/w", "subPath": "etc/marker"});
        pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(file);
        pod
    });
    let (code, report) = world.report(&pods);
    assert_eq!(code, 0, "{}", brief(&report));
    for handler in ALL {
        assert_eq!(
            message(&report, handler, "app").trim(),
            "group\nmarker\npasswd\nof the volume\nof the volume",
            "{handler}"
        );
    }
    // What is missing is not made in an image, and nothing in it leads out.
    let cases = [("missing", "etc/missing"), ("beneath-a-file", "etc/marker/x")];
    let pods = cases.map(|(name, sub)| {
        let mut pod = pod(name, "crun", &[app("exit 0")]);
        mounts(&mut pod, FILES, sub);
        pod
    });
    let (code, report) = world.report(&pods);
    assert_ne!(code, 0);
    for (name, sub) in cases {
        let told = pod_in(&report, name)["message"].as_str().unwrap();
        assert!(told.contains(sub), "{name}: {told}");
    }
    let mut out = pod("out", "crun", &[app("exit 0")]);
    mounts(&mut out, FILES, "../etc");
    let answer = world.run(&[out], &[]);
    assert!(answer.code == Some(120) && answer.err.contains("subPath"), "{answer:?}");
}

#[test]
fn its_files_are_read_and_run_and_never_written_whatever_the_mount_says() {
    let world = world();
    let script =
        format!("(cat /v/etc/marker; ls /v; stat -c %u:%g:%a /v/root /v/tmp; readlink /v/bin/sh; /v/bin/busybox echo runs) > {TELL}");
    let want = "of the volume\nbin\netc\nroot\ntmp\n0:0:700\n0:0:1777\nbusybox\nruns";
    let tries = format!(
        "(for what in 'echo x > /v/etc/marker' 'echo x > /v/new' 'rm /v/etc/marker' 'chmod 777 /v/etc' 'mkdir /v/d'; do \
         sh -c \"$what\" 2> /dev/null && echo \"did: $what\"; done; cat /v/etc/marker) > {TELL}"
    );
    // What the pod's own root has of the same image is another's.
    let shares = format!("(echo x > /etc/marker; cat /v/etc/marker) > {TELL}");
    let pods = ALL.map(|handler| {
        let mut pod = pod(
            handler,
            handler,
            &[
                app(&script),
                container("tries", &tries),
                container("powerful", &tries),
                container("shares", &shares),
            ],
        );
        mounts(&mut pod, FILES, "");
        for container in pod["spec"]["containers"].as_array_mut().unwrap() {
            container["volumeMounts"][0]["readOnly"] = json!(false);
        }
        pod["spec"]["containers"][2]["securityContext"] = json!({"privileged": true});
        pod["spec"]["containers"][3]["image"] = json!(FILES);
        pod
    });
    let (code, report) = world.report(&pods);
    assert_eq!(code, 0, "{}", brief(&report));
    for handler in ALL {
        assert_eq!(message(&report, handler, "app").trim(), want, "{handler}");
        for other in ["tries", "powerful", "shares"] {
            assert_eq!(message(&report, handler, other).trim(), "of the volume", "{handler}: {other}");
        }
    }
}

#[test]
fn in_a_pod_with_users_of_its_own_its_files_are_roots() {
    let world = world();
    let script = format!(
        "(cat /v/etc/marker; stat -c %u:%g /v /v/root /v/bin/busybox; ls /v/root; echo x 2> /dev/null > /v/new || /v/bin/busybox echo runs) > {TELL}"
    );
    world.asserts(&SHARED, &script, "of the volume\n0:0\n0:0\n0:0\nruns", |pod| {
        mounts(pod, FILES, "");
        pod["spec"]["hostUsers"] = json!(false);
    });
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let world = world();
    let (code, report) = world.report(&ALL.map(|handler| {
        let mut pod = pod(handler, handler, &[app("exit 0")]);
        mounts(&mut pod, "test/nothing:1", "");
        pod
    }));
    assert_ne!(code, 0);
    for handler in ALL {
        let pod = pod_in(&report, handler);
        let told = brief(&json!({"pods": [pod]}));
        assert!(pod["phase"] == "Failed" && told.contains("test/nothing:1"), "{handler}: {told}");
    }
}

#[test]
fn an_image_that_a_volume_shows_is_kept() {
    let world = world();
    let mut showing = pod("p", "crun", &[app(WAITS)]);
    mounts(&mut showing, FILES, "");
    world.detach(&[showing]);
    let answer = world.call(&["image", "rm", FILES]);
    assert!(answer.code != Some(0) && answer.err.contains("files"), "{answer:?}");
    world.call(&["image", "prune", "--all"]);
    let told = world.call(&["exec", "p", "--", "cat", "/v/etc/marker"]).good().out;
    assert_eq!(told, "of the volume\n");
    world.call(&["stop", "p", "--grace", "0"]).good();
    until("it can be removed", || {
        (world.call(&["image", "rm", FILES]).code == Some(0)).then_some(())
    });
}
