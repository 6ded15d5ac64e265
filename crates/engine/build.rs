//! Builds the monitor as a small static binary of its own, so that it can be embedded in ours.
//!
//! A nested cargo with a target directory of its own (so the outer build's lock does not matter)
//! and static linking, which must not apply to the rest of the workspace.

#![allow(clippy::panic)] // a build script has no other way to say what is wrong

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest_dir = PathBuf::from(env("CARGO_MANIFEST_DIR"));
    let monitor = manifest_dir.join("../monitor");
    println!("cargo::rerun-if-changed={}", monitor.join("src").display());
    println!("cargo::rerun-if-changed={}", monitor.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(env("OUT_DIR"));
    // OUT_DIR is <target>/<profile>/build/<crate>-<hash>/out
    let target_dir = out.ancestors().nth(4).unwrap_or(Path::new("target")).join("monitor");
    let target = env("TARGET");
    let mut cargo = Command::new(env("CARGO"));
    for (name, _) in std::env::vars() {
        let inherited = name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUSTC") || name == "RUSTFLAGS";
        if inherited {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .current_dir(&monitor)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--quiet", "--profile", "monitor", "--bin", "cofferdam-monitor"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir)
        .status()
        .unwrap_or_else(|e| panic!("cargo could not be run to build the monitor: {e}"));
    assert!(status.success(), "the monitor could not be built: {status}");
    let built = target_dir.join(&target).join("monitor").join("cofferdam-monitor");
    std::fs::copy(&built, out.join("monitor")).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}
