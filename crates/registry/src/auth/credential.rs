//! Credentials and for whom they are.

use crate::auth::docker_config;
use crate::error::{Error, Result};
use crate::hosts::{DOCKER_HUB, is_docker_hub};
use crate::reference::split_port;
use std::fmt;

/// A secret for one registry, or for a part of one. Printing it shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Host and port, with a path where it is for a part only; `*` and `?` may stand in the host's parts.
    pub(crate) key: String,
    pub(crate) secret: Secret,
    pub(crate) from: String,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// For Basic, and for a token service.
    Password { username: String, password: String },
    /// OAuth2's refresh token, for a token service only.
    Identity { token: String },
    /// A bearer token for the registry as it is.
    Registry { token: String },
}

impl Credential {
    /// Username and password for a registry: `docker.io`, `registry.example:5000`, or a part of one,
    /// `registry.example/team`. `from` is named in errors.
    pub fn password(registry: &str, username: &str, password: &str, from: &str) -> Self {
        let secret = Secret::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        Self {
            key: normalise_key(registry),
            secret,
            from: from.to_owned(),
        }
    }

    /// An identity token: OAuth2's refresh token, which the registry's token service takes.
    pub fn identity_token(registry: &str, token: &str, from: &str) -> Self {
        Self {
            key: normalise_key(registry),
            secret: Secret::Identity { token: token.to_owned() },
            from: from.to_owned(),
        }
    }

    /// A bearer token that the registry itself takes.
    pub fn registry_token(registry: &str, token: &str, from: &str) -> Self {
        Self {
            key: normalise_key(registry),
            secret: Secret::Registry { token: token.to_owned() },
            from: from.to_owned(),
        }
    }

    /// Those of a docker `config.json`, which is also what a Secret of type `kubernetes.io/dockerconfigjson`
    /// holds; the older form of [`Credential::from_dockercfg`] is known as well. `from` is named in errors.
    /// Helpers that it names are not run: whoever wrote these bytes
    /// does not decide what runs here.
    ///
    /// # Errors
    /// It is not such a file, or it has helpers and no credential of its own.
    pub fn from_docker_config(bytes: &[u8], from: &str) -> Result<Vec<Self>> {
        let config = docker_config::parse_either(bytes, from)?;
        if config.credentials.is_empty()
            && let Some(helper) = config.store.as_ref().or(config.helpers.values().next())
        {
            return Err(Error::Credentials {
                from: from.to_owned(),
                reason: format!("they are kept by docker-credential-{helper}, which is not run for it: write them into \"auths\""),
            });
        }
        Ok(config.credentials)
    }

    /// Those of the older `.dockercfg`, as in a Secret of type `kubernetes.io/dockercfg`.
    ///
    /// # Errors
    /// It is not such a file.
    pub fn from_dockercfg(bytes: &[u8], from: &str) -> Result<Vec<Self>> {
        docker_config::parse_dockercfg(bytes, from)
    }

    /// Whom it is for: host, port and path, as it is matched.
    pub fn registry(&self) -> &str {
        &self.key
    }

    /// Who it says we are, and where that is written.
    pub(crate) fn described(&self) -> String {
        match &self.secret {
            Secret::Password { username, .. } => format!("user {} of {}", crate::error::clean(username, 60), self.from),
            Secret::Identity { .. } => format!("the identity token of {}", self.from),
            Secret::Registry { .. } => format!("the registry token of {}", self.from),
        }
    }

    /// How well it fits a repository on a host: `None` if it is not for it, more for a longer path, and
    /// for a host without wildcards.
    pub(crate) fn fits(&self, host: &str, repository: &str) -> Option<usize> {
        let (key_host, path) = self.key.split_once('/').unwrap_or((&self.key, ""));
        let exact = key_host.eq_ignore_ascii_case(host);
        if !exact && !host_glob(key_host, host) {
            return None;
        }
        let within = path.is_empty()
            || repository
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        within.then(|| path.len() * 2 + usize::from(exact))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} for {})", self.described(), self.key)
    }
}

/// A key of a docker configuration as one form: no scheme, no trailing `/v1/` or `/v2/`, and one name
/// for Docker Hub.
pub(crate) fn normalise_key(key: &str) -> String {
    let key = key.trim();
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or(key.strip_suffix("/v2"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = host.to_ascii_lowercase();
    let host = if is_docker_hub(&host) { DOCKER_HUB } else { &host };
    if path.is_empty() {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

/// Whether a host fits a pattern as Kubernetes has it for image pull secrets: as many parts between
/// dots, each part fitting, and the same port.
fn host_glob(pattern: &str, host: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return false;
    }
    let (pattern, pattern_port) = split_port(pattern);
    let (host, port) = split_port(host);
    let (parts, host_parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port && parts.len() == host_parts.len() && parts.iter().zip(&host_parts).all(|(p, h)| glob(p.as_bytes(), h.as_bytes()))
}

/// `*` is any bytes, `?` is one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_form() {
        for (key, wanted) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://index.docker.io/v1", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://registry-1.docker.io/v2/", "docker.io"),
            ("docker.io/library/nginx", "docker.io/library/nginx"),
            ("quay.io", "quay.io"),
            ("http://Quay.IO/", "quay.io"),
            ("quay.io/Team", "quay.io/Team"),
            ("h:5000/v2/", "h:5000"),
            ("*.example.com", "*.example.com"),
            ("", ""),
        ] {
            assert_eq!(normalise_key(key), wanted, "{key}");
        }
    }

    #[test]
    fn credentials_fit_their_own_place_only() {
        for (key, host, repository, wanted) in [
            ("quay.io", "quay.io", "a/b", Some(1)),
            ("quay.io", "quay.io:443", "a/b", None),
            ("quay.io", "evil-quay.io", "a/b", None),
            ("quay.io", "quay.io.evil", "a/b", None),
            ("quay.io/a", "quay.io", "a/b", Some(3)),
            ("quay.io/a/b", "quay.io", "a/b", Some(7)),
            ("quay.io/a/b", "quay.io", "a/bc", None),
            ("quay.io/a", "quay.io", "ab/c", None),
            ("*.io", "quay.io", "a", Some(0)),
            ("*.io", "a.quay.io", "a", None),
            ("*.example.com/team", "x.example.com", "team/a", Some(8)),
            ("*.example.com:5000", "x.example.com", "a", None),
            ("q?ay.io", "quay.io", "a", Some(0)),
            ("*", "localhost", "a", Some(0)),
            ("*", "quay.io", "a", None),
            ("a*c*.io", "abcd.io", "a", Some(0)),
            ("a*c.io", "abcd.io", "a", None),
        ] {
            let credential = Credential::password(key, "u", "p", "x");
            assert_eq!(credential.fits(host, repository), wanted, "{key} {host} {repository}");
        }
    }

    #[test]
    fn printing_shows_no_secret() {
        for credential in [
            Credential::password("q", "me", "hunter2", "f"),
            Credential::identity_token("q", "hunter2", "f"),
            Credential::registry_token("q", "hunter2", "f"),
        ] {
            let shown = format!("{credential:?}");
            assert!(!shown.contains("hunter2") && shown.contains("of f"), "{shown}");
        }
    }
}
