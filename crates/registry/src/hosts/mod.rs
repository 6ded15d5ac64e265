//! Which hosts are asked for an image, in which order and how: containerd's `certs.d` folders with
//! `hosts.toml`, and what holds where there are none (containerd's docs/hosts.md and
//! core/remotes/docker/config/hosts.go).
//!
//! What differs from containerd: a file that cannot be read as it is meant is an error, not skipped;
//! `localhost` over TLS is verified as any other host; and keys that nobody knows are told as warnings.

mod duration;
mod parse;

pub use parse::{HostEntry, HostUrl, HostsFile, parse_hosts};

use crate::error::{Error, Result};
use crate::reference::{Image, split_port};
use crate::transport::origin_of;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file larger than this is no configuration.
const MAX_FILE: u64 = 1 << 20;

/// What a host may be asked to do. Pushing is not in this crate; a host that may only be pushed to is
/// not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// To give content by digest.
    pub pull: bool,
    /// To say which digest a tag means.
    pub resolve: bool,
}

/// Files of TLS for one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities to trust beside those of the system, PEM.
    pub ca: Vec<PathBuf>,
    /// Our certificate and key, PEM; one file may hold both.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Trust any certificate.
    pub skip_verify: bool,
}

/// One host to be asked for the images of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether in the clear: only where a `hosts.toml` says `http://`, or for a registry on loopback.
    pub plain_http: bool,
    /// Host, and port where one is named.
    pub host: String,
    /// What stands before the repository in a URL: `/v2`.
    pub path: String,
    /// What it may be asked.
    pub capabilities: Capabilities,
    /// TLS.
    pub tls: TlsFiles,
    /// Headers that every request to it bears.
    pub headers: Vec<(String, String)>,
    /// For connecting to it, where its `hosts.toml` says so.
    pub dial_timeout: Option<Duration>,
    /// The registry whose images it mirrors, for `?ns=`; `None` for the registry itself.
    pub mirror_of: Option<String>,
    /// The `hosts.toml` that names it.
    pub from: Option<PathBuf>,
}

impl Endpoint {
    /// Scheme, host and port, as one comparable text.
    pub(crate) fn origin(&self) -> String {
        origin_of(self.plain_http, &self.host)
    }

    /// The name that credentials for it are kept under: Docker Hub has several hosts and one name.
    pub(crate) fn credential_host(&self) -> &str {
        if is_docker_hub(&self.host) { DOCKER_HUB } else { &self.host }
    }
}

/// The hosts for a registry, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Them.
    pub endpoints: Vec<Endpoint>,
    /// The file that says so, if one does.
    pub file: Option<PathBuf>,
    /// What in that file means nothing here, one sentence each.
    pub warnings: Vec<String>,
}

/// The name under which images of Docker Hub are known.
pub(crate) const DOCKER_HUB: &str = "docker.io";
/// The host that serves them.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Whether a host is one of Docker Hub's names.
pub(crate) fn is_docker_hub(host: &str) -> bool {
    matches!(host, DOCKER_HUB | DOCKER_HUB_HOST | "index.docker.io")
}

/// The hosts to ask for an image.
///
/// # Errors
/// A `hosts.toml` or its folder cannot be read.
pub fn hosts_for(dirs: &[PathBuf], image: &Image) -> Result<Hosts> {
    let Some(dir) = find_dir(dirs, &image.registry)? else {
        return Ok(Hosts {
            endpoints: vec![upstream(image, TlsFiles::default())],
            file: None,
            warnings: Vec::new(),
        });
    };
    let path = dir.join("hosts.toml");
    match read_small(&path)? {
        Some(text) if !text.is_empty() => {
            let text = String::from_utf8(text).map_err(|_| broken(&path, "it is not UTF-8: write it again"))?;
            parse_hosts(&text, &path).map(|file| in_order(file, image, &path))
        }
        _ => Ok(Hosts {
            endpoints: vec![upstream(image, docker_cert_files(&dir)?)],
            file: None,
            warnings: Vec::new(),
        }),
    }
}

/// The hosts of a file, then its server or, where it names none, the registry itself.
fn in_order(file: HostsFile, image: &Image, path: &Path) -> Hosts {
    let mut endpoints = Vec::new();
    for entry in file.hosts.into_iter().chain([file.server]) {
        let Some(url) = entry.url else {
            let own = upstream(image, entry.tls);
            endpoints.push(Endpoint {
                headers: entry.headers,
                dial_timeout: entry.dial_timeout,
                from: Some(path.to_owned()),
                ..own
            });
            continue;
        };
        let itself = url.host == image.registry || (image.registry == DOCKER_HUB && url.host == DOCKER_HUB_HOST);
        endpoints.push(Endpoint {
            plain_http: url.plain_http,
            host: url.host,
            path: url.path,
            capabilities: entry.capabilities,
            tls: entry.tls,
            headers: entry.headers,
            dial_timeout: entry.dial_timeout,
            mirror_of: (!itself).then(|| image.registry.clone()),
            from: Some(path.to_owned()),
        });
    }
    Hosts {
        endpoints,
        file: Some(path.to_owned()),
        warnings: file.warnings,
    }
}

/// The registry itself. On loopback it is spoken to in the clear, as containerd does, except on port 443,
/// with no port, or where TLS is configured for it.
fn upstream(image: &Image, tls: TlsFiles) -> Endpoint {
    let registry = image.registry.as_str();
    let port = split_port(registry).1;
    let plain = is_loopback(registry) && port.is_some_and(|port| port == "80" || (port != "443" && tls == TlsFiles::default()));
    Endpoint {
        plain_http: plain,
        host: if registry == DOCKER_HUB { DOCKER_HUB_HOST } else { registry }.to_owned(),
        path: "/v2".to_owned(),
        capabilities: Capabilities { pull: true, resolve: true },
        tls,
        headers: Vec::new(),
        dial_timeout: None,
        mirror_of: None,
        from: None,
    }
}

/// Whether an authority is `localhost` or an address of loopback, as text: nothing is resolved.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let name = split_port(authority).0;
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The folder for a registry: in each of the folders in turn `host_port_`, then `host:port`; and only
/// where none has one, `_default` in each in turn.
fn find_dir(dirs: &[PathBuf], registry: &str) -> Result<Option<PathBuf>> {
    let underscored = match split_port(registry) {
        (name, Some(port)) => format!("{name}_{port}_"),
        (name, None) => name.to_owned(),
    };
    let own = dirs.iter().flat_map(|dir| [dir.join(&underscored), dir.join(registry)]);
    for dir in own.chain(dirs.iter().map(|dir| dir.join("_default"))) {
        match fs::metadata(&dir) {
            Ok(_) => return Ok(Some(dir)),
            Err(error) if missing(&error) => {}
            Err(error) => return Err(broken(&dir, &format!("it cannot be looked at: {error}"))),
        }
    }
    Ok(None)
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A file up to 1 MiB; `None` where it is not there.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let unreadable = |error: io::Error| broken(path, &format!("it cannot be read: {error}"));
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // A pipe or a device would be waited for, and may never end.
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(broken(path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(broken(path, "it is larger than 1 MiB, which no such file is"));
    }
    Ok(Some(bytes))
}

pub(crate) fn broken(path: &Path, reason: &str) -> Error {
    Error::Hosts {
        path: path.to_owned(),
        line: None,
        reason: reason.to_owned(),
    }
}

/// Docker's layout of a folder without `hosts.toml`: `*.crt` are authorities, `*.cert` with `*.key` is
/// our own certificate.
fn docker_cert_files(dir: &Path) -> Result<TlsFiles> {
    let unreadable = |error: io::Error| broken(dir, &format!("it cannot be read: {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            names.push(path);
        }
    }
    names.sort();
    let mut tls = TlsFiles::default();
    for path in names {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => tls.ca.push(path),
            Some("cert") if tls.client.is_some() => {
                return Err(broken(
                    &path,
                    "a second client certificate cannot be used: leave one .cert in the folder",
                ));
            }
            Some("cert") => {
                let key = path.with_extension("key");
                tls.client = Some((path.clone(), if key.is_file() { key } else { path }));
            }
            _ => {}
        }
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn image(registry: &str) -> Image {
        Image {
            registry: registry.to_owned(),
            repository: "a/b".to_owned(),
        }
    }

    fn urls(hosts: &Hosts) -> Vec<String> {
        hosts
            .endpoints
            .iter()
            .map(|e| format!("{}{}{}", e.origin(), e.path, if e.mirror_of.is_some() { " ns" } else { "" }))
            .collect()
    }

    #[test]
    fn without_a_file_the_registry_itself_is_asked() {
        for (registry, wanted) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("quay.io", "https://quay.io/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.9.9.9:5000", "http://127.9.9.9:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("localhost:443", "https://localhost/v2"),
            ("localhost:80", "http://localhost/v2"),
            ("localhost", "https://localhost/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
            ("localhost.example:5000", "https://localhost.example:5000/v2"),
        ] {
            assert_eq!(urls(&hosts_for(&[], &image(registry)).unwrap()), [wanted]);
        }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn the_most_particular_folder_counts_then_the_first() {
        let first = folder(&[
            ("_default/hosts.toml", "server = 'http://default-1'"),
            ("h:1/hosts.toml", "server = 'http://colon'"),
        ]);
        let second = folder(&[
            ("h_1_/hosts.toml", "server = 'http://under'"),
            ("docker.io/hosts.toml", "[host.'http://m1:5000']\n[host.'http://m2']\n"),
            ("empty/hosts.toml", ""),
            ("_default/hosts.toml", "server = 'http://default-2'"),
        ]);
        let dirs = [first.path().to_owned(), second.path().to_owned(), PathBuf::from("/nonexistent")];
        for (registry, wanted) in [
            ("h:1", vec!["http://colon/v2 ns"]),
            (
                "docker.io",
                vec!["http://m1:5000/v2 ns", "http://m2/v2 ns", "https://registry-1.docker.io/v2"],
            ),
            ("empty", vec!["https://empty/v2"]),
            ("other", vec!["http://default-1/v2 ns"]),
        ] {
            assert_eq!(urls(&hosts_for(&dirs, &image(registry)).unwrap()), wanted);
        }
        assert_eq!(urls(&hosts_for(&dirs[1..], &image("h:1")).unwrap()), ["http://under/v2 ns"]);
    }

    #[test]
    fn the_registry_itself_is_no_mirror_wherever_the_file_names_it() {
        let dir = folder(&[
            (
                "docker.io/hosts.toml",
                "server = 'https://registry-1.docker.io'\n[host.'https://mirror']\ncapabilities = ['pull']",
            ),
            ("q/hosts.toml", "[host.'https://q']\n"),
        ]);
        let dirs = [dir.path().to_owned()];
        assert_eq!(
            urls(&hosts_for(&dirs, &image("docker.io")).unwrap()),
            ["https://mirror/v2 ns", "https://registry-1.docker.io/v2"]
        );
        assert_eq!(urls(&hosts_for(&dirs, &image("q")).unwrap()), ["https://q/v2", "https://q/v2"]);
    }

    #[test]
    fn settings_at_the_top_are_those_of_the_registry_itself() {
        let dir = folder(&[(
            "q/hosts.toml",
            "ca = 'ca.pem'\n[header]\nx = 'y'\n[host.'https://m']\nskip_verify = true",
        )]);
        let hosts = hosts_for(&[dir.path().to_owned()], &image("q")).unwrap();
        assert_eq!(hosts.endpoints[1].tls.ca, [dir.path().join("q/ca.pem")]);
        assert_eq!(hosts.endpoints[1].headers, [("x".to_owned(), "y".to_owned())]);
        assert!(hosts.endpoints[0].tls.skip_verify && hosts.endpoints[0].tls.ca.is_empty());
    }

    #[test]
    fn dockers_folder_of_certificates_is_understood() {
        let dir = folder(&[
            ("localhost:5000/ca.crt", ""),
            ("localhost:5000/me.cert", ""),
            ("localhost:5000/me.key", ""),
            ("q/x.cert", ""),
        ]);
        let root = dir.path();
        let hosts = hosts_for(&[root.to_owned()], &image("localhost:5000")).unwrap();
        let own = root.join("localhost:5000");
        // TLS is configured, so it is spoken.
        assert!(!hosts.endpoints[0].plain_http);
        assert_eq!(hosts.endpoints[0].tls.ca, [own.join("ca.crt")]);
        assert_eq!(hosts.endpoints[0].tls.client, Some((own.join("me.cert"), own.join("me.key"))));
        let hosts = hosts_for(&[root.to_owned()], &image("q")).unwrap();
        assert_eq!(hosts.endpoints[0].tls.client, Some((root.join("q/x.cert"), root.join("q/x.cert"))));
    }

    #[test]
    fn a_file_that_cannot_be_read_as_meant_is_an_error() {
        let dir = folder(&[("q/hosts.toml", "server = ")]);
        let error = hosts_for(&[dir.path().to_owned()], &image("q")).unwrap_err().to_string();
        assert!(error.contains("q/hosts.toml:1: "), "{error}");
        fs::remove_file(dir.path().join("q/hosts.toml")).unwrap();
        fs::create_dir(dir.path().join("q/hosts.toml")).unwrap();
        let error = hosts_for(&[dir.path().to_owned()], &image("q")).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
