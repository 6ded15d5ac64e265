//! From manifests to admitted pods: files read, decoded once, decided once.

use anyhow::{Context, Result, bail};
use cofferdam_decide::admission::Selection;
use crate::enclosure;
use cofferdam_decide::chain::{World, admit_pod};
use cofferdam_decide::enclosure::admit;
use cofferdam_handlers::HandlerTable;
use cofferdam_decide::quota::Used;
use cofferdam_decide::{limit_range, quota, resources, runtime_class};
use cofferdam_manifest::{MAX_TEXT, ObjectKind, decode, pods_of};
use cofferdam_model::objects::{ConfigMap, LimitRange, Namespace, ResourceQuota, RuntimeClass, Secret};
use cofferdam_model::pod::Pod;
use cofferdam_model::{Quantity, quantity::Format};
use cofferdam_node::{Objects, PodSetup};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Everything that a set of manifests holds.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    classes: Vec<RuntimeClass>,
    namespaces: Vec<Namespace>,
    limit_ranges: Vec<LimitRange>,
    quotas: Vec<ResourceQuota>,
    config_maps: Vec<ConfigMap>,
    secrets: Vec<Secret>,
    pods: Vec<Pod>,
    pub(crate) warnings: Vec<String>,
}

/// A pod that was not admitted, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) pod: Box<Pod>,
    pub(crate) reason: String,
}

impl Manifests {
    /// Reads files, folders (their `.yaml`, `.yml` and `.json`, as kubectl does) and `-`: names and
    /// texts.
    pub(crate) fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(texts(path)?);
        }
        Ok(all)
    }

    /// Decodes texts; every error of every text is told.
    pub(crate) fn decode(texts: &[(String, String)]) -> Result<Self> {
        let mut all = Self::default();
        let mut errors = Vec::new();
        for (name, text) in texts {
            if let Err(more) = all.add(name, text) {
                errors.extend(more);
            }
        }
        if !errors.is_empty() {
            bail!("{}", errors.join("\n"));
        }
        Ok(all)
    }

    /// Decodes one text.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> std::result::Result<(), Vec<String>> {
        let decoded = decode(name, text).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        self.warnings.extend(decoded.warnings.iter().map(ToString::to_string));
        let mut errors = Vec::new();
        for object in decoded.objects {
            let checked = match &object.kind {
                ObjectKind::LimitRange(range) => limit_range::validate(range),
                ObjectKind::ResourceQuota(quota) => quota::validate(quota),
                ObjectKind::RuntimeClass(class) => self.add_class((**class).clone()),
                _ => Ok(()),
            };
            errors.extend(checked.err().map(|e| format!("{}: {e}", object.place)));
            match object.kind {
                ObjectKind::RuntimeClass(_) => {}
                ObjectKind::Namespace(o) => self.namespaces.push(*o),
                ObjectKind::Pod(mut pod) => {
                    // Given by an API server; here each run gives its own.
                    pod.metadata.uid = None;
                    self.pods.push(*pod);
                }
                ObjectKind::Deployment(o) => self.pods.extend(pods_of(&o)),
                ObjectKind::ConfigMap(o) => self.config_maps.push(*o),
                ObjectKind::Secret(o) => self.secrets.push(*o),
                ObjectKind::LimitRange(o) => self.limit_ranges.push(*o),
                ObjectKind::ResourceQuota(o) => self.quotas.push(*o),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// A class is created, or updates the one of its name: its handler is immutable.
    fn add_class(&mut self, class: RuntimeClass) -> std::result::Result<(), cofferdam_decide::Denied> {
        self.warnings.extend(runtime_class::warnings(&class));
        match self.classes.iter_mut().find(|c| c.metadata.name == class.metadata.name) {
            Some(old) => {
                let mut new = class;
                // A manifest carries no resourceVersion; here it names the one that it replaces.
                new.metadata.resource_version.get_or_insert_with(|| "1".into());
                runtime_class::validate_update(&new, old)?;
                *old = new;
            }
            None => {
                runtime_class::validate_create(&class)?;
                self.classes.push(class);
            }
        }
        Ok(())
    }

    /// Admits every pod, in order, charging quotas as it goes. A pod that asks for what its handler's
    /// enclosure cannot do is not admitted.
    pub(crate) fn admit(&self, handlers: &HandlerTable, memory: i64) -> (Vec<PodSetup>, Vec<Refused>, Vec<String>) {
        let untrusted = handlers.untrusted.as_ref().map(|(name, _)| name.to_string());
        let world = World {
            classes: &self.classes,
            namespaces: &self.namespaces,
            limit_ranges: &self.limit_ranges,
            quotas: &self.quotas,
            untrusted_handler: untrusted.as_deref(),
        };
        let mut used = Used::default();
        let (mut setups, mut refused, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for pod in &self.pods {
            let admitted = admit_pod(pod.clone(), &world, &used).and_then(|admitted| {
                let kind = enclosure::of(handlers, handler_of(&admitted.selection));
                kind.map_or(Ok(()), |kind| admit(&admitted.pod, kind))?;
                Ok(admitted)
            });
            match admitted {
                Ok(admitted) => {
                    used.charge(&self.quotas, &admitted.pod);
                    let name = &admitted.pod.metadata.name;
                    warnings.extend(admitted.warnings.iter().map(|w| format!("Pod \"{name}\": {w}")));
                    warnings.extend(placement(&admitted.pod));
                    let as_class = admitted.pod.spec.runtime_class_name.as_deref().and_then(|c| self.class_text(c));
                    setups.push(PodSetup { admitted_as: as_class, ..setup(admitted.pod, &admitted.selection, memory) });
                }
                Err(denied) => refused.push(Refused { pod: Box::new(pod.clone()), reason: denied.to_string() }),
            }
        }
        (setups, refused, warnings)
    }

    /// Handler and overhead of a class as text that can be compared with what it says later:
    /// `runsc, cpu=100m, memory=64Mi`. `None` where there is no such class.
    pub(crate) fn class_text(&self, name: &str) -> Option<String> {
        let class = self.classes.iter().find(|c| c.metadata.name == name)?;
        let fixed = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref());
        // Written in one way: `1024Mi` and `1Gi` are no difference.
        let form = |resource: &str| if resource == "cpu" { Format::DecimalSi } else { Format::BinarySi };
        let written = |(resource, amount): (&String, &Quantity)| format!(", {resource}={}", Quantity::from_nano(amount.nano(), form(resource)));
        let amounts = fixed.into_iter().flatten().map(written);
        Some(amounts.fold(class.handler.clone(), |text, amount| text + &amount))
    }

    /// Whether there are classes among them.
    pub(crate) fn has_classes(&self) -> bool {
        !self.classes.is_empty()
    }

    /// The objects that pods may name.
    pub(crate) fn objects(&self) -> Objects {
        Objects::new(self.config_maps.clone(), self.secrets.clone())
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

/// There is one machine here, so what chooses a node chooses nothing: said, not hidden. `check` places
/// pods on nodes.
fn placement(pod: &Pod) -> Option<String> {
    let spec = &pod.spec;
    let selector: Vec<_> = spec.node_selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let asked = [
        (!selector.is_empty()).then(|| format!("nodeSelector {}", selector.join(","))),
        spec.affinity.is_some().then(|| "affinity".to_owned()),
        (!spec.topology_spread_constraints.is_empty()).then(|| "topologySpreadConstraints".to_owned()),
        spec.node_name.as_ref().map(|node| format!("nodeName {node}")),
    ];
    let asked: Vec<String> = asked.into_iter().flatten().collect();
    let verb = if asked.len() == 1 { "is" } else { "are" };
    let what = asked.join(" and ");
    (!asked.is_empty()).then(|| format!("Pod \"{}\": {what} {verb} not checked: this machine is the only node", pod.metadata.name))
}

/// The handler that was chosen; empty for the default one.
fn handler_of(selection: &Selection) -> &str {
    match selection {
        Selection::Class { handler, .. } | Selection::Annotation { handler, .. } => handler.as_str(),
        Selection::Default => "",
    }
}

fn setup(pod: Pod, selection: &Selection, memory: i64) -> PodSetup {
    let handler = handler_of(selection).to_owned();
    let class = match selection {
        Selection::Class { name, .. } => Some(name.clone()),
        Selection::Default | Selection::Annotation { .. } => None,
    };
    let all = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let containers = all.map(|c| (c.name.clone(), resources::container_resources(&pod, c, memory))).collect();
    PodSetup {
        handler,
        class,
        admitted_as: None,
        pod_resources: resources::pod_cgroup(&pod),
        overhead: resources::sandbox_overhead(&pod),
        containers,
        pod,
    }
}

fn texts(path: &Path) -> Result<Vec<(String, String)>> {
    let name = path.display().to_string();
    if path == Path::new("-") || !is_folder(path)? {
        return Ok(vec![(name, text(path, MAX_TEXT)?)]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("{name} cannot be listed"))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_file() && p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{name} has no .yaml, .yml or .json file");
    }
    let mut all = Vec::new();
    for file in files {
        all.extend(texts(&file)?);
    }
    Ok(all)
}

fn is_folder(path: &Path) -> Result<bool> {
    let meta = std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(meta.is_dir())
}

/// The text of a file, of standard input for `-`; an error beyond so many bytes.
pub(crate) fn text(path: &Path, most: usize) -> Result<String> {
    if path == Path::new("-") {
        return bounded(std::io::stdin().lock(), "standard input", most);
    }
    let name = path.display().to_string();
    if is_folder(path)? {
        bail!("{name} is a folder; name a file in it");
    }
    let file = std::fs::File::open(path).with_context(|| format!("{name} cannot be read"))?;
    bounded(file, &name, most)
}

fn bounded(reader: impl Read, name: &str, most: usize) -> Result<String> {
    let mut text = String::new();
    reader.take(most as u64 + 1).read_to_string(&mut text).with_context(|| format!("{name} is not text in UTF-8"))?;
    if text.len() > most {
        bail!("{name} is larger than {} MiB, the most that is read", most >> 20);
    }
    Ok(text)
}
