//! `cofferdam uninstall`: puts back what `install` found.

use super::journal::{self, Entry, Held, Now, Prefix, Seen};
use super::systemd::{self, Systemd};
use super::texts::{UNIT, WANTED};
use crate::args::{Global, Output};
use crate::commands::cri;
use crate::settings::{ROOT, STATE, Settings};
use crate::show;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_plan::Layout;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const UNINSTALL: &str = "\
Examples:
  cofferdam uninstall --dry-run
  cofferdam uninstall                 every file is as it was before the install
  cofferdam uninstall --now           and the service is stopped and disabled first
  cofferdam uninstall --purge         and images, logs and records are removed";

/// Options of `uninstall`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UninstallArgs {
    /// Remove the data of Cofferdam too: images, logs, records; no pod may be left
    #[arg(long)]
    purge: bool,
    /// Stop and disable the service first, by systemctl; pods go on
    #[arg(long, conflicts_with = "root_dir")]
    now: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Below this folder in place of /
    #[arg(long, value_name = "DIR")]
    root_dir: Option<PathBuf>,
    /// Put back over files that were changed since the install, and while the daemon runs
    #[arg(long)]
    force: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Puts everything back.
pub(crate) fn uninstall(global: &Global, args: &UninstallArgs) -> Result<u8> {
    let prefix = Prefix::new(args.root_dir.as_deref())?;
    if prefix.is_machine() && !args.dry_run && !cofferdam_host::privilege::is_root() {
        bail!("the node's files belong to root: run cofferdam uninstall as root (sudo)");
    }
    let layout = layout(global, &prefix)?;
    let known = journal::read(&prefix)?;
    let nothing = known.is_none();
    let known = known.unwrap_or_default();
    let rows = rows(&prefix, &known.entries)?;
    let systemd = (args.now && !args.dry_run).then(Systemd::need).transpose()?;
    insist(args, &rows, &layout)?;
    if !args.dry_run {
        if let Some(systemd) = systemd.as_ref().filter(|_| Path::new(UNIT).exists()) {
            systemd.call(&["disable", "--now", systemd::UNIT])?;
        }
        insist_stopped(args, &layout)?;
        if !nothing {
            put_back(&prefix)?;
        }
        if let Some(systemd) = systemd {
            systemd.call(&["daemon-reload"]).context("every file is as it was")?;
        }
        if args.purge {
            purge(&layout)?;
        }
    }
    print(args, &rows, nothing)?;
    let pods = pods(&layout);
    if pods > 0 && args.output == Output::Table {
        show::say(format_args!("{pods} pods of Cofferdam's are still recorded, and what runs of them runs on: cofferdam stop --all"));
    }
    Ok(0)
}

/// How many pods are recorded.
fn pods(layout: &Layout) -> usize {
    fs::read_dir(layout.pods()).into_iter().flatten().count()
}

/// Where pods' data is.
fn layout(global: &Global, prefix: &Prefix) -> Result<Layout> {
    if prefix.is_machine() {
        // A broken configuration must not keep anybody from getting rid of it.
        return Ok(Settings::read(global).layout);
    }
    let place = |flag: &Option<PathBuf>, default: &str| prefix.place(flag.as_deref().unwrap_or(Path::new(default)));
    Ok(Layout::new(place(&global.root, ROOT)?, place(&global.state, STATE)?))
}

fn rows(prefix: &Prefix, entries: &[Entry]) -> Result<Vec<(PathBuf, Now, bool)>> {
    let row = |entry: &Entry| {
        let seen = Seen::at(&prefix.join(&entry.path))?;
        Ok((entry.path.clone(), entry.now(&seen), entry.before == journal::Before::Absent))
    };
    entries.iter().map(row).collect()
}

/// Refuses before anything is touched.
fn insist(args: &UninstallArgs, rows: &[(PathBuf, Now, bool)], layout: &Layout) -> Result<()> {
    if args.purge {
        let pods = pods(layout);
        if pods > 0 {
            bail!(
                "{pods} pods are still recorded in {}; end them first: kubectl drain, or cofferdam stop --all --force",
                layout.pods().display()
            );
        }
    }
    if args.force || args.dry_run {
        return Ok(());
    }
    let changed: Vec<String> = rows
        .iter()
        .filter(|r| r.1 == Now::Changed)
        .map(|r| r.0.display().to_string())
        .collect();
    if !changed.is_empty() {
        bail!(
            "changed since `cofferdam install` wrote it: {}; nothing is put back; take your changes out of it, or give --force to lose them",
            changed.join(", ")
        );
    }
    Ok(())
}

/// Nobody serves what is about to lose its configuration.
fn insist_stopped(args: &UninstallArgs, layout: &Layout) -> Result<()> {
    match cri::holder(layout) {
        Some(pid) if !args.force => {
            bail!("the daemon runs (process {pid}); stop it first: systemctl disable --now cofferdam, or cofferdam uninstall --now")
        }
        _ => Ok(()),
    }
}

fn put_back(prefix: &Prefix) -> Result<()> {
    let held = Held::open(prefix)?;
    // Last written, first undone: the kubelet is told before its runtime's files go.
    for entry in held.journal.entries.iter().rev() {
        let seen = Seen::at(&prefix.join(&entry.path))?;
        if entry.now(&seen) != Now::AsBefore {
            held.put_back(entry)?;
        }
        held.tidy(entry);
        if entry.path == Path::new(UNIT) && entry.before == journal::Before::Absent {
            disable(prefix)?;
        }
    }
    held.close()
}

/// Removes what `systemctl enable` made, which would lead nowhere.
fn disable(prefix: &Prefix) -> Result<()> {
    let link = prefix.place(WANTED)?;
    match fs::read_link(&link) {
        Ok(target) if target.ends_with("cofferdam.service") => journal::remove(&link),
        _ => Ok(()),
    }
}

/// Removes what pods had: none is left. What is mounted is left whole, and told.
fn purge(layout: &Layout) -> Result<()> {
    for dir in [&layout.state, &layout.root] {
        if dir.exists() {
            cofferdam_host::remove::remove_tree(dir).with_context(|| format!("{} is not removed", dir.display()))?;
        }
    }
    Ok(())
}

fn print(args: &UninstallArgs, rows: &[(PathBuf, Now, bool)], nothing: bool) -> Result<()> {
    let action = |now: Now, was_absent: bool| match (now, was_absent) {
        (Now::AsBefore, _) => "is so already",
        (Now::Changed, _) if args.dry_run && !args.force => "was changed since: refused without --force",
        (_, true) => "removed",
        (_, false) => "put back",
    };
    if args.output == Output::Json {
        let file = |(path, now, absent): &(PathBuf, Now, bool)| json!({"path": path, "action": action(*now, *absent)});
        let files: Vec<_> = rows.iter().map(file).collect();
        return show::json(&json!({"dryRun": args.dry_run, "files": files, "purged": args.purge}));
    }
    if nothing {
        show::say("Nothing is installed here.");
    } else {
        let mut table = show::table(&["file", "becomes"]);
        for (path, now, absent) in rows {
            table.add_row([path.display().to_string(), action(*now, *absent).to_owned()]);
        }
        show::say(table);
    }
    if args.purge {
        show::say(if args.dry_run {
            "All of Cofferdam's data would be removed."
        } else {
            "All of Cofferdam's data is removed."
        });
    }
    Ok(())
}
