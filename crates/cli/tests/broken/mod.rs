//! Set-ups that are broken on purpose, and asking the doctor about them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Answer, World, answer, manifest, names, pod, signal, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;

/// What the doctor is asked, and where.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    words: Vec<String>,
    input: String,
    /// Commands of a shell in mount and network namespaces of their own, in which the doctor is asked.
    before: Option<String>,
    /// Commands of a shell that put right what no world puts right by itself.
    undo: Option<String>,
}

/// About the machine.
pub(crate) fn machine() -> Asked {
    Asked::default()
}

/// About pod `p`.
pub(crate) fn pod_p() -> Asked {
    machine().with(&["p"])
}

/// About objects that are not run, from standard input.
pub(crate) fn manifests(objects: &[Value]) -> Asked {
    let mut asked = machine().with(&["-f", "-"]);
    asked.input = manifest(objects);
    asked
}

impl Asked {
    /// More words of the command line.
    pub(crate) fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|w| (*w).to_owned()));
        self
    }

    /// In namespaces of its own, after these commands; nobody else sees what they do.
    pub(crate) fn after(mut self, commands: String) -> Self {
        self.before = Some(commands);
        self
    }

    /// What is put right in the end, by these commands.
    pub(crate) fn undone_by(mut self, commands: String) -> Self {
        self.undo = Some(commands);
        self
    }

    fn ask(&self, world: &World, more: &[&str]) -> Answer {
        let words: Vec<&str> = std::iter::once("doctor")
            .chain(self.words.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        let plain = world.command(&words);
        let Some(before) = &self.before else {
            return answer(plain, self.input.as_bytes());
        };
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--propagation",
            "private",
            "sh",
            "-e",
            "-c",
            &format!("{before}\nexec \"$@\""),
            "sh",
        ]);
        command.arg(plain.get_program()).args(plain.get_args());
        answer(command, self.input.as_bytes())
    }

    /// Fails unless the doctor names this cause, and shows a person this very thing.
    #[track_caller]
    pub(crate) fn names(self, world: &World, id: &str, thing: &str) {
        let thing = thing.replace("DIR", world.dir.to_str().unwrap());
        let told = self.ask(world, &["-o", "json"]);
        let all = told.json()["findings"].as_array().unwrap().clone();
        let found = all
            .iter()
            .find(|f| f["id"] == id)
            .unwrap_or_else(|| panic!("{id} is not named: {all:#?}\n{}", told.err));
        let stops: Vec<&str> = all
            .iter()
            .filter(|f| f["severity"] == "stops-pods")
            .map(|f| f["id"].as_str().unwrap())
            .collect();
        if found["severity"] == "stops-pods" {
            // A cause that is named beside others is not named.
            assert_eq!(stops, [id], "{all:#?}");
        }
        assert_eq!(told.code, Some(i32::from(!stops.is_empty())), "{told:?}");
        let page = self.ask(world, &[]).out;
        let block: Vec<&str> = page
            .lines()
            .skip_while(|l| !l.ends_with(&format!("; {id})")))
            .take_while(|l| !l.is_empty())
            .collect();
        assert!(
            block.iter().any(|line| line.contains(&thing)),
            "a person does not read {thing:?} in\n{page}"
        );
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            // What it leaves is found by the world's own look at its end.
            let _ = Command::new("sh").args(["-c", &undo]).status();
        }
    }
}

/// Runs commands of a shell.
pub(crate) fn shell(commands: &str) {
    assert!(
        Command::new("sh").args(["-e", "-c", commands]).status().unwrap().success(),
        "{commands}"
    );
}

/// Pod `p` of one container that runs a command.
pub(crate) fn of_command(handler: &str, command: Value) -> Value {
    pod(
        "p",
        handler,
        &[json!({"name": "app", "image": crate::common::IMAGE, "command": command})],
    )
}

/// Runs objects with a pod that is expected to fail, until it is over.
#[track_caller]
pub(crate) fn fails<const N: usize>(world: &World, objects: [Value; N]) -> Asked {
    let answer = world.run(&objects, &["--detach"]);
    let over = || {
        world
            .call(&["ps", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    };
    until(&format!("the pod is over after {answer:?}"), over);
    pod_p()
}

/// A handler `own`, its class, and pod `p` of it.
pub(crate) fn own(world: &World, binary: &std::path::Path, command: Value) -> [Value; 2] {
    world.drop_in("own.toml", &format!("[handlers.own]\nbinary = {binary:?}\n"));
    [
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "own"}, "handler": "own"}),
        of_command("own", command),
    ]
}

/// A number of the record of the only pod.
#[track_caller]
pub(crate) fn recorded_pid(world: &World, key: &str) -> u32 {
    let [id] = world.pod_ids().try_into().expect("one pod");
    let path = world.root().join("pods").join(&id).join("status.json");
    let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {record}"))
        .try_into()
        .unwrap()
}

/// Kills a process, and waits until it is gone.
#[track_caller]
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    // One that is dead and not waited for has no program any more.
    until(&format!("process {pid} is gone"), || {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_err().then_some(())
    });
}

/// The process that keeps the pods of a world.
#[track_caller]
pub(crate) fn keeper_pid(world: &World) -> u32 {
    let sockets = names(&world.state().join("owners"));
    let [socket] = sockets.try_into().expect("one keeper");
    socket.trim_end_matches(".sock").parse().unwrap()
}
