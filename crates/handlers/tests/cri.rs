//! `[cri]` of our own files: what is taken, where it came from, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Loaded, render};
use common::*;

const FULL: &str = r#"[cri]
socket = "/run/x/cri.sock"
streaming_address = "[::1]:0"
cgroup_driver = "systemd"
metrics_address = "127.0.0.1:9790"
otlp_endpoint = "https://127.0.0.1:4317"
otlp_protocol = "grpc"
log_format = "json"
log_level = "debug"
pinned_images = ["a:1", "b@sha256:00"]
spare_networks = 16
max_exec_output = 65536
[cri.nri]
enabled = false
socket = "/run/nri.sock"
plugin_dir = "/opt/p"
conf_dir = "/etc/p"
required = ["topology"]
registration_timeout_ms = 4000
request_timeout_ms = 1500
"#;

fn own(text: &str) -> Loaded {
    machine(&[(OWN, text)])
}

#[test]
fn every_key_is_read_and_rendered_again_with_its_origin() {
    let loaded = own(FULL);
    assert_eq!((errors(&loaded), warnings(&loaded)), (vec![], vec![]));
    let text = render(&loaded.table);
    for (at, line) in FULL.lines().enumerate() {
        let want = match line.starts_with('[') {
            true => format!("\n{line}\n"),
            false => format!("\n{line} # from {OWN}:{}\n", at + 1),
        };
        assert!(text.contains(&want), "{want:?} is not in:\n{text}");
    }
    let again = own(&text).table.settings.cri;
    let first = loaded.table.settings.cri;
    assert_eq!(again.pinned_images.unwrap().value, first.pinned_images.unwrap().value);
    assert_eq!(again.spare_networks.unwrap().value, 16);
    assert_eq!(
        (first.nri.enabled.unwrap().value, first.nri.request_timeout_ms.unwrap().value),
        (false, 1500)
    );
}

#[test]
fn a_drop_in_changes_one_value_and_says_where() {
    let drop_in = "/etc/cofferdam/conf.d/10-node.toml";
    let loaded = machine(&[(OWN, FULL), (drop_in, "[cri.nri]\nenabled = true\n")]);
    let nri = loaded.table.settings.cri.nri;
    let enabled = nri.enabled.unwrap();
    assert_eq!((enabled.value, enabled.origin.to_string()), (true, format!("{drop_in}:2")));
    assert_eq!(nri.socket.unwrap().value, path("/run/nri.sock"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (line, saying) in [
        ("socket = \"cri.sock\"", "cri.socket ="),
        ("streaming_address = \"0.0.0.0:0\"", "is not on the loopback"),
        ("streaming_address = \"localhost\"", "is no address"),
        (
            "cgroup_driver = \"cgroup2\"",
            "cri.cgroup_driver = \"cgroup2\" is none of \"auto\", \"cgroupfs\", \"systemd\"",
        ),
        ("metrics_address = \"9790\"", "is no address; write ADDRESS:PORT"),
        ("otlp_endpoint = \"127.0.0.1:4318\"", "is no endpoint"),
        ("otlp_endpoint = \"http://\"", "is no endpoint"),
        ("otlp_endpoint = \"https:///x\"", "is no endpoint"),
        (
            "otlp_protocol = \"http\"",
            "cri.otlp_protocol = \"http\" is none of \"grpc\", \"http/protobuf\", \"http/json\"",
        ),
        ("log_format = \"xml\"", "cri.log_format"),
        ("log_level = \"verbose\"", "cri.log_level"),
        ("pinned_images = [\"a b\"]", "cri.pinned_images has \"a b\""),
        ("spare_networks = 257", "cri.spare_networks = 257 is not from 0 to 256"),
        ("spare_networks = -1", "is not from 0 to 256"),
        ("max_exec_output = 1", "is not from 4096 to 16777216"),
        ("nri = { socket = \"x\" }", "cri.nri.socket ="),
        ("nri = { required = [\"\"] }", "cri.nri.required has \"\""),
        (
            "nri = { request_timeout_ms = 0 }",
            "cri.nri.request_timeout_ms = 0 is not from 1 to 600000",
        ),
        ("nri = { enabled = 1 }", "cri.nri.enabled must be a boolean"),
    ] {
        let all = errors(&own(&format!("[cri]\n{line}\n")));
        assert!(all.len() == 1 && all.iter().any(|e| e.contains(saying)), "{line}: {all:?}");
    }
    let many = format!("[cri]\npinned_images = [{}]\n", "\"a\",".repeat(257));
    assert!(errors(&own(&many)).iter().any(|e| e.contains("more than 256 entries")));
    assert!(errors(&own("[cri]\nmetrics_address = \"off\"\notlp_endpoint = \"off\"\n")).is_empty());
}

#[test]
fn a_key_that_is_not_known_is_told() {
    let told = warnings(&own("[cri]\nsockets = \"/x\"\n"));
    assert!(told.iter().any(|w| w.contains("did you mean") && w.contains("socket")), "{told:?}");
}
