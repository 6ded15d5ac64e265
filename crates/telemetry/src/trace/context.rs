//! Where a span stands: W3C trace context, and which traces are kept.
//!
//! Sources: W3C "Trace Context" level 1, 3.2; OpenTelemetry "Tracing SDK", samplers.

/// Identity of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    pub(crate) sampled: bool,
}

impl Context {
    /// Reads a `traceparent` header. One that breaks the rules counts as absent, as W3C demands.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let [version] = hex::<1>(&bytes[..2])?;
        // Later versions may add parts behind another dash; the first version has none.
        let end = bytes.get(55).copied();
        if version == 0xff || (version == 0 && end.is_some()) || end.is_some_and(|byte| byte != b'-') {
            return None;
        }
        let (trace, span, [flags]) = (hex::<16>(&bytes[3..35])?, hex::<8>(&bytes[36..52])?, hex::<1>(&bytes[53..55])?);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }

    /// A new root.
    pub(crate) fn root(ratio: f64) -> Self {
        let trace = random();
        Self {
            trace,
            span: random(),
            sampled: keeps(ratio, trace),
        }
    }

    /// A child: the trace and the decision are the parent's.
    pub(crate) fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// Whether a sampler that asks no parent keeps this trace.
    pub(crate) fn kept(&self, ratio: f64) -> bool {
        keeps(ratio, self.trace)
    }

    /// The trace's id as logs and collectors write it.
    pub(crate) fn trace_hex(&self) -> String {
        to_hex(&self.trace)
    }
}

/// Lower-case hexadecimal only, as W3C demands.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (out, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *out = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Random bytes, never all zero, which would mean "none".
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's source never fails once the machine is up; without it, ids of one value still show every span.
    let _ = rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

/// Decides by the id alone, so that every service decides alike about one trace.
fn keeps(ratio: f64, trace: [u8; 16]) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    let [_, _, _, _, _, _, _, _, low @ ..] = trace;
    let threshold = (ratio * (1_u64 << 63) as f64) as u64;
    u64::from_be_bytes(low) >> 1 < threshold
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_good_header_is_read() {
        let context = Context::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(context.trace_hex(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(to_hex(&context.span), "b7ad6b7169203331");
        assert!(context.sampled);
        // (flags, sampled): only the lowest bit counts.
        for (flags, sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let header = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            assert_eq!(Context::parse(&header).unwrap().sampled, sampled, "{flags}");
        }
        assert!(
            Context::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_some(),
            "a later version"
        );
        assert!(Context::parse("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what.the").is_some());
    }

    #[test]
    fn a_bad_header_counts_as_absent() {
        let long = format!("00-{}", "a".repeat(1 << 20));
        let multi = "é".repeat(28);
        let table = [
            "",
            "-",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033311-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c8031\u{e9}-b7ad6b7169203331-01",
            "00-\0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            &long,
            &multi,
        ];
        for header in table {
            assert_eq!(Context::parse(header), None, "{:?}", crate::cut(header, 80));
        }
    }

    #[test]
    fn sampling_follows_the_id() {
        let low = |value: u64| {
            let mut trace = [0xff; 16];
            trace[8..].copy_from_slice(&value.to_be_bytes());
            trace
        };
        assert!(keeps(1.0, low(u64::MAX)) && !keeps(0.0, low(0)));
        assert!(keeps(0.5, low(u64::MAX / 2 - 2)) && !keeps(0.5, low(u64::MAX / 2 + 2)));
        assert!(keeps(0.25, low(u64::MAX / 4 - 1000)) && !keeps(0.25, low(u64::MAX / 4 + 1000)));
    }

    #[test]
    fn ids_differ() {
        let (a, b) = (Context::root(1.0), Context::root(1.0));
        assert!(a.trace != b.trace && a.span != b.span);
        let child = a.child();
        assert!(child.trace == a.trace && child.span != a.span && child.sampled);
    }
}
