//! Rules that need more than one field, or that are about an object as a whole.

mod affinity;
mod container;
mod pod;
mod probe;
mod security;
mod volume;

use crate::error::{Log, Problem};
use crate::kinds::ObjectKind;
use crate::old;
use crate::path::{Path, Step, quoted};
use crate::walk::too_much_data;
use crate::yaml::{Mark, Node};
use cofferdam_model::Quantity;
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::objects::{ConfigMap, Deployment, LabelSelector, Namespace, Secret};
use cofferdam_model::pod::PodSpec;

/// An object under check.
struct Check<'a> {
    top: &'a Node,
    log: &'a mut Log,
}

impl Check<'_> {
    /// Place of the value at `path`, or of what is nearest above it.
    fn at(&self, path: &Path) -> Mark {
        let mut node = self.top;
        for step in &path.0 {
            let next = match step {
                Step::Key(key) => node.get(key),
                Step::Index(i) => node.items().get(*i).map(|n| &**n),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }

    fn refuse(&mut self, path: &Path, rule: impl Into<String>) {
        if self.log.is_full() {
            return; // finding the place costs too much to do it for nothing
        }
        self.log.invalid(self.at(path), path, rule);
    }

    fn warn(&mut self, path: &Path, rule: &str) {
        self.log.warn(self.at(path), &format!("{path} {rule}"), None);
    }

    fn not_yet(&mut self, path: &Path, instead: &'static str) {
        if self.log.is_full() {
            return;
        }
        self.log
            .not_yet(self.at(path), path.to_string(), |path| Problem::NotYet { path, instead });
    }

    fn not_here(&mut self, path: &Path, why: &'static str) {
        if self.log.is_full() {
            return;
        }
        self.log
            .not_yet(self.at(path), path.to_string(), |path| Problem::NotHere { path, why });
    }

    /// The object at `path`.
    fn node(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self.top, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(i) => node.items().get(*i).map(|n| &**n),
        })
    }

    /// Which of `fields` are set at `path`.
    fn set<'f>(&self, path: &Path, fields: &[&'f str]) -> Vec<&'f str> {
        let node = self.node(path);
        let is_set = |f: &&str| node.is_some_and(|n| n.get(f).is_some());
        fields.iter().copied().filter(is_set).collect()
    }

    fn at_most_one(&mut self, path: &Path, fields: &[&str]) {
        if let [first, second, ..] = self.set(path, fields)[..] {
            self.refuse(&path.key(second), format!("cannot stand beside {first}; remove one"));
        }
    }

    /// Refuses none and several of `fields`. Where a field that is not honoured stands alone, that was
    /// told already.
    fn exactly_one(&mut self, path: &Path, fields: &[&str]) {
        let others = |node: &Node| node.entries().iter().any(|e| !e.value.entries().is_empty());
        if self.set(path, fields).is_empty() && !self.node(path).is_some_and(others) {
            self.refuse(path, format!("must have one of {}", fields.join(", ")));
        }
        self.at_most_one(path, fields);
    }
}

/// Checks a decoded object against the rules that one field alone cannot break, and fills what an
/// old form left out. `node` is the object's text, `version` its apiVersion.
pub(crate) fn object(node: &Node, object: &mut ObjectKind, version: Option<&str>, log: &mut Log) {
    let mut check = Check { top: node, log };
    metadata(&mut check, object);
    match object {
        ObjectKind::Pod(o) => {
            annotations(&mut check, &Path::default().key("metadata"), &o.metadata, &o.spec);
            pod::pod(&mut check, o);
        }
        ObjectKind::Deployment(o) => deployment(&mut check, o, version),
        ObjectKind::Namespace(o) => namespace(&mut check, o),
        ObjectKind::ConfigMap(o) => config_map(&mut check, o),
        ObjectKind::Secret(o) => secret(&mut check, o),
        _ => {}
    }
}

fn metadata(check: &mut Check<'_>, object: &ObjectKind) {
    let path = Path::default().key("metadata");
    let meta = object.metadata();
    // Of a class, admission says so with Kubernetes' own message.
    let is_class = matches!(object, ObjectKind::RuntimeClass(_));
    if meta.name.is_empty() && meta.generate_name.is_none() && !is_class {
        let at = check.at(&path);
        check.log.error(
            at,
            Problem::Missing {
                path: path.key("name").to_string(),
            },
        );
    }
    if !object.is_namespaced() && meta.namespace.is_some() {
        // The API server drops it.
        let path = path.key("namespace");
        let at = check.at(&path);
        let text = format!("{path} means nothing for a kind that stands in no namespace; remove it");
        check.log.warn(at, &text, None);
    }
}

/// Annotations by which older Kubernetes, or its plugins, set what is not honoured here. Selecting
/// a runtime by annotation is admission's subject, and is not refused here.
fn annotations(check: &mut Check<'_>, meta_path: &Path, meta: &ObjectMeta, spec: &PodSpec) {
    for (key, value) in &meta.annotations {
        let path = meta_path.key("annotations").key(key);
        if key.starts_with(security::APP_ARMOR) {
            security::annotated_profile(check, &path, key, meta, spec);
        } else if key.starts_with("seccomp.security.alpha.kubernetes.io/")
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io/")
        {
            check.refuse(
                &path,
                "has had no effect since Kubernetes 1.27; write securityContext.seccompProfile instead",
            );
        } else if BANDWIDTHS.contains(&key.as_str()) {
            bandwidth(check, &path, value, spec);
        } else if key == "io.kubernetes.cri-o.userns-mode" {
            check.not_yet(&path, "write hostUsers: false in the pod's spec");
        }
    }
}

/// Rates of the pod's network (`pkg/util/bandwidth` of Kubernetes).
const BANDWIDTHS: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];
/// 1k and 1P, bits per second.
const RATES: std::ops::RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;

fn bandwidth(check: &mut Check<'_>, path: &Path, value: &str, spec: &PodSpec) {
    match value.parse::<Quantity>() {
        Ok(rate) if !RATES.contains(&rate.value()) => {
            check.refuse(path, format!("is {}, but must be between 1k and 1P bits per second", quoted(value)));
        }
        Ok(_) if spec.host_network => check.refuse(path, "cannot hold where hostNetwork is true; remove one"),
        Ok(_) => {}
        Err(why) => check.refuse(path, format!("is {}, which is no quantity: {why}", quoted(value))),
    }
}

/// Pod Security admission is asked for by labels (`k8s.io/pod-security-admission`). A level that
/// would refuse pods must not be ignored; levels that only warn or record may be.
fn namespace(check: &mut Check<'_>, namespace: &Namespace) {
    const PREFIX: &str = "pod-security.kubernetes.io/";
    let labels = Path::default().key("metadata").key("labels");
    for (key, level) in &namespace.metadata.labels {
        let Some(mode) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let path = labels.key(key);
        match mode {
            "enforce" if level == "privileged" => {}
            "enforce" => check.not_yet(&path, "keep this object for a cluster"),
            "warn" | "audit" => {
                let at = check.at(&path);
                check.log.warn(
                    at,
                    &format!("{path} does nothing here: pods are not checked against Pod Security levels yet"),
                    None,
                );
            }
            "enforce-version" | "warn-version" | "audit-version" => {}
            _ => check.refuse(&path, "is no label of Pod Security; write enforce, warn or audit"),
        }
    }
}

fn config_map(check: &mut Check<'_>, map: &ConfigMap) {
    let path = Path::default().key("binaryData");
    for key in map.binary_data.keys().filter(|k| map.data.contains_key(*k)) {
        check.refuse(&path.key(key), "stands in data too; remove one");
    }
    if too_much_data(map.data.values().map(String::len), map.binary_data.values().map(String::len)) {
        check.refuse(&Path::default().key("data"), TOO_MUCH);
    }
}

fn secret(check: &mut Check<'_>, secret: &Secret) {
    if too_much_data(secret.string_data.values().map(String::len), secret.data.values().map(String::len)) {
        check.refuse(&Path::default().key("data"), TOO_MUCH);
    }
}

const TOO_MUCH: &str = "holds more than 1 MiB, which Kubernetes refuses; split it, or mount a hostPath";

fn deployment(check: &mut Check<'_>, deployment: &mut Deployment, version: Option<&str>) {
    let spec = Path::default().key("spec");
    let template = spec.key("template");
    let labels = &deployment.spec.template.metadata.labels;
    if deployment.spec.selector.is_none() && old::fills_selector(version) {
        deployment.spec.selector = Some(LabelSelector {
            match_labels: labels.clone(),
            ..LabelSelector::default()
        });
    }
    match &deployment.spec.selector {
        None => {
            let at = check.at(&spec);
            check.log.error(
                at,
                Problem::Missing {
                    path: spec.key("selector").to_string(),
                },
            );
        }
        Some(selector) if selector.match_labels.is_empty() => {
            check.refuse(&spec.key("selector"), "is empty; name the template's labels in matchLabels");
        }
        Some(selector) if selector.match_labels.iter().any(|(k, v)| labels.get(k) != Some(v)) => {
            let path = template.key("metadata").key("labels");
            check.refuse(
                &path,
                "are wrong: `selector` does not match template `labels`; make spec.selector.matchLabels a part of them",
            );
        }
        Some(_) => {}
    }
    if deployment
        .spec
        .template
        .spec
        .restart_policy
        .is_some_and(|p| p != cofferdam_model::pod::RestartPolicy::Always)
    {
        check.refuse(
            &template.key("spec").key("restartPolicy"),
            "must be Always in a Deployment; write a Pod for work that ends",
        );
    }
    let (meta, spec) = (&deployment.spec.template.metadata, &deployment.spec.template.spec);
    annotations(check, &template.key("metadata"), meta, spec);
    pod::spec(check, &template.key("spec"), spec);
}
