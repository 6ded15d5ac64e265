//! A TOML text as a tree in which every key and value knows its place.

use crate::place::{ConfigError, Origin, Place, one_line};
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::{Item, TableLike};
use toml_parser::lexer::TokenKind;

/// Keys with their values.
pub(crate) type Table = BTreeMap<String, Node>;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where its key stands.
    pub(crate) key: Place,
    /// Where it stands itself.
    pub(crate) at: Place,
    /// Its text, on one line and cut.
    pub(crate) raw: String,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// A float or a date, which no key takes; the name of its type.
    Other(&'static str),
}

impl Node {
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            place: Some(self.key.clone()),
            value: self.raw.clone(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        if let Value::Int(n) = &self.value {
            Some(*n)
        } else {
            None
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        if let Value::Bool(b) = &self.value {
            Some(*b)
        } else {
            None
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value {
            Some(table)
        } else {
            None
        }
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = (&Node, &str)> {
        let items: &[Node] = if let Value::List(items) = &self.value {
            items
        } else {
            &[]
        };
        items.iter().filter_map(|item| Some((item, item.text()?)))
    }

    /// What its type is called, for a sentence.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Bool(_) => "a boolean",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        }
    }

    /// The value that an absent key has. Generated files spell these out, and nothing is asked by them.
    pub(crate) fn is_zero(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.is_empty(),
            Value::Int(n) => *n == 0,
            Value::Bool(b) => !b,
            Value::List(items) => items.is_empty(),
            Value::Table(table) => table.values().all(Self::is_zero),
            Value::Other(_) => false,
        }
    }
}

/// The non-empty text of `key`.
pub(crate) fn text<'a>(table: &'a Table, key: &str) -> Option<(&'a Node, &'a str)> {
    let node = table.get(key)?;
    node.text()
        .filter(|text| !text.is_empty())
        .map(|text| (node, text))
}

/// Whether `key` is there and true.
pub(crate) fn is_true(table: &Table, key: &str) -> bool {
    table.get(key).and_then(Node::flag) == Some(true)
}

/// The table of `key`.
pub(crate) fn table<'a>(table: &'a Table, key: &str) -> Option<&'a Table> {
    table.get(key)?.table()
}

/// Merges `later` into `into`: tables key by key, anything else by replacement. `replaced` hears of
/// each value that another file gives differently: the old node, then the new one.
pub(crate) fn merge(into: &mut Table, later: Table, replaced: &mut dyn FnMut(&str, &Node, &Node)) {
    for (key, node) in later {
        let Some(old) = into.get_mut(&key) else {
            into.insert(key, node);
            continue;
        };
        if let (Value::Table(old), Value::Table(_)) = (&mut old.value, &node.value) {
            if let Value::Table(new) = node.value {
                merge(old, new, replaced);
            }
            continue;
        }
        if old.raw != node.raw {
            replaced(&key, old, &node);
        }
        *old = node;
    }
}

/// Parts of one dotted key; real files have up to seven.
const MAX_KEY_PARTS: usize = 12;
/// Bytes of a line in which characters are counted.
const MAX_COUNTED: usize = 2048;
/// Tables in tables; real files have up to nine.
const MAX_DEPTH: usize = 40;

/// Parses `text`, the content of `file`.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Table, ConfigError> {
    if text.len() > crate::MAX_TEXT {
        return Err(ConfigError::TooLarge {
            file: file.to_owned(),
            bytes: text.len(),
        });
    }
    let too_deep = || ConfigError::TooDeep {
        file: file.to_owned(),
    };
    if has_long_key(text) {
        return Err(too_deep());
    }
    let reader = Reader {
        file,
        text,
        lines: line_starts(text),
    };
    let document = toml_edit::Document::parse(text).map_err(|error| ConfigError::Toml {
        place: reader.place(error.span().map_or(0, |span| span.start)),
        message: one_line(&error.message().replace('\n', ", ")),
    })?;
    reader
        .table(document.as_table(), MAX_DEPTH)
        .ok_or_else(too_deep)
}

/// Whether a key has too many parts. toml_edit bounds brackets (80) and the parts of one key (80) but
/// not their product, and 13 kB of both are enough to overflow a thread's stack; so keys are counted
/// first, with the same lexer that it parses with.
fn has_long_key(text: &str) -> bool {
    let mut parts = 0;
    toml_parser::Source::new(text).lex().any(|token| {
        match token.kind() {
            TokenKind::Dot => parts += 1,
            TokenKind::Whitespace | TokenKind::Atom => {}
            TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::MlBasicString
            | TokenKind::MlLiteralString => {}
            _ => parts = 0,
        }
        parts >= MAX_KEY_PARTS
    })
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect()
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    lines: Vec<usize>,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        // Counting to far places, again and again, would take quadratic time; they are given in bytes.
        let column = if before.len() > MAX_COUNTED {
            before.len()
        } else {
            before.chars().count()
        };
        let column = column + 1;
        Place {
            file: self.file.to_owned(),
            line,
            column,
        }
    }

    fn table(&self, table: &dyn TableLike, depth: usize) -> Option<Table> {
        let depth = depth.checked_sub(1)?;
        let mut out = Table::new();
        for (key, item) in table.iter() {
            let span = table.key(key).and_then(toml_edit::Key::span);
            let at = span
                .map(|span| span.start)
                .or_else(|| item.span().map(|span| span.start))
                .unwrap_or(0);
            out.insert(key.to_owned(), self.item(item, at, depth)?);
        }
        Some(out)
    }

    fn item(&self, item: &Item, key: usize, depth: usize) -> Option<Node> {
        if let Item::Value(value) = item {
            return self.value(value, key, depth);
        }
        let at = item.span().map_or(key, |span| span.start);
        let value = match item {
            Item::Table(table) => Value::Table(self.table(table, depth)?),
            Item::ArrayOfTables(tables) => {
                let node = |table: &toml_edit::Table| {
                    Some(self.node(key, at, None, Value::Table(self.table(table, depth)?)))
                };
                Value::List(tables.iter().map(node).collect::<Option<_>>()?)
            }
            _ => Value::Other("nothing"),
        };
        Some(self.node(key, at, None, value))
    }

    fn value(&self, value: &toml_edit::Value, key: usize, depth: usize) -> Option<Node> {
        let span = value.span();
        let at = span.as_ref().map_or(key, |span| span.start);
        let raw = span.and_then(|span| self.text.get(span));
        let value = match value {
            toml_edit::Value::String(text) => Value::Text(text.value().clone()),
            toml_edit::Value::Integer(n) => Value::Int(*n.value()),
            toml_edit::Value::Boolean(b) => Value::Bool(*b.value()),
            toml_edit::Value::Float(_) => Value::Other("a float"),
            toml_edit::Value::Datetime(_) => Value::Other("a date"),
            toml_edit::Value::InlineTable(table) => Value::Table(self.table(table, depth)?),
            toml_edit::Value::Array(array) => {
                let depth = depth.checked_sub(1)?;
                let node = |item: &toml_edit::Value| {
                    self.value(item, item.span().map_or(key, |span| span.start), depth)
                };
                Value::List(array.iter().map(node).collect::<Option<_>>()?)
            }
        };
        Some(self.node(key, at, raw, value))
    }

    fn node(&self, key: usize, at: usize, raw: Option<&str>, value: Value) -> Node {
        let cut: String = raw.unwrap_or_default().chars().take(200).collect();
        let raw = one_line(&cut.split_whitespace().collect::<Vec<_>>().join(" "));
        Node {
            key: self.place(key),
            at: self.place(at),
            raw,
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn places_are_those_of_keys_and_values() {
        let tree = parse(Path::new("/f"), "a = 1\n[b.\"c.d\"]\n  'é' = { x = 'y' }\n").unwrap();
        let at = |node: &Node| {
            (
                (node.key.line, node.key.column),
                (node.at.line, node.at.column),
            )
        };
        assert_eq!(at(&tree["a"]), ((1, 1), (1, 5)));
        let inner = table(table(&tree, "b").unwrap(), "c.d").unwrap();
        assert_eq!(at(&inner["é"]), ((3, 3), (3, 9)));
        assert_eq!(at(&table(inner, "é").unwrap()["x"]), ((3, 11), (3, 15)));
        assert_eq!(inner["é"].raw, "{ x = 'y' }");
    }

    #[test]
    fn hostile_shapes_are_refused_without_a_crash() {
        let dotted = vec!["a"; 79].join(".");
        let nested = format!("x = {}1{}", "{ a = ".repeat(60), " }".repeat(60));
        for text in [
            nested.as_str(),
            &format!("{dotted} = 1"),
            &format!("[{dotted}]"),
        ] {
            assert!(
                matches!(
                    parse(Path::new("/f"), text),
                    Err(ConfigError::TooDeep { .. })
                ),
                "{}",
                &text[..40]
            );
        }
        let arrays = format!("x = {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(parse(Path::new("/f"), &arrays).is_err());
        let large = "#".repeat(crate::MAX_TEXT + 1);
        assert!(matches!(
            parse(Path::new("/f"), &large),
            Err(ConfigError::TooLarge { .. })
        ));
        assert!(
            parse(
                Path::new("/f"),
                "x = [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]"
            )
            .is_ok()
        );
    }
}
