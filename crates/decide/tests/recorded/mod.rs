//! The recorded cases of `tests/data`: what is asked, what was answered, and how both are compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A case that is answered otherwise, and why.
pub(crate) type Differs<'a> = (&'a str, &'a str);

/// What was asked and answered.
pub(crate) struct Case {
    /// Its path below `tests/data`, without the ending.
    pub(crate) name: String,
    /// Its YAML, comments too.
    pub(crate) text: String,
    /// The recorded answer.
    pub(crate) answer: String,
}

impl Case {
    /// Its documents, in order.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let documents = self.text.split("\n---\n");
        documents
            .map(|d| serde_saphyr::from_str(d).unwrap_or_else(|e| panic!("{}: {e}", self.name)))
            .collect()
    }
}

/// The cases of a folder.
pub(crate) fn cases(folder: &str) -> Vec<Case> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let files = fs::read_dir(data.join(folder)).unwrap().map(|f| f.unwrap().path());
    let mut cases: Vec<Case> = files
        .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
        .map(|file| Case {
            name: format!("{folder}/{}", file.file_stem().unwrap().display()),
            text: fs::read_to_string(&file).unwrap(),
            answer: fs::read_to_string(file.with_extension("txt")).unwrap(),
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A document as an object of the model.
pub(crate) fn object<T: DeserializeOwned>(document: &Value) -> Result<T, String> {
    serde_json::from_value(document.clone()).map_err(|e| e.to_string())
}

/// The name in a document's metadata.
pub(crate) fn name_of(document: &Value) -> &str {
    document["metadata"]["name"].as_str().unwrap_or_default()
}

/// Asks every case, and fails where one that is not in `differs` has another answer, or one that is
/// there has the same.
pub(crate) fn compare(cases: &[Case], differs: &[Differs<'_>], answer: impl Fn(&Case) -> Result<(), String>) {
    let mut known: BTreeMap<&str, &str> = differs.iter().copied().collect();
    assert_eq!(known.len(), differs.len(), "a case stands twice in the table");
    let mut wrong = Vec::new();
    for case in cases {
        match (known.remove(case.name.as_str()), answer(case)) {
            (None, Err(ours)) => wrong.push(format!(
                "{} differs:\n  recorded {}\n  ours     {ours}",
                case.name,
                case.answer.trim()
            )),
            (Some(_), Ok(())) => wrong.push(format!("{} is the same now: take it out of the table", case.name)),
            (Some(_), Err(_)) | (None, Ok(())) => {}
        }
    }
    wrong.extend(
        known
            .keys()
            .map(|name| format!("{name} is in the table, and there is no such case")),
    );
    let same = cases.len() - differs.len();
    assert!(
        wrong.is_empty(),
        "{}\n{} of {} cases wrong",
        wrong.join("\n"),
        wrong.len(),
        cases.len()
    );
    println!("{same} of {} cases the same", cases.len());
}
