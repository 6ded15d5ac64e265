//! The client: what is asked of registries, host by host.

use crate::auth::Authorizer;
use crate::auth::credential::Credential;
use crate::auth::keyring::Keyring;
use crate::blob::Blob;
use crate::error::{Error, Result, Tried, clean};
use crate::hosts::{Capabilities, Endpoint, Hosts, hosts_for};
use crate::manifest::{self, Manifest};
use crate::reference::{Digest, Image, Reference};
use crate::transport::{Ask, Reply, Site, Transport};
use http::header::{self, HeaderName};
use http::{Method, Uri};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The header in which a registry says which digest it answers with.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How a client works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folders of `hosts.toml`, the first counting most: `/etc/cofferdam/certs.d`, `/etc/containerd/certs.d`.
    pub hosts_dirs: Vec<PathBuf>,
    /// Files in the form of docker's `config.json`, the first counting most. One that is not there holds
    /// nothing.
    pub auth_files: Vec<PathBuf>,
    /// Credentials that are tried before those of the files.
    pub credentials: Vec<Credential>,
    /// How we call ourselves.
    pub user_agent: String,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// How much is taken.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts_dirs: Vec::new(),
            auth_files: Vec::new(),
            credentials: Vec::new(),
            user_agent: concat!("cofferdam/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a name's address, and then for a connection with its TLS; `dial_timeout` of `hosts.toml`
    /// counts more.
    pub connect: Duration,
    /// With no progress: before the first byte of an answer, and between any two.
    pub stall: Duration,
    /// For the whole of a manifest or a token.
    pub document: Duration,
    /// For a credential helper.
    pub helper: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(15),
            stall: seconds(30),
            document: seconds(60),
            helper: seconds(30),
        }
    }
}

/// How much is taken, and how often it is tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a manifest.
    pub manifest: u64,
    /// Bytes of any other document, such as a token.
    pub json: u64,
    /// Bytes of an answer's headers.
    pub headers: usize,
    /// Redirects of one request.
    pub redirects: u32,
    /// Tries in a row to go on with a blob that was cut off, none of which brought 256 KiB.
    pub tries: u32,
    /// Before the first of them; it doubles up to 5 s.
    pub backoff: Duration,
    /// Bytes of a blob that must come within each time of a stall.
    pub progress: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 << 20,
            json: 1 << 20,
            headers: 64 << 10,
            redirects: 5,
            tries: 5,
            backoff: Duration::from_millis(200),
            progress: 4096,
        }
    }
}

/// A client of registries. It may be shared between threads and cloned at no cost; clones share their
/// connections and what they were granted.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    authorizer: Arc<Authorizer>,
    hosts_dirs: Arc<[PathBuf]>,
}

impl Client {
    /// A client. Nothing is read or connected yet: files are read when they are needed, so that changes
    /// count at once.
    ///
    /// # Errors
    /// The user agent cannot be a header, or a time-out is zero.
    pub fn new(options: Options) -> Result<Self> {
        let Options {
            hosts_dirs,
            auth_files,
            credentials,
            user_agent,
            timeouts,
            limits,
        } = options;
        if http::HeaderValue::from_str(&user_agent).is_err() {
            return Err(Error::Invalid {
                field: "user agent",
                value: clean(&user_agent, 100),
                rule: "it must be visible ASCII",
            });
        }
        let zero = [timeouts.connect, timeouts.stall, timeouts.document, timeouts.helper].contains(&Duration::ZERO);
        if zero {
            return Err(Error::Invalid {
                field: "time-out",
                value: "0".to_owned(),
                rule: "it must be more than zero",
            });
        }
        let keyring = Keyring {
            explicit: credentials,
            files: auth_files,
            helper_timeout: timeouts.helper,
        };
        Ok(Self {
            transport: Arc::new(Transport::new(user_agent, timeouts, limits)),
            authorizer: Arc::new(Authorizer::new(keyring)),
            hosts_dirs: hosts_dirs.into(),
        })
    }

    /// The same client for a caller with credentials of its own, such as a pod's image pull secrets: it
    /// shares connections, but neither credentials nor anything that they were granted. They take the
    /// place of those in [`Options::credentials`]; files count after them.
    #[must_use]
    pub fn with_credentials(&self, credentials: Vec<Credential>) -> Self {
        Self {
            authorizer: Arc::new(self.authorizer.with_explicit(credentials)),
            ..self.clone()
        }
    }

    /// The hosts that are asked for an image, in order, and what in their file means nothing.
    ///
    /// # Errors
    /// The image's place is not well formed, or its `hosts.toml` cannot be read.
    pub fn hosts(&self, image: &Image) -> Result<Hosts> {
        image.check()?;
        hosts_for(&self.hosts_dirs, image)
    }

    /// The manifest or index under a tag or digest. Its bytes have the digest that was asked for, or that
    /// the registry named; where neither is, the digest is just theirs.
    ///
    /// # Errors
    /// Every host's reason why not.
    pub fn manifest(&self, image: &Image, reference: &str) -> Result<Manifest> {
        image.check()?;
        match Reference::parse(reference)? {
            Reference::Digest(digest) => self.manifest_of(image, &digest),
            Reference::Tag(tag) => {
                let what = format!("{image}:{tag}");
                self.each(image, Need::Resolve, &what, |site| {
                    if site.endpoint.capabilities.pull {
                        return self.get_manifest(site, image, tag, None, &what);
                    }
                    let digest = self.head_at(site, image, tag, &what)?;
                    self.manifest_of(image, &Digest::parse(&digest)?)
                })
            }
        }
    }

    fn manifest_of(&self, image: &Image, digest: &Digest) -> Result<Manifest> {
        let what = format!("{image}@{}", digest.as_str());
        self.each(image, Need::Pull, &what, |site| {
            self.get_manifest(site, image, digest.as_str(), Some(digest), &what)
        })
    }

    fn get_manifest(&self, site: &Site, image: &Image, reference: &str, asked: Option<&Digest>, what: &str) -> Result<Manifest> {
        let ask = Ask::get(self.url(site, image, "manifests", reference)?, manifest::ACCEPT, what);
        let reply = self.authorizer.send(&self.transport, site, &image.repository, &ask)?;
        if reply.status.as_u16() != 200 {
            return Err(self.refusal(reply, what));
        }
        let host = reply.host.clone();
        let content_type = reply.header(header::CONTENT_TYPE).map(str::to_owned);
        let named = reply.header(CONTENT_DIGEST).and_then(|text| Digest::parse(text).ok());
        let bytes = self.transport.read(reply, self.transport.limits.manifest, what)?;
        for wanted in asked.into_iter().chain(&named) {
            let got = wanted.same_kind_of(&bytes);
            if got != *wanted {
                let (wanted, got) = (wanted.as_str().to_owned(), got.as_str().to_owned());
                return Err(Error::Digest {
                    host,
                    what: what.to_owned(),
                    wanted,
                    got,
                });
            }
        }
        let media_type = manifest::media_type(&bytes, content_type.as_deref(), &host, what)?;
        let digest = asked.cloned().unwrap_or_else(|| Digest::sha256(&bytes));
        Ok(Manifest {
            media_type,
            digest: digest.as_str().to_owned(),
            bytes,
            from: host,
        })
    }

    /// Which digest a tag means now, without a download where the registry can say so; `None` where all
    /// hosts say that there is no such thing.
    ///
    /// # Errors
    /// Every host's reason why not.
    pub fn head(&self, image: &Image, reference: &str) -> Result<Option<String>> {
        image.check()?;
        let (need, separator) = match Reference::parse(reference)? {
            Reference::Tag(_) => (Need::Resolve, ':'),
            Reference::Digest(_) => (Need::Pull, '@'),
        };
        let what = format!("{image}{separator}{reference}");
        match self.each(image, need, &what, |site| self.head_at(site, image, reference, &what)) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What one host says to HEAD. Where it refuses in any way, or names no digest, GET is asked: its
    /// refusals come with words, and what it gives can be digested.
    fn head_at(&self, site: &Site, image: &Image, reference: &str, what: &str) -> Result<String> {
        let url = self.url(site, image, "manifests", reference)?;
        let ask = Ask {
            method: Method::HEAD,
            ..Ask::get(url, manifest::ACCEPT, what)
        };
        let reply = self.authorizer.send(&self.transport, site, &image.repository, &ask)?;
        match reply.status.as_u16() {
            200 => {
                if let Some(named) = reply.header(CONTENT_DIGEST).and_then(|text| Digest::parse(text).ok()) {
                    let asked = if let Reference::Digest(asked) = Reference::parse(reference)? {
                        Some(asked)
                    } else {
                        None
                    };
                    return match asked.filter(|asked| *asked != named) {
                        None => Ok(named.as_str().to_owned()),
                        Some(asked) => Err(Error::Digest {
                            host: reply.host,
                            what: what.to_owned(),
                            wanted: asked.as_str().to_owned(),
                            got: named.as_str().to_owned(),
                        }),
                    };
                }
            }
            404 | 429 => return Err(self.refusal(reply, what)),
            _ => drop(reply),
        }
        let asked = Reference::parse(reference)?;
        let asked = if let Reference::Digest(digest) = &asked {
            Some(digest)
        } else {
            None
        };
        self.get_manifest(site, image, reference, asked, what)
            .map(|manifest| manifest.digest)
    }

    /// A blob, from byte `offset` of its `size` bytes on. It goes on by itself after cuts and stalls, from
    /// another host if need be, and gives `size - offset` bytes or an error. That they have the digest is
    /// for the caller to check, who alone may have the bytes before `offset`.
    ///
    /// # Errors
    /// Every host's reason why not.
    pub fn blob(&self, image: &Image, digest: &str, size: u64, offset: u64) -> Result<Blob> {
        image.check()?;
        let digest = Digest::parse(digest)?;
        if offset > size {
            return Err(Error::Invalid {
                field: "offset",
                value: offset.to_string(),
                rule: "it must not be past the end of the blob",
            });
        }
        let endpoints = self.endpoints(image, Need::Pull)?;
        Blob::open(self.clone(), image.clone(), digest, size, offset, endpoints)
    }

    /// Asks one endpoint for a blob from a byte on.
    pub(crate) fn get_blob(&self, endpoint: &Endpoint, image: &Image, digest: &Digest, from: u64, what: &str) -> Result<Reply> {
        let site = self.transport.site(endpoint.clone())?;
        let ask = Ask {
            from,
            ..Ask::get(self.url(&site, image, "blobs", digest.as_str())?, "*/*", what)
        };
        self.authorizer.send(&self.transport, &site, &image.repository, &ask)
    }

    fn endpoints(&self, image: &Image, need: Need) -> Result<Vec<Endpoint>> {
        let hosts = hosts_for(&self.hosts_dirs, image)?;
        let able: Vec<Endpoint> = hosts
            .endpoints
            .into_iter()
            .filter(|endpoint| need.is_met_by(endpoint.capabilities))
            .collect();
        if able.is_empty() {
            let path = hosts.file.unwrap_or_default();
            return Err(Error::NoHost {
                registry: image.registry.clone(),
                capability: need.name(),
                path,
            });
        }
        Ok(able)
    }

    /// Asks one host after the other until one gives it.
    fn each<T>(&self, image: &Image, need: Need, what: &str, ask: impl Fn(&Site) -> Result<T>) -> Result<T> {
        let mut tries = Vec::new();
        for endpoint in self.endpoints(image, need)? {
            let host = endpoint.host.clone();
            match self.transport.site(endpoint).and_then(|site| ask(&site)) {
                Ok(found) => return Ok(found),
                Err(error) if error.is_local_mistake() => return Err(error),
                Err(error) => tries.push(Tried { host, error }),
            }
        }
        Err(Error::of_tries(what, tries))
    }

    fn url(&self, site: &Site, image: &Image, kind: &str, reference: &str) -> Result<Uri> {
        let endpoint = &site.endpoint;
        let scheme = if endpoint.plain_http { "http" } else { "https" };
        let mut text = format!(
            "{scheme}://{}{}/{}/{kind}/{reference}",
            endpoint.host, endpoint.path, image.repository
        );
        if let Some(namespace) = &endpoint.mirror_of {
            text.push_str("?ns=");
            text.push_str(&namespace.replace('[', "%5B").replace(']', "%5D"));
        }
        text.parse().map_err(|_| Error::Invalid {
            field: "URL",
            value: clean(&text, 200),
            rule: "it must be one",
        })
    }

    /// The error that a status is.
    pub(crate) fn refusal(&self, reply: Reply, what: &str) -> Error {
        let host = reply.host.clone();
        let after = retry_after(&reply);
        let answer = self.transport.answer(reply);
        let what = what.to_owned();
        match answer.status {
            401 | 403 => Error::Forbidden { host, what, answer },
            404 => Error::NotFound { host, what, answer },
            429 => Error::RateLimited {
                host,
                answer,
                retry_after: after,
            },
            _ => Error::Answered { host, what, answer },
        }
    }
}

/// What a host must be able to do.
#[derive(Clone, Copy)]
enum Need {
    Pull,
    Resolve,
}

impl Need {
    fn is_met_by(self, capabilities: Capabilities) -> bool {
        match self {
            Self::Pull => capabilities.pull,
            Self::Resolve => capabilities.resolve,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
        }
    }
}

/// When to ask again: a number of seconds, or a date, which is given as it is.
pub(crate) fn retry_after(reply: &Reply) -> Option<String> {
    let text = clean(reply.header(header::RETRY_AFTER)?, 40);
    match text.parse::<u64>() {
        Ok(seconds) => Some(format!("in {seconds} s")),
        Err(_) if text.is_empty() => None,
        Err(_) => Some(format!("after {text}")),
    }
}
