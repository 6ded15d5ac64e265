//! Just enough of Rust's grammar to say what a source names: comments, texts and test code left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A source as its tokens: words, `::`, and single signs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Code(Vec<String>);

/// The tokens of a source without comments, texts and characters.
pub(crate) fn without_words(text: &str) -> Code {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut i) = (Vec::new(), 0);
    let starts = |i: usize, what: &str| what.chars().enumerate().all(|(n, c)| chars.get(i + n) == Some(&c));
    while i < chars.len() {
        let c = chars[i];
        if starts(i, "//") {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if starts(i, "/*") {
            let mut depth = 0;
            loop {
                if starts(i, "/*") {
                    depth += 1;
                    i += 2;
                } else if starts(i, "*/") {
                    depth -= 1;
                    i += 2;
                } else {
                    i += 1;
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            i = end_of_text(&chars, i + 1, '"');
        } else if c == '\'' {
            // A lifetime has no closing mark right after its first letter.
            let character = chars.get(i + 1) == Some(&'\\') || chars.get(i + 2) == Some(&'\'');
            i = if character { end_of_text(&chars, i + 1, '\'') } else { i + 1 };
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
            let raw = matches!(word.as_str(), "r" | "br" | "cr") && chars.get(i + hashes) == Some(&'"');
            if raw {
                let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                i += hashes + 1;
                while i < chars.len() && !starts(i, &close) {
                    i += 1;
                }
                i += close.len();
            } else if !matches!((word.as_str(), chars.get(i)), ("b" | "c", Some('"' | '\''))) {
                tokens.push(word);
            }
        } else if starts(i, "::") {
            tokens.push("::".into());
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.into());
            }
            i += 1;
        }
    }
    Code(tokens)
}

fn end_of_text(chars: &[char], mut i: usize, close: char) -> usize {
    while i < chars.len() && chars[i] != close {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// As [`without_words`], without what stands under `#[cfg(test)]`.
pub(crate) fn without_tests(text: &str) -> Code {
    let Code(tokens) = without_words(text);
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if is_test(&tokens[i..]) {
            i = end_of_item(&tokens, i);
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    Code(kept)
}

fn is_test(tokens: &[String]) -> bool {
    ["#", "[", "cfg", "(", "test", ")", "]"].iter().enumerate().all(|(n, t)| tokens.get(n).is_some_and(|token| token == t))
}

/// Where an item ends that begins with attributes: after its `;` or its outermost braces.
fn end_of_item(tokens: &[String], mut i: usize) -> usize {
    let mut depth = 0usize;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens[i] == "}" {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    i
}

impl Code {
    /// All words.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).filter(|t| is_word(t)).collect()
    }

    /// All paths in full, the groups of `use` (`a::{b, c::d}`) taken apart, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        let (mut paths, mut i) = (Vec::new(), 0);
        while i < self.0.len() {
            if is_word(&self.0[i]) {
                i = self.path(i, "", &mut paths);
            } else {
                i += 1;
            }
        }
        paths
    }

    /// Reads one path from `i` on, below `above`; gives where it ends.
    fn path(&self, mut i: usize, above: &str, paths: &mut Vec<String>) -> usize {
        let token = |i: usize| self.0.get(i).map_or("", String::as_str);
        let mut path = above.to_owned();
        loop {
            match token(i) {
                "{" if !path.is_empty() => {
                    i += 1;
                    while !matches!(token(i), "}" | "") {
                        i = if is_word(token(i)) || token(i) == "{" { self.path(i, &path, paths) } else { i + 1 };
                    }
                    return i + 1;
                }
                word if is_word(word) => {
                    if word != "self" || path.is_empty() {
                        path = if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") };
                    }
                    i += 1;
                }
                _ => break,
            }
            if token(i) != "::" {
                break;
            }
            i += 1;
        }
        paths.push(path);
        // `a::b as c` within a group: the new name is none of the group's.
        if token(i) == "as" { i + 2 } else { i }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Every Rust file under a folder, by name.
pub(crate) fn all_files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files_of(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every Rust file under a crate's `src`, but for modules that stand under `#[cfg(test)]`.
pub(crate) fn files_of(src: &Path) -> Vec<PathBuf> {
    let all = all_files_of(src);
    let mut tests = BTreeSet::new();
    for file in &all {
        let text = std::fs::read_to_string(file).unwrap();
        let Code(tokens) = without_words(&text);
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let parent = file.parent().unwrap();
        let children = if matches!(stem.as_str(), "lib" | "main" | "mod") { parent.to_owned() } else { parent.join(stem) };
        for (i, _) in tokens.iter().enumerate().filter(|(i, _)| is_test(&tokens[*i..])) {
            let item = &tokens[i..end_of_item(&tokens, i)];
            if let [.., keyword, name, end] = item
                && keyword == "mod"
                && end == ";"
            {
                tests.insert(children.join(format!("{name}.rs")));
                tests.insert(children.join(name));
            }
        }
    }
    all.into_iter().filter(|file| !file.ancestors().any(|part| tests.contains(part))).collect()
}
