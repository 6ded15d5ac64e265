//! Patterns of error texts: literal text, `<name>` for what is taken out of it, `<_>` for anything
//! between. Letters match without regard to case.

use crate::names::placeholder;

/// Longest text that one `<name>` takes, bytes.
const MAX_TAKEN: usize = 300;
/// Longest text that one `<_>` skips, bytes.
const MAX_SKIPPED: usize = 2000;
/// Names that are one word. One at the beginning of a pattern takes the last word before what follows.
const WORDS: [&str; 4] = ["host", "link", "plugin", "helper"];
/// How many places of a literal are tried.
const MAX_TRIES: usize = 16;

/// What a `<name>` took.
pub(crate) type Taken<'t> = Vec<(&'static str, &'t str)>;

/// A text made ready to be matched.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    lower: String,
}

impl Text {
    /// Cuts `text` at `max` bytes, undoes escaped quotes (events quote errors that quote names), and
    /// makes it one line.
    pub(crate) fn new(text: &str, max: usize) -> Self {
        let mut end = text.len().min(max);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut out = String::with_capacity(end);
        for c in text[..end].chars() {
            if c == '"' {
                while out.ends_with('\\') {
                    out.pop();
                }
            }
            out.push(if c.is_control() { ' ' } else { c });
        }
        let lower = out.to_ascii_lowercase();
        Self { text: out, lower }
    }

    /// As it was, on one line.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `phrase` is in it.
    pub(crate) fn has(&self, phrase: &str) -> bool {
        self.lower.contains(&phrase.to_ascii_lowercase())
    }

    /// What `pattern` takes out of it; `None` where it does not match.
    pub(crate) fn take(&self, pattern: &'static str) -> Option<Taken<'_>> {
        let parts = parts(pattern);
        let mut taken = Vec::new();
        self.walk(&parts, 0, None, &mut taken).then_some(taken)
    }

    /// Matches `parts` from `at`; `gap` is the placeholder before them, which takes what is between.
    fn walk<'t>(&'t self, parts: &[Part], at: usize, gap: Option<&'static str>, taken: &mut Taken<'t>) -> bool {
        let Some((part, rest)) = parts.split_first() else {
            return gap.is_none_or(|name| self.take_word(name, at, taken));
        };
        let literal = match part {
            Part::Name(name) => return self.walk(rest, at, Some(name), taken),
            Part::Literal(literal) => literal.as_str(),
        };
        let reach = match gap {
            None if at == 0 => usize::MAX,
            None => 0,
            Some("_") => MAX_SKIPPED,
            Some(name) if at == 0 && WORDS.contains(&name) => MAX_SKIPPED,
            Some(_) => MAX_TAKEN,
        };
        let mut from = at;
        for _ in 0..MAX_TRIES {
            let Some(found) = self.lower.get(from..).and_then(|t| t.find(literal)).map(|f| f + from) else {
                return false;
            };
            if found - at > reach {
                return false;
            }
            let kept = taken.len();
            if self.keep(gap, at, found, taken) && self.walk(rest, found + literal.len(), None, taken) {
                return true;
            }
            taken.truncate(kept);
            from = found + literal.len();
        }
        false
    }

    /// Keeps what is between two literals; a name takes at least one character.
    fn keep<'t>(&'t self, gap: Option<&'static str>, from: usize, to: usize, taken: &mut Taken<'t>) -> bool {
        let Some(name) = gap.filter(|name| *name != "_") else { return true };
        let mut value = self.text.get(from..to).unwrap_or_default().trim();
        if WORDS.contains(&name) {
            let last = value.rsplit(char::is_whitespace).next().unwrap_or_default();
            if from > 0 && last != value {
                return false;
            }
            value = last;
        }
        if !value.is_empty() {
            taken.push((name, value));
        }
        !value.is_empty()
    }

    /// A name at the end of a pattern takes one word.
    fn take_word<'t>(&'t self, name: &'static str, at: usize, taken: &mut Taken<'t>) -> bool {
        let rest = self.text.get(at..).unwrap_or_default();
        let end = rest
            .find(|c: char| c.is_whitespace() || "\"'`,;)]".contains(c))
            .unwrap_or(rest.len());
        let value = rest[..end].trim_end_matches(['.', ':']);
        if name != "_" && !value.is_empty() && value.len() <= MAX_TAKEN {
            taken.push((name, value));
        }
        name == "_" || !value.is_empty()
    }
}

enum Part {
    Literal(String),
    Name(&'static str),
}

fn parts(pattern: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        match placeholder(rest).filter(|_| c == '<') {
            Some(name) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Name(name));
                rest = &rest[name.len() + 2..];
            }
            None => {
                literal.push(c.to_ascii_lowercase());
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_and_take() {
        type Row = (&'static str, &'static str, Option<&'static [(&'static str, &'static str)]>);
        let rows: &[Row] = &[
            (
                "no runtime for \"<handler>\" is configured",
                "x: no runtime for \\\"runsc\\\" is configured",
                Some(&[("handler", "runsc")]),
            ),
            ("No Runtime", "NO RUNTIME", Some(&[])),
            ("a <x> c", "a b c", Some(&[("x", "b")])),
            ("a <x> c", "a  c", None),
            ("a <x> c", "a b d", None),
            ("one <_> two <x>", "one, and then two words.", None),
            ("one<_>two <x>", "one, and then two words.", Some(&[("x", "words")])),
            ("one<_>two", "two one", None),
            // The first place of a literal need not be the right one.
            ("a <x> b: end", "a 1 b, a 2 b: end", Some(&[("x", "1 b, a 2")])),
            ("k: <x>", "k: \"", None),
            ("é <x>", "é ü", Some(&[("x", "ü")])),
            // A name that is one word takes no more than one.
            ("<host> has none", "a b: c.d has none", Some(&[("host", "c.d")])),
            ("to <host>: x", "to a b: x, to c: x", Some(&[("host", "c")])),
            ("to <host>: x", "to a b: x", None),
        ];
        for (pattern, text, expected) in rows {
            let text = Text::new(text, 1000);
            assert_eq!(text.take(pattern).as_deref(), *expected, "{pattern}");
        }
    }

    #[test]
    fn texts_are_cut_and_one_line() {
        assert_eq!(Text::new("añb", 2).as_str(), "a");
        assert_eq!(Text::new("a\nb\u{1b}[1m", 100).as_str(), "a b [1m");
        assert_eq!(Text::new(r#"say \\\"x\\\""#, 100).as_str(), "say \"x\"");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,200}") {
            let text = Text::new(&text, 150);
            for pattern in ["a<x>b<y>", "<x>", "\"<x>\" <_>: <y>", "é<_>é"] {
                let _ = text.take(pattern);
            }
        }
    }
}
