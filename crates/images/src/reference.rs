//! References: what people call images.
//!
//! The grammar and the short forms are those of the distribution project's `reference` package:
//! `busybox` is `docker.io/library/busybox:latest`.

use crate::digest::Digest;
use crate::error::{Error, Result};
use std::fmt;

/// A complete reference: repository with its registry, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

impl Reference {
    /// Reads a reference as people write them and fills in what they leave out.
    ///
    /// # Errors
    /// [`Error::Reference`] with the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |rule: &str| Error::Reference {
            reference: text.chars().take(300).collect(),
            rule: rule.to_owned(),
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (
                name,
                Some(Digest::parse(digest).map_err(|e| fail(&e.to_string()))?),
            ),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to a registry's port.
        let last = name.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match name[last..].find(':') {
            Some(i) => (&name[..last + i], Some(&name[last + i + 1..])),
            None => (name, None),
        };
        if Digest::from_hex(name).is_some() {
            return Err(fail(
                "64 hex digits are an image id: write sha256: before them",
            ));
        }
        if name == "sha256" {
            return Err(fail(
                "an image cannot have the name of a digest's algorithm",
            ));
        }
        let repository = complete(name).map_err(fail)?;
        if repository.len() > LONGEST_REPOSITORY {
            return Err(fail("the name is longer than 255 bytes"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "a tag is 1 to 128 letters, digits, '_', '.' or '-', and begins with neither '.' nor '-'",
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            repository,
            tag,
            digest,
        })
    }

    /// Registry and path: `docker.io/library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where it has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where it has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// As people write it: without what [`Reference::parse`] would fill in.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        // A prefix goes only where what is left still means the same: `docker.io/ghcr.io/x` does not.
        let short = ["docker.io/library/", "docker.io/"].iter().filter_map(|prefix| full.strip_prefix(prefix));
        let mut same = short.filter(|short| Self::parse(short).is_ok_and(|parsed| parsed == *self));
        same.next().unwrap_or(&full).to_owned()
    }

    /// Without the digest, where there is a tag: the key under which a name is stored.
    pub(crate) fn key(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// The repository with its registry.
fn complete(name: &str) -> Result<String, &'static str> {
    if name.is_empty() {
        return Err("it has no name");
    }
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (first, rest),
        _ => ("docker.io", name),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    if !is_domain(domain) {
        return Err("the registry is not a host name with an optional port");
    }
    if !path.split('/').all(is_component) {
        return Err(
            "each part of a name is lowercase letters and digits, joined by one '.', one or two '_', or any number of '-'",
        );
    }
    let library = if domain == "docker.io" && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    Ok(format!("{domain}/{library}{path}"))
}

/// Whether the first part of a name is a registry rather than a part of the path.
fn is_domain_like(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !host.contains('[') || host.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(six) => !six.is_empty() && six.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    host_ok
        && port
            .is_none_or(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !word(*first) || !word(*last) {
        return false;
    }
    bytes.split(|b| word(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=LONGEST_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_familiar_form_means_the_same() {
        for (full, short) in [
            ("docker.io/library/busybox:1", "busybox:1"),
            ("docker.io/team/app:1", "team/app:1"),
            ("docker.io/ghcr.io/x", "docker.io/ghcr.io/x:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest"),
            ("quay.io/a/b:2", "quay.io/a/b:2"),
        ] {
            let parsed = Reference::parse(full).unwrap();
            assert_eq!(Reference::parse(&parsed.familiar()).unwrap(), parsed, "{full}");
            if !full.contains("library/a/b") {
                assert_eq!(parsed.familiar(), short);
            }
        }
    }

    #[test]
    fn short_forms_are_filled_in() {
        for (text, full, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            (
                "library/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/app:v1",
                "localhost:5000/app:v1",
                "localhost:5000/app:v1",
            ),
            (
                "registry.k8s.io/pause:3.9",
                "registry.k8s.io/pause:3.9",
                "registry.k8s.io/pause:3.9",
            ),
            (
                "[::1]:5000/a/b",
                "[::1]:5000/a/b:latest",
                "[::1]:5000/a/b:latest",
            ),
            (
                "a__b/c-----d.e",
                "docker.io/a__b/c-----d.e:latest",
                "a__b/c-----d.e:latest",
            ),
            (
                "gcr.io/library/x",
                "gcr.io/library/x:latest",
                "gcr.io/library/x:latest",
            ),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "{text}");
            assert_eq!(Reference::parse(familiar).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn a_digest_stands_in_for_the_tag_or_beside_it() {
        let by_digest = Reference::parse(&format!("busybox@sha256:{HEX}")).unwrap();
        assert_eq!(
            (by_digest.tag(), by_digest.digest().unwrap().hex()),
            (None, HEX)
        );
        let both = Reference::parse(&format!("busybox:1@sha256:{HEX}")).unwrap();
        assert_eq!(
            (both.tag(), both.key().as_str()),
            (Some("1"), "docker.io/library/busybox:1")
        );
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        let long = "a".repeat(250);
        for bad in [
            "",
            ":latest",
            "@",
            "Busybox",
            "busybox:",
            "busybox:-x",
            "a//b",
            "a/",
            "/a",
            "../etc",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a b",
            "a\n",
            "busybox@sha256:12",
            "busybox@md5:aa",
            "exa_mple.com:x/a",
            "x.com:/a",
            "é",
            HEX,
            &long,
            "host.:5000/a",
            "sha256:12345678",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    }
}
