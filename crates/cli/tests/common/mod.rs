//! One world a test: directories, configuration, bridge and subnet of its own, so that tests run
//! side by side; what it leaves behind is looked for when it ends.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod disk;
pub(crate) mod hold;
pub(crate) mod image;
pub(crate) mod traces;
pub(crate) mod web;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use traces::Traces;

/// The image that every world has.
pub(crate) const IMAGE: &str = "test/busybox:1";
/// The handlers that a complete machine has; a missing one fails tests.
pub(crate) const ALL: [&str; 3] = ["runc", "crun", "runsc"];
/// The handlers that share the machine's kernel.
pub(crate) const SHARED: [&str; 2] = ["runc", "crun"];
/// A container that runs until it is told to end, and then ends well.
pub(crate) const WAITS: &str = "trap 'exit 0' TERM; sleep 100000 & wait $!";

/// How long anything that is waited for may take; nothing that works takes as long.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(20) * slowness()
}

/// How many times slower than others this machine is: `COFFERDAM_TEST_SLOWNESS`, for an emulated one.
pub(crate) fn slowness() -> u32 {
    std::env::var("COFFERDAM_TEST_SLOWNESS").map_or(1, |n| n.parse().expect("COFFERDAM_TEST_SLOWNESS is a whole number"))
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    /// Fails unless the command ended with code 0.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Fails unless the command ended with this code and said this on standard error.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, saying: &str) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        assert!(self.err.contains(saying), "looked for {saying:?} in: {}", self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}\nstdout: {}\nstderr: {}", self.out, self.err))
    }
}

/// A world of one test.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) bridge: String,
    /// The subnet's first three numbers: `10.210.7`.
    pub(crate) net: String,
}

impl World {
    /// A world with [`IMAGE`] in it.
    pub(crate) fn new() -> Self {
        let world = Self::bare();
        world.input(&["image", "load"], image::archive()).good();
        world
    }

    /// A world without any image.
    pub(crate) fn bare() -> Self {
        // The directory is the claim on the number; paths are short, as Unix sockets want it.
        let claim = |n: &u32| fs::create_dir(format!("/run/cdt-{n}")).is_ok();
        let number = (0..4096)
            .find(claim)
            .expect("no directory can be made in /run; these tests need root");
        let dir = PathBuf::from(format!("/run/cdt-{number}"));
        let (bridge, net) = (format!("cdt{number}"), format!("10.{}.{}", 210 + number / 256, number % 256));
        let world = Self { dir, bridge, net };
        for sub in ["etc/conf.d", "out"] {
            fs::create_dir_all(world.dir.join(sub)).unwrap();
        }
        // No test asks a registry of the world outside: nobody listens on this port.
        let hub = world.dir.join("certs.d/docker.io");
        fs::create_dir_all(&hub).unwrap();
        fs::write(hub.join("hosts.toml"), "server = \"http://127.0.0.1:1\"\n").unwrap();
        world.configure("");
        world
    }

    /// Writes the configuration: the network, and `more`.
    pub(crate) fn configure(&self, more: &str) {
        let Self { bridge, net, .. } = self;
        // Nothing of the machine's own containerd or CRI-O is wanted here.
        let hosts = self.dir.join("certs.d");
        // Nor its NRI plugins.
        let nri = format!(
            "[cri.nri]\nsocket = {:?}\nplugin_dir = {:?}\n",
            self.dir.join("nri"),
            self.dir.join("plugins.d")
        );
        let network = format!("[network]\nbridge = \"{bridge}\"\nsubnet = \"{net}.0/24\"\n");
        let text = format!("import = []\n{more}\n[images]\nhosts = [{hosts:?}]\n{network}{nri}");
        fs::write(self.dir.join("etc/config.toml"), text).unwrap();
    }

    /// Writes a drop-in.
    pub(crate) fn drop_in(&self, name: &str, text: &str) {
        fs::write(self.dir.join("etc/conf.d").join(name), text).unwrap();
    }

    /// A file of the world, made executable.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A directory that pods may mount by hostPath.
    pub(crate) fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("l")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// The command, with its directories set.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("--config").arg(self.dir.join("etc/config.toml"));
        command.arg("--root").arg(self.root()).arg("--state").arg(self.state());
        command.args(args).env_remove("COFFERDAM_KILL_AT");
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Answer {
        self.input(args, b"")
    }

    /// As [`World::call`], with standard input.
    #[track_caller]
    pub(crate) fn input(&self, args: &[&str], input: &[u8]) -> Answer {
        answer(self.command(args), input)
    }

    /// `cofferdam run -f - …` of objects.
    #[track_caller]
    pub(crate) fn run(&self, objects: &[Value], flags: &[&str]) -> Answer {
        let args: Vec<&str> = ["run", "-f", "-"].iter().chain(flags).copied().collect();
        self.input(&args, manifest(objects).as_bytes())
    }

    /// Runs pods to their end: exit code and report.
    #[track_caller]
    pub(crate) fn report(&self, objects: &[Value]) -> (i32, Value) {
        let answer = self.run(objects, &["-o", "json"]);
        let report = answer.json();
        (answer.code.unwrap(), report)
    }

    /// Starts pods that go on.
    #[track_caller]
    pub(crate) fn detach(&self, objects: &[Value]) -> Answer {
        self.run(objects, &["--detach"]).good()
    }

    /// Starts the command in the foreground, for somebody to watch.
    pub(crate) fn spawn(&self, args: &[&str], input: &[u8]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child
    }

    /// `cofferdam ps -o json`.
    #[track_caller]
    pub(crate) fn ps(&self) -> Vec<Value> {
        self.call(&["ps", "-o", "json"]).good().json().as_array().unwrap().clone()
    }

    /// The pods' names and words of `ps`.
    #[track_caller]
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        self.ps().iter().map(|row| (text(&row["name"]), text(&row["status"]))).collect()
    }

    /// Runs one container under each of `handlers`, changed by `change`, and returns what each
    /// wrote as its termination message. Fails where one fails.
    #[track_caller]
    pub(crate) fn ask(&self, handlers: &[&str], script: &str, change: impl Fn(&mut Value)) -> BTreeMap<String, String> {
        let pods: Vec<Value> = handlers
            .iter()
            .map(|handler| {
                let mut pod = pod(handler, handler, &[app(script)]);
                change(&mut pod);
                pod
            })
            .collect();
        let (code, report) = self.report(&pods);
        assert_eq!(code, 0, "{}", brief(&report));
        handlers
            .iter()
            .map(|handler| ((*handler).to_owned(), message(&report, handler, "app")))
            .collect()
    }

    /// As [`World::ask`]; every handler must answer the same.
    #[track_caller]
    pub(crate) fn asserts(&self, handlers: &[&str], script: &str, want: &str, change: impl Fn(&mut Value)) {
        for (handler, got) in self.ask(handlers, script, change) {
            assert_eq!(got.trim(), want, "under {handler}");
        }
    }

    /// The ids of the pods that have a record or a run-time directory.
    pub(crate) fn pod_ids(&self) -> Vec<String> {
        let mut all: Vec<String> = [self.root(), self.state()].iter().flat_map(|d| names(&d.join("pods"))).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The process of a pod's container.
    #[track_caller]
    pub(crate) fn container_pid(&self, pod: &str) -> i64 {
        for id in self.pod_ids() {
            let dir = self.root().join("pods").join(&id);
            if read_json(&dir.join("pod.json"))["config"]["name"] != pod {
                continue;
            }
            for container in names(&dir.join("c")) {
                if let Some(pid) = read_json(&dir.join("c").join(container).join("status.json"))["pid"].as_i64() {
                    return pid;
                }
            }
        }
        panic!("pod {pod} has no container with a process");
    }

    /// The id of a pod.
    #[track_caller]
    pub(crate) fn id_of(&self, pod: &str) -> String {
        let named = |id: &String| read_json(&self.root().join("pods").join(id).join("pod.json"))["config"]["name"] == pod;
        self.pod_ids()
            .into_iter()
            .find(named)
            .unwrap_or_else(|| panic!("pod {pod} has no record"))
    }

    /// What there is of this world's pods now: processes, mounts, namespaces, cgroups, links,
    /// addresses, directories.
    pub(crate) fn traces(&self) -> Traces {
        Traces::of(self, &self.pod_ids())
    }

    /// Ends everything and fails where anything is left.
    #[track_caller]
    pub(crate) fn end(&self) {
        let traces = self.traces();
        self.call(&["stop", "--all", "--grace", "0"]).good();
        traces.assert_gone(self);
        let table = format!("cofferdam_{}", self.bridge);
        assert!(!nft_has(&table), "nftables table {table} is left");
        assert!(
            !Path::new("/sys/class/net").join(&self.bridge).exists(),
            "bridge {} is left",
            self.bridge
        );
        for dir in [
            "l/pods",
            "l/volumes",
            "l/logs",
            "l/ended",
            "l/network",
            "s/pods",
            "s/secrets",
            "s/handlers",
            "s/owners",
        ] {
            assert!(
                names(&self.dir.join(dir)).is_empty(),
                "left in {dir}: {:?}",
                names(&self.dir.join(dir))
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The failure is told already: only clean up.
            let answer = self.call(&["stop", "--all", "--grace", "0"]);
            eprintln!("after a failure, in {}: {answer:?}", self.dir.display());
        } else {
            self.end();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn answer(mut command: Command, input: &[u8]) -> Answer {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // Beside the reading: a command may write more than a pipe holds before it has read all. Whoever
    // ends without reading its input breaks the pipe.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let answer = finish(child);
    writer.join().unwrap();
    answer
}

/// Waits for a command.
#[track_caller]
pub(crate) fn finish(child: Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Answer {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The lines that a command writes, as they come.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    /// Reads a stream in a thread of its own.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            BufReader::new(stream)
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        Self(receiver)
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.up_to(text).pop().unwrap()
    }

    /// All lines up to one that contains `text`.
    #[track_caller]
    pub(crate) fn up_to(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self
                .0
                .recv_timeout(patience())
                .unwrap_or_else(|e| panic!("never said {text:?}: {e}"));
            let last = line.contains(text);
            lines.push(line);
            if last {
                return lines;
            }
        }
    }
}

/// A command that is killed where its test fails.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a pod of a run in the foreground runs; fails with the run's words where it ends before.
#[track_caller]
pub(crate) fn until_runs(world: &World, run: &mut Running, pod: &str) {
    until(&format!("{pod} runs"), || {
        if let Some(status) = run.0.try_wait().unwrap() {
            let mut said = String::new();
            run.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the run ended before, with {status}: {said}");
        }
        (world.statuses().get(pod)? == "Running").then_some(())
    });
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A class for each handler, of the handler's name; gVisor's has an overhead.
pub(crate) fn classes() -> Vec<Value> {
    let class = |name: &str| json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name});
    let mut all: Vec<Value> = ALL.iter().map(|name| class(name)).collect();
    all[2]["overhead"] = json!({"podFixed": {"cpu": "50m", "memory": "64Mi"}});
    all
}

/// A pod that runs its containers once, in a class of [`classes`].
pub(crate) fn pod(name: &str, class: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"runtimeClassName": class, "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": containers},
    })
}

/// A container of [`IMAGE`] that runs a script.
pub(crate) fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["sh", "-c", script]})
}

/// The container `app`.
pub(crate) fn app(script: &str) -> Value {
    container("app", script)
}

/// A configuration object.
pub(crate) fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut all = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    merge(&mut all, &rest);
    all
}

/// Puts the keys of `more` into `into`, deeply.
pub(crate) fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// Mounts volume `v` of this source at `/v` in the first container.
pub(crate) fn with_volume(pod: &mut Value, source: &Value) {
    let mut volume = json!({"name": "v"});
    merge(&mut volume, source);
    pod["spec"]["volumes"] = json!([volume]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
}

/// The manifest of [`classes`] and these objects.
pub(crate) fn manifest(objects: &[Value]) -> String {
    let has = |class: &Value| {
        objects
            .iter()
            .any(|o| o["kind"] == "RuntimeClass" && o["metadata"]["name"] == class["metadata"]["name"])
    };
    let classes: Vec<Value> = classes().into_iter().filter(|c| !has(c)).collect();
    classes.iter().chain(objects).map(|o| format!("{o}\n---\n")).collect()
}

/// The pod of a name in a report.
#[track_caller]
pub(crate) fn pod_in<'a>(report: &'a Value, pod: &str) -> &'a Value {
    let pods = report["pods"].as_array().unwrap();
    pods.iter()
        .find(|p| p["name"] == pod)
        .unwrap_or_else(|| panic!("no pod {pod} in {}", brief(report)))
}

/// What of a report tells why something failed.
pub(crate) fn brief(report: &Value) -> String {
    let of_pod = |pod: &Value| {
        let ends: Vec<String> = pod["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|c| format!("{} {}", c["name"], c["state"]))
            .collect();
        format!(
            "pod {} {} {} {}: {}; events {}",
            pod["name"],
            pod["phase"],
            pod["reason"],
            pod["message"],
            ends.join(", "),
            pod["events"]
        )
    };
    let pods: Vec<String> = report["pods"].as_array().into_iter().flatten().map(of_pod).collect();
    format!("{}\ndenied {}", pods.join("\n"), report["denied"])
}

/// How a container ended, in a report.
#[track_caller]
pub(crate) fn end_of<'a>(report: &'a Value, pod: &str, container: &str) -> &'a Value {
    let containers = pod_in(report, pod)["containers"].as_array().unwrap();
    let found = containers.iter().find(|c| c["name"] == container);
    &found.unwrap_or_else(|| panic!("no container {container} in {}", brief(report)))["state"]["terminated"]
}

/// The termination message of a container, in a report.
#[track_caller]
pub(crate) fn message(report: &Value, pod: &str, container: &str) -> String {
    let end = end_of(report, pod, container);
    end["message"]
        .as_str()
        .unwrap_or_else(|| panic!("{pod}/{container} has no message: {}", brief(report)))
        .to_owned()
}

/// The names in a directory; none where it is not there.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

fn read_json(path: &Path) -> Value {
    fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Whether nftables has a table of this name.
pub(crate) fn nft_has(table: &str) -> bool {
    let tables = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .expect("nft is missing; install Debian's nftables");
    String::from_utf8_lossy(&tables.stdout)
        .lines()
        .any(|line| line.trim_end().ends_with(&format!(" {table}")))
}

/// Sends a signal to a process of these tests.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
