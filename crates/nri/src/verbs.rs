//! The verbs: each plugin is asked, in order.

use crate::merge::{Creation, Updates};
use crate::owners::Owners;
use crate::plugin::{Plugin, name};
use crate::wire::{self, Event};
use crate::{Container, Created, Error, Nri, Pod, Result, Update, Updated, convert, required};
use cofferdam_model::cri::LinuxResources;
use prost::Message;
use std::sync::Arc;

/// The plugins of one verb.
struct Round<'a> {
    nri: &'a Nri,
    event: Event,
    plugins: Vec<Arc<Plugin>>,
    required: Vec<String>,
}

impl<'a> Round<'a> {
    /// The plugins to be asked about an event that can be refused.
    ///
    /// # Errors
    /// [`Error::Missing`] where a required one is not there.
    fn strict(nri: &'a Nri, event: Event, pod: &Pod, container: Option<&Container>) -> Result<Self> {
        let plugins = nri.inner.plugins();
        let required = if nri.is_needed(&pod.annotations) {
            required::plugins(&nri.inner.options, pod, container.map(|c| c.name.as_str()))?
        } else {
            Vec::new()
        };
        match required.iter().find(|wanted| !plugins.iter().any(|plugin| plugin.is(wanted))) {
            Some(wanted) => Err(Error::Missing {
                plugin: wanted.clone(),
                event: name(event),
                pod: pod.id.clone(),
            }),
            None => Ok(Self {
                nri,
                event,
                plugins,
                required,
            }),
        }
    }

    /// The plugins to be told of an event that happens anyway.
    fn lenient(nri: &'a Nri, event: Event) -> Self {
        Self {
            nri,
            event,
            plugins: nri.inner.plugins(),
            required: Vec::new(),
        }
    }

    fn ask<A: Message + Default>(
        &self,
        plugin: &Plugin,
        request: &impl Message,
        old: Option<&wire::StateChangeEvent>,
    ) -> Result<Option<A>> {
        let required = self.required.iter().any(|wanted| plugin.is(wanted));
        plugin.ask(self.event, request, old, required, &self.nri.inner.options)
    }

    /// Asks all about an event that brings nothing back.
    fn tell(&self, pod: &Pod, container: Option<&Container>) -> Result<()> {
        if self.plugins.is_empty() {
            return Ok(());
        }
        let pod = Some(convert::pod(pod));
        let container = container.map(convert::container);
        let request = wire::ContainerRequest { pod, container };
        let old = wire::StateChangeEvent {
            event: self.event.into(),
            pod: request.pod.clone(),
            container: request.container.clone(),
        };
        self.plugins
            .iter()
            .try_for_each(|plugin| self.ask::<wire::Empty>(plugin, &request, Some(&old)).map(drop))
    }
}

/// All return at once where no plugin is connected and none required. A plugin's own error fails the verb
/// ([`Error::Refused`]), as upstream does.
impl Nri {
    /// Before a pod's containers are made; its network is there. A refusal stops the pod.
    pub fn run_pod(&self, pod: &Pod) -> Result<()> {
        Round::strict(self, Event::RunPodSandbox, pod, None)?.tell(pod, None)
    }

    /// Before a pod's limits change.
    pub fn update_pod(&self, pod: &Pod, overhead: &LinuxResources, resources: &LinuxResources) -> Result<()> {
        let round = Round::strict(self, Event::UpdatePodSandbox, pod, None)?;
        if round.plugins.is_empty() {
            return Ok(());
        }
        let request = wire::UpdatePodSandboxRequest {
            pod: Some(convert::pod(pod)),
            overhead_linux_resources: Some(convert::resources(overhead)),
            linux_resources: Some(convert::resources(resources)),
        };
        round
            .plugins
            .iter()
            .try_for_each(|plugin| round.ask::<wire::Empty>(plugin, &request, None).map(drop))
    }

    /// After a pod's limits changed. An error is for the log: it has happened; so for all below of this kind.
    pub fn pod_updated(&self, pod: &Pod) -> Result<()> {
        Round::lenient(self, Event::PostUpdatePodSandbox).tell(pod, None)
    }

    /// After a pod was stopped. An error is for the log.
    pub fn stop_pod(&self, pod: &Pod) -> Result<()> {
        Round::lenient(self, Event::StopPodSandbox).tell(pod, None)
    }

    /// Before a pod's record goes. An error is for the log.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        Round::lenient(self, Event::RemovePodSandbox).tell(pod, None)
    }

    /// Before a container is made: what the plugins together change of it, and of others.
    ///
    /// # Errors
    /// [`Error::Conflict`] where two plugins set the same; [`Error::Unsupported`] where one asks for what
    /// cannot be done; [`Error::Rejected`] by a validating plugin.
    pub fn create_container(&self, pod: &Pod, container: &Container) -> Result<Created> {
        let round = Round::strict(self, Event::CreateContainer, pod, Some(container))?;
        if round.plugins.is_empty() {
            return Ok(Created::default());
        }
        let told = (convert::pod(pod), convert::container(container));
        let mut creation = Creation::new(told.1.clone(), &container.image_env);
        let mut evictions = Vec::new();
        for plugin in &round.plugins {
            let request = wire::ContainerRequest {
                pod: Some(told.0.clone()),
                container: Some(creation.container.clone()),
            };
            let answer: Option<wire::CreateContainerResponse> = round.ask(plugin, &request, None)?;
            if let Some(mut answer) = answer {
                evictions.push((plugin.name(), std::mem::take(&mut answer.evict)));
                creation.add(answer, &plugin.name())?;
            }
        }
        self.validate(&round, told, &creation)?;
        for (plugin, evictions) in evictions {
            self.inner.evict(&plugin, evictions);
        }
        let adjustment = convert::adjustment(&creation.adjust).map_err(|why| Error::Unsupported {
            plugin: round.plugins.iter().map(|plugin| plugin.name()).collect::<Vec<_>>().join(","),
            container: container.id.clone(),
            field: "devices or mounts".to_owned(),
            why,
        })?;
        Ok(Created {
            adjustment,
            updates: creation.updates.list.iter().map(convert::update).collect(),
        })
    }

    /// After a container was made. An error is for the log.
    pub fn container_created(&self, pod: &Pod, container: &Container) -> Result<()> {
        Round::lenient(self, Event::PostCreateContainer).tell(pod, Some(container))
    }

    /// Before a container starts.
    pub fn start_container(&self, pod: &Pod, container: &Container) -> Result<()> {
        Round::strict(self, Event::StartContainer, pod, Some(container))?.tell(pod, Some(container))
    }

    /// After a container started. An error is for the log.
    pub fn container_started(&self, pod: &Pod, container: &Container) -> Result<()> {
        Round::lenient(self, Event::PostStartContainer).tell(pod, Some(container))
    }

    /// Before a container's limits change: the limits to set, and changes of others.
    ///
    /// # Errors
    /// As [`Nri::create_container`].
    pub fn update_container(&self, pod: &Pod, container: &Container, resources: &LinuxResources) -> Result<Updated> {
        let round = Round::strict(self, Event::UpdateContainer, pod, Some(container))?;
        if round.plugins.is_empty() {
            return Ok(Updated {
                resources: resources.clone(),
                updates: Vec::new(),
            });
        }
        let mut owners = Owners::default();
        let mut updates = Updates::of(&container.id, convert::resources(resources));
        let mut request = wire::UpdateContainerRequest {
            pod: Some(convert::pod(pod)),
            container: Some(convert::container(container)),
            linux_resources: None,
        };
        let mut evictions = Vec::new();
        for plugin in &round.plugins {
            request.linux_resources = updates.updating.as_ref().map(|(_, limits)| limits.clone());
            let answer: Option<wire::UpdateContainerResponse> = round.ask(plugin, &request, None)?;
            if let Some(answer) = answer {
                updates.add(answer.update, &mut owners, &plugin.name())?;
                evictions.push((plugin.name(), answer.evict));
            }
        }
        for (plugin, evictions) in evictions {
            self.inner.evict(&plugin, evictions);
        }
        let mut merged = resources.clone();
        if let Some((_, limits)) = &updates.updating {
            convert::change(limits).apply(&mut merged);
        }
        Ok(Updated {
            resources: merged,
            updates: updates.list.iter().map(convert::update).collect(),
        })
    }

    /// After a container's limits changed. An error is for the log.
    pub fn container_updated(&self, pod: &Pod, container: &Container) -> Result<()> {
        Round::lenient(self, Event::PostUpdateContainer).tell(pod, Some(container))
    }

    /// After a container stopped: changes of others. An error is for the log.
    pub fn stop_container(&self, pod: &Pod, container: &Container) -> Result<Vec<Update>> {
        let round = Round::lenient(self, Event::StopContainer);
        if round.plugins.is_empty() {
            return Ok(Vec::new());
        }
        let request = wire::ContainerRequest {
            pod: Some(convert::pod(pod)),
            container: Some(convert::container(container)),
        };
        let (mut owners, mut updates) = (Owners::default(), Updates::default());
        for plugin in &round.plugins {
            let answer: Option<wire::StopContainerResponse> = round.ask(plugin, &request, None)?;
            if let Some(answer) = answer {
                updates.add(answer.update, &mut owners, &plugin.name())?;
            }
        }
        Ok(updates.list.iter().map(convert::update).collect())
    }

    /// Before a container's record goes. An error is for the log.
    pub fn remove_container(&self, pod: &Pod, container: &Container) -> Result<()> {
        Round::lenient(self, Event::RemoveContainer).tell(pod, Some(container))
    }

    /// Lets validating plugins judge what came together. One that does not answer has not agreed.
    fn validate(&self, round: &Round<'_>, told: (wire::PodSandbox, wire::Container), creation: &Creation) -> Result<()> {
        let event = Event::ValidateContainerAdjustment;
        // One that this verb has lost already is passed over, as upstream does; who minds requires it.
        let is_one = |plugin: &&Arc<Plugin>| plugin.wants(event) && !plugin.connection.is_closed();
        let mut validators = round.plugins.iter().filter(is_one).peekable();
        if validators.peek().is_none() {
            return Ok(());
        }
        let instances = round.plugins.iter().filter_map(|plugin| {
            let (idx, base) = (plugin.order().0.to_owned(), plugin.order().1.to_owned());
            (!plugin.connection.is_closed()).then_some(wire::PluginInstance { name: base, index: idx })
        });
        let request = wire::ValidateContainerAdjustmentRequest {
            pod: Some(told.0),
            container: Some(told.1),
            adjust: Some(creation.adjust.clone()),
            update: creation.updates.list.clone(),
            owners: Some(creation.owners.to_wire()),
            plugins: instances.collect(),
        };
        for plugin in validators {
            let answer: Option<wire::ValidateContainerAdjustmentResponse> = plugin.ask(event, &request, None, true, &self.inner.options)?;
            if let Some(answer) = answer
                && answer.reject
            {
                let reason = if answer.reason.is_empty() {
                    "unknown rejection reason".to_owned()
                } else {
                    answer.reason
                };
                return Err(Error::Rejected {
                    plugin: plugin.name(),
                    reason,
                });
            }
        }
        Ok(())
    }
}
