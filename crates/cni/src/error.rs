//! Why something failed: each a sentence that names the plugin and what it was asked.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration cannot be used.
    #[error("the CNI configuration {place} cannot be used: {reason}")]
    Config {
        /// Its file, or what else it was read from.
        place: String,
        /// Why.
        reason: String,
    },
    /// A plugin failed, or there is none.
    #[error("the CNI plugin {plugin} of the network {network} {failure}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// The network's name.
        network: String,
        /// What went wrong.
        failure: Box<Failure>,
    },
    /// ADD failed and so did taking back what it had done.
    #[error("{add}; and its clean-up, which is tried again when the pod is removed, failed too: {del}")]
    AddAndDel {
        /// Why ADD failed.
        add: Box<Error>,
        /// Why the clean-up did.
        del: Box<Error>,
    },
    /// All plugins were content, and the pod has no address.
    #[error(
        "the CNI network {network} gave the pod {pod} no address: its plugins succeeded without one, look at their configuration in {place}"
    )]
    NoAddress {
        /// The network's name.
        network: String,
        /// `namespace/name`.
        pod: String,
        /// Where the network is configured.
        place: String,
    },
    /// The pod asks for what no plugin of the network says that it can do.
    #[error(
        "the pod {pod} asks for {what}, which no plugin of the CNI network {network} declares: give one of them the capability {capability} in {place}, or drop the request"
    )]
    Unmet {
        /// `namespace/name`.
        pod: String,
        /// In the words of Kubernetes.
        what: &'static str,
        /// In the words of CNI.
        capability: &'static str,
        /// The network's name.
        network: String,
        /// Where the network is configured.
        place: String,
    },
    /// No version in the configuration is one that all its plugins know.
    #[error("no cniVersion of the network {network} ({offered}) is known to all its plugins: {plugin} knows {known}")]
    NoVersion {
        /// The network's name.
        network: String,
        /// What the configuration offers.
        offered: String,
        /// The first plugin that knows none of what was left.
        plugin: String,
        /// What that one knows.
        known: String,
    },
    /// A name or id that plugins or the cache could not take.
    #[error("the {what} {value:?} cannot be given to CNI plugins: {rule}")]
    Word {
        /// What it is.
        what: &'static str,
        /// Its text, cut.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// A file.
    #[error("cannot {action} {path}: {source}")]
    Path {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file.
    #[error(transparent)]
    Host(#[from] cofferdam_host::Error),
}

/// What went wrong with one call of a plugin; the end of a sentence that began with its name.
#[derive(Debug)]
pub enum Failure {
    /// No file of that name is in the plugins' directories.
    Missing {
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// It could not be started.
    Start {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It did not end in time, and was killed with all that it had started.
    Hung {
        /// What it was asked.
        verb: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It answered with an error.
    Refused {
        /// What it was asked.
        verb: &'static str,
        /// The specification's number, or the plugin's own from 100.
        code: u64,
        /// Its words.
        msg: String,
        /// More of them.
        details: String,
    },
    /// It failed without an error that can be read.
    Died {
        /// What it was asked.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to stderr, or else to stdout.
        words: String,
    },
    /// It answered more than is read.
    TooMuch {
        /// What it was asked.
        verb: &'static str,
        /// The bound, bytes.
        max: usize,
    },
    /// It ended well, and what it answered is no result.
    Garbage {
        /// What it was asked.
        verb: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Talking to it failed.
    Io {
        /// What it was asked.
        verb: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { dirs } => {
                let dirs: Vec<_> = dirs.iter().map(|d| d.display().to_string()).collect();
                write!(f, "is not installed: no such file in {}", dirs.join(" or "))
            }
            Self::Start { path, source } => write!(f, "cannot be executed: {}: {source}", path.display()),
            Self::Hung { verb, seconds } => write!(f, "did not answer {verb} within {seconds} s and was killed"),
            Self::Refused { verb, code, msg, details } => {
                write!(f, "refused {verb} with code {code}{}", meaning(*code))?;
                for words in [msg, details].into_iter().filter(|w| !w.is_empty()) {
                    write!(f, ": {words}")?;
                }
                Ok(())
            }
            Self::Died { verb, status, words } if words.is_empty() => write!(f, "failed at {verb} without a word: {status}"),
            Self::Died { verb, status, words } => write!(f, "failed at {verb} ({status}): {words}"),
            Self::TooMuch { verb, max } => write!(f, "answered {verb} with more than {max} bytes and was killed"),
            Self::Garbage { verb, reason } => write!(f, "answered {verb} with what is no result: {reason}"),
            Self::Io { verb, source } => write!(f, "could not be talked to at {verb}: {source}"),
        }
    }
}

/// The reserved numbers of the specification, section 5.
fn meaning(code: u64) -> &'static str {
    match code {
        1 => " (incompatible CNI version)",
        2 => " (unsupported field)",
        3 => " (unknown container)",
        4 => " (invalid environment)",
        5 => " (I/O failure)",
        6 => " (undecodable)",
        7 => " (invalid configuration)",
        11 => " (try again later)",
        50 => " (not available)",
        51 => " (not available, and pods may have lost connectivity)",
        _ => "",
    }
}

impl Error {
    pub(crate) fn config(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config {
            place: place.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn word(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self::Word {
            what,
            value: value.chars().take(64).collect(),
            rule,
        }
    }

    /// The number that the plugin refused with, where it is that which failed.
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Plugin { failure, .. } => match **failure {
                Failure::Refused { code, .. } => Some(code),
                _ => None,
            },
            Self::AddAndDel { add, .. } => add.code(),
            _ => None,
        }
    }
}
