//! Cofferdam, as a library: the three verbs that a kubelet would call.

use crate::machine::{COMMAND, IMAGE, Scratch, busybox, millis};
use cofferdam_bench::sample::Series;
use anyhow::{Context, Result};
use cofferdam_engine::handlers::Table;
use cofferdam_engine::{Engine, Options};
use cofferdam_handlers::HandlerTable;
use cofferdam_host::process::pss;
use cofferdam_images::{BuildFile, BuildSpec, Content};
use cofferdam_model::PodId;
use cofferdam_model::cri::{ContainerConfig, NamespaceMode, SandboxConfig};
use cofferdam_plan::Layout;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The engine under test.
pub(crate) struct Ours {
    engine: Arc<Engine>,
    logs: PathBuf,
    state: PathBuf,
}

/// One pod up.
pub(crate) struct Up {
    pub(crate) total: f64,
    pub(crate) stages: Vec<(String, f64)>,
    pod: PodId,
}

impl Ours {
    pub(crate) fn open(scratch: &Scratch) -> Result<Self> {
        // Short, for the sockets in it; a folder of its own, so that users' pods are left alone.
        let state = PathBuf::from(format!("/run/cdb-{}", std::process::id()));
        let layout = Layout::new(scratch.dir.join("ours"), &state);
        let path = std::env::var("PATH").unwrap_or_default();
        let mut options = Options::new(layout, Table::new(&HandlerTable::built_in(), &path));
        options.network.bridge = "cdbench0".into();
        options.network.subnet = "10.214.0.0/16".parse().map_err(|e| anyhow::anyhow!("{e}"))?;
        options.network.table = "cdbench".into();
        let (engine, _) = Engine::open(options)?;
        let file = |path: &str, mode, content| BuildFile { path: path.into(), mode, content };
        let files = vec![
            file("bin/busybox", 0o755, Content::File(busybox()?)),
            file("bin/sleep", 0o777, Content::Symlink("busybox".into())),
            file("bin/sh", 0o777, Content::Symlink("busybox".into())),
        ];
        engine.images().build(&BuildSpec { name: IMAGE.into(), files, ..BuildSpec::default() }, &())?;
        Ok(Self { engine, logs: scratch.dir.join("logs"), state })
    }

    /// See [`Engine::keep_networks_ready`].
    pub(crate) fn keep_networks_ready(&self, count: usize) {
        self.engine.keep_networks_ready(count);
    }

    /// Proves the handler and makes the bridge, which happens once.
    pub(crate) fn warm(&self, handler: &str) -> Result<()> {
        self.one(handler).map(|_| ())
    }

    fn up(&self, handler: &str, number: usize) -> Result<Up> {
        let name = format!("pod-{number}");
        std::fs::create_dir_all(&self.logs)?;
        let sandbox = SandboxConfig {
            name: name.clone(),
            namespace: "bench".into(),
            uid: name.clone(),
            hostname: name,
            log_directory: self.logs.clone(),
            pid: NamespaceMode::Container,
            ..SandboxConfig::default()
        };
        let container = ContainerConfig {
            name: "app".into(),
            image: IMAGE.into(),
            command: COMMAND.map(String::from).to_vec(),
            log_path: format!("{number}.log").into(),
            ..ContainerConfig::default()
        };
        let start = Instant::now();
        let pod = self.engine.run_sandbox(&sandbox, handler)?;
        let id = self.engine.create_container(&pod, &container)?;
        self.engine.start_container(&id)?;
        let total = millis(start);
        let named = |prefix: &str, stages: Vec<cofferdam_model::cri::Stage>| -> Vec<(String, f64)> {
            stages.into_iter().map(|s| (format!("{prefix} {}", s.name), s.micros as f64 / 1e3)).collect()
        };
        let mut stages = named("sandbox", self.engine.sandbox_status(&pod)?.stages);
        stages.extend(named("container", self.engine.container_status(&id)?.stages));
        Ok(Up { total, stages, pod })
    }

    /// One pod up and down; the time of up.
    pub(crate) fn one(&self, handler: &str) -> Result<Up> {
        let up = self.up(handler, 0)?;
        self.engine.remove_sandbox(&up.pod)?;
        Ok(up)
    }

    /// Pods per second, `at_once` being started side by side.
    pub(crate) fn many(&self, handler: &str, count: usize, at_once: usize, series: &mut Series) -> Result<f64> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Up>> = Mutex::new(Vec::new());
        let start = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let workers: Vec<_> = (0..at_once)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= count {
                                return Ok(());
                            }
                            let up = self.up(handler, number)?;
                            done.lock().map_err(|_| anyhow::anyhow!("a worker failed"))?.push(up);
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().map_err(|_| anyhow::anyhow!("a worker failed"))??;
            }
            Ok(())
        })?;
        let rate = count as f64 / start.elapsed().as_secs_f64();
        for up in done.into_inner().map_err(|_| anyhow::anyhow!("a worker failed"))? {
            series.push(up.total);
            self.engine.remove_sandbox(&up.pod)?;
        }
        Ok(rate)
    }

    /// Makes and removes pods, `at_once` side by side.
    pub(crate) fn churn(&self, handler: &str, count: usize, at_once: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let up = self.up(handler, number)?;
                self.engine.remove_sandbox(&up.pod)?;
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a worker failed"))?)
        })?;
        // The bench names its own logs, which a kubelet would remove.
        std::fs::remove_dir_all(&self.logs)?;
        Ok(())
    }

    /// Folders of the engine.
    pub(crate) fn folders(&self) -> [PathBuf; 2] {
        [self.engine.layout().pods(), self.state.clone()]
    }

    /// MiB of ours per pod: the monitors' share, every page divided by who maps it.
    pub(crate) fn memory_per_pod(&self, handler: &str, count: usize) -> Result<f64> {
        let pods: Vec<_> = (0..count).map(|n| self.up(handler, n)).collect::<Result<_>>()?;
        let bin = self.engine.layout().bin();
        let mut total = 0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let ours = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(&bin));
            if let (true, Some(pid)) = (ours, entry.file_name().to_str().and_then(|n| n.parse().ok())) {
                total += pss(pid)?.unwrap_or(0);
            }
        }
        for up in pods {
            self.engine.remove_sandbox(&up.pod)?;
        }
        Ok(total as f64 / count as f64 / (1 << 20) as f64)
    }

    /// Takes everything down.
    pub(crate) fn close(self) -> Result<()> {
        self.engine.tear_down()?;
        drop(self.engine);
        cofferdam_host::remove::remove_tree(&self.state).context("the run-time folder")
    }
}
