//! A cluster that is asked by a kubeconfig, whose API a server here plays.

use crate::{Answer, Folder, GVISOR, IN_GVISOR, asking};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Answers each path with its list, and everything else with 403.
fn serve(lists: BTreeMap<&'static str, Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &lists)));
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, lists: &BTreeMap<&'static str, Value>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let path = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    lines.find(String::is_empty);
    let (status, body) = match lists.get(path.as_str()) {
        Some(items) => ("200 OK", list(&path, items)),
        None => (
            "403 Forbidden",
            json!({"kind": "Status", "message": format!("{path} is not yours")}),
        ),
    };
    let body = body.to_string();
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn list(path: &str, items: &Value) -> Value {
    let (version, resource) = (
        if path.starts_with("/apis/") { "node.k8s.io/v1" } else { "v1" },
        path.rsplit('/').next().unwrap(),
    );
    let kind = match resource {
        "nodes" => "Node",
        "pods" => "Pod",
        "runtimeclasses" => "RuntimeClass",
        "namespaces" => "Namespace",
        "limitranges" => "LimitRange",
        _ => "ResourceQuota",
    };
    json!({"apiVersion": version, "kind": format!("{kind}List"), "metadata": {}, "items": items})
}

/// A cluster of one node, with a pod on it and one that has ended, and a quota in namespace `shop`.
fn lists() -> BTreeMap<&'static str, Value> {
    let pod = |name: &str, phase: &str| {
        json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}, "status": {"phase": phase},
        })
    };
    BTreeMap::from([
        (
            "/api/v1/nodes",
            json!([{"metadata": {"name": "n1", "labels": {"sandbox": "gvisor"}}, "status": {"allocatable": {"cpu": "3", "memory": "4Gi", "pods": "10"}, "runtimeHandlers": [{"name": "runsc"}]}}]),
        ),
        ("/api/v1/pods", json!([pod("old", "Running"), pod("over", "Succeeded")])),
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!([{"metadata": {"name": "gvisor"}, "handler": "runsc", "overhead": {"podFixed": {"cpu": "250m"}}}]),
        ),
        (
            "/api/v1/namespaces",
            json!([{"metadata": {"name": "default"}}, {"metadata": {"name": "shop", "annotations": {"cofferdam.dev/default-runtime-class": "gvisor"}}}]),
        ),
        ("/api/v1/limitranges", json!([])),
        (
            "/api/v1/resourcequotas",
            json!([{"metadata": {"name": "team", "namespace": "shop"}, "spec": {"hard": {"pods": "3"}}, "status": {"hard": {"pods": "3"}, "used": {"pods": "1"}}}]),
        ),
    ])
}

fn ask(lists: BTreeMap<&'static str, Value>, pods: &str, words: &str) -> Answer {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": serve(lists)}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}, {"name": "there", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    Folder::new(&[("pods.yaml", pods), ("config", &config.to_string())]).check(&format!("-f pods.yaml --kubeconfig config {words}"))
}

#[test]
fn pods_are_placed_beside_those_of_the_cluster() {
    let pods = [asking("a", "1", ""), asking("b", "1", ""), asking("c", "100m", "")].concat();
    // The context's namespace, its default class, its quota; and one pod was there.
    ask(lists(), &pods, "").prints(
        121,
        r#"NAMESPACE  POD  CLASS   HANDLER  OVERHEAD  QOS        REQUESTS   LIMITS  RESULT   NODE
shop       a    gvisor  runsc    cpu=250m  Burstable  cpu=1250m  -       placed   n1
shop       b    gvisor  runsc    cpu=250m  Burstable  cpu=1250m  -       no node  -
shop       c    -       -        -         Burstable  cpu=100m   -       refused  -

pods.yaml:8:1: no node: pod "b": 0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
pods.yaml:17:18: error: pods "c" is forbidden: exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3

3 pods: 1 placed, 1 without a node, 1 refused"#,
    );
    // Another context, another namespace.
    let told = ask(lists(), &asking("a", "1", ""), "--context there -o json").json();
    assert_eq!(
        [&told["pods"][0]["namespace"], &told["pods"][0]["class"]],
        [&json!("default"), &Value::Null]
    );
}

#[test]
fn a_class_of_the_manifests_updates_the_clusters() {
    let told = ask(
        lists(),
        &[&GVISOR.replace("runsc", "kata"), &asking("a", "1", IN_GVISOR)[..]].concat(),
        "",
    );
    told.prints_lines(
        121,
        &["pods.yaml:4:10: error: RuntimeClass.node.k8s.io \"gvisor\" is invalid: handler: Invalid value: \"kata\": field is immutable"],
    );
    let told = ask(lists(), &[GVISOR, &asking("a", "1", IN_GVISOR)].concat(), "-o json").json();
    assert_eq!(told["pods"][0]["overhead"]["memory"], "120Mi");
}

#[test]
fn what_may_not_be_listed_is_told_and_what_must_be_known_is_an_error() {
    let without = |path: &str| {
        let mut lists = lists();
        lists.remove(path);
        ask(lists, &asking("a", "1", ""), "")
    };
    for (path, note) in [
        ("/api/v1/namespaces", "no pod is refused for its namespace"),
        ("/api/v1/limitranges", "only the limit ranges of the manifests count"),
        ("/api/v1/resourcequotas", "only the quotas of the manifests count"),
    ] {
        let told = without(path);
        assert!(
            told.code == Some(0)
                && told
                    .out
                    .contains(&format!("{path} is not yours; use a user who may list and get them; {note}\n")),
            "{told:?}"
        );
    }
    for path in ["/api/v1/nodes", "/api/v1/pods", "/apis/node.k8s.io/v1/runtimeclasses"] {
        let told = without(path);
        assert!(told.code == Some(120) && told.err.contains("(403)"), "{told:?}");
    }
}
