//! All credentials that there are for a host and repository, best first.

use crate::auth::credential::Credential;
use crate::auth::docker_config::parse_docker_config;
use crate::auth::helper;
use crate::error::{Error, Result};
use crate::hosts::read_small;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More than these are not tried on a registry, which counts failures.
const MAX_CANDIDATES: usize = 8;

/// Where credentials come from.
#[derive(Debug)]
pub(crate) struct Keyring {
    /// Those that the caller gave; they come first.
    pub explicit: Vec<Credential>,
    /// Files in the form of docker's `config.json`, in order; they are read when they are needed, since
    /// people log in while a daemon runs.
    pub files: Vec<PathBuf>,
    /// How long a credential helper may take.
    pub helper_timeout: Duration,
}

impl Keyring {
    /// Those for a repository on a host: the explicit ones, then file by file what a helper knows and
    /// what the file holds, each from the longest path to none.
    pub(crate) fn candidates(&self, host: &str, repository: &str) -> Result<Vec<Credential>> {
        let mut found = fitting(&self.explicit, host, repository);
        for file in &self.files {
            found.extend(self.of_file(file, host, repository)?);
        }
        let mut candidates: Vec<Credential> = Vec::new();
        for credential in found {
            if !candidates.iter().any(|known| known.secret == credential.secret) {
                candidates.push(credential);
            }
        }
        candidates.truncate(MAX_CANDIDATES);
        Ok(candidates)
    }

    fn of_file(&self, file: &Path, host: &str, repository: &str) -> Result<Vec<Credential>> {
        let from = file.display().to_string();
        let bytes = read_small(file).map_err(|error| match error {
            Error::Hosts { reason, .. } => Error::Credentials {
                from: from.clone(),
                reason,
            },
            other => other,
        })?;
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return Ok(Vec::new());
        };
        let config = parse_docker_config(&bytes, &from)?;
        let mut found = Vec::new();
        if let Some(name) = config.helpers.get(host).or(config.store.as_ref()) {
            found.extend(helper::ask(name, &from, host, self.helper_timeout)?);
        }
        found.extend(fitting(&config.credentials, host, repository));
        Ok(found)
    }
}

fn fitting(credentials: &[Credential], host: &str, repository: &str) -> Vec<Credential> {
    let mut fit: Vec<(usize, &Credential)> = credentials
        .iter()
        .filter_map(|credential| credential.fits(host, repository).map(|how| (how, credential)))
        .collect();
    fit.sort_by_key(|(how, _)| std::cmp::Reverse(*how));
    fit.into_iter().map(|(_, credential)| credential.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keyring(explicit: Vec<Credential>, files: Vec<PathBuf>) -> Keyring {
        Keyring {
            explicit,
            files,
            helper_timeout: Duration::from_secs(10),
        }
    }

    fn names(candidates: &[Credential]) -> Vec<String> {
        candidates.iter().map(Credential::described).collect()
    }

    #[test]
    fn explicit_ones_come_first_and_longer_paths_before_shorter_ones() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        // dTpw is u:p, djpw is v:p, dzpw is w:p.
        std::fs::write(
            &file,
            r#"{"auths":{"q":{"auth":"dTpw"},"q/a/b":{"auth":"dzpw"},"q/a":{"auth":"djpw"},"other":{"auth":"eDpw"}}}"#,
        )
        .unwrap();
        let keyring = keyring(
            vec![Credential::password("q", "me", "p", "the secret")],
            vec![dir.path().join("missing"), file.clone()],
        );
        let shown = file.display();
        let wanted = [
            "user me of the secret".to_owned(),
            format!("user w of {shown}"),
            format!("user v of {shown}"),
            format!("user u of {shown}"),
        ];
        assert_eq!(names(&keyring.candidates("q", "a/b").unwrap()), wanted);
        assert_eq!(names(&keyring.candidates("none", "a/b").unwrap()), [""; 0]);
    }

    #[test]
    fn the_same_secret_is_tried_once() {
        let one = Credential::password("q", "me", "p", "here");
        let keyring = keyring(vec![one.clone(), Credential::password("q/a", "me", "p", "there")], Vec::new());
        assert_eq!(names(&keyring.candidates("q", "a").unwrap()), ["user me of there"]);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, "{").unwrap();
        let error = keyring(Vec::new(), vec![file.clone()])
            .candidates("q", "a")
            .unwrap_err()
            .to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains("not JSON"), "{error}");
        let error = keyring(Vec::new(), vec![dir.path().to_owned()])
            .candidates("q", "a")
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
