//! Ephemeral containers (KEP-277): what one may say that is added to a running pod
//! (`validateEphemeralContainers` and `ValidatePodEphemeralContainersUpdate` in
//! `pkg/apis/core/validation`).

use crate::field::{Errors, Path};
use crate::{Denied, validate};
use cofferdam_model::pod::{Container, EphemeralContainer, Pod};
use std::collections::BTreeSet;

/// Checks a container that is to be added to `pod`, beside the ephemeral ones that it has, in upstream's
/// words and order.
///
/// # Errors
/// [`Denied::Invalid`] with each field.
pub fn validate(pod: &Pod, existing: &[EphemeralContainer], new: &EphemeralContainer) -> Result<(), Denied> {
    let mut errors = Errors::default();
    let path = Path::new("spec").child("ephemeralContainers").index(existing.len());
    let container = &new.container;
    validate::ephemeral(container, &pod.spec, &path, &mut errors);
    if container.image.trim() != container.image {
        let rule = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), &container.image, rule);
    }
    let own: BTreeSet<&str> = all(pod).map(|c| c.name.as_str()).collect();
    let is_taken = own.contains(container.name.as_str()) || existing.iter().any(|e| e.container.name == container.name);
    if is_taken {
        errors.duplicate(&path.child("name"), &container.name);
    }
    if let Some(target) = new.target_container_name.as_deref().filter(|t| !t.is_empty() && !own.contains(t)) {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    for field in fields_of_pods(container) {
        errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
    }
    for (at, mount) in container.volume_mounts.iter().enumerate() {
        let path = path.child("volumeMounts").index(at);
        for (field, text) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if text.as_ref().is_some_and(|t| !t.is_empty()) {
                errors.forbidden(&path.child(field), "cannot be set for an Ephemeral Container");
            }
        }
    }
    Denied::unless_valid("Pod", &pod.metadata.name, errors)
}

fn all(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.containers.iter().chain(&pod.spec.init_containers)
}

/// What only containers that belong to the pod's work have, in the order of upstream's type.
fn fields_of_pods(container: &Container) -> impl Iterator<Item = &'static str> {
    let resources = container.resources.as_ref();
    let fields = [
        ("ports", !container.ports.is_empty()),
        (
            "resources",
            resources.is_some_and(|r| !r.limits.is_empty() || !r.requests.is_empty()),
        ),
        ("resizePolicy", !container.resize_policy.is_empty()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    fields.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{object, pod};
    use serde_json::{Value, json};

    fn told(new: Value) -> String {
        let pod = pod(json!({
            "volumes": [{"name": "v"}],
            "initContainers": [{"name": "i", "image": "i"}],
        }));
        let existing = [object(json!({"name": "first", "image": "i"}))];
        let checked = validate(&pod, &existing, &object(new));
        checked.map_or_else(|e| e.to_string().replace("Pod \"p\" is invalid: ", ""), |()| String::new())
    }

    #[test]
    fn each_rule() {
        let at = "spec.ephemeralContainers[1]";
        let cannot = "Forbidden: cannot be set for an Ephemeral Container";
        let with = |field: &str, value: Value| {
            let mut new = json!({"name": "d", "image": "i"});
            new[field] = value;
            new
        };
        let rows = [
            (
                json!({"name": "d", "image": "i", "stdin": true, "tty": true, "targetContainerName": "c"}),
                String::new(),
            ),
            (with("volumeMounts", json!([{"name": "v", "mountPath": "/v"}])), String::new()),
            (json!({"name": "d"}), format!("{at}.image: Required value")),
            (json!({"name": "c", "image": "i"}), format!("{at}.name: Duplicate value: \"c\"")),
            (json!({"name": "i", "image": "i"}), format!("{at}.name: Duplicate value: \"i\"")),
            (
                json!({"name": "first", "image": "i"}),
                format!("{at}.name: Duplicate value: \"first\""),
            ),
            (
                with("targetContainerName", json!("x")),
                format!("{at}.targetContainerName: Not found: \"x\""),
            ),
            (
                with("targetContainerName", json!("first")),
                format!("{at}.targetContainerName: Not found: \"first\""),
            ),
            (with("ports", json!([{"containerPort": 1}])), format!("{at}.ports: {cannot}")),
            (
                with("resources", json!({"limits": {"cpu": "1"}})),
                format!("{at}.resources: {cannot}"),
            ),
            (with("livenessProbe", json!({})), format!("{at}.livenessProbe: {cannot}")),
            (with("lifecycle", json!({})), format!("{at}.lifecycle: {cannot}")),
            (
                with("volumeMounts", json!([{"name": "v", "mountPath": "/v", "subPath": "a"}])),
                format!("{at}.volumeMounts[0].subPath: {cannot}"),
            ),
            (
                with("securityContext", json!({"procMount": "Unmasked"})),
                format!("{at}.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"),
            ),
        ];
        for (new, expected) in rows {
            assert_eq!(told(new.clone()), expected, "{new}");
        }
    }
}
