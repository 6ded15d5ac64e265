//! This machine as Cofferdam finds it. Nothing here fails: what cannot be read or opened is a finding.

use super::hear;
use crate::args::Global;
use crate::commands::run;
use crate::settings::{DEFAULT_PATH, Settings};
use crate::world::Manifests;
use cofferdam_doctor::{Finding, Report, Severity, Sources, examine};
use cofferdam_engine::Engine;
use cofferdam_model::cri::HandlerStatus;
use cofferdam_node::Machine;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The machine, its configuration and its records.
pub(super) struct Here {
    pub(super) settings: Settings,
    /// Open, where it could be opened.
    pub(super) engine: Option<Arc<Engine>>,
    /// Why it could not, where that is no fault of a configuration file.
    closed: Option<String>,
    config_errors: Vec<String>,
    network: cofferdam_network::Config,
}

impl Here {
    /// Reads the configuration and opens the records, as far as that is possible.
    pub(super) fn look(global: &Global) -> Self {
        let settings = Settings::read(global);
        let mut config_errors: Vec<String> = settings.loaded.errors.iter().map(ToString::to_string).collect();
        let network = settings.network().unwrap_or_else(|e| {
            config_errors.push(format!("{e:#}"));
            cofferdam_network::Config::default()
        });
        // Where the directories are may be said by the very file that has an error.
        let opened = config_errors.is_empty().then(|| settings.check().and_then(|()| settings.open()));
        let (engine, closed) = match opened {
            Some(Ok(engine)) => (Some(engine), None),
            Some(Err(e)) => (None, Some(format!("{e:#}"))),
            None => (None, None),
        };
        Self {
            settings,
            engine,
            closed,
            config_errors,
            network,
        }
    }

    /// Every handler proved, side by side, and the machine looked at.
    pub(super) fn examine(&self) -> Report {
        let handlers = self.engine.as_deref().map(proved).unwrap_or_default();
        examine(&self.sources(&handlers))
    }

    /// What keeps every pod of this machine from running, or those of one handler: facts alone, no
    /// command is run.
    pub(super) fn causes(&self, handler: &str) -> Vec<Finding> {
        let sources = Sources {
            commands: false,
            ..self.sources(&[])
        };
        let own = format!("handler {handler}");
        let general = |f: &Finding| f.subject == own || !f.subject.starts_with("handler ") && !f.subject.starts_with("runtime ");
        let found = examine(&sources).findings.into_iter();
        found.filter(|f| f.severity == Severity::StopsPods && general(f)).collect()
    }

    fn sources<'a>(&'a self, handlers: &'a [HandlerStatus]) -> Sources<'a> {
        let layout = &self.settings.layout;
        Sources {
            root: layout.root.clone(),
            state: layout.state.clone(),
            network: self.network.clone(),
            path: std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into()),
            table: Some(&self.settings.loaded.table),
            config_errors: self.config_errors.clone(),
            handlers,
            ..Sources::new()
        }
    }

    /// What was said where the records could not be opened, and what the records say of pods that are
    /// not ready.
    pub(super) fn heard(&self) -> impl Iterator<Item = Finding> {
        let closed = self
            .closed
            .as_ref()
            .map(|why| hear(&format!("the records cannot be opened: {why}"), ""));
        let pods = self.engine.iter().flat_map(|e| e.list_sandboxes().unwrap_or_default());
        let of_pod = |pod: cofferdam_model::cri::SandboxStatus| {
            let subject = format!("pod {}/{}", pod.config.namespace, pod.config.name);
            pod.reason.map(|why| hear(&why, &subject)).unwrap_or_default()
        };
        let images = self.engine.iter().flat_map(|e| e.images().problems().to_vec());
        let of_images = images.flat_map(|problem| hear(&problem, "the images"));
        closed.into_iter().flatten().chain(pods.flat_map(of_pod)).chain(of_images)
    }

    /// Why admission refuses pods of manifests.
    pub(super) fn refused(&self, manifests: &Manifests, is_meant: impl Fn(&str, &str) -> bool) -> impl Iterator<Item = Finding> {
        let memory = Machine::detect(&run::dirs(&self.settings.layout)).memory;
        let (_, refused, _) = manifests.admit(&self.settings.loaded.table, memory);
        refused
            .into_iter()
            .filter_map(move |refused| {
                let meta = &refused.pod.metadata;
                let (namespace, name) = (meta.namespace_or_default(), meta.name.as_str());
                let findings = || hear(&format!("not admitted: {}", refused.reason), &format!("pod {namespace}/{name}"));
                is_meant(namespace, name).then(findings)
            })
            .flatten()
    }
}

fn proved(engine: &Engine) -> Vec<HandlerStatus> {
    let names: BTreeSet<String> = engine.table().names().map(str::to_owned).collect();
    engine.prove_ahead(&names);
    engine.handler_statuses()
}
