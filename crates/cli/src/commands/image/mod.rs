//! `cofferdam image`: the images of this machine.
//!
//! - [`load`], [`save`]: archives
//! - [`pull`]: from registries
//! - [`upkeep`]: what is removed, checked and mended
//! - bars are in [`progress`]

mod load;
mod progress;
mod pull;
mod save;
mod upkeep;

use crate::args::{Global, Output};
use crate::settings::Settings;
use crate::show;
use anyhow::Result;
use clap::Subcommand;
use cofferdam_images::Reference;
use serde_json::json;
use std::path::PathBuf;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam image pull nginx:1.29
  docker save web | cofferdam image load
  cofferdam image ls
  cofferdam image prune --all";

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Pull images from their registries
    #[command(after_help = pull::HELP)]
    Pull(pull::PullArgs),
    /// Load images from a docker archive or an OCI layout
    #[command(after_help = load::HELP)]
    Load {
        /// Archive or layout folder; standard input where absent
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Name for an image that brings none, or in place of the name it brings
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Save images into an archive that loads with the same ids
    #[command(after_help = save::HELP)]
    Save(save::SaveArgs),
    /// List images
    #[command(after_help = "Examples:\n  cofferdam image ls\n  cofferdam image ls -o json")]
    Ls {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images
    #[command(after_help = "Examples:\n  cofferdam image rm web:latest")]
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images that nobody needs
    #[command(after_help = upkeep::PRUNE_HELP)]
    Prune(upkeep::PruneArgs),
    /// Read every layer and blob, tell what is damaged, and mend it
    #[command(after_help = upkeep::FSCK_HELP)]
    Fsck(upkeep::FsckArgs),
}

/// Does it.
pub(crate) fn image(global: &Global, command: &ImageCommand) -> Result<u8> {
    match command {
        ImageCommand::Pull(args) => pull::pull(global, args),
        ImageCommand::Load { input, name } => load::load(global, input.as_deref(), name.as_deref()),
        ImageCommand::Save(args) => save::save(global, args),
        ImageCommand::Ls { output } => list(global, *output),
        ImageCommand::Rm { images } => remove(global, images),
        ImageCommand::Prune(args) => upkeep::prune(global, args),
        ImageCommand::Fsck(args) => upkeep::fsck(global, args),
    }
}

fn list(global: &Global, output: Output) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let images = engine.images().list()?;
    if output == Output::Json {
        let all: Vec<_> = images
            .iter()
            .map(|i| {
                json!({"id": i.id.to_string(), "names": i.names, "size": i.size, "layers": i.layers.len(),
                    "platform": i.config.platform.to_string(), "repoDigests": i.repo_digests})
            })
            .collect();
        show::json(&all)?;
        return Ok(0);
    }
    if images.is_empty() {
        show::say("No images here; pull one with: cofferdam image pull NAME");
        return Ok(0);
    }
    let mut table = show::table(&["image", "id", "size", "layers", "platform"]);
    for image in images {
        let names = if image.names.is_empty() { vec!["-".to_owned()] } else { image.names.clone() };
        for name in names {
            let familiar = Reference::parse(&name).map_or(name, |r| r.familiar());
            table.add_row([
                familiar,
                image.id.short().to_owned(),
                show::bytes(image.size),
                image.layers.len().to_string(),
                image.config.platform.to_string(),
            ]);
        }
    }
    show::say(table);
    Ok(0)
}

fn remove(global: &Global, wanted: &[String]) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    for name in wanted {
        let removed = engine.remove_image(name)?;
        let what = if removed.image.is_some() { "name and image" } else { "name; the image has others" };
        show::say(format_args!("removed {name} ({what})"));
    }
    Ok(0)
}
