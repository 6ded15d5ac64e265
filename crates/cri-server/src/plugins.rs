//! NRI: its plugins are asked and told about pods and containers, as the verbs go.

use crate::hooks::{Hooks, Moment};
use cofferdam_engine::Engine;
use cofferdam_images::Image;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerStatus, Error, LinuxResources, SandboxState, SandboxStatus};
use cofferdam_monitor::client::Client;
use cofferdam_nri::{Container, Eviction, Hold, Nri, Options, Pod, State, Update};
use cofferdam_telemetry::Log;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Grace of a container whose end a plugin asks for: a pod's own default
/// (`terminationGracePeriodSeconds`); the kubelet's is not known here.
const GRACE: Duration = Duration::from_secs(30);
/// Stack of the thread that waits for such an end, bytes.
const STACK: usize = 1 << 20;

/// NRI's plugins, as [`Hooks`]. Where none is connected or required, each call is a look at a number.
pub struct Plugins {
    nri: Nri,
    world: World,
}

/// What plugins see and may change.
#[derive(Clone)]
struct World {
    engine: Arc<Engine>,
    log: Log,
}

impl Plugins {
    /// Starts NRI: installed plugins are started and told what runs, and others may connect.
    ///
    /// # Errors
    /// As those of [`Nri::start`].
    pub fn start(options: Options, engine: Arc<Engine>, log: Log) -> cofferdam_nri::Result<Self> {
        let world = World { engine, log };
        let nri = Nri::start(options, Arc::new(world.clone()))?;
        Ok(Self { nri, world })
    }

    fn concern(&self, pod: &SandboxStatus) -> bool {
        self.nri.is_needed(&pod.config.annotations)
    }

    fn note(&self, what: &str, outcome: cofferdam_nri::Result<()>) {
        if let Err(why) = outcome {
            self.world.log.warn(what, &[("error", &why.to_string())]);
        }
    }
}

impl Hooks for Plugins {
    fn lifecycle(&self, moment: Moment<'_>) -> Result<(), Error> {
        if !self.concern(moment.pod()) {
            return Ok(());
        }
        let (nri, world) = (&self.nri, &self.world);
        let (pod, what) = (world.pod(moment.pod()), what(&moment));
        let container = |status| world.container(status);
        match moment {
            Moment::SandboxMade(_) => nri.run_pod(&pod).inspect_err(|_| {
                // Those who agreed are told that it ends, as upstream does.
                self.note("a plugin failed at a pod that was refused", nri.stop_pod(&pod));
                self.note("a plugin failed at a pod that was refused", nri.remove_pod(&pod));
            }),
            Moment::SandboxUpdating(_, overhead, resources) => nri.update_pod(&pod, overhead, resources),
            Moment::SandboxUpdated(_) => nri.pod_updated(&pod),
            Moment::SandboxStopped(_) => nri.stop_pod(&pod),
            Moment::SandboxRemoved(_) => nri.remove_pod(&pod),
            // It is there by now: an error is told, and takes nothing back.
            Moment::ContainerMade(_, c) => {
                self.note(
                    "a plugin failed after a container was made",
                    nri.container_created(&pod, &container(c)),
                );
                Ok(())
            }
            Moment::ContainerStarting(_, c) => nri.start_container(&pod, &container(c)),
            Moment::ContainerStarted(_, c) => nri.container_started(&pod, &container(c)),
            Moment::ContainerUpdated(_, c) => nri.container_updated(&pod, &container(c)),
            Moment::ContainerStopped(_, c) => nri.stop_container(&pod, &container(c)).map(|updates| {
                for update in &updates {
                    if let Err(why) = world.apply(update) {
                        world.log.warn(&why, &[]);
                    }
                }
            }),
            Moment::ContainerRemoved(_, c) => nri.remove_container(&pod, &container(c)),
        }
        .map_err(|why| Error::Failed(format!("{what}: {why}")))
    }

    fn creating(&self, pod: &SandboxStatus, id: &ContainerId, config: &mut ContainerConfig) -> Result<(), Error> {
        if !self.concern(pod) {
            return Ok(());
        }
        let mut container = Container::new(id.as_str(), pod.id.as_str(), config);
        self.world.add_image(&mut container, config);
        let created = self.nri.create_container(&self.world.pod(pod), &container);
        let created = created.map_err(|why| {
            // Some may have agreed, and hold something for it.
            self.undone(pod, id, config);
            Error::Failed(format!("failed to get NRI adjustment for container: {why}"))
        })?;
        self.world.apply_all(&created.updates)?;
        created.adjustment.apply(config);
        Ok(())
    }

    fn undone(&self, pod: &SandboxStatus, id: &ContainerId, config: &ContainerConfig) {
        if !self.concern(pod) {
            return;
        }
        let mut container = Container::new(id.as_str(), pod.id.as_str(), config);
        self.world.add_image(&mut container, config);
        let (nri, pod) = (&self.nri, self.world.pod(pod));
        // Upstream's `UndoCreateContainer`.
        let what = "a plugin failed at a container that was not made";
        self.note(what, nri.stop_container(&pod, &container).map(drop));
        self.note(what, nri.remove_container(&pod, &container));
    }

    fn updating(&self, pod: &SandboxStatus, container: &ContainerStatus, resources: &mut LinuxResources) -> Result<(), Error> {
        if !self.concern(pod) {
            return Ok(());
        }
        let (pod, container) = (self.world.pod(pod), self.world.container(container));
        let updated = self.nri.update_container(&pod, &container, resources);
        let updated = updated.map_err(|why| Error::Failed(format!("NRI container update failed: {why}")))?;
        self.world.apply_all(&updated.updates)?;
        *resources = updated.resources;
        Ok(())
    }

    fn wants_lifecycle(&self) -> bool {
        self.nri.is_needed(&BTreeMap::new())
    }

    fn hold(&self) -> Option<Hold<'_>> {
        Some(self.nri.hold())
    }
}

/// What has failed where a plugin does, in containerd's words where it has any.
fn what(moment: &Moment<'_>) -> &'static str {
    match moment {
        Moment::SandboxMade(_) => "NRI RunPodSandbox failed",
        Moment::SandboxUpdating(..) => "NRI sandbox update failed",
        Moment::SandboxUpdated(_) | Moment::ContainerUpdated(..) => "NRI post-update notification failed",
        Moment::SandboxStopped(_) => "NRI sandbox stop notification failed",
        Moment::SandboxRemoved(_) => "NRI pod removal notification failed",
        Moment::ContainerMade(..) => "NRI post-create notification failed",
        Moment::ContainerStarting(..) => "NRI container start failed",
        Moment::ContainerStarted(..) => "NRI post-start notification failed",
        Moment::ContainerStopped(..) => "NRI failed to stop container",
        Moment::ContainerRemoved(..) => "NRI failed to remove container",
    }
}

impl<'a> Moment<'a> {
    /// The pod that it is about.
    fn pod(&self) -> &'a SandboxStatus {
        match self {
            Self::SandboxMade(pod)
            | Self::SandboxUpdating(pod, ..)
            | Self::SandboxUpdated(pod)
            | Self::SandboxStopped(pod)
            | Self::SandboxRemoved(pod)
            | Self::ContainerMade(pod, _)
            | Self::ContainerStarting(pod, _)
            | Self::ContainerStarted(pod, _)
            | Self::ContainerUpdated(pod, _)
            | Self::ContainerStopped(pod, _)
            | Self::ContainerRemoved(pod, _) => pod,
        }
    }
}

impl World {
    fn pod(&self, status: &SandboxStatus) -> Pod {
        let mut pod = Pod::from(status);
        if status.state == SandboxState::Ready {
            // The process that holds the pod's namespaces.
            let monitor = Client::connect(&self.engine.layout().pod(&status.id).socket());
            pod.pid = monitor.map_or(0, |client| u32::try_from(client.monitor_pid()).unwrap_or(0));
        }
        pod
    }

    fn container(&self, status: &ContainerStatus) -> Container {
        let mut container = Container::from(status);
        self.add_image(&mut container, &status.config);
        container
    }

    /// What its image says of a container. One whose image is gone runs on without.
    fn add_image(&self, container: &mut Container, config: &ContainerConfig) {
        let Ok(image) = self.engine.images().resolve(&config.image) else {
            return;
        };
        container.image_env.clone_from(&image.config.env);
        container.args = command(config, &image);
        container.image.1 = image.id.to_string();
    }

    /// Changes a container as a plugin asks.
    fn apply(&self, update: &Update) -> Result<(), String> {
        let told = |why: &dyn std::fmt::Display| {
            format!(
                "container {}, which a plugin wants to change, is as it was: {why}",
                update.container
            )
        };
        let id = ContainerId::new(&update.container).map_err(|e| told(&e))?;
        self.served(&id).map_err(|e| told(&e))?;
        // What the plugin leaves out is zero, which changes nothing.
        let mut change = LinuxResources::default();
        update.resources.apply(&mut change);
        self.engine.update_container(&id, &change).map_err(|e| told(&e))
    }

    fn apply_all(&self, updates: &[Update]) -> Result<(), Error> {
        for update in updates {
            match self.apply(update) {
                Err(why) if !update.ignore_failure => return Err(Error::Failed(why)),
                _ => {}
            }
        }
        Ok(())
    }

    /// An error unless the container was made over CRI.
    fn served(&self, id: &ContainerId) -> Result<(), Error> {
        let container = self.engine.container_status(id)?;
        let pod = self.engine.sandbox_status(&container.pod)?;
        if pod.config.served {
            Ok(())
        } else {
            Err(Error::NotFound(format!("container {id} does not exist")))
        }
    }
}

/// The command that a container runs: the image's entrypoint and arguments count where it gives none (OCI image
/// specification, `config.md`, as Kubernetes applies it: a command given takes away the image's arguments too).
fn command(config: &ContainerConfig, image: &Image) -> Vec<String> {
    let (entrypoint, arguments) = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => (&image.config.entrypoint, &image.config.cmd),
        (true, false) => (&image.config.entrypoint, &config.args),
        (false, _) => (&config.command, &config.args),
    };
    entrypoint.iter().chain(arguments).cloned().collect()
}

impl State for World {
    fn snapshot(&self) -> (Vec<Pod>, Vec<Container>) {
        let mut pods = self.engine.list_sandboxes().unwrap_or_default();
        pods.retain(|pod| pod.config.served);
        let told: HashMap<_, Pod> = pods.iter().map(|pod| (pod.id.clone(), self.pod(pod))).collect();
        let containers = self.engine.list_containers(None).unwrap_or_default();
        let containers = containers
            .iter()
            .filter(|c| told.contains_key(&c.pod))
            .map(|c| self.container(c))
            .collect();
        (told.into_values().collect(), containers)
    }

    fn update(&self, update: &Update) -> Result<(), String> {
        self.apply(update)
    }

    fn evict(&self, eviction: &Eviction) -> Result<(), String> {
        let id = ContainerId::new(&eviction.container).map_err(|e| e.to_string())?;
        self.served(&id).map_err(|e| e.to_string())?;
        let fields = [("container_id", id.as_str()), ("reason", eviction.reason.as_str())];
        self.log.info("a container is stopped, as a plugin asks", &fields);
        // Neither the plugin nor the verb that it answers waits for the end.
        let (world, id) = (self.clone(), id.clone());
        let stop = move || {
            if let Err(why) = world.engine.stop_container(&id, GRACE) {
                let fields = [("container_id", id.as_str()), ("error", &why.to_string())];
                world
                    .log
                    .warn("a container that a plugin wants to end could not be stopped", &fields);
            }
        };
        let started = std::thread::Builder::new().name("nri-evict".into()).stack_size(STACK).spawn(stop);
        started.map(drop).map_err(|e| e.to_string())
    }
}
