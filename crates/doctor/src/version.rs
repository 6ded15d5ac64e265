//! Versions as runtimes print them.

use std::cmp::Ordering;

/// `1.1.5`, `v1.4.0-rc.2`; what a distribution adds does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    numbers: [u32; 3],
    candidate: Option<u32>,
}

impl Version {
    /// A release.
    pub(crate) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            numbers: [major, minor, patch],
            candidate: None,
        }
    }

    /// A release candidate.
    pub(crate) const fn candidate(self, number: u32) -> Self {
        Self {
            candidate: Some(number),
            ..self
        }
    }

    /// The first word of `text` that is a version: `runc version 1.1.5+ds1`.
    pub(crate) fn find(text: &str) -> Option<Self> {
        text.split_ascii_whitespace().take(32).find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (numbers, rest) = word.split_at(end);
        let mut parts = numbers.split('.').map(|p| p.parse().ok());
        let (major, minor) = (parts.next()??, parts.next()??);
        let patch = parts.next().unwrap_or(Some(0))?;
        let candidate = rest.trim_start_matches(['-', '~', '+']).strip_prefix("rc").map(|n| {
            let digits: String = n
                .trim_start_matches(['.', '-'])
                .chars()
                .take_while(char::is_ascii_digit)
                .take(9)
                .collect();
            digits.parse().unwrap_or(0)
        });
        Some(Self {
            numbers: [major, minor, patch],
            candidate,
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A candidate comes before its release.
        let rank = |v: &Self| v.candidate.unwrap_or(u32::MAX);
        self.numbers.cmp(&other.numbers).then_with(|| rank(self).cmp(&rank(other)))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        self.candidate.map_or(Ok(()), |n| write!(f, "-rc.{n}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn versions_are_found_and_ordered() {
        let v = |t: &str| Version::find(t).unwrap();
        assert_eq!(v("runc version 1.1.5+ds1"), Version::new(1, 1, 5));
        assert_eq!(v("crun version 1.20"), Version::new(1, 20, 0));
        assert_eq!(v("1.4.0-rc.2"), Version::new(1, 4, 0).candidate(2));
        assert_eq!(v("runc version 1.0.0-rc92+dev.docker"), Version::new(1, 0, 0).candidate(92));
        assert!(v("1.4.0-rc.2") < v("1.4.0") && v("1.4.0-rc.2") < v("1.4.0-rc.10") && v("1.1.11") < v("1.1.12"));
        for none in ["", "runsc version VERSION_MISSING", "version 5", "1.x", "99999999999.1"] {
            assert_eq!(Version::find(none), None, "{none}");
        }
    }
}
