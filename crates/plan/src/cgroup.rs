//! Where a pod's cgroup lies.
//!
//! A kubelet names a pod's parent by its cgroup driver: a path (`cgroupfs`), or the name of a systemd
//! slice, whose dashes tell the slices above it (systemd.slice(5)).

use std::path::{Component, Path, PathBuf};

/// Longest path, bytes.
const MAX_PATH: usize = 1024;
/// Deepest path.
const MAX_DEPTH: usize = 16;
/// Longest name of one cgroup, bytes (the kernel's `NAME_MAX`).
const MAX_NAME: usize = 255;

/// The cgroup that `asked` names, relative to a controller's root; `None` where nothing is asked for.
///
/// # Errors
/// One sentence for a name that could lead elsewhere, or is too long.
pub fn parent(asked: &Path) -> Result<Option<PathBuf>, String> {
    let wrong = |rule: &str| Err(format!("cgroup parent {:?} {rule}", shown(asked)));
    let Some(text) = asked.to_str() else { return wrong("is not text") };
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_PATH {
        return wrong("is longer than 1024 bytes");
    }
    let inner = text.trim_start_matches('/');
    let expanded = match inner.strip_suffix(".slice") {
        Some(slice) if !slice.contains('/') => match slices(slice) {
            Some(path) => path,
            None => return wrong("is not the name of a slice; write it as kubepods-burstable.slice"),
        },
        _ => PathBuf::from(inner),
    };
    let parts: Vec<Component<'_>> = expanded.components().collect();
    if parts.is_empty() {
        return wrong("is the root of all cgroups, which is nobody's");
    }
    if parts.len() > MAX_DEPTH {
        return wrong("is deeper than 16 cgroups");
    }
    if !parts.iter().all(|part| matches!(part, Component::Normal(name) if plain(name.as_encoded_bytes()))) {
        return wrong("must be names of letters, digits, `_`, `-` and `.` that do not begin with a dot");
    }
    Ok(Some(expanded))
}

fn plain(name: &[u8]) -> bool {
    name.len() <= MAX_NAME && name.first() != Some(&b'.') && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b))
}

/// `a-b` lies in `a.slice/a-b.slice`.
fn slices(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let mut slice = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !slice.is_empty() {
            slice.push('-');
        }
        slice.push_str(part);
        path.push(format!("{slice}.slice"));
    }
    Some(path)
}

fn shown(asked: &Path) -> String {
    asked.to_string_lossy().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_drivers_names_are_paths() {
        for (asked, path) in [
            ("/kubepods/burstable/pod1-2", "kubepods/burstable/pod1-2"),
            ("kubepods", "kubepods"),
            ("kubepods-burstable-pod1_2.slice", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"),
            ("/kubepods.slice", "kubepods.slice"),
            ("/kubepods.slice/kubepods-pod1.slice", "kubepods.slice/kubepods-pod1.slice"),
        ] {
            assert_eq!(parent(Path::new(asked)).unwrap(), Some(PathBuf::from(path)), "{asked}");
        }
        assert_eq!(parent(Path::new("")).unwrap(), None);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let (long, deep) = ("a".repeat(1025), "a/".repeat(17));
        for asked in ["/", "//", "/..", "a/../b", "a/..", "-.slice", "a--b.slice", "-a.slice", ".slice", "a b", "a\n", "/a/.hidden", &long, &deep, &"n".repeat(256)] {
            assert!(parent(Path::new(asked)).is_err(), "{asked}");
        }
    }
}
