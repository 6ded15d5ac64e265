//! The runtime is killed under load, and what pods leave when they go.

use crate::cluster::{CLASSES, Cluster, NODE, WAITS, pod};
use serde_json::Value;
use std::fs::read_to_string;
use std::path::Path;

fn folder() -> String {
    std::env::var("KUBERNETES_FOLDER").unwrap()
}

fn runtime() -> i32 {
    read_to_string(format!("{}/runtime.pid", folder())).unwrap().trim().parse().unwrap()
}

/// Kills the runtime and waits until what starts it again has done so, and the node is ready again.
fn kill_the_runtime(cluster: &Cluster) {
    let pid = runtime();
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    cluster.until("the runtime was started again", || runtime() != pid);
    cluster.until("the runtime answers again", || {
        let node = cluster.get(&format!("node/{NODE}"));
        let ready = node["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        ready && cluster.exec("crun-1", "true").code == 0
    });
}

/// What must not change: who the containers are, and how often they were started.
fn identity(cluster: &Cluster, pods: &[String]) -> Vec<Value> {
    let one = |pod: &String| {
        let status = cluster.get(&format!("pod/{pod}"))["status"]["containerStatuses"][0].clone();
        serde_json::json!([pod, status["containerID"], status["restartCount"], status["state"]])
    };
    pods.iter().map(one).collect()
}

#[test]
#[ignore = "needs a node"]
fn a_killed_runtime_restarts_no_pod_and_loses_no_line() {
    let cluster = Cluster::alone();
    let counts = "n=0; trap 'exit 0' TERM; while :; do n=$((n+1)); echo $n; sleep 0.1; done";
    let pods: Vec<String> = CLASSES.iter().flat_map(|c| [format!("{c}-1"), format!("{c}-2")]).collect();
    for name in &pods {
        cluster.apply(&pod(
            name,
            name.split('-').next().unwrap(),
            counts,
            "livenessProbe: {exec: {command: ['true']}, periodSeconds: 2, failureThreshold: 10}",
        ));
    }
    let names: Vec<&str> = pods.iter().map(String::as_str).collect();
    cluster.ready(&names);
    let before = identity(&cluster, &pods);
    for round in 0..3 {
        // Load: pods come and go while it dies; one ends while nobody looks.
        let load: String = (0..6)
            .map(|n| pod(&format!("load-{round}-{n}"), CLASSES[n % 2], "sleep 1; exit 4", ""))
            .collect();
        cluster.apply(&load.replace("spec: {", "spec: {restartPolicy: Never, "));
        std::thread::sleep(std::time::Duration::from_millis(700 * (round + 1)));
        kill_the_runtime(&cluster);
        for n in 0..6 {
            let name = format!("load-{round}-{n}");
            cluster.phase(&name, "Failed");
            let ended = cluster.get(&format!("pod/{name}"))["status"]["containerStatuses"][0]["state"]["terminated"].clone();
            assert_eq!(ended["exitCode"], 4, "{name}: {ended}");
        }
    }
    assert_eq!(identity(&cluster, &pods), before);
    for pod in &pods {
        let last = || {
            cluster
                .kubectl(&["logs", pod, "--tail", "1"])
                .out
                .trim()
                .parse::<u64>()
                .unwrap_or(0)
        };
        let seen = last();
        cluster.until(&format!("the log of {pod} goes on"), || last() > seen + 10);
        let numbers: Vec<u64> = cluster.logs(pod).lines().map(|l| l.parse().unwrap()).collect();
        assert!(
            numbers.iter().copied().eq(1..=u64::try_from(numbers.len()).unwrap()),
            "{pod} lost lines: {numbers:?}"
        );
        assert_eq!(cluster.exec(pod, "echo still here").good(), "still here", "{pod}");
    }
}

/// A terminal that is open when the runtime dies ends, and the pod does not.
#[test]
#[ignore = "needs a node"]
fn an_open_stream_ends_with_the_runtime_and_the_pod_does_not() {
    let cluster = Cluster::alone();
    cluster.apply(&pod("crun-1", "crun", WAITS, ""));
    cluster.ready(&["crun-1"]);
    let before = identity(&cluster, &["crun-1".to_owned()]);
    let mut open = cluster.spawn(&["exec", "-i", "crun-1", "--", "sh", "-c", "sleep 3600"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    kill_the_runtime(&cluster);
    cluster.until("the stream ended", || open.0.try_wait().unwrap().is_some());
    assert_eq!(identity(&cluster, &["crun-1".to_owned()]), before);
}

/// Every path in the hierarchies, every mount and every process that names the pod.
fn traces(uid: &str) -> Vec<String> {
    fn walk(folder: &Path, uid: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().contains(uid) {
                    found.push(entry.path().display().to_string());
                }
                walk(&entry.path(), uid, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), uid, &mut found);
    found.extend(
        read_to_string("/proc/self/mounts")
            .unwrap()
            .lines()
            .filter(|l| l.contains(uid))
            .map(str::to_owned),
    );
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        if read_to_string(process.path().join("cgroup")).is_ok_and(|c| c.contains(uid)) {
            found.push(process.path().display().to_string());
        }
    }
    found
}

#[test]
#[ignore = "needs a node"]
fn pods_that_went_leave_nothing() {
    let cluster = Cluster::alone();
    let (mounts, links) = (
        || read_to_string("/proc/self/mounts").unwrap().lines().count(),
        || std::fs::read_dir("/sys/class/net").unwrap().count(),
    );
    // The namespaces of the tests before may still be going.
    cluster.until("the node is empty", || {
        cluster.kubectl(&["get", "pods", "--all-namespaces", "--no-headers"]).out.is_empty()
    });
    let settled = |count: &dyn Fn() -> usize| {
        let mut last = count();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_secs(1));
            last = last.min(count());
        }
        last
    };
    cluster.apply(&pod("crun", "crun", WAITS, ""));
    cluster.ready(&["crun"]);
    cluster.kubectl(&["delete", "pod", "crun", "--grace-period", "1"]).good();
    let before = (settled(&mounts), settled(&links));
    cluster.one_each(WAITS, "");
    let uids: Vec<String> = CLASSES
        .iter()
        .map(|c| cluster.get(&format!("pod/{c}"))["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect();
    for uid in &uids {
        assert!(
            !traces(uid).is_empty(),
            "the traces that are looked for are not those that there are"
        );
    }
    cluster.kubectl(&["delete", "pods", "--all", "--grace-period", "1"]).good();
    for (class, uid) in CLASSES.iter().zip(&uids) {
        cluster.until(&format!("nothing is left of {class}: {:?}", traces(uid)), || traces(uid).is_empty());
    }
    cluster.until("as many mounts and links as before", || mounts() <= before.0 && links() <= before.1);
}
