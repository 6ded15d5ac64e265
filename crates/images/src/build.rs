//! Makes an image on the spot from files of this machine: one layer, no registry.

use crate::archive::{LayerBlob, Offer};
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::limits::Progress;
use crate::reference::Reference;
use crate::source::{Blobs, Range};
use crate::store::{Image, Store};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a file of a built image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes of a file of this machine.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory.
    Dir,
}

/// One file of a built image. It belongs to root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFile {
    /// Path in the image, with or without `/` before it.
    pub path: String,
    /// Permission bits, setuid included; without meaning for links.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// An image to be made. The same specification gives the same id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildSpec {
    /// Reference that it gets.
    pub name: String,
    /// Files in order; missing parents are made with mode 0755.
    pub files: Vec<BuildFile>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Arguments.
    pub cmd: Vec<String>,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// Working directory; empty is `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: Vec<(String, String)>,
}

impl Store {
    /// Makes an image for this machine from `spec`.
    ///
    /// # Errors
    /// [`Error::Build`] for a path or mode that cannot be, and those of [`Store::load`].
    pub fn build(&self, spec: &BuildSpec, progress: &dyn Progress) -> Result<Image> {
        let name = Reference::parse(&spec.name)?;
        let fail = |why: String| Error::Build {
            name: spec.name.clone(),
            why,
        };
        let _keep = self.keep_layers()?;
        let temp = self.write()?.temporary_dir()?;
        let path = temp.path("layer.tar");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .at("create", &path)?;
        let mut builder = tar::Builder::new(file);
        for one in &spec.files {
            append(&mut builder, one).map_err(|e| fail(format!("{:?}: {e}", one.path)))?;
        }
        let file = builder.into_inner().at("write", &path)?;
        let length = file.metadata().at("read", &path)?.len();
        let layer = Layer { file, length };
        let (digest, _) = crate::digest::Metered::new(layer.open("")?.0, length, "")
            .finish()
            .at("read", &path)?;
        let config = self
            .config(spec, &digest)
            .map_err(|e| fail(e.to_string()))?;
        let offer = Offer {
            config,
            layers: vec![LayerBlob {
                name: "the built layer".into(),
                promised: Some((digest, length)),
            }],
            manifest: None,
            target: None,
            names: vec![name],
            notes: Vec::new(),
            pulled: false,
        };
        self.import_archive(&offer, &layer, progress)
            .map(|loaded| loaded.image)
    }

    fn config(&self, spec: &BuildSpec, layer: &Digest) -> serde_json::Result<Vec<u8>> {
        let host = self.host();
        let map = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .cloned()
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        serde_json::to_vec(&serde_json::json!({
            "architecture": host.architecture,
            "os": host.os,
            "config": {
                "Env": spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
                "Entrypoint": spec.entrypoint,
                "Cmd": spec.cmd,
                "User": spec.user,
                "WorkingDir": spec.working_dir,
                "Labels": map(&spec.labels),
            },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        }))
    }
}

/// The one layer, in a file.
struct Layer {
    file: File,
    length: u64,
}

impl Blobs for Layer {
    fn open(&self, _: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        Ok((
            Box::new(Range::new(&self.file, 0, self.length)),
            self.length,
        ))
    }
}

fn append(builder: &mut tar::Builder<File>, file: &BuildFile) -> io::Result<()> {
    let path = Path::new(file.path.trim_start_matches('/'));
    if path.as_os_str().is_empty() {
        return Err(io::Error::other("it names no file"));
    }
    if file.mode > 0o7777 {
        return Err(io::Error::other(format!("{:o} is no mode", file.mode)));
    }
    let mut header = tar::Header::new_gnu();
    header.set_mode(file.mode);
    header.set_uid(0);
    header.set_gid(0);
    // A fixed time, so that the same files give the same image.
    header.set_mtime(0);
    header.set_size(0);
    match &file.content {
        Content::File(from) => {
            let source = File::open(from)
                .map_err(|e| io::Error::other(format!("cannot open {}: {e}", from.display())))?;
            let meta = source.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::other(format!(
                    "{} is not a file",
                    from.display()
                )));
            }
            header.set_size(meta.len());
            builder.append_data(&mut header, path, source.take(meta.len()))
        }
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, &bytes[..])
        }
        Content::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        Content::Dir => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, path, io::empty())
        }
    }
}
