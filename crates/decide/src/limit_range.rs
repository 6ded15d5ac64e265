//! The LimitRanger admission plugin (`plugin/pkg/admission/limitranger`): defaults for containers,
//! then bounds for containers and whole pods. Overhead plays no part.

use crate::Denied;
use crate::defaults::fill;
use crate::field::{Errors, Path, aggregate};
use crate::resources::{limits, limits_without_overhead, requests, requests_without_overhead};
use cofferdam_model::objects::{LimitRange, LimitRangeItem};
use cofferdam_model::pod::{Container, Pod, Resources};
use cofferdam_model::{Quantity, ResourceList};

/// Where the plugin notes what it has set.
const NOTE: &str = "kubernetes.io/limit-ranger";
/// Above this, thousandths do not fit 64 bits and whole units are compared.
const MOST_MILLI: i64 = i64::MAX / 1000;

/// Checks a LimitRange itself. A type that limits nothing here is refused by name, except for
/// volume claims, which do not exist without an API server.
pub fn validate(range: &LimitRange) -> Result<(), Denied> {
    let mut errors = Errors::default();
    let limits = Path::new("spec").child("limits");
    for (at, item) in range.spec.limits.iter().enumerate() {
        if !["Container", "Pod", "PersistentVolumeClaim"].contains(&item.kind.as_str()) {
            errors.not_supported(
                &limits.index(at).child("type"),
                &item.kind,
                &["Container", "Pod", "PersistentVolumeClaim"],
            );
        }
    }
    Denied::unless_valid("LimitRange", &range.metadata.name, errors)
}

/// Fills in the resources that the pod's containers leave open, and notes it in an annotation.
pub fn apply_defaults(pod: &mut Pod, ranges: &[LimitRange]) {
    for range in of_namespace(pod, ranges) {
        let defaults = container_defaults(range);
        if defaults == Resources::default() {
            continue;
        }
        let mut notes = Vec::new();
        for container in &mut pod.spec.containers {
            fill_container(container, &defaults, "container", &mut notes);
        }
        for container in &mut pod.spec.init_containers {
            fill_container(container, &defaults, "init container", &mut notes);
        }
        if !notes.is_empty() {
            let note = format!("LimitRanger plugin set: {}", notes.join("; "));
            pod.metadata.annotations.insert(NOTE.to_string(), note);
        }
    }
}

/// Refuses a pod that breaks a bound of its namespace.
pub fn check(pod: &Pod, ranges: &[LimitRange]) -> Result<(), Denied> {
    for range in of_namespace(pod, ranges) {
        validate(range)?;
        let mut broken = Vec::new();
        for item in &range.spec.limits {
            match item.kind.as_str() {
                "Container" => {
                    for container in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
                        check_item(item, requests(container), limits(container), &mut broken);
                    }
                }
                "Pod" => check_item(
                    item,
                    &requests_without_overhead(pod),
                    &limits_without_overhead(pod),
                    &mut broken,
                ),
                _ => {}
            }
        }
        if !broken.is_empty() {
            return Err(Denied::pod(pod, aggregate(&broken)));
        }
    }
    Ok(())
}

fn of_namespace<'a>(pod: &Pod, ranges: &'a [LimitRange]) -> Vec<&'a LimitRange> {
    let namespace = pod.metadata.namespace_or_default();
    ranges
        .iter()
        .filter(|r| r.metadata.namespace_or_default() == namespace)
        .collect()
}

/// The defaults of all `Container` entries; of several, the last counts. The default limit is the
/// maximum where none is given, the default request the default limit, else the minimum
/// (`SetDefaults_LimitRangeItem`).
fn container_defaults(range: &LimitRange) -> Resources {
    let mut all = Resources::default();
    for item in range.spec.limits.iter().filter(|i| i.kind == "Container") {
        let mut limits = item.default.clone();
        fill(&mut limits, &item.max);
        let mut requests = item.default_request.clone();
        fill(&mut requests, &limits);
        fill(&mut requests, &item.min);
        all.limits.extend(limits);
        all.requests.extend(requests);
    }
    all
}

fn fill_container(
    container: &mut Container,
    defaults: &Resources,
    kind: &str,
    notes: &mut Vec<String>,
) {
    let own = container.resources.get_or_insert_default();
    for (list, from, what) in [
        (&mut own.requests, &defaults.requests, "request"),
        (&mut own.limits, &defaults.limits, "limit"),
    ] {
        let set: Vec<&str> = from
            .keys()
            .filter(|n| !list.contains_key(*n))
            .map(String::as_str)
            .collect();
        if !set.is_empty() {
            notes.push(format!(
                "{} {what} for {kind} {}",
                set.join(", "),
                container.name
            ));
        }
        fill(list, from);
    }
}

fn check_item(
    item: &LimitRangeItem,
    requests: &ResourceList,
    limits: &ResourceList,
    broken: &mut Vec<String>,
) {
    let kind = &item.kind;
    let observe = |name: &String, bound| Observed {
        request: requests.get(name),
        limit: limits.get(name),
        bound,
    };
    for (name, bound) in &item.min {
        broken.extend(
            observe(name, bound)
                .below_min()
                .map(|why| format!("minimum {name} usage per {kind} is {bound}{why}")),
        );
    }
    for (name, bound) in &item.max {
        broken.extend(
            observe(name, bound)
                .above_max()
                .map(|why| format!("maximum {name} usage per {kind} is {bound}{why}")),
        );
    }
    for (name, bound) in &item.max_limit_request_ratio {
        let why = observe(name, bound).above_ratio();
        broken.extend(why.map(|why| {
            format!("{name} max limit to request ratio per {kind} is {bound}, but {why}")
        }));
    }
}

/// One resource as it is asked for, beside its bound.
struct Observed<'a> {
    request: Option<&'a Quantity>,
    limit: Option<&'a Quantity>,
    bound: &'a Quantity,
}

impl Observed<'_> {
    /// Request, limit and bound in thousandths, or in whole units where those would not fit.
    fn numbers(&self) -> (i64, i64, i64) {
        let zero = Quantity::default();
        let all = [
            self.request.unwrap_or(&zero),
            self.limit.unwrap_or(&zero),
            self.bound,
        ];
        let fine = all.iter().all(|q| q.value() <= MOST_MILLI);
        let [request, limit, bound] = all.map(|q| if fine { q.milli_value() } else { q.value() });
        (request, limit, bound)
    }

    fn below_min(&self) -> Option<String> {
        let (request, limit, bound) = self.numbers();
        match (self.request, self.limit) {
            (None, _) => Some(".  No request is specified".to_string()),
            (Some(own), _) if request < bound => Some(format!(", but request is {own}")),
            (_, Some(own)) if limit < bound => Some(format!(", but limit is {own}")),
            _ => None,
        }
    }

    fn above_max(&self) -> Option<String> {
        let (request, limit, bound) = self.numbers();
        match (self.limit, self.request) {
            (None, _) => Some(".  No limit is specified".to_string()),
            (Some(own), _) if limit > bound => Some(format!(", but limit is {own}")),
            (_, Some(own)) if request > bound => Some(format!(", but request is {own}")),
            _ => None,
        }
    }

    fn above_ratio(&self) -> Option<String> {
        let (request, limit, _) = self.numbers();
        if request == 0 {
            return Some("no request is specified or request is 0".to_string());
        }
        if limit == 0 {
            return Some("no limit is specified or limit is 0".to_string());
        }
        // Exact, where upstream divides floats: limit / request > bound.
        let most = i128::from(request).saturating_mul(i128::from(self.bound.milli_value()));
        let above = i128::from(limit).saturating_mul(1000) > most;
        above.then(|| format!("provided ratio is {:.6}", limit as f64 / request as f64))
    }
}

#[cfg(test)]
mod tests;
