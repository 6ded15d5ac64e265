//! Disks that are full, and processes that are killed anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, PullOptions, Reference, Remote, RemoteManifest, Store};
use common::registry::*;
use common::*;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const ROLE: &str = "COFFERDAM_TEST_FAULT_STORE";

/// Layers with many files, and a few large ones.
fn layers() -> Vec<Vec<u8>> {
    let mut state = 88172645463325252u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    };
    let layer = |n: usize| {
        let files = (0..40).fold(Layer::new(), |layer, i| layer.file(&format!("d{n}/f{i}"), &noise(2000)));
        files
            .file(&format!("large{n}"), &noise(1 << 20))
            .file(&format!("d{}/.wh.f1", n.saturating_sub(1)), b"")
            .end()
    };
    [0, 1, 2, 3].into_iter().map(layer).collect()
}

fn pull(store: &Store, remote: &dyn Remote) -> Result<cofferdam_images::Pulled, cofferdam_images::Error> {
    store.pull(&Reference::parse("x:1").unwrap(), remote, PullOptions::default())
}

fn open(root: &Path) -> Store {
    Store::open_with(root, Default::default(), amd64()).unwrap()
}

/// Runs the named test of this file in a process of its own.
fn child(test: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(ROLE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A registry whose answers take a while, so that a kill finds every step.
struct Slow(Registry);

struct SlowReader<'a>(Box<dyn Read + Send + 'a>);

impl Read for SlowReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        let most = buffer.len().min(100_000);
        self.0.read(&mut buffer[..most])
    }
}

impl Remote for Slow {
    fn manifest(&self, reference: &str) -> Result<RemoteManifest, String> {
        self.0.manifest(reference)
    }
    fn blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Box<dyn Read + Send + '_>, String> {
        Ok(Box::new(SlowReader(self.0.blob(digest, size, offset)?)))
    }
}

/// Is the child of the next test: pulls again and again.
#[test]
#[ignore = "only run by the test below"]
fn child_that_pulls() {
    let Ok(root) = std::env::var(ROLE) else { return };
    let registry = Registry::default();
    registry.simple(&layers(), "1");
    let store = open(root.as_ref());
    loop {
        let pulled = pull(&store, &Slow(registry.clone())).unwrap();
        store.remove(pulled.id.hex(), &|_| None).unwrap();
    }
}

#[test]
fn a_pull_that_is_killed_anywhere_leaves_a_store_in_order() {
    let registry = Registry::default();
    registry.simple(&layers(), "1");
    let fixture = Fixture::new();
    let mut resumed = 0;
    for round in 0..30u64 {
        let mut process = child("child_that_pulls", &fixture.root()).spawn().unwrap();
        // Moments spread over start, pull, commit and removal; where exactly does not matter.
        std::thread::sleep(Duration::from_millis(20 + (round * 37) % 400));
        process.kill().unwrap();
        process.wait().unwrap();
        let store = open(&fixture.root());
        assert!(store.problems().is_empty(), "round {round}: {:?}", store.problems());
        let found = store.fsck(None, &|_| ()).unwrap().findings;
        assert!(found.is_empty(), "round {round}: {found:?}");
        assert!(fixture.names_in("tmp").is_empty(), "round {round}: {:?}", fixture.names_in("tmp"));
        resumed += usize::from(!fixture.names_in("partial").is_empty());
        if round % 5 == 4 {
            let pulled = pull(&store, &registry).unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert!(fixture.names_in("partial").is_empty(), "round {round}");
            assert!(store.fsck(None, &|_| ()).unwrap().findings.is_empty(), "round {round}");
            assert_eq!(pulled.image.layers.len(), 4);
            store.remove(pulled.id.hex(), &|_| None).unwrap();
            for dir in ["layers", "l", "images", "blobs/sha256"] {
                assert!(fixture.names_in(dir).is_empty(), "round {round}: {dir}");
            }
        }
    }
    assert!(resumed > 0, "some kills came in the middle of a layer");
}

/// Is the child of the next test: in a mount namespace with a small disk.
#[test]
#[ignore = "only run by the test below"]
fn child_with_a_full_disk() {
    let Ok(root) = std::env::var(ROLE) else { return };
    let disk = Path::new(&root);
    let registry = Registry::default();
    registry.simple(&layers(), "1");
    let store = open(&disk.join("store"));
    let names = |dir: &str| fs::read_dir(store.root().join(dir)).unwrap().count();
    // The layers take 8 MiB with their content; of these remain, each time, a little more.
    let ballast = disk.join("ballast");
    for free in [0u64, 64, 256, 1024, 2000, 3000, 4000, 5000, 6000] {
        fs::write(&ballast, "").unwrap();
        let file = fs::File::options().write(true).open(&ballast).unwrap();
        let stat = rustix::fs::statvfs(disk).unwrap();
        let keep = (stat.f_bavail * stat.f_frsize).saturating_sub(free << 10);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, keep.max(1)).unwrap();
        for archive in [false, true] {
            let error = if archive {
                let archive = docker_archive(&config(&layers(), ""), &layers(), &["x:1"]);
                store
                    .load(cofferdam_images::Input::Stream(&mut &archive[..]), &Default::default(), &())
                    .unwrap_err()
            } else {
                pull(&store, &registry).unwrap_err()
            };
            let text = error.to_string();
            assert!(text.contains("No space left on device") && !text.contains('\n'), "{free}: {text}");
            for dir in ["layers", "l", "images", "tmp", "blobs/sha256", "partial"] {
                assert_eq!(names(dir), 0, "{free}: {dir} after {text}");
            }
        }
    }
    fs::remove_file(&ballast).unwrap();
    pull(&store, &registry).unwrap();
    assert!(store.fsck(None, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn a_full_disk_is_one_sentence_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let test = child("child_with_a_full_disk", dir.path());
    let script = format!("mount -t tmpfs -o size=20m tmpfs {} && exec \"$@\"", dir.path().display());
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(test.get_program())
        .args(test.get_args())
        .env(ROLE, dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
