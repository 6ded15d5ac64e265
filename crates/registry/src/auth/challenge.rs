//! What a registry asks for with 401: the `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// More challenges or parameters than this are not looked at.
const MAX_ITEMS: usize = 32;

/// One way to authenticate that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `basic`, `bearer`, …
    pub scheme: String,
    /// Names in lower case, and values with quotes and escapes undone, in order.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of a name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header, of which each may hold several. What cannot be understood ends the list;
/// no text makes this fail.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    let mut items = 0;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(rest);
        items += 1;
        if name.is_empty() || items > MAX_ITEMS {
            return challenges;
        }
        let after = after.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            challenges.push(Challenge {
                scheme: name.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            rest = after;
            continue;
        };
        let Some(challenge) = challenges.last_mut() else {
            return challenges;
        };
        // `token68`, a bare text in the place of parameters, may end by = signs.
        let value = value.trim_start_matches([' ', '\t']);
        if value.is_empty() || value.starts_with(['=', ',']) {
            rest = value.trim_start_matches('=');
            continue;
        }
        let Some((value, after)) = token_or_quoted(value) else {
            return challenges;
        };
        challenge.parameters.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
    text.split_at(end)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A value and what follows. Unquoted ones are taken up to a comma or a space: registries send bare URLs
/// there, which no token may hold.
fn token_or_quoted(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, quoted.get(at + 1..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        for (header, wanted) in [
            ("", ""),
            ("Basic", "basic()"),
            (r#"Basic realm="Registry Realm""#, "basic(realm=Registry Realm)"),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                "bearer(realm=https://auth.docker.io/token|service=registry.docker.io|scope=repository:a/b:pull,push)",
            ),
            (r#"BEARER Realm = "x" , Service=y"#, "bearer(realm=x|service=y)"),
            (
                r#"Basic realm="a, Bearer b=c", Bearer realm="d""#,
                "basic(realm=a, Bearer b=c) bearer(realm=d)",
            ),
            (r#"Bearer realm="a\"b\\c""#, r#"bearer(realm=a"b\c)"#),
            (
                r#"Bearer realm=https://x/token?a=b,service=s"#,
                "bearer(realm=https://x/token?a=b|service=s)",
            ),
            (r#"Negotiate abc==, Basic realm="r""#, "negotiate() basic(realm=r)"),
            (r#"Negotiate, Basic realm="r""#, "negotiate() basic(realm=r)"),
            (r#"Bearer realm="open"#, "bearer()"),
            (r#"realm="no scheme""#, ""),
            (r#"Bearer realm="", x="#, "bearer(realm=)"),
            (",,, Basic ,,, realm=x", "basic(realm=x)"),
            ("Bearer a\u{e9}=b", "bearer() a()"),
            ("\"", ""),
        ] {
            let got: Vec<String> = parse_challenges(header)
                .iter()
                .map(|c| {
                    let parameters: Vec<String> = c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("{}({})", c.scheme, parameters.join("|"))
                })
                .collect();
            assert_eq!(got.join(" "), wanted, "{header}");
        }
    }

    #[test]
    fn long_headers_are_bounded() {
        assert!(parse_challenges(&"a ".repeat(100_000)).len() <= MAX_ITEMS);
        let parameters = parse_challenges(&format!("a {}", "b=c,".repeat(100_000)));
        assert!(parameters.iter().all(|c| c.parameters.len() <= MAX_ITEMS));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = parse_challenges(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let challenges = parse_challenges(&format!("Bearer realm=\"{quoted}\",scope=x"));
            proptest::prop_assert_eq!(challenges.len(), 1);
            proptest::prop_assert_eq!(challenges[0].parameter("realm"), Some(value.as_str()));
            proptest::prop_assert_eq!(challenges[0].parameter("scope"), Some("x"));
        }
    }
}
