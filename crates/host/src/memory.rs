//! Memory of this process: what a daemon that sleeps most of its time gives back.
// mallopt(3), malloc_trim(3) and madvise(2) have no safe form; what makes each call sound stands at it.
#![allow(unsafe_code)]

use std::path::Path;

/// Arenas of a process whose threads come and go: each further one keeps what its threads left.
const ARENAS: i32 = 2;
/// Heap at its end that is given back at once, bytes.
const TRIM: i32 = 256 << 10;

/// Bounds what the allocator keeps for itself. To be called before threads are made.
pub fn frugal_heap() {
    // SAFETY: mallopt only sets parameters of the allocator, and nothing else is running yet that could
    // see them half set: they are read under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM);
    }
}

/// Gives back free heap, and unmaps the program's pages, which come again from the page cache where they
/// are used: what only the start needed is not held for as long as a daemon lives.
pub fn give_back() {
    // SAFETY: malloc_trim has no preconditions.
    unsafe { libc::malloc_trim(0) };
    let (Ok(own), Ok(maps)) = (std::fs::read_link("/proc/self/exe"), std::fs::read_to_string("/proc/self/maps")) else { return };
    for (start, end) in maps.lines().filter_map(|line| code(line, &own)) {
        // SAFETY: the range is one mapping of this process, private, of a file, and not writable: it is
        // code, to which no relocation is written. So all of its pages are the file's own, and what
        // touches them next finds the same bytes.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// The range of a line of `/proc/self/maps`, where it maps code of `program`.
fn code(line: &str, program: &Path) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, flags) = (fields.next()?, fields.next()?);
    if flags != "r-xp" || Path::new(fields.nth(3)?) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_code_of_the_program_is_unmapped() {
        let own = Path::new("/usr/bin/cofferdam");
        let rows = [
            ("00401000-00402000 r-xp 00001000 fe:00 7 /usr/bin/cofferdam", Some((0x401_000, 0x402_000))),
            ("00400000-00401000 r--p 00000000 fe:00 7 /usr/bin/cofferdam", None),
            ("00402000-00403000 rw-p 00002000 fe:00 7 /usr/bin/cofferdam", None),
            ("00401000-00402000 rwxp 00001000 fe:00 7 /usr/bin/cofferdam", None),
            ("7f0000000000-7f0000001000 r-xp 00000000 fe:00 8 /usr/lib/libc.so.6", None),
            ("7f0000000000-7f0000001000 r-xp 00000000 00:00 0 [vdso]", None),
            ("7f0000000000-7f0000001000 r-xp 00000000 00:00 0", None),
            ("", None),
        ];
        for (line, found) in rows {
            assert_eq!(code(line, own), found, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_after_its_pages_were_unmapped() {
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.lines().any(|line| code(line, &program).is_some()), "{maps}");
        frugal_heap();
        let kept = vec![7u8; 1 << 20];
        give_back();
        assert_eq!(kept.iter().map(|b| u64::from(*b)).sum::<u64>(), 7 << 20);
    }
}
