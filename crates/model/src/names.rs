//! Identifiers that are valid by construction.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct BadName {
    what: &'static str,
    value: String,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps `value`.
            pub fn new(value: impl Into<String>) -> Result<Self, BadName> {
                let value = value.into();
                let check: fn(&str) -> bool = $check;
                if check(&value) { Ok(Self(value)) } else { Err(BadName { what: $what, value, rule: $rule }) }
            }
            /// The text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(value: String) -> Result<Self, BadName> { Self::new(value) }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String { value.0 }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str { &self.0 }
        }
    };
}

name!(
    /// Name of a handler: one key of a node's runtime table. A configuration may use any DNS-1123
    /// subdomain; a RuntimeClass can only name a label, which its own validation checks.
    HandlerName,
    "handler name",
    |v| !v.is_empty() && v.len() <= 253 && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && !v.starts_with('.'),
    "use 1 to 253 letters, digits, '-', '_' or '.'"
);

name!(
    /// Id of a pod sandbox: 32 lowercase hex digits. Names of everything on the machine derive from it.
    PodId,
    "pod id",
    |v| is_hex(v, DIGITS),
    "use 32 lowercase hex digits"
);

name!(
    /// Id of a container: 64 lowercase hex digits, as Docker's and containerd's have. Log collectors find a
    /// container's log by exactly so many (`kube_regex.h` of Fluent Bit, fluent-plugin-kubernetes_metadata_filter),
    /// and agents find its cgroup so. Records of older versions have 32.
    ContainerId,
    "container id",
    |v| is_hex(v, ContainerId::DIGITS) || is_hex(v, DIGITS),
    "use 64 lowercase hex digits"
);

/// Digits of 16 bytes.
const DIGITS: usize = 32;

fn is_hex(v: &str, digits: usize) -> bool {
    v.len() == digits && v.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! id {
    ($name:ident) => {
        impl $name {
            /// An id of 32 digits, from 16 random bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
            }
            /// The first 12 digits, as people see it.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }
    };
}
id!(PodId);
id!(ContainerId);

impl ContainerId {
    /// Digits of a whole id.
    pub const DIGITS: usize = 2 * DIGITS;

    /// An id of a container in `pod`: those of 16 random bytes, and the pod's.
    pub fn within(pod: &PodId, bytes: [u8; 16]) -> Self {
        Self(format!("{}{pod}", Self::from_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_id_is_what_log_collectors_look_for() {
        let id = ContainerId::within(&PodId::from_bytes([0xcd; 16]), [0xab; 16]);
        assert_eq!(id.as_str(), "ab".repeat(16) + &"cd".repeat(16));
        assert_eq!(id.as_str().len(), 64);
        assert_eq!(ContainerId::new(id.as_str()).as_ref(), Ok(&id));
    }

    #[test]
    fn ids_take_only_what_is_safe_in_a_path() {
        assert!(PodId::new("0123456789abcdef0123456789abcdef").is_ok());
        for bad in ["", "..", "0123456789ABCDEF0123456789abcdef", "0123456789abcdef0123456789abcde/"] {
            assert!(PodId::new(bad).is_err(), "{bad}");
        }
        for (digits, good) in [(31, false), (32, true), (33, false), (63, false), (64, true), (65, false)] {
            assert_eq!(ContainerId::new("a".repeat(digits)).is_ok(), good, "{digits}");
        }
        assert!(PodId::new("a".repeat(64)).is_err());
        assert!(HandlerName::new("kata-qemu").is_ok());
        for bad in ["", "../runc", "a/b", ".hidden"] {
            assert!(HandlerName::new(bad).is_err(), "{bad}");
        }
    }
}
