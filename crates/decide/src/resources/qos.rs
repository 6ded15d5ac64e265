//! The quality-of-service class of a pod (`pkg/apis/core/v1/helper/qos`). Overhead plays no part.

use super::{add, limits, requests};
use cofferdam_model::ResourceList;
use cofferdam_model::pod::Pod;
use serde::{Deserialize, Serialize};

/// How well a pod is protected when memory runs short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Qos {
    /// Every container has limits for cpu and memory, and requests equal them.
    Guaranteed,
    /// Between the two others.
    Burstable,
    /// No container asks for cpu or memory.
    BestEffort,
}

/// The class of a pod; of its pod-level resources where it has any.
pub fn qos(pod: &Pod) -> Qos {
    let (mut asked, mut held) = (ResourceList::new(), ResourceList::new());
    let mut all_limited = true;
    if let Some(resources) = &pod.spec.resources {
        asked = counted(&resources.requests);
        held = counted(&resources.limits);
        all_limited = resources.limits.is_empty() || held.len() == 2;
    } else {
        for container in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
            let limited = counted(limits(container));
            all_limited &= limited.len() == 2;
            add(&mut asked, &counted(requests(container)));
            add(&mut held, &limited);
        }
    }
    if asked.is_empty() && held.is_empty() {
        return Qos::BestEffort;
    }
    if all_limited && asked == held {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// Only cpu and memory count, and only more than nothing.
fn counted(list: &ResourceList) -> ResourceList {
    let counts = |name: &str| name == "cpu" || name == "memory";
    list.iter()
        .filter(|(n, q)| counts(n) && q.sign() > 0)
        .map(|(n, q)| (n.clone(), q.clone()))
        .collect()
}
