//! What a ResourceQuota may say (`ValidateResourceQuota` in `pkg/apis/core/validation`).

use super::MUST_SPECIFY;
use super::scopes::{BEST_EFFORT, CROSS_NAMESPACE, NOT_BEST_EFFORT, NOT_TERMINATING, PRIORITY_CLASS, TERMINATING, VOLUME_ATTRIBUTES};
use crate::field::{Errors, Path};
use crate::requirements::{any_name, is_counted_whole, is_standard_quota, is_whole, validate_sign};
use crate::{Denied, meta};
use cofferdam_model::objects::{ResourceQuota, ResourceQuotaSpec, ScopeRequirement, ScopeSelector};
use serde_json::{Value, json};

const SCOPES: [&str; 7] = [
    TERMINATING,
    NOT_TERMINATING,
    BEST_EFFORT,
    NOT_BEST_EFFORT,
    PRIORITY_CLASS,
    CROSS_NAMESPACE,
    VOLUME_ATTRIBUTES,
];

/// Checks a quota itself: names and amounts, scopes, and whether they fit together.
pub fn validate(quota: &ResourceQuota) -> Result<(), Denied> {
    let mut errors = Errors::default();
    meta::validate(&quota.metadata, true, &mut errors);
    let path = Path::new("spec");
    for (name, quantity) in &quota.spec.hard {
        let path = path.child("hard").key(name);
        any_name(name, &path, &mut errors);
        if !name.contains('/') && !is_standard_quota(name) {
            errors.invalid(&path, name, "must be a standard resource for quota");
        }
        validate_sign(quantity, &path, &mut errors);
        if is_counted_whole(name) && !is_whole(quantity) {
            errors.invalid(&path, &quantity.to_string(), "must be an integer");
        }
    }
    scopes(&quota.spec, &path.child("scopes"), &mut errors);
    if let Some(selector) = &quota.spec.scope_selector {
        scope_selector(
            selector,
            &quota.spec,
            &path.child("scopeSelector").child("matchExpressions"),
            &mut errors,
        );
    }
    Denied::unless_valid("ResourceQuota", &quota.metadata.name, errors)
}

fn scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let all = json!(spec.scopes);
    for scope in &spec.scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(path, all.clone(), "unsupported scope");
        }
        misapplied(scope, spec, &all, path, errors);
    }
    conflicts(spec.scopes.iter(), &all, path, errors);
}

fn scope_selector(selector: &ScopeSelector, spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let all = internal_json(selector);
    // Upstream's paths leave out which of the expressions it is.
    for expression in &selector.match_expressions {
        let scope = &expression.scope_name;
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        misapplied(scope, spec, &all, path, errors);
        operator(expression, path, errors);
    }
    // Upstream shows the scopes here, and not the selector.
    let shown = if spec.scopes.is_empty() { Value::Null } else { json!(spec.scopes) };
    conflicts(selector.match_expressions.iter().map(|e| &e.scope_name), &shown, path, errors);
}

fn operator(expression: &ScopeRequirement, path: &Path, errors: &mut Errors) {
    let ScopeRequirement {
        scope_name,
        operator,
        values,
    } = expression;
    let only_exists = [BEST_EFFORT, NOT_BEST_EFFORT, TERMINATING, NOT_TERMINATING, CROSS_NAMESPACE];
    if only_exists.contains(&scope_name.as_str()) && operator != "Exists" {
        let rule = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.invalid(&path.child("operator"), operator, rule);
    }
    match operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            let rule = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.required(&path.child("values"), rule);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let rule = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(&path.child("values"), json!(values), rule);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

/// One error for each resource that the scope does not go with.
fn misapplied(scope: &str, spec: &ResourceQuotaSpec, shown: &Value, path: &Path, errors: &mut Errors) {
    for _ in spec.hard.keys().filter(|name| is_standard_quota(name) && !applies_to(scope, name)) {
        errors.invalid(path, shown.clone(), "unsupported scope applied to resource");
    }
}

fn applies_to(scope: &str, resource: &str) -> bool {
    match scope {
        BEST_EFFORT => resource == "pods",
        NOT_BEST_EFFORT | TERMINATING | NOT_TERMINATING | PRIORITY_CLASS | CROSS_NAMESPACE => {
            resource == "pods" || MUST_SPECIFY.contains(&resource)
        }
        VOLUME_ATTRIBUTES => resource == "persistentvolumeclaims" || resource == "requests.storage",
        _ => true,
    }
}

fn conflicts<'a>(scopes: impl Iterator<Item = &'a String> + Clone, shown: &Value, path: &Path, errors: &mut Errors) {
    for pair in [[BEST_EFFORT, NOT_BEST_EFFORT], [TERMINATING, NOT_TERMINATING]] {
        if pair.iter().all(|scope| scopes.clone().any(|s| s == scope)) {
            errors.invalid(path, shown.clone(), "conflicting scopes");
        }
    }
}

/// A selector as upstream's internal type, which has no JSON names, prints it.
fn internal_json(selector: &ScopeSelector) -> Value {
    let one = |e: &ScopeRequirement| {
        let values = if e.values.is_empty() { Value::Null } else { json!(e.values) };
        json!({"ScopeName": e.scope_name, "Operator": e.operator, "Values": values})
    };
    let all: Vec<Value> = selector.match_expressions.iter().map(one).collect();
    json!({"MatchExpressions": all})
}
