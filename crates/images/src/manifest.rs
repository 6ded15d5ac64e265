//! Manifests and indexes, of OCI and of docker (version 2, schema 2), which have the same shape.
//!
//! Formats: the OCI image specification 1.1 (`image-index.md`, `manifest.md`, `descriptor.md`) and
//! the distribution project's `manifest-v2-2.md`.

use crate::digest::Digest;
use crate::platform::Platform;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Annotation of the attestations that docker's builder puts beside images.
const ATTESTATION: &str = "vnd.docker.reference.type";
/// Media types of indexes.
pub(crate) const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media types of manifests.
pub(crate) const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Media types of image configurations.
pub(crate) const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
/// How the media types of layers begin; compression follows.
const LAYER_TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
/// Indexes within indexes.
pub(crate) const DEEPEST: usize = 4;
/// Entries of one index.
const MOST_ENTRIES: usize = 1024;

/// What points to a blob or manifest.
#[derive(Debug, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest.hex())
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn is_attestation(&self) -> bool {
        self.annotation(ATTESTATION).is_some()
    }
}

/// A manifest or an index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Option<Vec<Descriptor>>,
}

/// What a document is.
#[derive(Debug)]
pub(crate) enum Parsed {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

/// Reads what a registry calls a manifest. `told` is the media type that it told; it may be empty.
pub(crate) fn parse(data: &[u8], told: &str) -> Result<Parsed, String> {
    let document: Document = serde_json::from_slice(data).map_err(|e| match schema(data) {
        Some(1) => "its manifest has docker's old schema 1, which has no safe digests: push it again with a tool of today".into(),
        _ => format!("its manifest cannot be read: {e}"),
    })?;
    if document.schema_version != 2 {
        return Err(format!(
            "its manifest has schema version {}, and only 2 is known",
            document.schema_version
        ));
    }
    // Who reads a document otherwise than the registry did may be made to run something else
    // (CVE-2021-41190): what is both, or is not what it is called, is neither.
    let told = told.split(';').next().unwrap_or_default().trim();
    let known = |kind: &str| INDEX_TYPES.contains(&kind) || MANIFEST_TYPES.contains(&kind);
    if let Some(own) = document.media_type.as_deref().filter(|own| known(told) && *own != told) {
        return Err(format!("its manifest calls itself {own:?}, and the registry calls it {told:?}"));
    }
    let kind = document.media_type.as_deref().unwrap_or(told);
    let (config, layers) = match (document.manifests, document.config, document.layers) {
        (Some(entries), None, None) if !MANIFEST_TYPES.contains(&kind) => {
            if entries.len() > MOST_ENTRIES {
                return Err(format!(
                    "its index has {} entries, and no more than {MOST_ENTRIES} are taken",
                    entries.len()
                ));
            }
            return Ok(Parsed::Index(entries));
        }
        (None, Some(config), layers) if !INDEX_TYPES.contains(&kind) => (config, layers.unwrap_or_default()),
        _ => return Err("its manifest is neither an image's manifest nor an index, or claims to be both".into()),
    };
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        return Err(format!(
            "it is no image but an artifact, whose configuration is {:?}",
            config.media_type
        ));
    }
    for layer in &layers {
        check_layer(layer)?;
    }
    Ok(Parsed::Manifest { config, layers })
}

fn check_layer(layer: &Descriptor) -> Result<(), String> {
    let kind = layer.media_type.as_str();
    if kind.ends_with("+encrypted") {
        return Err(format!("layer {} is encrypted, which is not supported", layer.digest));
    }
    if !LAYER_TYPES.iter().any(|known| kind.starts_with(known)) {
        return Err(format!("layer {} is {kind:?}, which is no layer of files", layer.digest));
    }
    Ok(())
}

fn schema(data: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Schema {
        schema_version: u32,
    }
    serde_json::from_slice::<Schema>(data).ok().map(|s| s.schema_version)
}

/// Of the entries of an index the one that fits `wanted` best; without any, the platforms there are.
pub(crate) fn choose(entries: Vec<Descriptor>, wanted: &Platform) -> Result<Descriptor, String> {
    let entries: Vec<_> = entries.into_iter().filter(|entry| !entry.is_attestation()).collect();
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(platform) => platform.rank(wanted),
        // What names no platform is tried last: its configuration tells.
        None => Some(u8::MAX),
    };
    let names: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .map(Platform::to_string)
        .collect();
    let best = entries
        .into_iter()
        .filter_map(|entry| rank(&entry).map(|rank| (rank, entry)))
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry).ok_or_else(|| {
        if names.is_empty() {
            "no platform at all".into()
        } else {
            names.join(", ")
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn entry(kind: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{D}","size":1}}"#)
    }

    #[test]
    fn documents_that_lie_are_refused() {
        let config = entry(CONFIG_TYPES[0]);
        let layer = entry("application/vnd.oci.image.layer.v1.tar+zstd");
        let manifest = |kind: &str, rest: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{kind}",{rest}}}"#);
        let image = format!(r#""config":{config},"layers":[{layer}]"#);
        let (index, oci) = (INDEX_TYPES[0], MANIFEST_TYPES[0]);
        for (text, told, why) in [
            ("{".to_owned(), "", "cannot be read"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "", "schema version 1"),
            (r#"{"schemaVersion":1,"config":7}"#.into(), "", "schema 1"),
            (manifest(oci, &format!(r#"{image},"manifests":[]"#)), "", "both"),
            (manifest(index, &image), "", "neither"),
            (manifest(oci, r#""manifests":[]"#), "", "neither"),
            (manifest(oci, &image), index, "calls itself"),
            (
                manifest(
                    oci,
                    &format!(r#""config":{},"layers":[]"#, entry("application/vnd.cncf.helm.config.v1+json")),
                ),
                "",
                "artifact",
            ),
            (
                manifest(oci, &format!(r#""config":{config},"layers":[{}]"#, entry("application/vnd.wasm"))),
                "",
                "no layer of files",
            ),
            (
                manifest(
                    oci,
                    &format!(
                        r#""config":{config},"layers":[{}]"#,
                        entry("application/vnd.oci.image.layer.v1.tar+encrypted")
                    ),
                ),
                "",
                "encrypted",
            ),
            (
                manifest(oci, &format!(r#""config":{config},"layers":[{{"digest":"sha256:../x","size":1}}]"#)),
                "",
                "cannot be read",
            ),
            (
                manifest(index, &format!(r#""manifests":[{}]"#, vec![entry(oci); 1025].join(","))),
                "",
                "1025 entries",
            ),
        ] {
            let error = parse(text.as_bytes(), told).unwrap_err();
            assert!(error.contains(why), "{text:.100}: {error}");
        }
        assert!(matches!(
            parse(manifest(oci, &image).as_bytes(), &format!("{oci}; charset=utf-8")),
            Ok(Parsed::Manifest { .. })
        ));
    }

    #[test]
    fn the_best_platform_is_chosen_and_attestations_never() {
        let host = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        };
        let make = |architecture: &str, size| Descriptor {
            media_type: MANIFEST_TYPES[0].into(),
            digest: Digest::parse(D).unwrap(),
            size,
            platform: Some(Platform {
                os: "linux".into(),
                architecture: architecture.into(),
                variant: String::new(),
            }),
            annotations: None,
        };
        let mut attestation = make("amd64", 9);
        attestation.annotations = Some([(ATTESTATION.to_owned(), "x".to_owned())].into());
        let chosen = choose(vec![attestation, make("arm64", 1), make("386", 2), make("amd64", 3)], &host).unwrap();
        assert_eq!(chosen.size, 3);
        assert_eq!(choose(vec![make("arm64", 1)], &host).unwrap_err(), "linux/arm64");
        let nameless = Descriptor {
            platform: None,
            ..make("", 5)
        };
        assert_eq!(choose(vec![make("arm64", 1), nameless], &host).unwrap().size, 5);
    }
}
