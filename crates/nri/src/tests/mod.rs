//! The whole crate against plugins in threads of the test, over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asking;
mod coming;
mod failing;
mod fake;
mod merging;

use crate::{Container, Eviction, Level, Nri, Options, Pod, State, Update};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runtime state that remembers what was asked of it.
#[derive(Default)]
pub(super) struct Remembering {
    pub(super) pods: Mutex<Vec<Pod>>,
    pub(super) containers: Mutex<Vec<Container>>,
    pub(super) updates: Mutex<Vec<Update>>,
    pub(super) evictions: Mutex<Vec<Eviction>>,
}

impl State for Remembering {
    fn snapshot(&self) -> (Vec<Pod>, Vec<Container>) {
        (self.pods.lock().unwrap().clone(), self.containers.lock().unwrap().clone())
    }

    fn update(&self, update: &Update) -> Result<(), String> {
        self.updates.lock().unwrap().push(update.clone());
        if update.container == "gone" {
            Err("it is not there".to_owned())
        } else {
            Ok(())
        }
    }

    fn evict(&self, eviction: &Eviction) -> Result<(), String> {
        self.evictions.lock().unwrap().push(eviction.clone());
        Ok(())
    }
}

/// A runtime with a socket in a directory of its own.
pub(super) struct Rig {
    pub(super) nri: Nri,
    pub(super) state: Arc<Remembering>,
    pub(super) socket: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
    pub(super) dir: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(Remembering::default(), change)
    }

    pub(super) fn on(state: Remembering, change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nri/nri.sock");
        let log = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&log);
        let mut options = Options {
            socket: Some(socket.clone()),
            plugin_dir: dir.path().join("plugins"),
            config_dir: dir.path().join("conf.d"),
            registration_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(20),
            log: Arc::new(move |level: Level, text: &str| told.lock().unwrap().push(format!("{level:?} {text}"))),
            ..Options::default()
        };
        change(&mut options);
        let state = Arc::new(state);
        let nri = Nri::start(options, Arc::clone(&state) as Arc<dyn State>).unwrap();
        Self {
            nri,
            state,
            socket,
            log,
            dir,
        }
    }

    /// Waits until these plugins are connected.
    pub(super) fn wait_for(&self, plugins: &[&str]) {
        wait_until(&format!("{plugins:?}"), || self.nri.plugins() == plugins);
    }

    /// Waits until something was told that has `part`.
    pub(super) fn wait_told(&self, part: &str) {
        wait_until(part, || self.log.lock().unwrap().iter().any(|line| line.contains(part)));
    }
}

pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn pod() -> Pod {
    Pod {
        id: "pod1".to_owned(),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        handler: "runc".to_owned(),
        ..Pod::default()
    }
}

pub(super) fn annotated(key: &str, value: &str) -> Pod {
    Pod {
        annotations: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..pod()
    }
}

pub(super) fn container() -> Container {
    Container {
        id: "ctr1".to_owned(),
        pod: "pod1".to_owned(),
        name: "app".to_owned(),
        ..Container::default()
    }
}
