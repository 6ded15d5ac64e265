//! Forms that Kubernetes had once. They are read, with a warning that shows today's.
//!
//! - RuntimeClass by its first form (KEP-585, `node.k8s.io/v1alpha1`): `spec.runtimeHandler`. The
//!   KEP's own examples had no apiVersion.
//! - RuntimeClass `node.k8s.io/v1beta1`: the fields of v1.
//! - Deployment `extensions/v1beta1`, `apps/v1beta1` and `apps/v1beta2`. The first two filled an
//!   absent selector from the template's labels; apps/v1 wants it written.

use crate::error::Log;
use crate::kinds::ObjectKind;
use crate::yaml::Node;
use serde::Serialize;
use serde_json::{Map, Value as Json};

/// Whether a RuntimeClass has its handler in a spec.
pub(crate) fn is_first_form(node: &Node) -> bool {
    node.entry("handler").is_none()
        && node
            .get("spec")
            .is_some_and(|s| s.entry("runtimeHandler").is_some())
}

/// Whether this apiVersion filled a Deployment's absent selector.
pub(crate) fn fills_selector(version: Option<&str>) -> bool {
    matches!(version, Some("extensions/v1beta1" | "apps/v1beta1"))
}

/// Moves what stands in the spec of a RuntimeClass to where v1 has it.
pub(crate) fn lift_spec(json: &mut Json) {
    let Some(top) = json.as_object_mut() else {
        return;
    };
    let Some(Json::Object(spec)) = top.shift_remove("spec") else {
        return;
    };
    for (key, value) in spec {
        let key = if key == "runtimeHandler" {
            "handler".to_owned()
        } else {
            key
        };
        top.insert(key, value);
    }
}

/// Tells that an object has an old form, and shows today's.
pub(crate) fn warn(
    node: &Node,
    object: &ObjectKind,
    today: &str,
    version: Option<&str>,
    first_form: bool,
    log: &mut Log,
) {
    let what = match version {
        _ if first_form => "spec.runtimeHandler is the first form of a RuntimeClass",
        Some(version) => &format!("apiVersion {version} is an old form"),
        None => "this is an old form",
    };
    let at = node.get("apiVersion").map_or(node.at, |n| n.at);
    log.warn(
        at,
        &format!("{what}, read as {today}; write it in today's form"),
        as_yaml(object, today),
    );
}

/// An object as YAML.
fn as_yaml(object: &ObjectKind, version: &str) -> Option<String> {
    let json = match object {
        ObjectKind::RuntimeClass(o) => fields(o),
        ObjectKind::Deployment(o) => fields(o),
        _ => None, // no other kind has an old form
    }?;
    let mut top = Map::new();
    top.insert("apiVersion".to_owned(), Json::from(version));
    top.insert("kind".to_owned(), Json::from(object.name()));
    // It must be there, though nothing is in it.
    top.insert("metadata".to_owned(), Json::Object(Map::new()));
    top.extend(json);
    serde_saphyr::to_string(&top).ok()
}

fn fields(object: &impl Serialize) -> Option<Map<String, Json>> {
    match serde_json::to_value(object).ok()? {
        Json::Object(mut fields) => {
            drop_empty(&mut fields);
            Some(fields)
        }
        _ => None,
    }
}

/// Empty mappings, such as a template's metadata without labels, are left out.
fn drop_empty(fields: &mut Map<String, Json>) {
    fields.retain(|_, v| {
        if let Json::Object(inner) = v {
            let was_empty = inner.is_empty();
            drop_empty(inner);
            return was_empty || !inner.is_empty();
        }
        true
    });
    fields.retain(|key, v| key != "metadata" || v.as_object().is_none_or(|m| !m.is_empty()));
}
