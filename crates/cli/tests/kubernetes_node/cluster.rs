//! The node that the tests run against, by kubectl as a person drives it: a namespace a test.

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// busybox, from the registry that the scripts serve.
pub(crate) const IMAGE: &str = "127.0.0.1:5000/e2e-test-images/busybox:1.37.0-1";
/// The node's name and address.
pub(crate) const NODE: &str = "cofferdam-node";
pub(crate) const ADDRESS: &str = "192.0.2.1";
/// The handlers, each with a class of its name.
pub(crate) const CLASSES: [&str; 3] = ["crun", "runc", "gvisor"];
/// A container that runs until it is told to end, and then ends well.
pub(crate) const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";
/// How long anything that is waited for may take; nothing that works takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tests that change the node itself have it alone.
static NODE_LOCK: RwLock<()> = RwLock::new(());
static CLASSES_MADE: Once = Once::new();
static NAMESPACES: AtomicUsize = AtomicUsize::new(0);

enum Hold {
    Shared(#[allow(dead_code)] RwLockReadGuard<'static, ()>),
    Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>),
}

/// One test's namespace; it goes with the test.
pub(crate) struct Cluster {
    pub(crate) namespace: String,
    _hold: Hold,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output, trimmed; fails unless the command ended with 0.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out.trim().to_owned()
    }

    /// Fails unless the command failed and said this on standard error.
    #[track_caller]
    pub(crate) fn fails(self, saying: &str) {
        assert_ne!(self.code, 0, "it succeeded: {}", self.out);
        assert!(self.err.contains(saying), "looked for {saying:?} in: {}", self.err);
    }
}

impl Cluster {
    /// A namespace beside those of other tests.
    pub(crate) fn new() -> Self {
        Self::with(Hold::Shared(NODE_LOCK.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// A namespace while no other test runs.
    pub(crate) fn alone() -> Self {
        Self::with(Hold::Alone(NODE_LOCK.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(hold: Hold) -> Self {
        assert!(
            std::env::var_os("KUBERNETES_FOLDER").is_some(),
            "run these tests with make test-kubernetes"
        );
        let namespace = format!("test-{}-{}", std::process::id(), NAMESPACES.fetch_add(1, Ordering::Relaxed));
        let cluster = Self { namespace, _hold: hold };
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}",
            cluster.namespace
        ));
        // Once: of two that create the same class at a time, one fails.
        CLASSES_MADE.call_once(|| {
            let class =
                |name| format!("{{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {{name: {name}}}, handler: {name}}}\n---\n");
            cluster.apply(&CLASSES.map(class).concat());
        });
        cluster.until("the namespace has its service account", || {
            cluster.kubectl(&["get", "serviceaccount", "default"]).code == 0
        });
        cluster
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", &self.namespace]).args(args);
        command
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        Answer::of(self.command(args).stdin(Stdio::null()).output().expect("kubectl runs"))
    }

    /// kubectl with something to read.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Answer {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(input.as_bytes())
            .expect("kubectl reads");
        Answer::of(child.wait_with_output().expect("kubectl ends"))
    }

    /// kubectl in the background.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running(
            self.command(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("kubectl runs"),
        )
    }

    /// kubectl on a terminal of its own, which is fed.
    pub(crate) fn terminal(&self, args: &str, input: &str) -> Answer {
        let line = format!("stty rows 33 cols 77; exec kubectl --namespace {} {args}", self.namespace);
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script of Debian's bsdutils runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // What is typed before the other side's terminal is raw comes back twice, or is lost.
        for line in input.lines() {
            sleep(Duration::from_secs(2));
            writeln!(stdin, "{line}").expect("script reads");
        }
        Answer::of(child.wait_with_output().expect("script ends"))
    }

    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        self.feed(&["apply", "--filename", "-"], yaml).good();
    }

    /// An object's JSON; null where there is none.
    pub(crate) fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", what, "--output", "json"]).out).unwrap_or(Value::Null)
    }

    /// Waits until something is true; else fails, and tells how the pods are.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut good: impl FnMut() -> bool) {
        let start = Instant::now();
        while !good() {
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", self.state());
            sleep(Duration::from_millis(300));
        }
    }

    fn state(&self) -> String {
        let pods = self.kubectl(&["get", "pods", "--output", "wide"]).out;
        let events = self.kubectl(&["events", "--types", "Warning"]).out;
        format!("{pods}{events}")
    }

    #[track_caller]
    pub(crate) fn ready(&self, pods: &[&str]) {
        for pod in pods {
            self.until(&format!("pod {pod} is ready"), || {
                let pod = self.get(&format!("pod/{pod}"));
                let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            });
        }
    }

    #[track_caller]
    pub(crate) fn phase(&self, pod: &str, phase: &str) {
        self.until(&format!("pod {pod} is {phase}"), || {
            self.get(&format!("pod/{pod}"))["status"]["phase"] == phase
        });
    }

    /// Waits for an event of a pod with this reason that says this.
    #[track_caller]
    pub(crate) fn event(&self, pod: &str, reason: &str, saying: &str) {
        let select = format!("involvedObject.name={pod},reason={reason}");
        self.until(&format!("an event {reason} of {pod} says {saying:?}"), || {
            let events = self.kubectl(&[
                "get",
                "events",
                "--field-selector",
                &select,
                "--output",
                "jsonpath={.items[*].message}",
            ]);
            events.out.contains(saying)
        });
    }

    pub(crate) fn logs(&self, pod: &str) -> String {
        self.kubectl(&["logs", pod]).good()
    }

    /// Runs a line of shell in a pod.
    pub(crate) fn exec(&self, pod: &str, line: &str) -> Answer {
        self.kubectl(&["exec", pod, "--", "sh", "-c", line])
    }

    /// Pods `NAME` of one container that runs a line of shell, one for each class, named as their class.
    pub(crate) fn one_each(&self, line: &str, more: &str) {
        for class in CLASSES {
            self.apply(&pod(class, class, line, more));
        }
        self.ready(&CLASSES);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // With what it holds: the node has no room for the pods of all tests at once.
        let wait = if matches!(self._hold, Hold::Alone(_)) {
            "--wait=true"
        } else {
            "--wait=false"
        };
        self.kubectl(&["delete", "namespace", &self.namespace, wait]);
    }
}

/// A kubectl in the background, which ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod of one container, `c`; `more` is YAML of the container.
pub(crate) fn pod(name: &str, class: &str, line: &str, more: &str) -> String {
    let line = serde_json::to_string(line).expect("a string is JSON");
    let comma = if more.is_empty() { "" } else { ", " };
    let class = if class.is_empty() {
        String::new()
    } else {
        format!("runtimeClassName: {class}, ")
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{{class}terminationGracePeriodSeconds: 5, \
         containers: [{{name: c, image: '{IMAGE}', command: [sh, -c, {line}]{comma}{more}}}]}}}}\n---\n"
    )
}

/// The answer to an HTTP GET, body only, or nothing.
pub(crate) fn http(address: &str, path: &str) -> Option<String> {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).ok()?;
    all.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
