//! Measures pod up of Cofferdam beside containerd's with the same runtime binary, image and network
//! kind, and beside the bare runtime as the floor, all in one run, and writes `docs/benchmarks.md`.
//!
//! Rounds of the contestants alternate, so that a machine that slows down slows all of them. Figures
//! are quoted as medians and compared as ratios.

mod bare;
mod containerd;
mod images;
mod machine;
mod ours;
mod over_cri;
mod report;
mod soak;

use anyhow::{Context, Result};
use clap::Parser;
use cofferdam_bench::sample::{self, Series};
use std::path::PathBuf;

/// What is measured, and how often.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Pods one at a time, of each contestant
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// gVisor pods one at a time
    #[arg(long, default_value_t = 12)]
    gvisor_rounds: usize,
    /// Pods many at once, of each contestant
    #[arg(long, default_value_t = 40)]
    many: usize,
    /// How many at once
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Pods kept for the memory figures
    #[arg(long, default_value_t = 20)]
    kept: usize,
    /// Leave containerd away
    #[arg(long)]
    alone: bool,
    /// Network namespaces that ours makes ahead
    #[arg(long, default_value_t = 0)]
    spare_networks: usize,
    /// Only this many pods up and down under crun in one engine, and what grew
    #[arg(long)]
    soak: Option<usize>,
    /// containerd and the `cri` command of this binary beside each other over CRI, in place of all that
    #[arg(long, value_name = "COFFERDAM")]
    cri: Option<PathBuf>,
    /// Pods up together over CRI
    #[arg(long, default_value_t = 100)]
    density: usize,
    /// Pulls of a large image in place of pods
    #[arg(long)]
    images: bool,
    /// Size of that image, MiB unpacked
    #[arg(long, default_value_t = 500)]
    image_mib: u64,
    /// Its layers
    #[arg(long, default_value_t = 20)]
    image_layers: usize,
    /// Where the report goes; nothing is written where absent
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Everything that one run measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    pub(crate) rates: Vec<(String, f64)>,
    pub(crate) memory: Vec<(String, f64)>,
    pub(crate) stages: Vec<(String, Vec<(String, f64)>)>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    machine::own_mounts()?;
    let scratch = machine::Scratch::new()?;
    let ours = ours::Ours::open(&scratch)?;
    ours.keep_networks_ready(args.spare_networks);
    if let Some(count) = args.soak {
        ours.warm("crun")?;
        let grew = soak::soak(&ours, "crun", count, args.at_once);
        ours.close()?;
        return grew;
    }
    if let Some(cofferdam) = &args.cri {
        // The monitor of the engine is the pause of containerd, and nothing more of it is needed.
        let measured = over_cri::measure(&args, cofferdam, &scratch);
        ours.close()?;
        return measured;
    }
    let peer = if args.alone { None } else { Some(containerd::Containerd::start(&scratch).context("containerd as the peer")?) };
    if args.images {
        let rounds = args.rounds.min(8);
        let pulls = images::measure(&scratch, rounds, args.image_mib, args.image_layers, peer.as_ref())?;
        ours.close()?;
        drop(peer);
        print!("{}", report::pulls_text(&pulls));
        if let Some(path) = &args.write {
            std::fs::write(path, report::pulls_page(&pulls))?;
        }
        return Ok(());
    }
    let mut results = Results::default();
    for runtime in ["crun", "runc"] {
        measure(&args, runtime, &ours, peer.as_ref(), &scratch, &mut results)?;
    }
    gvisor(&args, &ours, &scratch, &mut results)?;
    ours.close()?;
    drop(peer);
    print!("{}", report::text(&results));
    if let Some(path) = &args.write {
        report::write(path, &args, &results)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

fn measure(
    args: &Args,
    runtime: &str,
    ours: &ours::Ours,
    peer: Option<&containerd::Containerd>,
    scratch: &machine::Scratch,
    results: &mut Results,
) -> Result<()> {
    eprintln!("{runtime}: one at a time");
    let mut own = Series::new(format!("cofferdam, {runtime}"));
    let mut other = Series::new(format!("containerd, {runtime}"));
    let mut floor = Series::new(format!("bare {runtime} create + start"));
    let bare = bare::Oci::new(runtime, scratch)?;
    ours.warm(runtime)?;
    if let Some(peer) = peer {
        peer.one(runtime)?;
    }
    bare.one()?;
    let mut stages = Vec::new();
    for _ in 0..args.rounds {
        machine::rest();
        let up = ours.one(runtime)?;
        own.push(up.total);
        stages.push(up.stages);
        if let Some(peer) = peer {
            machine::rest();
            other.push(peer.one(runtime)?);
        }
        machine::rest();
        floor.push(bare.one()?);
    }
    results.stages.push((format!("cofferdam, {runtime}"), sample::medians(&stages)));
    results.series.push(own);
    if peer.is_some() {
        results.series.push(other);
    }
    results.series.push(floor);

    eprintln!("{runtime}: {} at once", args.at_once);
    let mut own = Series::new(format!("cofferdam, {runtime}, {} at once", args.at_once));
    machine::long_rest();
    let rate = ours.many(runtime, args.many, args.at_once, &mut own)?;
    results.rates.push((format!("cofferdam, {runtime}"), rate));
    results.series.push(own);
    if let Some(peer) = peer {
        let mut other = Series::new(format!("containerd, {runtime}, {} at once", args.at_once));
        machine::long_rest();
        let rate = peer.many(runtime, args.many, args.at_once, &mut other)?;
        results.rates.push((format!("containerd, {runtime}"), rate));
        results.series.push(other);
    }

    eprintln!("{runtime}: memory of {} pods", args.kept);
    results.memory.push((format!("cofferdam, {runtime}"), ours.memory_per_pod(runtime, args.kept)?));
    if let Some(peer) = peer {
        results.memory.push((format!("containerd, {runtime}"), peer.memory_per_pod(runtime, args.kept)?));
    }
    Ok(())
}

fn gvisor(args: &Args, ours: &ours::Ours, scratch: &machine::Scratch, results: &mut Results) -> Result<()> {
    eprintln!("runsc: one at a time");
    let mut own = Series::new("cofferdam, runsc");
    let mut floor = Series::new("bare runsc create, start, create, start");
    let bare = bare::Runsc::new(scratch)?;
    ours.warm("runsc")?;
    bare.one()?;
    let mut stages = Vec::new();
    for _ in 0..args.gvisor_rounds {
        machine::rest();
        let up = ours.one("runsc")?;
        own.push(up.total);
        stages.push(up.stages);
        machine::rest();
        floor.push(bare.one()?);
    }
    results.stages.push(("cofferdam, runsc".into(), sample::medians(&stages)));
    results.series.push(own);
    results.series.push(floor);
    eprintln!("runsc: memory of {} pods", args.kept / 4);
    results.memory.push(("cofferdam, runsc".into(), ours.memory_per_pod("runsc", (args.kept / 4).max(1))?));
    Ok(())
}
