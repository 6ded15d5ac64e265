//! Paths that users wrote: checked, then resolved by the kernel within bounds (`openat2`), never by
//! joining text.

use super::{VolumeError, failed};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Longest path, bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// Checks that `text` is safe as one component of a path.
pub(crate) fn component<'a>(what: &str, text: &'a str) -> Result<&'a str, VolumeError> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fine = !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(safe)
        && text != "."
        && !text.starts_with("..");
    let rule = "use 1 to 253 letters, digits, '-', '_' or '.', not beginning with '..'";
    if fine {
        Ok(text)
    } else {
        Err(VolumeError(format!(
            "{what} {text:?} cannot be used as a file name: {rule}"
        )))
    }
}

/// Checks that `text` is the path of a file that a volume may have (`validateLocalNonReservedPath`).
pub(super) fn relative(text: &str) -> Result<PathBuf, VolumeError> {
    let path = descending(text)?;
    if text.starts_with("..") || path.as_os_str().is_empty() {
        return Err(VolumeError(format!("path {text:?} must not start with '..', and must name a file")));
    }
    Ok(path)
}

/// Checks that `text` is a relative path that stays within (`validateLocalDescendingPath`).
pub(super) fn descending(text: &str) -> Result<PathBuf, VolumeError> {
    let wrong = |why: &str| Err(VolumeError(format!("path {text:?} {why}")));
    if text.is_empty() || text.len() > MAX_PATH || text.contains('\0') {
        return wrong("must have 1 to 4096 characters and no NUL");
    }
    let path = Path::new(text);
    if path.is_absolute() {
        return wrong("must be a relative path");
    }
    if path
        .components()
        .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return wrong("must not contain '..'");
    }
    Ok(path
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect())
}

pub(super) fn chmod(path: &Path, mode: u32) -> Result<(), VolumeError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|err| failed("chmod", path, &err))
}

/// The path that an open file has now, every link followed.
fn real_path(file: &OwnedFd) -> Result<PathBuf, VolumeError> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(&link).map_err(|err| failed("read", Path::new(&link), &err))
}

/// Checks a path of the machine against its type and gives the real path
/// (`pkg/volume/hostpath`, `checkTypeInternal`). A path of no type must exist: CRI has the runtime
/// report an error where it does not.
pub(super) fn host_path(text: &str, kind: &str) -> Result<PathBuf, VolumeError> {
    let path = Path::new(text);
    if !path.is_absolute() || text.len() > MAX_PATH || text.contains('\0') {
        return Err(VolumeError(format!(
            "hostPath {text:?} must be an absolute path of at most 4096 characters"
        )));
    }
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(VolumeError(format!(
            "hostPath {text:?} must not contain '..'"
        )));
    }
    let expected = match kind {
        "" => None,
        "Directory" | "DirectoryOrCreate" => Some((FileType::Directory, "a directory")),
        "File" | "FileOrCreate" => Some((FileType::RegularFile, "a file")),
        "Socket" => Some((FileType::Socket, "a socket file")),
        "CharDevice" => Some((FileType::CharacterDevice, "a character device")),
        "BlockDevice" => Some((FileType::BlockDevice, "a block device")),
        other => return Err(VolumeError(format!("{other} is an invalid volume type"))),
    };
    let open = || {
        openat2(
            CWD,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
    };
    let file = match open() {
        Err(Errno::NOENT) if kind.ends_with("OrCreate") => {
            create_host_path(path, kind).map_err(|err| failed("make", path, &err))?;
            open()
        }
        other => other,
    };
    let file = file.map_err(|err| match (err, expected) {
        (Errno::NOENT, None) => VolumeError(format!(
            "hostPath {text:?} does not exist; make it, or give it the type DirectoryOrCreate"
        )),
        (Errno::NOENT, Some((_, noun))) => {
            VolumeError(format!("hostPath type check failed: {text} is not {noun}"))
        }
        _ => failed("open", path, &err.into()),
    })?;
    let stat = fstat(&file).map_err(|err| failed("read", path, &err.into()))?;
    match expected {
        Some((kind, noun)) if FileType::from_raw_mode(stat.st_mode) != kind => Err(VolumeError(
            format!("hostPath type check failed: {text} is not {noun}"),
        )),
        _ => real_path(&file),
    }
}

fn create_host_path(path: &Path, kind: &str) -> std::io::Result<()> {
    if kind == "DirectoryOrCreate" {
        return DirBuilder::new().recursive(true).mode(0o755).create(path);
    }
    // As upstream: the file, not the folders above it.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
        .map(drop)
}

/// Makes what is missing of `sub` in the volume at `base` as directories of the volume's mode
/// (`pkg/volume/util/subpath/subpath_linux.go`, `SafeMakeDir`). A link that leads out of the volume,
/// or is absolute, is refused by the kernel. What is there after this may be something else a moment
/// later: nobody may follow the path by name.
pub(super) fn make_sub_path(base: &Path, sub: &Path) -> Result<(), VolumeError> {
    let root = openat2(
        CWD,
        base,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|err| failed("open", base, &err.into()))?;
    match beneath(&root, sub) {
        Err(Errno::NOENT) => make_beneath(&root, base, sub)?,
        Err(err) => return Err(refused(base, sub, err)),
        Ok(_) => return Ok(()),
    }
    beneath(&root, sub).map(drop).map_err(|err| refused(base, sub, err))
}

fn beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // The kernel answers EAGAIN where something was renamed meanwhile; it is right to try again.
    for _ in 0..16 {
        match openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn make_beneath(root: &OwnedFd, base: &Path, sub: &Path) -> Result<(), VolumeError> {
    let mode = fstat(root)
        .map_err(|err| failed("read", base, &err.into()))?
        .st_mode
        & 0o7777;
    let mut done = PathBuf::new();
    for part in sub.components() {
        let parent = beneath(root, &done).map_err(|err| refused(base, &done, err))?;
        done.push(part);
        match beneath(root, &done) {
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(err) => return Err(refused(base, &done, err)),
        }
        match mkdirat(parent.as_fd(), part.as_os_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(err) => return Err(refused(base, &done, err)),
        }
        // The mode is set through an open directory: mkdirat minds the umask and drops setgid.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat2(
            &parent,
            part.as_os_str(),
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        let made = made.map_err(|err| refused(base, &done, err))?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))
            .map_err(|err| refused(base, &done, err))?;
    }
    Ok(())
}

fn refused(base: &Path, sub: &Path, err: Errno) -> VolumeError {
    let sub = sub.display();
    VolumeError(match err {
        Errno::XDEV | Errno::LOOP => format!(
            "subPath {sub:?} leads out of the volume {} through a link; it may only lead within",
            base.display()
        ),
        _ => format!(
            "could not open subPath {sub:?} of {}: {}",
            base.display(),
            std::io::Error::from(err)
        ),
    })
}
