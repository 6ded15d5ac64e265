//! What five documents tell people to do with classes, by their own manifests, on a real cluster: the rows
//! of docs/documents.md that want one. Images are ours, as the node reaches no registry but its own.

use crate::cluster::{CLASSES, Cluster, IMAGE, NODE, WAITS, pod};

/// The manifests that root_documents.rs tries, too.
macro_rules! document {
    ($name:literal) => {
        include_str!(concat!("../documents/", $name, ".yaml"))
    };
}

const KATA_IS_NOT_THERE: &str = r#"no runtime for "kata-qemu" is configured"#;

/// A node with the classes of documents in place of the tests' own, whose names they take.
struct Reader(Cluster);

impl Reader {
    fn new() -> Self {
        let reader = Self(Cluster::alone());
        reader.clear();
        reader
    }

    fn clear(&self) {
        self.0.kubectl(&["delete", "runtimeclasses", "--all"]).good();
    }

    /// The columns of each line of a table.
    fn table(&self, args: &[&str]) -> Vec<Vec<String>> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        self.0.kubectl(args).good().lines().map(words).collect()
    }

    fn label(&self, label: &str) {
        self.0.kubectl(&["label", "node", NODE, "--overwrite", label]).good();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for clean in [
            [
                "label",
                "node",
                NODE,
                "runtime.kubernetes.io/gvisor-",
                "runtime.kubernetes.io/kata-",
            ],
            ["taint", "node", NODE, "sandboxed-", "--overwrite"],
            ["delete", "runtimeclasses", "--all", "--wait", "--ignore-not-found"],
        ] {
            self.0.kubectl(&clean);
        }
        let class =
            |name| format!("{{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {{name: {name}}}, handler: {name}}}\n---\n");
        self.0.feed(&["apply", "--filename", "-"], &CLASSES.map(class).concat());
    }
}

/// A document's pod or Deployment with an image that the node can have, which waits.
fn runnable(document: &str) -> String {
    let line = |line: &str| match line.split_once("image: ") {
        Some((indent, _)) => format!("{indent}image: {IMAGE}\n{indent}command: [sh, -c, \"{WAITS}\"]\n"),
        None => format!("{line}\n"),
    };
    document.lines().map(line).collect()
}

/// Rows 4 to 8, 34, 35, 51 to 57, 61 and 77.
#[test]
#[ignore = "needs a node"]
fn classes_are_made_listed_and_described() {
    let reader = Reader::new();
    reader.0.apply(document!("007-classes"));
    for list in [
        &["get", "runtimeclasses"][..],
        &["get", "runtimeclass"],
        &["get", "runtimeclasses", "-o", "wide"],
    ] {
        let table: Vec<Vec<String>> = reader.table(list).into_iter().map(|row| row[..2].to_vec()).collect();
        let expected = [
            ["NAME", "HANDLER"],
            ["gvisor", "runsc"],
            ["kata", "kata-qemu"],
            ["standard", "runc"],
        ];
        assert_eq!(table, expected, "{list:?}");
    }
    reader.0.apply(document!("016-gvisor"));
    let described = reader.0.kubectl(&["describe", "runtimeclass", "gvisor"]).good();
    for part in ["runsc", "Overhead:", "50m", "64Mi", "runtime.kubernetes.io/gvisor:", "true"] {
        assert!(described.contains(part), "{part} in {described}");
    }
    let apply = |text: &str| reader.0.feed(&["apply", "--filename", "-"], text);
    // A handler never changes; two documents, and one in itself, have two for one name.
    apply(document!("053-gvisor")).fails("field is immutable");
    let none = "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: anything}, handler: ''}";
    apply(none).fails("handler: Invalid value: \"\": a lowercase RFC 1123 label");
    reader.clear();
    for class in [
        document!("051-runc"),
        document!("052-kata"),
        document!("053-gvisor"),
        document!("059-kata"),
    ] {
        reader.0.apply(class);
    }
    let names: Vec<String> = reader
        .table(&["get", "runtimeclass", "--no-headers"])
        .into_iter()
        .map(|row| row[..2].join(" "))
        .collect();
    assert_eq!(names, ["gvisor gvisor", "kata kata", "runc runc"]);
}

/// Rows 9, 11, 13, 16, 18, 19, 21, 36 and 74.
#[test]
#[ignore = "needs a node"]
fn a_sandboxed_pod_waits_for_its_node_and_is_counted_with_its_overhead() {
    let reader = Reader::new();
    reader.0.apply(document!("011-gvisor"));
    reader.0.apply(&runnable(document!("009-sandboxed-app")));
    reader
        .0
        .event("sandboxed-app", "FailedScheduling", "didn't match Pod's node affinity/selector");
    reader.label("runtime.kubernetes.io/gvisor=true");
    reader.0.ready(&["sandboxed-app"]);
    assert!(reader.0.exec("sandboxed-app", "dmesg").good().contains("gVisor"));
    reader.0.apply(document!("021-gvisor"));
    reader.0.apply(&runnable(document!("018-overhead-example")));
    reader.0.ready(&["overhead-example"]);
    let shown = |path: &str| {
        reader
            .0
            .kubectl(&["get", "pod", "overhead-example", "-o", &format!("jsonpath={{{path}}}")])
            .good()
    };
    assert_eq!(shown(".spec.overhead"), r#"{"cpu":"50m","memory":"64Mi"}"#);
    assert_eq!(
        shown(".status.containerStatuses[0].resources"),
        r#"{"requests":{"cpu":"100m","memory":"128Mi"}}"#,
        "which the document takes for the sum"
    );
    let node = reader.0.kubectl(&["describe", "node", NODE]).good();
    let row = node.lines().find(|l| l.contains("overhead-example")).unwrap_or_default();
    assert!(row.contains("150m") && row.contains("192Mi"), "{row}");
    let handlers = reader.0.get(&format!("node/{NODE}"))["status"]["runtimeHandlers"].to_string();
    assert!(handlers.contains(r#""name":"runsc""#) && !handlers.contains("kata"), "{handlers}");
}

/// Rows 10, 12, 14, 15, 36 and 75: a class whose handler no node has is scheduled all the same, and
/// its pods never run by another.
#[test]
#[ignore = "needs a node"]
fn a_class_whose_handler_is_not_there_runs_nothing() {
    let reader = Reader::new();
    let apply = |text: &str| reader.0.feed(&["apply", "--filename", "-"], text);
    let deployment = runnable(document!("010-secure-api"));
    let one = pod("none", "kata", WAITS, "");
    apply(&one).fails(r#"RuntimeClass "kata" not found"#);
    reader.0.apply(document!("012-kata"));
    reader.label("runtime.kubernetes.io/kata=true");
    reader.0.kubectl(&["taint", "nodes", NODE, "sandboxed=kata:NoSchedule"]).good();
    reader.0.apply(&deployment);
    reader.0.apply(&pod("plain", "", WAITS, ""));
    reader.0.event("plain", "FailedScheduling", "untolerated taint");
    reader.0.until("three replicas are bound", || {
        let pods = reader.0.get("pods")["items"].as_array().cloned().unwrap_or_default();
        pods.iter().filter(|p| p["spec"]["nodeName"] == NODE).count() == 3
    });
    for row in reader.table(&["get", "pods", "--selector", "app=secure-api", "--no-headers"]) {
        reader.0.event(&row[0], "FailedCreatePodSandBox", KATA_IS_NOT_THERE);
        let described = reader.0.kubectl(&["describe", "pod", &row[0]]).good();
        assert!(described.contains(KATA_IS_NOT_THERE), "{described}");
        let status = reader.0.get(&format!("pod/{}", row[0]))["status"].clone();
        assert_eq!(
            (
                status["phase"].as_str(),
                status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str()
            ),
            (Some("Pending"), Some("ContainerCreating"))
        );
    }
}

/// Rows 30 and 43 to 45: a namespace for what nobody trusts, and one with a quota that counts overhead.
#[test]
#[ignore = "needs a node"]
fn namespaces_restrict_and_count() {
    let reader = Reader::new();
    reader.label("runtime.kubernetes.io/gvisor=true");
    reader.0.apply(document!("020-standard"));
    reader.0.apply(document!("021-gvisor"));
    reader.0.apply(document!("030-untrusted-workloads"));
    reader.0.apply(document!("043-customer-workloads"));
    let other = |namespace: &str, text: &str| reader.0.feed(&["--namespace", namespace, "apply", "--filename", "-"], text);
    for part in [document!("044-customer-quota"), document!("045-customer-limits")] {
        other("customer-workloads", part).good();
    }
    other("untrusted-workloads", &pod("p", "gvisor", WAITS, "")).fails(r#"violates PodSecurity "restricted:latest""#);
    let restricted = "securityContext: {runAsNonRoot: true, runAsUser: 1000, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}";
    other("untrusted-workloads", &pod("p", "gvisor", WAITS, restricted)).good();
    let wait = |namespace: &str, pod: &str| {
        reader
            .0
            .kubectl(&[
                "--namespace",
                namespace,
                "wait",
                "--for",
                "condition=Ready",
                "--timeout",
                "100s",
                &format!("pod/{pod}"),
            ])
            .good()
    };
    wait("untrusted-workloads", "p");
    let greedy = "resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: 200m, memory: 40Gi}}";
    other("customer-workloads", &pod("greedy", "gvisor", WAITS, greedy)).fails("exceeded quota: customer-quota");
    other("customer-workloads", &pod("p", "gvisor", WAITS, "")).good();
    wait("customer-workloads", "p");
    let quota = reader
        .0
        .kubectl(&["--namespace", "customer-workloads", "get", "quota", "customer-quota", "-o", "json"])
        .good();
    let used = serde_json::from_str::<serde_json::Value>(&quota).unwrap()["status"]["used"].clone();
    // The limit range's 200m and 256Mi, and the class's 50m and 64Mi.
    assert_eq!(
        (used["limits.cpu"].as_str(), used["limits.memory"].as_str()),
        (Some("250m"), Some("320Mi")),
        "{used}"
    );
    for namespace in ["untrusted-workloads", "customer-workloads"] {
        reader.0.kubectl(&["delete", "namespace", namespace]).good();
    }
}
