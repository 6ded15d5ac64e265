//! OCI image layouts: `oci-layout`, `index.json`, `blobs/`.
//!
//! Format: the OCI image specification 1.1 (`image-layout.md`, `image-index.md`, `manifest.md`).
//! Docker's manifest version 2, schema 2, and its manifest list have the same shape.

use super::{LayerBlob, Offer, fail, json, verified};
use crate::error::Result;
use crate::limits::Limits;
use crate::manifest::{CONFIG_TYPES, DEEPEST, Descriptor, Document, INDEX_TYPES};
use crate::platform::Platform;
use crate::reference::{Reference, is_tag};
use crate::source::{Blobs, Source};
use serde::Deserialize;
use std::collections::BTreeMap;

const OCI_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize, Default)]
struct JustPlatform {
    #[serde(flatten)]
    platform: Platform,
}

/// One image manifest, and what is around it.
struct Candidate {
    /// The descriptor in `index.json` that led here.
    top: Descriptor,
    manifest: Document,
    bytes: Vec<u8>,
    platform: Platform,
}

pub(super) fn offers(
    source: &Source,
    rename: Option<&Reference>,
    host: &Platform,
    limits: &Limits,
) -> Result<Vec<Offer>> {
    let layout: Layout = json(source, "oci-layout", &source.small("oci-layout", limits)?)?;
    if !layout.version.starts_with("1.") {
        return Err(fail(
            source,
            format!(
                "its imageLayoutVersion is {:?}, and only 1.x is known",
                layout.version
            ),
        ));
    }
    let index: Document = json(source, "index.json", &source.small("index.json", limits)?)?;
    let mut candidates = Vec::new();
    let mut seen = 0;
    for top in index.manifests.unwrap_or_default() {
        collect(source, &top, &top, 0, &mut seen, limits, &mut candidates)?;
    }
    if candidates.is_empty() {
        return Err(fail(source, "index.json leads to no container image"));
    }
    choose(candidates, host)
        .into_iter()
        .map(|chosen| offer(source, chosen, rename, limits))
        .collect()
}

/// Finds the image manifests under `at`.
fn collect(
    source: &Source,
    top: &Descriptor,
    at: &Descriptor,
    depth: usize,
    seen: &mut usize,
    limits: &Limits,
    out: &mut Vec<Candidate>,
) -> Result<()> {
    *seen += 1;
    if depth > DEEPEST || *seen > 1024 {
        return Err(fail(
            source,
            "its indexes are nested more than four deep, or have more than 1024 entries",
        ));
    }
    if at.is_attestation() {
        return Ok(());
    }
    let path = at.path();
    if depth > 0 && !source.has(&path) {
        // An index may name platforms that were not saved with it.
        return Ok(());
    }
    let bytes = verified(source, &path, &at.digest, Some(at.size), limits)?;
    let document: Document = json(source, &path, &bytes)?;
    if document.schema_version != 2 {
        return Err(fail(
            source,
            format!(
                "{path:?} has schema version {}, and only 2 is known",
                document.schema_version
            ),
        ));
    }
    let media_type = document
        .media_type
        .clone()
        .unwrap_or_else(|| at.media_type.clone());
    if INDEX_TYPES.contains(&media_type.as_str())
        || (document.config.is_none() && document.manifests.is_some())
    {
        for inner in document.manifests.unwrap_or_default() {
            collect(source, top, &inner, depth + 1, seen, limits, out)?;
        }
        return Ok(());
    }
    let Some(config) = &document.config else {
        return Err(fail(
            source,
            format!("{path:?} is neither a manifest nor an index"),
        ));
    };
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        // Artifacts (charts, signatures) may lie beside images.
        return Ok(());
    }
    let platform = match &at.platform {
        Some(platform) => platform.clone(),
        None => {
            let data = verified(
                source,
                &config.path(),
                &config.digest,
                Some(config.size),
                limits,
            )?;
            json::<JustPlatform>(source, &config.path(), &data)?.platform
        }
    };
    out.push(Candidate {
        top: top.clone(),
        manifest: document,
        bytes,
        platform,
    });
    Ok(())
}

/// Of the candidates that stand for one image on different platforms, the one that fits best; where
/// none fits, the first, whose platform is reported when it is to run. Those with one name, or
/// under one entry of `index.json`, are one image; of those without a name each is its own, except
/// that foreign ones are left out where another fits.
fn choose(candidates: Vec<Candidate>, host: &Platform) -> Vec<Candidate> {
    let mut groups: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    let mut order = Vec::new();
    for candidate in candidates {
        let top = &candidate.top;
        let name = top.annotation(CONTAINERD_NAME).or(top.annotation(OCI_NAME));
        let key = name.map_or_else(|| top.digest.to_string(), |name| format!("name {name}"));
        if !groups.contains_key(&key) {
            order.push(key.clone());
        }
        groups.entry(key).or_default().push(candidate);
    }
    let rank = |c: &Candidate| c.platform.rank(host).unwrap_or(u8::MAX);
    let best = order
        .iter()
        .filter_map(|key| groups.remove(key)?.into_iter().min_by_key(rank));
    let best: Vec<_> = best.collect();
    let any_fits = best.iter().any(|c| rank(c) < u8::MAX);
    let named = |c: &Candidate| {
        c.top
            .annotation(CONTAINERD_NAME)
            .or(c.top.annotation(OCI_NAME))
            .is_some()
    };
    best.into_iter()
        .filter(|c| !any_fits || rank(c) < u8::MAX || named(c))
        .collect()
}

fn offer(
    source: &Source,
    candidate: Candidate,
    rename: Option<&Reference>,
    limits: &Limits,
) -> Result<Offer> {
    let Some(config) = &candidate.manifest.config else {
        return Err(fail(source, "a manifest has no configuration"));
    };
    let mut layers = Vec::new();
    for layer in candidate.manifest.layers.iter().flatten() {
        if layer.media_type.ends_with("+encrypted") {
            return Err(fail(
                source,
                format!(
                    "layer {} is encrypted, which is not supported",
                    layer.digest
                ),
            ));
        }
        layers.push(LayerBlob {
            name: layer.path(),
            promised: Some((layer.digest.clone(), layer.size)),
        });
    }
    let (names, notes) = names(&candidate.top, rename)?;
    Ok(Offer {
        config: verified(
            source,
            &config.path(),
            &config.digest,
            Some(config.size),
            limits,
        )?,
        layers,
        target: Some(candidate.top.digest),
        manifest: Some(candidate.bytes),
        names,
        notes,
        pulled: false,
    })
}

/// The names in a descriptor's annotations. containerd's is a whole reference; the specification's
/// own is often a mere tag, which only makes a name together with `rename`'s repository.
fn names(top: &Descriptor, rename: Option<&Reference>) -> Result<(Vec<Reference>, Vec<String>)> {
    if let Some(name) = top.annotation(CONTAINERD_NAME) {
        return Ok((vec![Reference::parse(name)?], Vec::new()));
    }
    let Some(name) = top.annotation(OCI_NAME) else {
        return Ok((Vec::new(), Vec::new()));
    };
    if !is_tag(name) {
        return Ok((vec![Reference::parse(name)?], Vec::new()));
    }
    match rename {
        Some(base) => Ok((
            vec![Reference::parse(&format!("{}:{name}", base.repository()))?],
            Vec::new(),
        )),
        None => {
            let note = format!(
                "the archive has only the tag {name:?} and no name for the image: give one with --name, or use its id"
            );
            Ok((Vec::new(), vec![note]))
        }
    }
}
