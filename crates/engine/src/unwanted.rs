//! Images that were removed while containers have them, as containerd and CRI-O let a kubelet do: they lose
//! their names at once, and go with the last of those containers. A file for each, so that a restart
//! forgets none.

use crate::Engine;
use crate::failpoint::reach;
use crate::sandbox::failed;
use cofferdam_images::{Digest, Image, Removed};
use cofferdam_model::cri::{Error, Result};
use std::path::PathBuf;

impl Engine {
    fn unwanted(&self) -> PathBuf {
        self.layout.root.join("unwanted-images")
    }

    /// Takes an image's names, and has it removed as soon as no container has it.
    pub(crate) fn untag_image(&self, id: &Digest) -> Result<Removed> {
        let dir = self.unwanted();
        let mark = dir.join(id.hex());
        let wrong = |e: std::io::Error| failed(format!("{}: {e}", mark.display()));
        std::fs::create_dir_all(&dir).map_err(wrong)?;
        std::fs::write(&mark, "").map_err(wrong)?;
        reach("image.marked");
        let names = self.store.untag(id).map_err(failed)?;
        reach("image.untagged");
        // Its last container may have gone meanwhile.
        self.collect_unwanted();
        Ok(Removed { names, image: None })
    }

    /// Whether an image is only there for containers that have it still. One that was pulled again is not.
    pub fn image_is_unwanted(&self, image: &Image) -> bool {
        image.names.is_empty() && self.unwanted().join(image.id.hex()).exists()
    }

    /// Removes images of which the last container has gone. What fails is tried again with the next one.
    pub(crate) fn collect_unwanted(&self) {
        let Ok(marks) = std::fs::read_dir(self.unwanted()) else { return };
        for mark in marks.flatten() {
            let Some(id) = mark.file_name().to_str().map(|hex| format!("sha256:{hex}")) else {
                continue;
            };
            let done = match self.store.resolve(&id) {
                Ok(image) if !image.names.is_empty() => true,
                Ok(_) => matches!(self.remove_image(&id), Ok(_) | Err(Error::NotFound(_))),
                Err(why) => matches!(why, cofferdam_images::Error::NotFound(_)),
            };
            if done {
                let _ = std::fs::remove_file(mark.path());
            }
        }
    }
}
