//! The images that the documents name: the tests' busybox with a page to serve and a script to run.

use super::common::image::docker_archive;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::OnceLock;

/// What its server answers.
pub(crate) const SERVED: &str = "served\n";
const NAMES: [&str; 7] = [
    "nginx:alpine",
    "nginx:latest",
    "redis:latest",
    "myregistry/secure-api:v1.2.0",
    "registry.example.com/ci-runner:v1",
    "registry.example.com/model-server:v1",
    "test/documents:1",
];
const SCRIPT: &str = "#!/bin/sh\necho building\nuname -r\ntrap 'exit 0' TERM\nsleep 100000 & wait $!\n";

/// One archive of all of them, made once.
pub(crate) fn archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let base = parts(&docker_archive(NAMES[0], "documents"));
        let layer = layer();
        let diff: String = Sha256::digest(&layer).iter().map(|b| format!("{b:02x}")).collect();
        let mut config: serde_json::Value = serde_json::from_slice(&base["config.json"]).unwrap();
        config["config"]["Cmd"] = serde_json::json!(["httpd", "-f", "-p", "80", "-h", "/www"]);
        config["rootfs"]["diff_ids"]
            .as_array_mut()
            .unwrap()
            .push(format!("sha256:{diff}").into());
        let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": NAMES, "Layers": ["layer.tar", "more.tar"]}]);
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "manifest.json", 0o644, manifest.to_string().as_bytes());
        add(&mut archive, "config.json", 0o644, config.to_string().as_bytes());
        add(&mut archive, "layer.tar", 0o644, &base["layer.tar"]);
        add(&mut archive, "more.tar", 0o644, &layer);
        archive.into_inner().unwrap()
    })
}

fn parts(archive: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "www/index.html", 0o644, SERVED.as_bytes());
    add(&mut tar, "run-untrusted-build.sh", 0o755, SCRIPT.as_bytes());
    tar.into_inner().unwrap()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, data).unwrap();
}
