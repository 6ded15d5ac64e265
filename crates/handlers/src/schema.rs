//! Which keys a file may have, of what type, and what becomes of each.

use crate::place::{ConfigError, Level, Place, Warning};
use crate::tree::{Node, Table, Value};

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) effect: Effect,
}

/// What type a key takes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Bool,
    /// From zero to `u32::MAX`.
    Count,
    Int,
    /// An array of strings.
    Texts,
    /// A table of strings.
    TextMap,
    /// A string, boolean or integer for each key: flags of a program.
    Flags,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table of named tables, each with these keys.
    Named(&'static [Key]),
    /// Not looked at.
    Any,
}

/// What becomes of a key.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// Read by the code of its family.
    Used,
    /// A table of its own, whose keys are told of where it is read.
    Apart,
    /// About the other daemon itself, not about handlers.
    Elsewhere,
    /// Asked for and had already, in our own way: an [`Level::Info`] with this text.
    Info(&'static str),
    /// Not honoured yet; pods are not less enclosed for it. A warning.
    NotYet,
    /// Not honoured, and pods would be less enclosed than asked: handlers under it are unusable.
    Strict,
}

pub(crate) const fn key(name: &'static str, kind: Kind, effect: Effect) -> Key {
    Key { name, kind, effect }
}

/// Warnings of one file that are kept; the rest is counted.
const MAX_WARNINGS: usize = 100;
/// Names longer than this are not searched for a near miss.
const MAX_NEAR: usize = 64;

/// What is found while files are checked.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) warnings: Vec<Warning>,
    pub(crate) errors: Vec<ConfigError>,
    /// Warnings of the file at hand, kept or not.
    of_this_file: usize,
}

impl Report {
    /// A new file begins.
    pub(crate) fn begin_file(&mut self) {
        self.of_this_file = 0;
    }

    pub(crate) fn say(&mut self, level: Level, place: &Place, text: impl Into<String>) {
        self.of_this_file += 1;
        let text = match self.of_this_file {
            n if n < MAX_WARNINGS => text.into(),
            MAX_WARNINGS => "there is more to say than is worth listing".to_owned(),
            _ => return,
        };
        self.warnings.push(Warning {
            level,
            place: Some(place.clone()),
            text,
        });
    }

    pub(crate) fn warn(&mut self, place: &Place, text: impl Into<String>) {
        self.say(Level::Warning, place, text);
    }

    pub(crate) fn info(&mut self, place: &Place, text: impl Into<String>) {
        self.say(Level::Info, place, text);
    }

    pub(crate) fn bad_value(
        &mut self,
        node: &Node,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.errors.push(ConfigError::Value {
            place: node.at.clone(),
            key: key.into(),
            message: message.into(),
        });
    }

    /// Whether `check` with this report leaves errors.
    pub(crate) fn clean<T>(&mut self, check: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let before = self.errors.len();
        let value = check(self);
        (self.errors.len() == before).then_some(value)
    }
}

/// Checks the types in `table` and returns it with only the keys of `keys`, each under the name that
/// it has there. Names match without regard to case, as Go's TOML decoders match them. An unknown key
/// is a warning, a wrong type an error.
pub(crate) fn check(table: Table, keys: &'static [Key], path: &str, report: &mut Report) -> Table {
    let mut out = Table::new();
    for (name, node) in table {
        let Some(known) = keys.iter().find(|key| key.name.eq_ignore_ascii_case(&name)) else {
            unknown(&name, &node, keys, path, report);
            continue;
        };
        let full = join(path, known.name);
        if let Some(first) = out.get(known.name) {
            let first: &Node = first;
            let message = format!("is given twice, here and at {}; remove one", first.key);
            report.bad_value(&node, full, message);
            continue;
        }
        if let Some(node) = check_value(node, known, &full, report) {
            out.insert(known.name.to_owned(), node);
        }
    }
    out
}

fn check_value(node: Node, known: &Key, path: &str, report: &mut Report) -> Option<Node> {
    let expected = match known.kind {
        Kind::Any => return None,
        Kind::Text if node.text().is_some() => return Some(node),
        Kind::Text => "a string",
        Kind::Bool if node.flag().is_some() => return Some(node),
        Kind::Bool => "a boolean",
        Kind::Count if node.int().is_some_and(|n| u32::try_from(n).is_ok()) => return Some(node),
        Kind::Count => "an integer from 0 to 4294967295",
        Kind::Int if node.int().is_some() => return Some(node),
        Kind::Int => "an integer",
        Kind::Texts => match &node.value {
            Value::List(items) => {
                let wrong = items.iter().find(|item| item.text().is_none());
                return match wrong.map(|item| wrong_type(item, path, "an array of strings")) {
                    Some(error) => fail(error, report),
                    None => Some(node),
                };
            }
            _ => "an array of strings",
        },
        Kind::TextMap | Kind::Flags => match node.value {
            Value::Table(_) => return check_map(node, known.kind, path, report),
            _ => "a table",
        },
        Kind::Table(keys) => match node.value {
            Value::Table(table) => {
                let value = Value::Table(check(table, keys, path, report));
                return Some(Node { value, ..node });
            }
            _ => "a table",
        },
        Kind::Named(keys) => match node.value {
            Value::Table(table) => {
                let value = Value::Table(check_named(table, keys, path, report));
                return Some(Node { value, ..node });
            }
            _ => "a table of tables",
        },
    };
    fail(wrong_type(&node, path, expected), report)
}

fn check_named(table: Table, keys: &'static [Key], path: &str, report: &mut Report) -> Table {
    let entry = |(name, node): (String, Node)| {
        let path = join(path, &name);
        let node = check_value(
            node,
            &key("", Kind::Table(keys), Effect::Used),
            &path,
            report,
        )?;
        if let Err(error) = cofferdam_model::HandlerName::new(name.clone()) {
            let place = node.key.clone();
            return fail(
                ConfigError::Value {
                    place,
                    key: path,
                    message: format!("is not a usable handler: {error}"),
                },
                report,
            );
        }
        Some((name, node))
    };
    table.into_iter().filter_map(entry).collect()
}

fn check_map(node: Node, kind: Kind, path: &str, report: &mut Report) -> Option<Node> {
    let (allowed, expected): (fn(&Node) -> bool, _) = match kind {
        Kind::Flags => (
            |n| matches!(n.value, Value::Text(_) | Value::Bool(_) | Value::Int(_)),
            "a string, a boolean or an integer",
        ),
        _ => (|n| n.text().is_some(), "a string"),
    };
    for (name, value) in node.table().into_iter().flatten() {
        if !allowed(value) {
            return fail(wrong_type(value, &join(path, name), expected), report);
        }
    }
    Some(node)
}

fn wrong_type(node: &Node, key: &str, expected: &'static str) -> ConfigError {
    ConfigError::Type {
        place: node.at.clone(),
        key: key.to_owned(),
        expected,
        found: node.type_name(),
    }
}

fn fail<T>(error: ConfigError, report: &mut Report) -> Option<T> {
    report.errors.push(error);
    None
}

fn unknown(name: &str, node: &Node, keys: &'static [Key], path: &str, report: &mut Report) {
    if report.of_this_file > MAX_WARNINGS {
        return;
    }
    let place = if path.is_empty() {
        String::new()
    } else {
        format!(" in {path}")
    };
    let hint = match near(name, keys.iter().map(|key| key.name)) {
        Some(meant) => format!("; did you mean {meant}?"),
        None if path.is_empty() && is_handler_key(name) => {
            "; it belongs in the table of a handler, such as […containerd.runtimes.NAME]".to_owned()
        }
        None => String::new(),
    };
    report.warn(
        &node.key,
        format!("the key {name:?} is not known{place} and is not read{hint}"),
    );
}

fn is_handler_key(name: &str) -> bool {
    crate::containerd_keys::RUNTIME
        .iter()
        .any(|key| key.name == name)
}

/// The candidate that `name` was probably meant to be.
pub(crate) fn near<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| {
        text.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    if name.len() > MAX_NEAR {
        return None;
    }
    let name = plain(name);
    let allowed = (name.len() / 4).min(3);
    candidates
        .map(|candidate| (distance(&name, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut last = i + 1;
        let mut next = vec![last];
        for ((y, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            last = (diagonal + usize::from(x != y))
                .min(above + 1)
                .min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

pub(crate) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

/// Says what becomes of each key of a checked `table` that asks for something, not descending into
/// named tables, and returns why its handlers cannot be used.
pub(crate) fn effects(table: &Table, keys: &'static [Key], report: &mut Report) -> Vec<String> {
    let mut reasons = Vec::new();
    for known in keys {
        let Some(node) = table.get(known.name).filter(|node| !node.is_zero()) else {
            continue;
        };
        match known.effect {
            Effect::Used | Effect::Elsewhere => {}
            Effect::Apart => continue,
            Effect::Info(text) => report.info(&node.key, format!("{} {text}", known.name)),
            Effect::NotYet => report.warn(
                &node.key,
                format!(
                    "{} = {} is read but has no effect yet",
                    known.name, node.raw
                ),
            ),
            Effect::Strict => reasons.push(format!(
                "{} ({}) cannot be honoured yet",
                known.name, node.key
            )),
        }
        if let (Kind::Table(keys), Some(table)) = (known.kind, node.table()) {
            reasons.extend(effects(table, keys, report));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        let keys = ["runtime_type", "runtime_path", "SystemdCgroup", "root"];
        for (name, meant) in [
            ("systemd_cgroup", Some("SystemdCgroup")),
            ("runtime_typ", Some("runtime_type")),
            ("runtime-path", Some("runtime_path")),
            ("rooot", Some("root")),
            ("x", None),
            ("snapshotter", None),
        ] {
            assert_eq!(near(name, keys.into_iter()), meant, "{name}");
        }
    }
}
