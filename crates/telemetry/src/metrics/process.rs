//! The daemon's own processor time, memory and file descriptors, from `/proc` (proc(5)).

use std::fs;

use super::families as f;
use super::text::Writer;

/// Ticks a second in `/proc` (`USER_HZ`): 100 on every architecture that the daemon is built for.
const TICKS: f64 = 100.0;

/// Writes the `process_*` families; one that cannot be read is left out.
pub(crate) fn write(out: &mut Writer) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
    // The directory's own descriptor is counted too.
    let open = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.count().saturating_sub(1) as f64);
    let values = [
        (&f::PROCESS_CPU, cpu_seconds(&stat)),
        (&f::PROCESS_OPEN_FDS, open),
        (&f::PROCESS_MAX_FDS, max_fds(&limits)),
        (&f::PROCESS_VIRTUAL, kilobytes(&status, "VmSize:")),
        (&f::PROCESS_RESIDENT, kilobytes(&status, "VmRSS:")),
        (&f::PROCESS_PSS, kilobytes(&rollup, "Pss:")),
        (&f::PROCESS_THREADS, field(&status, "Threads:")),
        (&f::PROCESS_START, boot.and_then(|boot| Some(boot + after_name(&stat, 22)? / TICKS))),
    ];
    for (family, value) in values {
        if let Some(value) = value {
            out.single(family, value);
        }
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((after_name(stat, 14)? + after_name(stat, 15)?) / TICKS)
}

/// A numbered field of `/proc/PID/stat`, counted from 1; the name, field 2, may hold spaces and brackets.
fn after_name(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    Some(field(status, name)? * 1024.0)
}

fn boot_time(stat: &str) -> Option<f64> {
    field(stat, "btime ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 20 0 9 0 4200 99 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(after_name(stat, 22), Some(4200.0));
        assert_eq!(after_name(stat, 99), None);
        assert_eq!(after_name("", 14), None);
        assert_eq!(
            max_fds("Max processes 1 2\nMax open files            1024                 524288 files\n"),
            Some(1024.0)
        );
        assert_eq!(max_fds("Max open files unlimited unlimited files"), Some(f64::INFINITY));
        assert_eq!(kilobytes("VmPeak: 9 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}
