//! How long ten thousand pods take to decode, how much memory, and how long their fields to find. Run it with
//! `cargo bench -p cofferdam-manifest`; it prints and asserts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::{Places, decode};
use std::fmt::Write;
use std::time::Instant;

const PODS: usize = 10_000;

/// A pod as people write them: two containers with resources, environment and ports.
fn pod(text: &mut String, at: usize) {
    write!(
        text,
        "apiVersion: v1
kind: Pod
metadata:
  name: web-{at}
  namespace: team-{}
  labels:
    app.kubernetes.io/name: web
    app.kubernetes.io/instance: web-{at}
spec:
  runtimeClassName: gvisor
  nodeSelector:
    disk: ssd
  tolerations:
  - key: sandbox
    operator: Exists
    effect: NoSchedule
  containers:
  - name: app
    image: registry.example/web:1.2.3
    args: [\"--port\", \"8080\", \"--verbose\"]
    env:
    - name: MODE
      value: production
    - name: POD
      valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}
    ports:
    - containerPort: 8080
      name: http
    resources:
      requests: {{cpu: 100m, memory: 64Mi}}
      limits: {{cpu: 500m, memory: 128Mi}}
  - name: log
    image: registry.example/log:1
    resources:
      requests: {{cpu: 10m, memory: 16Mi}}
      limits: {{cpu: 50m, memory: 32Mi}}
",
        at % 50
    )
    .unwrap();
}

/// Peak resident memory so far, MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Decodes a text, and finds a field of every pod in it.
fn measure(name: &str, text: &str) {
    let before = peak();
    let begun = Instant::now();
    let decoded = decode("many.yaml", text).unwrap_or_else(|e| panic!("{}", e[0]));
    let took = begun.elapsed();
    let (objects, size) = (decoded.objects.len(), text.len() >> 20);
    println!(
        "{name}: {objects} pods in {size} MiB of text decoded in {took:?}, peak memory {} MiB above {before} MiB",
        peak() - before
    );
    let begun = Instant::now();
    let mut places = Places::new(text);
    let found = decoded
        .objects
        .iter()
        .filter(|o| places.of_pod(o, "spec.containers[1].resources.limits[cpu]") != o.place)
        .count();
    println!("{name}: a field found in {found} of them in {:?}", begun.elapsed());
}

fn main() {
    let (mut documents, mut list) = (String::new(), "apiVersion: v1\nkind: List\nitems:\n".to_owned());
    for at in 0..PODS {
        let mut one = String::new();
        pod(&mut one, at);
        documents.push_str("---\n");
        documents.push_str(&one);
        list.push_str("- ");
        list.push_str(one.trim_end().replace('\n', "\n  ").as_str());
        list.push('\n');
    }
    measure("documents", &documents);
    measure("one list", &list);
}
