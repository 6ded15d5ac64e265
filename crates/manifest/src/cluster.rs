//! Objects of a running cluster, as `kubectl get nodes,pods,runtimeclasses,namespaces -o yaml` (or
//! `json`) prints them and as its API lists them: what admission and a scheduler read of them, and no
//! more.
//!
//! Such documents carry statuses, managed fields and fields of other versions: what is not read is
//! passed over, and so are objects of other kinds. What is read must have the type that Kubernetes
//! gives it. Manifests that a person wrote belong to [`crate::decode`], which passes nothing over.

mod raw;

use crate::Place;
use cofferdam_model::ResourceList;
use cofferdam_model::node::Node;
use cofferdam_model::objects::{LimitRange, Namespace, ResourceQuota, RuntimeClass};
use cofferdam_model::pod::Pod;
use raw::Raw;
use serde_json::Value;
use std::sync::Arc;

/// Longest text that is read, in bytes. 5,000 nodes are about 100 MiB.
pub const MAX_TEXT: usize = 512 * 1024 * 1024;
/// Greatest number of objects of one text.
pub const MAX_OBJECTS: usize = 1_000_000;
/// Greatest number of nested lists and mappings.
const MAX_DEPTH: usize = 64;
/// Longest part of a wrong value that is shown, in characters.
const SHOWN: usize = 200;

/// The objects of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Pods, but for those that have ended, which take no place.
    pub pods: Vec<ClusterPod>,
    /// RuntimeClasses.
    pub classes: Vec<RuntimeClass>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Limit ranges.
    pub limit_ranges: Vec<LimitRange>,
    /// Quotas.
    pub quotas: Vec<ClusterQuota>,
}

impl Cluster {
    /// Takes over the objects of another text.
    pub fn extend(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
        self.pods.extend(other.pods);
        self.classes.extend(other.classes);
        self.namespaces.extend(other.namespaces);
        self.limit_ranges.extend(other.limit_ranges);
        self.quotas.extend(other.quotas);
    }
}

/// A quota of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterQuota {
    /// The quota.
    pub quota: ResourceQuota,
    /// `status.hard`: what the API server holds pods to. Empty where no controller has looked at the
    /// quota yet, which then holds nothing back.
    pub hard: ResourceList,
    /// `status.used`; `None` where the object has no status, as one that a person wrote.
    pub used: Option<ResourceList>,
}

/// A pod of a cluster. Of its specification there is what a scheduler reads: class, overhead,
/// requests, ports, priority, node, and where it may run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterPod {
    /// The pod; `spec.nodeName` says where it is, if anywhere.
    pub pod: Pod,
    /// Whether it is being deleted.
    pub ending: bool,
    /// Whether it goes with its node, as a DaemonSet's and a static one do, by its owners.
    pub bound: bool,
    /// When it started, in RFC 3339.
    pub started: Option<String>,
}

/// Why a text was refused: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The text is longer than is read.
    #[error("{source_name} has {size} bytes, but at most {limit} are read; ask kubectl for nodes and pods alone", limit = MAX_TEXT)]
    TooLong {
        /// Name of the text.
        source_name: String,
        /// Its size in bytes.
        size: usize,
    },
    /// There are more objects than are read.
    #[error("{source_name} holds more than {limit} objects; ask kubectl for nodes and pods alone", limit = MAX_OBJECTS)]
    TooMany {
        /// Name of the text.
        source_name: String,
    },
    /// Neither YAML nor JSON, or a field has another type than Kubernetes gives it.
    #[error("{place}: {what}; print the objects anew with kubectl get -o json")]
    Text {
        /// Where.
        place: Place,
        /// What is wrong, with the field where it is known.
        what: String,
    },
    /// A field of an object has another type than Kubernetes gives it.
    #[error("{source_name}: {subject}: {what}")]
    Object {
        /// Where the object is from.
        source_name: String,
        /// Kind and name.
        subject: String,
        /// What is wrong, with the field.
        what: String,
    },
    /// An object has no name.
    #[error("{source_name}: {kind} number {number} has no metadata.name; print the objects anew with kubectl get -o json")]
    Nameless {
        /// Where the object is from.
        source_name: String,
        /// Its kind.
        kind: String,
        /// Which of all objects, from 1.
        number: usize,
    },
}

/// Reads the nodes, pods, classes, namespaces, limit ranges and quotas of a text: YAML or JSON, one object or many,
/// documents and lists. `source` is the name that places show. JSON is read some forty times as
/// fast as YAML (700 and 16 MiB a second).
///
/// # Errors
/// The first mistake; objects before it are dropped.
pub fn decode(source: &str, text: &str) -> Result<Cluster, ClusterError> {
    if text.len() > MAX_TEXT {
        return Err(ClusterError::TooLong {
            source_name: source.to_owned(),
            size: text.len(),
        });
    }
    let documents = if text.trim_start().starts_with('{') {
        json(source, text)?
    } else {
        yaml(source, text)?
    };
    let mut reader = Reader {
        source,
        cluster: Cluster::default(),
        count: 0,
    };
    for document in documents {
        reader.add(document, None)?;
    }
    Ok(reader.cluster)
}

/// Reads objects of one kind (`Node`, `Pod`, `RuntimeClass`, `Namespace`, `LimitRange`,
/// `ResourceQuota`) as the API lists them, which does not say the kind of each. Others are passed over.
///
/// # Errors
/// The first mistake.
pub fn from_values(source: &str, kind: &str, values: Vec<Value>) -> Result<Cluster, ClusterError> {
    let mut reader = Reader {
        source,
        cluster: Cluster::default(),
        count: 0,
    };
    for value in values {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).map(crate::path::quoted);
        let raw: Raw = serde_path_to_error::deserialize(value).map_err(|e| ClusterError::Object {
            source_name: source.to_owned(),
            subject: format!("{kind} {}", name.unwrap_or_default()).trim_end().to_owned(),
            what: with_path(&e.path().to_string(), &e.inner().to_string()),
        })?;
        reader.add(raw, Some(kind))?;
    }
    Ok(reader.cluster)
}

/// Gathers what was read.
struct Reader<'a> {
    source: &'a str,
    cluster: Cluster,
    count: usize,
}

impl Reader<'_> {
    /// `listed` is the kind of the list that it stands in, where the object does not say its own.
    fn add(&mut self, mut raw: Raw, listed: Option<&str>) -> Result<(), ClusterError> {
        self.count += 1;
        if self.count > MAX_OBJECTS {
            return Err(ClusterError::TooMany {
                source_name: self.source.to_owned(),
            });
        }
        let kind = raw.kind.take().or_else(|| listed.map(str::to_owned)).unwrap_or_default();
        let items = std::mem::take(&mut raw.items);
        if !items.is_empty() {
            // `NodeList` is a list of nodes; a plain `List` holds objects that say what they are.
            let of = kind.strip_suffix("List").filter(|of| !of.is_empty());
            return items.into_iter().try_for_each(|item| self.add(item, of));
        }
        if !raw.is_ours || !raw::KINDS.iter().any(|(ours, _)| *ours == kind) {
            return Ok(());
        }
        if raw.metadata.name.is_empty() {
            return Err(ClusterError::Nameless {
                source_name: self.source.to_owned(),
                kind,
                number: self.count,
            });
        }
        match kind.as_str() {
            "Node" => self.cluster.nodes.push(raw.into_node()),
            "Pod" if !raw.has_ended() => self.cluster.pods.push(raw.into_pod()),
            "RuntimeClass" => self.cluster.classes.push(raw.into_class()),
            "Namespace" => self.cluster.namespaces.push(raw.into_namespace()),
            "LimitRange" => self.cluster.limit_ranges.push(raw.into_limit_range()),
            "ResourceQuota" => self.cluster.quotas.push(raw.into_quota()),
            _ => {}
        }
        Ok(())
    }
}

fn json(source: &str, text: &str) -> Result<Vec<Raw>, ClusterError> {
    let all: Result<Vec<Raw>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    all.map_err(|error| {
        let path = path_of(&mut serde_json::Deserializer::from_str(text));
        mistake(source, (error.line(), error.column()), path, &error.to_string())
    })
}

fn yaml(source: &str, text: &str) -> Result<Vec<Raw>, ClusterError> {
    // Nothing that kubectl prints has anchors; without them a text is no larger than it looks.
    let budget = serde_saphyr::budget! {
        max_events: usize::MAX,
        max_nodes: usize::MAX,
        max_total_scalar_bytes: MAX_TEXT,
        max_documents: MAX_OBJECTS,
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_aliases: 0,
        max_anchors: 0,
        max_merge_keys: 0,
    };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options.clone()).map_err(|error| {
        let at = error.location().map_or((1, 1), |l| (l.line() as usize, l.column() as usize));
        // The path is known for the first document only, which is most often the only one.
        let mut path = None;
        let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options, |de| {
            path = path_of(de);
            Ok(())
        });
        let here = path.filter(|(_, what)| without_place(what) == without_place(&error.to_string()));
        mistake(source, at, here, &error.to_string())
    })
}

/// Reads once more for the path of what is wrong, and the parser's words: keeping it costs too much
/// where all is well.
fn path_of<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Option<(String, String)> {
    let error = serde_path_to_error::deserialize::<_, Raw>(deserializer).err()?;
    Some((error.path().to_string(), error.inner().to_string()))
}

fn mistake(source: &str, (line, column): (usize, usize), path: Option<(String, String)>, what: &str) -> ClusterError {
    let what = with_path(&path.map(|p| p.0).unwrap_or_default(), without_place(what));
    ClusterError::Text {
        place: Place {
            source: Arc::from(source),
            line,
            column,
        },
        what,
    }
}

/// The parser's first sentence; the place stands in front of it already.
fn without_place(what: &str) -> &str {
    what.lines()
        .next()
        .and_then(|line| line.split(" at line ").next())
        .unwrap_or_default()
}

fn with_path(path: &str, what: &str) -> String {
    if path.is_empty() || path == "." {
        shown(what)
    } else {
        shown(&format!("{path}: {what}"))
    }
}

/// Text without control characters, cut where it is long: it can hold parts of the file.
fn shown(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN + 1).collect();
    match clean.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}
