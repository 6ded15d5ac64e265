//! Directories of descriptions that programs leave for others: `/etc/cdi`, `/run/cdi`.

use crate::files;
use std::path::{Path, PathBuf};

/// Most files that are read of one directory.
const MAX_FILES: usize = 4096;

/// The files of `directories` whose name `wanted` takes, by directory and name: the directory's place in
/// the list, the path, and the content of at most `max` bytes or why it could not be read. What is not
/// there is no error; sub-directories are not looked into.
pub fn read(directories: &[PathBuf], wanted: impl Fn(&Path) -> bool, max: u64) -> Vec<(usize, PathBuf, Result<Vec<u8>, String>)> {
    let mut found = Vec::new();
    for (place, directory) in directories.iter().enumerate() {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                found.push((place, directory.clone(), Err(format!("cannot be listed: {e}"))));
                continue;
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| wanted(p) && !p.is_dir())
            .take(MAX_FILES)
            .collect();
        paths.sort();
        found.extend(paths.into_iter().map(|path| {
            let content = files::read_bounded(&path, max).map_err(|e| format!("cannot be used: {e}"));
            (place, path, content)
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_come_in_order_and_one_that_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, none) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("none"));
        for (at, text) in [
            ("a/2.json", "22"),
            ("a/1.json", "1"),
            ("a/x.txt", "x"),
            ("b/big.json", "12345"),
            ("a/d.json/in", "x"),
        ] {
            let path = dir.path().join(at);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = read(&[a, none, b], |p| p.extension().is_some_and(|e| e == "json"), 4);
        let shown: Vec<_> = found
            .iter()
            .map(|(place, path, text)| (*place, path.file_name().unwrap().to_str().unwrap(), text.clone().ok()))
            .collect();
        assert_eq!(
            shown,
            [
                (0, "1.json", Some(b"1".to_vec())),
                (0, "2.json", Some(b"22".to_vec())),
                (2, "big.json", None)
            ]
        );
    }
}
