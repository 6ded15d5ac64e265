//! What differs between two outputs, line by line. Pure.

use serde::Serialize;

/// Most pairs of lines that are compared to find out which lines were put in or left out; beyond that
/// lines are compared by their number.
const MOST_PAIRS: usize = 1_000_000;

/// A line that differs: changed, left out (`here` is absent) or put in (`reference` is absent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LineDifference {
    /// Its number, from 1: among the reference's lines, or among the others where it was put in.
    pub(crate) line: usize,
    /// What the reference wrote.
    pub(crate) reference: Option<String>,
    /// What was written in its place.
    pub(crate) here: Option<String>,
}

/// The lines in which `here` differs from `reference`, in order.
pub(crate) fn lines(reference: &str, here: &str) -> Vec<LineDifference> {
    let (old, new): (Vec<&str>, Vec<&str>) = (reference.lines().collect(), here.lines().collect());
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let mut hunks = Hunks {
        at: (start, start),
        ..Hunks::default()
    };
    if old.len().saturating_mul(new.len()) > MOST_PAIRS {
        for number in 0..old.len().max(new.len()) {
            match (old.get(number), new.get(number)) {
                (Some(a), Some(b)) if a == b => hunks.same(),
                (a, b) => {
                    hunks.old.extend(a);
                    hunks.new.extend(b);
                }
            }
        }
    } else {
        common(old, new, &mut hunks);
    }
    hunks.flush();
    hunks.found
}

/// Walks along a longest common subsequence of the lines.
fn common<'a>(old: &[&'a str], new: &[&'a str], hunks: &mut Hunks<'a>) {
    let width = new.len() + 1;
    // Length of the longest common subsequence of `old[i..]` and `new[j..]`.
    let mut longest = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = if old[i] == new[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            hunks.same();
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            hunks.old.push(old[i]);
            i += 1;
        } else {
            hunks.new.push(new[j]);
            j += 1;
        }
    }
    hunks.old.extend(&old[i..]);
    hunks.new.extend(&new[j..]);
}

/// Lines that differ and stand together: the first left out is shown beside the first put in.
#[derive(Debug, Default)]
struct Hunks<'a> {
    /// How many lines of each side come before the hunk.
    at: (usize, usize),
    old: Vec<&'a str>,
    new: Vec<&'a str>,
    found: Vec<LineDifference>,
}

impl Hunks<'_> {
    fn same(&mut self) {
        self.flush();
        self.at = (self.at.0 + 1, self.at.1 + 1);
    }

    fn flush(&mut self) {
        let (old, new) = (std::mem::take(&mut self.old), std::mem::take(&mut self.new));
        for number in 0..old.len().max(new.len()) {
            let (reference, here) = (old.get(number), new.get(number));
            let before = if reference.is_some() { self.at.0 } else { self.at.1 };
            let text = |line: Option<&&str>| line.map(|l| (*l).to_owned());
            self.found.push(LineDifference {
                line: before + number + 1,
                reference: text(reference),
                here: text(here),
            });
        }
        self.at = (self.at.0 + old.len(), self.at.1 + new.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-2a`: line 2 was left out; `+2a`: put in; `2a>b`: changed.
    fn short(reference: &str, here: &str) -> String {
        let one = |d: &LineDifference| match (&d.reference, &d.here) {
            (Some(a), Some(b)) => format!("{}{a}>{b}", d.line),
            (Some(a), None) => format!("-{}{a}", d.line),
            (None, Some(b)) => format!("+{}{b}", d.line),
            (None, None) => "?".into(),
        };
        lines(reference, here).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn changed_missing_and_additional_lines_are_told_apart() {
        for (reference, here, want) in [
            ("", "", ""),
            ("a\nb\n", "a\nb\n", ""),
            ("a\nb\nc\n", "a\nx\nc\n", "2b>x"),
            ("a\nb\nc\n", "a\nc\n", "-2b"),
            ("a\nc\n", "a\nb\nc\n", "+2b"),
            ("", "a\nb\n", "+1a +2b"),
            ("a\nb\n", "", "-1a -2b"),
            ("a\nb\nc\nd\ne\n", "x\nb\nd\ny\n", "1a>x -3c 5e>y"),
            ("same\nb\n", "new\nsame\nc\n", "+1new 2b>c"),
            ("a\na\na\n", "a\na\n", "-3a"),
        ] {
            assert_eq!(short(reference, here), want, "{reference:?} {here:?}");
        }
    }

    #[test]
    fn long_outputs_are_compared_by_number() {
        let text = |word: &str| {
            (0..2000)
                .map(|n| format!("{} {n}\n", if n % 2 == 0 { "x" } else { word }))
                .collect::<String>()
        };
        let found = lines(&text("a"), &text("b"));
        assert_eq!(found.len(), 1000);
        assert_eq!((found[1].line, found[1].here.as_deref()), (4, Some("b 3")));
    }
}
