//! The layout of volumes that hold an object's files (`pkg/volume/util/atomic_writer.go`): the files
//! are in a directory named by the time, `..data` is a link to it, and what is seen are links through
//! `..data`, so that all files could change at once. Programs wait for changes of `..data`.

use super::files::Payload;
use super::{VolumeError, failed, make_dirs, paths};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The link to the directory that holds the files.
const DATA: &str = "..data";

/// Writes `payload` under `dir`, which it makes. Nothing but this process writes there.
pub(super) fn write(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    make_dirs(dir, 0o755)?;
    paths::chmod(dir, 0o755)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = stamp(now.as_secs(), now.subsec_nanos());
    let files = dir.join(&stamp);
    make_dirs(&files, 0o755)?;
    paths::chmod(&files, 0o755)?;
    for (relative, (bytes, mode)) in payload {
        write_file(&files, relative, bytes, *mode)?;
    }
    let visible: BTreeSet<_> = payload.keys().filter_map(|path| path.components().next()).collect();
    for name in visible {
        link(&Path::new(DATA).join(name), &dir.join(name))?;
    }
    let fresh = dir.join("..data_tmp");
    link(Path::new(&stamp), &fresh)?;
    std::fs::rename(&fresh, dir.join(DATA)).map_err(|err| failed("rename", &fresh, &err))
}

fn write_file(dir: &Path, relative: &Path, bytes: &[u8], mode: u32) -> Result<(), VolumeError> {
    let path = dir.join(relative);
    let parents: Vec<_> = relative.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev() {
        make_dirs(&dir.join(parent), 0o755)?;
        paths::chmod(&dir.join(parent), 0o755)?;
    }
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|err| failed("write", &path, &err))?;
    paths::chmod(&path, mode)
}

fn link(to: &Path, at: &Path) -> Result<(), VolumeError> {
    symlink(to, at).map_err(|err| failed("make", at, &err))
}

/// `..2006_01_02_15_04_05.` and the nanoseconds, in UTC.
fn stamp(seconds: u64, nanos: u32) -> String {
    // Days to a date of the civil calendar: eras of 400 years from March 1st of year 0.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("..{year:04}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}.{nanos:09}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_named_by_the_time() {
        for (seconds, expected) in [
            (0, "..1970_01_01_00_00_00.000000007"),
            (951_782_399, "..2000_02_28_23_59_59.000000007"),
            (951_782_400, "..2000_02_29_00_00_00.000000007"),
            (1_767_225_599, "..2025_12_31_23_59_59.000000007"),
            (4_107_542_400, "..2100_03_01_00_00_00.000000007"),
        ] {
            assert_eq!(stamp(seconds, 7), expected);
        }
    }
}
