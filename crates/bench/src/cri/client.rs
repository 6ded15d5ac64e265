//! A connection to one runtime.

use super::error::Error;
use cofferdam_cri_api::v1::image_service_client::ImageServiceClient;
use cofferdam_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cofferdam_cri_api::v1::{ImageSpec, ImageStatusRequest, PullImageRequest, VersionRequest};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long a verb may take; kubelets wait two minutes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a pull may take.
const PULL: Duration = Duration::from_secs(600);
/// How long the first answer may take: a socket of something else may never give one.
const FIRST: Duration = Duration::from_secs(5);

/// One runtime.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) socket: PathBuf,
    /// Its name and version, by itself.
    pub(super) name: String,
    /// Process id of who listens; `None` where it is not of our process id namespace.
    pub(super) daemon: Option<i32>,
    pub(super) runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    stop: Arc<AtomicBool>,
}

impl Peer {
    /// Connects, and asks who it is. Once `stop` is set, no call begins.
    pub(super) async fn connect(socket: &Path, stop: Arc<AtomicBool>) -> Result<Self, Error> {
        // As kubelets and crictl write it.
        let socket = socket
            .strip_prefix("unix:")
            .map_or_else(|_| socket.to_owned(), |rest| Path::new("/").join(rest));
        let socket = std::path::absolute(&socket).unwrap_or(socket);
        let stream = UnixStream::connect(&socket).await.map_err(|e| unreachable(&socket, &e))?;
        let daemon = stream.peer_cred().ok().and_then(|c| c.pid()).filter(|pid| *pid > 0);
        drop(stream);
        let not_cri = |reason: String| Error::NotCri {
            socket: socket.clone(),
            reason,
        };
        let channel = Endpoint::try_from(format!("unix://{}", socket.display()))
            .map_err(|e| not_cri(e.to_string()))?
            .connect_lazy();
        let mut runtime = RuntimeServiceClient::new(channel.clone());
        let asked = runtime.version(VersionRequest { version: String::new() });
        let version = match tokio::time::timeout(FIRST, asked).await {
            Ok(Ok(version)) => version.into_inner(),
            Ok(Err(status)) => return Err(not_cri(words(&status))),
            Err(_) => return Err(not_cri("no answer".into())),
        };
        // It goes to a terminal: no control characters.
        let name = format!("{} {}", version.runtime_name, version.runtime_version.trim_start_matches('v'));
        let name = name
            .chars()
            .filter(|c| !c.is_control())
            .take(60)
            .collect::<String>()
            .trim()
            .to_owned();
        Ok(Self {
            socket,
            name,
            daemon,
            runtime,
            images: ImageServiceClient::new(channel),
            stop,
        })
    }

    /// The same connection for removing what was made, which is done after a signal too.
    pub(super) fn unstoppable(&self) -> Self {
        Self {
            stop: Arc::default(),
            ..self.clone()
        }
    }

    /// Waits for the answer to a call.
    pub(super) async fn ask<T>(&self, verb: &'static str, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        self.wait(verb, PATIENCE, call).await
    }

    async fn wait<T>(
        &self,
        verb: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(Error::Call {
                socket: self.socket.clone(),
                verb,
                reason: words(&status),
            }),
            Err(_) => Err(Error::Silent {
                socket: self.socket.clone(),
                verb,
                seconds: limit.as_secs(),
            }),
        }
    }

    /// Looks for the image, for this handler, and pulls it where that is wanted.
    pub(super) async fn image(&self, name: &str, handler: &str, pull: bool) -> Result<(), Error> {
        let image = ImageSpec {
            image: name.to_owned(),
            runtime_handler: handler.to_owned(),
            ..ImageSpec::default()
        };
        let mut images = self.images.clone();
        let request = ImageStatusRequest {
            image: Some(image.clone()),
            verbose: false,
        };
        if self.ask("ImageStatus", images.image_status(request)).await?.image.is_some() {
            return Ok(());
        }
        if !pull {
            return Err(Error::NoImage {
                socket: self.socket.clone(),
                image: name.to_owned(),
            });
        }
        let request = PullImageRequest {
            image: Some(image),
            ..PullImageRequest::default()
        };
        self.wait("PullImage", PULL, images.pull_image(request)).await.map(|_| ())
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Error {
    let socket = socket.to_owned();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Missing(socket),
        ErrorKind::PermissionDenied => Error::Denied(socket),
        ErrorKind::ConnectionRefused => Error::Deaf(socket),
        _ => Error::Connect {
            socket,
            reason: error.to_string(),
        },
    }
}

/// A status in words; the code where it says more than "it failed".
fn words(status: &Status) -> String {
    let text: String = status
        .message()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(1000)
        .collect();
    match status.code() {
        Code::Unknown => text,
        code => format!("{code:?}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_connect_is_told_what_to_do() {
        let error = unreachable(Path::new("/run/x.sock"), &ErrorKind::PermissionDenied.into());
        assert_eq!(error.to_string(), "no permission to connect to /run/x.sock: run this as root");
    }
}
