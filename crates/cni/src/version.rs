//! Versions of the specification.

use std::fmt;

/// A version of the specification that is known here, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The first; what a configuration without a version means.
    V0_1_0,
    /// VERSION.
    V0_2_0,
    /// Lists of plugins, results with interfaces.
    V0_3_0,
    /// As 0.3.0, its text mended.
    V0_3_1,
    /// CHECK, and the result of ADD given to DEL.
    V0_4_0,
    /// No more single plugins, addresses without a version.
    V1_0_0,
    /// STATUS, GC, several versions in one configuration.
    V1_1_0,
}

impl Version {
    /// All, the oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The newest that is known here.
    pub const NEWEST: Self = Self::V1_1_0;

    /// `None` for a version that is not known here. An empty text is the first version, as
    /// libcni and its plugins take it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::V0_1_0);
        }
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }

    /// `1.1.0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_by_name_and_in_order() {
        for pair in Version::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
        }
        for version in Version::ALL {
            assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
        assert_eq!(Version::parse(""), Some(Version::V0_1_0));
        for unknown in ["1.2.0", "1.0", "v1.0.0", "01.0.0", "1.0.0 "] {
            assert_eq!(Version::parse(unknown), None, "{unknown:?}");
        }
    }
}
