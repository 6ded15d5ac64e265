//! What a distribution says of its package: the CVE ids in its change log. It repairs weaknesses
//! without changing the version.

use flate2::read::GzDecoder;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much of a change log is read, unpacked, bytes: years of it.
const MAX_LOG: u64 = 1 << 20;

/// CVE ids in `/usr/share/doc/PACKAGE/changelog.Debian.gz`; `doc` is that folder.
pub(super) fn repaired(doc: &Path) -> BTreeSet<String> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(doc.join("changelog.Debian.gz")) {
        // One that is damaged tells what it told until there.
        let _ = GzDecoder::new(file).take(MAX_LOG).read_to_end(&mut text);
    }
    cve_ids(&String::from_utf8_lossy(&text))
}

fn cve_ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_id = |w: &&str| {
        let mut parts = w.splitn(3, '-');
        let number = |p: Option<&str>| p.is_some_and(|p| p.len() >= 4 && p.len() <= 8 && p.bytes().all(|b| b.is_ascii_digit()));
        parts.next() == Some("CVE") && number(parts.next()) && number(parts.next())
    };
    words.filter(is_id).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found() {
        let text = "* CVE-2024-21626: breakouts (CVE-2023-25809,CVE-2023-27561). CVE-x-1 CVE-2024 XCVE-2024-1111";
        assert_eq!(
            cve_ids(text).into_iter().collect::<Vec<_>>(),
            ["CVE-2023-25809", "CVE-2023-27561", "CVE-2024-21626"]
        );
    }
}
