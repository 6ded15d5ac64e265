//! The `cofferdam` command: arguments, wiring, and what a person sees.

mod account;
mod args;
mod commands;
mod enclosure;
mod ended;
mod help;
mod leftovers;
mod live;
mod owner;
mod settings;
mod show;
mod sweep;
mod world;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// Exit code of an error of ours that has no code of its own.
pub(crate) const EXIT_ERROR: u8 = 120;
/// Exit code of a run in which a pod was not admitted.
pub(crate) const EXIT_DENIED: u8 = 121;

fn main() -> ExitCode {
    // Files that containers read (`/etc/hosts`, the pause root) must not depend on the caller's mask;
    // what is private is made so by its own mode.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked_or_wrong) => return usage(&asked_or_wrong),
    };
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            show::tell(format_args!("cofferdam: {error:#}"));
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// Help and version where they were asked for; else an error of ours, whose code no container's is
/// taken for.
fn usage(error: &clap::Error) -> ExitCode {
    if let Some(what) = not_built_yet(error) {
        show::tell(format_args!("cofferdam: {what}"));
        return ExitCode::from(EXIT_ERROR);
    }
    // Nobody may read it.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { EXIT_ERROR } else { 0 })
}

/// Commands that the design has and nobody has built, each with what it will be.
const LATER: [(&str, &str); 3] = [
    ("up", "a small cluster on this machine that kubectl speaks to"),
    ("webhook", "admission for a real cluster"),
    ("agent", "discovery of handlers on a real cluster's nodes"),
];

/// The sentence for a command that comes later.
fn not_built_yet(error: &clap::Error) -> Option<String> {
    let Some(clap::error::ContextValue::String(asked)) = error.get(clap::error::ContextKind::InvalidSubcommand) else { return None };
    let (name, what) = LATER.iter().find(|(name, _)| name == asked)?;
    Some(format!("`{name}` ({what}) is not built yet; `run`, `check` and `try` work without a cluster"))
}

fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Run(run) => commands::run::run(global, &run),
        Command::Check(args) => commands::check::check(global, &args),
        Command::Try(args) => commands::attempt::attempt(global, &args),
        Command::Supervise => commands::detach::supervise(global),
        Command::Ps { all, output } => commands::ps::ps(global, all, output),
        Command::Describe { pods, output } => commands::describe::describe(global, &pods, output),
        Command::Doctor(args) => commands::doctor::doctor(global, &args),
        Command::Events(args) => commands::events::events(global, &args),
        Command::Logs(args) => commands::logs::logs(global, &args),
        Command::Exec { pod, container, stdin, tty, command } => {
            commands::exec::exec(global, &pod, container.as_deref(), stdin, tty, command)
        }
        Command::Attach(args) => commands::attach::attach(global, &args),
        Command::Debug(args) => commands::debug::debug(global, &args),
        Command::Resize(args) => commands::resize::resize(global, &args),
        Command::Copy(args) => commands::copy::copy(global, &args),
        Command::PortForward(args) => commands::forward::forward(global, &args),
        Command::Top(args) => commands::top::top(global, &args),
        Command::Wait(args) => commands::wait::wait(global, &args),
        Command::Stop(args) => commands::stop::stop(global, &args),
        Command::Cri => commands::cri::cri(global),
        Command::Install(args) => commands::install::install(global, &args),
        Command::Uninstall(args) => commands::install::uninstall(global, &args),
        Command::Image { command } => commands::image::image(global, &command),
        Command::Config { output } => commands::config::config(global, output),
        Command::Handlers { output } => commands::handlers::handlers(global, output),
        Command::Bench(args) => commands::bench::bench(&args),
        Command::Completion { shell } => commands::shell::completion(shell),
        Command::Man { dir } => commands::shell::man(&dir),
        Command::Demo { pods, refused } => commands::demo::demo(global, pods.as_deref(), refused.as_deref()),
    }
}
