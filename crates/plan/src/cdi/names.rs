//! Names: `vendor/class=device` (`pkg/parser/parser.go`).

/// Whether a name has the form `vendor/class=device`.
pub fn is_qualified(name: &str) -> bool {
    name.split_once('=')
        .is_some_and(|(kind, device)| parse_kind(kind).is_some() && is_device(device))
}

/// The two parts of `vendor/class`.
pub fn parse_kind(kind: &str) -> Option<(&str, &str)> {
    kind.split_once('/').filter(|(vendor, class)| is_part(vendor) && is_part(class))
}

fn is_part(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_plain(text, "_-.")
}

/// Whether this can be a device's own name.
pub(super) fn is_device(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_plain(text, "_-.:")
}

fn is_plain(text: &str, also: &str) -> bool {
    text.len() <= MAX_NAME
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// Longest part of a name, bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for (name, wanted) in [
            ("vendor.com/gpu=0", true),
            ("nvidia.com/gpu=all", true),
            ("a/b=c:1", true),
            ("vendor.com/gpu", false),
            ("gpu=0", false),
            ("/gpu=0", false),
            ("1v/gpu=0", false),
            ("v/1=0", false),
            ("v/c=", false),
            ("v/c=a=b", false),
            ("v/c/d=a", false),
            ("v./c=a", false),
            ("v/c=a-", false),
            ("v/c=a b", false),
            ("", false),
        ] {
            assert_eq!(is_qualified(name), wanted, "{name:?}");
        }
    }
}
