//! The requests whose clients have not come yet, by the token in their URL: single-use, one minute, a
//! thousand at most, as `k8s.io/kubelet/pkg/cri/streaming/request_cache.go` has it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use crate::backend::{AttachRequest, Error, ExecRequest, PortForwardRequest};

/// Random bytes in a token: too many to guess within a minute or ever.
const TOKEN_BYTES: usize = 16;

/// What a client with the token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

impl Request {
    /// The first part of the URL's path.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

/// The tokens that are out.
#[derive(Debug)]
pub(crate) struct Tokens {
    lifetime: Duration,
    most: usize,
    waiting: Mutex<HashMap<String, (Request, Instant)>>,
}

impl Tokens {
    pub(crate) fn new(lifetime: Duration, most: usize) -> Self {
        Self {
            lifetime,
            most,
            waiting: Mutex::new(HashMap::new()),
        }
    }

    /// Keeps a request and gives its token.
    pub(crate) fn insert(&self, request: Request) -> Result<String, Error> {
        let token = random_token()?;
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, end)| *end > now);
        if waiting.len() >= self.most {
            return Err(Error::TooManyInFlight);
        }
        waiting.insert(token.clone(), (request, now + self.lifetime));
        Ok(token)
    }

    /// The token's request, once, and only within its time.
    pub(crate) fn take(&self, token: &str) -> Option<Request> {
        let (request, end) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (end > Instant::now()).then_some(request)
    }
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).map_err(|error| Error::Random(error.to_string()))?;
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn request() -> Request {
        Request::PortForward(PortForwardRequest {
            pod: "p".into(),
            ports: vec![80],
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_works_once_and_for_its_time() {
        let tokens = Tokens::new(Duration::from_secs(60), 1000);
        let token = tokens.insert(request()).unwrap();
        assert_eq!(tokens.take("other"), None);
        assert_eq!(tokens.take(&token), Some(request()));
        assert_eq!(tokens.take(&token), None);

        let token = tokens.insert(request()).unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(tokens.waiting.lock().unwrap().contains_key(&token));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(tokens.take(&token), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait_and_the_expired_make_room() {
        let tokens = Tokens::new(Duration::from_secs(60), 2);
        tokens.insert(request()).unwrap();
        tokens.insert(request()).unwrap();
        assert_eq!(tokens.insert(request()), Err(Error::TooManyInFlight));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(tokens.insert(request()).is_ok());
    }

    #[test]
    fn tokens_differ_and_fit_a_url() {
        let (one, two) = (random_token().unwrap(), random_token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 22);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    }
}
