//! The `cofferdam` command: arguments, wiring, and what a person sees.

mod args;
mod commands;
mod leftovers;
mod live;
mod owner;
mod settings;
mod show;
mod world;

use args::{Cli, Command, ImageCommand};
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
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            show::tell(format_args!("cofferdam: {error:#}"));
            ExitCode::from(EXIT_ERROR)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Run(run) => commands::run::run(global, &run),
        Command::Supervise => commands::run::supervise(global),
        Command::Ps { output } => commands::ps::ps(global, output),
        Command::Logs { pod, container, follow, tail, timestamps } => {
            commands::logs::logs(global, &pod, &commands::logs::Wanted { container, follow, tail, timestamps })
        }
        Command::Exec { pod, container, stdin, tty, command } => {
            commands::exec::exec(global, &pod, container.as_deref(), stdin, tty, command)
        }
        Command::Stop { pods, all, grace } => commands::stop::stop(global, &pods, all, grace),
        Command::Image { command } => match command {
            ImageCommand::Load { input, name } => commands::image::load(global, input.as_deref(), name.as_deref()),
            ImageCommand::Ls { output } => commands::image::list(global, output),
            ImageCommand::Rm { images } => commands::image::remove(global, &images),
        },
        Command::Config { output } => commands::config::config(global, output),
        Command::Handlers { output } => commands::handlers::handlers(global, output),
        Command::Demo { pods, refused } => commands::demo::demo(global, pods.as_deref(), refused.as_deref()),
    }
}
