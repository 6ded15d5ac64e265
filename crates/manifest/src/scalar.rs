//! Plain scalars, resolved as kubectl does.
//!
//! kubectl reads YAML with `sigs.k8s.io/yaml`, whose go-yaml v2 resolves plain scalars by YAML 1.1
//! (`goyaml.v2/resolve.go`): `yes`, `no`, `on`, `off`, `y` and `n` are booleans, a leading zero
//! makes a number octal, digits may be grouped by `_`. Dates stay text there, and here.

/// What a plain scalar is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// Resolves a plain (unquoted) scalar.
pub(crate) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Plain::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Plain::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Plain::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Plain::Text;
    }
    let digits = text.replace('_', "");
    if let Some(int) = integer(&digits) {
        return Plain::Int(int);
    }
    if is_float(&digits) {
        digits.parse().map_or(Plain::Text, Plain::Float)
    } else {
        Plain::Text
    }
}

/// Go's `strconv.ParseInt(…, 0, …)`, wider: decimal, `0x`, `0b`, `0o`, and octal by a leading zero.
fn integer(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &rest[2..]),
        [b'0', b'b' | b'B', ..] => (2, &rest[2..]),
        [b'0', b'o' | b'O', ..] => (8, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None; // from_str_radix would take a second sign
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// go-yaml's `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`.
fn is_float(text: &str) -> bool {
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && !exponent.is_empty()
        && digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_have_many_spellings() {
        for (word, value) in [
            ("y Y yes Yes YES true True TRUE on On ON", true),
            ("n N no No NO false False FALSE off Off OFF", false),
        ] {
            for word in word.split(' ') {
                assert_eq!(resolve(word), Plain::Bool(value), "{word}");
            }
        }
    }

    #[test]
    fn scalars_are_what_kubectl_takes_them_for() {
        for (text, plain) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("nULL", Plain::Text),
            ("yes", Plain::Bool(true)),
            ("Off", Plain::Bool(false)),
            ("n", Plain::Bool(false)),
            ("yEs", Plain::Text),
            ("80", Plain::Int(80)),
            ("-1", Plain::Int(-1)),
            ("+1", Plain::Int(1)),
            ("+-1", Plain::Text),
            ("0644", Plain::Int(0o644)),
            ("0o644", Plain::Int(0o644)),
            ("0x1F", Plain::Int(31)),
            ("0b101", Plain::Int(5)),
            ("1_000", Plain::Int(1000)),
            ("08", Plain::Float(8.0)),
            ("1.10", Plain::Float(1.1)),
            (".5", Plain::Float(0.5)),
            ("1e3", Plain::Float(1000.0)),
            ("0", Plain::Int(0)),
            (".", Plain::Text),
            ("-", Plain::Text),
            ("1e", Plain::Text),
            ("100m", Plain::Text),
            ("1.2.3", Plain::Text),
            ("2001-12-14", Plain::Text),
            ("22:22", Plain::Text),
            ("v1", Plain::Text),
            ("0x", Plain::Text),
            (
                "99999999999999999999999999999999999999999",
                Plain::Float(1e41),
            ),
        ] {
            assert_eq!(resolve(text), plain, "{text}");
        }
    }
}
