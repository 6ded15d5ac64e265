//! Manifests that a real API server was asked about: what it lets in is read, and what it cannot
//! decode is refused. The cases are `decide`'s, which holds its answers to those recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::{Purpose, decode_for};
use std::fs;
use std::path::Path;

/// The cases with an answer that begins so: name, text.
fn answered(begins: &str) -> Vec<(String, String)> {
    let admission = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decide/tests/data/admission");
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let files = entries(&admission).iter().flat_map(|group| entries(group)).collect::<Vec<_>>();
    let cases = files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml"));
    let asked = cases.filter(|f| fs::read_to_string(f.with_extension("txt")).unwrap().starts_with(begins));
    let mut all: Vec<_> = asked
        .map(|f| {
            (
                f.strip_prefix(&admission).unwrap().display().to_string(),
                fs::read_to_string(f).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

fn told(text: &str, purpose: Purpose) -> Result<Vec<String>, Vec<String>> {
    match decode_for("f", text, purpose) {
        Ok(decoded) => Ok(decoded.warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// What the server lets in and the decoder does not, and why.
const REFUSED: [(&str, &str); 3] = [
    (
        "pod/annotation-seccomp.yaml",
        "the API only warns that the annotation does nothing; who asked for a profile would get none",
    ),
    (
        "pod/grace.yaml",
        "the API takes a negative grace for one second; here such a number is refused",
    ),
    ("pod/huge-pages-medium.yaml", "the API lets it in, and no kubelet ever starts it"),
];

#[test]
fn what_the_server_lets_in_is_read() {
    let mut cases = answered("20");
    // What is updated stands in the same text, as a twin.
    cases.retain(|(_, text)| !text.contains("\n# update"));
    let refused: Vec<_> = cases
        .iter()
        .filter_map(|(name, text)| Some((name.as_str(), told(text, Purpose::Check).err()?)))
        .collect();
    let names: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
    assert!(cases.len() > 40, "{}", cases.len());
    assert_eq!(names, REFUSED.map(|(name, _)| name), "{refused:#?}");
}

#[test]
fn what_the_server_cannot_decode_is_refused() {
    let cases = answered("400");
    for purpose in [Purpose::Run, Purpose::Check] {
        let wrong: Vec<_> = cases
            .iter()
            .filter(|(_, text)| told(text, purpose).is_ok())
            .map(|(name, _)| name)
            .collect();
        assert!(wrong.is_empty() && cases.len() >= 5, "{} {wrong:#?}", cases.len());
    }
}

/// A cluster looks at these fields and Cofferdam does not: no run begins, and a check says so.
#[test]
fn what_is_not_looked_at_is_told() {
    let names = [
        "container-restart",
        "init-restart",
        "resources-claims",
    ];
    let mut cases = [answered("20"), answered("42")].concat();
    cases.retain(|(name, _)| names.iter().any(|n| *name == format!("pod/{n}.yaml")));
    assert_eq!(cases.len(), names.len());
    for (name, text) in cases {
        let refused = told(&text, Purpose::Run).unwrap_err();
        assert!(refused[0].contains(" is not supported"), "{name}: {refused:?}");
        let warned = told(&text, Purpose::Check).unwrap();
        assert!(
            warned[0].contains("is not looked at, here and wherever else it stands; a run refuses it"),
            "{name}: {warned:?}"
        );
    }
}
