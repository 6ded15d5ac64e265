//! What a change of resources in place may ask for.

use crate::field::{Errors, Path};
use crate::resources::{is_sidecar, limits, qos, requests};
use crate::{Denied, defaults};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::{Container, Pod, Resources};
use serde_json::json;

/// Checks a pod whose resources are to replace those of `old`, in upstream's words and order, and gives
/// `old` with them.
///
/// Of `new` only the resources and resize policies of containers are read, as the API's subresource
/// `resize` does; all else is taken from `old`.
///
/// # Errors
/// [`Denied::Invalid`] with each field.
pub fn validate(new: &Pod, old: &Pod) -> Result<Pod, Denied> {
    let (mut new, mut old) = (reduced(new, old), old.clone());
    defaults::apply(&mut new);
    defaults::apply(&mut old);
    let mut errors = Errors::default();
    if let Err(Denied::Invalid { errors: more, .. }) = crate::validate::pod(&new) {
        errors.append(more);
    }
    if has_pod_level(&old) || has_pod_level(&new) {
        // Upstream forgets what else is wrong, and gives no field.
        errors = Errors::default();
        errors.forbidden(&Path::new("[]"), "pods with pod-level resources cannot be resized");
        return Denied::unless_valid("Pod", &old.metadata.name, errors).map(|()| new);
    }
    let path = Path::new("spec");
    if qos(&old) != qos(&new) {
        // Upstream shows the class of the stored status here.
        errors.invalid(&path, json!(qos(&old)), "Pod QOS Class may not change as a result of resizing");
    }
    containers(&new, &old, &path, &mut errors);
    Denied::unless_valid("Pod", &old.metadata.name, errors).map(|()| new)
}

/// `old` with the resources of `new`; `new` itself where the containers are not the same ones.
fn reduced(new: &Pod, old: &Pod) -> Pod {
    let mut out = old.clone();
    let lists = [
        (&mut out.spec.containers, &new.spec.containers),
        (&mut out.spec.init_containers, &new.spec.init_containers),
    ];
    for (into, from) in lists {
        if into.len() != from.len() {
            return new.clone();
        }
        for (into, from) in into.iter_mut().zip(from) {
            into.name.clone_from(&from.name);
            into.resources.clone_from(&from.resources);
            into.resize_policy.clone_from(&from.resize_policy);
        }
    }
    out
}

fn has_pod_level(pod: &Pod) -> bool {
    let level = pod.spec.resources.as_ref();
    level.is_some_and(|r| !r.requests.is_empty() || !r.limits.is_empty())
}

fn containers(new: &Pod, old: &Pod, path: &Path, errors: &mut Errors) {
    let all = [
        ("containers", &new.spec.containers, &old.spec.containers),
        ("initContainers", &new.spec.init_containers, &old.spec.init_containers),
    ];
    let before = errors.iter().count();
    for (list, new, old) in all {
        same_order(list, new, old, &path.child(list), errors);
    }
    if errors.iter().count() > before {
        return;
    }
    let [(_, new_own, old_own), (_, new_inits, old_inits)] = all;
    for (at, (new, old)) in new_inits.iter().zip(old_inits).enumerate() {
        if is_sidecar(old) {
            kept(new, old, &path.child("initContainers").index(at).child("resources"), errors);
        }
    }
    for (at, (new, old)) in new_own.iter().zip(old_own).enumerate() {
        kept(new, old, &path.child("containers").index(at).child("resources"), errors);
    }
    for (new, old) in new_own.iter().zip(old_own) {
        if !same_but_for_cpu_and_memory(new, old) {
            errors.forbidden(path, "only cpu and memory resources are mutable");
        }
    }
    for (new, old) in new_inits.iter().zip(old_inits) {
        if is_sidecar(old) {
            if !same_but_for_cpu_and_memory(new, old) {
                errors.forbidden(path, "only cpu and memory resources for sidecar containers are mutable");
            }
        } else if new != old {
            errors.forbidden(path, "resources for non-sidecar init containers are immutable");
        }
    }
}

fn same_order(list: &str, new: &[Container], old: &[Container], path: &Path, errors: &mut Errors) {
    if new.len() != old.len() {
        errors.forbidden(path, &format!("{list} may not be added or removed on resize"));
        return;
    }
    for (at, (new, old)) in new.iter().zip(old).enumerate() {
        if new.name != old.name {
            errors.forbidden(
                &path.index(at).child("name"),
                &format!("{list} may not be renamed or reordered on resize"),
            );
        }
    }
}

/// What was there stays.
fn kept(new: &Container, old: &Container, path: &Path, errors: &mut Errors) {
    let lost = |new: &ResourceList, old: &ResourceList| old.keys().any(|name| !new.contains_key(name));
    for (list, new, old) in [("requests", requests(new), requests(old)), ("limits", limits(new), limits(old))] {
        if lost(new, old) {
            errors.forbidden(&path.child(list), &format!("resource {list} cannot be removed"));
        }
    }
}

fn same_but_for_cpu_and_memory(new: &Container, old: &Container) -> bool {
    let others = |container: &Container| {
        let rest = |list: &ResourceList| -> ResourceList {
            let is_other = |(name, _): &(&String, &_)| *name != "cpu" && *name != "memory";
            list.iter().filter(is_other).map(|(n, q)| (n.clone(), q.clone())).collect()
        };
        Container {
            resources: Some(Resources {
                requests: rest(requests(container)),
                limits: rest(limits(container)),
            }),
            ..container.clone()
        }
    };
    others(new) == others(old)
}
