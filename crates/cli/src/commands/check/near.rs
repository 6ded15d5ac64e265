//! What was meant, perhaps.

use super::input::Input;
use cofferdam_manifest::nearest;
use std::collections::HashMap;

/// Most names that a hint lists.
const MOST_NAMES: usize = 8;

/// The names that there are.
pub(super) struct Near<'a> {
    input: &'a Input,
    /// What was found before: thousands of pods can make one mistake.
    found: HashMap<String, Option<String>>,
}

impl<'a> Near<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        Self {
            input,
            found: HashMap::new(),
        }
    }

    /// What helps with a reason of a denial, if anything.
    pub(super) fn hint(&mut self, reason: &str) -> Option<String> {
        if !reason.contains(" not found") {
            return None;
        }
        if let Some(known) = self.found.get(reason) {
            return known.clone();
        }
        let hint = self.find(reason);
        self.found.insert(reason.to_owned(), hint.clone());
        hint
    }

    fn find(&self, reason: &str) -> Option<String> {
        if let Some(name) = missing(reason, "RuntimeClass ") {
            return Some(self.class(name));
        }
        let namespace = missing(reason, "namespaces ")?;
        let near = nearest(namespace, self.input.namespaces.iter().map(|n| n.metadata.name.as_str()))?;
        Some(format!("did you mean namespace {near:?}?"))
    }

    fn class(&self, name: &str) -> String {
        if self.input.broken_classes.contains(name) {
            return "the RuntimeClass of this name has errors, which are told of it".to_owned();
        }
        let mut names: Vec<&str> = self.input.classes.iter().map(|c| c.metadata.name.as_str()).collect();
        if let Some(near) = nearest(name, names.iter().copied()) {
            return format!("did you mean class {near:?}?");
        }
        names.sort_unstable();
        match names.len() {
            0 => "there is no RuntimeClass here; give it with -f or --add-class".to_owned(),
            1..=MOST_NAMES => format!("the classes are {}", names.join(", ")),
            many => format!("the classes are {} and {} more", names[..MOST_NAMES].join(", "), many - MOST_NAMES),
        }
    }
}

/// The name in `WHAT "name" not found`.
fn missing<'r>(reason: &'r str, what: &str) -> Option<&'r str> {
    let (_, rest) = reason.split_once(what)?;
    let (name, rest) = rest.strip_prefix('"')?.split_once('"')?;
    rest.starts_with(" not found").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_reasons() {
        let rows = [
            (r#"pod rejected: RuntimeClass "a" not found"#, "RuntimeClass ", Some("a")),
            (
                r#"pod rejected: RuntimeClass "a" not found; it is the default"#,
                "RuntimeClass ",
                Some("a"),
            ),
            (r#"pod rejected: RuntimeClass "a" names no handler"#, "RuntimeClass ", None),
            (r#"namespaces "b" not found"#, "namespaces ", Some("b")),
            ("RuntimeClass a not found", "RuntimeClass ", None),
        ];
        for (reason, what, name) in rows {
            assert_eq!(missing(reason, what), name, "{reason}");
        }
    }
}
