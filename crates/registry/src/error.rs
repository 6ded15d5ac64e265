//! Why something failed: one sentence each, which says who answered what and what to do.

use std::fmt;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What a registry said of its refusal, made safe to print: the status of HTTP, and code and message of
/// the error body that the distribution specification describes, where one came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// The registry's own words; empty where it said nothing.
    pub words: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.words.is_empty() {
            write!(f, "{}", self.status)
        } else {
            write!(f, "{}, {}", self.status, self.words)
        }
    }
}

/// One host that was asked in vain.
#[derive(Debug)]
pub struct Tried {
    /// The host.
    pub host: String,
    /// What came of it.
    pub error: Error,
}

/// Why something failed. `host` is always the host (and port) that was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A `hosts.toml`, or a certificate that it or its folder names, cannot be used.
    #[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Hosts {
        /// The file.
        path: PathBuf,
        /// The line, where it is known, from 1.
        line: Option<usize>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file or a secret with credentials cannot be read.
    #[error("the credentials of {from} cannot be used: {reason}")]
    Credentials {
        /// The file or what the caller called it.
        from: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A credential helper failed.
    #[error("the credential helper docker-credential-{helper}, which {from} names, gave nothing for {host}: {reason}")]
    Helper {
        /// Its name, without `docker-credential-`.
        helper: String,
        /// The file that names it.
        from: String,
        /// The registry that it was asked for.
        host: String,
        /// What it said or did.
        reason: String,
    },
    /// What was asked for is not well formed.
    #[error("the {field} {value:?} cannot be asked for: {rule}")]
    Invalid {
        /// `registry`, `repository`, `tag`, `digest`, …
        field: &'static str,
        /// Its value, made safe to print.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No host may be asked for this: the capabilities of `hosts.toml` leave none.
    #[error("no host may be asked to {capability} images of {registry}: {} names none with that capability", path.display())]
    NoHost {
        /// The registry of the image.
        registry: String,
        /// `pull` or `resolve`.
        capability: &'static str,
        /// The `hosts.toml`.
        path: PathBuf,
    },
    /// The registry wants credentials, or other ones.
    #[error("{host} does not give {what} without other credentials ({answer}): {tried}")]
    Unauthorized {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        answer: Answer,
        /// Which credentials were tried, from where, and what to do.
        tried: String,
    },
    /// The registry knows who asks and refuses.
    #[error("{host} forbids {what} ({answer}): ask its owner for the right to pull, or use another account")]
    Forbidden {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        answer: Answer,
    },
    /// The registry has no such thing.
    #[error("{host} has no {what} ({answer}): look at the name, and whether it was pushed")]
    NotFound {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        answer: Answer,
    },
    /// Too many requests.
    #[error("{host} answers no more requests for now ({answer}): {}", match retry_after { Some(after) => format!("it says to try again {after}"), None => "try again later, with an account, or through a mirror".to_owned() })]
    RateLimited {
        /// Who.
        host: String,
        /// Its answer.
        answer: Answer,
        /// From `Retry-After`: `in 30 s`, or `after` a date.
        retry_after: Option<String>,
    },
    /// Any other status.
    #[error("{host} did not give {what} ({answer}): {}", if answer.status >= 500 { "the fault is on its side, try again later" } else { "look at its log, and whether it is a registry" })]
    Answered {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        answer: Answer,
    },
    /// The name has no address.
    #[error("{host} has no address ({reason}): look at the name of the registry and at /etc/resolv.conf")]
    Unresolved {
        /// Whose.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection came to be.
    #[error("no connection to {host}: {reason}")]
    Connect {
        /// Whom.
        host: String,
        /// Why, and what to do.
        reason: String,
    },
    /// No trust came to be.
    #[error("no trusted connection to {host}: {reason}")]
    Tls {
        /// Whom.
        host: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Nothing, or next to nothing, came for too long.
    #[error("{host} stalled while it sent {what}: {} s without progress", seconds)]
    Stalled {
        /// Who.
        host: String,
        /// What it was sending.
        what: String,
        /// For how long nothing came.
        seconds: f64,
    },
    /// The connection ended too early.
    #[error("{host} cut the connection while it sent {what}: {reason}")]
    Cut {
        /// Who.
        host: String,
        /// What it was sending.
        what: String,
        /// In the kernel's words.
        reason: String,
    },
    /// What came is not what the protocol asks for.
    #[error("{host} answered for {what} with what the protocol does not allow: {reason}")]
    Protocol {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// More came than is taken.
    #[error("{host} sent more than {limit} bytes of {what}: nothing that large is taken")]
    TooBig {
        /// Who.
        host: String,
        /// Of what.
        what: String,
        /// How much would have been taken.
        limit: u64,
    },
    /// It sent us somewhere we do not go.
    #[error("{host} sends on to {to}: {reason}")]
    Redirect {
        /// Who.
        host: String,
        /// Where to, made safe to print.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// It asked for a token from somewhere credentials do not go.
    #[error("{host} wants a token from {realm}: {reason}")]
    Realm {
        /// Who.
        host: String,
        /// The token service, made safe to print.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// The content is not what its digest says.
    #[error("{host} sent {what} with the digest {got} instead of {wanted}: it is not used; the registry or a mirror is broken or hostile")]
    Digest {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// What it should be.
        wanted: String,
        /// What it is.
        got: String,
    },
    /// A manifest of a kind that is not understood.
    #[error(
        "{host} gave {what} as {media_type:?}: only OCI and Docker schema 2 manifests and indexes can be run, push the image again with a current tool"
    )]
    MediaType {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// What it is said to be.
        media_type: String,
    },
    /// A manifest of Docker's schema 1.
    #[error("{host} has {what} only in Docker's schema 1, which checks nothing and is not run: push the image again with a current tool")]
    Schema1 {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// A blob ended early, and all tries to go on were in vain.
    #[error("{what} ended after {got} of {wanted} bytes and could not be resumed in {tries} tries: {last}")]
    Short {
        /// What was asked for.
        what: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        wanted: u64,
        /// How often it was tried to go on.
        tries: u32,
        /// The last reason.
        last: Box<Error>,
    },
    /// Every host was asked in vain.
    #[error("no host gave {what}: {}", tries.iter().map(|tried| tried.error.to_string()).collect::<Vec<_>>().join("; "))]
    Mirrors {
        /// What was asked for.
        what: String,
        /// Who was asked and what came of it, in order.
        tries: Vec<Tried>,
    },
}

impl Error {
    /// Whether every host that was asked says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Mirrors { tries, .. } => tries.iter().all(|tried| tried.error.is_not_found()),
            _ => false,
        }
    }

    /// Whether another try, a little later, may go better with nothing changed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Unresolved { .. }
            | Self::Connect { .. }
            | Self::Stalled { .. }
            | Self::Cut { .. }
            | Self::Short { .. } => true,
            Self::Answered { answer, .. } => answer.status >= 500,
            Self::Mirrors { tries, .. } => tries.iter().any(|tried| tried.error.is_transient()),
            _ => false,
        }
    }

    /// Whether it is a hiccup of a server, which is often gone a moment later: not a stall, which costs
    /// time, and nothing that somebody must mend.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Answered { answer, .. } => answer.status >= 500,
            Self::Mirrors { tries, .. } => tries.iter().any(|tried| tried.error.is_passing()),
            _ => false,
        }
    }

    /// Whether it is a mistake in a file of this machine, which is told at once: to go on with the next
    /// host would hide it.
    pub(crate) fn is_local_mistake(&self) -> bool {
        matches!(self, Self::Hosts { .. } | Self::Credentials { .. })
    }

    /// What came of asking one host after the other in vain: with one host its own error, with several
    /// that all have no such thing that they have not, else each with its reason.
    pub(crate) fn of_tries(what: &str, mut tries: Vec<Tried>) -> Self {
        if tries.len() == 1
            && let Some(only) = tries.pop()
        {
            return only.error;
        }
        Self::Mirrors {
            what: what.to_owned(),
            tries,
        }
    }
}

/// Text of a stranger, made safe to print and short: control, formatting and direction characters go,
/// runs of white space become one space, and what is over `max` characters is cut.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut space = false;
    let mut count = 0;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = true;
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        if count >= max {
            out.push('…');
            break;
        }
        if space && !out.is_empty() {
            out.push(' ');
        }
        space = false;
        out.push(c);
        count += 1;
    }
    out
}

/// Characters that are not seen but change how the others look.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_is_made_safe_and_short() {
        for (text, max, wanted) in [
            ("plain", 10, "plain"),
            ("\x1b[31mred\x1b[0m", 20, "[31mred [0m"),
            ("two\r\nlines\tand\0more", 40, "two lines and more"),
            ("  edges  ", 40, "edges"),
            ("turned\u{202e}round", 40, "turnedround"),
            ("toolong", 3, "too…"),
            ("ééééé", 3, "ééé…"),
            ("", 3, ""),
        ] {
            assert_eq!(clean(text, max), wanted, "{text:?}");
        }
    }

    #[test]
    fn several_hosts_are_named_each_with_its_reason() {
        let lost = |host: &str| Tried {
            host: host.to_owned(),
            error: Error::NotFound {
                host: host.to_owned(),
                what: "x".to_owned(),
                answer: Answer {
                    status: 404,
                    words: String::new(),
                },
            },
        };
        let refused = Tried {
            host: "c".to_owned(),
            error: Error::Connect {
                host: "c".to_owned(),
                reason: "refused".to_owned(),
            },
        };
        assert!(Error::of_tries("x", vec![lost("a"), lost("b")]).is_not_found());
        let mixed = Error::of_tries("x", vec![lost("a"), refused]);
        assert!(!mixed.is_not_found() && mixed.is_transient());
        let text = mixed.to_string();
        assert!(
            text.contains("a has no x (404)") && text.contains("no connection to c: refused"),
            "{text}"
        );
    }
}
