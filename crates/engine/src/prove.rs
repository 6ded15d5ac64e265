//! Proof of a handler: its binary answers, and a canary pod forks, pipes, waits and ends as it
//! should, made by the same steps as any pod. A gVisor build that only survives `sleep` exists; it
//! is not proved.
//!
//! A proof holds for one binary (device, inode, size, time of change) and one definition, until the
//! machine is restarted. A failure is not kept: it is tried anew by the next process.

use crate::Engine;
use crate::container::{Root, new_id};
use crate::handlers::Definition;
use crate::record::{self, SandboxRecord};
use crate::sandbox::{Purpose, Stopwatch, failed};
use cofferdam_host::files::{self, Durability};
use cofferdam_host::process::Identity;
use cofferdam_model::cri::{ContainerConfig, Error, HandlerStatus, NamespaceMode, Result, SandboxConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the canary ends with; 0 would be the code of too many things that did not happen.
const CANARY_CODE: i32 = 86;
/// How long the canary may take. Software emulation and a busy machine are slow.
const CANARY_LIMIT: Duration = Duration::from_secs(60);

/// What was proved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proof {
    version: u32,
    /// What the binary calls itself.
    pub runtime_version: String,
    /// Features: CRI's names to support.
    pub features: BTreeMap<String, bool>,
}

/// Outcomes of this process, one lock a handler, so that many pods wait for one canary.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    outcomes: Mutex<HashMap<String, Outcome>>,
}

type Outcome = Arc<Mutex<Option<std::result::Result<Proof, String>>>>;

/// An error unless the handler is proved.
pub(crate) fn require(engine: &Engine, name: &str, definition: &Definition) -> Result<Proof> {
    let key = identity(definition).map_err(|why| unproved(name, &why))?;
    let outcome = {
        let mut outcomes = engine.proofs.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.entry(key.clone()).or_default().clone()
    };
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    let result = outcome.get_or_insert_with(|| recall(engine, &key).unwrap_or_else(|| engine.prove(definition, &key)));
    result.clone().map_err(|why| unproved(name, &why))
}

fn unproved(name: &str, why: &str) -> Error {
    Error::Handler(format!("handler \"{name}\" is not proved: {why}"))
}

/// Names a binary and how it is run, for the file of its proof.
fn identity(definition: &Definition) -> std::result::Result<String, String> {
    let meta = std::fs::metadata(&definition.binary).map_err(|e| format!("{}: {e}", definition.binary.display()))?;
    let of_binary = format!("{}-{}-{}-{}-{}", meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec());
    let of_all = serde_json::to_string(definition).map_err(|e| e.to_string())? + &of_binary;
    let hash = of_all.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    Ok(format!("{hash:016x}"))
}

fn path(engine: &Engine, key: &str) -> PathBuf {
    engine.layout().proofs().join(format!("{}-{key}.json", engine.boot_id))
}

fn recall(engine: &Engine, key: &str) -> Option<std::result::Result<Proof, String>> {
    record::read::<Proof>(&path(engine, key)).ok().flatten().map(Ok)
}

impl Engine {
    /// Every handler with its proof or the reason why it has none.
    pub fn handler_statuses(&self) -> Vec<HandlerStatus> {
        let table = self.table();
        let mut all: Vec<HandlerStatus> = table.names().filter_map(|name| table.status(name)).collect();
        for status in all.iter_mut().filter(|s| s.unproved.is_none()) {
            let name = status.name.clone();
            let proof = table.resolve(&name).and_then(|(name, definition)| require(self, name, definition));
            match proof {
                Ok(proof) => {
                    status.version = Some(proof.runtime_version);
                    status.features = proof.features;
                }
                Err(e) => status.unproved = Some(e.to_string()),
            }
        }
        all
    }

    /// An error unless the handler is there and proved; else its features.
    pub fn handler_ready(&self, handler: &str) -> Result<BTreeMap<String, bool>> {
        let table = self.table();
        let (name, definition) = table.resolve(handler)?;
        require(self, name, definition).map(|proof| proof.features)
    }

    /// Proves handlers before pods need them, side by side, so that no pod's start waits for a
    /// canary. What fails is told to the pod that asks for it.
    pub fn prove_ahead(&self, names: &std::collections::BTreeSet<String>) {
        let table = self.table();
        std::thread::scope(|scope| {
            for name in names {
                let table = &table;
                scope.spawn(move || table.resolve(name).and_then(|(name, definition)| require(self, name, definition)));
            }
        });
    }

    fn prove(&self, definition: &Definition, key: &str) -> std::result::Result<Proof, String> {
        let driver = definition.driver()?;
        let probe = driver.probe()?;
        self.run_canary(definition).map_err(|e| format!("its canary pod failed: {e}"))?;
        let proof = Proof { version: record::VERSION, runtime_version: probe.version, features: probe.features };
        // A proof that cannot be kept is one that is made again.
        let _ = record::write(&path(self, key), &proof, Durability::Cached);
        Ok(proof)
    }

    fn run_canary(&self, definition: &Definition) -> Result<()> {
        let config = SandboxConfig {
            name: "canary".into(),
            namespace: "cofferdam".into(),
            hostname: "canary".into(),
            pid: NamespaceMode::Container,
            ..SandboxConfig::default()
        };
        let pod = self.make_sandbox(&config, "canary", definition, Purpose::Canary(Identity::own().map_err(failed)?), &mut Stopwatch::new())?;
        let outcome = self.canary_in(&pod);
        let removed = self.remove_sandbox(&pod);
        outcome.and(removed)
    }

    fn canary_in(&self, pod: &cofferdam_model::PodId) -> Result<()> {
        let root = self.canary_root()?;
        let config = ContainerConfig {
            name: "canary".into(),
            command: vec!["/canary".into(), "canary".into()],
            ..ContainerConfig::default()
        };
        let container = self.make_container(pod, &config, Root::Directory(root), new_id(pod)?, &mut Stopwatch::new())?;
        self.start_container(&container)?;
        let known = self.must_know(pod)?;
        let Some(exit) = self.wait_exit(&known, &container, CANARY_LIMIT)? else {
            return Err(Error::Timeout(format!("it did not end within {} s", CANARY_LIMIT.as_secs())));
        };
        match known.driver()?.exit_code(&exit) {
            CANARY_CODE => Ok(()),
            code => Err(Error::Failed(format!("it forks, pipes and waits, and ended with code {code} in place of {CANARY_CODE}"))),
        }
    }

    /// A root of the monitor's binary alone, which has a canary's mode.
    fn canary_root(&self) -> Result<PathBuf> {
        let name = self.monitor.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let root = self.layout.bin().join(format!("canary-{name}"));
        let target = root.join("canary");
        if !target.exists() {
            for dir in ["proc", "dev", "sys", "etc"] {
                std::fs::create_dir_all(root.join(dir)).map_err(failed)?;
            }
            match std::fs::hard_link(&self.monitor, &target) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => {}
            }
        }
        files::private_dir(&root).map_err(failed)?;
        Ok(root)
    }
}

/// Whether this is a canary that nobody waits for any more.
pub(crate) fn is_orphan(record: &SandboxRecord) -> bool {
    record.prover.is_some_and(|prover| !prover.is_alive().unwrap_or(false))
}
