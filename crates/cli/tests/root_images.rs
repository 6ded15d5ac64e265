//! `cofferdam image`: loaded, listed, run, removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{IMAGE, WAITS, World, app, image, pod};
use serde_json::json;
use std::process::Command;

fn names(world: &World) -> Vec<String> {
    let listed = world.call(&["image", "ls", "-o", "json"]).good().json();
    let mut all: Vec<String> =
        listed.as_array().unwrap().iter().flat_map(|i| i["names"].as_array().unwrap().clone()).map(|n| n.as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

#[test]
fn a_docker_archive_is_loaded_from_standard_input_and_from_a_file() {
    let world = World::bare();
    world.input(&["image", "load"], &image::docker_archive("test/one:1", "one")).good();
    let file = world.dir.join("two.tar");
    std::fs::write(&file, image::docker_archive("test/two:1", "two")).unwrap();
    world.call(&["image", "load", "-i", file.to_str().unwrap()]).good();
    assert_eq!(names(&world), ["docker.io/test/one:1", "docker.io/test/two:1"]);
}

#[test]
fn an_oci_layout_is_loaded_as_a_folder_and_runs() {
    let world = World::bare();
    let archive = world.dir.join("image.tar");
    std::fs::write(&archive, image::archive()).unwrap();
    let layout = world.dir.join("layout");
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("oci:{}:{IMAGE}", layout.display()))
        .output()
        .expect("skopeo is missing; install Debian's skopeo");
    assert!(copied.status.success(), "{copied:?}");
    world.call(&["image", "load", "-i", layout.to_str().unwrap(), "--name", IMAGE]).good();
    assert_eq!(names(&world), [format!("docker.io/{IMAGE}")]);
    assert_eq!(world.report(&[pod("p", "crun", &[app("exit 0")])]).0, 0);
}

#[test]
fn an_image_may_be_given_another_name() {
    let world = World::bare();
    world.input(&["image", "load", "--name", "other:2"], image::archive()).good();
    assert_eq!(names(&world), ["docker.io/library/other:2"]);
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let world = World::bare();
    let answer = world.input(&["image", "load"], b"this is no archive");
    assert_eq!(answer.code, Some(120), "{answer:?}");
    assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    let cut = &image::archive()[..image::archive().len() / 2];
    assert_eq!(world.input(&["image", "load"], cut).code, Some(120));
    assert!(names(&world).is_empty());
}

#[test]
fn an_image_in_use_is_not_removed_and_its_user_is_named() {
    let world = World::new();
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    let id = world.id_of("p");
    world.call(&["image", "rm", IMAGE]).fails(120, &format!("container \"app\" of pod {}", &id[..12]));
    assert_eq!(world.call(&["exec", "p", "--", "echo", "fine"]).good().out, "fine\n");
    world.call(&["stop", "p", "--grace", "0"]).good();
    world.call(&["image", "rm", IMAGE]).good();
    assert!(names(&world).is_empty());
}

#[test]
fn a_removed_image_leaves_no_layer() {
    let world = World::new();
    world.call(&["image", "rm", IMAGE]).good();
    let store = world.root().join("images");
    let size = Command::new("du").args(["-sb"]).arg(&store).output().unwrap();
    let size: u64 = String::from_utf8_lossy(&size.stdout).split('\t').next().unwrap().parse().unwrap();
    assert!(size < 200_000, "{size} bytes are left in {}", store.display());
}

#[test]
fn an_unknown_image_is_not_removed() {
    let world = World::bare();
    world.call(&["image", "rm", "no/such:1"]).fails(120, "no/such:1");
}

#[test]
fn what_a_container_writes_is_not_in_the_image() {
    let world = World::new();
    world.report(&[pod("first", "crun", &[app("touch /written")])]);
    world.asserts(&common::ALL, "[ -e /written ] && echo there > /dev/termination-log || echo clean > /dev/termination-log", "clean", |_| {});
}

#[test]
fn an_image_that_is_to_be_pulled_each_time_asks_its_registry() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("exit 0")]);
    pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    // Nobody listens there, and what is here is not taken in its place.
    let (code, report) = world.report(&[pod]);
    assert_eq!(code, 125, "{}", common::brief(&report));
    assert!(common::brief(&report).contains("ErrImagePull"), "{}", common::brief(&report));
}
