//! `cofferdam image`: the images of this machine.

use crate::args::{Global, Output};
use crate::settings::Settings;
use crate::show;
use anyhow::Result;
use cofferdam_images::{Input, LoadOptions, Progress, Reference, Stage};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;

/// Loads a docker archive or an OCI layout.
pub(crate) fn load(global: &Global, input: Option<&Path>, name: Option<&str>) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let options = LoadOptions { name: name.map(Reference::parse).transpose()? };
    let bar = Bar::new();
    let mut stdin = std::io::stdin().lock();
    let input = match input {
        None => Input::Stream(&mut stdin),
        Some(path) => Input::Path(path),
    };
    let loaded = engine.images().load(input, &options, &bar);
    bar.0.finish_and_clear();
    for image in loaded? {
        let names = if image.image.names.is_empty() { image.image.id.to_string() } else { image.image.names.join(", ") };
        show::say(format_args!("loaded {names} ({})", show::bytes(image.image.size)));
        for note in image.notes {
            show::tell(format_args!("cofferdam: {note}"));
        }
    }
    Ok(0)
}

/// Lists images.
pub(crate) fn list(global: &Global, output: Output) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    let images = engine.images().list()?;
    if output == Output::Json {
        let all: Vec<_> = images
            .iter()
            .map(|i| json!({"id": i.id.to_string(), "names": i.names, "size": i.size, "layers": i.layers.len(), "platform": i.config.platform.to_string()}))
            .collect();
        show::json(&all)?;
        return Ok(0);
    }
    if images.is_empty() {
        show::say("No images here; load one with: cofferdam image load -i FILE");
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

/// Removes images.
pub(crate) fn remove(global: &Global, wanted: &[String]) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    for name in wanted {
        let removed = engine.remove_image(name)?;
        let what = if removed.image.is_some() { "name and image" } else { "name; the image has others" };
        show::say(format_args!("removed {name} ({what})"));
    }
    Ok(0)
}

/// Progress on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn progress(&self, stage: &Stage, done: u64, total: Option<u64>) {
        self.0.set_message(match stage {
            Stage::Spool => "reading".to_owned(),
            Stage::Layer { number, count } => format!("layer {number}/{count}"),
            Stage::Commit => "writing".to_owned(),
        });
        self.0.set_length(total.unwrap_or(done));
        self.0.set_position(done);
    }
}
