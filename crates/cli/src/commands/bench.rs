//! `cofferdam bench`: runtimes beside each other, over CRI.

use crate::args::Output;
use crate::show;
use anyhow::Result;
use clap::Args;
use cofferdam_bench::cri::{self, Options};
use std::path::PathBuf;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam bench --cri /run/containerd/containerd.sock --cri /run/cofferdam/cri.sock --pull
  cofferdam bench --cri /run/cofferdam/cri.sock --handler crun --handler runsc --image registry.local/busybox:1
  cofferdam bench --cri /run/crio/crio.sock --rounds 10 --density 0 -o json
  cofferdam bench --cri /run/cofferdam/cri.sock --soak 1000      what the daemon holds before and after

Rounds alternate between the runtimes; ratios are to the first. All pods are removed at the end, after
Ctrl-C too, and what an earlier bench left at the beginning; images stay. Two benches on one socket remove
each other's pods. The image needs `sleep` and `true`. Measure while nothing else runs.";

/// Options of `bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// CRI socket of a runtime; several are measured in turn
    #[arg(long, required = true, value_name = "SOCKET")]
    cri: Vec<PathBuf>,
    /// Runtime handlers, each in turn; the runtime's default where absent
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    handler: Vec<String>,
    /// Image of the containers
    #[arg(long, default_value = "docker.io/library/busybox:latest")]
    image: String,
    /// Pull the image where it is missing
    #[arg(long)]
    pull: bool,
    /// Pods one at a time, of each runtime
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,
    /// How many are started at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    at_once: usize,
    /// Pods up together; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = 100)]
    density: usize,
    /// Only this many pods up and down, and what the daemon holds before and after
    #[arg(long, value_name = "N")]
    soak: Option<usize>,
    /// Also write a page of Markdown, and its picture beside it
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Measures, and prints.
pub(crate) fn bench(args: &BenchArgs) -> Result<u8> {
    let options = Options {
        sockets: args.cri.clone(),
        handlers: args.handler.clone(),
        image: args.image.clone(),
        command: ["sleep", "100000"].map(String::from).to_vec(),
        pull: args.pull,
        rounds: args.rounds,
        at_once: args.at_once,
        density: args.density,
        rest: cri::REST,
        soak: args.soak,
    };
    let report = cri::run(&options, &mut [], &|line| show::tell(line))?;
    match args.output {
        Output::Json => show::json(&report)?,
        Output::Table => show::say(cri::table(&report).trim_end()),
    }
    if let Some(path) = &args.write {
        cri::page(path, &report, &[], "cofferdam bench")?;
    }
    Ok(0)
}
