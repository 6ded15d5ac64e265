//! The forms of names and values, with the sentences of `k8s.io/apimachinery/pkg/util/validation`.
//! Each function gives what is wrong with a text; nothing where it is right.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const UNDERSCORE_LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn pattern(rule: &str, examples: &[&str], regex: &str) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} characters"))
}

/// Whether `text` begins and ends with one of `outer` and has `outer` or `inner` between.
fn framed(text: &str, outer: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(a, b)| outer(*a) && outer(*b));
    ends && bytes.iter().all(|b| outer(*b) || inner.contains(b))
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn letter_or_digit(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn matches_label(text: &str) -> bool {
    framed(text, lower, b"-")
}

fn matches_subdomain(text: &str) -> bool {
    text.split('.').all(matches_label)
}

/// A DNS-1123 label, at most 63 characters.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    if matches_label(text) {
        return errors;
    }
    errors.push(if matches_subdomain(text) {
        "must not contain dots".to_string()
    } else {
        pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            &["my-name", "123-abc"],
            LABEL,
        )
    });
    errors
}

/// A DNS-1123 subdomain, at most 253 characters.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    if !matches_subdomain(text) {
        errors.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &["example.com"],
            &format!("{LABEL}(\\.{LABEL})*"),
        ));
    }
    errors
}

/// A DNS-1123 subdomain whose labels may begin with and contain `_`.
pub fn dns_subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    let label = |l: &str| framed(l.strip_prefix('_').unwrap_or(l), lower, b"-_");
    if !text.split('.').all(label) {
        errors.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &["example.com"],
            &format!("{UNDERSCORE_LABEL}(\\.{UNDERSCORE_LABEL})*"),
        ));
    }
    errors
}

/// A label key or resource name: a name with an optional DNS prefix before a `/`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let rule = |start: &str| {
        pattern(
            &format!(
                "{start} must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            ),
            &["MyName", "my.name", "123-abc"],
            NAME,
        )
    };
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        ["", name] => {
            errors.push("prefix part must be non-empty".to_string());
            name
        }
        [prefix, name] => {
            errors.extend(dns_subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")));
            name
        }
        _ => {
            let rule = rule("a qualified name");
            return vec![format!(
                "{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_string());
    } else if let Some(error) = too_long(name, 63) {
        errors.push(format!("name part {error}"));
    }
    if !framed(name, letter_or_digit, b"-_.") {
        errors.push(rule("name part"));
    }
    errors
}

/// A label's value, at most 63 characters; empty is right.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 63).into_iter().collect();
    if !text.is_empty() && !framed(text, letter_or_digit, b"-_.") {
        errors.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &["MyValue", "my_value", "12345"],
            &format!("({NAME})?"),
        ));
    }
    errors
}

/// A port's name (IANA service name), at most 15 characters.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 15).into_iter().collect();
    let mut check = |wrong: bool, error: &str| {
        if wrong {
            errors.push(error.to_string());
        }
    };
    let charset = !text.is_empty() && text.bytes().all(|b| lower(b) || b == b'-');
    check(!charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    check(
        !text.bytes().any(|b| b.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    check(text.contains("--"), "must not contain consecutive hyphens");
    check(text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen");
    errors
}

/// The name of a header of a request.
pub fn header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| letter_or_digit(b) || b == b'-') {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        &["X-Header-Name"],
        "[-A-Za-z0-9]+",
    )]
}

/// The name of an environment variable, as the API takes it since 1.34: printable ASCII without `=`.
pub fn env_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_string()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_string()]
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors: Vec<String> = too_long(text, 253).into_iter().collect();
    if text.is_empty() || !text.bytes().all(|b| letter_or_digit(b) || b"-._".contains(&b)) {
        errors.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            &["key.name", "KEY_NAME", "key-name"],
            "[-._a-zA-Z0-9]+",
        ));
    }
    match text {
        "." => errors.push("must not be '.'".to_string()),
        ".." => errors.push("must not be '..'".to_string()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_string()),
        _ => {}
    }
    errors
}

/// A number within bounds, both included.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

/// Whether `name` is one that a kernel setting can have.
pub(crate) fn is_sysctl_name(name: &str) -> bool {
    name.len() <= 253 && name.split(['.', '/']).all(|segment| framed(segment, lower, b"-_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    const RFC_SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

    #[test]
    fn each_form_takes_and_refuses() {
        let long = "a".repeat(64);
        let longest = "a".repeat(254);
        type Check = fn(&str) -> Vec<String>;
        let rows: &[(Check, &str, &[&str])] = &[
            (dns_label, "a-1", &[]),
            (dns_label, "", &[RFC_LABEL]),
            (dns_label, "A", &[RFC_LABEL]),
            (dns_label, "-a", &[RFC_LABEL]),
            (dns_label, "a.b", &["must not contain dots"]),
            (dns_label, &long, &["must be no more than 63 characters"]),
            (dns_subdomain, "a.b-c", &[]),
            (dns_subdomain, "a..b", &[RFC_SUBDOMAIN]),
            (dns_subdomain, &longest, &["must be no more than 253 characters"]),
            (dns_subdomain_with_underscore, "_a.b_c", &[]),
            (qualified_name, "example.com/MyName", &[]),
            (qualified_name, "/x", &["prefix part must be non-empty"]),
            (qualified_name, "", &["name part must be non-empty", NAME_PART]),
            (qualified_name, "a b", &[NAME_PART]),
            (qualified_name, &long, &["name part must be no more than 63 characters"]),
            (label_value, "", &[]),
            (label_value, "a b", &[LABEL_VALUE]),
            (port_name, "http-1", &[]),
            (port_name, "1", &["must contain at least one letter (a-z)"]),
            (
                port_name,
                "-a--b",
                &["must not contain consecutive hyphens", "must not begin or end with a hyphen"],
            ),
            (port_name, "abcdefghijklmnop", &["must be no more than 15 characters"]),
            (env_name, "1 x", &[]),
            (env_name, "", &["environment variable name must be non-empty"]),
            (
                env_name,
                "a=b",
                &["a valid environment variable name must consist only of printable ASCII characters other than '='"],
            ),
            (config_key, "key.name", &[]),
            (config_key, "..", &["must not be '..'"]),
            (config_key, "..a", &["must not start with '..'"]),
        ];
        for (check, text, expected) in rows {
            assert_eq!(check(text), *expected, "{text:?}");
        }
        assert_eq!(in_range(0, 1, 65535), ["must be between 1 and 65535, inclusive"]);
        assert!(is_sysctl_name("net.ipv4.ip_forward") && !is_sysctl_name("net..x") && !is_sysctl_name("Net.x"));
    }
}
