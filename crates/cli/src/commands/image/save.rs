//! `cofferdam image save`: images as an archive.

use crate::args::Global;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cofferdam_images::SaveFormat;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Examples of the command.
pub(super) const HELP: &str = "\
Examples:
  cofferdam image save web:1 -O web.tar
  cofferdam image save web:1 db:2 --format docker-archive | docker load";

/// Options of `save`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SaveArgs {
    /// Names or ids
    #[arg(required = true)]
    images: Vec<String>,
    /// Archive; standard output where absent
    #[arg(short = 'O', long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// An OCI layout in a tar file: digests stay as they are.
    #[default]
    OciArchive,
    /// As `docker save` writes it.
    DockerArchive,
}

pub(super) fn save(global: &Global, args: &SaveArgs) -> Result<u8> {
    let format = match args.format {
        Form::OciArchive => SaveFormat::OciArchive,
        Form::DockerArchive => SaveFormat::DockerArchive,
    };
    if args.output_file.is_none() && std::io::stdout().is_terminal() {
        bail!("an archive is not for a terminal; name a file with -O, or pipe it on");
    }
    let engine = Settings::read(global).insist()?.open()?;
    let names: Vec<&str> = args.images.iter().map(String::as_str).collect();
    match &args.output_file {
        None => engine.save_images(&names, BufWriter::new(std::io::stdout().lock()), format)?,
        Some(path) => whole(path, |file| Ok(engine.save_images(&names, file, format)?))?,
    }
    Ok(0)
}

/// A file that is there whole or not at all.
fn whole(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().with_context(|| format!("{} names no file", path.display()))?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = (|| {
        let file = File::create_new(&part).with_context(|| format!("{} cannot be made", part.display()))?;
        let mut buffer = BufWriter::new(&file);
        write(&mut buffer)?;
        buffer.flush().and_then(|()| file.sync_all()).with_context(|| format!("{} cannot be written", part.display()))?;
        std::fs::rename(&part, path).with_context(|| format!("{} cannot be made", path.display()))
    })();
    if written.is_err() {
        // Where it is not there, nothing has to be removed.
        let _ = std::fs::remove_file(&part);
    }
    written
}
