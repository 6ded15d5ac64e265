//! AppArmor and SELinux: whether the kernel has them, and which profiles are loaded.

use crate::{Error, Result, files, machine};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the kernel enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// Names of the loaded AppArmor profiles.
    pub profiles: Vec<String>,
}

/// Most that is read of the list of profiles, bytes.
const MAX_PROFILES: u64 = 16 << 20;
/// Most that is told of a command's error, characters.
const MAX_SAID: usize = 400;

impl Lsm {
    /// Of this machine.
    pub fn detect() -> Result<Self> {
        Self::read(Path::new("/"))
    }

    /// Of the machine whose `/sys` is below `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let text = |path: &str, max| match files::read_text(root.join(path), max) {
            Ok(text) => Ok(text),
            Err(e) if e.is_absent() => Ok(String::new()),
            Err(e) => Err(e),
        };
        let apparmor = text("sys/module/apparmor/parameters/enabled", 64)?.starts_with('Y');
        let list = if apparmor {
            text("sys/kernel/security/apparmor/profiles", MAX_PROFILES)?
        } else {
            String::new()
        };
        // `name (mode)`, and a name may hold spaces.
        let name = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
        Ok(Self {
            apparmor,
            selinux: root.join("sys/fs/selinux/enforce").exists(),
            profiles: list.lines().filter_map(name).collect(),
        })
    }
}

/// Loads an AppArmor profile, in the place of one of the same name, by `apparmor_parser`, which alone
/// knows the form that the kernel takes.
pub fn load_apparmor(text: &str) -> Result<()> {
    const PARSER: &str = "apparmor_parser";
    let path = machine::find_command(PARSER).ok_or_else(|| Error::BadPath {
        path: PARSER.into(),
        reason: "it is not installed (Debian package apparmor)",
    })?;
    run(&path, &["--skip-cache", "--replace"], text)
}

/// Runs a command with `text` on its standard input; what it prints is its error.
fn run(command: &Path, arguments: &[&str], text: &str) -> Result<()> {
    let failed = || Error::path("run", command);
    let mut child = Command::new(command)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    // One that does not read it all fails, and says why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(failed())?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_SAID)
        .collect();
    Err(Error::Malformed {
        path: command.to_owned(),
        reason: format!("it ended with {}: {said}", output.status),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Lsm {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let at = dir.path().join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, text).unwrap();
        }
        Lsm::read(dir.path()).unwrap()
    }

    #[test]
    fn a_profile_that_is_not_taken_is_told_with_what_was_said() {
        let shell = |script: &str| run(Path::new("/bin/sh"), &["-c", script], "profile");
        shell("grep -q profile").unwrap();
        let error = shell("echo 'no\nAppArmor' >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3: no AppArmor"), "{error}");
        assert!(run(Path::new("/none"), &[], "").unwrap_err().is_absent());
    }

    #[test]
    fn what_the_kernel_has_is_read_from_its_files() {
        assert_eq!(machine(&[]), Lsm::default());
        let profiles = (
            "sys/kernel/security/apparmor/profiles",
            "docker-default (enforce)\nmy profile (x) (complain)\n",
        );
        let on = machine(&[("sys/module/apparmor/parameters/enabled", "Y\n"), profiles]);
        assert!(on.apparmor && !on.selinux);
        assert_eq!(on.profiles, ["docker-default", "my profile (x)"]);
        let off = machine(&[("sys/module/apparmor/parameters/enabled", "N\n"), profiles]);
        assert_eq!(off, Lsm::default());
        assert!(machine(&[("sys/fs/selinux/enforce", "0")]).selinux);
    }
}
