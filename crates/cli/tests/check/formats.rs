//! JSON and JUnit.

use crate::{Folder, GVISOR, IN_GVISOR, asking, node, pod};
use serde_json::json;

fn folder() -> Folder {
    let pods = [
        GVISOR,
        &asking("web", "1", IN_GVISOR),
        &asking("more", "1", IN_GVISOR),
        &pod("typo", "  runtimeClassName: \"gvisr\"\n"),
        &pod("wrong", "  hostNet: true\n"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two}\nspec:\n  replicas: 2\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i, resources: {requests: {cpu: 300m}}}]}\n",
    ]
    .concat();
    let nodes = node("n1", 2, "sandbox: gvisor", "", &["", "runsc"]) + &node("n2", 1, "", "unschedulable: true", &[]);
    Folder::new(&[
        ("pods.yaml", &pods),
        ("nodes.yaml", &nodes),
        ("a&b.yaml", &pod("other", "  nodeName: n1\n")),
    ])
}

#[test]
fn json_has_each_pod_and_object_and_node() {
    let told = folder().check("-f pods.yaml --nodes nodes.yaml -o json");
    assert_eq!((told.code, told.err.as_str()), (Some(121), ""));
    let all = told.json();
    let names: Vec<_> = all["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| [&p["name"], &p["result"], &p["node"]])
        .collect();
    assert_eq!(
        json!(names),
        json!([
            ["web", "placed", "n1"],
            ["more", "noNode", null],
            ["typo", "refused", null],
            ["two-9pv2n-slmt7", "placed", "n1"],
            ["two-9pv2n-7cj9p", "placed", "n1"],
        ])
    );
    assert_eq!(
        all["pods"][0],
        json!({
            "name": "web", "node": "n1", "score": null, "denial": null, "quotas": [], "namespace": "default", "owner": null,
            "file": "pods.yaml", "line": 12, "column": 1, "result": "placed", "message": null, "hint": null, "preempts": null,
            "class": "gvisor", "handler": "runsc", "overhead": {"cpu": "250m", "memory": "120Mi"}, "nodeSelector": {"sandbox": "gvisor"},
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "sandbox", "operator": "Exists"},
            ],
            "qos": "Burstable", "requests": {"cpu": "1250m", "memory": "120Mi"}, "limits": {}, "errors": [], "warnings": [],
        })
    );
    assert_eq!(
        all["pods"][2]["denial"],
        "pods \"typo\" is forbidden: pod rejected: RuntimeClass \"gvisr\" not found"
    );
    assert_eq!(
        all["pods"][2]["errors"],
        json!([{
            "file": "pods.yaml", "line": 32, "column": 21, "field": "spec.runtimeClassName",
            "message": "pod rejected: RuntimeClass \"gvisr\" not found", "hint": "did you mean class \"gvisor\"?",
        }])
    );
    assert_eq!(
        all["objects"],
        json!([
            {"kind": "RuntimeClass", "namespace": null, "name": "gvisor", "file": "pods.yaml", "line": 1, "column": 1, "errors": [], "warnings": []},
            {"kind": "Pod", "namespace": null, "name": "wrong", "file": "pods.yaml", "line": 40, "column": 3, "warnings": [], "errors": [{
                "file": "pods.yaml", "line": 40, "column": 3, "field": null, "hint": null,
                "message": "Pod \"wrong\": unknown field spec.hostNet; remove it",
            }]},
            {"kind": "Deployment", "namespace": "default", "name": "two", "file": "pods.yaml", "line": 44, "column": 1, "errors": [], "warnings": []},
        ])
    );
    assert_eq!(
        all["nodes"],
        json!([
            {"name": "n1", "unschedulable": false, "drained": false, "pods": 3, "placed": 3, "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"},
             "requested": {"cpu": "1850m", "memory": "120Mi"}, "handlers": ["", "runsc"]},
            {"name": "n2", "unschedulable": true, "drained": false, "pods": 0, "placed": 0, "allocatable": {"cpu": "1", "memory": "4Gi", "pods": "10"},
             "requested": {}, "handlers": null},
        ])
    );
    assert_eq!(
        [&all["drained"], &all["warnings"], &all["notes"], &all["exitCode"]],
        [&json!([]), &json!([]), &json!([]), &json!(121)]
    );
}

#[test]
fn json_has_what_was_asked_for_beside() {
    let told = folder()
        .check("-f a&b.yaml --nodes nodes.yaml -o json --drain n1 --explain other")
        .json();
    assert_eq!(
        told["explained"]["nodes"][1],
        json!({"name": "n2", "scores": null, "reasons": ["node(s) were unschedulable"]})
    );
    assert_eq!(told["nodes"][0]["drained"], true);
}

/// An element: its name, its attributes as they stand, its text, what is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    inner: Vec<Element>,
}

impl Element {
    fn get(&self, name: &str) -> &str {
        &self
            .attributes
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .1
    }
}

/// Reads XML strictly, as far as it is written here: fails on anything that is not well-formed.
fn parse(xml: &str) -> Element {
    let mut rest = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap();
    let mut open = vec![Element::default()];
    while let Some(at) = rest.find('<') {
        open.last_mut().unwrap().text += &unescape(&rest[..at]);
        let end = rest.find('>').unwrap();
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().unwrap();
            assert_eq!(element.name, name);
            open.last_mut().unwrap().inner.push(element);
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut words) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut element = Element {
            name: name.to_owned(),
            ..Element::default()
        };
        while !words.is_empty() {
            let (key, value) = words.split_once("=\"").unwrap();
            let (value, more) = value.split_once('"').unwrap();
            element.attributes.push((key.trim().to_owned(), unescape(value)));
            words = more.trim_start();
        }
        if empty {
            open.last_mut().unwrap().inner.push(element)
        } else {
            open.push(element)
        }
    }
    assert_eq!((rest.trim(), open.len()), ("", 1));
    open.pop().unwrap().inner.pop().unwrap()
}

fn unescape(text: &str) -> String {
    assert!(!text.contains(['<', '>']), "{text}");
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap();
        plain += match name {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#10" => "\n",
            "#9" => "\t",
            other => panic!("&{other};"),
        };
        plain += rest;
    }
    plain
}

#[test]
fn junit_has_a_suite_a_file_and_a_case_a_pod_or_object() {
    let folder = folder();
    let told = folder.check("-f pods.yaml -f a&b.yaml --nodes nodes.yaml -o junit");
    assert_eq!((told.code, told.err.as_str()), (Some(121), ""));
    let root = parse(&told.out);
    assert_eq!((root.get("tests"), root.get("failures")), ("7", "3"));
    let mut cases = Vec::new();
    for suite in &root.inner {
        for case in &suite.inner {
            let failure = case.inner.iter().find(|e| e.name == "failure");
            let told = failure.map_or_else(String::new, |f| format!("{}: {}", f.get("type"), f.text));
            cases.push(format!(
                "{} {} {}:{} {told}",
                case.get("classname"),
                case.get("name"),
                case.get("file"),
                case.get("line")
            ));
        }
    }
    assert_eq!(
        cases,
        [
            "RuntimeClass gvisor pods.yaml:1 ",
            "Pod default/web pods.yaml:12 ",
            "Pod default/more pods.yaml:20 no node: pods.yaml:20:1: 0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
            "Pod default/typo pods.yaml:28 not admitted: pods.yaml:32:21: pods \"typo\" is forbidden: pod rejected: RuntimeClass \"gvisr\" not found\ndid you mean class \"gvisor\"?",
            "Pod wrong pods.yaml:40 invalid: pods.yaml:40:3: Pod \"wrong\": unknown field spec.hostNet; remove it",
            "Deployment default/two pods.yaml:44 ",
            "Pod default/other a&b.yaml:1 ",
        ]
    );
    let root = parse(&folder.check("-f pods.yaml --nodes nodes.yaml --drain n1 -o junit").out);
    assert_eq!(root.inner[1].get("name"), "n1");
}
