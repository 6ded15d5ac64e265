//! How a row is tried: always on a state of its own.

use super::common::{Answer, World, brief, pod_in, until};
use super::image;
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
        let text = format!(
            "import = [{}]\n{more}\n[network]\nbridge = \"{bridge}\"\nsubnet = \"{net}.0/24\"\n",
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

    /// The files' own pods, which begin so, run under gVisor by this handler and serve.
    #[track_caller]
    pub(crate) fn serves(&self, files: &[usize], pods: &[&str], handler: &str) -> String {
        let world = self.world();
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
