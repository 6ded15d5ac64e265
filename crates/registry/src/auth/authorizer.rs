//! Being let in: what was granted before, else what the registry asks for, with one credential after the
//! other.

use crate::auth::challenge::{Challenge, parse_challenges};
use crate::auth::credential::{Credential, Secret};
use crate::auth::keyring::Keyring;
use crate::auth::token::{self, Grant};
use crate::error::{Answer, Error, Result};
use crate::transport::{Ask, Reply, Site, Transport};
use http::header::WWW_AUTHENTICATE;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Grants that are kept; over that, all are asked for anew.
const MAX_GRANTS: usize = 1024;

/// The credentials of one caller, and what they were granted. It is never shared between callers with
/// different credentials.
pub(crate) struct Authorizer {
    keyring: Keyring,
    /// By origin and repository.
    grants: Mutex<HashMap<(String, String), Grant>>,
}

/// What came of one try with a credential.
enum Outcome {
    In(Reply),
    Refused(Answer),
    /// It is not of a kind that the challenge takes.
    Useless,
}

impl Authorizer {
    pub(crate) fn new(keyring: Keyring) -> Self {
        Self {
            keyring,
            grants: Mutex::default(),
        }
    }

    /// The same files with other explicit credentials.
    pub(crate) fn with_explicit(&self, explicit: Vec<Credential>) -> Self {
        let keyring = Keyring {
            explicit,
            files: self.keyring.files.clone(),
            helper_timeout: self.keyring.helper_timeout,
        };
        Self::new(keyring)
    }

    /// Sends a request as whom the registry wants to see. Any status but 401 is given back, and 403 where
    /// there is no other credential left to try.
    pub(crate) fn send(&self, transport: &Transport, site: &Site, repository: &str, ask: &Ask) -> Result<Reply> {
        let place = (site.endpoint.origin(), repository.to_owned());
        let known = self
            .grants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&place)
            .filter(|grant| grant.is_good())
            .cloned();
        let reply = send_as(transport, site, ask, known.as_ref())?;
        // A redirect's target has its own ideas of authentication, which are not ours to follow.
        if reply.status.as_u16() != 401 || reply.host != site.endpoint.host {
            return Ok(reply);
        }
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        let challenge = choose(&reply);
        let answer = transport.answer(reply);
        let unauthorized = |answer: Answer, tried: String| Error::Unauthorized {
            host: site.endpoint.host.clone(),
            what: ask.what.to_owned(),
            answer,
            tried,
        };
        let challenge = challenge.map_err(|offered| unauthorized(answer.clone(), offered))?;
        let candidates = self.keyring.candidates(site.endpoint.credential_host(), repository)?;
        let mut last = answer;
        let mut tried = Vec::new();
        for candidate in some_or_nobody(&candidates) {
            match self.try_as(transport, site, repository, ask, &challenge, candidate, &place)? {
                Outcome::In(reply) => return Ok(reply),
                Outcome::Refused(answer) => {
                    tried.extend(candidate.map(|candidate| format!("{} ({answer})", candidate.described())));
                    last = answer;
                }
                Outcome::Useless => {
                    tried.extend(candidate.map(|candidate| format!("{} (not what {} takes)", candidate.described(), challenge.scheme)));
                }
            }
        }
        Err(unauthorized(last, advice(site, &candidates, &tried)))
    }

    /// One try as one candidate, or as nobody.
    #[allow(clippy::too_many_arguments)]
    fn try_as(
        &self,
        transport: &Transport,
        site: &Site,
        repository: &str,
        ask: &Ask,
        challenge: &Challenge,
        candidate: Option<&Credential>,
        place: &(String, String),
    ) -> Result<Outcome> {
        let grant = match grant(transport, site, challenge, candidate, repository) {
            Ok(Some(grant)) => grant,
            Ok(None) => return Ok(Outcome::Useless),
            Err(Error::Unauthorized { answer, .. }) => return Ok(Outcome::Refused(answer)),
            Err(other) => return Err(other),
        };
        let reply = send_as(transport, site, ask, Some(&grant))?;
        if matches!(reply.status.as_u16(), 401 | 403) && reply.host == site.endpoint.host {
            return Ok(Outcome::Refused(transport.answer(reply)));
        }
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= MAX_GRANTS {
            grants.clear();
        }
        grants.insert(place.clone(), grant);
        Ok(Outcome::In(reply))
    }
}

fn send_as(transport: &Transport, site: &Site, ask: &Ask, grant: Option<&Grant>) -> Result<Reply> {
    let ask = Ask {
        method: ask.method.clone(),
        url: ask.url.clone(),
        accept: ask.accept,
        from: ask.from,
        form: None,
        authorization: grant.map(|grant| &grant.header),
        what: ask.what,
    };
    transport.send(site, &ask)
}

/// Every candidate; or once nobody, where there is none.
fn some_or_nobody(candidates: &[Credential]) -> Vec<Option<&Credential>> {
    if candidates.is_empty() {
        vec![None]
    } else {
        candidates.iter().map(Some).collect()
    }
}

/// The challenge to answer: Bearer before Basic. Else what was offered, as a sentence.
fn choose(reply: &Reply) -> std::result::Result<Challenge, String> {
    let headers = reply.headers.get_all(WWW_AUTHENTICATE).iter().take(8);
    let mut challenges: Vec<Challenge> = headers.filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect();
    for scheme in ["bearer", "basic"] {
        if let Some(at) = challenges.iter().position(|challenge| challenge.scheme == scheme) {
            return Ok(challenges.swap_remove(at));
        }
    }
    let offered: Vec<String> = challenges
        .iter()
        .map(|challenge| crate::error::clean(&challenge.scheme, 20))
        .collect();
    Err(match offered.as_slice() {
        [] => "it names no way to authenticate, so it may not be a registry".to_owned(),
        some => format!("it asks for {}, of which neither Basic nor Bearer is one", some.join(", ")),
    })
}

/// What a candidate is granted; `None` where it is nothing that this challenge takes.
fn grant(
    transport: &Transport,
    site: &Site,
    challenge: &Challenge,
    candidate: Option<&Credential>,
    repository: &str,
) -> Result<Option<Grant>> {
    if let Some(Secret::Registry { token }) = candidate.map(|candidate| &candidate.secret) {
        return Ok(Grant::bearer(token, None));
    }
    if challenge.scheme == "bearer" {
        return token::fetch(transport, site, challenge, candidate, repository).map(Some);
    }
    Ok(match candidate.map(|candidate| &candidate.secret) {
        Some(Secret::Password { username, password }) => Grant::basic(username, password),
        _ => None,
    })
}

/// What to do, and which credentials were tried in vain.
fn advice(site: &Site, candidates: &[Credential], tried: &[String]) -> String {
    let host = site.endpoint.credential_host();
    if candidates.is_empty() {
        return format!("there are no credentials for {host}, so log in to it or name an image pull secret; the image may also not exist");
    }
    format!(
        "tried were {}; log in to {host} anew, or look whether that account may pull it",
        tried.join(", ")
    )
}
