//! Any bytes as lines of a container's log and of a pod's events: what is read is what was written,
//! and a time is within what its digits can say.
#![no_main]

use cofferdam_model::log::LogEntry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        let entry = LogEntry::parse(line);
        let mut ended = line.to_vec();
        ended.push(b'\n');
        assert_eq!(LogEntry::parse(&ended), entry, "a line feed changes what is read");
        let Some(entry) = entry else { continue };
        assert!(!entry.time.is_empty() && entry.time.is_ascii() && !entry.time.contains(' '));
        assert!(entry.text.len() < line.len() && line.ends_with(entry.text));
        let stream = if entry.stderr { "stderr" } else { "stdout" };
        let mut written = format!("{} {stream} {} ", entry.time, if entry.partial { "P" } else { "F" }).into_bytes();
        written.extend(entry.text);
        assert_eq!(LogEntry::parse(&written), Some(entry));
        if let Some(seconds) = entry.seconds() {
            // From the year 0 to the last that five digits of it can be.
            assert!(
                (-62_167_219_200..=65_537 * 366 * 86_400).contains(&seconds),
                "{}: {seconds}",
                entry.time
            );
            let day = entry.time.split_once('T').unwrap().0;
            let midnight = format!("{day}T00:00:00Z");
            let of_day = LogEntry { time: &midnight, ..entry }.seconds().unwrap();
            assert!((0..=86_400).contains(&(seconds - of_day)), "{}", entry.time);
        }
    }
});
