//! A monitor in a temporary directory, for tests.

// Each test file uses its part.
#![allow(dead_code)]

use cofferdam_monitor::client::{Client, start_monitor};
use cofferdam_monitor::protocol::{Exit, Keep, Response, Spawn, Start, Stdio};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// How long anything in a test may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running monitor; shut down when dropped.
pub(crate) struct Pod {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) client: Client,
    pub(crate) child: Child,
}

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cofferdam-monitor"))
}

impl Pod {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Start)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("exits")).unwrap();
        let mut start =
            Start { socket: dir.path().join("m.sock"), exit_dir: dir.path().join("exits"), ..Start::default() };
        change(&mut start);
        let (client, child) = start_monitor(binary(), &start).unwrap();
        Self { dir, client, child }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path("m.sock")).unwrap()
    }

    /// Spawns what must be spawnable; code and kept process.
    pub(crate) fn spawn(&mut self, spawn: &Spawn) -> (Option<i32>, Option<i32>) {
        match self.client.spawn(spawn).unwrap() {
            Response::Spawned { code, pid, .. } => (code, pid),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(&mut self, spawn: &Spawn) -> String {
        match self.client.spawn(spawn).unwrap() {
            Response::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait(&self, key: &str) -> Exit {
        self.client.wait_timeout(key, PATIENCE).unwrap().expect("the process did not end")
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Ok(client) = Client::connect(&self.path("m.sock")) {
            let _ = client.shutdown();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `sh -c script`, kept as the command itself.
pub(crate) fn sh(key: &str, script: &str) -> Spawn {
    Spawn {
        key: key.to_owned(),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
        cwd: PathBuf::new(),
        cgroup_files: vec![],
        mounts: vec![],
        stdio: Stdio::Null,
        stderr_file: None,
        keep: Keep::Command,
        filter: vec![],
        wide_table: false,
        slave: false,
        timeout_ms: 0,
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
