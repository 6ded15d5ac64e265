//! The plugins that a pod cannot do without (upstream's `plugins/default-validator` and
//! `pkg/plugin/annotations.go`).

use crate::{Error, Options, Pod, Result};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Annotations that list plugins: upstream's, by its present and its former domain.
const KEYS: [&str; 2] = ["required-plugins.noderesource.dev", "required-plugins.nri.io"];
/// Longest annotation that is looked into, bytes.
const MAX_VALUE: usize = 16 << 10;

/// Whether the annotations may name plugins at all.
pub(crate) fn is_annotated(annotations: &BTreeMap<String, String>) -> bool {
    KEYS.iter().any(|key| {
        annotations
            .range::<str, _>((Bound::Included(*key), Bound::Unbounded))
            .next()
            .is_some_and(|(k, _)| k.starts_with(key))
    })
}

/// The plugins, as `name` or `NN-name`, that the pod, or a container of it by name, requires.
pub(crate) fn plugins(options: &Options, pod: &Pod, container: Option<&str>) -> Result<Vec<String>> {
    if let Some(key) = &options.tolerate_missing_annotation
        && let Some((key, value)) = effective(&pod.annotations, key, container)
    {
        // Go's ParseBool, as upstream has it.
        match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => return Ok(Vec::new()),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => {}
            _ => return Err(malformed(pod, &key, value, "true or false")),
        }
    }
    let mut required = options.required.clone();
    for key in KEYS {
        if let Some((key, value)) = effective(&pod.annotations, key, container) {
            let names = if value.len() <= MAX_VALUE {
                serde_saphyr::from_str(value).ok()
            } else {
                None
            };
            let names: Vec<String> = names.ok_or_else(|| malformed(pod, &key, value, "a YAML list of plugin names"))?;
            required.extend(names);
        }
    }
    Ok(required)
}

/// The annotation that counts for the container, and its key: its own, else the pod's.
fn effective<'a>(all: &'a BTreeMap<String, String>, key: &str, container: Option<&str>) -> Option<(String, &'a str)> {
    let own = container.map(|name| format!("{key}/container.{name}"));
    let keys = own.into_iter().chain([format!("{key}/pod"), key.to_owned()]);
    keys.into_iter().find_map(|key| all.get(&key).map(|value| (key, value.as_str())))
}

fn malformed(pod: &Pod, key: &str, value: &str, expected: &'static str) -> Error {
    Error::Annotation {
        key: key.to_owned(),
        pod: pod.id.clone(),
        value: value.chars().take(100).collect(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn required(annotations: &[(&str, &str)], container: Option<&str>) -> Option<Vec<String>> {
        let options = Options {
            required: vec!["always".to_owned()],
            tolerate_missing_annotation: Some("tolerate.example".to_owned()),
            ..Options::default()
        };
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        plugins(
            &options,
            &Pod {
                annotations,
                ..Pod::default()
            },
            container,
        )
        .ok()
    }

    #[test]
    fn annotations_name_plugins() {
        const NEW: &str = "required-plugins.noderesource.dev";
        const OLD: &str = "required-plugins.nri.io";
        let own = format!("{NEW}/container.web");
        let pod = format!("{NEW}/pod");
        for (annotations, container, expected) in [
            (vec![], None, Some(vec!["always"])),
            (vec![(NEW, "[a, b]")], None, Some(vec!["always", "a", "b"])),
            (vec![(NEW, "- a\n- b\n")], Some("web"), Some(vec!["always", "a", "b"])),
            (vec![(NEW, "[\"a\"]"), (OLD, "[c]")], None, Some(vec!["always", "a", "c"])),
            (vec![(NEW, "[a]"), (&pod, "[p]")], None, Some(vec!["always", "p"])),
            (vec![(&own, "[o]"), (&pod, "[p]")], Some("web"), Some(vec!["always", "o"])),
            (vec![(&own, "[o]"), (&pod, "[p]")], Some("db"), Some(vec!["always", "p"])),
            (vec![(&own, "[o]")], None, Some(vec!["always"])),
            (vec![(NEW, "{a: b}")], None, None),
            (vec![(NEW, "[")], None, None),
            (vec![("tolerate.example", "true"), (NEW, "[a]")], None, Some(vec![])),
            (vec![("tolerate.example", "false")], None, Some(vec!["always"])),
            (vec![("tolerate.example", "yes")], None, None),
        ] {
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(required(&annotations, container), expected, "{annotations:?} {container:?}");
        }
    }

    #[test]
    fn annotated_pods_are_seen() {
        let annotated = |key: &str| is_annotated(&BTreeMap::from([("a".into(), "".into()), (key.to_owned(), "".into())]));
        for key in ["required-plugins.nri.io", "required-plugins.noderesource.dev/container.web"] {
            assert!(annotated(key), "{key}");
        }
        assert!(!annotated("required-plugins"));
        assert!(!annotated("z"));
    }
}
