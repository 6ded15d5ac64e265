//! `cofferdam image prune` and `fsck`: what is removed, checked and mended.

use super::progress::Bar;
use crate::args::{Global, Output};
use crate::commands::wait;
use crate::settings::Settings;
use crate::show;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Examples of `prune`.
pub(super) const PRUNE_HELP: &str = "\
Examples:
  cofferdam image prune              images without a name, and what broken pulls left
  cofferdam image prune --all        every image that no container runs from or mounts
  cofferdam image prune --content    the compressed layers too: they cannot be saved or mended from then on";

/// Examples of `fsck`.
pub(super) const FSCK_HELP: &str = "\
Examples:
  cofferdam image fsck               tell what is damaged; exit code 120 where something is
  cofferdam image fsck --repair      make it anew, from what is kept here or from the registry";

/// Options of `prune`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    /// Every image that nobody uses
    #[arg(short, long)]
    all: bool,
    /// The compressed content of the layers that stay
    #[arg(long)]
    content: bool,
    /// What broken pulls left is removed when nothing came to it for so long
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = wait::duration)]
    partial_older: Duration,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `fsck`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FsckArgs {
    /// Make anew what is damaged
    #[arg(long)]
    repair: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn prune(global: &Global, args: &PruneArgs) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let pruned = engine.prune_images(args.all, args.content, args.partial_older)?;
    let names = |names: &[String], id: Option<String>| if names.is_empty() { id.unwrap_or_default() } else { names.join(", ") };
    let removed: Vec<String> = pruned.images.iter().map(|r| names(&r.names, r.image.as_ref().map(ToString::to_string))).collect();
    if args.output == Output::Json {
        show::json(&json!({"removed": removed, "bytes": pruned.bytes, "deferred": pruned.deferred}))?;
        return Ok(0);
    }
    removed.iter().for_each(|name| show::say(format_args!("removed {name}")));
    show::say(format_args!("{} freed", show::bytes(pruned.bytes)));
    if pruned.deferred {
        show::tell("cofferdam: layers stay for now, as an image is being pulled or loaded, or a record cannot be read; see: cofferdam image fsck");
    }
    Ok(0)
}

pub(super) fn fsck(global: &Global, args: &FsckArgs) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let bar = Bar::new();
    let report = engine.fsck_images(args.repair, &|bytes| bar.seen("reading", bytes));
    bar.clear();
    let report = report?;
    let left = report.findings.iter().filter(|f| !f.repaired).count();
    let code = if left == 0 { 0 } else { crate::EXIT_ERROR };
    if args.output == Output::Json {
        let findings: Vec<_> = report.findings.iter().map(|f| json!({"sentence": f.sentence, "repaired": f.repaired})).collect();
        show::json(&json!({
            "images": report.images, "layers": report.layers, "unverified": report.unverified, "bytes": report.bytes, "findings": findings,
        }))?;
        return Ok(code);
    }
    for finding in &report.findings {
        show::say(format_args!("{}: {}", if finding.repaired { "mended" } else { "damaged" }, finding.sentence));
    }
    show::say(format_args!(
        "{} images and {} layers were read ({}): {}",
        report.images,
        report.layers,
        show::bytes(report.bytes),
        match (report.findings.len(), left) {
            (0, _) => "nothing is damaged".to_owned(),
            (all, 0) => format!("{all} found, all mended"),
            (_, left) if args.repair => format!("{left} could not be mended"),
            (_, left) => format!("{left} found; mend with: cofferdam image fsck --repair"),
        }
    ));
    if report.unverified > 0 {
        show::say(format_args!("The files of {} layers could not be compared: an older version unpacked them.", report.unverified));
    }
    Ok(code)
}
