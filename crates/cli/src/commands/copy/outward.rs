//! Files of a container onto this machine. The archive is hostile: its names are plain or refused, its
//! links are left out, nothing is made outside the folder that the person named.

use super::pipe::Output;
use super::{Inside, parts};
use crate::show;
use anyhow::{Context, Result, bail};
use cofferdam_host::rooted::{OFlags, Root};
use cofferdam_images::{TarKind, TarReader};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Greatest number of files and folders of one copy.
const MAX_ENTRIES: u64 = 4 << 20;
/// Set-user-id bits are left away: they would be this machine's.
const MODE: u32 = 0o777;

/// Copies `from` of the container to `to`: into it where it is a directory, else as it.
pub(super) fn copy(inside: &Inside, from: &str, to: &Path) -> Result<()> {
    let (dir, name) = parts(from);
    let (folder, own) = target(to, &name)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let root = Root::open(&folder)?;
    let session = inside.tar(&["-cf", "-", "-C", &dir, &format!("./{name}")], false)?;
    let done = (|| {
        let mut output = Output::new(inside.engine.attach_session(&session)?.reader);
        let taken = take(&root, &mut output, &name, &own);
        let what = format!("{from} was not copied");
        match taken {
            Ok(left_out) => {
                output.end(inside, &session, &what)?;
                Ok(left_out)
            }
            // Nobody reads on: the process is ended with the session.
            Err(e) => Err(e.context(what)),
        }
    })();
    inside.engine.finish(&session);
    match done? {
        0 => {}
        count => show::tell(format_args!(
            "cofferdam: {count} links and special files were left out; a link of a container means nothing here"
        )),
    }
    Ok(())
}

/// The folder to write in, and the name there.
fn target(to: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let slash = to.as_os_str().as_bytes().ends_with(b"/");
    if to.is_dir() || slash {
        return Ok((to.to_owned(), name.into()));
    }
    let own = to.file_name().with_context(|| format!("{} names no file", to.display()))?;
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder.to_owned(), own.into()))
}

/// Unpacks an archive whose names begin with `name`, which becomes `own`; how many entries were left out.
fn take(root: &Root, archive: &mut impl Read, name: &str, own: &Path) -> Result<u64> {
    let mut archive = TarReader::new(archive);
    let (mut count, mut left_out) = (0, 0);
    while let Some(entry) = archive.next()? {
        count += 1;
        if count > MAX_ENTRIES {
            bail!("it has more than {MAX_ENTRIES} files");
        }
        let path = plain(Path::new(std::ffi::OsStr::from_bytes(&entry.path)), name, own)?;
        match entry.kind {
            TarKind::Dir => drop(root.create_dir_all(&path, 0o755)?),
            TarKind::File if entry.pieces.is_none() => {
                if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    root.create_dir_all(parent, 0o755)?;
                }
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let mut file = File::from(root.open_at(&path, flags, entry.mode & MODE)?);
                io::copy(&mut archive, &mut file).with_context(|| format!("{} cannot be written", path.display()))?;
            }
            _ => left_out += 1,
        }
    }
    Ok(left_out)
}

/// A name of the archive as a path below the folder.
fn plain(path: &Path, name: &str, own: &Path) -> Result<PathBuf> {
    let mut parts = path.components().filter(|c| *c != Component::CurDir).peekable();
    let mut plain = own.to_owned();
    if name != "." && parts.next() != Some(Component::Normal(name.as_ref())) {
        bail!("the container's tar sent {}, which was not asked for", show::harmless(&path.display().to_string()));
    }
    for part in parts {
        match part {
            Component::Normal(part) => plain.push(part),
            _ => bail!("the container's tar sent {}, which leads elsewhere", show::harmless(&path.display().to_string())),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, data) in entries {
            let mut header = tar::Header::new_gnu();
            let bytes = path.as_bytes();
            // Past the builder, which refuses what is tested here.
            header.as_gnu_mut().unwrap().name[..bytes.len()].copy_from_slice(bytes);
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_size(if kind.is_file() { data.len() as u64 } else { 0 });
            if kind.is_symlink() {
                header.set_link_name_literal(data).unwrap();
            }
            header.set_cksum();
            builder.append(&header, if kind.is_file() { data.as_bytes() } else { b"" }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_hostile_archive_writes_nothing_elsewhere() {
        use tar::EntryType as T;
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("in");
        std::fs::create_dir(&inner).unwrap();
        let root = Root::open(&inner).unwrap();
        let take = |entries: &[(&str, T, &str)]| take(&root, &mut archive(entries).as_slice(), "d", Path::new("x"));
        let left = take(&[
            ("./d", T::Directory, ""),
            ("./d/a", T::Regular, "text"),
            ("./d/up", T::Symlink, "../.."),
            ("./d/pipe", T::Fifo, ""),
        ]);
        assert_eq!(left.unwrap(), 2);
        assert_eq!(std::fs::read_to_string(inner.join("x/a")).unwrap(), "text");
        let mode = std::os::unix::fs::PermissionsExt::mode(&inner.join("x/a").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7000, 0);
        for bad in ["d/../../e", "/d/e", "e", "../e", "d/../e"] {
            assert!(take(&[(bad, T::Regular, "bad")]).is_err(), "{bad}");
        }
        // A link that is here already does not lead out either.
        std::os::unix::fs::symlink(dir.path(), inner.join("x/link")).unwrap();
        assert!(take(&[("d/link/e", T::Regular, "bad")]).is_err() || inner.join("e").exists());
        assert!(!dir.path().join("e").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_goes_into_a_folder_or_takes_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        assert_eq!(target(at, "f").unwrap(), (at.to_owned(), "f".into()));
        assert_eq!(target(&at.join("new"), "f").unwrap(), (at.to_owned(), "new".into()));
        assert_eq!(target(&at.join("new/"), "f").unwrap(), (at.join("new/"), "f".into()));
        assert_eq!(target(Path::new("new"), "f").unwrap(), (".".into(), "new".into()));
    }
}
