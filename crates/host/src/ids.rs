//! Random ids, the boot's id, clocks.
#![allow(unsafe_code)]

use crate::{Error, Result, files};
use std::time::{SystemTime, UNIX_EPOCH};

/// 16 bytes from the kernel's random generator, for a pod's or container's id.
pub fn random_bytes() -> Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::system("read random bytes")(e)),
        }
    }
    Ok(bytes)
}

/// The id of this boot, which tells a restart of the daemon from one of the machine.
pub fn boot_id() -> Result<String> {
    let text = files::read_text("/proc/sys/kernel/random/boot_id", 128)?;
    Ok(text.trim().to_owned())
}

/// Nanoseconds since 1970. A clock before 1970 gives 0.
pub fn now_nanos() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

/// Microseconds of `CLOCK_MONOTONIC`: the same count in every process of this boot.
pub fn monotonic_micros() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the kernel to fill; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64) * 1_000_000 + (now.tv_nsec as u64) / 1_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn ids_differ_and_clocks_advance() {
        assert_ne!(random_bytes().unwrap(), random_bytes().unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(now_nanos() > 1_700_000_000_000_000_000);
        let first = monotonic_micros();
        assert!(first > 0 && monotonic_micros() >= first);
    }
}
