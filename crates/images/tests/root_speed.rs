//! How long a pull takes without a network, and what it holds: run with `--release -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, PullEvent, PullOptions, Reference};
use common::registry::*;
use common::*;
use std::time::Instant;

/// Ten layers of 50 MB with 2,000 files each that compress like programs and texts do.
fn layers() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let words: Vec<Vec<u8>> = (0..4096)
        .map(|_| (0..3 + next() % 9).map(|_| b'!' + (next() % 90) as u8).collect())
        .collect();
    let mut layer = |n: usize| {
        let mut files = Layer::new();
        for i in 0..2000 {
            let length = if i % 100 == 0 { 1_000_000 } else { next() % 32_000 };
            let mut data = Vec::with_capacity(length + 16);
            while data.len() < length {
                data.extend(&words[next() % words.len()]);
            }
            files = files.file(&format!("l{n}/d{}/f{i}", i / 40), &data);
        }
        files.end()
    };
    (0..10).map(&mut layer).collect()
}

/// Milliseconds of processor time so far: the program's, and the kernel's for it.
fn cpu() -> (i64, i64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<i64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .filter_map(|f| f.parse().ok())
        .collect();
    // utime and stime, in hundredths of a second; the state letter is no number.
    (fields[10] * 10, fields[11] * 10)
}

#[test]
#[ignore = "a measurement, not a test"]
fn pull_of_half_a_gigabyte() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let layers = layers();
    let plain: usize = layers.iter().map(Vec::len).sum();
    let packed: Vec<_> = layers.iter().map(|layer| (layer.clone(), gzip(layer))).collect();
    let size: usize = packed.iter().map(|(_, packed)| packed.len()).sum();
    registry.image(&OCI, "amd64", &packed, Some("1"));
    for (plain, packed) in packed.iter().take(1) {
        let start = Instant::now();
        Digest::of(plain);
        println!("sha256 of {} MB: {:?}", plain.len() >> 20, start.elapsed());
        let start = Instant::now();
        std::io::copy(&mut flate2::read::GzDecoder::new(&packed[..]), &mut std::io::sink()).unwrap();
        println!("gunzip of {} MB: {:?}", plain.len() >> 20, start.elapsed());
    }
    let counts = std::env::var("PARALLEL").map_or(vec![1, 2, 3, 4], |n| vec![n.parse().unwrap()]);
    for parallel in counts {
        let (start, before) = (Instant::now(), cpu());
        let commit = std::cell::Cell::new(start);
        let progress = |event: &PullEvent| {
            if *event == PullEvent::Commit {
                commit.set(Instant::now());
            }
        };
        let options = PullOptions {
            parallel: Some(parallel),
            progress: Some(&progress),
            ..PullOptions::default()
        };
        let pulled = fixture.store.pull(&Reference::parse("x:1").unwrap(), &registry, options).unwrap();
        let (user, system) = (cpu().0 - before.0, cpu().1 - before.1);
        let (wall, end) = (start.elapsed(), commit.get().elapsed());
        println!(
            "{parallel} at once: {} MB, {} MB packed: {wall:.2?}, of it {end:.2?} syncing and recording; cpu {user} + {system} ms",
            plain >> 20,
            size >> 20
        );
        if let Ok(path) = std::env::var("SAVE_TO") {
            let start = Instant::now();
            let out = std::fs::File::create(path).unwrap();
            fixture.store.save(&["x:1"], out, cofferdam_images::SaveFormat::OciArchive).unwrap();
            println!("saved: {:.2?}", start.elapsed());
        }
        let start = Instant::now();
        assert!(fixture.store.fsck(None, &|_| ()).unwrap().findings.is_empty());
        println!("checked: {:.2?}", start.elapsed());
        fixture.store.remove(pulled.id.hex(), &|_| None).unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}
