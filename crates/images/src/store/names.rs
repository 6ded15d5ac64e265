//! Names: which image a reference means.

use super::{Store, records};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::reference::Reference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Digits of an id that name it at least. Shorter ones are words people call images by.
const SHORTEST_PREFIX: usize = 8;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    version: u32,
    names: BTreeMap<String, Name>,
    /// `repository@digest` to image: what registries call what was pulled from them. These keep no
    /// image; they go with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    pub(super) image: Digest,
    /// Digest by which the registry would know what the name meant when it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Digest>,
}

impl Names {
    /// Names of an image, sorted.
    pub(super) fn of(&self, id: &Digest) -> Vec<String> {
        self.names
            .iter()
            .filter(|(_, name)| name.image == *id)
            .map(|(text, _)| text.clone())
            .collect()
    }

    pub(super) fn set(&mut self, reference: &Reference, image: &Digest, target: Option<&Digest>) {
        self.names.insert(
            reference.key(),
            Name {
                image: image.clone(),
                target: target.cloned(),
            },
        );
    }

    /// Remembers by which digest a repository knows an image.
    pub(super) fn set_digest(&mut self, repository: &str, target: &Digest, image: &Digest) {
        self.digests
            .insert(format!("{repository}@{target}"), image.clone());
    }

    /// What registries call an image, sorted.
    pub(super) fn digests_of(&self, id: &Digest) -> Vec<String> {
        let mine = self.digests.iter().filter(|(_, image)| *image == id);
        mine.map(|(text, _)| text.clone()).collect()
    }

    /// Forgets what registries call an image.
    pub(super) fn remove_digests(&mut self, id: &Digest) {
        self.digests.retain(|_, image| image != id);
    }

    /// Names of images that `exists` does not know.
    pub(super) fn dangling(&self, exists: &dyn Fn(&Digest) -> bool) -> Vec<String> {
        let names = self.names.iter().map(|(text, name)| (text, &name.image));
        let all = names.chain(self.digests.iter());
        all.filter(|(_, image)| !exists(image))
            .map(|(text, _)| text.clone())
            .collect()
    }

    /// The image that a repository knows by a digest, whatever names it has now.
    pub(super) fn by_digest(&self, reference: &Reference) -> Option<&Digest> {
        let digest = reference.digest()?;
        self.digests
            .get(&format!("{}@{digest}", reference.repository()))
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.digests.remove(name);
        self.names.remove(name);
    }

    /// The name that a reference means. A digest must be that of what the name meant.
    pub(super) fn get(&self, reference: &Reference) -> Option<(&str, &Name)> {
        let found = self.names.get_key_value(&reference.key());
        let found = match reference.digest() {
            None => found,
            Some(digest) if reference.tag().is_some() => {
                found.filter(|(_, name)| name.target.as_ref() == Some(digest))
            }
            Some(digest) => found.or_else(|| {
                self.names.iter().find(|(text, name)| {
                    let same = text
                        .strip_prefix(reference.repository())
                        .is_some_and(|rest| rest.starts_with([':', '@']));
                    same && name.target.as_ref() == Some(digest)
                })
            }),
        };
        found.map(|(text, name)| (text.as_str(), name))
    }
}

impl Store {
    pub(super) fn names_path(&self) -> PathBuf {
        self.root.join("names.json")
    }

    pub(super) fn read_names(&self) -> Result<Names> {
        let names = records::read(&self.names_path())?.unwrap_or(Names {
            version: 1,
            ..Names::default()
        });
        match names.version {
            1 => Ok(names),
            other => Err(Error::Record {
                path: self.names_path(),
                why: format!("it has version {other}, and this program knows 1"),
            }),
        }
    }

    /// The id that a text means; see [`Store::resolve`].
    pub(super) fn find(&self, text: &str, names: &Names) -> Result<Digest> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if let Some(id) = Digest::from_hex(digits) {
            return Ok(id);
        }
        let reference = Reference::parse(text);
        if let Ok(reference) = &reference
            && let Some((_, name)) = names.get(reference)
        {
            return Ok(name.image.clone());
        }
        if let Ok(reference) = &reference
            && let Some(image) = names.by_digest(reference)
        {
            return Ok(image.clone());
        }
        let is_prefix = digits.len() >= SHORTEST_PREFIX
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_prefix {
            let mut fits: Vec<_> = self
                .image_ids()?
                .into_iter()
                .filter(|id| id.hex().starts_with(digits))
                .collect();
            match fits.len() {
                0 => {}
                1 => return Ok(fits.remove(0)),
                _ => {
                    let fits = fits.iter().map(Digest::to_string).collect();
                    return Err(Error::Ambiguous {
                        prefix: text.to_owned(),
                        fits,
                    });
                }
            }
        }
        let reference = reference.map_err(|e| {
            if is_prefix {
                Error::NotFound(text.to_owned())
            } else {
                e
            }
        })?;
        Err(Error::NotFound(reference.to_string()))
    }
}
