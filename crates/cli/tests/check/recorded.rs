//! The whole way of a pod, beside what a real scheduler said of it.

use crate::Folder;
use std::fs;
use std::path::{Path, PathBuf};

/// What is answered otherwise.
const DIFFERS: [(&str, &str); 5] = [
    ("claim-missing", "volume claims are not looked at, and a warning says so"),
    ("no-nodes", "a file without nodes is refused"),
    ("preemption", "priority classes are not read, and a warning says so"),
    ("preemption-never", "the same"),
    ("preemption-not-enough", "the same"),
];

/// Name, nodes and pods that are there, the pod that is asked about, the scheduler's answer.
fn cases(kind: &str) -> Vec<(String, String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decide/tests/data").join(kind);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    let case = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let (before, pod) = text.rsplit_once("\n---\n").unwrap_or(("", &text));
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (
            name,
            before.to_owned(),
            pod.to_owned(),
            fs::read_to_string(path.with_extension("txt")).unwrap(),
        )
    };
    paths.iter().map(case).collect()
}

#[test]
fn pods_that_find_no_node_are_told_of_in_the_schedulers_words() {
    let cases = cases("failed_scheduling");
    assert!(cases.len() > 50);
    for (name, before, pod, answer) in cases {
        let told = Folder::new(&[("nodes.yaml", &before), ("pod.yaml", &pod)]).check("-f pod.yaml --nodes nodes.yaml -o json");
        let message = if told.out.is_empty() {
            told.err.clone().into()
        } else {
            told.json()["pods"][0]["message"].clone()
        };
        // One that waits for its gates does so because it asks to.
        let code = if name == "gates" { 0 } else { 119 };
        let same = message.as_str() == Some(answer.trim_end()) && told.code == Some(code);
        assert_eq!(same, DIFFERS.iter().all(|(other, _)| *other != name), "{name}: {message}\n{answer}");
    }
}

#[test]
fn pods_go_where_the_scheduler_sends_them() {
    let mut compared = 0;
    for (name, before, pod, answer) in cases("scored") {
        // Of equals the scheduler draws one by lot, and none is written down.
        let Some((_, node)) = answer.split_once("-> ") else { continue };
        let told = Folder::new(&[("nodes.yaml", &before), ("pod.yaml", &pod)]).check("-f pod.yaml --nodes nodes.yaml -o json");
        assert_eq!(told.json()["pods"][0]["node"], node.trim_end(), "{name}");
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}
