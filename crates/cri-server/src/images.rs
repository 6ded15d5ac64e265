//! Verbs on images.

use crate::convert::{image as convert, usage};
use crate::core::{Core, Note};
use crate::{error, verbose};
use cofferdam_cri_api::v1;
use cofferdam_engine::images::PullOptions;
use cofferdam_images::{Image, Reference};
use cofferdam_model::cri::Error;
use cofferdam_telemetry::attribute;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::Status;

/// One more, until it is dropped.
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    pub(crate) fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The image that a request names.
fn named(spec: Option<v1::ImageSpec>) -> Result<v1::ImageSpec, Status> {
    spec.filter(|s| !s.image.is_empty())
        .ok_or_else(|| Status::invalid_argument("image.image: it is empty"))
}

fn failed(error: cofferdam_images::Error) -> Status {
    match error {
        cofferdam_images::Error::Reference { .. } | cofferdam_images::Error::Ambiguous { .. } => {
            Status::invalid_argument(error.to_string())
        }
        other => Status::unknown(other.to_string()),
    }
}

/// Whether a complete name is of a repository, which may be named by its last parts alone.
fn is_of(name: &str, repository: &str) -> bool {
    let name = name.split('@').next().unwrap_or(name);
    let name = match name.rsplit_once(':') {
        Some((front, tag)) if !tag.contains('/') => front,
        _ => name,
    };
    name.strip_suffix(repository).is_some_and(|front| front.is_empty() || front.ends_with('/'))
}

impl Core {
    /// The image of a reference or id; `None` where it is not there.
    fn find_image(&self, text: &str) -> Result<Option<Image>, Status> {
        match self.engine.images().resolve(text) {
            // One that was removed is only there for the containers that have it.
            Ok(image) => Ok((!self.engine.image_is_unwanted(&image)).then_some(image)),
            Err(cofferdam_images::Error::NotFound(_)) => Ok(None),
            Err(other) => Err(failed(other)),
        }
    }

    fn image_on_wire(&self, image: &Image) -> v1::Image {
        let pinned = self.options.pinned_images.iter().filter_map(|name| Reference::parse(name).ok());
        let pinned = pinned
            .map(|name| name.to_string())
            .any(|name| image.names.contains(&name) || image.repo_digests.contains(&name));
        convert::image(image, pinned)
    }

    pub(crate) fn list_images(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let wanted = filter.and_then(|f| f.image).map(|i| i.image).filter(|text| !text.is_empty());
        let images = match wanted {
            Some(text) => self.images_called(&text)?,
            None => self.engine.images().list().map_err(failed)?,
        };
        let wanted = images.iter().filter(|image| !self.engine.image_is_unwanted(image));
        Ok(wanted.map(|image| self.image_on_wire(image)).collect())
    }

    /// The image that a name means, and all of a repository that is named without a tag, as `crictl images
    /// REPOSITORY` does.
    fn images_called(&self, text: &str) -> Result<Vec<Image>, Status> {
        let found = self.find_image(text)?;
        let mut all = self.engine.images().list().map_err(failed)?;
        all.retain(|image| found.as_ref().is_some_and(|found| found.id == image.id) || image.names.iter().any(|name| is_of(name, text)));
        Ok(all)
    }

    pub(crate) fn image_status(&self, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse, Status> {
        let spec = named(request.image)?;
        let Some(image) = self.find_image(&spec.image)? else {
            return Ok(v1::ImageStatusResponse::default());
        };
        Ok(v1::ImageStatusResponse {
            image: Some(self.image_on_wire(&image)),
            info: if request.verbose {
                verbose::image(&self.engine, &image)
            } else {
                Default::default()
            },
        })
    }

    pub(crate) fn pull_image(&self, request: v1::PullImageRequest, note: &mut Note) -> Result<v1::PullImageResponse, Status> {
        let spec = named(request.image)?;
        // One store serves all handlers, so that an image pulled for one is there for each. A handler that
        // is unknown is told of now rather than when the pod starts.
        note.handler.clone_from(&spec.runtime_handler);
        note.names(attribute::IMAGE, &spec.image);
        if !spec.runtime_handler.is_empty() {
            self.engine.table().resolve(&spec.runtime_handler).map_err(error::status)?;
        }
        let config = request.auth.map_or(Ok(None), |auth| convert::docker_config(&spec.image, &auth))?;
        let configs: Vec<Vec<u8>> = config.into_iter().collect();
        let options = PullOptions {
            docker_configs: &configs,
            ..PullOptions::default()
        };
        let _counted = Counted::of(&self.pulls);
        let pulled = self.engine.pull(&spec.image, options).map_err(|e| match e {
            Error::NotFound(text) => Status::not_found(format!("failed to pull and unpack image {:?}: {text}", spec.image)),
            Error::Invalid(text) => Status::invalid_argument(text),
            other => Status::unknown(format!("failed to pull and unpack image {:?}: {other}", spec.image)),
        })?;
        Ok(v1::PullImageResponse {
            image_ref: pulled.id.to_string(),
        })
    }

    pub(crate) fn remove_image(&self, request: v1::RemoveImageRequest) -> Result<v1::RemoveImageResponse, Status> {
        let spec = named(request.image)?;
        // All names of the image go, as CRI has it, whichever of them was given; what containers have stays
        // for them, as under containerd.
        self.engine.remove_image_wholly(&spec.image).map_err(error::status)?;
        Ok(v1::RemoveImageResponse {})
    }

    pub(crate) fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Status> {
        let images = usage::filesystem(&self.engine.image_fs());
        // Writable layers are on the same file system, which is all that a kubelet wants to know.
        Ok(v1::ImageFsInfoResponse {
            image_filesystems: vec![images.clone()],
            container_filesystems: vec![images],
        })
    }
}
