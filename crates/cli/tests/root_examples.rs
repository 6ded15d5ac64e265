//! The manifests of `examples/` do what they say, under every handler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, Answer, World, image, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// The image that the examples name.
const IMAGE: &str = "cofferdam/busybox:demo";
/// What must be in the status of every process of the pod; gVisor's has no line of the last kind.
const CONFINED: [&str; 3] = ["CapEff:\t0000000000000000", "Seccomp:\t2", "NoNewPrivs:\t1"];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// A world with the examples' image.
fn world() -> World {
    let world = World::bare();
    world.input(&["image", "load"], &image::docker_archive(IMAGE, "examples")).good();
    world
}

fn check(world: &World, name: &str) -> Answer {
    world.call(&["check", "-f", example(name).to_str().unwrap()])
}

/// A page of the site by the machine's port.
fn page(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(common::patience())).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

#[test]
fn each_example_is_admitted_or_refused_as_it_says() {
    let world = World::bare();
    for name in ["tiers.yaml", "whole.yaml"] {
        check(&world, name).good();
    }
    assert_eq!(check(&world, "refused.yaml").code, Some(121));
}

#[test]
fn the_whole_example_serves_alike_under_every_handler() {
    let text = std::fs::read_to_string(example("whole.yaml")).unwrap();
    for handler in ALL {
        let world = world();
        let number: u16 = world.bridge.trim_start_matches("cdt").parse().unwrap();
        // No two tests have one port of the machine.
        let port = 32_000 + number % 700;
        let asked = text
            .replace("handler: runsc", &format!("handler: {handler}"))
            .replace("hostPort: 18080", &format!("hostPort: {port}"));
        assert!(
            asked.contains(&format!("handler: {handler}\n")) && asked.contains(&format!("hostPort: {port},")),
            "{asked}"
        );
        world.input(&["run", "-f", "-", "--detach"], asked.as_bytes()).good();
        world.call(&["wait", "site", "--for=condition=Ready", "--timeout=60s"]).good();
        assert_eq!(world.ps()[0]["handler"], handler);
        assert_eq!(
            until("the site answers", || page(port, "/")),
            "Welcome aboard from site\n",
            "{handler}"
        );
        let now = page(port, "/now.txt").unwrap();
        until("the sidecar goes on", || {
            page(port, "/now.txt").filter(|later| !later.is_empty() && *later != now)
        });
        restricted(&world, handler);
        sources(&world, handler);
        world.call(&["stop", "site"]).good();
        assert_eq!(page(port, "/"), None, "{handler}: the port still leads somewhere");
    }
}

/// Each container has only the rights that the example leaves it.
#[track_caller]
fn restricted(world: &World, handler: &str) {
    for container in ["clock", "web", "watchman"] {
        let script = "id -u; id -g; id; cat /proc/self/status; touch /x 2>/dev/null || echo the root is read-only";
        let told = world.call(&["exec", "site", "-c", container, "--", "sh", "-c", script]).good().out;
        assert!(
            told.starts_with("1000\n1000\n") && told.contains("3000"),
            "{handler} {container}: {told}"
        );
        assert!(told.ends_with("the root is read-only\n"), "{handler} {container}: {told}");
        let confined = if handler == "runsc" { &CONFINED[..2] } else { &CONFINED[..] };
        for line in confined {
            assert!(told.lines().any(|l| l == *line), "{handler} {container} has no {line:?}: {told}");
        }
    }
}

/// The watchman has read the page, and has each source of its volumes.
#[track_caller]
fn sources(world: &World, handler: &str) {
    let log = world.call(&["logs", "site", "-c", "watchman"]).good().out;
    assert!(log.contains("Welcome aboard from site"), "{handler}: {log}");
    let script = "cat /etc/site/visitors.conf /etc/site/private/token /etc/token/token /etc/site/labels; echo; cat /etc/site/memory";
    let told = world.call(&["exec", "site", "-c", "watchman", "--", "sh", "-c", script]).good().out;
    let want = format!("interval=1\nnot-for-everybodynot-for-everybodyapp=\"site\"\n{}", 32 << 20);
    assert_eq!(told.trim(), want, "{handler}");
}
