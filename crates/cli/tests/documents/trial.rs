//! How a row is tried: always on a state of its own.

use super::common::{Answer, World, brief, pod_in, until};
use super::image;
use super::mirror::Mirror;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What arrived of the proposal's first class and of its Deployment.
pub(crate) const LOST_CLASS: &str = "kind: RuntimeClass\n    name: native\n    runtimeHandler: runc\n";
pub(crate) const LOST_DEPLOYMENT: &str =
    "apiVersion: extensions/v1beta1\nkind: Deployment\n  name: sandboxed-nginx\n  replicas: 2\n      app: sandboxed-nginx\n";
const PROBE: &str = "uname -r > /dev/termination-log";

/// Whose kernel a container must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The machine's.
    Machine,
    /// gVisor's.
    Gvisor,
}

/// The folder of the rows' files.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents")
}

/// The file of a row.
#[track_caller]
pub(crate) fn file(row: usize) -> PathBuf {
    let begin = format!("{row:03}-");
    let mut names = super::common::names(&folder()).into_iter().filter(|name| name.starts_with(&begin));
    let name = names.next().unwrap_or_else(|| panic!("row {row} has no file"));
    assert_eq!(names.next(), None, "row {row} has two files");
    folder().join(name)
}

/// A configuration, and what is done under it. Each method makes a world of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    imports: Vec<PathBuf>,
    more: String,
}

impl Trial {
    /// With the configuration fragments of these rows, and no other.
    pub(crate) fn with(&self, rows: &[usize]) -> Self {
        self.importing(rows.iter().map(|row| file(*row)).collect())
    }

    /// With these files of containerd or CRI-O.
    pub(crate) fn importing(&self, imports: Vec<PathBuf>) -> Self {
        Self { imports, ..self.clone() }
    }

    /// With this in our own configuration.
    pub(crate) fn having(&self, more: &str) -> Self {
        Self {
            more: more.to_owned(),
            ..self.clone()
        }
    }

    /// A world without images.
    pub(crate) fn bare(&self) -> World {
        let world = World::bare();
        let imports: Vec<String> = self.imports.iter().map(|path| format!("{path:?}")).collect();
        let (bridge, net, more) = (&world.bridge, &world.net, &self.more);
        // No registry of the world outside is asked.
        let hosts = world.dir.join("certs.d");
        let text = format!(
            "import = [{}]\n{more}\n[images]\nhosts = [{hosts:?}]\n[network]\nbridge = \"{bridge}\"\nsubnet = \"{net}.0/24\"\n",
            imports.join(", ")
        );
        fs::write(world.dir.join("etc/config.toml"), text).unwrap();
        world
    }

    /// A world with the images of the documents.
    pub(crate) fn world(&self) -> World {
        let world = self.bare();
        world.input(&["image", "load"], image::archive()).good();
        world
    }

    /// A pod of this class runs under this handler.
    #[track_caller]
    pub(crate) fn ran(&self, files: &[usize], class: &str, handler: &str, kernel: Kernel) -> String {
        let world = self.world();
        let (said, report) = run(&world, files, &[probe(class)], 0);
        assert_eq!(pod_in(&report, "probe")["class"], class);
        ended_under(&report, "probe", handler, kernel);
        said
    }

    /// As [`Trial::ran`], with a class of the test's own.
    #[track_caller]
    pub(crate) fn ran_own(&self, class: &str, handler: &str, kernel: Kernel) -> String {
        let own = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": class}, "handler": handler});
        let (said, report) = run(&self.world(), &[], &[own, probe(class)], 0);
        ended_under(&report, "probe", handler, kernel);
        said
    }

    /// The files' own pods run to their end, this one under this handler.
    #[track_caller]
    pub(crate) fn ended(&self, files: &[usize], pod: &str, handler: &str, kernel: Kernel) -> String {
        let (said, report) = run(&self.world(), files, &[], 0);
        ended_under(&report, pod, handler, kernel);
        said
    }

    /// The files' own pods, which begin so, run under gVisor by this handler, from images that they pull
    /// by the names that they are written with, and serve.
    #[track_caller]
    pub(crate) fn serves(&self, files: &[usize], pods: &[&str], handler: &str) -> String {
        let world = self.bare();
        let _mirror = Mirror::of(&world);
        let said = up(&world, files);
        let rows = world.ps();
        assert_eq!(rows.len(), pods.len(), "{rows:?}");
        for (row, begin) in rows.iter().zip(pods) {
            let name = row["name"].as_str().unwrap();
            assert!(name.starts_with(begin), "{name}");
            assert_eq!(
                (row["handler"].as_str(), row["status"].as_str()),
                (Some(handler), Some("Running")),
                "{name}"
            );
            until("it serves", || {
                let got = world.call(&["exec", name, "--", "wget", "-qO-", "http://127.0.0.1/"]);
                (got.out == image::SERVED).then_some(())
            });
            let kernel = world.call(&["exec", name, "--", "busybox", "dmesg"]).good().out;
            assert!(kernel.contains("Starting gVisor"), "{kernel}");
        }
        said
    }

    /// A pod of this class is not started, because of its handler.
    #[track_caller]
    pub(crate) fn unavailable(&self, files: &[usize], class: &str, handler: &str) -> String {
        let (said, report) = run(&self.bare(), files, &[probe(class)], 125);
        let pod = pod_in(&report, "probe");
        assert_eq!((pod["class"].as_str(), pod["handler"].as_str()), (Some(class), Some(handler)));
        not_begun(&report, 1);
        said
    }

    /// None of the files' own pods, of which there are so many, is started, because of the handler.
    #[track_caller]
    pub(crate) fn none_of(&self, files: &[usize], pods: usize) -> String {
        let (said, report) = run(&self.bare(), files, &[], 125);
        not_begun(&report, pods);
        said
    }

    /// The files' own pod is not admitted.
    #[track_caller]
    pub(crate) fn denied(&self, files: &[usize], objects: &[Value]) -> String {
        let (said, report) = run(&self.bare(), files, objects, 121);
        assert_eq!(
            (report["pods"].as_array().unwrap().len(), report["denied"].as_array().unwrap().len()),
            (0, 1),
            "{}",
            brief(&report)
        );
        said
    }

    /// The files are refused before anything is made.
    #[track_caller]
    pub(crate) fn undecoded(&self, files: &[usize]) -> String {
        self.refused(&files.iter().map(|row| file(*row)).collect::<Vec<_>>(), "")
    }

    /// A text is refused before anything is made.
    #[track_caller]
    pub(crate) fn lost(&self, text: &str) -> String {
        self.refused(&["-".into()], text)
    }

    /// The file of a row without its indentation is refused.
    #[track_caller]
    pub(crate) fn flat(&self, row: usize) -> String {
        let text = fs::read_to_string(file(row)).unwrap();
        let flat: Vec<&str> = text.lines().map(str::trim_start).collect();
        self.lost(&flat.join("\n"))
    }

    #[track_caller]
    fn refused(&self, files: &[PathBuf], input: &str) -> String {
        let world = self.bare();
        let answer = call(&world, files, &["-o", "json"], input);
        assert_eq!(answer.code, Some(120), "{answer:?}");
        assert!(world.pod_ids().is_empty(), "something was made");
        answer.err
    }

    /// These handlers are listed with these binaries, and are not proved.
    #[track_caller]
    pub(crate) fn listed_unproved(&self, handlers: &[(&str, &str)]) -> String {
        let answer = self.bare().call(&["handlers", "-o", "json"]).good();
        for (name, binary) in handlers {
            let row = handler(&answer.json(), name);
            assert_eq!(row["binary"], *binary, "{name}");
            assert!(row["unproved"].is_string(), "{name}: {row}");
        }
        said(&answer)
    }

    /// The fragment of a row without its first line, which arrived without it: no handler is made of it.
    #[track_caller]
    pub(crate) fn without_its_table(&self, row: usize) -> String {
        let world = self.bare();
        let text = fs::read_to_string(file(row)).unwrap();
        let path = world.dir.join("fragment.toml");
        fs::write(&path, text.split_once('\n').unwrap().1).unwrap();
        let answer = self.importing(vec![path]).bare().call(&["config"]).good();
        assert!(!answer.out.contains("kata"), "{}", answer.out);
        answer.err
    }

    /// `check` of the files of rows and of `objects`, on these nodes where there are any: the exit
    /// code, everything that it told, for people too, and its report.
    #[track_caller]
    pub(crate) fn check(&self, files: &[usize], objects: &[Value], nodes: &[Value], code: i32) -> (String, Value) {
        let world = self.bare();
        let list = world.dir.join("nodes.json");
        fs::write(&list, json!({"apiVersion": "v1", "kind": "List", "items": nodes}).to_string()).unwrap();
        let mut flags = vec!["--verbose"];
        flags.extend(
            (!nodes.is_empty())
                .then_some(["--nodes", list.to_str().unwrap()])
                .into_iter()
                .flatten(),
        );
        let page = over(&world, "check", files, objects, &flags);
        flags.extend(["-o", "json"]);
        let report = over(&world, "check", files, objects, &flags);
        assert_eq!((page.code, report.code), (Some(code), Some(code)), "{page:?}");
        (page.err.clone() + &page.out + &said(&report), report.json())
    }

    /// `check` finds the files of rows right, and lists these classes.
    #[track_caller]
    pub(crate) fn classes_are_right(&self, files: &[usize], names: &[&str]) -> String {
        let (said, report) = self.check(files, &[], &[], 0);
        let listed: Vec<&Value> = report["objects"].as_array().unwrap().iter().map(|o| &o["name"]).collect();
        assert_eq!(listed, names, "{report:#}");
        said
    }

    /// `check` places the files' own pods on one of these nodes.
    #[track_caller]
    pub(crate) fn lands(&self, files: &[usize], nodes: &[Value], on: &[&str]) -> String {
        let (said, report) = self.check(files, &[], nodes, 0);
        let pods = report["pods"].as_array().unwrap();
        let well = |pod: &Value| on.contains(&pod["node"].as_str().unwrap_or_default());
        assert!(!pods.is_empty() && pods.iter().all(well), "{report:#}");
        said
    }

    /// `check` finds a node for none of the files' own pods and `objects`.
    #[track_caller]
    pub(crate) fn lands_nowhere(&self, files: &[usize], objects: &[Value], nodes: &[Value]) -> String {
        let (said, report) = self.check(files, objects, nodes, 119);
        let pods = report["pods"].as_array().unwrap();
        assert!(!pods.is_empty() && pods.iter().all(|pod| pod["node"].is_null()), "{report:#}");
        said
    }

    /// The doctor, asked about this machine, finds this of this handler.
    #[track_caller]
    pub(crate) fn doctor_finds(&self, id: &str, handler: &str) -> String {
        diagnosed(&self.bare().call(&["doctor", "-o", "json"]), id, handler)
    }

    /// `try` of the files of rows: what it told, and each try by handler.
    #[track_caller]
    pub(crate) fn tried(&self, files: &[usize], objects: &[Value], flags: &[&str], code: i32) -> (String, Value) {
        let flags = [&["--handler", "runc", "--handler", "runsc", "-o", "json"], flags].concat();
        let answer = over(&self.world(), "try", files, objects, &flags);
        assert_eq!(answer.code, Some(code), "{answer:?}");
        (said(&answer), answer.json()["pods"][0]["trials"].clone())
    }

    /// The configuration of these rows has these handlers, and each is listed.
    #[track_caller]
    pub(crate) fn lists(&self, handlers: &[&str]) -> String {
        let world = self.bare();
        let table = world.call(&["config", "-o", "json"]).good().json();
        let listed = world.call(&["handlers", "-o", "json"]).good();
        for name in handlers {
            assert!(table["handlers"][name].is_object(), "{name}: {table:#}");
            handler(&listed.json(), name);
        }
        said(&listed)
    }

    /// What a command says of itself.
    #[track_caller]
    pub(crate) fn help(&self, command: &str) -> String {
        self.bare().call(&[command, "--help"]).good().out
    }

    /// What an install into an empty folder would do.
    #[track_caller]
    pub(crate) fn installs(&self) -> String {
        let world = self.bare();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(["install", "--dry-run", "--root-dir"]).arg(&world.dir);
        super::common::answer(command, b"").good().out
    }

    /// A command that does not exist yet.
    #[track_caller]
    pub(crate) fn unknown(&self, command: &str) -> String {
        let answer = self.bare().call(&[command]);
        assert_eq!(answer.code, Some(120), "{answer:?}");
        answer.err
    }
}

/// A pod that tells which kernel it sees.
pub(crate) fn probe(class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
        "spec": {"runtimeClassName": class, "restartPolicy": "Never",
            "containers": [{"name": "app", "image": "nginx:latest", "command": ["sh", "-c", PROBE]}]},
    })
}

/// Runs the files of rows and `objects` to their end: all that was said, and the report.
#[track_caller]
pub(crate) fn run(world: &World, files: &[usize], objects: &[Value], code: i32) -> (String, Value) {
    let mut files: Vec<PathBuf> = files.iter().map(|row| file(*row)).collect();
    files.extend((!objects.is_empty()).then(|| "-".into()));
    let input: String = objects.iter().map(|o| format!("{o}\n---\n")).collect();
    let answer = call(world, &files, &["-o", "json"], &input);
    assert_eq!(answer.code, Some(code), "{answer:?}");
    (said(&answer), answer.json())
}

/// Starts the files of rows, whose pods go on.
#[track_caller]
pub(crate) fn up(world: &World, files: &[usize]) -> String {
    let files: Vec<PathBuf> = files.iter().map(|row| file(*row)).collect();
    said(&call(world, &files, &["--detach"], "").good())
}

/// Starts the files of rows, whose pods do not start.
#[track_caller]
pub(crate) fn not_started(world: &World, files: &[usize]) -> String {
    let answer = over(world, "run", files, &[], &["--detach"]);
    assert_eq!(answer.code, Some(125), "{answer:?}");
    said(&answer)
}

/// A command on the files of rows and on `objects`.
#[track_caller]
fn over(world: &World, command: &str, files: &[usize], objects: &[Value], flags: &[&str]) -> Answer {
    let files: Vec<PathBuf> = files.iter().map(|row| file(*row)).collect();
    let mut args = vec![command];
    for file in &files {
        args.extend(["-f", file.to_str().unwrap()]);
    }
    args.extend((!objects.is_empty()).then_some(["-f", "-"]).into_iter().flatten());
    args.extend(flags);
    world.input(&args, super::common::manifest(objects).as_bytes())
}

/// A diagnosis in an answer of the doctor's in JSON, which must be of this subject.
#[track_caller]
pub(crate) fn diagnosed(answer: &Answer, id: &str, subject: &str) -> String {
    let told = answer.json();
    let found = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["id"] == id && f.to_string().contains(subject));
    assert!(found.is_some(), "no {id} of {subject} in {told:#}");
    said(answer)
}

/// The doctor on the files of rows.
#[track_caller]
pub(crate) fn doctor_on(world: &World, files: &[usize], id: &str, subject: &str) -> String {
    diagnosed(&over(world, "doctor", files, &[], &["-o", "json"]), id, subject)
}

/// A node with these handlers, as `kubectl get -o json` prints one; without any it does not report them.
pub(crate) fn node(name: &str, handlers: &[&str]) -> Value {
    let handlers: Vec<Value> = handlers.iter().map(|name| json!({"name": name})).collect();
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    if !handlers.is_empty() {
        node["status"]["runtimeHandlers"] = json!(handlers);
    }
    node
}

/// The four workers of the first document after the commands of rows 13 to 15, up to this one.
pub(crate) fn workers(row: usize) -> Vec<Value> {
    let worker = |number: usize| {
        let (name, handler) = if number < 3 { ("gvisor", "runsc") } else { ("kata", "kata-qemu") };
        let mut node = node(&format!("worker-{number}"), &["runc", handler]);
        if row >= 13 + usize::from(number > 2) {
            node["metadata"]["labels"][format!("runtime.kubernetes.io/{name}")] = json!("true");
        }
        if row >= 15 && number > 2 {
            node["spec"]["taints"] = json!([{"key": "sandboxed", "value": "kata", "effect": "NoSchedule"}]);
        }
        node
    };
    (1..=4).map(worker).collect()
}

#[track_caller]
fn call(world: &World, files: &[PathBuf], flags: &[&str], input: &str) -> Answer {
    let mut args = vec!["run"];
    for file in files {
        args.extend(["-f", file.to_str().unwrap()]);
    }
    args.extend(flags);
    world.input(&args, input.as_bytes())
}

/// Everything that a command said: what it wrote, and the texts of its report.
pub(crate) fn said(answer: &Answer) -> String {
    let mut all = answer.err.clone();
    match serde_json::from_str(&answer.out) {
        Ok(report) => texts(&report, &mut all),
        Err(_) => all.push_str(&answer.out),
    }
    all.push('\n');
    all
}

fn texts(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, into)),
        _ => {}
    }
}

/// The handler of a name in `handlers -o json`.
#[track_caller]
pub(crate) fn handler(listed: &Value, name: &str) -> Value {
    let found = listed.as_array().unwrap().iter().find(|h| h["name"] == name);
    found.unwrap_or_else(|| panic!("no handler {name} in {listed}")).clone()
}

#[track_caller]
fn not_begun(report: &Value, pods: usize) {
    let all = report["pods"].as_array().unwrap();
    assert_eq!(all.len(), pods, "{}", brief(report));
    for pod in all {
        assert_eq!(
            (&pod["reason"], &pod["began"]),
            (&json!("HandlerUnavailable"), &json!(false)),
            "{}",
            brief(report)
        );
    }
}

/// A pod of a report had this handler, and its container told that it saw this kernel.
#[track_caller]
pub(crate) fn ended_under(report: &Value, pod: &str, handler: &str, kernel: Kernel) {
    assert_eq!(pod_in(report, pod)["handler"], handler);
    let machine = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let seen = super::common::message(report, pod, "app");
    assert_eq!(seen.trim() == machine.trim(), kernel == Kernel::Machine, "{pod} saw {seen}");
}
