//! One request, bounded in time and size, and what its failure means.

use std::error::Error as StdError;
use std::io::ErrorKind;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::{AuthError, Body};
use serde::Deserialize;

use crate::{Error, Limits};

/// Greatest size of the server's words about a refusal, bytes read and characters shown.
const MAX_REFUSAL: u64 = 64 * 1024;
const MAX_TEXT: usize = 1000;

/// Whom we ask, and within what.
pub(crate) struct Asked {
    pub(crate) server: String,
    pub(crate) limits: Limits,
}

/// A good answer.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

/// Gets `path`, a body of `max_bytes` at most.
pub(crate) async fn get(client: &kube::Client, asked: &Asked, path: &str, what: &str, max_bytes: u64) -> Result<Answer, Error> {
    let limit = asked.limits.request;
    match tokio::time::timeout(limit, answer(client, asked, path, what, max_bytes)).await {
        Ok(answer) => answer,
        Err(_) => Err(asked.timed_out(what)),
    }
}

async fn answer(client: &kube::Client, asked: &Asked, path: &str, what: &str, max_bytes: u64) -> Result<Answer, Error> {
    let request = Request::get(path)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty());
    let request = request.map_err(|e| asked.garbled(what, e.to_string()))?;
    let response = client.send(request).await.map_err(|e| asked.no_answer(what, &e))?;
    let status = response.status();
    if status != StatusCode::OK {
        // What does not fit is cut off: the status says enough.
        let (words, _) = read(response.into_body(), MAX_REFUSAL).await.unwrap_or_default();
        return Err(asked.refused(what, status, &words));
    }
    match read(response.into_body(), max_bytes).await {
        Ok((body, true)) => Ok(Answer { body }),
        Ok((_, false)) => Err(Error::TooBig {
            server: asked.server.clone(),
            what: what.to_owned(),
            limit: asked.limits.list_bytes,
        }),
        Err(e) => Err(asked.no_answer(what, &e)),
    }
}

/// The body, and whether that is all of it.
async fn read(mut body: Body, max_bytes: u64) -> Result<(Vec<u8>, bool), kube::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > max_bytes {
            return Ok((bytes, false));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, true))
}

impl Asked {
    pub(crate) fn garbled(&self, what: &str, why: String) -> Error {
        Error::Garbled {
            server: self.server.clone(),
            what: what.to_owned(),
            why: text(&why),
        }
    }

    fn timed_out(&self, what: &str) -> Error {
        Error::TimedOut {
            server: self.server.clone(),
            what: what.to_owned(),
            seconds: self.limits.request.as_secs_f64(),
        }
    }

    /// What an answer other than 200 means.
    fn refused(&self, what: &str, status: StatusCode, words: &[u8]) -> Error {
        let (server, what) = (self.server.clone(), what.to_owned());
        let message = message(words, status);
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { server, what },
            StatusCode::FORBIDDEN => Error::Forbidden { server, what, message },
            StatusCode::NOT_FOUND => Error::NotFound { server, what, message },
            StatusCode::GONE => Error::Gone { server, what },
            _ => Error::Refused {
                server,
                what,
                code: status.as_u16(),
                message,
            },
        }
    }

    /// What it means that there is no answer: the innermost cause tells.
    fn no_answer(&self, what: &str, error: &(dyn StdError + 'static)) -> Error {
        let server = self.server.clone();
        let mut why = String::new();
        let mut next = Some(error);
        while let Some(e) = next {
            if e.is::<AuthError>() {
                return Error::Credentials {
                    server,
                    why: text(&e.to_string()),
                };
            }
            if let Some(tls) = e.downcast_ref::<rustls::Error>() {
                return match tls {
                    rustls::Error::InvalidCertificate(_) => Error::Untrusted {
                        server,
                        why: text(&tls.to_string()),
                    },
                    _ => Error::Unreachable {
                        server,
                        why: text(&tls.to_string()),
                    },
                };
            }
            let io = e.downcast_ref::<std::io::Error>();
            if io.is_some_and(|e| e.kind() == ErrorKind::TimedOut) {
                return self.timed_out(what);
            }
            why = e.to_string();
            // What an I/O error wraps is not among its sources.
            next = io
                .and_then(std::io::Error::get_ref)
                .map(|e| e as &(dyn StdError + 'static))
                .or_else(|| e.source());
        }
        Error::Unreachable { server, why: text(&why) }
    }
}

#[derive(Deserialize)]
struct Status {
    message: String,
}

/// The words of a Status object, else what the status code means.
fn message(words: &[u8], status: StatusCode) -> String {
    match serde_json::from_slice::<Status>(words) {
        Ok(status) if !status.message.is_empty() => text(&status.message),
        _ => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    }
}

/// Another's words, short and with nothing in them that a terminal would obey.
pub(crate) fn text(words: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = words.trim().chars().take(MAX_TEXT).map(clean).collect();
    if words.trim().chars().nth(MAX_TEXT).is_some() {
        text.push('…');
    }
    text
}
