//! Configuration files and directories, as they are found on machines; changes while pods run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lines, Running, WAITS, World, app, manifest, pod, until};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;

/// `cofferdam config`, and a command that would do something, refuse with this sentence.
#[track_caller]
fn refuses(world: &World, saying: &str) {
    world.call(&["config"]).fails(120, saying);
    world.call(&["ps"]).fails(120, saying);
}

#[test]
fn a_drop_in_that_is_a_link_to_nothing_is_an_error() {
    let world = World::bare();
    symlink("/nonexistent/handlers.toml", world.dir.join("etc/conf.d/10-handlers.toml")).unwrap();
    refuses(
        &world,
        "etc/conf.d/10-handlers.toml: it cannot be read: it is a link to something that is not there",
    );
    // As with systemd's, a link to the null device switches a file off.
    fs::remove_file(world.dir.join("etc/conf.d/10-handlers.toml")).unwrap();
    symlink("/dev/null", world.dir.join("etc/conf.d/10-handlers.toml")).unwrap();
    world.call(&["ps"]).good();
}

#[test]
fn a_folder_of_drop_ins_that_cannot_be_listed_is_an_error() {
    let world = World::bare();
    fs::remove_dir(world.dir.join("etc/conf.d")).unwrap();
    world.call(&["ps"]).good();
    fs::write(world.dir.join("etc/conf.d"), "").unwrap();
    refuses(&world, "etc/conf.d: it cannot be read: Not a directory");
    fs::remove_file(world.dir.join("etc/conf.d")).unwrap();
    symlink("/nonexistent", world.dir.join("etc/conf.d")).unwrap();
    refuses(&world, "etc/conf.d: it cannot be read");
    fs::remove_file(world.dir.join("etc/conf.d")).unwrap();
}

#[test]
fn a_drop_in_that_is_no_file_is_an_error_and_nothing_waits_for_it() {
    let world = World::bare();
    let pipe = world.dir.join("etc/conf.d/10-pipe.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    refuses(&world, "10-pipe.toml: it cannot be read: it is no regular file");
    fs::remove_file(pipe).unwrap();
}

#[test]
fn a_configuration_that_was_named_must_be_there() {
    let world = World::bare();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(["--config", "/nonexistent/config.toml", "config"]);
    common::answer(command, b"").fails(120, "/nonexistent/config.toml: it cannot be read: it is not there");
    drop(world);
}

#[test]
fn directories_that_the_kernel_would_refuse_later_are_refused_at_once() {
    let world = World::bare();
    let ps = |flag: &str, dir: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        let other = if flag == "--root" { "--state" } else { "--root" };
        command
            .arg("--config")
            .arg(world.dir.join("etc/config.toml"))
            .args([flag, dir, other, "/run/cdt-none/o", "ps"]);
        common::answer(command, b"")
    };
    for odd in ["/run/cdt-none/a:b", "/run/cdt-none/a,b", "/run/cdt-none/a\\b"] {
        ps("--root", odd).fails(120, "cannot be mounted as an overlay");
        ps("--state", odd).fails(120, "cannot be mounted as an overlay");
    }
    ps("--state", "/run/cdt-none/much-too-long").fails(120, "choose one of at most 22 bytes");
    assert!(!std::path::Path::new("/run/cdt-none").exists(), "nothing is made");
}

#[test]
fn a_relative_directory_is_the_same_wherever_the_process_is() {
    let world = World::new();
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    run.current_dir(&world.dir).args([
        "--config",
        "etc/config.toml",
        "--root",
        "l",
        "--state",
        "s",
        "run",
        "-f",
        "-",
        "--detach",
    ]);
    common::answer(run, manifest(&[pod("p", "crun", &[app(WAITS)])]).as_bytes()).good();
    assert_eq!(world.statuses()["p"], "Running");
    assert!(world.ps()[0]["kept"] == true, "the process behind it is found by the absolute path");
}

/// The table is made before the manifests are read, and watched after: a change in between counts.
#[test]
fn a_change_between_reading_and_watching_is_taken() {
    let world = World::new();
    let mut command = world.command(&["run", "-f", "-"]);
    let mut run = Running(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut stdin = run.0.stdin.take().unwrap();
    let waits_in = format!("/proc/{}/wchan", run.0.id());
    until("it has read its configuration and waits for manifests", || {
        fs::read_to_string(&waits_in).unwrap().contains("pipe").then_some(())
    });
    world.drop_in("late.toml", "[handlers.late]\nbinary = \"crun\"\n");
    stdin.write_all(manifest(&[pod("p", "crun", &[app(WAITS)])]).as_bytes()).unwrap();
    drop(stdin);
    Lines::of(run.0.stderr.take().unwrap()).wait_for("handler late was added");
}

#[test]
fn a_handler_that_is_removed_does_no_harm_to_its_pods_and_takes_no_more() {
    let world = World::new();
    world.drop_in("own.toml", "[handlers.own]\nbinary = \"crun\"\n");
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "own"}, "handler": "own"});
    let text = manifest(&[class, pod("p", "own", &[app(WAITS)])]);
    let mut run = Running(world.spawn(&["run", "-f", "-"], text.as_bytes()));
    until("it runs", || (world.statuses().get("p")? == "Running").then_some(()));
    fs::remove_file(world.dir.join("etc/conf.d/own.toml")).unwrap();
    Lines::of(run.0.stderr.take().unwrap()).wait_for("handler own was removed");
    world.call(&["exec", "p", "--", "true"]).good();
    let handlers = world.call(&["handlers", "-o", "json"]).good().json();
    assert!(handlers.as_array().unwrap().iter().all(|h: &Value| h["name"] != "own"));
    world.call(&["stop", "p"]).good();
}
