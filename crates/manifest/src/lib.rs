//! Kubernetes manifests, decoded once to the model, with places and warnings.
//!
//! One [`decode`] reads YAML or JSON text of any number of documents. Nothing that a user asked
//! for is dropped in silence: a field, kind or label that Cofferdam cannot honour yet is an error
//! that names it and its place, and so is every field that Kubernetes does not know.
//!
//! The way of a text: `yaml` makes a tree with places out of it, within bounds; `kinds` finds what
//! each document is, old forms (`old`) included; `walk` reads the tree along the tables of `schema`
//! into the model; `check` holds the rules that need more than one field. `places` goes back: from a
//! field to its place.

mod check;
pub mod cluster;
mod error;
mod format;
mod kinds;
mod near;
mod old;
mod path;
mod places;
mod replicas;
mod scalar;
mod schema;
mod walk;
mod yaml;

pub use error::{Error, Place, Problem, Warning};
pub use kinds::{Object, ObjectKind};
pub use near::nearest;
pub use places::Places;
pub use replicas::{MAX_REPLICAS, pods_of};

use std::collections::HashMap;
use std::sync::Arc;

/// Longest text that is read, in bytes. Ten thousand pods of 3 KiB are 30 MiB.
pub const MAX_TEXT: usize = 32 * 1024 * 1024;
/// Greatest number of nested lists and mappings, aliases followed.
pub const MAX_DEPTH: usize = 64;
/// Greatest number of values in one text, aliases counted as often as they are used.
pub const MAX_NODES: u64 = 2_000_000;
/// Greatest size of all values of one text in bytes, aliases counted as often as they are used.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// After this many errors the rest is not told: one mistake made everywhere is still one mistake.
pub const MAX_ERRORS: usize = 50;
/// After this many warnings the rest is not told, but for a last one that says so.
pub const MAX_WARNINGS: usize = 200;

/// What a text holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The objects, in the order of the text; lists are flattened.
    pub objects: Vec<Object>,
    /// What was read, but means little or was written in an old form; in the order of the text.
    pub warnings: Vec<Warning>,
}

/// What manifests are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To run them on this machine: what cannot be honoured is an error.
    #[default]
    Run,
    /// To tell what a cluster would make of them. Fields that say where a pod is placed are read too
    /// (priority, scheduling gates). What Kubernetes honours and is not looked at here (probes, other
    /// kinds) is a warning where it stands first. What Kubernetes does not know is an error still.
    Check,
}

/// Decodes the manifests in `text` to run them: [`decode_for`] with [`Purpose::Run`].
///
/// # Errors
/// Those of [`decode_for`].
pub fn decode(source: &str, text: &str) -> Result<Decoded, Vec<Error>> {
    decode_for(source, text, Purpose::Run)
}

/// Decodes the manifests in `text`; `source` is the name that places show (a file's path, `-`).
///
/// Scalars are read as kubectl reads them (YAML 1.1, `sigs.k8s.io/yaml`), but where that would
/// change a meaning in silence (a key `on`, a name `yes`) the text is refused. An empty text gives
/// no objects.
///
/// # Errors
/// Every error of the text in its order, at most [`MAX_ERRORS`]; there are no objects unless all
/// are good. Text that is not YAML ends at its first mistake.
pub fn decode_for(source: &str, text: &str, purpose: Purpose) -> Result<Decoded, Vec<Error>> {
    match decode_all(source, text, purpose) {
        (decoded, errors) if errors.is_empty() => Ok(decoded),
        (_, errors) => Err(errors),
    }
}

/// As [`decode_for`], with the objects that are good beside the errors of the others, for telling all
/// that can be told at once. Text that is not YAML gives the objects before its mistake.
pub fn decode_all(source: &str, text: &str, purpose: Purpose) -> (Decoded, Vec<Error>) {
    let source: Arc<str> = Arc::from(source);
    let mut log = error::Log::new(source.clone(), purpose);
    let mut objects = Vec::new();
    if text.len() > MAX_TEXT {
        log.add(Error::too_long(&source, text.len()));
        return log.finish(objects);
    }
    let mut documents = yaml::Documents::of(&source, text);
    loop {
        match documents.read_next() {
            Ok(Some(document)) => kinds::read_document(&document, &mut log, &mut objects),
            Ok(None) => break,
            Err(mistake) => {
                log.add(*mistake);
                break;
            }
        }
    }
    refuse_twins(&mut objects, &mut log);
    log.finish(objects)
}

/// Two objects of one kind, namespace and name in one text: the second would replace the first.
fn refuse_twins(objects: &mut Vec<Object>, log: &mut error::Log) {
    let mut seen: HashMap<(&str, String, String), usize> = HashMap::with_capacity(objects.len());
    objects.retain(|object| {
        let meta = object.kind.metadata();
        let namespace = if object.kind.is_namespaced() {
            meta.namespace_or_default()
        } else {
            ""
        };
        let key = (object.kind.name(), namespace.to_owned(), meta.name.clone());
        match seen.get(&key).copied() {
            _ if meta.name.is_empty() => true,
            Some(line) => {
                log.error_at(object.place.clone(), object.kind.subject(), Problem::Twin { line });
                false
            }
            None => {
                seen.insert(key, object.place.line);
                true
            }
        }
    });
}
