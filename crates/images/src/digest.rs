//! Digests, and a reader that measures what passes through it.

use crate::error::{Error, Result, invalid};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};

/// A SHA-256 digest. Written `sha256:` and 64 lowercase hex digits, the form of the OCI image
/// specification; other algorithms are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:<hex>`.
    pub fn parse(text: &str) -> Result<Self> {
        text.strip_prefix("sha256:")
            .and_then(Self::from_hex)
            .ok_or_else(|| Error::BadDigest(text.chars().take(100).collect()))
    }

    /// From 64 lowercase hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(hex.to_owned()))
    }

    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(bytes);
        Self::finish(hasher)
    }

    fn finish(hasher: Sha256) -> Self {
        Self(
            hasher
                .finalize()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect(),
        )
    }

    /// The 64 digits: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as people see it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// A digest under way.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::finish(self.0)
    }
}

/// Hashes and counts what is read through it, and fails where more comes than `limit`.
pub(crate) struct Metered<'a, R> {
    inner: R,
    hasher: Sha256,
    count: u64,
    limit: u64,
    over: String,
    seen: Option<&'a dyn Fn(u64)>,
}

impl<'a, R: Read> Metered<'a, R> {
    /// `over` is the sentence for more than `limit` bytes.
    pub(crate) fn new(inner: R, limit: u64, over: impl Into<String>) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
            limit,
            over: over.into(),
            seen: None,
        }
    }

    /// Calls `seen` with the count after every read.
    pub(crate) fn watched(mut self, seen: &'a dyn Fn(u64)) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Reads what is left, and returns digest and length of the whole.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok((Digest::finish(self.hasher), self.count))
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += n as u64;
        if self.count > self.limit {
            return Err(invalid(self.over.clone()));
        }
        self.hasher.update(&buffer[..n]);
        if let Some(seen) = self.seen {
            seen(self.count);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_sha256_in_lowercase_hex_is_a_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::parse(empty).unwrap().to_string(), empty);
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            &empty.to_uppercase(),
            &empty[..70],
            "sha256:../../etc/passwd",
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endless_stream_ends_at_the_limit() {
        let error = Metered::new(io::repeat(0), 1 << 20, "too much")
            .finish()
            .unwrap_err();
        assert_eq!(error.to_string(), "too much");
        let (digest, length) = Metered::new(&b"abc"[..], 3, "").finish().unwrap();
        assert_eq!((digest, length), (Digest::of(b"abc"), 3));
    }
}
