//! Rules for text values. The patterns are those of `apimachinery/pkg/util/validation` and
//! `pkg/apis/core/validation` of Kubernetes 1.34.

use core::net::IpAddr;

/// What a text must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Any,
    NotEmpty,
    /// Not empty, and no blanks around it.
    Image,
    /// DNS-1123 label.
    Label,
    /// DNS-1123 subdomain.
    Subdomain,
    /// A prefix of a subdomain.
    GenerateName,
    /// Key of a ConfigMap or Secret, which is a file's name too.
    DataKey,
    /// An absolute path without `..`.
    Absolute,
    /// A relative path without `..`, not empty.
    Relative,
    /// Where a volume is mounted.
    MountPath,
    EnvName,
    /// What `fieldRef.fieldPath` of a variable can name.
    FieldPath,
    /// What `fieldRef.fieldPath` of a file can name.
    FileFieldPath,
    /// A relative path that does not begin with `..`.
    FilePath,
    /// Name of a header of a request.
    HeaderName,
    /// IANA service name.
    PortName,
    Sysctl,
    Address,
    /// Key of a label or annotation.
    QualifiedName,
    /// Value of a label.
    LabelValue,
}

impl Format {
    /// The rule that `text` breaks, as the end of a sentence that begins with its path.
    pub(crate) fn broken_by(self, text: &str) -> Option<&'static str> {
        let (good, rule) = match self {
            Self::Any => return None,
            Self::NotEmpty => (!text.is_empty(), "must not be empty"),
            Self::Image => (
                !text.is_empty() && text.trim() == text,
                "must not be empty or have blanks around it",
            ),
            Self::Label => (
                is_label(text),
                "must be 1 to 63 lowercase letters, digits or '-', and begin and end with a letter or digit",
            ),
            Self::Subdomain => (
                is_subdomain(text),
                "must be 1 to 253 lowercase letters, digits, '-' or '.', and begin and end with a letter or digit around every '.'",
            ),
            Self::GenerateName => (
                is_subdomain(&format!("{text}x")),
                "must be up to 252 lowercase letters, digits, '-' or '.', and begin with a letter or digit after every '.'",
            ),
            Self::DataKey => (
                is_data_key(text),
                "must be a key of 1 to 253 letters, digits, '-', '_' or '.', and neither '.' nor begin with '..'",
            ),
            Self::Absolute => (
                text.starts_with('/') && !climbs(text),
                "must be a path that begins with '/' and has no '..'",
            ),
            Self::Relative => (
                !text.is_empty() && !text.starts_with('/') && !climbs(text),
                "must be a path that does not begin with '/' and has no '..'",
            ),
            Self::MountPath => (
                text.starts_with('/') && !climbs(text) && !text.contains(':'),
                "must be a path that begins with '/' and has neither '..' nor ':'",
            ),
            Self::EnvName => (
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|b| (b' '..=b'~').contains(&b) && b != b'='),
                "must be printable ASCII characters other than '='",
            ),
            Self::FieldPath => (
                is_field_path(text),
                "must be metadata.name, .namespace, .uid, .labels['KEY'] or .annotations['KEY'], spec.nodeName, spec.serviceAccountName, or status.podIP, .podIPs, .hostIP or .hostIPs",
            ),
            Self::FileFieldPath => (
                is_file_field_path(text),
                "must be metadata.name, .namespace, .uid, .labels, .labels['KEY'], .annotations or .annotations['KEY']",
            ),
            Self::FilePath => (
                !text.is_empty() && !text.starts_with("..") && !text.starts_with('/') && !climbs(text),
                "must be a path that does not begin with '/' or '..' and has no '..'",
            ),
            Self::HeaderName => (
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
                "must be letters, digits and '-'",
            ),
            Self::PortName => (
                is_port_name(text),
                "must be 1 to 15 lowercase letters, digits or single '-' within, with at least one letter",
            ),
            Self::Sysctl => (
                is_sysctl(text),
                "must be the name of a kernel setting, such as net.core.somaxconn",
            ),
            Self::Address => (
                text.parse::<IpAddr>().is_ok(),
                "must be an IPv4 or IPv6 address",
            ),
            Self::QualifiedName => (
                is_qualified_name(text),
                "is no valid key: write NAME or DOMAIN/NAME, where NAME is 1 to 63 letters, digits, '-', '_' or '.'",
            ),
            Self::LabelValue => (
                text.is_empty() || is_name_part(text),
                "must be at most 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit",
            ),
        };
        (!good).then_some(rule)
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    let part = |p: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !p.is_empty() && p.bytes().all(inner) && !p.starts_with('-') && !p.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_data_key(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=253).contains(&text.len())
        && text.bytes().all(inner)
        && text != "."
        && !text.starts_with("..")
}

/// A path that cannot be carried to the kernel, or that leaves where it begins.
fn climbs(path: &str) -> bool {
    path.contains('\0') || path.split('/').any(|p| p == "..")
}

fn is_name_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_name_part(name),
        None => is_name_part(text),
    }
}

fn is_field_path(text: &str) -> bool {
    const WHOLE: [&str; 9] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.podIP",
        "status.podIPs",
        "status.hostIP",
        "status.hostIPs",
    ];
    WHOLE.contains(&text) || is_one_of_map(text)
}

fn is_file_field_path(text: &str) -> bool {
    const WHOLE: [&str; 5] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels",
        "metadata.annotations",
    ];
    WHOLE.contains(&text) || is_one_of_map(text)
}

/// Whether it names one label or annotation.
fn is_one_of_map(text: &str) -> bool {
    let keyed = |prefix: &str| {
        let key = text
            .strip_prefix(prefix)
            .and_then(|k| k.strip_prefix("['"))
            .and_then(|k| k.strip_suffix("']"));
        key.is_some_and(is_qualified_name)
    };
    keyed("metadata.labels") || keyed("metadata.annotations")
}

fn is_port_name(text: &str) -> bool {
    is_label(text)
        && text.len() <= 15
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_sysctl(text: &str) -> bool {
    let part = |p: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !p.is_empty() && p.bytes().all(inner)
    };
    text.len() <= 253 && text.contains(['.', '/']) && text.split(['.', '/']).all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_takes_and_refuses() {
        use Format as F;
        let long = "a".repeat(64);
        let rows: [(F, &[&str], &[&str]); 20] = [
            (F::Any, &["", "x"], &[]),
            (F::NotEmpty, &["x"], &[""]),
            (F::Image, &["busybox:1.36"], &["", " busybox"]),
            (
                F::Label,
                &["a", "a-1"],
                &["", "A", "-a", "a-", "a.b", "../x", &long],
            ),
            (
                F::Subdomain,
                &["a.b-c", &long],
                &["", "a..b", ".a", "a.", "A", "a/b"],
            ),
            (F::GenerateName, &["web-", "web"], &["-web", "Web-"]),
            (
                F::DataKey,
                &["a.txt", ".hidden", "A_b-c"],
                &["", ".", "..", "..x", "a/b", "a b"],
            ),
            (F::Absolute, &["/", "/a/b"], &["", "a", "/a/../b", "/a\0"]),
            (
                F::Relative,
                &["a", "a/b", "..a"],
                &["", "/a", "..", "a/../b"],
            ),
            (F::MountPath, &["/data"], &["data", "/a:b", "/.."]),
            (F::EnvName, &["A", "a.b-c", "1 x"], &["", "A=B", "é", "a\n"]),
            (
                F::FieldPath,
                &["status.podIP", "metadata.labels['app.io/x']"],
                &["status.phase", "metadata.labels", "metadata.labels['']"],
            ),
            (
                F::FileFieldPath,
                &["metadata.labels", "metadata.annotations['a/b']"],
                &["status.podIP", "spec.nodeName", "metadata.labels['']"],
            ),
            (F::FilePath, &["a", "a/..b"], &["", "/a", "..", "..a", "a/../b"]),
            (F::HeaderName, &["X-A", "1"], &["", "a b", "a:", "é"]),
            (
                F::PortName,
                &["http", "a-1"],
                &["80", "a--b", "-a", "HTTP", "sixteen-letters-"],
            ),
            (
                F::Sysctl,
                &["net.core.somaxconn", "kernel/shm_rmid_forced"],
                &["net", "net..x", "net.$"],
            ),
            (F::Address, &["1.1.1.1", "::1"], &["1.1.1", "dns"]),
            (
                F::QualifiedName,
                &["app", "app.io/Name_1"],
                &["", "/x", "a/b/c", "x/", "A.io/x", &long],
            ),
            (F::LabelValue, &["", "v1.2", "true"], &["-x", "a b", &long]),
        ];
        for (format, good, bad) in rows {
            for text in good {
                assert_eq!(format.broken_by(text), None, "{format:?} takes {text:?}");
            }
            for text in bad {
                assert!(
                    format.broken_by(text).is_some(),
                    "{format:?} refuses {text:?}"
                );
            }
        }
    }
}
