//! What is known of one of our pods, in the words of the doctor.

use super::here::Here;
use super::{logs, text};
use crate::account::Account;
use crate::world::Manifests;
use cofferdam_doctor::{ContainerStory, EventStory, Now, PodStory};
use cofferdam_engine::Engine;
use cofferdam_host::ids;
use cofferdam_node::{ADMITTED_ANNOTATION, HARMLESS};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything that is known of a pod.
pub(super) fn of(here: &Here, engine: &Engine, account: &Account, manifests: &Manifests) -> PodStory {
    let view = &account.view;
    let owned = |key: &str| text(view, key).to_owned();
    let began = view["startedAt"].as_i64().unwrap_or_default();
    let class = view["class"].as_str().map(str::to_owned);
    let calls = account.usage.iter().flat_map(|usage| usage.refused_calls.clone());
    PodStory {
        name: owned("name"),
        namespace: owned("namespace"),
        handler: owned("handler"),
        phase: owned("phase"),
        reason: owned("reason"),
        message: owned("message"),
        ready: is_ready(view),
        sandbox_reason: account.sandbox.as_ref().and_then(|s| s.reason.clone()),
        abandoned: account.sandbox.is_some() && !account.kept,
        left_behind: view["leftBehind"].as_str().map(str::to_owned),
        containers: view["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| container(here, view, c))
            .collect(),
        events: account.events.iter().map(event).collect(),
        binary_now: binary_now(engine, account, text(view, "handler")),
        binary_replaced: account.binary.as_deref().is_some_and(|binary| is_newer(binary, began)),
        binary: account.binary.clone(),
        refused_calls: calls.filter(|call| !HARMLESS.contains(&call.as_str())).collect(),
        age: age(began),
        class_then: account
            .sandbox
            .as_ref()
            .and_then(|s| s.config.annotations.get(ADMITTED_ANNOTATION).cloned()),
        class_now: class_now(manifests, class.as_deref()),
        class,
    }
}

/// Whether it is as it should be. Records that nobody keeps have no word on the pod as a whole.
fn is_ready(view: &Value) -> bool {
    let containers = || {
        view["containers"]
            .as_array()
            .is_some_and(|all| !all.is_empty() && all.iter().all(|c| c["ready"] == true))
    };
    view["phase"] == "Succeeded"
        || view["ready"]
            .as_bool()
            .unwrap_or_else(|| view["phase"] == "Running" && containers())
}

/// Seconds; 0 where it has not begun.
fn age(began: i64) -> u64 {
    let nanos = if began > 0 { ids::now_nanos() - began } else { 0 };
    u64::try_from(nanos / 1_000_000_000).unwrap_or(0)
}

/// The binary of its handler now. One whose handler is there and cannot be used is not known; nothing
/// is gone from under a pod that is over or was never made.
fn binary_now(engine: &Engine, account: &Account, handler: &str) -> Now<PathBuf> {
    let table = engine.table();
    match table.resolve(handler) {
        Ok((_, definition)) => Now::There(definition.binary.clone()),
        Err(_) if account.binary.is_none() || table.names().any(|name| name == handler) => Now::Unknown,
        Err(_) => Now::Gone,
    }
}

/// Whether a file was written, or put in its place, after a moment in nanoseconds since 1970.
fn is_newer(path: &Path, moment: i64) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    moment > 0 && meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec()) > moment
}

fn class_now(manifests: &Manifests, class: Option<&str>) -> Now<String> {
    match class {
        Some(class) if manifests.has_classes() => manifests.class_text(class).map_or(Now::Gone, Now::There),
        _ => Now::Unknown,
    }
}

fn event(event: &Value) -> EventStory {
    EventStory {
        warning: event["warning"] == true,
        reason: text(event, "reason").to_owned(),
        message: text(event, "message").to_owned(),
    }
}

/// A container as it is, and how its last run ended: a crash loop says why only there.
fn container(here: &Here, view: &Value, container: &Value) -> ContainerStory {
    let (state, last) = (&container["state"], &container["last"]);
    let (waiting, ended) = (&state["waiting"], &state["terminated"]);
    let now = if waiting.is_object() { waiting } else { ended };
    let texts = |key: &str| {
        [now, last]
            .map(|s| text(s, key).trim())
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    };
    let code = |s: &Value| s["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
    let name = text(container, "name").to_owned();
    ContainerStory {
        image: text(container, "image").to_owned(),
        reason: texts("reason"),
        message: texts("message"),
        exit_code: code(ended).or_else(|| code(last)),
        down: waiting.is_object() || ended.is_object(),
        restarts: container["restarts"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        log: logs::tail(&here.settings.layout, view, &name),
        name,
    }
}
