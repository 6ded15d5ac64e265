//! Root file systems: as layers for overlayfs, or as one read-only block image.
//!
//! A block image holds a whole image, not one layer: a virtual machine takes one disk, not 127 of
//! them, and needs no overlayfs to see deletions. It is made when it is first asked for.

use super::Image;
use super::Store;
use crate::digest::Digest;
use crate::error::{Error, IoContext, Result};
use crate::tree::merge;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the making of one may take; half a minute for a gigabyte is usual.
const DEADLINE: Duration = Duration::from_secs(600);
/// Bytes of its messages that are shown.
const MOST_OUTPUT: u64 = 4 << 10;

/// A root file system, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Lower directories of an overlay mount, topmost first; see [`Store::lower_dirs`].
    Overlay {
        /// The directories.
        lower: Vec<PathBuf>,
    },
    /// A file to mount, or to give to a virtual machine as a disk.
    Block(BlockRoot),
}

/// A file system in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRoot {
    /// The file.
    pub path: PathBuf,
    /// Its type, as `mount -t` takes it.
    pub fstype: &'static str,
}

/// Gives images as root file systems of one form.
pub trait Snapshotter {
    /// The root file system of `image`, made where it is not there yet.
    ///
    /// # Errors
    /// [`Error::Record`] where a layer is gone, [`Error::Block`] where the form cannot be made.
    fn root(&self, image: &Image) -> Result<Root>;
}

/// Gives [`Root::Overlay`].
#[derive(Debug, Clone, Copy)]
pub struct OverlaySnapshotter<'a>(pub &'a Store);

/// Gives [`Root::Block`] with EROFS.
#[derive(Debug, Clone, Copy)]
pub struct ErofsSnapshotter<'a>(pub &'a Store);

impl Snapshotter for OverlaySnapshotter<'_> {
    fn root(&self, image: &Image) -> Result<Root> {
        Ok(Root::Overlay {
            lower: self.0.lower_dirs(image)?,
        })
    }
}

impl Snapshotter for ErofsSnapshotter<'_> {
    fn root(&self, image: &Image) -> Result<Root> {
        self.0.block_root(image).map(Root::Block)
    }
}

impl Store {
    /// The image as a read-only EROFS file system, made by `mkfs.erofs` where it is not there yet:
    /// deletions applied, owners, modes, times, attributes, hard links and devices kept. It goes
    /// with its image.
    ///
    /// # Errors
    /// [`Error::Block`] where `mkfs.erofs` is missing, fails or takes too long.
    pub fn block_root(&self, image: &Image) -> Result<BlockRoot> {
        let path = self.block_image(&image.id);
        if !path.is_file() {
            let _keep = self.keep_layers()?;
            self.make_block_image(image, &path)?;
        }
        Ok(BlockRoot { path, fstype: "erofs" })
    }

    fn make_block_image(&self, image: &Image, path: &Path) -> Result<()> {
        let temp = self.write()?.temporary_dir()?;
        let (merged, file) = (temp.path("merged"), temp.path("image"));
        fs::create_dir(&merged).at("create", &merged)?;
        // Links, not copies: mkfs.erofs reads a directory, and a mount would need a namespace.
        merge::link(&self.stack(&image.layers)?, &merged)?;
        let mut command = Command::new("mkfs.erofs");
        command.args(["--quiet", "-U"]).arg(uuid(&image.id)).arg(&file).arg(&merged);
        run(command, DEADLINE).map_err(|why| Error::Block {
            image: image.id.to_string(),
            why,
        })?;
        let made = File::open(&file).at("open", &file)?;
        made.sync_all().at("sync", &file)?;
        let _guard = self.write()?;
        fs::rename(&file, path).at("create", path)?;
        super::lock::sync_parent(path)
    }

    pub(super) fn block_image(&self, id: &Digest) -> PathBuf {
        self.root.join("erofs").join(id.hex())
    }

    /// Removes a block image that may hold what was damaged; who has it mounted keeps it.
    pub(super) fn drop_block_image(&self, id: &Digest) {
        // It is made from the layers again when it is wanted.
        let _ = fs::remove_file(self.block_image(id));
    }
}

/// The same image has the same file system.
fn uuid(id: &Digest) -> String {
    let hex = id.hex();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

/// Runs a program that must succeed; its messages are bounded, and so is its time.
fn run(mut command: Command, deadline: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| match e.kind() {
        ErrorKind::NotFound => format!("{name} is not installed: install the package erofs-utils"),
        _ => format!("{name} cannot be run: {e}"),
    })?;
    let mut errors = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(errors) = &mut errors {
            // What cannot be read is not shown; what is too much is read and dropped.
            let _ = errors.take(MOST_OUTPUT).read_to_end(&mut text);
            let _ = std::io::copy(errors, &mut std::io::sink());
        }
        String::from_utf8_lossy(&text).trim().replace('\n', "; ")
    });
    let status = wait(&mut child, deadline).map_err(|e| format!("{name} cannot be waited for: {e}"))?;
    let said = reader.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{name} failed ({status}): {said}")),
        None => Err(format!("{name} took more than {} seconds and was ended", deadline.as_secs())),
    }
}

/// The child's end, or `None` where it was killed at the deadline.
fn wait(child: &mut std::process::Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_tool_that_is_missing_fails_or_hangs_is_one_sentence() {
        let error = run(Command::new("mkfs.erofs-that-nobody-has"), DEADLINE).unwrap_err();
        assert!(error.contains("install the package erofs-utils"), "{error}");
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo no space >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3"]);
        let error = run(fails, DEADLINE).unwrap_err();
        assert!(error.contains("no space") && error.len() < 5000, "{error:.100}");
        let mut hangs = Command::new("sleep");
        hangs.arg("1000");
        let error = run(hangs, Duration::from_millis(20)).unwrap_err();
        assert!(error.contains("was ended"), "{error}");
    }
}
