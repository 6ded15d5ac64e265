//! What the directories of `--root` and `--state` must be like.

use anyhow::{Result, bail};
use cofferdam_model::PodId;
use cofferdam_plan::Layout;
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, bytes (`unix(7)`: 108 with the null byte).
pub(crate) const LONGEST_SOCKET: usize = 107;
/// What a monitor's own is bound under first is that much longer.
const SPARE: usize = 5;

/// A path that means the same wherever the process is.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    // Fails only for an empty path and where there is no working directory; `check` refuses both.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses directories that the kernel would refuse later, in the middle of a pod.
pub(crate) fn check(layout: &Layout) -> Result<()> {
    for (flag, dir) in [("--root", &layout.root), ("--state", &layout.state)] {
        let shown = dir.display();
        if !dir.is_absolute() {
            bail!("{flag} {shown}: this is no path; give an absolute one");
        }
        // Overlay's options are separated by these, and a path that holds one would be another path.
        if let Some(odd) = dir
            .to_string_lossy()
            .chars()
            .find(|c| matches!(c, ':' | ',' | '\\') || c.is_control())
        {
            bail!("{flag} {shown}: a path with {odd:?} in it cannot be mounted as an overlay; choose another");
        }
    }
    let state = layout.state.as_os_str().len();
    let longest = state + longest_below(layout)?;
    if longest > LONGEST_SOCKET {
        let most = LONGEST_SOCKET + state - longest;
        bail!(
            "--state {}: the sockets in it would have longer paths than the kernel takes; choose one of at most {most} bytes",
            layout.state.display()
        );
    }
    Ok(())
}

/// How much longer than the state directory the longest path of a socket in it is.
fn longest_below(layout: &Layout) -> Result<usize> {
    let pod = layout.pod(&PodId::new("0".repeat(32))?);
    let monitor = pod.socket().as_os_str().len() + SPARE;
    // gVisor names its control socket itself.
    let sentry = pod.runtime_root().join(format!("runsc-{}.sock", "0".repeat(32))).as_os_str().len();
    Ok(monitor.max(sentry) - layout.state.as_os_str().len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(root: &str, state: &str) -> String {
        check(&Layout::new(root, state)).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn what_the_kernel_would_refuse_later_is_refused_at_once() {
        let (root, state) = ("/var/lib/cofferdam", "/run/cofferdam");
        assert_eq!(said(root, state), "");
        for odd in ["/var/a:b", "/var/a,b", "/var/a\\b", "/var/a\nb"] {
            assert!(said(odd, state).starts_with("--root"), "{odd:?}");
            assert!(said(root, odd).starts_with("--state"), "{odd:?}");
        }
        let most = "/".to_owned() + &"x".repeat(21);
        assert_eq!(said(root, &most), "");
        assert!(said(root, &format!("{most}x")).ends_with("choose one of at most 22 bytes"));
        assert!(said("", state).contains("no path"));
    }

    #[test]
    fn a_relative_path_becomes_absolute() {
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("x/y")), cwd.join("x/y"));
        assert_eq!(absolute(Path::new("/x")), Path::new("/x"));
    }
}
