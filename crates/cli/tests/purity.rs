//! The house keeps its shape: who may know whom, and that the pure rooms touch nothing.
//!
//! Three looks at it: the arrows between our crates, what else is in a pure crate's tree, and what
//! the sources themselves name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod source;

use serde_json::Value;
use source::{files_of, without_tests, without_words};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a room is from the pure core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Pure,
    Edge,
    Service,
    Door,
}

/// Every room, its floor, and the rooms that it may know, tests included. Arrows go down, or along
/// one floor to a room that stands earlier here.
const ROOMS: [(&str, Floor, &[&str]); 23] = [
    ("model", Floor::Pure, &[]),
    ("decide", Floor::Pure, &["model"]),
    ("manifest", Floor::Pure, &["model"]),
    ("handlers", Floor::Pure, &["model"]),
    ("plan", Floor::Pure, &["model"]),
    ("host", Floor::Edge, &[]),
    ("images", Floor::Edge, &[]),
    ("registry", Floor::Edge, &[]),
    ("cni", Floor::Edge, &["host"]),
    ("network", Floor::Edge, &["model", "host", "cni"]),
    ("monitor", Floor::Edge, &[]),
    ("runtimes", Floor::Edge, &["model", "handlers", "plan", "host", "monitor"]),
    ("cluster", Floor::Edge, &[]),
    ("cri-api", Floor::Edge, &[]),
    ("streaming", Floor::Edge, &[]),
    ("nri", Floor::Edge, &["model", "host"]),
    ("telemetry", Floor::Edge, &[]),
    ("engine", Floor::Service, &["model", "handlers", "plan", "host", "registry", "images", "cni", "network", "monitor", "runtimes"]),
    ("node", Floor::Service, &["model", "host"]),
    ("doctor", Floor::Service, &["model", "handlers", "host", "network"]),
    (
        "cri-server",
        Floor::Service,
        &["model", "handlers", "plan", "host", "images", "monitor", "engine", "cri-api", "streaming", "nri", "telemetry"],
    ),
    ("bench", Floor::Door, &["model", "handlers", "plan", "host", "images", "network", "engine", "cri-api"]),
    (
        "cli",
        Floor::Door,
        &["model", "decide", "manifest", "handlers", "plan", "host", "images", "network", "monitor", "cluster", "engine", "node", "doctor", "cri-api", "nri", "telemetry", "cri-server", "bench"],
    ),
];

/// Crates that bring files, sockets, threads or a clock, and must be in no pure crate's tree.
const IMPURE: [&str; 24] = [
    "async-io",
    "async-std",
    "chrono",
    "crossbeam-channel",
    "errno",
    "futures-executor",
    "getrandom",
    "hyper",
    "jiff",
    "libc",
    "linux-raw-sys",
    "memmap2",
    "mio",
    "nix",
    "polling",
    "rand",
    "rayon",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
];

/// What a pure source may not name, as a path's first parts or as a word.
const WORLDLY: [&str; 22] = [
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "async",
    "await",
    "dbg",
    "eprint",
    "eprintln",
    "extern",
    "print",
    "println",
    "thread_local",
    "tokio",
    "unsafe",
];

/// Names of `std::net` that are data.
const ADDRESSES: [&str; 6] = ["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4"];

/// The only rooms with `unsafe`.
const UNSAFE: [&str; 2] = ["host", "monitor"];

fn rooms_on(floor: Floor) -> impl Iterator<Item = &'static str> {
    ROOMS.iter().filter(move |r| r.1 == floor).map(|r| r.0)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).current_dir(root()).args(args).args(["--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What each of our crates depends on of ours, whatever the kind of dependency.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let room = |name: &str| name.strip_prefix("cofferdam-").map(str::to_owned);
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let known = dependencies.iter().filter_map(|d| room(d["name"].as_str().unwrap())).collect();
            (room(package["name"].as_str().unwrap()).unwrap(), known)
        })
        .collect()
}

#[test]
fn the_table_of_rooms_only_points_down() {
    for (index, (name, floor, known)) in ROOMS.iter().enumerate() {
        for other in *known {
            let at = ROOMS.iter().position(|r| r.0 == *other).unwrap_or_else(|| panic!("{name}: no room {other}"));
            assert!(ROOMS[at].1 <= *floor && at < index, "{name} may not know {other}");
        }
    }
}

#[test]
fn every_room_knows_only_whom_it_may() {
    let arrows = arrows();
    let folders: BTreeSet<String> =
        std::fs::read_dir(root().join("crates")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(arrows.keys().cloned().collect::<BTreeSet<_>>(), folders, "one crate a folder, named after it");
    assert_eq!(ROOMS.iter().map(|r| r.0.to_owned()).collect::<BTreeSet<_>>(), folders, "every room stands in the table");
    for (name, _, known) in ROOMS {
        let wrong: Vec<_> = arrows[name].iter().filter(|other| !known.contains(&other.as_str())).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}: turn the arrow round, or change the table and ARCHITECTURE.md");
    }
}

/// Names of all crates that one of ours is built with, tests and build scripts left out.
fn tree(room: &str) -> BTreeSet<String> {
    let package = format!("cofferdam-{room}");
    let text = cargo(&["tree", "--edges", "normal", "--package", &package, "--prefix", "none", "--format", "{p}"]);
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_rooms_are_built_with_nothing_that_touches_the_world() {
    let worldly: BTreeSet<String> = ROOMS.iter().filter(|r| r.1 != Floor::Pure).map(|r| format!("cofferdam-{}", r.0)).collect();
    for room in rooms_on(Floor::Pure) {
        let tree = tree(room);
        assert!(tree.contains("serde"), "{room}: the tree is not read rightly: {tree:?}");
        let wrong: Vec<_> = tree.iter().filter(|name| IMPURE.contains(&name.as_str()) || worldly.contains(*name)).collect();
        assert!(wrong.is_empty(), "{room} is built with {wrong:?}");
    }
}

#[test]
fn what_runs_pods_brings_no_async_runtime() {
    // Who speaks to a cluster or to a kubelet, and the door that opens to them, are told apart from what runs pods.
    const ASYNC: [&str; 7] = ["bench", "cluster", "cri-api", "streaming", "telemetry", "cri-server", "cli"];
    for (room, ..) in ROOMS.iter().filter(|r| !ASYNC.contains(&r.0)) {
        assert!(!tree(room).contains("tokio"), "{room} is built with tokio");
    }
}

/// What of [`WORLDLY`] a source names, tests left out.
fn worldly(text: &str) -> Vec<String> {
    without_tests(text)
        .paths()
        .into_iter()
        .filter(|path| {
            let named = |what: &str| path == what || path.starts_with(&format!("{what}::")) || path.split("::").any(|part| part == what);
            let address = path.strip_prefix("std::net::").is_some_and(|rest| ADDRESSES.contains(&rest.split("::").next().unwrap_or("")));
            !address && WORLDLY.iter().any(|what| named(what))
        })
        .collect()
}

#[test]
fn pure_sources_name_nothing_of_the_world() {
    for room in rooms_on(Floor::Pure) {
        let files = files_of(&root().join("crates").join(room).join("src"));
        assert!(!files.is_empty(), "{room} has no sources");
        for file in files {
            let found = worldly(&std::fs::read_to_string(&file).unwrap());
            assert!(found.is_empty(), "{} names {found:?}", file.display());
        }
    }
}

#[test]
fn unsafe_is_only_where_it_may_be() {
    for (room, ..) in ROOMS {
        let folder = root().join("crates").join(room);
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{room} does not take the workspace's lints");
        if UNSAFE.contains(&room) {
            continue;
        }
        for file in source::all_files_of(&folder) {
            let code = without_words(&std::fs::read_to_string(&file).unwrap());
            let found: Vec<_> = code.words().into_iter().filter(|w| *w == "unsafe" || *w == "unsafe_code").collect();
            assert!(found.is_empty(), "{} says {found:?}", file.display());
        }
    }
}

#[test]
fn the_scan_sees_what_it_should() {
    let seen: [(&str, &[&str]); 14] = [
        ("use std::fs;", &["std::fs"]),
        ("use std::{fmt, fs::File, net::{Ipv4Addr, TcpStream}};", &["std::fs::File", "std::net::TcpStream"]),
        ("use std::{net};", &["std::net"]),
        ("use std::{self, process as p};", &["std::process"]),
        ("fn f() { ::std::thread::spawn(|| ()); }", &["std::thread::spawn"]),
        ("fn f() { std :: fs :: read(\"a\"); }", &["std::fs::read"]),
        ("fn f<'a>(x: &'a str) { unsafe { g(x) } }", &["unsafe"]),
        ("use std::time::{Duration, Instant};", &["std::time::Instant"]),
        ("fn f() { let c = '\"'; std::fs::read(c); }", &["std::fs::read"]),
        ("#[cfg(test)] mod tests { use std::fs; } fn f() { println!(); }", &["println"]),
        ("#[cfg(test)]\n#[allow(dead_code)]\nfn g() { std::fs::read(\"}\"); }\nuse std::env;", &["std::env"]),
        ("use std::net::IpAddr; fn f() -> std::net::Ipv4Addr { std::net::Ipv4Addr::LOCALHOST }", &[]),
        ("//! std::fs\n/* std::fs /* unsafe */ unsafe */ const A: &str = r#\"\"std::fs\"#; // unsafe", &[]),
        ("const A: &[u8] = b\"\\\" unsafe\"; const B: char = '\\''; const C: &str = \"std::fs\";", &[]),
    ];
    for (text, expected) in seen {
        assert_eq!(worldly(text), expected, "{text}");
    }
}
