//! `$(NAME)` in commands, arguments and environment values, by the rules of Kubernetes'
//! `third_party/forked/golang/expansion`: `$$` is a plain `$`, a reference to an unknown name and
//! anything that is not a whole reference stay as they are, and a value put in is not looked at again.
//! One difference: upstream garbles a non-ASCII character right after `$`; here it stays.

/// Longest result, bytes: the kernel takes no longer argument or variable (`MAX_ARG_STRLEN`). Without
/// a bound, forty variables that each name the one before twice would fill the memory.
pub const MAX: usize = 128 * 1024;

/// The result is longer than [`MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text with its $(NAME) references put in is longer than 128 KiB, which the kernel does not take; shorten it"
)]
pub struct TooLong;

/// Replaces each `$(NAME)` in `input` by what `lookup` gives for the name.
pub fn expand<'a>(
    input: &str,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, TooLong> {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            tail
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            tail
        } else {
            out.push('$');
            // The character after a `$` that begins nothing is passed over with it.
            let next = after.chars().next().map_or(0, char::len_utf8);
            out.push_str(&after[..next]);
            &after[next..]
        };
        if out.len() > MAX {
            return Err(TooLong);
        }
    }
    out.push_str(rest);
    if out.len() > MAX {
        Err(TooLong)
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of upstream's `expand_test.go`.
    const CASES: &[(&str, &str)] = &[
        ("$(VAR_A)", "A"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_A)-1", "A-1"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\\\\\$(VAR_A)bar", "foo\\\\\\\\Abar"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("\n", "\n"),
        ("$é$(VAR_A)", "$éA"),
    ];

    #[test]
    fn as_upstream() {
        let lookup = |name: &str| match name {
            "VAR_A" => Some("A"),
            "VAR_B" => Some("B"),
            "VAR_C" => Some("C"),
            "VAR_REF" => Some("$(VAR_A)"),
            "VAR_EMPTY" => Some(""),
            _ => None,
        };
        for (input, expected) in CASES {
            assert_eq!(expand(input, lookup).as_deref(), Ok(*expected), "{input:?}");
        }
    }

    #[test]
    fn growth_is_bounded() {
        let long = "x".repeat(1000);
        let input = "$(X)".repeat(1000);
        assert_eq!(expand(&input, |_| Some(long.as_str())), Err(TooLong));
        assert_eq!(expand(&"x".repeat(MAX + 1), |_| None), Err(TooLong));
        assert!(expand(&"x".repeat(MAX), |_| None).is_ok());
    }
}
