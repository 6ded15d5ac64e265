//! `cofferdam check`: needs no root, and touches nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "check/cluster.rs"]
mod cluster;
#[path = "check/failures.rs"]
mod failures;
#[path = "check/formats.rs"]
mod formats;
#[path = "check/generate.rs"]
mod generate;
#[path = "check/nodes.rs"]
mod nodes;
#[path = "check/pods.rs"]
mod pods;
#[path = "check/recorded.rs"]
mod recorded;
#[path = "check/speed.rs"]
mod speed;

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// A configuration with one handler, read beside no other.
const CONFIG: &str = "version = 1\nimport = []\n[handlers.runsc]\nbinary = \"/usr/local/bin/runsc\"\n";

/// A folder with manifests, in which commands are run.
struct Folder {
    dir: tempfile::TempDir,
}

/// What a command answered.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Folder {
    /// A folder with these files: names and texts.
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files.iter().chain(&[("config.toml", CONFIG)]) {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir }
    }

    /// `cofferdam check` with these words.
    fn check(&self, words: &str) -> Answer {
        self.check_input(words, "")
    }

    /// The same, with a standard input.
    fn check_input(&self, words: &str, input: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command
            .current_dir(self.dir.path())
            .args(["--config", "config.toml", "--root", "root", "--state", "state", "check"]);
        command
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        for state in ["root", "state"] {
            assert!(!self.dir.path().join(state).exists(), "{state} was made");
        }
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Answer {
    /// Fails unless the command ended so and printed this.
    #[track_caller]
    fn prints(&self, code: i32, expected: &str) {
        assert_eq!(self.out.trim_end(), expected.trim_end(), "\n{}\n{}", self.out, self.err);
        assert_eq!((self.code, self.err.as_str()), (Some(code), ""), "{}", self.out);
    }

    /// Fails unless the command ended so and printed these lines among others, in this order.
    #[track_caller]
    fn prints_lines(&self, code: i32, lines: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        let mut rest = self.out.as_str();
        for line in lines {
            let at = rest.find(&format!("{line}\n"));
            let at = at.unwrap_or_else(|| panic!("looked for {line:?} in:\n{}", self.out));
            rest = &rest[at..];
        }
    }

    /// Fails unless the command did not get so far, and said this.
    #[track_caller]
    fn fails(&self, saying: &str) {
        assert_eq!((self.code, self.out.as_str()), (Some(120), ""), "{}", self.err);
        assert_eq!(self.err, format!("cofferdam: {saying}\n"));
    }

    /// Standard output as JSON.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.out, self.err))
    }
}

/// A pod in default, of an image that nobody looks at.
fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{spec}  containers:\n    - {{name: c, image: i}}\n---\n")
}

/// The same, with requests.
fn asking(name: &str, cpu: &str, spec: &str) -> String {
    pod(name, spec).replace("image: i}", &format!("image: i, resources: {{requests: {{cpu: {cpu}}}}}}}"))
}

/// A node with room, labels and what else its specification says; `handlers` are those that it lists.
fn node(name: &str, cpu: u32, labels: &str, spec: &str, handlers: &[&str]) -> String {
    let handlers: Vec<_> = handlers.iter().map(|h| format!("{{name: {h:?}}}")).collect();
    let listed = if handlers.is_empty() {
        String::new()
    } else {
        format!(", runtimeHandlers: [{}]", handlers.join(", "))
    };
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {{{spec}}}\nstatus: {{allocatable: {{cpu: \"{cpu}\", memory: 4Gi, pods: \"10\"}}{listed}}}\n---\n"
    )
}

/// A class with overhead, a selector and a toleration.
const GVISOR: &str = "apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: gvisor}
handler: runsc
overhead:
  podFixed: {cpu: 250m, memory: 120Mi}
scheduling:
  nodeSelector: {sandbox: gvisor}
  tolerations:
    - {key: sandbox, operator: Exists}
---
";
/// Names [`GVISOR`].
const IN_GVISOR: &str = "  runtimeClassName: gvisor\n";
