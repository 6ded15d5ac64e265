//! Where the fields of a decoded object stand in its text.
//!
//! The places of all fields of ten thousand pods would be larger than their text. So a tree is kept
//! of one document at a time, and made again from the text where another one is asked about.

use crate::error::Place;
use crate::kinds::{Object, ObjectKind, Origin};
use crate::yaml::{Documents, Mark, Node, Start, Value};
use std::rc::Rc;

/// Finds places in one text.
pub struct Places<'t> {
    text: &'t str,
    /// The document that was asked about last.
    last: Option<(Start, Rc<Node>)>,
}

impl<'t> Places<'t> {
    /// Of the text that the objects were decoded from.
    pub fn new(text: &'t str) -> Self {
        Self { text, last: None }
    }

    /// The place of a field of an object, by the path that Kubernetes' messages show:
    /// `spec.containers[0].resources.limits[cpu]`, `metadata.annotations[example.com/a.b]`.
    ///
    /// It is the place of the value, and of the key where the value is a list or mapping. A field
    /// that does not stand in the text (it was filled in, or is missing) has the place of what is
    /// nearest above it, at last the object's own. Paths that upstream's validation makes up
    /// (`overhead.limits[cpu]`, `scheduling.tolerations.tolerations[0]`) are read as what they mean.
    pub fn of(&mut self, object: &Object, field: &str) -> Place {
        if field.is_empty() {
            return object.place.clone();
        }
        let readings = readings(&object.kind, field);
        self.find(object, &readings)
            .map_or_else(|| object.place.clone(), |mark| mark.place(&object.place.source))
    }

    /// The same for a field of a pod that `object` is or asks for: of a Deployment's pod, the place
    /// in the template.
    pub fn of_pod(&mut self, object: &Object, field: &str) -> Place {
        match &object.kind {
            ObjectKind::Deployment(_) => self.of(object, &in_template(field)),
            _ => self.of(object, field),
        }
    }

    /// The place of the reading that leads furthest.
    fn find(&mut self, object: &Object, readings: &[String]) -> Option<Mark> {
        let root = self.document(object)?;
        let node = item(&root, &object.origin)?;
        if node.at.place(&object.place.source) != object.place {
            return None; // another text
        }
        readings
            .iter()
            .map(|path| descend(node, path))
            .max_by_key(|(steps, _)| *steps)
            .map(|(_, mark)| mark)
    }

    fn document(&mut self, object: &Object) -> Option<Rc<Node>> {
        let start = object.origin.start;
        match &self.last {
            Some((at, root)) if *at == start => Some(root.clone()),
            _ => {
                let document = Documents::from(&object.place.source, self.text, start).read_next().ok()??;
                self.last = Some((start, document.root.clone()));
                Some(document.root)
            }
        }
    }
}

/// The object's own node.
fn item<'n>(root: &'n Node, origin: &Origin) -> Option<&'n Node> {
    origin
        .items
        .iter()
        .try_fold(root, |node, at| node.get("items")?.items().get(*at as usize).map(|n| &**n))
}

/// A path of a pod as a path of the Deployment that it comes from.
fn in_template(field: &str) -> String {
    let own = ["metadata.name", "metadata.namespace", "metadata.generateName"];
    if own.contains(&field) {
        field.to_owned()
    } else {
        format!("spec.template.{field}")
    }
}

/// What a path can mean, first as it stands.
fn readings(kind: &ObjectKind, field: &str) -> Vec<String> {
    let mut all = vec![field.to_owned()];
    match kind {
        ObjectKind::RuntimeClass(_) => {
            // Overhead is validated as a container's limits, and one name is said twice.
            let written = field.replacen("overhead.limits", "overhead.podFixed", 1);
            all.push(written.replacen("tolerations.tolerations", "tolerations", 1));
            // The first form has these in a spec.
            if ["handler", "overhead", "scheduling"].iter().any(|first| field.starts_with(first)) {
                let first = all
                    .iter()
                    .map(|path| format!("spec.{path}").replacen("spec.handler", "spec.runtimeHandler", 1));
                all = all.iter().cloned().chain(first).collect();
            }
        }
        ObjectKind::Pod(_) | ObjectKind::Deployment(_) => {
            all.push(field.replacen("spec.overhead.limits[", "spec.overhead[", 1));
            all.extend(limit_of_container(field));
            let internal = [
                ("spec.HostPID", "spec.hostPID"),
                ("spec.HostIPC", "spec.hostIPC"),
                ("spec.securityContext.shareProcessNamespace", "spec.shareProcessNamespace"),
            ];
            all.extend(internal.iter().filter(|(shown, _)| *shown == field).map(|(_, meant)| (*meant).to_owned()));
        }
        _ => {}
    }
    all
}

/// `spec.resources.containers[0][cpu].limits`, as upstream calls a container's limit that is above
/// the pod's.
fn limit_of_container(field: &str) -> Option<String> {
    let (before, rest) = field.split_once("resources.containers[")?;
    let (index, rest) = rest.split_once("][")?;
    let name = rest.strip_suffix("].limits")?;
    Some(format!("{before}containers[{index}].resources.limits[{name}]"))
}

/// Follows a path as far as it leads: the number of steps, and the place there. Keys are those of
/// the text, so that one with dots or brackets in it needs no quotes; of several that fit, the
/// longest is meant.
fn descend(node: &Node, path: &str) -> (usize, Mark) {
    let (mut node, mut mark, mut rest, mut steps) = (node, node.at, path, 0);
    while let Some((next, at, left)) = step(node, rest) {
        (node, mark, rest) = (next, at, left);
        steps += 1;
    }
    (steps, mark)
}

fn step<'n, 'p>(node: &'n Node, path: &'p str) -> Option<(&'n Node, Mark, &'p str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    let (inside, in_brackets) = path.strip_prefix('[').map_or((path, false), |p| (p, true));
    if let Value::List(items) = &node.value {
        let (index, rest) = inside.split_once(']').filter(|_| in_brackets)?;
        let item = items.get(index.parse::<usize>().ok()?)?;
        return Some((item, item.at, rest));
    }
    let fits = |key: &str| {
        let rest = inside.strip_prefix(key)?;
        if in_brackets {
            rest.strip_prefix(']')
        } else {
            Some(rest).filter(|r| r.is_empty() || r.starts_with(['.', '[']))
        }
    };
    let fitting = node.entries().iter().filter_map(|entry| Some((entry, fits(&entry.key)?)));
    let (entry, rest) = fitting.max_by_key(|(entry, _)| entry.key.len())?;
    let whole = matches!(entry.value.value, Value::List(_) | Value::Map(_) | Value::Null);
    Some((&entry.value, if whole { entry.at } else { entry.value.at }, rest))
}
