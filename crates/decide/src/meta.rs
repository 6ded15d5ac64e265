//! Rules of object metadata (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::meta::ObjectMeta;
use std::collections::BTreeMap;

/// Greatest size of all annotations together, bytes.
const ANNOTATIONS_MOST: usize = 256 << 10;

/// Checks the metadata of an object whose name is a DNS subdomain.
pub(crate) fn validate(meta: &ObjectMeta, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("metadata");
    let generate = meta.generate_name.as_deref().unwrap_or_default();
    if !generate.is_empty() {
        // A prefix may end in a dash, as something follows it.
        let masked = match generate.strip_suffix('-') {
            Some(stem) if !stem.is_empty() => format!("{}a", &stem[..stem.len() - stem.chars().next_back().map_or(0, char::len_utf8)]),
            _ => generate.to_string(),
        };
        errors.invalid_each(&path.child("generateName"), generate, format::dns_subdomain(&masked));
    }
    if !meta.name.is_empty() {
        errors.invalid_each(&path.child("name"), &meta.name, format::dns_subdomain(&meta.name));
    } else if generate.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    }
    // Of a kind that stands in no namespace, the API server drops it before it looks (`BeforeCreate`).
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    if namespaced {
        errors.invalid_each(
            &path.child("namespace"),
            namespace,
            if namespace.is_empty() {
                vec![]
            } else {
                format::dns_label(namespace)
            },
        );
    }
    labels(&meta.labels, &path.child("labels"), errors);
    annotations(&meta.annotations, &path.child("annotations"), errors);
}

/// Checks keys and values of labels; every error sits at `path` itself.
pub(crate) fn labels(labels: &BTreeMap<String, String>, path: &Path, errors: &mut Errors) {
    for (key, value) in labels {
        errors.invalid_each(path, key, format::qualified_name(key));
        errors.invalid_each(path, value, format::label_value(value));
    }
}

fn annotations(annotations: &BTreeMap<String, String>, path: &Path, errors: &mut Errors) {
    for key in annotations.keys() {
        errors.invalid_each(path, key, format::qualified_name(&key.to_lowercase()));
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > ANNOTATIONS_MOST {
        errors.too_long(path, ANNOTATIONS_MOST);
    }
}
