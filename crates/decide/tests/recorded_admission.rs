//! Admission, case by case, beside what a real API server answered (`tests/data/admission`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod recorded;

use cofferdam_decide::chain::World;
use cofferdam_decide::check::{Namespaces, PodReport, report};
use cofferdam_decide::quota::{self, Used};
use cofferdam_decide::{Denied, limit_range, pod_update, resize, runtime_class};
use cofferdam_model::ResourceList;
use cofferdam_model::objects::{LimitRange, ResourceQuota, RuntimeClass};
use cofferdam_model::pod::Pod;
use recorded::{Case, Differs, cases, compare, name_of, object};
use serde_json::{Value, json};

/// What is answered otherwise.
const DIFFERS: &[Differs<'_>] = &[
    ("admission/pod-class/empty", EMPTY_NAME),
    ("admission/pod-class/priority-class-missing", PRIORITY),
    ("admission/pod-class/service-account-missing", ACCOUNTS),
    ("admission/pod/container-pull-policy", DECODER),
    ("admission/pod/ephemeral-create", DECODER),
    ("admission/pod/resources-claims", UNREAD),
    ("admission/pod/resources-quantity", DECODER),
    ("admission/pod/resources-quantity-suffix", DECODER),
    ("admission/pod/restart-policy", DECODER),
    ("admission/pod/service-account", ACCOUNTS),
    ("admission/pod/unknown-field", DECODER),
    ("admission/pod/wrong-type", DECODER),
    ("admission/runtimeclass/exists", STORE),
    ("admission/runtimeclass/overhead-quantity", DECODER),
    ("admission/runtimeclass/v1beta1", OLD_FORM),
];

const ACCOUNTS: &str = "Cofferdam has no service accounts, and so no plugin looks one up; a name's form is checked";
const DECODER: &str = "the manifest's decoder refuses it first, with its place and in words of its own";
const EMPTY_NAME: &str = "the empty name means the default handler on purpose, as KEP-585 has it; the server ends with an error of its own";
const OLD_FORM: &str = "the manifest's decoder reads the old form, and warns of it with today's";
const PRIORITY: &str = "the caller looks up priority classes; a cluster's are not known here";
const STORE: &str = "the caller keeps the classes, and treats a second one of the same name as an update";
const UNREAD: &str = "the model has no such field: a run refuses it by name, and a check says that it is not looked at";

#[test]
fn admission_answers_as_the_api_server_does() {
    let groups = ["runtimeclass", "limitrange", "quota", "pod-class", "pod", "resize"];
    let all: Vec<Case> = groups.iter().flat_map(|g| cases(&format!("admission/{g}"))).collect();
    assert!(all.len() >= 395, "{} cases", all.len());
    compare(&all, DIFFERS, |case| {
        let ours = answer(case);
        let is_same = normal(&ours) == normal(&case.answer);
        if is_same { Ok(()) } else { Err(ours) }
    });
}

/// An answer with its last line read as JSON where it is that: the order of keys says nothing.
fn normal(answer: &str) -> (Vec<&str>, Option<Value>) {
    let lines: Vec<&str> = answer.lines().collect();
    match lines.split_last() {
        Some((last, before)) if last.starts_with('{') => (before.to_vec(), serde_json::from_str(last).ok()),
        _ => (lines, None),
    }
}

/// What is there when a pod is admitted.
#[derive(Default)]
struct There {
    classes: Vec<RuntimeClass>,
    ranges: Vec<LimitRange>,
    quotas: Vec<ResourceQuota>,
    used: Used,
    priorities: Vec<(String, i32)>,
}

fn answer(case: &Case) -> String {
    asked(case).unwrap_or_else(|unread| format!("unread: {unread}"))
}

/// Our answer, or why the case cannot be asked.
fn asked(case: &Case) -> Result<String, String> {
    let documents = case.documents();
    let (last, before) = documents.split_last().unwrap();
    let mut there = There::default();
    for document in before {
        there.add(document)?;
    }
    let updates = case.text.contains("\n# update");
    let code = if updates { 200 } else { 201 };
    match last["kind"].as_str().unwrap() {
        "RuntimeClass" => {
            let mut class: RuntimeClass = object(last)?;
            let checked = if updates {
                let mut old: RuntimeClass = object(&before[before.len() - 1])?;
                old.metadata.resource_version = Some("1".into());
                if !case.text.contains("\n# update unversioned") {
                    class.metadata.resource_version = Some("1".into());
                }
                runtime_class::validate_update(&class, &old)
            } else {
                runtime_class::validate_create(&class)
            };
            Ok(said(checked, code, runtime_class::warnings(&class)))
        }
        "LimitRange" => Ok(said(limit_range::validate(&object(last)?), code, vec![])),
        "ResourceQuota" => Ok(said(quota::validate(&object(last)?), code, vec![])),
        "Pod" if case.text.contains("\n# update resize") => there.resize(last, &before[before.len() - 1]),
        "Pod" if updates => {
            let old = object(&before[before.len() - 1])?;
            Ok(said(pod_update::validate_update(&object(last)?, &old), code, vec![]))
        }
        "Pod" => Ok(there.admit(last)?),
        other => Err(format!("a {other}")),
    }
}

impl There {
    fn add(&mut self, document: &Value) -> Result<(), String> {
        match document["kind"].as_str().unwrap() {
            "RuntimeClass" => self.classes.push(object(document)?),
            "LimitRange" => self.ranges.push(object(document)?),
            "ResourceQuota" => {
                let quota: ResourceQuota = object(document)?;
                let status = |field: &str| object::<Option<ResourceList>>(&document["status"][field]);
                self.used
                    .state(&quota, status("hard")?.unwrap_or_default(), status("used")?.unwrap_or_default());
                self.quotas.push(quota);
            }
            "PriorityClass" => {
                let value = document["value"].as_i64().unwrap();
                self.priorities.push((name_of(document).to_owned(), value.try_into().unwrap()));
            }
            // What else is there is for an update to begin with.
            "Pod" => {}
            other => return Err(format!("a {other}")),
        }
        Ok(())
    }

    /// What is said of other resources for a pod that was admitted.
    fn resize(&self, new: &Value, old: &Value) -> Result<String, String> {
        let old = self.report(old)?.pod;
        let resized = resize::validate(&object(new)?, &old);
        let pod = resized.as_ref().ok().map(|pod| format!("\n{}", changed(pod))).unwrap_or_default();
        Ok(said(resized.map(|_| ()), 200, vec![]) + &pod)
    }

    fn admit(&self, document: &Value) -> Result<String, String> {
        let report = self.report(document)?;
        let warnings = report.warnings.iter().map(ToString::to_string).collect();
        Ok(match &report.denial {
            Some(denied) => said(Err(denied.clone()), 0, warnings),
            None => said(Ok(()), 201, warnings) + "\n" + &changed(&report.pod).to_string(),
        })
    }

    fn report(&self, document: &Value) -> Result<PodReport, String> {
        let mut pod: Pod = object(document)?;
        // The plugin that looks up priority classes is the caller's part here.
        let named = pod.spec.priority_class_name.as_deref();
        let priority = self.priorities.iter().find(|(name, _)| Some(name.as_str()) == named);
        pod.spec.priority = Some(priority.map_or(0, |(_, value)| *value));
        let world = World {
            classes: &self.classes,
            limit_ranges: &self.ranges,
            quotas: &self.quotas,
            ..World::default()
        };
        Ok(report([pod], world, Namespaces::Implicit, self.used.clone()).next().unwrap())
    }
}

/// Code and reason, warnings, and the message's first line.
fn said(checked: Result<(), Denied>, code: u16, mut warnings: Vec<String>) -> String {
    warnings.sort();
    let head = match &checked {
        Ok(()) => code.to_string(),
        Err(denied) => match denied.code() {
            403 => "403 Forbidden".to_owned(),
            404 => "404 NotFound".to_owned(),
            422 => "422 Invalid".to_owned(),
            other => format!("{other} ?"),
        },
    };
    let warnings = warnings.iter().map(|w| format!("warning: {w}"));
    let message = checked
        .err()
        .map(|denied| denied.to_string().lines().next().unwrap_or_default().to_owned());
    [head].into_iter().chain(warnings).chain(message).collect::<Vec<_>>().join("\n")
}

/// What admission may have changed of a pod.
fn changed(pod: &Pod) -> Value {
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let fields = [
        "runtimeClassName",
        "overhead",
        "nodeSelector",
        "tolerations",
        "priority",
        "priorityClassName",
        "resources",
    ];
    let mut shown: serde_json::Map<String, Value> = fields
        .iter()
        .filter_map(|f| Some(((*f).to_owned(), spec.get(f)?.clone())))
        .collect();
    for list in ["initContainers", "containers"] {
        if let Some(containers) = spec.get(list).and_then(Value::as_array) {
            let one = |c: &Value| json!({"name": c["name"], "resources": c.get("resources").unwrap_or(&json!({}))});
            shown.insert(list.to_owned(), containers.iter().map(one).collect());
        }
    }
    shown.into()
}
