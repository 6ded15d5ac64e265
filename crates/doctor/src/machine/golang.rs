//! What built a Go binary: the build information that Go's linker puts into it
//! (`debug/buildinfo`, the form of Go 1.18 and later).

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a binary says of its making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Build {
    /// `go1.26.1`.
    pub(super) go: String,
    /// Its modules, as Go writes them: lines of `mod`, `dep`, `build`.
    pub(super) modules: String,
}

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The header is aligned so, and the strings begin at twice that.
const ALIGN: usize = 16;
/// Longest string that is read, bytes.
const MAX_STRING: usize = 256 << 10;
/// How much of a binary is searched, bytes.
const MAX_SEARCHED: usize = 256 << 20;
const CHUNK: usize = 1 << 20;

impl Build {
    /// Reads it out of a binary; `None` where there is none or it is of another form.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::read(File::open(path).ok()?)
    }

    fn read(mut file: impl Read) -> Option<Self> {
        let mut window: Vec<u8> = Vec::with_capacity(CHUNK * 2);
        let mut searched = 0;
        while searched < MAX_SEARCHED {
            let got = file.by_ref().take(CHUNK as u64).read_to_end(&mut window).ok()?;
            if let Some(at) = find(&window) {
                // What follows may be in the next chunks.
                file.by_ref().take(2 * MAX_STRING as u64).read_to_end(&mut window).ok()?;
                return parse(window.get(at..)?);
            }
            if got == 0 {
                return None;
            }
            searched += got;
            // Whole steps of the alignment go; a header may begin in what stays.
            let kept = window.len() % ALIGN;
            window.drain(..window.len() - kept);
        }
        None
    }

    /// The date of gVisor's sources in it, `20260701`, from its pseudo-version.
    pub(super) fn gvisor_date(&self) -> Option<u32> {
        let line = self.modules.lines().find(|l| l.contains("\tgvisor.dev/gvisor\t"))?;
        line.split('\t')
            .filter(|f| f.starts_with('v'))
            .find_map(|v| v.split(['-', '.', '+']).find_map(date))
    }
}

/// `20260701` out of `20260701204157` or itself.
pub(super) fn date(digits: &str) -> Option<u32> {
    let day = digits.get(..8).filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    day.parse().ok().filter(|d| (20_180_000..21_000_000).contains(d))
}

fn find(window: &[u8]) -> Option<usize> {
    let steps = window.chunks(ALIGN).enumerate();
    steps
        .map(|(n, step)| (n * ALIGN, step))
        .find(|(_, step)| step.starts_with(MAGIC))
        .map(|(at, _)| at)
}

fn parse(header: &[u8]) -> Option<Build> {
    // Magic, size of a pointer, flags; bit 1 says that the strings are here.
    if header.get(15)? & 2 == 0 {
        return None;
    }
    let (go, rest) = string(header.get(2 * ALIGN..)?)?;
    let (modules, _) = string(rest)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // 16 bytes before and after mark the text.
    let modules = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    Some(Build {
        go: text(go),
        modules: text(modules),
    })
}

/// A length as a base 128 number, and so many bytes.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            let rest = &bytes[n + 1..];
            return (length <= MAX_STRING && length <= rest.len()).then(|| rest.split_at(length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn binary(before: usize, go: &str, modules: &str) -> Vec<u8> {
        let mut bytes = vec![0; before];
        bytes.extend(MAGIC);
        bytes.extend([8, 2]);
        bytes.resize(before + 2 * ALIGN, 0);
        bytes.push(go.len() as u8);
        bytes.extend(go.bytes());
        let marked = format!("{}{modules}{}", "0123456789abcdef", "0123456789abcdef");
        bytes.extend([(marked.len() & 0x7f) as u8 | 0x80, (marked.len() >> 7) as u8]);
        bytes.extend(marked.bytes());
        bytes
    }

    #[test]
    fn the_build_is_read_wherever_it_is() {
        let modules = "path\tgvisor.dev/gvisor/runsc\nmod\tgvisor.dev/gvisor\tv0.0.0-20250205023644-9414b50a5633\th1:x\n".repeat(2);
        for before in [0, 4096, CHUNK - 16, CHUNK, 3 * CHUNK + 32] {
            let build = Build::read(&*binary(before, "go1.26.1", &modules)).unwrap_or_else(|| panic!("{before}"));
            assert_eq!((build.go.as_str(), build.gvisor_date()), ("go1.26.1", Some(20_250_205)), "{before}");
        }
        assert_eq!(Build::read(&b"\x7fELF nothing"[..]), None);
        assert_eq!(Build::read(&*binary(8, "go1.26", "")), None, "not aligned");
    }

    #[test]
    fn dates_are_days() {
        assert_eq!(date("20260701204157"), Some(20_260_701));
        for none in ["", "1234567", "00000000", "9414b50a5633", "２０２６０７０１"] {
            assert_eq!(date(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Build::read(&*bytes);
            bytes.splice(0..0, MAGIC.iter().copied().chain([8, 2]));
            let _ = Build::read(&*bytes);
        }
    }
}
