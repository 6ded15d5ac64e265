//! What a pod may learn of itself: fields (`pkg/fieldpath`, `pkg/kubelet/kubelet_pods.go`) and
//! resources of its containers (`pkg/api/v1/resource/helpers.go`), in its environment and in files.

use crate::env::{EnvError, Sources};
use crate::setup::Machine;
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::pod::{Container, Pod, ResourceFieldRef};
use cofferdam_model::{Quantity, ResourceList};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// A field for a container's environment (`podFieldSelectorRuntimeValue`).
pub(crate) fn of_container(sources: Sources<'_>, path: &str) -> Result<String, EnvError> {
    let list = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let hosts = || match sources.machine.addresses() {
        none if none.is_empty() => Err(EnvError("failed to get host IP: this machine has no route outwards".into())),
        ips => Ok(ips),
    };
    match path {
        "spec.nodeName" => Ok(sources.machine.name.clone()),
        "spec.serviceAccountName" => {
            let name = sources.pod.spec.service_account_name.clone().filter(|name| !name.is_empty());
            Ok(name.unwrap_or_else(|| "default".into()))
        }
        "status.podIP" => Ok(list(sources.pod_ips.get(..1).unwrap_or_default())),
        "status.podIPs" => Ok(list(sources.pod_ips)),
        "status.hostIP" => Ok(list(&hosts()?[..1])),
        "status.hostIPs" => Ok(list(&hosts()?)),
        // Whole maps are for files only (`validEnvDownwardAPIFieldPathExpressions`).
        "metadata.labels" | "metadata.annotations" => Err(unsupported(path)),
        _ => of_pod(&sources.pod.metadata, path),
    }
}

/// A field of the pod's metadata, also for a file (`ExtractFieldPathAsString`).
pub(crate) fn of_pod(meta: &ObjectMeta, path: &str) -> Result<String, EnvError> {
    let subscript = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    Ok(match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace_or_default().to_owned(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        _ => match (subscript("metadata.labels"), subscript("metadata.annotations")) {
            (Some(key), _) => meta.labels.get(key).cloned().unwrap_or_default(),
            (_, Some(key)) => meta.annotations.get(key).cloned().unwrap_or_default(),
            _ => return Err(unsupported(path)),
        },
    })
}

fn unsupported(path: &str) -> EnvError {
    EnvError(format!("unsupported fieldPath: {path}"))
}

/// `key="value"`, a line each, sorted (`FormatMap`).
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `text` as Go's `%q` writes it (`strconv.Quote`).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c => {
                // Writing to a String cannot fail.
                let _ = match u32::from(c) {
                    n @ 0..0x80 => write!(out, "\\x{n:02x}"),
                    n @ 0x80..0x10000 => write!(out, "\\u{n:04x}"),
                    n => write!(out, "\\U{n:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

/// Rust shows what is not printable as `\u{…}`, as long as it does not begin a text: there it would
/// show a combining mark so too, which Go prints.
fn is_printable(c: char) -> bool {
    c == '\'' || !format!("a{c}").escape_debug().skip(1).any(|e| e == '\\')
}

/// A resource of a container, in units of the divisor, rounded up (`ExtractContainerResourceValue`).
/// `this` is the container that asks; a file has none, and names one.
pub(crate) fn resource(pod: &Pod, machine: &Machine, this: Option<&Container>, reference: &ResourceFieldRef) -> Result<String, EnvError> {
    let name = reference.container_name.as_deref().unwrap_or_default();
    let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let container = match this.filter(|_| name.is_empty()) {
        Some(this) => this,
        None => all
            .find(|c| c.name == name)
            .ok_or_else(|| EnvError(format!("container {name} not found")))?,
    };
    let unsupported = || EnvError(format!("unsupported container resource : {}", reference.resource));
    let (list, name) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    let is_known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !matches!(list, "limits" | "requests") || !is_known {
        return Err(unsupported());
    }
    let value = amount(pod, machine, container, list, name);
    let divisor = match reference.divisor.as_ref().map(|d| unit(name, d)) {
        // An absent divisor is 1, and Kubernetes reads "0" as an absent one.
        None | Some(0) => {
            if name == "cpu" {
                1000
            } else {
                1
            }
        }
        Some(given) if given < 0 => {
            return Err(EnvError(format!(
                "the divisor of {} is negative; give it a positive one",
                reference.resource
            )));
        }
        Some(given) => given,
    };
    let rounded_up = i128::from(value).div_euclid(i128::from(divisor)) + i128::from(value.rem_euclid(divisor) != 0);
    Ok(rounded_up.to_string())
}

/// Thousandths for CPU, units for the rest.
fn unit(name: &str, quantity: &Quantity) -> i64 {
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// A limit that is absent or zero is what the pod as a whole may have, or the machine has
/// (`MergeContainerResourceLimits`, `defaultPodLimitsForDownwardAPI`).
fn amount(pod: &Pod, machine: &Machine, container: &Container, list: &str, name: &str) -> i64 {
    let find = |list: &ResourceList| list.get(name).map(|q| unit(name, q));
    let resources = container.resources.as_ref();
    if list == "requests" {
        return resources.and_then(|r| find(&r.requests)).unwrap_or(0);
    }
    if let Some(limit) = resources.and_then(|r| find(&r.limits)).filter(|limit| *limit != 0) {
        return limit;
    }
    let there = match name {
        "cpu" => machine.cpu_millis,
        "memory" => machine.memory,
        "ephemeral-storage" => machine.ephemeral_storage,
        _ => return 0,
    };
    // As upstream, also where it is more than the machine has. Of ephemeral storage a pod has no limit of its own.
    let of_pod = pod.spec.resources.as_ref().filter(|_| name != "ephemeral-storage");
    of_pod.and_then(|r| find(&r.limits)).filter(|limit| *limit > 0).unwrap_or(there)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            ("it's \"so\" \\", r#""it's \"so\" \\""#),
            ("a\nb\tc\r\x07\x08\x0c\x0b", r#""a\nb\tc\r\a\b\f\v""#),
            ("\x00\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("é ü 漢 🦀 e\u{301}", "\"é ü 漢 🦀 e\u{301}\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{200b}\u{feff}\u{a0}\u{e0001}", r#""\u200b\ufeff\u00a0\U000e0001""#),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn fields_of_the_pod() {
        let meta: ObjectMeta = serde_json::from_value(json!({
            "name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "1"}, "annotations": {"n": "x\ny"},
        }))
        .unwrap();
        for (path, expected) in [
            ("metadata.name", Ok("p")),
            ("metadata.namespace", Ok("ns")),
            ("metadata.uid", Ok("u")),
            ("metadata.labels", Ok("a=\"1\"\nb=\"2\"")),
            ("metadata.annotations", Ok("n=\"x\\ny\"")),
            ("metadata.annotations['n']", Ok("x\ny")),
            ("metadata.labels['none']", Ok("")),
            ("spec.nodeName", Err("unsupported fieldPath: spec.nodeName")),
        ] {
            assert_eq!(
                of_pod(&meta, path),
                expected.map(str::to_owned).map_err(|e| EnvError(e.into())),
                "{path}"
            );
        }
    }
}
