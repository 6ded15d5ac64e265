//! Files of this machine into a container.

use super::pipe::{Input, Output};
use super::{Inside, parts};
use anyhow::{Context, Result};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Copies `from` to `to` in the container: into it where it is a directory, else as it.
pub(super) fn copy(inside: &Inside, from: &Path, to: &str, no_preserve: bool) -> Result<()> {
    let found = std::fs::symlink_metadata(from).with_context(|| format!("{} cannot be read", from.display()))?;
    // `.` has no name of its own, but the folder that it is does.
    let full = std::fs::canonicalize(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let own = full
        .file_name()
        .context("the root of this machine cannot be copied")?
        .to_string_lossy()
        .into_owned();
    let (dir, name) = if inside.is_dir(to)? { (to.to_owned(), own) } else { parts(to) };
    let mut args = vec!["-xmf", "-", "-C", dir.as_str()];
    if no_preserve {
        args.extend(["--no-same-permissions", "--no-same-owner"]);
    }
    let session = inside.tar(&args, true)?;
    let done = (|| {
        let stream = inside.engine.attach_session(&session)?;
        let output = Output::new(stream.reader);
        let sent = send(Input(stream.writer), &full, &name, found.is_dir() || full.is_dir());
        // Where tar gave up, it says why; that is the better answer than a broken pipe.
        output.end(inside, &session, &format!("{} was not copied", from.display()))?;
        sent.with_context(|| format!("{} was not copied whole", from.display()))
    })();
    inside.engine.finish(&session);
    done
}

fn send(input: Input, from: &Path, name: &str, is_dir: bool) -> Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(32 * 1024, input));
    archive.follow_symlinks(false);
    let written = if is_dir {
        archive.append_dir_all(name, from)
    } else {
        archive.append_path_with_name(from, name)
    };
    let mut buffer = match written {
        Ok(()) => archive.into_inner()?,
        Err(e) => return Err(e.into()),
    };
    buffer.flush()?;
    let mut input = buffer.into_inner().map_err(|e| e.into_error())?;
    // Where the process has ended, there is nobody to tell.
    let _ = input.0.close_stdin();
    Ok(())
}
