//! `cofferdam completion` and `cofferdam man`: what a shell and `man` want to know of the commands.

use crate::args::{Cli, Shell};
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::io::Write;
use std::path::Path;

/// Prints a completion script.
pub(crate) fn completion(shell: Shell) -> Result<u8> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "cofferdam", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(0)
}

/// The commands that are for people.
fn visible() -> clap::Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    clap::Command::new("cofferdam")
        .args(all.get_arguments().cloned())
        .subcommands(shown)
}

/// Writes manual pages, one a command.
pub(crate) fn man(dir: &Path) -> Result<u8> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)
    };
    write().with_context(|| format!("manual pages cannot be written into {}", dir.display()))?;
    Ok(0)
}
