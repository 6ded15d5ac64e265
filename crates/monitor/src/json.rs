//! Finds the end of a JSON value in a stream, without parsing it.

/// Follows a stream byte by byte. It counts brackets and knows strings; whether what it saw is
/// JSON is for the reader of the value to find out.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    depth: u32,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between tokens, or before the value.
    #[default]
    Between,
    String,
    Escape,
    /// A number, `true`, `false` or `null` that is the whole value: only what follows ends it.
    Scalar,
    Done,
}

impl Scanner {
    /// Takes more of the stream; returns the number of its bytes that belong to the value once that
    /// is whole.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|&byte| self.ends_after(byte)).map(|at| match self.state {
            State::Scalar => at,
            _ => at + 1,
        })
    }

    /// Whether the end of the stream makes the value whole.
    pub(crate) fn whole_at_end(&self) -> bool {
        matches!(self.state, State::Scalar | State::Done)
    }

    fn ends_after(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (State::Done, _) => return true,
            (State::Escape, _) => self.state = State::String,
            (State::String, b'\\') => self.state = State::Escape,
            (State::String, b'"') => self.close(),
            (State::String, _) => {}
            (State::Scalar, b' ' | b'\t' | b'\n' | b'\r') => return true,
            (State::Scalar, _) => {}
            (State::Between, b'"') => self.state = State::String,
            (State::Between, b'{' | b'[') => self.depth = self.depth.saturating_add(1),
            (State::Between, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                self.close();
            }
            (State::Between, b' ' | b'\t' | b'\n' | b'\r') => {}
            (State::Between, _) if self.depth == 0 => self.state = State::Scalar,
            (State::Between, _) => {}
        }
        self.state == State::Done
    }

    fn close(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::Between };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_values() {
        // input, bytes of the value where it is whole, whether the end of input makes it whole
        let rows: &[(&str, Option<usize>, bool)] = &[
            ("", None, false),
            ("  ", None, false),
            ("{}", Some(2), true),
            ("{}\n{}", Some(2), true),
            ("{\"a\":[1,{\"b\":2}]}x", Some(17), true),
            ("{\"a\":\"}\"", None, false),
            ("{\"a\":\"}\"}", Some(9), true),
            (r#"{"a":"\"}"}"#, Some(11), true),
            (r#"{"a":"\\"}"#, Some(10), true),
            (r#""text" "#, Some(6), true),
            (r#""te\"xt"#, None, false),
            ("[[]", None, false),
            ("[[]]", Some(4), true),
            ("12", None, true),
            ("12\n", Some(2), true),
            (" null ", Some(5), true),
            ("}", Some(1), true),
        ];
        for (input, whole, at_end) in rows {
            let mut scanner = Scanner::default();
            assert_eq!(scanner.take(input.as_bytes()), *whole, "{input}");
            assert_eq!(scanner.whole_at_end(), *at_end, "{input}");
        }
    }

    #[test]
    fn pieces_are_as_good_as_the_whole() {
        let input = br#" {"a":"\"}","b":[{}, 1]} rest"#;
        for cut in 0..24 {
            let mut scanner = Scanner::default();
            assert_eq!(scanner.take(&input[..cut]), None, "{cut}");
            assert_eq!(scanner.take(&input[cut..]), Some(24 - cut), "{cut}");
        }
    }
}
