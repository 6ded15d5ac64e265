//! Short ways to write objects in tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_model::ResourceList;
use cofferdam_model::pod::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object from its JSON form.
pub(crate) fn object<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// A pod `p` with this spec; a container `c` of image `i` is added where it has none.
pub(crate) fn pod(mut spec: Value) -> Pod {
    let spec_fields = spec.as_object_mut().unwrap();
    spec_fields
        .entry("containers")
        .or_insert_with(|| json!([{"name": "c", "image": "i"}]));
    object(json!({"metadata": {"name": "p"}, "spec": spec}))
}

/// A container with these resources.
pub(crate) fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "image": "i", "resources": resources})
}

/// A list as `cpu=1,memory=2Mi`.
pub(crate) fn show(list: &ResourceList) -> String {
    let parts: Vec<String> = list.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect();
    parts.join(",")
}
