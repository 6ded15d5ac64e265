//! `cofferdam install` and `uninstall`: a node of containerd's or CRI-O's becomes one of Cofferdam's, and
//! becomes again what it was.
//!
//! - [`takeover`]: the configuration of the runtime that the node has now
//! - [`texts`], [`kubelet`]: what is written
//! - [`plan`]: what becomes of each file, decided before the first is touched
//! - [`journal`]: what was written, and what was there before
//! - [`next`], [`systemd`]: what is left to do, and `--now`, which does it
//! - [`undo`]: what `uninstall` does

mod journal;
mod kubelet;
mod next;
mod plan;
mod systemd;
mod takeover;
mod texts;
mod undo;

pub(crate) use undo::{UNINSTALL, UninstallArgs, uninstall};

use crate::args::{Global, Output};
use crate::settings::{Settings, reading};
use crate::show;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_handlers::{Loaded, Roots};
use journal::{Held, Journal, Prefix};
use next::Asked;
use plan::{Kind, Step, Target};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use systemd::Systemd;
use takeover::{From, Takeover};

pub(crate) const HELP: &str = "\
Examples:
  cofferdam install --dry-run             what would be written, and which handlers are taken over
  cofferdam install                       unit, configuration and crictl.yaml
  cofferdam install --kubelet             and the kubelet of a kubeadm node is told
  cofferdam install --kubelet --now       and both are started: of a node that is drained
  cofferdam install --from crio -o json
  cofferdam install --root-dir image/     into a folder that becomes a machine's /

What was there before is kept, and put back by: cofferdam uninstall";

/// Options of `install`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstallArgs {
    /// Tell the kubelet of a node that kubeadm made to use Cofferdam
    #[arg(long)]
    kubelet: bool,
    /// Enable and start it by systemctl, and start the kubelet anew where that was told; no running pod of Cofferdam's ends
    #[arg(long, conflicts_with = "root_dir")]
    now: bool,
    /// Print what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Whose handlers, registry mirrors and network places are taken over
    #[arg(long, value_enum, default_value_t)]
    from: From,
    /// Write below this folder in place of /
    #[arg(long, value_name = "DIR")]
    root_dir: Option<PathBuf>,
    /// Write over files that were changed since the last install; with --kubelet --now also while containerd keeps pods
    #[arg(long)]
    force: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl InstallArgs {
    fn asked(&self) -> Asked {
        Asked { kubelet: self.kubelet, now: self.now && !self.dry_run, force: self.force }
    }
}

/// What is done, and what a person should know of it.
struct Outcome {
    steps: Vec<Step>,
    takeover: Takeover,
    next: Vec<String>,
}

/// Writes all that a node needs for `cofferdam cri`.
pub(crate) fn install(global: &Global, args: &InstallArgs) -> Result<u8> {
    let prefix = Prefix::new(args.root_dir.as_deref())?;
    if prefix.is_machine() && !args.dry_run && !cofferdam_host::privilege::is_root() {
        bail!("the node's files belong to root: run cofferdam install as root (sudo)");
    }
    if args.dry_run {
        let journal = journal::read(&prefix)?.unwrap_or_default();
        let outcome = decide(global, args, &prefix, &journal)?;
        print(args, &outcome)?;
        return Ok(0);
    }
    // What is refused is refused before a folder is made.
    let systemd = args.now.then(Systemd::need).transpose()?;
    let known = journal::read(&prefix)?.unwrap_or_default();
    let first = decide(global, args, &prefix, &known)?;
    if !args.force {
        plan::insist(&first.steps)?;
    }
    next::insist(&prefix, args.asked(), &first.takeover)?;
    let mut held = Held::open(&prefix)?;
    let outcome = decide(global, args, &prefix, &held.journal)?;
    if !args.force {
        plan::insist(&outcome.steps)?;
    }
    plan::carry_out(&mut held, &outcome.steps)?;
    drop(held);
    if let Some(systemd) = systemd {
        // The daemon would say this where nobody looks.
        Settings::read(global).insist().context("all is written, and nothing is started")?;
        next::start(&systemd, args.asked()).context("all is written, and the service does not run as it should")?;
    }
    print(args, &outcome)?;
    Ok(0)
}

fn decide(global: &Global, args: &InstallArgs, prefix: &Prefix, journal: &Journal) -> Result<Outcome> {
    let taken = takeover::take(prefix, args.from)?;
    let config = target(&global.config, "configuration", texts::config(&taken), Kind::First);
    let config = plan::step(prefix, journal, config)?;
    let (takeover, socket) = match config.action {
        plan::Action::Stays => of_theirs(global, prefix)?,
        _ => (taken, None),
    };
    let state = global.state.clone().unwrap_or_else(|| crate::settings::STATE.into());
    let socket = socket.unwrap_or_else(|| crate::settings::places::absolute(&state).join("cri.sock"));
    let endpoint = format!("unix://{}", socket.display());
    let mut steps = vec![config];
    let mut add = |target| plan::step(prefix, journal, target).map(|step| steps.push(step));
    add(target(Path::new(texts::CRICTL), "crictl's configuration", texts::crictl(&endpoint), Kind::Whole))?;
    add(target(Path::new(texts::UNIT), "systemd unit", texts::unit(global)?, Kind::Whole))?;
    if args.kubelet {
        for (path, text) in kubelet::edits(prefix, &endpoint)? {
            add(target(&path, "kubelet", text, Kind::Edit))?;
        }
    }
    let next = next::lines(prefix, args.asked(), &takeover, &endpoint)?;
    Ok(Outcome { steps, takeover, next })
}

fn target(path: &Path, what: &'static str, text: String, kind: Kind) -> Target {
    Target { path: crate::settings::places::absolute(path), what, text, kind }
}

/// A configuration that somebody wrote stays, so it counts: its handlers, and the socket that it names.
fn of_theirs(global: &Global, prefix: &Prefix) -> Result<(Takeover, Option<PathBuf>)> {
    let own = prefix.join(&global.config);
    let roots = Roots { own_drop_ins: own.parent().unwrap_or(Path::new("/")).join("conf.d"), own, ..Roots::default() };
    let loaded: Loaded = reading::read_all(&roots);
    if !prefix.is_machine() {
        // What it imports is not below the prefix yet.
        return Ok((Takeover::default(), loaded.table.settings.cri.socket.map(|s| s.value)));
    }
    takeover::insist(&loaded)?;
    let takeover = Takeover { handlers: takeover::handlers(prefix, &loaded), warnings: takeover::said(prefix, &loaded), ..Takeover::default() };
    Ok((takeover, loaded.table.settings.cri.socket.map(|s| s.value)))
}

fn print(args: &InstallArgs, outcome: &Outcome) -> Result<()> {
    if args.output == Output::Json {
        return show::json(&as_json(args, outcome));
    }
    let mut table = show::table(&["file", "what", "becomes"]);
    for step in &outcome.steps {
        let words = step.action.words();
        table.add_row([step.target.path.display().to_string(), step.target.what.to_owned(), words.to_owned()]);
    }
    show::say(table);
    let takeover = &outcome.takeover;
    if !takeover.handlers.is_empty() {
        let mut table = show::table(&["handler", "driver", "binary", "from"]);
        for handler in &takeover.handlers {
            let name = if handler.default { format!("{} (default)", handler.name) } else { handler.name.clone() };
            table.add_row([name, handler.driver.to_owned(), handler.binary.clone(), handler.origin.clone()]);
        }
        show::say(format_args!("\n{table}"));
    }
    for (handler, reason) in takeover.handlers.iter().filter_map(|h| Some((h, h.unusable.as_ref()?))) {
        show::say(format_args!("{}: {reason}", handler.name));
    }
    for warning in &takeover.warnings {
        show::say(format_args!("not taken over: {warning}"));
    }
    if args.asked().now {
        show::say("\nThe service is enabled and runs.");
    }
    show::say(if args.dry_run { "\nNothing was written. After an install:" } else { "\nWhat is left to do:" });
    outcome.next.iter().for_each(|line| show::say(format_args!("  {line}")));
    Ok(())
}

fn as_json(args: &InstallArgs, outcome: &Outcome) -> Value {
    let file = |s: &Step| json!({"path": s.target.path, "what": s.target.what, "action": s.action});
    let takeover = &outcome.takeover;
    json!({
        "dryRun": args.dry_run,
        "started": args.asked().now,
        "from": takeover.from,
        "files": outcome.steps.iter().map(file).collect::<Vec<_>>(),
        "handlers": takeover.handlers,
        "warnings": takeover.warnings,
        "next": outcome.next,
    })
}
