//! What is asked for: an image's place, and a tag or digest in it.

use crate::error::{Error, Result, clean};
use sha2::{Digest as _, Sha256, Sha512};

/// The place of an image, already normalised: `docker.io` and `library/nginx` for `nginx`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Image {
    /// Host, with its port where it has one: `docker.io`, `registry.example:5000`, `[::1]:5000`.
    pub registry: String,
    /// Path within the registry: `library/nginx`.
    pub repository: String,
}

impl Image {
    /// Says what about registry or repository is not well formed: neither may hold what would change the
    /// meaning of a URL. The path components are those of the distribution specification.
    pub(crate) fn check(&self) -> Result<()> {
        let invalid = |field, value: &str, rule| Error::Invalid {
            field,
            value: clean(value, 100),
            rule,
        };
        if !is_host(&self.registry) {
            return Err(invalid(
                "registry",
                &self.registry,
                "it must be a host name or address, with a port where needed",
            ));
        }
        if self.repository.len() > 255 || !self.repository.split('/').all(is_component) {
            return Err(invalid(
                "repository",
                &self.repository,
                "it must be lower case letters and digits, with . _ - between and / between components, at most 255 in all",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

fn is_component(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
}

/// Whether a text is a host, with or without a port, and nothing else.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = split_port(text);
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0) && port.bytes().all(|b| b.is_ascii_digit()));
    let name_ok = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                && !name.starts_with(['.', '-'])
        }
    };
    text.len() <= 255 && port_ok && name_ok
}

/// Host and port of an authority; brackets of IPv6 stay with the host.
pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    }
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference<'a> {
    Tag(&'a str),
    Digest(Digest),
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        if text.contains(':') {
            return Digest::parse(text).map(Self::Digest);
        }
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= 128 {
            return Ok(Self::Tag(text));
        }
        Err(Error::Invalid {
            field: "tag",
            value: clean(text, 100),
            rule: "it must be letters, digits, _ . or -, at most 128, not begun by . or -",
        })
    }
}

/// A digest: `sha256:` or `sha512:` and lower case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let length = match text.split_once(':') {
            Some(("sha256", _)) => 7 + 64,
            Some(("sha512", _)) => 7 + 128,
            _ => 0,
        };
        let hex = text.bytes().skip(7).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == length && hex {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::Invalid {
            field: "digest",
            value: clean(text, 140),
            rule: "it must be sha256: or sha512: and as many lower case hexadecimal digits as that has",
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest of bytes, by the algorithm of this one.
    pub(crate) fn same_kind_of(&self, bytes: &[u8]) -> Self {
        if self.0.starts_with("sha512:") {
            Self(format!("sha512:{}", hex(&Sha512::digest(bytes))))
        } else {
            Self::sha256(bytes)
        }
    }

    pub(crate) fn sha256(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_places_are_asked() {
        for (registry, repository, ok) in [
            ("docker.io", "library/nginx", true),
            ("localhost:5000", "a", true),
            ("[::1]:5000", "a/b/c", true),
            ("10.0.0.1", "a__b/c-d.e", true),
            ("", "a", false),
            ("docker.io/x", "a", false),
            ("user@docker.io", "a", false),
            ("docker.io:", "a", false),
            ("docker.io:x", "a", false),
            ("docker.io:+80", "a", false),
            ("docker.io:0", "a", false),
            ("docker.io:70000", "a", false),
            ("[::1", "a", false),
            ("[::g]", "a", false),
            ("-x", "a", false),
            ("a b", "a", false),
            ("a", "", false),
            ("a", "a//b", false),
            ("a", "../b", false),
            ("a", "a/../b", false),
            ("a", "A", false),
            ("a", "a?b", false),
            ("a", "a%2f", false),
            ("a", "a/", false),
        ] {
            let image = Image {
                registry: registry.to_owned(),
                repository: repository.to_owned(),
            };
            assert_eq!(image.check().is_ok(), ok, "{image}");
        }
    }

    #[test]
    fn references_are_tags_or_digests() {
        let sha256 = format!("sha256:{}", "a".repeat(64));
        let sha512 = format!("sha512:{}", "0".repeat(128));
        for (text, ok) in [
            ("latest", true),
            ("_1.2-x", true),
            (sha256.as_str(), true),
            (sha512.as_str(), true),
            ("", false),
            (".x", false),
            ("a/b", false),
            ("a?b", false),
            ("sha256:", false),
            ("sha256:aa", false),
            (&sha256.to_uppercase(), false),
            (&format!("md5:{}", "a".repeat(64)), false),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(Reference::parse(text).is_ok(), ok, "{text}");
        }
    }

    #[test]
    fn digests_are_computed_by_the_kind_that_was_asked() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").as_str(), empty);
        assert_eq!(Digest::parse(empty).unwrap().same_kind_of(b""), Digest::sha256(b""));
        let sha512 = Digest::parse(&format!("sha512:{}", "0".repeat(128))).unwrap();
        assert!(sha512.same_kind_of(b"").as_str().starts_with("sha512:cf83e1357eefb8bd"));
    }
}
