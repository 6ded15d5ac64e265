//! Where things were read, and what is said about them.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Place {
    /// `FILE:LINE:COLUMN`, as compilers print it.
    pub fn with_column(&self) -> String {
        format!("{self}:{}", self.column)
    }
}

impl fmt::Display for Place {
    /// `FILE:LINE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", shown(&self.file), self.line)
    }
}

/// A path for a person's eye or a comment: control characters cannot break the line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// `text` with control characters escaped, so that it stays on its line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// Where a value of the merged table came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The place; `None` for what is built in.
    pub place: Option<Place>,
    /// The value as the file has it, cut at 200 characters.
    pub value: String,
}

impl Origin {
    /// Origin of a value that no file gives.
    pub fn built_in(value: impl Into<String>) -> Self {
        Self {
            place: None,
            value: value.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => place.fmt(f),
            None => f.write_str("built in"),
        }
    }
}

/// How much a [`Warning`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Honoured, in another way than the file's owner may expect.
    Info,
    /// Not honoured, or not what was meant.
    Warning,
}

/// Something to tell about a file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// How much it matters.
    pub level: Level,
    /// Where; `None` when it is about the table as a whole.
    pub place: Option<Place>,
    /// One sentence.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Why a file contributes nothing to the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("{}: this is not valid TOML: {message}", .place.with_column())]
    Toml {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A value of another type than its key takes.
    #[error("{}: {key} must be {expected}, and this is {found}", .place.with_column())]
    Type {
        /// Where the value is.
        place: Place,
        /// The key with its table.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value of the right type that its key does not take.
    #[error("{}: {key} {message}", .place.with_column())]
    Value {
        /// Where the value is.
        place: Place,
        /// The key with its table.
        key: String,
        /// What is wrong and what to write.
        message: String,
    },
    /// Too large to be read.
    #[error("{}: the file has {bytes} bytes and {max} are the most that are read; make it smaller", shown(.file), max = crate::MAX_TEXT)]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// Tables nested too deep to be read.
    #[error("{}: keys or tables are nested too deep to be read; make them flatter", shown(.file))]
    TooDeep {
        /// The file.
        file: PathBuf,
    },
    /// A file that another one imports is not there.
    #[error("{}: the file that {by} imports is not there; create it or remove the import", shown(.file))]
    Missing {
        /// The file.
        file: PathBuf,
        /// The import.
        by: Place,
    },
    /// A file that is there cannot be read, or a folder not listed.
    #[error("{}: it cannot be read: {message}", shown(.file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        message: String,
    },
}

impl ConfigError {
    /// The file that contributes nothing because of this.
    pub fn file(&self) -> &Path {
        match self {
            Self::Toml { place, .. } | Self::Type { place, .. } | Self::Value { place, .. } => {
                &place.file
            }
            Self::TooLarge { file, .. }
            | Self::TooDeep { file }
            | Self::Missing { file, .. }
            | Self::Unreadable { file, .. } => file,
        }
    }
}
