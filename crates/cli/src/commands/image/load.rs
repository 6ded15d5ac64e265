//! `cofferdam image load`: a docker archive or an OCI layout.

use super::progress::Bar;
use crate::args::Global;
use crate::settings::Settings;
use crate::show;
use anyhow::Result;
use cofferdam_images::{Input, LoadOptions, Reference};
use std::path::Path;

/// Examples of the command.
pub(super) const HELP: &str = "\
Examples:
  docker save web | cofferdam image load
  cofferdam image load -i web.tar
  cofferdam image load -i oci-layout-dir/ --name web:1";

pub(super) fn load(global: &Global, input: Option<&Path>, name: Option<&str>) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let options = LoadOptions { name: name.map(Reference::parse).transpose()? };
    let bar = Bar::new();
    let mut stdin = std::io::stdin().lock();
    let input = match input {
        None => Input::Stream(&mut stdin),
        Some(path) => Input::Path(path),
    };
    let loaded = engine.images().load(input, &options, &bar);
    bar.clear();
    for image in loaded? {
        let names = if image.image.names.is_empty() { image.image.id.to_string() } else { image.image.names.join(", ") };
        show::say(format_args!("loaded {names} ({})", show::bytes(image.image.size)));
        for note in image.notes {
            show::tell(format_args!("cofferdam: {note}"));
        }
    }
    Ok(0)
}
