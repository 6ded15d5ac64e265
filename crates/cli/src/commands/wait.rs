//! `cofferdam wait`: until pods are as is wanted, as `kubectl wait` has it.

use crate::args::Global;
use crate::commands::pods::{Census, is_meant, text};
use crate::settings::Settings;
use crate::show;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam wait web --for=condition=Ready --timeout=60s
  cofferdam wait pod/web --for=delete
  cofferdam wait --all --for=condition=Ready=false
  cofferdam wait job --for=jsonpath='{.status.phase}'=Succeeded

A pod that is over stays as it ended until `stop` removes it. Without a condition that can still come
true, the wait goes on to its end, as kubectl's does.";

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// What kubectl takes a negative time for.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Options of `wait`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Pods: NAME, NAMESPACE/NAME, pod/NAME or the beginning of the id
    #[arg(required_unless_present = "all")]
    pods: Vec<String>,
    /// All pods that there are now
    #[arg(long, conflicts_with = "pods")]
    all: bool,
    /// What is waited for: condition=NAME[=VALUE], delete, create, jsonpath={...}[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    wanted: Wanted,
    /// How long: 30s, 5m, 1h; 0 looks once, less waits a week
    #[arg(long, default_value = "30s", allow_hyphen_values = true, value_parser = duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// That it is not there.
    Delete,
    /// That it is there.
    Create,
    /// A condition and its status, lower case.
    Condition(String, String),
    /// A value; any where there is none.
    Path(Vec<Step>, Option<String>),
}

/// One step of a JSONPath.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// `[?(@.key=="value")]`
    Where(String, String),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, status) = rest.split_once('=').unwrap_or((rest, "true"));
            if name.is_empty() {
                return Err("condition= names no condition; use condition=Ready".into());
            }
            return Ok(Self::Condition(name.to_lowercase(), status.to_lowercase()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            // Quotes that a shell did not take, as in manifests of other tools.
            let plain = rest.replace('\'', "");
            let rest = plain.as_str();
            let (inside, after) = rest
                .strip_prefix('{')
                .and_then(|r| r.split_once('}'))
                .ok_or_else(|| format!("{rest:?} is not a JSONPath; write it as '{{.status.phase}}'"))?;
            let value = match after {
                "" => None,
                after => Some(
                    after
                        .strip_prefix('=')
                        .ok_or_else(|| format!("{after:?} after the JSONPath is not =VALUE"))?,
                ),
            };
            return Ok(Self::Path(steps(inside)?, value.map(|v| v.trim_matches(['\'', '"']).to_owned())));
        }
        match text {
            "delete" => Ok(Self::Delete),
            "create" => Ok(Self::Create),
            _ => Err("use condition=NAME[=VALUE], delete, create or jsonpath={...}[=VALUE]".into()),
        }
    }
}

/// The steps of `.a.b[0].c[?(@.type=="Ready")].d`.
fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut all = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return Err(format!("{path:?} has a step without a name"));
            }
            all.push(Step::Key(after[..end].to_owned()));
            rest = &after[end..];
            continue;
        }
        let (inside, after) = rest
            .strip_prefix('[')
            .and_then(|r| r.split_once(']'))
            .ok_or_else(|| format!("{rest:?} in {path:?} is neither .name nor [number]"))?;
        all.push(selected(inside).ok_or_else(|| format!("[{inside}] in {path:?} is neither a number nor ?(@.key==\"value\")"))?);
        rest = after;
    }
    Ok(all)
}

fn selected(inside: &str) -> Option<Step> {
    if let Ok(index) = inside.parse() {
        return Some(Step::Index(index));
    }
    let filter = inside.strip_prefix("?(@.")?.strip_suffix(')')?;
    let (key, value) = filter.split_once("==")?;
    Some(Step::Where(
        key.trim().to_owned(),
        value.trim().trim_matches(['"', '\'']).to_owned(),
    ))
}

/// Go's durations, as kubectl takes them.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time; use 30s, 5m or 1h");
    if text.starts_with('-') {
        return Ok(WEEK);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    if rest == "0" {
        return Ok(total);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        let unit = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| end + n);
        let seconds = match &rest[end..unit] {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(bad()),
        };
        total = total.saturating_add(Duration::try_from_secs_f64(seconds).map_err(|_| bad())?);
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(total.min(WEEK)) }
}

/// Waits for all of the pods, one after the other, within one time.
pub(crate) fn wait(global: &Global, args: &WaitArgs) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let deadline = Instant::now() + args.timeout;
    let mut left: Vec<String> = if args.all {
        let census = Census::take(&engine)?;
        census
            .live()
            .map(|v| format!("{}/{}", text(v, "namespace"), text(v, "name")))
            .collect()
    } else {
        args.pods
            .iter()
            .map(|p| p.trim_start_matches("pods/").trim_start_matches("pod/").to_owned())
            .collect()
    };
    if left.is_empty() {
        bail!("no pods run here that could be waited for");
    }
    let mut first = true;
    loop {
        let census = Census::take(&engine)?;
        let mut missing = None;
        left.retain(|wanted| match (find(&census, wanted), &args.wanted) {
            (None, Wanted::Delete) => !met(wanted),
            (None, Wanted::Create) => true,
            (None, _) => {
                missing = Some(wanted.clone());
                true
            }
            (Some(pod), goal) => !(is(&pod, goal) && met(wanted)),
        });
        if left.is_empty() {
            return Ok(0);
        }
        // One that was there may have been removed, and one that never was does not come.
        if let Some(wanted) = missing.filter(|_| first) {
            return Err(census.absent(&wanted));
        }
        first = false;
        if Instant::now() >= deadline {
            let named: Vec<String> = left.iter().map(|l| format!("pods/{l}")).collect();
            bail!("timed out waiting for the condition on {}", named.join(", "));
        }
        std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
}

fn met(wanted: &str) -> bool {
    show::say(format_args!("pod/{wanted} condition met"));
    true
}

fn is(pod: &Value, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Delete => false,
        Wanted::Create => true,
        Wanted::Condition(name, status) => {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut of_name = conditions.filter(|c| text(c, "type").eq_ignore_ascii_case(name));
            of_name.any(|c| text(c, "status").eq_ignore_ascii_case(status))
        }
        Wanted::Path(steps, value) => match (at(pod, steps), value) {
            (None, _) => false,
            (Some(found), None) => !found.is_null(),
            (Some(Value::String(found)), Some(value)) => found == value,
            (Some(found), Some(value)) => found.to_string().as_str() == value.as_str(),
        },
    }
}

fn at<'a>(value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
        Step::Where(key, wanted) => value.as_array()?.iter().find(|item| text(item, key) == wanted),
    })
}

/// The pod in Kubernetes' own shape, where there is one.
fn find(census: &Census, wanted: &str) -> Option<Value> {
    let of = |v: &&Value| is_meant(wanted, text(v, "namespace"), text(v, "name"), text(v, "sandbox"));
    let live = census.peers.views().find(of);
    let view = live.or_else(|| census.ended.iter().map(|e| &e.view).find(of));
    view.map(shaped)
}

/// A view as `kubectl get pod -o json` would show it, as far as a wait may ask.
fn shaped(view: &Value) -> Value {
    let containers = view["containers"].as_array().cloned().unwrap_or_default();
    let of = |init: bool| -> Vec<Value> {
        let all = containers.iter().filter(|c| (text(c, "kind") != "container") == init);
        all.map(|c| {
            json!({"name": c["name"], "image": c["image"], "ready": c["ready"], "restartCount": c["restarts"],
                "containerID": c["id"], "state": c["state"], "lastState": c["last"]})
        })
        .collect()
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": view["name"], "namespace": view["namespace"], "uid": view["uid"]},
        "spec": {"runtimeClassName": view["class"]},
        "status": {
            "phase": view["phase"], "reason": view["reason"], "message": view["message"], "podIP": view["ip"],
            "conditions": conditions(view), "initContainerStatuses": of(true), "containerStatuses": of(false),
        },
    })
}

/// The conditions that the keeper tells, or those that follow from what it does tell.
fn conditions(view: &Value) -> Value {
    match &view["conditions"] {
        told @ Value::Array(all) if !all.is_empty() => told.clone(),
        _ => {
            let ready = if view["ready"] == true { "True" } else { "False" };
            json!([{"type": "ContainersReady", "status": ready}, {"type": "Ready", "status": ready}])
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_waited_for_is_read_as_kubectl_reads_it() {
        let condition = |n: &str, s: &str| Wanted::Condition(n.into(), s.into());
        assert_eq!("condition=Ready".parse(), Ok(condition("ready", "true")));
        assert_eq!("condition=Ready=False".parse(), Ok(condition("ready", "false")));
        assert_eq!("delete".parse(), Ok(Wanted::Delete));
        let path: Wanted = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True".parse().unwrap();
        let pod = shaped(
            &json!({"name": "a", "ready": true, "phase": "Running", "containers": [{"name": "c", "kind": "container", "restarts": 3}]}),
        );
        assert!(is(&pod, &path));
        for (text, wanted) in [
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Pending", false),
            ("jsonpath={.status.containerStatuses[0].restartCount}=3", true),
            ("jsonpath={.status.podIP}", false),
            ("jsonpath={.status.nothing}=x", false),
            ("condition=ContainersReady", true),
            ("condition=Initialized", false),
        ] {
            assert_eq!(is(&pod, &text.parse().unwrap()), wanted, "{text}");
        }
        for bad in [
            "",
            "ready",
            "condition=",
            "jsonpath=.status",
            "jsonpath={status}",
            "jsonpath={.a[}=1",
            "jsonpath={..}",
        ] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_gos() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0", 0),
            ("0s", 0),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        assert_eq!(duration("-1s").unwrap(), WEEK);
        for bad in ["", "30", "s", "1x", "1s1", "nans"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
