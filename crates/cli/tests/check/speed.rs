//! How long large manifests take, and how much memory; it prints and asserts nothing.

use crate::generate;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `COFFERDAM` names another binary than the one that was built with the tests:
/// `COFFERDAM=target/release/cofferdam cargo test -p cofferdam-cli --test check -- --ignored --nocapture`.
#[test]
#[ignore = "a benchmark"]
fn ten_thousand_pods_on_five_thousand_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let pods = file("pods.yaml", generate::manifests(10_000));
    let nodes = file("nodes.json", generate::cluster(5000, 0).to_string());
    let busy = file("busy.json", generate::cluster(5000, 30).to_string());
    for (what, nodes, format) in [
        ("no nodes", None, "table"),
        ("5,000 nodes", Some(&nodes), "table"),
        ("5,000 nodes, JSON printed", Some(&nodes), "json"),
        ("5,000 nodes, JUnit printed", Some(&nodes), "junit"),
        ("5,000 nodes with 150,000 pods", Some(&busy), "table"),
    ] {
        let (code, time, peak) = measure(&pods, nodes.map(AsRef::as_ref), format);
        println!("{what:<32} exit code {code}, {:.2} s, peak {peak} MiB", time.as_secs_f64());
    }
}

/// Exit code, time and most memory in MiB.
fn measure(pods: &Path, nodes: Option<&Path>, format: &str) -> (i32, Duration, u64) {
    let binary = std::env::var("COFFERDAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cofferdam").to_owned());
    let mut command = Command::new(binary);
    command.arg("check").arg("-f").arg(pods).args(["-o", format]).stdout(Stdio::null());
    if let Some(nodes) = nodes {
        command.arg("--nodes").arg(nodes);
    }
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(ended) = child.try_wait().unwrap() {
            return (ended.code().unwrap(), begun.elapsed(), peak >> 10);
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        peak = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
}
