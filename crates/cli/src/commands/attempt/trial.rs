//! One pod under one handler: started, watched, asked, ended, and nothing of it left.

use super::condition::{self, Until};
use super::output::{self, Output, Stream};
use super::progress::Progress;
use super::verdict::{Load, Ran, Reached, Trial};
use crate::commands::run;
use crate::owner::Desk;
use anyhow::{Context, Result, bail};
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_node::{ContainerPhase, ContainerView, Handle, Node, PodSetup, PodView, REASON_STOPPED};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How often a server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(50);
/// How long `--exec` may take.
const EXEC_LIMIT: Duration = Duration::from_secs(600);

/// Reason of the events that tell what a handler does not enforce.
const WEAKER: &str = "Weaker";

/// What every try needs.
pub(crate) struct Stage<'a> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) desk: &'a Desk,
    pub(crate) node: Node,
    pub(crate) until: Option<Until>,
    /// How long the pod may take to be ready, or to end where nothing is waited for.
    pub(crate) limit: Duration,
    pub(crate) exec: Option<String>,
}

/// What was seen of a pod while it ran.
#[derive(Debug, Default)]
struct Seen {
    until: Option<Reached>,
    exec: Option<Load>,
    limit_reached: bool,
}

impl Stage<'_> {
    /// Tries a pod. An error is ours, or says that somebody ended the pod; nothing of it is left then
    /// either.
    pub(crate) fn run(&self, setup: PodSetup, progress: &mut Progress) -> Result<Trial> {
        let mut setups = vec![setup];
        self.desk.plan(&mut setups)?;
        run::unique(&self.engine, &setups)?;
        let handler = setups[0].handler.clone();
        let handle = Arc::new(self.node.start(setups, 1)?);
        self.desk.keep(handle.clone());
        let mut watch = Watch {
            stage: self,
            handle: &handle,
            changes: handle.changes(),
            began: Instant::now(),
            progress,
        };
        let seen = watch.look();
        let stopped = watch.view().is_ok_and(|view| !view.ended);
        handle.stop_all(None);
        let ended = watch.until_ended();
        let outputs = ended.as_ref().map_or_else(|_| Ok(vec![]), |view| outputs(&handle, view));
        for left in handle.remove_logs() {
            progress.tell(format_args!("cofferdam: {left}"));
        }
        let view = ended?;
        if self.desk.was_stopped(&view) {
            bail!("pod {}/{} was ended by request; nothing more is tried", view.namespace, view.name);
        }
        let outputs = outputs.with_context(|| format!("a log of pod {}/{} cannot be read", view.namespace, view.name))?;
        Ok(trial(handler, &view, outputs, seen?, stopped))
    }
}

/// A pod that is being watched.
struct Watch<'a> {
    stage: &'a Stage<'a>,
    handle: &'a Handle,
    changes: Receiver<Arc<PodView>>,
    began: Instant,
    progress: &'a mut Progress,
}

impl Watch<'_> {
    fn view(&self) -> Result<Arc<PodView>> {
        self.handle.snapshot().into_iter().next().context("the pod has no view")
    }

    /// Waits a moment, or until something changes.
    fn pause(&mut self) {
        // The other end lives as long as the handle.
        let _ = self.changes.recv_timeout(POLL);
        while self.changes.try_recv().is_ok() {}
        self.progress.tick();
    }

    fn over(&self) -> bool {
        self.began.elapsed() >= self.stage.limit
    }

    /// Waits until the pod is over and removed.
    fn until_ended(&mut self) -> Result<Arc<PodView>> {
        loop {
            let view = self.view()?;
            if view.ended {
                return Ok(view);
            }
            self.pause();
        }
    }

    /// Watches the pod until it is to be ended, or has ended.
    fn look(&mut self) -> Result<Seen> {
        let stage = self.stage;
        if stage.until.is_none() && stage.exec.is_none() {
            while !self.view()?.ended {
                if self.over() {
                    return Ok(Seen {
                        limit_reached: true,
                        ..Seen::default()
                    });
                }
                self.pause();
            }
            return Ok(Seen::default());
        }
        let until = stage.until.as_ref().map(|until| self.wait_for(until)).transpose()?;
        let exec = match &stage.exec {
            Some(command) if until.as_ref().is_none_or(|u| u.micros.is_some()) => Some(self.load(command)?),
            _ => None,
        };
        Ok(Seen {
            until,
            exec,
            limit_reached: false,
        })
    }

    /// Waits until a server is ready.
    fn wait_for(&mut self, until: &Until) -> Result<Reached> {
        let mut why = "its first container does not run".to_owned();
        loop {
            let view = self.view()?;
            if view.ended {
                return Ok(Reached {
                    micros: None,
                    why: "the pod ended before".into(),
                });
            }
            if let Some(container) = first_running(&view) {
                match self.ask(&view, &container, until) {
                    Ok(()) => {
                        return Ok(Reached {
                            micros: u64::try_from(self.began.elapsed().as_micros()).ok(),
                            why: String::new(),
                        });
                    }
                    Err(error) => why = error,
                }
            }
            if self.over() {
                return Ok(Reached {
                    micros: None,
                    why: format!("{why}; waited for {} s", self.stage.limit.as_secs()),
                });
            }
            self.pause();
        }
    }

    fn ask(&self, view: &PodView, container: &ContainerId, until: &Until) -> std::result::Result<(), String> {
        match until {
            Until::Http { port, path } => {
                // A pod without an address is in the machine's network.
                let ip = view.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                condition::ask(SocketAddr::new(ip, *port), path)
            }
            Until::Exec(command) => match self.stage.engine.exec_sync(container, &shell(command), condition::ATTEMPT) {
                Ok(output) if output.exit_code == 0 => Ok(()),
                Ok(output) => Err(format!("it ended with exit code {}", output.exit_code)),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Runs `--exec` once the pod runs.
    fn load(&mut self, command: &str) -> Result<Load> {
        let failed = |why: &str| Load {
            why: why.to_owned(),
            ..Load::default()
        };
        loop {
            let view = self.view()?;
            if view.ended {
                return Ok(failed("the pod ended before"));
            }
            if let Some(container) = first_running(&view).filter(|_| view.ready) {
                return Ok(self.exec(&container, command));
            }
            if self.over() {
                return Ok(failed("the pod does not run in time"));
            }
            self.pause();
        }
    }

    fn exec(&mut self, container: &ContainerId, command: &str) -> Load {
        let engine = &self.stage.engine;
        let call = || {
            let began = Instant::now();
            let result = engine.exec_sync(container, &shell(command), EXEC_LIMIT);
            (result, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
        };
        let (result, micros) = std::thread::scope(|scope| {
            let call = scope.spawn(call);
            while !call.is_finished() {
                self.progress.tick();
                std::thread::sleep(POLL);
            }
            call.join()
                .unwrap_or_else(|_| (Err(cofferdam_model::cri::Error::Failed("a fault in Cofferdam ended it".into())), 0))
        });
        match result {
            Ok(ran) => {
                let output = Output {
                    stdout: Stream::of(&ran.stdout),
                    stderr: Stream::of(&ran.stderr),
                };
                Load {
                    exit_code: Some(ran.exit_code),
                    why: String::new(),
                    output,
                    micros,
                }
            }
            Err(error) => Load {
                why: error.to_string(),
                micros,
                ..Load::default()
            },
        }
    }
}

fn shell(command: &str) -> [String; 3] {
    ["sh".to_owned(), "-c".to_owned(), command.to_owned()]
}

/// The first container of the pod's work, where it runs.
fn first_running(view: &PodView) -> Option<ContainerId> {
    let first = view.containers.iter().find(|c| c.kind == "container")?;
    matches!(first.state, ContainerPhase::Running { .. })
        .then(|| first.id.clone())
        .flatten()
}

/// What each container wrote.
fn outputs(handle: &Handle, view: &PodView) -> std::io::Result<Vec<Output>> {
    let read = |container: &ContainerView| match handle.log_path(&view.namespace, &view.name, &container.name) {
        Some(path) => output::read(&path),
        None => Ok(Output::default()),
    };
    view.containers.iter().map(read).collect()
}

fn trial(handler: String, view: &PodView, outputs: Vec<Output>, seen: Seen, stopped: bool) -> Trial {
    let ran = |(container, output): (&ContainerView, Output)| {
        let (exit_code, reason) = match &container.state {
            ContainerPhase::Terminated(end) => (Some(end.exit_code), end.reason.clone()),
            ContainerPhase::Waiting { reason, .. } => (None, reason.clone()),
            ContainerPhase::Running { .. } => (None, String::new()),
        };
        Ran {
            name: container.name.clone(),
            kind: container.kind,
            exit_code,
            reason,
            output,
        }
    };
    let usage = view.usage.clone().unwrap_or_default();
    let (reason, message) = why(view);
    Trial {
        handler,
        started: view.began,
        reason,
        message,
        stopped,
        limit_reached: seen.limit_reached,
        containers: view.containers.iter().zip(outputs).map(ran).collect(),
        until: seen.until,
        exec: seen.exec,
        start_micros: view.start_micros,
        run_micros: run_micros(view),
        memory_peak: usage.memory_peak,
        enclosure_peak: usage.enclosure_peak,
        refused_calls: usage.refused_calls,
        weaker: view
            .events
            .iter()
            .filter(|e| e.reason == WEAKER)
            .map(|e| e.message.clone())
            .collect(),
        left_behind: view.left_behind.clone(),
        ..Trial::default()
    }
}

/// Why the pod ended, where it was for another reason than its containers' ends and our stop. Where
/// none ever ran, its first container that says something tells why.
fn why(view: &PodView) -> (String, String) {
    if view.began && view.reason == REASON_STOPPED {
        return Default::default();
    }
    if view.began || !view.message.is_empty() {
        return (
            view.reason.clone(),
            if view.reason.is_empty() {
                String::new()
            } else {
                view.message.clone()
            },
        );
    }
    let told = |container: &ContainerView| match &container.state {
        ContainerPhase::Terminated(end) if !end.message.is_empty() => Some((end.reason.clone(), end.message.clone())),
        ContainerPhase::Waiting { reason, message } if !message.is_empty() => Some((reason.clone(), message.clone())),
        _ => None,
    };
    view.containers
        .iter()
        .find_map(told)
        .unwrap_or_else(|| ("NotStarted".into(), "no container of it was started".into()))
}

/// From the start of the first container of the pod's work to the end of the last.
fn run_micros(view: &PodView) -> Option<u64> {
    let ends = view
        .containers
        .iter()
        .filter(|c| c.kind == "container")
        .filter_map(|c| match &c.state {
            ContainerPhase::Terminated(end) if end.started_at > 0 => Some((end.started_at, end.finished_at)),
            _ => None,
        });
    let (begins, finishes): (Vec<i64>, Vec<i64>) = ends.unzip();
    // What ends at once may end before its start is noted.
    let nanos = (finishes.iter().max()? - begins.iter().min()?).max(0);
    u64::try_from(nanos / 1000).ok()
}
