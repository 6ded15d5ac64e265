//! Docker archives: `docker save`, `skopeo copy … docker-archive:`, `podman save`.
//!
//! Format: the Docker image specification v1.2 ("Combined Image JSON + Filesystem Changeset
//! Format"), `manifest.json`. Archives of before docker 1.10, which have only `repositories`, are
//! refused: their layers have no digests.

use super::{LayerBlob, Offer, fail, json, verified};
use crate::digest::Digest;
use crate::error::Result;
use crate::limits::Limits;
use crate::reference::Reference;
use crate::source::{Blobs, Source};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn offers(source: &Source, limits: &Limits) -> Result<Vec<Offer>> {
    let items: Vec<Item> = json(
        source,
        "manifest.json",
        &source.small("manifest.json", limits)?,
    )?;
    if items.is_empty() {
        return Err(fail(source, "manifest.json names no image"));
    }
    items
        .into_iter()
        .map(|item| offer(source, item, limits))
        .collect()
}

fn offer(source: &Source, item: Item, limits: &Limits) -> Result<Offer> {
    // The name of the configuration is its digest: `<hex>.json`, or `blobs/sha256/<hex>`.
    let stem = item.config.rsplit('/').next().unwrap_or_default();
    let config = match Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
        Some(digest) => verified(source, &item.config, &digest, None, limits)?,
        None => source.small(&item.config, limits)?,
    };
    let names = item.repo_tags.unwrap_or_default();
    let names = names
        .iter()
        .map(|name| Reference::parse(name))
        .collect::<Result<_>>()?;
    let layers = item.layers.unwrap_or_default().into_iter();
    Ok(Offer {
        config,
        layers: layers
            .map(|name| LayerBlob {
                promised: promised(source, &name),
                name,
            })
            .collect(),
        manifest: None,
        target: None,
        names,
        notes: Vec::new(),
        pulled: false,
    })
}

/// In docker's OCI-compatible form the name of a layer is its digest too.
fn promised(source: &Source, name: &str) -> Option<(Digest, u64)> {
    let digest = Digest::from_hex(name.strip_prefix("blobs/sha256/")?)?;
    let (_, size) = source.open(name).ok()?;
    Some((digest, size))
}
