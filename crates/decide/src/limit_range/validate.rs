//! What a LimitRange may say (`ValidateLimitRange` in `pkg/apis/core/validation`), after defaulting.

use super::{CONTAINER, MOST_MILLI, POD, with_defaults};
use crate::field::{Errors, Path};
use crate::requirements::{any_name, can_overcommit, container_name};
use crate::{Denied, format, meta};
use cofferdam_model::objects::{LimitRange, LimitRangeItem};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::BTreeSet;

const CLAIM: &str = "PersistentVolumeClaim";

/// Checks a LimitRange itself. As upstream has it, a type with a domain in front is right and limits
/// nothing, and so does the type of volume claims, of which there are none here.
pub fn validate(range: &LimitRange) -> Result<(), Denied> {
    let mut errors = Errors::default();
    meta::validate(&range.metadata, true, &mut errors);
    let limits = Path::new("spec").child("limits");
    let mut seen = BTreeSet::new();
    for (at, item) in range.spec.limits.iter().enumerate() {
        let path = limits.index(at);
        kind(&item.kind, &path.child("type"), &mut errors);
        if !seen.insert(item.kind.as_str()) {
            errors.duplicate(&path.child("type"), &item.kind);
        }
        let item = with_defaults(item);
        names(&item, &path, &mut errors);
        let all = [
            &item.max,
            &item.min,
            &item.default,
            &item.default_request,
            &item.max_limit_request_ratio,
        ];
        let all: BTreeSet<&String> = all.into_iter().flat_map(ResourceList::keys).collect();
        for name in all {
            Bounds::of(&item, name).validate(&path, &mut errors);
        }
    }
    Denied::unless_valid("LimitRange", &range.metadata.name, errors)
}

fn kind(kind: &str, path: &Path, errors: &mut Errors) {
    let wrong = format::qualified_name(kind);
    if wrong.is_empty() && !kind.contains('/') && ![CONTAINER, POD, CLAIM].contains(&kind) {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
    errors.invalid_each(path, kind, wrong);
}

/// Checks which lists there are, and the names in them.
fn names(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let check = |list: &ResourceList, field: &str, errors: &mut Errors| {
        for name in list.keys() {
            let path = path.child(field).key(name);
            if [CONTAINER, POD].contains(&item.kind.as_str()) {
                container_name(name, &path, errors);
            } else {
                any_name(name, &path, errors);
            }
        }
    };
    check(&item.max, "max", errors);
    check(&item.min, "min", errors);
    for (list, field) in [(&item.default, "default"), (&item.default_request, "defaultRequest")] {
        if item.kind != POD {
            check(list, field, errors);
        } else if !list.is_empty() {
            errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
        }
    }
    if item.kind == CLAIM && !item.min.contains_key("storage") && !item.max.contains_key("storage") {
        let rule = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), rule);
    }
    check(&item.max_limit_request_ratio, "maxLimitRequestRatio", errors);
}

/// What an entry says of one resource.
struct Bounds<'a> {
    name: &'a str,
    min: Option<&'a Quantity>,
    max: Option<&'a Quantity>,
    default: Option<&'a Quantity>,
    request: Option<&'a Quantity>,
    ratio: Option<&'a Quantity>,
}

impl<'a> Bounds<'a> {
    fn of(item: &'a LimitRangeItem, name: &'a str) -> Self {
        // The defaults of a whole pod are refused, and not looked at.
        let defaults = item.kind != POD;
        Self {
            name,
            min: item.min.get(name),
            max: item.max.get(name),
            default: item.default.get(name).filter(|_| defaults),
            request: item.default_request.get(name).filter(|_| defaults),
            ratio: item.max_limit_request_ratio.get(name),
        }
    }

    fn validate(&self, path: &Path, errors: &mut Errors) {
        let name = self.name;
        let mut wrong =
            |field: &str, shown: &Quantity, rule: String| errors.invalid(&path.child(field).key(name), &shown.to_string(), &rule);
        // A rule holds where either amount is missing.
        let above = |a: Option<&'a Quantity>, b: Option<&'a Quantity>| a.zip(b).filter(|(a, b)| a > b);
        if let Some((min, max)) = above(self.min, self.max) {
            wrong("min", min, format!("min value {min} is greater than max value {max}"));
        }
        if let Some((min, request)) = above(self.min, self.request) {
            wrong(
                "defaultRequest",
                request,
                format!("min value {min} is greater than default request value {request}"),
            );
        }
        if let Some((request, max)) = above(self.request, self.max) {
            wrong(
                "defaultRequest",
                request,
                format!("default request value {request} is greater than max value {max}"),
            );
        }
        if let Some((request, limit)) = above(self.request, self.default) {
            wrong(
                "defaultRequest",
                request,
                format!("default request value {request} is greater than default limit value {limit}"),
            );
        }
        // Of these two, upstream shows the bound and not the value that breaks it.
        if let Some((min, limit)) = above(self.min, self.default) {
            wrong("default", min, format!("min value {min} is greater than default value {limit}"));
        }
        if let Some((limit, max)) = above(self.default, self.max) {
            wrong("default", max, format!("default value {limit} is greater than max value {max}"));
        }
        if let Some(ratio) = self.ratio {
            if ratio.nano() < 1_000_000_000 {
                wrong("maxLimitRequestRatio", ratio, format!("ratio {ratio} is less than 1"));
            }
            if let Some(most) = self.greatest_ratio() {
                wrong(
                    "maxLimitRequestRatio",
                    ratio,
                    format!("ratio {ratio} is greater than max/min = {most}"),
                );
            }
        }
        if let (Some(limit), Some(request)) = (self.default, self.request)
            && !can_overcommit(name)
            && limit != request
        {
            wrong(
                "defaultRequest",
                request,
                format!("default value {limit} must equal to defaultRequest value {request} in {name}"),
            );
        }
    }

    /// Maximum by minimum, as it is shown, where the allowed ratio is above that. With a minimum of
    /// nothing there is no such bound.
    fn greatest_ratio(&self) -> Option<String> {
        let (ratio, min, max) = (self.ratio?, self.min?, self.max?);
        let fine = [ratio, min, max].iter().all(|q| q.value() < MOST_MILLI);
        let [min, max] = [min, max].map(|q| if fine { q.milli_value() } else { q.value() });
        let ratio = if fine {
            ratio.milli_value() as f64 / 1000.0
        } else {
            ratio.value() as f64
        };
        let most = max as f64 / min as f64;
        (ratio > most).then(|| format!("{most:.6}"))
    }
}
