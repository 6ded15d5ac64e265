//! What becomes of pods: admitted one after the other, quotas charged as they go, nothing run.

use crate::admission::{Admitted, Selection};
use crate::chain::{World, admit_pod};
use crate::field::{Warning, go_quote};
use crate::quota::{self, QuotaLeft, Used};
use crate::resources::{Qos, pod_limits, pod_requests, qos};
use crate::{Denied, warnings};
use cofferdam_model::pod::Pod;
use cofferdam_model::{HandlerName, ResourceList};
use std::collections::BTreeSet;

/// The namespaces that every cluster has.
const ALWAYS: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
const NAMESPACE: &str = "metadata.namespace";

/// What is known of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// Manifests alone are known. One that none of them defines can still exist where they are
    /// applied, and on one machine a namespace is nothing but a part of a name: its first pod is
    /// warned about, and none is refused.
    Implicit,
    /// All are listed, as a cluster lists them: a pod of another is refused, as the API server does
    /// (`NamespaceLifecycle`).
    Listed,
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodReport {
    /// The pod as admission leaves it, with its class's overhead, node selector and tolerations; as
    /// it was given where it is refused.
    pub pod: Pod,
    /// Its class, filled in by a default too. Of a refused pod, the one that it names.
    pub class: Option<String>,
    /// Its handler; `None` means the runtime's default. Of a refused pod there is none.
    pub handler: Option<HandlerName>,
    /// What it needs to have reserved, overhead included.
    pub requests: ResourceList,
    /// What it is held to, overhead included.
    pub limits: ResourceList,
    /// How well it is protected when memory runs short.
    pub qos: Qos,
    /// What the quotas that count it have left after it.
    pub quotas: Vec<QuotaLeft>,
    /// What its author should know of.
    pub warnings: Vec<Warning>,
    /// Why it is refused; [`Denied::causes`] gives the fields.
    pub denial: Option<Denied>,
}

/// Tells of each pod what becomes of it, in the order given. `used` is what quotas have been charged
/// before the first.
pub fn report<'a>(
    pods: impl IntoIterator<Item = Pod> + 'a,
    world: World<'a>,
    namespaces: Namespaces,
    used: Used,
) -> impl Iterator<Item = PodReport> + 'a {
    let mut check = Check {
        world,
        namespaces,
        used,
        warned: BTreeSet::new(),
    };
    pods.into_iter().map(move |pod| check.pod(pod))
}

struct Check<'a> {
    world: World<'a>,
    namespaces: Namespaces,
    used: Used,
    /// The unknown namespaces that were warned about.
    warned: BTreeSet<String>,
}

impl Check<'_> {
    fn pod(&mut self, pod: Pod) -> PodReport {
        let mut warnings = Vec::new();
        let unknown = self.unknown_namespace(&pod).map(str::to_string);
        let admitted = match unknown {
            Some(name) if self.namespaces == Namespaces::Listed => Err(Denied::NotFound {
                resource: "namespaces",
                name,
                field: NAMESPACE.to_string(),
            }),
            Some(name) => {
                warnings.extend(self.warn_of_namespace(name));
                admit_pod(pod.clone(), &self.world, &self.used)
            }
            None => admit_pod(pod.clone(), &self.world, &self.used),
        };
        match admitted {
            Ok(admitted) => self.admitted(admitted, warnings),
            Err(denied) => self.describe(pod, None, warnings, Some(denied)),
        }
    }

    fn admitted(&mut self, admitted: Admitted, mut warnings: Vec<Warning>) -> PodReport {
        self.used.charge(self.world.quotas, &admitted.pod);
        warnings.extend(admitted.warnings);
        warnings.extend(warnings::of_pod(&admitted.pod));
        self.describe(admitted.pod, Some(admitted.selection), warnings, None)
    }

    fn describe(&self, pod: Pod, selection: Option<Selection>, warnings: Vec<Warning>, denial: Option<Denied>) -> PodReport {
        let named = || pod.spec.runtime_class_name.clone().filter(|_| denial.is_some());
        PodReport {
            class: selection.as_ref().and_then(Selection::class).map(str::to_string).or_else(named),
            handler: selection.as_ref().and_then(Selection::handler).cloned(),
            requests: pod_requests(&pod),
            limits: pod_limits(&pod),
            qos: qos(&pod),
            quotas: quota::left(&pod, self.world.quotas, &self.used),
            warnings,
            denial,
            pod,
        }
    }

    fn unknown_namespace<'p>(&self, pod: &'p Pod) -> Option<&'p str> {
        let name = pod.metadata.namespace_or_default();
        let is_known = ALWAYS.contains(&name) || self.world.namespaces.iter().any(|n| n.metadata.name == name);
        (!is_known).then_some(name)
    }

    fn warn_of_namespace(&mut self, name: String) -> Option<Warning> {
        let text = format!(
            "namespaces {} not found in these manifests; a cluster refuses the pod unless it has that namespace",
            go_quote(&name)
        );
        self.warned.insert(name).then(|| Warning::new(NAMESPACE, text))
    }
}

#[cfg(test)]
mod tests;
