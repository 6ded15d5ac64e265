//! What an archive says that it holds, before anything is unpacked.

mod docker;
mod oci;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::source::{Blobs, Source};

/// An image that an archive or a registry offers.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The configuration's bytes; their digest is the image's id.
    pub(crate) config: Vec<u8>,
    /// Layers, lowest first.
    pub(crate) layers: Vec<LayerBlob>,
    /// The manifest's bytes, where there is one.
    pub(crate) manifest: Option<Vec<u8>>,
    /// Digest under which a registry would know it: of the manifest, or of the index around it.
    pub(crate) target: Option<Digest>,
    /// Names that it brings along.
    pub(crate) names: Vec<Reference>,
    /// Sentences about names that were left out.
    pub(crate) notes: Vec<String>,
    /// It comes from the registry that its names name, which knows it by `target`.
    pub(crate) pulled: bool,
}

/// Where one layer is.
#[derive(Debug)]
pub(crate) struct LayerBlob {
    /// Its name in the archive.
    pub(crate) name: String,
    /// Digest and size of the blob, where a manifest promises them.
    pub(crate) promised: Option<(Digest, u64)>,
}

/// The images of an archive that this machine wants.
///
/// Where an archive is both, as docker writes it since version 25, the OCI index counts: only it
/// promises digests. `rename` is the repository for images whose name is but a tag.
pub(crate) fn offers(
    source: &Source,
    rename: Option<&Reference>,
    host: &Platform,
    limits: &Limits,
) -> Result<Vec<Offer>> {
    let mut offers = if source.has("oci-layout") && source.has("index.json") {
        oci::offers(source, rename, host, limits)?
    } else if source.has("manifest.json") {
        docker::offers(source, limits)?
    } else {
        return Err(fail(
            source,
            "it is neither a docker archive nor an OCI layout: it has no manifest.json and no index.json",
        ));
    };
    if let Some(name) = rename {
        apply_name(source, name, &mut offers)?;
    }
    Ok(offers)
}

/// Gives the user's name to what the archive has. One image takes it, though the archive's tag
/// stays where the user gave none; several have to be told apart by tags of that repository.
fn apply_name(source: &Source, name: &Reference, offers: &mut [Offer]) -> Result<()> {
    let fits = |offer: &Offer| {
        !offer.names.is_empty()
            && offer
                .names
                .iter()
                .all(|n| n.repository() == name.repository())
    };
    match offers {
        [one] if name.tag() == Some("latest") && name.digest().is_none() && fits(one) => {}
        [one] => {
            one.names = vec![name.clone()];
            one.notes.clear();
        }
        several if several.iter().all(fits) => {}
        several => {
            let why = format!(
                "it has {} images with names of their own: load it without a name",
                several.len()
            );
            return Err(fail(source, why));
        }
    }
    Ok(())
}

fn fail(source: &Source, why: impl Into<String>) -> Error {
    Error::Archive {
        archive: source.path().display().to_string(),
        why: why.into(),
    }
}

/// Reads JSON, with the blob's name in the error.
fn json<T: serde::de::DeserializeOwned>(source: &Source, name: &str, data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|e| fail(source, format!("{name:?} cannot be read: {e}")))
}

/// A blob whose digest and size were promised.
fn verified(
    source: &Source,
    name: &str,
    promised: &Digest,
    size: Option<u64>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let data = source.small(name, limits)?;
    let found = Digest::of(&data);
    if found != *promised || size.is_some_and(|size| size != data.len() as u64) {
        let expected = size.map_or_else(
            || promised.to_string(),
            |size| format!("{promised} with {size} bytes"),
        );
        return Err(Error::DigestMismatch {
            what: name.to_owned(),
            expected,
            found: format!("{found} with {} bytes", data.len()),
        });
    }
    Ok(data)
}
