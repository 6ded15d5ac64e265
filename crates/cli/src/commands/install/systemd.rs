//! systemd, asked through its own command: what `--now` does.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// There where systemd is the init: `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
/// What the unit is called in commands.
pub(super) const UNIT: &str = "cofferdam";

/// Whether systemd is this machine's init.
pub(super) fn runs() -> bool {
    Path::new(BOOTED).is_dir()
}

/// systemd, where it can be asked.
#[derive(Debug)]
pub(super) struct Systemd(());

impl Systemd {
    /// Refuses before anything is done where `--now` could not be.
    pub(super) fn need() -> Result<Self> {
        if !runs() {
            bail!(
                "--now: systemd does not run here ({BOOTED} is not there); leave it out, and have your init start and end `cofferdam cri`"
            );
        }
        match Command::new("systemctl").arg("--version").output() {
            Ok(output) if output.status.success() => Ok(Self(())),
            Ok(output) => bail!(
                "--now: systemctl --version ended with {}; leave it out, or mend systemctl",
                output.status
            ),
            Err(e) => bail!("--now: systemctl cannot be run ({e}); leave it out, or put systemctl into $PATH"),
        }
    }

    /// Has systemctl do something, and waits for it.
    pub(super) fn call(&self, arguments: &[&str]) -> Result<()> {
        let said = format!("systemctl {}", arguments.join(" "));
        let output = match Command::new("systemctl").args(arguments).output() {
            Ok(output) => output,
            Err(e) => bail!("{said} cannot be run: {e}"),
        };
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let why: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let why = if why.is_empty() { output.status.to_string() } else { why.join(" ") };
        let unit = arguments.last().copied().unwrap_or(UNIT);
        bail!("`{said}` failed: {why} (journalctl -u {unit} -n 20)");
    }
}
