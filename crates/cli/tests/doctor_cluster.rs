//! `doctor --kubeconfig`: a pod of a cluster, whose API a server here plays. Needs no root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

/// Answers each path with its object, and everything else with 403.
fn serve(objects: BTreeMap<&'static str, Value>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &objects)));
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, objects: &BTreeMap<&'static str, Value>) {
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
    let (status, body) = match objects.get(path.as_str()) {
        Some(object) => ("200 OK", object.to_string()),
        None => (
            "403 Forbidden",
            json!({"kind": "Status", "message": format!("{path} is not yours")}).to_string(),
        ),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new(server: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        std::fs::write(dir.path().join("config"), config.to_string()).unwrap();
        Self { dir }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn ask(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        let output = command
            .arg("doctor")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(words)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": format!("{kind}List"), "metadata": {}, "items": items})
}

/// Pod `shop/web` of class `gvisor`, whose node's runtime does not know the handler.
fn objects() -> BTreeMap<&'static str, Value> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {"runtimeClassName": "gvisor", "nodeName": "node-a", "containers": [{"name": "app", "image": "web:1"}]},
        "status": {"phase": "Pending"},
    });
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "shop"}, "type": "Warning",
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1"},
        "reason": "FailedCreatePodSandBox", "lastTimestamp": "2026-01-01T00:00:00Z",
        "message": "Failed to create pod sandbox: rpc error: code = Unknown desc = no runtime for \"runsc\" is configured",
    });
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"});
    BTreeMap::from([
        ("/api/v1/namespaces/shop/pods/web", pod),
        ("/api/v1/namespaces/shop/events", list("Event", &[event])),
        (
            "/apis/node.k8s.io/v1/runtimeclasses",
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClassList", "metadata": {}, "items": [class]}),
        ),
    ])
}

#[test]
fn a_pod_of_a_cluster_is_asked_about_by_its_events_and_class() {
    let home = Home::new(&serve(objects()));
    let (code, out, err) = home.ask(&["shop/web", "-o", "json"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<_> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["handler-not-found"], "{told:#}");
    let remedy = told["findings"][0]["remedy"].to_string();
    assert!(remedy.contains("kubectl get node node-a"), "{remedy}");
    // What may not be seen is said, and stops nothing.
    assert!(told["unknown"].to_string().contains("refuses the nodes (403)"), "{told:#}");
    let (_, page, _) = home.ask(&["web"]);
    assert!(
        page.starts_with("Pod shop/web: Pending\n") && page.contains("\"runsc\" is configured"),
        "{page}"
    );
}

#[test]
fn a_cluster_that_has_no_such_pod_is_an_error() {
    let home = Home::new(&serve(objects()));
    let (code, _, err) = home.ask(&["shop/other"]);
    assert_eq!(code, Some(120));
    assert!(err.contains("refuses pod shop/other"), "{err}");
    let (code, _, err) = home.ask(&[]);
    assert_eq!((code, err.contains("give NAMESPACE/POD")), (Some(120), true), "{err}");
}
