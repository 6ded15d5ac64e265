//! Plugins that are installed on the machine and started with the runtime.

use crate::plugin::{Identity, parse_name};
use crate::{Error, Options, Result};
use cofferdam_host::pass_fd::spawn_with_fd;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Number of a started plugin's connection.
const FD: i32 = 3;
/// Longest configuration of a plugin, bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// An installed plugin.
pub(crate) struct Installed {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) config: String,
}

/// The plugins of the directory, in order, with their configurations. What is no executable file is passed over.
pub(crate) fn discover(options: &Options) -> Result<Vec<Installed>> {
    let dir = &options.plugin_dir;
    let failed = |source| Error::Read { path: dir.clone(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // Links are followed: plugins are often installed as one. A broken one is no plugin.
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_name);
        let Some((idx, base)) = name else {
            return Err(Error::Name { path });
        };
        let identity = Identity {
            idx: idx.to_owned(),
            base: base.to_owned(),
        };
        let config = config(&options.config_dir, &identity)?;
        found.push(Installed { path, identity, config });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// `NN-name.conf`, else `name.conf`, else nothing.
fn config(dir: &Path, identity: &Identity) -> Result<String> {
    for name in [
        format!("{}-{}.conf", identity.idx, identity.base),
        format!("{}.conf", identity.base),
    ] {
        let path = dir.join(name);
        match cofferdam_host::files::read_bounded(&path, MAX_CONFIG) {
            Ok(bytes) => {
                return String::from_utf8(bytes).map_err(|_| Error::Read {
                    path,
                    source: io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"),
                });
            }
            Err(e) if e.is_absent() => {}
            Err(e) => {
                return Err(Error::Read {
                    path,
                    source: io::Error::other(e),
                });
            }
        }
    }
    Ok(String::new())
}

/// Starts it with one end of a connection as its descriptor 3, and nothing of our environment.
pub(crate) fn start(installed: &Installed) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&installed.path);
    command
        .env_clear()
        .env("NRI_PLUGIN_NAME", &installed.identity.base)
        .env("NRI_PLUGIN_IDX", &installed.identity.idx)
        .env("NRI_PLUGIN_SOCKET", FD.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = spawn_with_fd(&mut command, theirs.into(), FD)?;
    Ok((ours, child))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn put(path: &Path, mode: u32, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn plugins_are_found_with_their_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            plugin_dir: dir.path().join("plugins"),
            config_dir: dir.path().join("conf.d"),
            ..Options::default()
        };
        assert!(discover(&options).unwrap().is_empty(), "no directory, no plugins");
        std::fs::create_dir_all(options.plugin_dir.join("05-dir")).unwrap();
        std::fs::create_dir_all(&options.config_dir).unwrap();
        for (name, mode) in [("20-b", 0o755), ("10-a", 0o700), ("30-c", 0o755), ("README", 0o644)] {
            put(&options.plugin_dir.join(name), mode, "");
        }
        put(&options.config_dir.join("10-a.conf"), 0o600, "own");
        put(&options.config_dir.join("a.conf"), 0o600, "not this");
        put(&options.config_dir.join("b.conf"), 0o600, "common");
        let found: Vec<_> = discover(&options)
            .unwrap()
            .into_iter()
            .map(|p| (p.identity.idx, p.identity.base, p.config))
            .collect();
        let expected = [("10", "a", "own"), ("20", "b", "common"), ("30", "c", "")];
        assert_eq!(found, expected.map(|(i, b, c)| (i.to_owned(), b.to_owned(), c.to_owned())));
        put(&options.plugin_dir.join("logger"), 0o755, "");
        assert!(matches!(discover(&options), Err(Error::Name { .. })));
    }
}
