//! Layers and archives made in memory, hostile ones too.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod registry;

use cofferdam_images::{Digest, Error, Image, Input, Limits, LoadOptions, Loaded, Platform, Store};
use std::path::PathBuf;
use std::process::Command;

/// A layer as a list of raw tar entries.
#[derive(Default, Clone)]
pub(crate) struct Layer(pub(crate) Vec<u8>);

/// One header as it stands, whatever it says.
pub(crate) fn header(name: &str, flag: u8, size: u64, link: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let raw = header.as_mut_bytes();
    raw[..name.len()].copy_from_slice(name.as_bytes());
    raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn raw(mut self, header: tar::Header, data: &[u8]) -> Self {
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
        self
    }
    pub(crate) fn with(
        self,
        name: &str,
        flag: u8,
        link: &str,
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = header(name, flag, 0, link);
        change(&mut header);
        header.set_cksum();
        self.raw(header, b"")
    }
    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(header(name, b'0', data.len() as u64, ""), data)
    }
    pub(crate) fn dir(self, name: &str) -> Self {
        self.raw(header(name, b'5', 0, ""), b"")
    }
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(header(name, b'2', 0, target), b"")
    }
    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.raw(header(name, b'1', 0, target), b"")
    }
    pub(crate) fn node(self, name: &str, flag: u8, major: u32, minor: u32) -> Self {
        self.with(name, flag, "", |h| {
            h.set_device_major(major).unwrap();
            h.set_device_minor(minor).unwrap();
        })
    }
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut data = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data += &format!("{length} {key}={value}\n");
        }
        self.raw(header("pax", b'x', data.len() as u64, ""), data.as_bytes())
    }
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub(crate) fn config(layers: &[Vec<u8>], extra: &str) -> Vec<u8> {
    let ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("\"{}\"", Digest::of(layer)))
        .collect();
    format!(r#"{{"architecture":"amd64","os":"linux",{extra}"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(",")).into_bytes()
}

/// What `docker save` writes.
pub(crate) fn docker_archive(config: &[u8], layers: &[Vec<u8>], tags: &[&str]) -> Vec<u8> {
    let mut archive = Layer::new();
    let mut names = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        archive = archive.file(&format!("{i}/layer.tar"), layer);
        names.push(format!("{i}/layer.tar"));
    }
    let name = format!("{}.json", Digest::of(config).hex());
    let manifest =
        serde_json::json!([{"Config": name, "RepoTags": tags, "Layers": names}]).to_string();
    archive
        .file(&name, config)
        .file("manifest.json", manifest.as_bytes())
        .end()
}

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn amd64() -> Platform {
    Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: String::new(),
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }
    pub(crate) fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_with(&dir.path().join("store"), limits, amd64()).unwrap();
        Self { dir, store }
    }
    pub(crate) fn root(&self) -> PathBuf {
        self.store.root().to_path_buf()
    }
    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, Error> {
        self.store.load(
            Input::Stream(&mut &archive[..]),
            &LoadOptions::default(),
            &(),
        )
    }
    pub(crate) fn layers(&self, layers: &[Layer]) -> Result<Image, Error> {
        let layers: Vec<_> = layers.iter().map(|layer| layer.clone().end()).collect();
        let archive = docker_archive(&config(&layers, ""), &layers, &["test:latest"]);
        self.load(&archive).map(|mut loaded| loaded.remove(0).image)
    }
    pub(crate) fn names_in(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(dir)).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
    /// Output of `script`, run with the image's overlay at `$m`.
    pub(crate) fn in_overlay(&self, image: &Image, script: &str) -> String {
        let root = self.root();
        let lower: Vec<_> = self.store.lower_dirs(image).unwrap();
        let lower: Vec<_> = lower
            .iter()
            .map(|d| d.strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
            .collect();
        let work = tempfile::tempdir().unwrap();
        let script = format!(
            "set -e; cd {}; mkdir {w}/u {w}/w {w}/m; mount -t overlay overlay -o lowerdir={},upperdir={w}/u,workdir={w}/w {w}/m; m={w}/m; cd $m; {script}",
            root.display(),
            lower.join(":"),
            w = work.path().display()
        );
        run("unshare", &["-m", "sh", "-c", &script])
    }
}

/// Runs a program that must succeed, and returns what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program} must be installed: {e}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Extended attributes of a file, sorted, as `name=hex`.
pub(crate) fn attributes(path: &std::path::Path) -> Vec<String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut all = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        let hex: String = value[..length].iter().map(|b| format!("{b:02x}")).collect();
        all.push(format!("{}={hex}", String::from_utf8_lossy(name)));
    }
    all.sort();
    all
}
