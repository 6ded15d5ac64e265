//! What pods can ask for, and what becomes of it under each handler: the examples are read without a
//! word, and `docs/handlers.md` is what the table says. `root_features.rs` runs every row.
//!
//! `COFFERDAM_WRITE_DOCS=1 cargo test -p cofferdam-cli --test features` writes the page anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_decide::enclosure::{Enclosure, OBJECTS, Verdict, features};
use cofferdam_manifest::{ObjectKind, decode};
use std::fmt::Write;

#[test]
fn every_example_is_read() {
    for feature in features() {
        let text = format!("{OBJECTS}---\n{}", feature.manifest());
        let decoded = decode("f", &text).unwrap_or_else(|e| panic!("{}: {}\n{text}", feature.name, e[0]));
        assert_eq!(decoded.warnings, [], "{}", feature.name);
        let ObjectKind::Pod(pod) = &decoded.objects.last().unwrap().kind else { panic!() };
        assert_eq!(pod.metadata.name, feature.name);
    }
}

#[test]
fn the_page_of_handlers_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/handlers.md");
    let page = page();
    if std::env::var_os("COFFERDAM_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/handlers.md is not what the table says; see the head of this file");
}

fn page() -> String {
    let mut out = String::from(HEAD);
    let mut sentences: Vec<&str> = Vec::new();
    for feature in features() {
        let mut cell = |kind| match feature.verdict(kind) {
            Verdict::Works => "works".to_owned(),
            Verdict::Refused(sentence) => {
                let at = sentences.iter().position(|s| *s == sentence).unwrap_or_else(|| {
                    sentences.push(sentence);
                    sentences.len() - 1
                });
                format!("refused [{0}](#r{0})", at + 1)
            }
        };
        let [shared, gvisor, vm] = Enclosure::ALL.map(&mut cell);
        let needs = feature.needs.map_or_else(String::new, |n| format!("; needs {n}"));
        let _ = writeln!(out, "| {}{needs} | {shared} | {gvisor} | {vm} |", feature.description);
    }
    out += "\n## Why\n\n";
    for (at, sentence) in sentences.iter().enumerate() {
        let _ = writeln!(out, "- <a id=\"r{0}\"></a>{0}: {sentence}", at + 1);
    }
    out += TAIL;
    out
}

const HEAD: &str = "# What works under which handler

Written by the tests, from the one table that `run` and `check` refuse by (`crates/decide/src/enclosure`). Each row under
runc, crun and gVisor is a pod that a test runs: it ends well only where the feature is honoured, or is refused with the
sentence below, by `run` and by `check` alike, before anything starts. What a manifest asks for and an enclosure would
ignore is never passed over in silence. The column of virtual machines is what their driver will answer; it is not built.

| a pod may ask for | runc, crun | gVisor | virtual machine |
| --- | --- | --- | --- |
";

const TAIL: &str = "
## Beside the table

- gVisor's containers share one kernel: memory and CPU are limited for the pod as a whole, and where a container's own
  limit has no force, the pod says so in a warning. Its kernel does not tell the memory of one container from another's.
- gVisor denies by seccomp with EPERM only. Its `RuntimeDefault` therefore allows `clone3`, which C libraries fall back
  from only with ENOSYS; other errors that a `Localhost` profile asks for are refused.
- youki 0.7 is refused for pods that ask for seccomp, which it passes over.
- What Cofferdam has for no handler is refused by the reading of the manifest, with its place: claims and volumes of
  storage classes, service account tokens, readiness gates, resource claims, container restart rules.
- Devices of extended resources (GPUs) come by CDI, from `/etc/cdi` and `/run/cdi`, or the pod is refused.
";
