//! The RuntimeClass admission plugin (`plugin/pkg/admission/runtimeclass`), and what precedes it
//! here: default classes and the selection annotations from before RuntimeClass.

use crate::denied::Reason;
use crate::field::{Path, Warning, go_quote};
use crate::selection::{CLASS_NAME, Choice, annotation_path, choose};
use crate::{Denied, defaults, tolerations};
use cofferdam_model::HandlerName;
use cofferdam_model::objects::{Namespace, RuntimeClass};
use cofferdam_model::pod::Pod;
use serde::{Deserialize, Serialize};

pub use crate::selection::{DEFAULT_CLASS, NAMESPACE_DEFAULT_CLASS};

/// What is known where a pod is admitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// All classes.
    pub classes: &'a [RuntimeClass],
    /// All namespaces; one that is missing has no default class.
    pub namespaces: &'a [Namespace],
    /// The handler that old annotations for untrusted pods mean (containerd calls it `untrusted`).
    pub untrusted_handler: Option<&'a str>,
}

/// Which handler runs a pod, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// The handler that the pod's class names.
    Class {
        /// The class.
        name: String,
        /// Its handler.
        handler: HandlerName,
    },
    /// The runtime's default handler; no class.
    Default,
    /// The handler of untrusted pods, by an annotation from before RuntimeClass; no class.
    Annotation {
        /// The handler.
        handler: HandlerName,
        /// The annotation's key.
        annotation: String,
    },
}

impl Selection {
    /// The handler; `None` means the runtime's default.
    pub fn handler(&self) -> Option<&HandlerName> {
        match self {
            Self::Class { handler, .. } | Self::Annotation { handler, .. } => Some(handler),
            Self::Default => None,
        }
    }

    /// The class, where there is one.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Class { name, .. } => Some(name),
            Self::Annotation { .. } | Self::Default => None,
        }
    }
}

/// A pod that may run.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The pod with what admission has set: class name, overhead, node selector, tolerations.
    pub pod: Pod,
    /// Its handler.
    pub selection: Selection,
    /// What to tell the user: deprecated forms, with today's.
    pub warnings: Vec<Warning>,
}

/// Admits a pod with regard to its RuntimeClass: finds the class, sets overhead, merges node
/// selector and tolerations, or refuses. Admitting what was admitted changes nothing, except that
/// an old annotation is refused beside a class, even one that was filled in.
pub fn admit(pod: Pod, context: &Context<'_>) -> Result<Admitted, Denied> {
    let admitted = mutate(pod, context)?;
    validate(&admitted, context)?;
    Ok(admitted)
}

/// What the plugin changes of a pod. [`validate`] follows, once the pod's own rules are checked.
pub(crate) fn mutate(mut pod: Pod, context: &Context<'_>) -> Result<Admitted, Denied> {
    match select(&pod, context) {
        Ok((class, selection, warnings)) => {
            if let Selection::Class { name, .. } = &selection {
                pod.spec.runtime_class_name = Some(name.clone());
            }
            apply(&mut pod, class).map_err(|reason| Denied::pod(&pod, vec![reason]))?;
            Ok(Admitted { pod, selection, warnings })
        }
        Err(reason) => Err(Denied::pod(&pod, vec![reason])),
    }
}

/// What the plugin checks last: overhead comes from a class, and from nowhere else.
pub(crate) fn validate(admitted: &Admitted, context: &Context<'_>) -> Result<(), Denied> {
    let class = admitted.selection.class();
    let class = context.classes.iter().find(|c| Some(c.metadata.name.as_str()) == class);
    // Even an empty one counts as set.
    if class.is_some_and(|c| c.overhead.is_some()) || admitted.pod.spec.overhead.is_none() {
        return Ok(());
    }
    let text = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    Err(Denied::pod(&admitted.pod, vec![Reason::new("spec.overhead", text)]))
}

type Selected<'a> = (Option<&'a RuntimeClass>, Selection, Vec<Warning>);

fn select<'a>(pod: &Pod, context: &Context<'a>) -> Result<Selected<'a>, Reason> {
    let (choice, warnings) = choose(pod, context)?;
    match choice {
        Choice::Default => Ok((None, Selection::Default, warnings)),
        Choice::Untrusted { annotation } => {
            let refuse = |why: String| Reason::new(annotation_path(annotation), format!("pod rejected: annotation {annotation} {why}"));
            let handler = context.untrusted_handler.ok_or_else(|| {
                refuse(
                    "asks for the handler of untrusted pods, and none is configured; name a RuntimeClass in spec.runtimeClassName instead"
                        .into(),
                )
            })?;
            let handler = HandlerName::new(handler).map_err(|e| refuse(format!("means no handler that can be run: {e}")))?;
            Ok((
                None,
                Selection::Annotation {
                    handler,
                    annotation: annotation.to_string(),
                },
                warnings,
            ))
        }
        Choice::Class { name, origin } => {
            let refuse = |why: String| Reason::new(CLASS_NAME, format!("pod rejected: RuntimeClass {} {why}", go_quote(name)));
            let class = context.classes.iter().find(|c| c.metadata.name == name);
            let class = class.ok_or_else(|| refuse(format!("not found{origin}")))?;
            let handler = HandlerName::new(&class.handler).map_err(|e| refuse(format!("names no handler that can be run: {e}")))?;
            Ok((
                Some(class),
                Selection::Class {
                    name: name.to_string(),
                    handler,
                },
                warnings,
            ))
        }
    }
}

fn apply(pod: &mut Pod, class: Option<&RuntimeClass>) -> Result<(), Reason> {
    set_overhead(pod, class)?;
    if let Some(scheduling) = class.and_then(|c| c.scheduling.as_ref()) {
        let selector = &mut pod.spec.node_selector;
        for (key, value) in &scheduling.node_selector {
            let own = selector.entry(key.clone()).or_insert_with(|| value.clone());
            if own != value {
                return Err(Reason::new(
                    Path::new("spec").child("nodeSelector").key(key),
                    format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"),
                ));
            }
        }
        pod.spec.tolerations = tolerations::merge(&pod.spec.tolerations, &scheduling.tolerations);
    }
    Ok(())
}

fn set_overhead(pod: &mut Pod, class: Option<&RuntimeClass>) -> Result<(), Reason> {
    let Some(overhead) = class.and_then(|c| c.overhead.as_ref()) else {
        return Ok(());
    };
    let mut fixed = overhead.pod_fixed.clone().unwrap_or_default();
    defaults::round(&mut fixed);
    if pod.spec.overhead.as_ref().is_some_and(|own| !own.is_empty() && *own != fixed) {
        let text = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Err(Reason::new("spec.overhead", text));
    }
    pod.spec.overhead = Some(fixed).filter(|f| !f.is_empty());
    Ok(())
}

#[cfg(test)]
mod tests;
