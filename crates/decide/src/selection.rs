//! Which class or handler a pod asks for: by name, by an old annotation, or by a default.

use crate::admission::Context;
use crate::denied::Reason;
use crate::field::{Path, Warning, go_quote};
use cofferdam_model::objects::RuntimeClass;
use cofferdam_model::pod::Pod;

/// Annotation of a RuntimeClass: `"true"` makes it the cluster's default.
pub const DEFAULT_CLASS: &str = "cofferdam.dev/is-default-class";
/// Annotation of a Namespace: the name of its default class. Empty or `legacy` means none, even
/// where the cluster has a default.
pub const NAMESPACE_DEFAULT_CLASS: &str = "cofferdam.dev/default-runtime-class";
/// The class name that means the default handler with no class, as the empty name does (KEP-585).
pub(crate) const LEGACY: &str = "legacy";

/// The field in which a pod names its class.
pub(crate) const CLASS_NAME: &str = "spec.runtimeClassName";

/// Windows' annotation for Hyper-V isolation.
const WINDOWS_ISOLATION: &str = "experimental.windows.kubernetes.io/isolation-type";

/// An annotation that chose a handler before RuntimeClass existed (KEP-585 lists them).
struct OldAnnotation {
    key: &'static str,
    /// The value that asks for the enclosure of untrusted pods.
    untrusted: &'static str,
    /// The value that asks for the ordinary handler.
    ordinary: &'static str,
}

const OLD_ANNOTATIONS: [OldAnnotation; 4] = [
    OldAnnotation {
        key: "io.kubernetes.cri-o.TrustedSandbox",
        untrusted: "false",
        ordinary: "true",
    },
    OldAnnotation {
        key: "io.kubernetes.cri.untrusted-workload",
        untrusted: "true",
        ordinary: "false",
    },
    // Frakti runs pods in virtual machines unless this asks for an OS container.
    OldAnnotation {
        key: "runtime.frakti.alpha.kubernetes.io/OSContainer",
        untrusted: "false",
        ordinary: "true",
    },
    OldAnnotation {
        key: "runtime.frakti.alpha.kubernetes.io/Unikernel",
        untrusted: "true",
        ordinary: "false",
    },
];

/// What a pod asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// The class of this name, with what is to be said after `not found` where it is missing.
    Class { name: &'a str, origin: String },
    /// The default handler, no class.
    Default,
    /// The handler of untrusted pods, by this annotation.
    Untrusted { annotation: &'static str },
}

/// Path of an annotation of the pod.
pub(crate) fn annotation_path(key: &str) -> Path {
    Path::new("metadata").child("annotations").key(key)
}

/// Decides what `pod` asks for, with warnings of old forms. The error is the reason of a denial.
///
/// A name wins over everything, except that an old annotation beside it is refused. Where no class
/// is named, an annotation that asks for the enclosure of untrusted pods counts; one that asks for
/// the ordinary handler asks for nothing, so that it never undoes a default class.
pub(crate) fn choose<'a>(pod: &'a Pod, context: &Context<'a>) -> Result<(Choice<'a>, Vec<Warning>), Reason> {
    let annotations = read_annotations(pod)?;
    let warn = |key: &&str| {
        Warning::new(
            annotation_path(key),
            "deprecated; name a RuntimeClass in spec.runtimeClassName instead",
        )
    };
    let warnings = annotations.keys.iter().map(warn).collect();
    let named = pod.spec.runtime_class_name.as_deref();
    if let (Some(name), Some(key)) = (named.filter(|n| !means_default(n)), annotations.keys.first()) {
        let name = go_quote(name);
        return Err(Reason::new(
            annotation_path(key),
            format!("pod rejected: annotation {key} selects a handler beside runtimeClassName {name}; remove the annotation"),
        ));
    }
    let choice = match (annotations.untrusted, named) {
        (Some(annotation), _) => Choice::Untrusted { annotation },
        (None, Some(name)) => class_or_default(name, String::new()),
        (None, None) => default_class(pod, context)?,
    };
    Ok((choice, warnings))
}

fn means_default(name: &str) -> bool {
    name.is_empty() || name == LEGACY
}

fn class_or_default(name: &str, origin: String) -> Choice<'_> {
    if means_default(name) {
        Choice::Default
    } else {
        Choice::Class { name, origin }
    }
}

/// The old annotations of a pod.
struct Annotations {
    keys: Vec<&'static str>,
    untrusted: Option<&'static str>,
}

fn read_annotations(pod: &Pod) -> Result<Annotations, Reason> {
    let refuse = |key: &str, why: String| Reason::new(annotation_path(key), format!("pod rejected: {why}"));
    let given = &pod.metadata.annotations;
    if let Some(value) = given.get(WINDOWS_ISOLATION) {
        let what = if value == "hyperv" { "Hyper-V isolation" } else { "an isolation" };
        return Err(refuse(
            WINDOWS_ISOLATION,
            format!(
                "annotation {WINDOWS_ISOLATION}={value} asks for {what} of Windows containers, which does not exist here; name a RuntimeClass in spec.runtimeClassName instead"
            ),
        ));
    }
    let mut found = Annotations {
        keys: Vec::new(),
        untrusted: None,
    };
    let mut ordinary = None;
    for old in &OLD_ANNOTATIONS {
        let Some(value) = given.get(old.key) else {
            continue;
        };
        found.keys.push(old.key);
        if value == old.untrusted {
            found.untrusted.get_or_insert(old.key);
        } else if value == old.ordinary {
            ordinary.get_or_insert(old.key);
        } else {
            let value = go_quote(value);
            return Err(refuse(
                old.key,
                format!("annotation {} has the value {value}; use \"true\" or \"false\"", old.key),
            ));
        }
    }
    match (found.untrusted, ordinary) {
        (Some(a), Some(b)) => Err(refuse(b, format!("annotations {a} and {b} ask for different handlers; remove one"))),
        _ => Ok(found),
    }
}

/// The namespace's default class, else the cluster's, else none.
fn default_class<'a>(pod: &Pod, context: &Context<'a>) -> Result<Choice<'a>, Reason> {
    let namespace = pod.metadata.namespace_or_default();
    let own = context.namespaces.iter().find(|n| n.metadata.name == namespace);
    if let Some(name) = own.and_then(|n| n.metadata.annotations.get(NAMESPACE_DEFAULT_CLASS)) {
        let origin = format!(
            "; it is the default of namespace {}, by annotation {NAMESPACE_DEFAULT_CLASS}",
            go_quote(namespace)
        );
        return Ok(class_or_default(name, origin));
    }
    let mut marked = Vec::new();
    for class in context.classes {
        match class.metadata.annotations.get(DEFAULT_CLASS).map(String::as_str) {
            Some("true") => marked.push(class),
            Some("false") | None => {}
            Some(other) => return Err(unreadable_mark(class, other)),
        }
    }
    match marked.as_slice() {
        [] => Ok(Choice::Default),
        [class] => Ok(Choice::Class {
            name: &class.metadata.name,
            origin: String::new(),
        }),
        many => {
            let names: Vec<String> = many.iter().map(|c| go_quote(&c.metadata.name)).collect();
            let names = names.join(" and ");
            Err(Reason::new(
                CLASS_NAME,
                format!("pod rejected: RuntimeClasses {names} are all marked {DEFAULT_CLASS}; leave the mark on one"),
            ))
        }
    }
}

fn unreadable_mark(class: &RuntimeClass, value: &str) -> Reason {
    let (name, value) = (go_quote(&class.metadata.name), go_quote(value));
    Reason::new(
        CLASS_NAME,
        format!("pod rejected: RuntimeClass {name} has the value {value} in annotation {DEFAULT_CLASS}; use \"true\" or \"false\""),
    )
}
