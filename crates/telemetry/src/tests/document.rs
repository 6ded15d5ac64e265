#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! docs/observability.md against what there is. Its tables are written by `COFFERDAM_WRITE_DOCS=1 cargo test -p
//! cofferdam-telemetry document`.

use crate::call::attribute;
use crate::metrics::families::{ALL, Kind};
use std::fmt::Write as _;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md");

fn metrics() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.name(),
            labels.join(", "),
            family.help
        );
    }
    out
}

fn fields() -> String {
    let mut out = String::from("| attribute of the span | field of the log line |\n| --- | --- |\n");
    for (attribute, field) in attribute::FIELDS {
        let _ = writeln!(out, "| `{attribute}` | `{field}` |");
    }
    out
}

/// The page with one table put between its marks.
fn with(page: &str, mark: &str, table: &str) -> String {
    let (open, close) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&open).unwrap_or_else(|| panic!("no mark {mark:?}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("no end of {mark:?}"));
    format!("{before}{open}{table}{close}{after}")
}

#[test]
fn the_page_has_every_metric_and_field() {
    let written = std::fs::read_to_string(PATH).unwrap();
    let page = with(&with(&written, "metrics", &metrics()), "fields", &fields());
    if std::env::var_os("COFFERDAM_WRITE_DOCS").is_some() {
        std::fs::write(PATH, &page).unwrap();
        return;
    }
    assert!(
        written == page,
        "docs/observability.md is not what the tables say; see the head of this file"
    );
}

#[test]
fn the_page_names_no_metric_that_is_not_there() {
    let page = std::fs::read_to_string(PATH).unwrap();
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let names: Vec<&str> = page
        .split(|char| !is_name(char))
        .filter(|word| word.starts_with("cofferdam_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > ALL.len(), "the alerts name metrics too");
    for name in names {
        let known = ALL.iter().any(|family| {
            let parts = ["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name));
            name == family.name || (family.kind == Kind::Histogram && parts.iter().any(|part| part == name))
        });
        assert!(known, "{name} is no metric");
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    for (index, family) in ALL.iter().enumerate() {
        assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
        assert!(
            family.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{}",
            family.name
        );
        assert!(
            !family.help.contains(['\n', '\\', '"', '|']) && family.help.ends_with('.'),
            "{}",
            family.help
        );
        assert!(
            ALL[..index].iter().all(|other| other.name != family.name),
            "{} stands twice",
            family.name
        );
    }
}
