//! Loading archives.

use super::import::{Event, How};
use super::{Image, Store, Temp};
use crate::archive::{self, Offer};
use crate::compress::Format;
use crate::error::{Error, IoContext, Result};
use crate::limits::{Progress, Stage};
use crate::reference::Reference;
use crate::source::{self, Blobs, Source};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Where an archive is.
pub enum Input<'a> {
    /// A docker archive or OCI layout, as a file (compressed or not), a directory or a pipe.
    Path(&'a Path),
    /// The same as a stream.
    Stream(&'a mut dyn Read),
}

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The image's name, in the place of those in the archive. Where the archive names its images
    /// by a tag alone and this has the tag `latest`, it is their repository.
    pub name: Option<Reference>,
}

/// One image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image, with all its names.
    pub image: Image,
    /// Names that this load gave it.
    pub names: Vec<String>,
    /// Sentences for the user: names and attributes that were left out.
    pub notes: Vec<String>,
}

impl Store {
    /// Loads the images of an archive that fit this machine. Every blob and layer is verified
    /// against its digest; nothing of an image appears before all of it is there and synced.
    ///
    /// # Errors
    /// What is wrong with the archive, a bound that it exceeds, or a failure of the file system.
    pub fn load(
        &self,
        input: Input<'_>,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>> {
        let _keep = self.keep_layers()?;
        let (source, _spool) = self.source(input, progress)?;
        let offers = archive::offers(&source, options.name.as_ref(), &self.host, &self.limits)?;
        offers
            .iter()
            .map(|offer| self.import_archive(offer, &source, progress))
            .collect()
    }

    /// Makes the archive one that can be read anywhere in it.
    fn source(&self, input: Input<'_>, progress: &dyn Progress) -> Result<(Source, Option<Temp>)> {
        let path = match input {
            Input::Stream(stream) => {
                return self.spool(Path::new("the stream"), stream, None, progress);
            }
            Input::Path(path) => path,
        };
        let meta = fs::metadata(path).at("open", path)?;
        if meta.is_dir() {
            return Ok((Source::dir(path)?, None));
        }
        let file = File::open(path).at("open", path)?;
        if !meta.is_file() {
            return self.spool(path, file, None, progress);
        }
        let format = source::format(&file).map_err(|e| Error::Archive {
            archive: path.display().to_string(),
            why: format!("it {e}"),
        })?;
        match format {
            Format::Plain => Ok((Source::tar(path, file, &self.limits)?, None)),
            _ => self.spool(path, file, Some(meta.len()), progress),
        }
    }

    fn spool(
        &self,
        path: &Path,
        from: impl Read,
        total: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<(Source, Option<Temp>)> {
        let temp = self.write()?.temporary_dir()?;
        let spooled = temp.path("archive");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&spooled)
            .at("create", &spooled)?;
        source::spool(from, &mut file, &self.limits, &|done| {
            progress.progress(&Stage::Spool, done, total)
        })
        .map_err(|e| Error::Archive {
            archive: path.display().to_string(),
            why: format!("it cannot be read: {e}"),
        })?;
        Ok((Source::tar(path, file, &self.limits)?, Some(temp)))
    }

    /// Unpacks what is not there yet and records the image. The caller keeps the collector away.
    pub(crate) fn import_archive(
        &self,
        offer: &Offer,
        blobs: &dyn Blobs,
        progress: &dyn Progress,
    ) -> Result<Loaded> {
        let count = offer.layers.len();
        let how = How {
            name: "of the archive",
            parallel: 1,
            reuse: false,
        };
        let mut left = count;
        let mut seen = |event: Event| match event {
            Event::Bytes { index, done, total } => {
                let number = index + 1;
                progress.progress(&Stage::Layer { number, count }, done, Some(total));
            }
            Event::Done { .. } => {
                left -= 1;
                if left == 0 {
                    progress.progress(&Stage::Commit, 0, None);
                }
            }
        };
        let imported = self.import(offer, blobs, &how, &mut seen)?;
        Ok(Loaded {
            image: imported.image,
            names: imported.names,
            notes: imported.notes,
        })
    }
}
