//! Rules of requests and limits (`pkg/apis/core/validation`, `pkg/apis/core/helper`).

use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::{Quantity, ResourceList};

/// Begins the names of huge page resources.
pub(crate) const HUGE_PAGES: &str = "hugepages-";
/// The resources that the API knows without a domain in front.
const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whose requirements they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Container,
    Pod,
}

/// Whether it is a huge page resource, `hugepages-2Mi`.
pub(crate) fn is_huge_pages(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Whether it belongs to Kubernetes: without a domain, or in `kubernetes.io/`.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a vendor's resource, `example.com/gpu`.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && format::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a limit may be above its request.
pub(crate) fn can_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Whether it can be set for a whole pod (KEP-2837).
pub(crate) fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || is_huge_pages(name)
}

/// Whether quotas know it without a domain in front.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    (STANDARD.contains(&name) && name != "storage") || is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Whether quotas count it in whole pieces only.
pub(crate) fn is_counted_whole(name: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    WHOLE.contains(&name) || is_extended(name)
}

/// Whether the amount has no fraction.
pub(crate) fn is_whole(quantity: &Quantity) -> bool {
    quantity.nano() % 1_000_000_000 == 0
}

/// Checks that the amount is not negative.
pub(crate) fn validate_sign(quantity: &Quantity, path: &Path, errors: &mut Errors) {
    if quantity.sign() < 0 {
        errors.invalid(path, &quantity.to_string(), "must be greater than or equal to 0");
    }
}

/// Checks names and amounts, that no request is above its limit, and that huge pages come with
/// cpu or memory.
pub(crate) fn validate(requests: &ResourceList, limits: &ResourceList, owner: Owner, path: &Path, errors: &mut Errors) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, quantity) in limits {
        validate_entry(name, quantity, owner, &limits_path.key(name), errors);
    }
    for (name, quantity) in requests {
        validate_entry(name, quantity, owner, &requests_path.key(name), errors);
        match limits.get(name) {
            Some(limit) if quantity != limit && !can_overcommit(name) => {
                errors.invalid(
                    &requests_path,
                    &quantity.to_string(),
                    &format!("must be equal to {name} limit of {limit}"),
                );
            }
            Some(limit) if quantity > limit => {
                errors.invalid(
                    &requests_path,
                    &quantity.to_string(),
                    &format!("must be less than or equal to {name} limit of {limit}"),
                );
            }
            None if !can_overcommit(name) => errors.required(&limits_path, "Limit must be set for non overcommitable resources"),
            _ => {}
        }
    }
    let mut names = requests.keys().chain(limits.keys());
    if names.clone().any(|n| is_huge_pages(n)) && !names.any(|n| n == "cpu" || n == "memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn validate_entry(name: &str, quantity: &Quantity, owner: Owner, path: &Path, errors: &mut Errors) {
    match owner {
        Owner::Container => container_name(name, path, errors),
        Owner::Pod => pod_name(name, path, errors),
    }
    validate_sign(quantity, path, errors);
    if is_extended(name) && !is_whole(quantity) {
        errors.invalid(path, &quantity.to_string(), "must be an integer");
    }
    if is_huge_pages(name) && !is_whole_pages(name, quantity) {
        errors.invalid(
            path,
            &quantity.to_string(),
            &format!("{quantity} is not positive integer multiple of {name}"),
        );
    }
}

fn is_whole_pages(name: &str, quantity: &Quantity) -> bool {
    let size: Option<Quantity> = name.strip_prefix(HUGE_PAGES).and_then(|s| s.parse().ok());
    size.is_some_and(|size| size.value() > 0 && is_whole(&size) && quantity.value() % size.value() == 0)
}

/// Whether the name is right by itself; what is wrong goes to `errors`.
pub(crate) fn any_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let wrong = format::qualified_name(name);
    if !wrong.is_empty() {
        errors.invalid_each(path, name, wrong);
        return false;
    }
    let known = name.contains('/') || STANDARD.contains(&name) || is_huge_pages(name) || name.starts_with("requests.hugepages-");
    if !known {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    known
}

/// Whether containers can have it; what is wrong goes to `errors`.
pub(crate) fn container_name(name: &str, path: &Path, errors: &mut Errors) {
    any_name(name, path, errors);
    if !name.contains('/') {
        if !["cpu", "memory", "ephemeral-storage"].contains(&name) && !is_huge_pages(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_name(name: &str, path: &Path, errors: &mut Errors) {
    if any_name(name, path, errors) && !is_pod_level(name) {
        errors.not_supported(path, name, &["cpu", HUGE_PAGES, "memory"]);
    }
}
