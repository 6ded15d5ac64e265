//! What each document is.

use crate::error::{Log, Place, Problem};
use crate::near::nearest;
use crate::path::{Path, quoted, shown};
use crate::schema::{Shape, objects};
use crate::walk::Walk;
use crate::yaml::{Document, Node, Start, Value};
use crate::{check, old};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::objects::{ConfigMap, Deployment, LimitRange, Namespace, ResourceQuota, RuntimeClass, Secret};
use cofferdam_model::pod::Pod;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// An object with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Where it begins.
    pub place: Place,
    /// The object.
    pub kind: ObjectKind,
    pub(crate) origin: Origin,
}

/// Where an object stands in its text: enough to read it again, which is cheaper than to keep the
/// places of all its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its document.
    pub(crate) start: Start,
    /// Where in lists it stands in its document, from outside in; empty where it is the document.
    pub(crate) items: Vec<u32>,
}

/// The objects that Cofferdam reads.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectKind {
    /// `node.k8s.io/v1` RuntimeClass.
    RuntimeClass(Box<RuntimeClass>),
    /// `v1` Namespace.
    Namespace(Box<Namespace>),
    /// `v1` Pod.
    Pod(Box<Pod>),
    /// `apps/v1` Deployment; [`crate::pods_of`] gives its pods.
    Deployment(Box<Deployment>),
    /// `v1` ConfigMap.
    ConfigMap(Box<ConfigMap>),
    /// `v1` Secret.
    Secret(Box<Secret>),
    /// `v1` LimitRange.
    LimitRange(Box<LimitRange>),
    /// `v1` ResourceQuota.
    ResourceQuota(Box<ResourceQuota>),
}

impl ObjectKind {
    /// The kind's name, for example `Pod`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RuntimeClass(_) => "RuntimeClass",
            Self::Namespace(_) => "Namespace",
            Self::Pod(_) => "Pod",
            Self::Deployment(_) => "Deployment",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
            Self::LimitRange(_) => "LimitRange",
            Self::ResourceQuota(_) => "ResourceQuota",
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::RuntimeClass(o) => &o.metadata,
            Self::Namespace(o) => &o.metadata,
            Self::Pod(o) => &o.metadata,
            Self::Deployment(o) => &o.metadata,
            Self::ConfigMap(o) => &o.metadata,
            Self::Secret(o) => &o.metadata,
            Self::LimitRange(o) => &o.metadata,
            Self::ResourceQuota(o) => &o.metadata,
        }
    }

    /// Whether the object stands in a namespace.
    pub fn is_namespaced(&self) -> bool {
        !matches!(self, Self::RuntimeClass(_) | Self::Namespace(_))
    }

    /// Kind and name, as messages begin: `Pod "web"`.
    pub fn subject(&self) -> String {
        subject(self.name(), Some(&self.metadata().name))
    }
}

/// A kind that Cofferdam reads.
struct Kind {
    name: &'static str,
    today: &'static str,
    /// Former apiVersions, which are read with a warning.
    former: &'static [&'static str],
    shape: &'static Shape,
    make: fn(Json) -> serde_json::Result<ObjectKind>,
}

fn make<T: DeserializeOwned>(json: Json, wrap: fn(Box<T>) -> ObjectKind) -> serde_json::Result<ObjectKind> {
    serde_json::from_value(json).map(wrap)
}

const fn core(name: &'static str, shape: &'static Shape, make: fn(Json) -> serde_json::Result<ObjectKind>) -> Kind {
    Kind {
        name,
        today: "v1",
        former: &[],
        shape,
        make,
    }
}

static KINDS: [Kind; 8] = [
    Kind {
        name: "RuntimeClass",
        today: "node.k8s.io/v1",
        former: &["node.k8s.io/v1beta1", "node.k8s.io/v1alpha1"],
        shape: &objects::RUNTIME_CLASS,
        make: |json| make(json, ObjectKind::RuntimeClass),
    },
    core("Namespace", &objects::NAMESPACE, |json| make(json, ObjectKind::Namespace)),
    core("Pod", &objects::POD, |json| make(json, ObjectKind::Pod)),
    Kind {
        name: "Deployment",
        today: "apps/v1",
        former: &["apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"],
        shape: &objects::DEPLOYMENT,
        make: |json| make(json, ObjectKind::Deployment),
    },
    core("ConfigMap", &objects::CONFIG_MAP, |json| make(json, ObjectKind::ConfigMap)),
    core("Secret", &objects::SECRET, |json| make(json, ObjectKind::Secret)),
    core("LimitRange", &objects::LIMIT_RANGE, |json| make(json, ObjectKind::LimitRange)),
    core("ResourceQuota", &objects::RESOURCE_QUOTA, |json| {
        make(json, ObjectKind::ResourceQuota)
    }),
];

/// Reads a document.
pub(crate) fn read_document(document: &Document, log: &mut Log, out: &mut Vec<Object>) {
    let origin = Origin {
        start: document.start,
        items: Vec::new(),
    };
    Reader { log, origin, out }.object(&document.root);
}

/// Reads the objects of one document.
struct Reader<'a> {
    log: &'a mut Log,
    /// Where the object that is read stands.
    origin: Origin,
    out: &'a mut Vec<Object>,
}

impl Reader<'_> {
    /// Reads a document, or an item of a list.
    fn object(&mut self, node: &Node) {
        let before = self.log.about(String::new());
        if let Some(kind) = self.read(node) {
            let place = self.log.place(node.at);
            self.out.push(Object {
                place,
                kind,
                origin: self.origin.clone(),
            });
        }
        self.log.about(before);
    }

    fn read(&mut self, node: &Node) -> Option<ObjectKind> {
        if !matches!(node.value, Value::Map(_)) {
            self.log.error(node.at, Problem::NotAnObject { found: node.kind() });
            return None;
        }
        let kind = word(node, "kind", self.log)?;
        let version = match node.get("apiVersion") {
            Some(_) => Some(word(node, "apiVersion", self.log)?),
            None => None,
        };
        if kind == "List" {
            self.list(node);
            return None;
        }
        let Some(known) = KINDS.iter().find(|k| k.name == kind) else {
            refuse_kind(node, kind, version, self.log);
            return None;
        };
        let name = node.get("metadata").and_then(|m| m.get("name")).and_then(Node::text);
        self.log.about(subject(known.name, name));
        let is_first_form = known.name == "RuntimeClass" && old::is_first_form(node);
        check_version(node, known, version, is_first_form, self.log)?;
        let is_old = is_first_form || version != Some(known.today);
        read_known(node, known, version, is_old, is_first_form, self.log)
    }

    fn list(&mut self, node: &Node) {
        match node.get("items") {
            Some(Node {
                value: Value::List(items), ..
            }) => {
                for (at, item) in items.iter().enumerate() {
                    self.origin.items.push(u32::try_from(at).unwrap_or(u32::MAX));
                    self.object(item);
                    self.origin.items.pop();
                }
            }
            Some(other) => {
                let problem = Problem::WrongType {
                    path: "items".to_owned(),
                    expected: "a list",
                    found: other.kind(),
                };
                self.log.error(other.at, problem);
            }
            None => {}
        }
        let known = ["apiVersion", "kind", "items", "metadata"];
        for entry in node.entries().iter().filter(|e| !known.contains(&e.key.as_str())) {
            let path = Path::default().key(&entry.key).to_string();
            self.log.error(entry.at, Problem::UnknownField { path, near: None });
        }
    }
}

/// Whether the kind is read under this apiVersion; what is wrong goes to the log.
fn check_version(node: &Node, known: &Kind, version: Option<&str>, is_first_form: bool, log: &mut Log) -> Option<()> {
    match version {
        Some(v) if v == known.today || known.former.contains(&v) => Some(()),
        None if is_first_form => Some(()),
        None => {
            log.error(node.at, Problem::NoVersion { today: known.today });
            None
        }
        Some(v) => {
            let at = node.get("apiVersion").map_or(node.at, |n| n.at);
            log.error(
                at,
                Problem::WrongVersion {
                    kind: known.name,
                    found: shown(v),
                    today: known.today,
                },
            );
            None
        }
    }
}

fn read_known(node: &Node, known: &Kind, version: Option<&str>, is_old: bool, is_first_form: bool, log: &mut Log) -> Option<ObjectKind> {
    let since = log.count();
    let instead = match known.name {
        "Pod" | "Deployment" => "run this pod on a cluster",
        _ => "keep this object for a cluster",
    };
    let shape = if is_first_form { &objects::OLD_RUNTIME_CLASS } else { known.shape };
    let mut json = Walk {
        log,
        path: Path::default(),
        instead,
    }
    .object(node, shape);
    log.narrow(since);
    if is_first_form {
        old::lift_spec(&mut json);
    }
    if log.count() > since {
        return None;
    }
    let mut object = match (known.make)(json) {
        Ok(object) => object,
        Err(why) => {
            // The tables say it is good and the model does not: refused all the same.
            log.error(
                node.at,
                Problem::Invalid {
                    path: known.name.to_owned(),
                    rule: format!("cannot be read: {why}"),
                },
            );
            return None;
        }
    };
    check::object(node, &mut object, version, log);
    if log.count() > since {
        return None;
    }
    if is_old {
        old::warn(node, &object, known.today, version, is_first_form, log);
    }
    Some(object)
}

/// A text that every object has.
fn word<'n>(node: &'n Node, field: &str, log: &mut Log) -> Option<&'n str> {
    match node.get(field) {
        Some(Node {
            value: Value::Text(text), ..
        }) if !text.is_empty() => Some(text),
        Some(other) => {
            let problem = Problem::WrongType {
                path: field.to_owned(),
                expected: "a string",
                found: other.kind(),
            };
            log.error(other.at, problem);
            None
        }
        None => {
            log.error(node.at, Problem::Missing { path: field.to_owned() });
            None
        }
    }
}

fn refuse_kind(node: &Node, kind: &str, version: Option<&str>, log: &mut Log) {
    let at = node.get("kind").map_or(node.at, |n| n.at);
    let near = nearest(kind, KINDS.iter().map(|k| k.name));
    let ours = |near: &str| {
        KINDS
            .iter()
            .any(|k| k.name == near && (version == Some(k.today) || version.is_none()))
    };
    match KINDS.iter().map(|k| k.name).find(|n| near == Some(*n) && ours(n)) {
        Some(near) => log.error(at, Problem::UnknownKind { kind: shown(kind), near }),
        None => {
            let api_version = version.map_or_else(|| "without apiVersion".to_owned(), shown);
            let what = format!("kind {} ({api_version})", shown(kind));
            log.not_yet(at, what, |_| Problem::KindNotYet {
                kind: shown(kind),
                api_version,
            });
        }
    }
}

fn subject(kind: &str, name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("{kind} {}", quoted(name)),
        _ => kind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::schema::{Type, Use};
    use serde_json::json;

    /// A value in which every honoured field is set, to other than its default.
    fn sample(kind: &Type) -> Json {
        match kind {
            Type::Text(_) => json!("x"),
            Type::OneOf(words) | Type::OneOfYet(words, _) | Type::OneOfOrLike(words, _) => json!(words.last()),
            Type::Port => json!(80),
            Type::Bool => json!(true),
            Type::Int(min, max) => json!(1.clamp(*min, *max)),
            Type::Quantity => json!("1"),
            Type::TextMap(..) | Type::SecretMap | Type::Base64Map => json!({"k": "v"}),
            Type::Quantities => json!({"cpu": "1"}),
            Type::List(kind) => json!([sample(kind)]),
            Type::Object(shape) => sample_object(shape),
        }
    }

    fn sample_object(shape: &Shape) -> Json {
        let honoured = shape
            .fields
            .iter()
            .filter(|f| matches!(f.usage, Use::Honoured | Use::Required | Use::Placing(_)));
        honoured
            .map(|f| (f.name.to_owned(), sample(f.kind.as_ref().unwrap())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn as_json(object: &ObjectKind) -> Json {
        match object {
            ObjectKind::RuntimeClass(o) => serde_json::to_value(o),
            ObjectKind::Namespace(o) => serde_json::to_value(o),
            ObjectKind::Pod(o) => serde_json::to_value(o),
            ObjectKind::Deployment(o) => serde_json::to_value(o),
            ObjectKind::ConfigMap(o) => serde_json::to_value(o),
            ObjectKind::Secret(o) => serde_json::to_value(o),
            ObjectKind::LimitRange(o) => serde_json::to_value(o),
            ObjectKind::ResourceQuota(o) => serde_json::to_value(o),
        }
        .unwrap()
    }

    /// serde drops what a type does not have; a table that promises more than the model holds would
    /// drop what a user asked for.
    #[test]
    fn the_model_holds_every_field_that_the_tables_honour() {
        for kind in &KINDS {
            let mut want = sample_object(kind.shape);
            let got = as_json(&(kind.make)(want.clone()).unwrap());
            if kind.name == "Namespace" {
                want.as_object_mut().unwrap().remove("spec"); // holds the API server's fields only
            }
            assert_eq!(got, want, "{}", kind.name);
        }
    }

    #[test]
    fn every_field_stands_once_in_its_table() {
        fn visit(kind: &Type) {
            match kind {
                Type::List(kind) => visit(kind),
                Type::Object(shape) => shape_is_good(shape),
                _ => {}
            }
        }
        fn shape_is_good(shape: &Shape) {
            let mut names: Vec<_> = shape.names().collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
            shape.fields.iter().filter_map(|f| f.kind.as_ref()).for_each(visit);
        }
        KINDS.iter().for_each(|k| shape_is_good(k.shape));
    }
}
