//! Exec and attach over SPDY: one stream each for error, stdin, stdout, stderr and resize
//! (`k8s.io/kubelet/pkg/cri/streaming/remotecommand/httpstream.go`).

use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Backend, Input};
use crate::outcome::Outcome;
use crate::remote::{Job, Sink, Sizes, Source, Wanted, run};
use crate::spdy::{Incoming, Session, Status, Stream, StreamError, StreamReader, StreamWriter};

/// The protocols, the best first; what a version adds is in [`Version`].
pub(crate) const PROTOCOLS: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// What the negotiated protocol can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// From v3 on a terminal's client opens a resize stream.
    resize: bool,
    /// From v4 on the error stream carries JSON.
    json: bool,
}

impl Version {
    pub(crate) fn of(protocol: &str) -> Self {
        let json = protocol.starts_with("v4.");
        Self {
            resize: json || protocol.starts_with("v3."),
            json,
        }
    }
}

/// The client's streams, as they come.
#[derive(Debug, Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    fn slot(&mut self, kind: &str) -> Option<&mut Option<Stream>> {
        match kind {
            "error" => Some(&mut self.error),
            "stdin" => Some(&mut self.stdin),
            "stdout" => Some(&mut self.stdout),
            "stderr" => Some(&mut self.stderr),
            "resize" => Some(&mut self.resize),
            _ => None,
        }
    }

    /// Whether every stream that the request promises is there.
    fn complete(&self, wanted: Wanted, version: Version) -> bool {
        self.error.is_some()
            && (!wanted.stdin || self.stdin.is_some())
            && (!wanted.stdout || self.stdout.is_some())
            && (!wanted.stderr || self.stderr.is_some())
            && (!(wanted.tty && version.resize) || self.resize.is_some())
    }
}

/// Serves one client on a connection that was upgraded to SPDY.
pub(crate) async fn serve<B: Backend>(
    job: Job,
    backend: &B,
    session: Session,
    mut incoming: Incoming,
    version: Version,
    patience: Duration,
) {
    // A client that opens no streams has nothing that it could be told on; it finds the connection closed.
    let collected = tokio::time::timeout(patience, collect(&mut incoming, job.wanted(), version)).await;
    let Ok(Some(streams)) = collected else {
        return session.finish().await;
    };
    let outcome = tokio::select! {
        outcome = bridge(job, backend, streams, version) => outcome,
        () = refuse_more(&mut incoming) => None,
        () = session.closed() => None,
    };
    if outcome.is_some() {
        session.finish().await;
    }
}

/// Takes streams until all are there; `None` when the client leaves first.
async fn collect(incoming: &mut Incoming, wanted: Wanted, version: Version) -> Option<Streams> {
    let mut streams = Streams::default();
    while !streams.complete(wanted, version) {
        let stream = incoming.next().await?;
        match streams.slot(stream.header("streamType").unwrap_or_default()) {
            Some(slot @ None) => {
                stream.accept().await.ok()?;
                *slot = Some(stream);
            }
            // Of no known kind, or there already.
            _ => stream.reset(Status::REFUSED_STREAM).await,
        }
    }
    Some(streams)
}

async fn refuse_more(incoming: &mut Incoming) {
    while let Some(stream) = incoming.next().await {
        stream.reset(Status::REFUSED_STREAM).await;
    }
}

async fn bridge<B: Backend>(job: Job, backend: &B, streams: Streams, version: Version) -> Option<Outcome> {
    let mut error = streams.error?.split().1;
    let reader = |stream: Option<Stream>| stream.map(|stream| stream.split().0);
    let writer = |stream: Option<Stream>| stream.map(|stream| stream.split().1);
    let mut source = SpdySource {
        stdin: reader(streams.stdin),
        resize: reader(streams.resize),
        sizes: Sizes::default(),
    };
    let mut sink = SpdySink {
        stdout: writer(streams.stdout),
        stderr: writer(streams.stderr),
    };
    let outcome = run(job, backend, &mut source, &mut sink).await?;
    // A client of the first version looks at the error stream no more once its output has ended.
    if let Some(text) = outcome.text(version.json) {
        error.write(Bytes::from(text)).await.ok()?;
    }
    error.finish().await.ok()?;
    sink.finish().await;
    Some(outcome)
}

struct SpdySource {
    stdin: Option<StreamReader>,
    resize: Option<StreamReader>,
    sizes: Sizes,
}

/// The next of a stream that may not be there: then nothing comes, ever. One that was reset ends like any
/// other.
async fn read(stream: &mut Option<StreamReader>) -> Result<Option<Bytes>, StreamError> {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    match stream.read().await {
        Err(StreamError::Reset(_)) => Ok(None),
        result => result,
    }
}

impl Source for SpdySource {
    /// A connection that ended is not the end of standard input: a container's would be closed for all.
    async fn next(&mut self) -> Option<Input> {
        loop {
            tokio::select! {
                data = read(&mut self.stdin) => match data.ok()? {
                    Some(data) => return Some(Input::Data(data)),
                    None => {
                        self.stdin = None;
                        return Some(Input::Eof);
                    }
                },
                data = read(&mut self.resize) => match data.ok()? {
                    Some(data) => {
                        self.sizes.push(&data);
                        if let Some(size) = self.sizes.take() {
                            return Some(size);
                        }
                    }
                    None => self.resize = None,
                },
            }
        }
    }
}

struct SpdySink {
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
}

impl Sink for SpdySink {
    async fn stdout(&mut self, data: Bytes) {
        write(&mut self.stdout, data).await;
    }

    async fn stderr(&mut self, data: Bytes) {
        write(&mut self.stderr, data).await;
    }
}

impl SpdySink {
    async fn finish(self) {
        for stream in [self.stdout, self.stderr].into_iter().flatten() {
            // One that the client reset has ended already.
            let _ = stream.finish().await;
        }
    }
}

async fn write(slot: &mut Option<StreamWriter>, data: Bytes) {
    if let Some(stream) = slot
        && stream.write(data).await.is_err()
    {
        *slot = None;
    }
}
