//! Real names put in the place of `<placeholders>`: plainly into prose, quoted into commands.

use std::collections::BTreeMap;

/// Longest name that is shown, characters.
const MAX_NAME: usize = 160;

/// Placeholder to real name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    /// Names by placeholder.
    pub(crate) fn of<V: Into<String>>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        let mut names = Self::default();
        for (key, value) in pairs {
            names.set(key, value);
        }
        names
    }

    /// Sets a name, made fit for one line; an empty one is none.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = shown(&value.into(), MAX_NAME);
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }

    /// A name.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// These names, and those of `others` that are not among them.
    pub(crate) fn or(mut self, others: &Self) -> Self {
        for (key, value) in &others.0 {
            self.0.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    /// `template` with names in it; one that is not known stands in capitals, as in a usage text.
    pub(crate) fn prose(&self, template: &str) -> String {
        fill(template, |key| {
            self.get(key).map_or_else(|| key.to_ascii_uppercase(), str::to_owned)
        })
    }

    /// `template` with names in it as words of a shell.
    pub(crate) fn command(&self, template: &str) -> String {
        fill(template, |key| {
            self.get(key).and_then(word).unwrap_or_else(|| key.to_ascii_uppercase())
        })
    }
}

/// One line of at most `max` characters: control characters become spaces.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    match line.char_indices().nth(max) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// `value` as one word of a shell; `None` where it would be taken for an option.
fn word(value: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@=+,%".contains(&b);
    match value.as_bytes() {
        [] | [b'-', ..] => None,
        bytes if bytes.iter().all(|b| plain(*b)) => Some(value.to_owned()),
        _ => Some(format!("'{}'", value.replace('\'', r"'\''"))),
    }
}

/// Replaces each `<lower_case>`; all else, `<<EOF` among it, stays.
fn fill(template: &str, name: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(start) = rest.find('<') {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        match placeholder(from) {
            Some(key) => {
                out.push_str(&name(key));
                rest = &from[key.len() + 2..];
            }
            None => {
                out.push('<');
                rest = &from[1..];
            }
        }
    }
    out + rest
}

/// The placeholder at the beginning of `text`, without its brackets.
pub(crate) fn placeholder(text: &str) -> Option<&str> {
    let end = text.find('>')?;
    let key = text.get(1..end)?;
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn commands_are_quoted_and_prose_is_not() {
        let names = Names::of([("a", "x/y:1"), ("b", "it's; rm -rf /"), ("c", "--force"), ("d", "line\nbreak\u{7}")]);
        assert_eq!(
            names.command("run <a> <b> <c> <e> <<EOF"),
            r"run x/y:1 'it'\''s; rm -rf /' C E <<EOF"
        );
        assert_eq!(names.prose("<b>, <d>, <e>"), "it's; rm -rf /, line break, E");
        assert_eq!(names.prose("a < b <> <A> <"), "a < b <> <A> <");
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        names.set("a", "é".repeat(1000));
        assert_eq!(names.get("a").unwrap().chars().count(), MAX_NAME + 1);
    }
}
