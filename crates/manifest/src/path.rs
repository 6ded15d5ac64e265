//! Paths of fields, as people write them: `spec.containers[0].image`.

use std::fmt;

/// Longest key or value that a message shows, in characters.
const SHOWN: usize = 64;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// A path from the object's top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl Path {
    pub(crate) fn push(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// This path and one key more.
    pub(crate) fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.push(key);
        path
    }

    /// This path and one index more.
    pub(crate) fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.push_index(index);
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(n) => write!(f, "[{n}]")?,
                Step::Key(k) if is_plain(k) => write!(f, "{}{k}", if i == 0 { "" } else { "." })?,
                Step::Key(k) if i == 0 => f.write_str(&quoted(k))?,
                Step::Key(k) => write!(f, "[{}]", quoted(k))?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= SHOWN
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Text in quotes: escaped, so that it cannot speak to a terminal, and cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Text as it stands where it is a plain word, else in quotes.
pub(crate) fn shown(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if !text.is_empty() && text.len() <= SHOWN && text.bytes().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_people_write_them() {
        let path = Path::default()
            .key("spec")
            .key("containers")
            .index(0)
            .key("image");
        assert_eq!(path.to_string(), "spec.containers[0].image");
        let path = Path::default()
            .key("metadata")
            .key("labels")
            .key("app.kubernetes.io/name");
        assert_eq!(
            path.to_string(),
            r#"metadata.labels["app.kubernetes.io/name"]"#
        );
    }

    #[test]
    fn hostile_keys_are_escaped_and_cut() {
        assert_eq!(
            Path::default().key("a\u{1b}[31m").to_string(),
            r#""a\u{1b}[31m""#
        );
        assert_eq!(quoted(&"é".repeat(100)).chars().count(), SHOWN + 3);
    }
}
