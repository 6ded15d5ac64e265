//! Whatever the text, an answer comes: objects, or errors with places in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::{Decoded, ObjectKind, Places, decode, pods_of};
use proptest::prelude::*;

const SEEDS: [&str; 5] = [
    include_str!("manifests/tiers.yaml"),
    include_str!("manifests/classes.yaml"),
    include_str!("manifests/policies.yaml"),
    include_str!("manifests/flat.yaml"),
    include_str!("manifests/first-forms.yaml"),
];

/// Pieces that mean something to YAML or to a manifest.
const PIECES: [&str; 32] = [
    "",
    " ",
    "\n",
    "\t",
    ":",
    ": ",
    "- ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "null",
    "yes",
    "0x7fffffffffffffffffffff",
    "-1",
    "1e999",
    "\u{feff}",
    "\0",
    "é",
];

fn holds(text: &str) {
    match decode("f", text) {
        Ok(Decoded { objects, warnings }) => {
            let mut places = Places::new(text);
            let lines = text.split(['\n', '\r']).count() + 1;
            for object in objects {
                assert_eq!(places.of(&object, "\u{7f}"), object.place, "an object is found again");
                for field in [
                    "metadata.name",
                    "spec.containers[0].resources.limits[cpu]",
                    "spec[",
                    "handler",
                    "..[]",
                ] {
                    assert!(places.of_pod(&object, field).line <= lines);
                }
                if let ObjectKind::Deployment(deployment) = object.kind {
                    pods_of(&deployment);
                }
            }
            for warning in warnings {
                assert!(!warning.text.is_empty());
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.split(['\n', '\r']).count() + 1;
            for error in errors {
                assert!(error.place.line <= lines, "{error} in {lines} lines");
                let told = error.to_string();
                assert!(!told.chars().any(char::is_control), "one printable line: {told:?}");
            }
        }
    }
}

/// One change of a text at a character's boundary.
fn edit(text: &mut String, at: usize, len: usize, piece: &str) {
    let floor = |mut i: usize| {
        i = i.min(text.len());
        while !text.is_char_boundary(i) {
            i -= 1;
        }
        i
    };
    let start = floor(at % (text.len() + 1));
    let end = floor(start + len).max(start);
    text.replace_range(start..end, piece);
}

/// Today's form, which a warning shows, is the same object.
fn same_today(handler: &str, note: &str) {
    let old = serde_json::json!({
        "kind": "RuntimeClass", "metadata": {"name": "a", "annotations": {"on": note}}, "spec": {"runtimeHandler": handler},
    });
    let decoded = decode("f", &old.to_string()).unwrap();
    let today = decoded.warnings[0].today.clone().unwrap();
    let again = decode("f", &today).unwrap_or_else(|e| panic!("{e:?}\n{today}"));
    assert!(again.warnings.is_empty());
    assert_eq!(again.objects[0].kind, decoded.objects[0].kind, "{today}");
}

/// Today's form has every quote that YAML 1.1 needs.
#[test]
fn todays_form_of_texts_that_yaml_takes_for_something_else() {
    let words = [
        "",
        " ",
        "y",
        "N",
        "on",
        "Off",
        "yes",
        "TRUE",
        "~",
        "null",
        "Null",
        "010",
        "08",
        "1_000",
        "0x1F",
        "0b1",
        "0o7",
        "+1",
        "-1",
        "1e3",
        ".5",
        "5.",
        ".inf",
        "-.INF",
        ".nan",
        "2001-01-01",
        "12:30:45",
        "<<",
        "=",
        "- a",
        "a: b",
        "a #b",
        "#",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "? a",
        "[a",
        "{a",
        "---",
        "...",
        "'",
        "\"",
        "a\nb",
        "\n",
        "a\n",
        " a",
        "a ",
        "\t",
        "\u{85}",
        "\u{feff}",
        "\u{1b}",
    ];
    for word in words {
        same_today(word, word);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        holds(&text);
    }

    #[test]
    fn text_of_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        holds(&pieces.concat());
    }

    #[test]
    fn damaged_manifests(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<usize>(), 0..30_usize, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let mut text = SEEDS[seed].to_owned();
        for (at, len, piece) in edits {
            edit(&mut text, at, len, piece);
        }
        holds(&text);
    }

    #[test]
    fn todays_form_of_any_text(handler in any::<String>(), note in any::<String>()) {
        same_today(&handler, &note);
    }

    /// Words of one manifest in the places of another's: every field with every kind of value.
    #[test]
    fn mixed_values(seed in 0..SEEDS.len(), line in any::<usize>(), value in prop::sample::select(&PIECES[..])) {
        let mut lines: Vec<String> = SEEDS[seed].lines().map(str::to_owned).collect();
        let line = line % lines.len();
        if let Some((key, _)) = lines[line].clone().split_once(':') {
            lines[line] = format!("{key}: {value}");
        }
        holds(&lines.join("\n"));
    }
}
