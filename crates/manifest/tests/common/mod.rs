//! What the tests share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::decode;

/// Each manifest with what is told about it.
pub(crate) fn tell(cases: &[(&str, &str)]) -> String {
    cases
        .iter()
        .map(|(name, text)| format!("== {name}\n{}\n\n{}\n", text.trim_end(), outcome(text)))
        .collect()
}

/// The errors of a text, or its warnings and objects.
pub(crate) fn outcome(text: &str) -> String {
    match decode("f.yaml", text) {
        Err(errors) => errors.iter().map(|e| format!("error: {e}\n")).collect(),
        Ok(decoded) => {
            let warnings = decoded.warnings.iter().map(|w| format!("warning: {w}\n"));
            let objects = decoded
                .objects
                .iter()
                .map(|o| format!("{}: {}\n", o.place, o.kind.subject()));
            warnings.chain(objects).collect()
        }
    }
}

/// A pod with lines of a spec before its containers, and lines of its container.
pub(crate) fn pod(spec: &str, container: &str) -> String {
    let indent = |text: &str, by: &str| text.lines().map(|l| format!("{by}{l}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{}  containers:\n  - name: app\n    image: busybox\n{}",
        indent(spec, "  "),
        indent(container, "    ")
    )
}

/// What is told of a pod, without the places: `error: ` and `warning: ` sentences; nothing where it is
/// read without a word.
pub(crate) fn told(spec: &str, container: &str) -> Vec<String> {
    let without_place = |text: String| text.split_once(" Pod \"web\": ").unwrap().1.to_owned();
    match decode("f.yaml", &pod(spec, container)) {
        Err(errors) => errors.iter().map(|e| without_place(e.to_string())).collect(),
        Ok(decoded) => decoded.warnings.iter().map(|w| format!("warning: {}", without_place(w.to_string()))).collect(),
    }
}

/// Rows of a pod's spec, its container, and the only sentence about them; of a pod that is read without
/// a word the sentence is empty.
pub(crate) fn hold(rows: &[(&str, &str, &str)]) {
    for (spec, container, sentence) in rows {
        let expected: Vec<&str> = Some(*sentence).filter(|s| !s.is_empty()).into_iter().collect();
        assert_eq!(told(spec, container), expected, "{spec} | {container}");
    }
}
