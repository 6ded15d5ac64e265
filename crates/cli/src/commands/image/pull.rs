//! `cofferdam image pull`: images from their registries.

use super::progress::Layers;
use crate::args::{Global, Output};
use crate::settings::Settings;
use crate::show;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_engine::images::PullOptions;
use cofferdam_images::{Platform, Pulled};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

/// Examples of the command.
pub(super) const HELP: &str = "\
Examples:
  cofferdam image pull nginx:1.29 registry.example.com/team/web@sha256:...
  cofferdam image pull --platform linux/arm64 busybox
  cofferdam image pull --auth-file ./config.json registry.example.com/web

Mirrors, certificates and plain HTTP are as hosts.toml says, in /etc/cofferdam/certs.d or containerd's own
/etc/containerd/certs.d. Credentials are docker's: ~/.docker/config.json with its helpers.";

/// Greatest size of a file with credentials, bytes.
const MAX_AUTH: u64 = 1 << 20;

/// Options of `pull`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PullArgs {
    /// Names, with a tag or a digest
    #[arg(required = true)]
    images: Vec<String>,
    /// Platform to choose where there are several, as linux/arm64; this machine's where absent
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Credentials in docker's form, tried before the machine's own
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Print only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn pull(global: &Global, args: &PullArgs) -> Result<u8> {
    let platform = args.platform.as_deref().map(platform).transpose()?;
    let configs: Vec<Vec<u8>> = args.auth_file.iter().map(credentials).collect::<Result<_>>()?;
    let engine = Settings::read(global).insist()?.open()?;
    let mut all = Vec::new();
    for name in &args.images {
        let start = Instant::now();
        let pulled = one(&engine, name, platform.as_ref(), &configs)?;
        match args.output {
            Output::Json => all.push(json!({
                "image": name, "id": pulled.id.to_string(), "digest": pulled.digest.to_string(), "names": pulled.image.names,
                "bytesFetched": pulled.bytes_fetched, "layers": pulled.layers, "layersReused": pulled.layers_reused,
                "seconds": start.elapsed().as_secs_f64(),
            })),
            Output::Table if args.quiet => show::say(&pulled.id),
            Output::Table => tell(name, &pulled, start),
        }
        pulled.notes.iter().for_each(|note| show::tell(format_args!("cofferdam: {note}")));
    }
    if args.output == Output::Json {
        show::json(&all)?;
    }
    Ok(0)
}

fn one(engine: &Engine, name: &str, platform: Option<&Platform>, docker_configs: &[Vec<u8>]) -> Result<Pulled> {
    let bars = Layers::new();
    let told = |event: &cofferdam_images::PullEvent| bars.told(event);
    let pulled = engine.pull(name, PullOptions { docker_configs, platform, progress: Some(&told) });
    bars.clear();
    Ok(pulled?)
}

fn tell(name: &str, pulled: &Pulled, start: Instant) {
    let what = match (pulled.layers_reused, pulled.layers) {
        (reused, layers) if reused == layers => "nothing was new".to_owned(),
        (0, layers) => format!("{} in {layers} layers", show::bytes(pulled.bytes_fetched)),
        (reused, layers) => format!("{} in {} of {layers} layers, the others were here", show::bytes(pulled.bytes_fetched), layers - reused),
    };
    show::say(format_args!("pulled {name} ({what}, {:.1} s)", start.elapsed().as_secs_f64()));
    show::say(format_args!("  digest {}", pulled.digest));
    show::say(format_args!("  id     {}", pulled.id));
}

/// `OS/ARCH` or `OS/ARCH/VARIANT`.
fn platform(text: &str) -> Result<Platform> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => bail!("--platform {text:?} is not OS/ARCH; write it as linux/arm64"),
    };
    if ![os, architecture].into_iter().chain(Some(variant).filter(|v| !v.is_empty())).all(plain) {
        bail!("--platform {text:?} is not OS/ARCH; write it as linux/arm64");
    }
    Ok(Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() })
}

fn credentials(path: &PathBuf) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut bytes = Vec::new();
    file.take(MAX_AUTH + 1).read_to_end(&mut bytes).with_context(|| format!("{} cannot be read", path.display()))?;
    if bytes.len() as u64 > MAX_AUTH {
        bail!("{} has more than {MAX_AUTH} bytes; that is no docker configuration", path.display());
    }
    Ok(bytes)
}
