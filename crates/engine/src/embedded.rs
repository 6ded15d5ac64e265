//! The monitor's binary, carried in ours and put on disk once a version.

use cofferdam_model::cri::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

static MONITOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/monitor"));

/// Puts the monitor's binary into `dir` where it is not there, and returns its path. The name holds
/// a checksum, so that an upgrade leaves the binary of running monitors alone.
pub(crate) fn install(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(format!("cofferdam-monitor-{:016x}", checksum(MONITOR)));
    let there = std::fs::metadata(&path).is_ok_and(|m| m.len() == MONITOR.len() as u64 && m.permissions().mode() & 0o111 != 0);
    if there {
        return Ok(path);
    }
    let failed = |e: &dyn std::fmt::Display| Error::Failed(format!("the monitor's binary cannot be put at {}: {e}", path.display()));
    std::fs::create_dir_all(dir).map_err(|e| failed(&e))?;
    let temporary = dir.join(format!(".monitor-{}", std::process::id()));
    std::fs::write(&temporary, MONITOR).map_err(|e| failed(&e))?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o755)).map_err(|e| failed(&e))?;
    std::fs::rename(&temporary, &path).map_err(|e| failed(&e))?;
    Ok(path)
}

/// FNV-1a: tells versions apart; it is no protection.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
