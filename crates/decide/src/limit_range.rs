//! The LimitRanger admission plugin (`plugin/pkg/admission/limitranger`): defaults for containers,
//! then bounds for containers and whole pods. Overhead plays no part.

mod validate;

pub use validate::validate;

use crate::Denied;
use crate::defaults::{fill, round};
use crate::denied::Reason;
use crate::field::Path;
use crate::resources::{limits, limits_without_overhead, pod_level, requests, requests_without_overhead};
use cofferdam_model::objects::{LimitRange, LimitRangeItem};
use cofferdam_model::pod::{Container, Pod, Resources};
use cofferdam_model::{Quantity, ResourceList};

/// Where the plugin notes what it has set.
const NOTE: &str = "kubernetes.io/limit-ranger";
/// The types of entries that pods are held to.
const CONTAINER: &str = "Container";
const POD: &str = "Pod";
const REQUESTS: Option<&str> = Some("requests");
const LIMITS: Option<&str> = Some("limits");
/// Above this, thousandths do not fit 64 bits and whole units are compared.
const MOST_MILLI: i64 = i64::MAX / 1000;

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

/// Refuses a pod that breaks a bound of its namespace, or where a LimitRange itself is wrong: what
/// cannot be understood must not let a pod in.
pub fn check(pod: &Pod, ranges: &[LimitRange]) -> Result<(), Denied> {
    for range in of_namespace(pod, ranges) {
        validate(range)?;
        let mut broken = Vec::new();
        for item in &range.spec.limits {
            let item = &with_defaults(item);
            match item.kind.as_str() {
                CONTAINER => check_containers(item, pod, &mut broken),
                POD => {
                    let asked = Asked {
                        requests: &requests_without_overhead(pod),
                        limits: &limits_without_overhead(pod),
                        path: Path::new("spec").child(if pod_level(pod).is_some() { "resources" } else { "containers" }),
                    };
                    check_item(item, &asked, &mut broken);
                }
                _ => {}
            }
        }
        if !broken.is_empty() {
            return Err(Denied::pod(pod, broken));
        }
    }
    Ok(())
}

fn check_containers(item: &LimitRangeItem, pod: &Pod, broken: &mut Vec<Reason>) {
    let spec = Path::new("spec");
    for (list, containers) in [("containers", &pod.spec.containers), ("initContainers", &pod.spec.init_containers)] {
        for (at, container) in containers.iter().enumerate() {
            let path = spec.child(list).index(at).child("resources");
            check_item(
                item,
                &Asked {
                    requests: requests(container),
                    limits: limits(container),
                    path,
                },
                broken,
            );
        }
    }
}

fn of_namespace<'a>(pod: &Pod, ranges: &'a [LimitRange]) -> Vec<&'a LimitRange> {
    let namespace = pod.metadata.namespace_or_default();
    ranges.iter().filter(|r| r.metadata.namespace_or_default() == namespace).collect()
}

/// The defaults of all `Container` entries; of several, the last counts.
fn container_defaults(range: &LimitRange) -> Resources {
    let mut all = Resources::default();
    for item in range.spec.limits.iter().filter(|i| i.kind == CONTAINER) {
        let item = with_defaults(item);
        all.limits.extend(item.default);
        all.requests.extend(item.default_request);
    }
    all
}

/// An entry as the API server stores it: amounts in thousandths, and for containers, the default limit is the maximum where
/// none is given, the default request the default limit, else the minimum
/// (`SetDefaults_LimitRangeItem`).
fn with_defaults(item: &LimitRangeItem) -> LimitRangeItem {
    let mut item = item.clone();
    let lists = [&mut item.max, &mut item.min, &mut item.default, &mut item.default_request];
    lists.into_iter().for_each(round);
    round(&mut item.max_limit_request_ratio);
    if item.kind == CONTAINER {
        fill(&mut item.default, &item.max);
        fill(&mut item.default_request, &item.default);
        fill(&mut item.default_request, &item.min);
    }
    item
}

fn fill_container(container: &mut Container, defaults: &Resources, kind: &str, notes: &mut Vec<String>) {
    let own = container.resources.get_or_insert_default();
    for (list, from, what) in [
        (&mut own.requests, &defaults.requests, "request"),
        (&mut own.limits, &defaults.limits, "limit"),
    ] {
        let set: Vec<&str> = from.keys().filter(|n| !list.contains_key(*n)).map(String::as_str).collect();
        if !set.is_empty() {
            notes.push(format!("{} {what} for {kind} {}", set.join(", "), container.name));
        }
        fill(list, from);
    }
}

/// What a container or pod asks for.
struct Asked<'a> {
    requests: &'a ResourceList,
    limits: &'a ResourceList,
    /// Where it says so.
    path: Path,
}

fn check_item(item: &LimitRangeItem, asked: &Asked<'_>, broken: &mut Vec<Reason>) {
    let kind = &item.kind;
    let observe = |name: &String, bound| Observed {
        request: asked.requests.get(name),
        limit: asked.limits.get(name),
        bound,
    };
    // Pods have lists of their own only where they have resources of their own.
    let place = |list: Option<&str>, name: &str| match list {
        Some(list) if kind == CONTAINER => asked.path.child(list).key(name),
        _ => asked.path.clone(),
    };
    for (name, bound) in &item.min {
        let why = observe(name, bound).below_min();
        broken.extend(why.map(|(at, why)| Reason::new(place(at, name), format!("minimum {name} usage per {kind} is {bound}{why}"))));
    }
    for (name, bound) in &item.max {
        let why = observe(name, bound).above_max();
        broken.extend(why.map(|(at, why)| Reason::new(place(at, name), format!("maximum {name} usage per {kind} is {bound}{why}"))));
    }
    for (name, bound) in &item.max_limit_request_ratio {
        let why = observe(name, bound).above_ratio();
        broken.extend(why.map(|(at, why)| {
            Reason::new(
                place(at, name),
                format!("{name} max limit to request ratio per {kind} is {bound}, but {why}"),
            )
        }));
    }
}

/// The list whose entry is at fault, where there is one, and why.
type Fault = Option<(Option<&'static str>, String)>;

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
        let all = [self.request.unwrap_or(&zero), self.limit.unwrap_or(&zero), self.bound];
        let fine = all.iter().all(|q| q.value() <= MOST_MILLI);
        let [request, limit, bound] = all.map(|q| if fine { q.milli_value() } else { q.value() });
        (request, limit, bound)
    }

    fn below_min(&self) -> Fault {
        let (request, limit, bound) = self.numbers();
        match (self.request, self.limit) {
            (None, _) => Some((None, ".  No request is specified".to_string())),
            (Some(own), _) if request < bound => Some((REQUESTS, format!(", but request is {own}"))),
            (_, Some(own)) if limit < bound => Some((LIMITS, format!(", but limit is {own}"))),
            _ => None,
        }
    }

    fn above_max(&self) -> Fault {
        let (request, limit, bound) = self.numbers();
        match (self.limit, self.request) {
            (None, _) => Some((None, ".  No limit is specified".to_string())),
            (Some(own), _) if limit > bound => Some((LIMITS, format!(", but limit is {own}"))),
            (_, Some(own)) if request > bound => Some((REQUESTS, format!(", but request is {own}"))),
            _ => None,
        }
    }

    fn above_ratio(&self) -> Fault {
        let (request, limit, _) = self.numbers();
        if request == 0 {
            return Some((self.request.and(REQUESTS), "no request is specified or request is 0".to_string()));
        }
        if limit == 0 {
            return Some((self.limit.and(LIMITS), "no limit is specified or limit is 0".to_string()));
        }
        // Exact, where upstream divides floats: limit / request > bound.
        let most = i128::from(request).saturating_mul(i128::from(self.bound.milli_value()));
        let above = i128::from(limit).saturating_mul(1000) > most;
        above.then(|| (LIMITS, format!("provided ratio is {:.6}", limit as f64 / request as f64)))
    }
}

#[cfg(test)]
mod tests;
