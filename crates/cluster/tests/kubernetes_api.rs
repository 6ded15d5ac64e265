//! Against a real API server. `make test-kubernetes` builds one, starts it and runs these; by hand:
//! `scripts/kubernetes/start.sh cargo test -p cofferdam-cluster --test kubernetes_api -- --ignored`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cofferdam_cluster::{Cluster, Error, Limits, Listing};
use serde_json::{Value, json};

/// A file of the folder that the server's start script made.
fn file(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("KUBERNETES_FOLDER").unwrap()).join(name)
}

fn open(kubeconfig: &str) -> Cluster {
    Cluster::open(Some(&file(kubeconfig)), None).unwrap()
}

/// kubectl as an administrator, with objects on its standard input.
fn kubectl(arguments: &[&str], objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", file("admin"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(
        done.status.success(),
        "kubectl {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn create(objects: &[Value]) {
    kubectl(&["create", "--validate=false", "-f", "-"], objects);
}

/// A namespace where pods can be created, which needs a service account.
fn namespace(name: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}),
    ]
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs a real API server: make test-kubernetes"]
fn everything_is_listed_as_it_was_created() {
    create(&namespace("shop"));
    create(&[
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"disk": "ssd"}},
               "spec": {"taints": [{"key": "sandbox", "effect": "NoSchedule"}]},
               "status": {"allocatable": {"cpu": "2", "pods": "10"}}}),
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc",
               "overhead": {"podFixed": {"cpu": "250m"}}}),
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "namespace": "shop"},
               "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "shop"},
               "spec": {"hard": {"services": "5"}}}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "shop"}, "type": "Warning",
               "reason": "FailedCreatePodSandBox", "message": "no runtime for \"x\" is configured",
               "involvedObject": {"kind": "Pod", "name": "web", "namespace": "shop"}}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "other.1", "namespace": "shop"}, "reason": "Other",
               "involvedObject": {"kind": "Pod", "name": "other", "namespace": "shop"}}),
    ]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    create(&[
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"},
                    "spec": {"runtimeClassName": "gvisor", "containers": [{"name": "c", "image": "i"}]}}),
    ]);

    let cluster = open("certificate");
    let node = cluster
        .nodes()
        .unwrap()
        .into_iter()
        .find(|n| n["metadata"]["name"] == "node-1")
        .unwrap();
    assert_eq!((&node["kind"], &node["apiVersion"]), (&json!("Node"), &json!("v1")));
    assert_eq!(node["spec"]["taints"][0]["key"], "sandbox");
    assert_eq!(node["status"]["allocatable"]["cpu"], "2");
    assert!(node["metadata"].get("managedFields").is_none());

    let classes = cluster.runtime_classes().unwrap();
    let class = classes.iter().find(|c| c["metadata"]["name"] == "gvisor").unwrap();
    assert_eq!(
        (&class["handler"], &class["apiVersion"]),
        (&json!("runsc"), &json!("node.k8s.io/v1"))
    );
    assert!(names(&cluster.namespaces().unwrap()).contains(&"shop"));
    assert_eq!(names(&cluster.limit_ranges(Some("shop")).unwrap()), ["limits"]);
    assert_eq!(names(&cluster.resource_quotas(Some("shop")).unwrap()), ["quota"]);
    assert!(names(&cluster.resource_quotas(None).unwrap()).contains(&"quota"));
    assert_eq!(names(&cluster.pods(Some("shop")).unwrap()), ["web"]);

    let events = cluster.events_of("shop", "web").unwrap();
    assert!(
        names(&events).contains(&"web.1") && !names(&events).contains(&"other.1"),
        "{events:?}"
    );

    let pod = cluster.pod("shop", "web").unwrap();
    assert_eq!(pod["spec"]["overhead"]["cpu"], "250m");
    let error = cluster.pod("shop", "gone").unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r#"does not have pod shop/gone (404): pods "gone" not found"#),
        "{error}"
    );
}

#[test]
#[ignore = "needs a real API server: make test-kubernetes"]
fn more_than_one_page() {
    create(&namespace("many"));
    let pod = |n: u32| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{n:04}"), "namespace": "many"},
               "spec": {"containers": [{"name": "c", "image": "i"}]}})
    };
    let pods: Vec<Value> = (0..1001).map(pod).collect();
    create(&pods);
    let cluster = open("admin");
    let listed = cluster.pods(Some("many")).unwrap();
    let expected: Vec<String> = (0..1001).map(|n| format!("pod-{n:04}")).collect();
    assert_eq!(names(&listed), expected);
    assert!(cluster.pods(None).unwrap().len() >= 1001);

    // Too much for a limit is told as such, after the pages before it: of limits that double, one is
    // between one page and two.
    let within = |list_bytes: u64| {
        let cluster = Cluster::open_within(
            Some(&file("admin")),
            None,
            Limits {
                list_bytes,
                ..Limits::default()
            },
        )
        .unwrap();
        let mut seen = 0;
        let end = cluster.each(&Listing::Pods { namespace: Some("many") }, |_| seen += 1);
        (end, seen)
    };
    let ends: Vec<_> = (16..30).map(|bits| (1 << bits, within(1 << bits))).collect();
    for (bytes, (end, seen)) in &ends {
        match end {
            Ok(()) => assert_eq!(*seen, 1001),
            Err(Error::TooBig { limit, .. }) => assert!(limit == bytes && *seen < 1001, "{limit}: {seen}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(ends.iter().any(|(_, (end, seen))| end.is_err() && *seen == 500));
    assert!(ends.iter().any(|(_, (end, _))| end.is_ok()));
}

#[test]
#[ignore = "needs a real API server: make test-kubernetes"]
fn who_may_not() {
    let error = open("wrong-token").nodes().unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let error = open("nobody").nodes().unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(r#"refuses the nodes (403): nodes is forbidden: User "nobody" cannot list resource "nodes""#),
        "{error}"
    );
    let error = open("wrong-authority").nodes().unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
}
