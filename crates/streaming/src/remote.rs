//! Exec and attach, whatever the wire: a process's channels on one side, a client's on the other.

use std::future::Future;

use bytes::Bytes;
use serde::Deserialize;

use crate::backend::{AttachRequest, Backend, Error, ExecRequest, Input, Output, Process};
use crate::outcome::Outcome;

/// What to run, and what it is called in messages.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

/// Which streams the request asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Job {
    pub(crate) fn wanted(&self) -> Wanted {
        match self {
            Self::Exec(ExecRequest {
                tty,
                stdin,
                stdout,
                stderr,
                ..
            })
            | Self::Attach(AttachRequest {
                tty,
                stdin,
                stdout,
                stderr,
                ..
            }) => Wanted {
                tty: *tty,
                stdin: *stdin,
                stdout: *stdout,
                stderr: *stderr,
            },
        }
    }

    async fn start<B: Backend>(self, backend: &B) -> Result<Process, Error> {
        match self {
            Self::Exec(request) => backend.exec(request).await,
            Self::Attach(request) => backend.attach(request).await,
        }
    }

    /// Upstream's sentence before the backend's own.
    fn failed(&self, why: &str) -> Outcome {
        Outcome::Failure(match self {
            Self::Exec(_) => format!("error executing command in container: {why}"),
            Self::Attach(_) => format!("error attaching to container: {why}"),
        })
    }

    /// An attached process's code is the pod's status to tell, not the stream's.
    fn ended(&self, code: i32) -> Outcome {
        match self {
            Self::Exec(_) if code != 0 => Outcome::ExitCode(code),
            _ => Outcome::Success,
        }
    }
}

/// What comes from a client.
pub(crate) trait Source: Send {
    /// The next message; `None` when the client is gone. Nothing is lost when it is cancelled.
    fn next(&mut self) -> impl Future<Output = Option<Input>> + Send;
}

/// What goes to a client. Bytes that it did not ask for, or that it takes no more, are dropped.
pub(crate) trait Sink: Send {
    /// Sends standard output.
    fn stdout(&mut self, data: Bytes) -> impl Future<Output = ()> + Send;
    /// Sends standard error.
    fn stderr(&mut self, data: Bytes) -> impl Future<Output = ()> + Send;
}

/// Runs a job between a client's two directions; `None` when the client left before its end.
pub(crate) async fn run<B: Backend>(job: Job, backend: &B, source: &mut impl Source, sink: &mut impl Sink) -> Option<Outcome> {
    let Process { input, mut output } = match job.clone().start(backend).await {
        Ok(process) => process,
        Err(error) => return Some(job.failed(&error.to_string())),
    };
    let feed = async {
        // A process that reads no more is no reason to stop listening: it is how a client's leaving is seen.
        while let Some(message) = source.next().await {
            let _ = input.send(message).await;
        }
    };
    let drain = async {
        loop {
            match output.recv().await {
                Some(Output::Stdout(data)) => sink.stdout(data).await,
                Some(Output::Stderr(data)) => sink.stderr(data).await,
                Some(Output::Exited(code)) => return job.ended(code),
                Some(Output::Failed(why)) => return job.failed(&why),
                None => return job.failed("the connection to the process was lost"),
            }
        }
    };
    tokio::select! {
        outcome = drain => Some(outcome),
        () = feed => None,
    }
}

/// A terminal's size as clients send it: `remotecommand.TerminalSize`, a stream of JSON documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TerminalSize {
    #[serde(default)]
    width: u16,
    #[serde(default)]
    height: u16,
}

/// The most bytes that one size may have.
const MAX_SIZE_TEXT: usize = 4096;

/// Cuts a stream of sizes into messages, wherever the pieces break.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    text: Vec<u8>,
    /// Set by a document that is none; upstream listens no more then, either.
    broken: bool,
}

impl Sizes {
    pub(crate) fn push(&mut self, data: &[u8]) {
        if !self.broken {
            self.text.extend_from_slice(data);
        }
    }

    /// The newest whole size, if one came: only the newest matters to a terminal.
    pub(crate) fn take(&mut self) -> Option<Input> {
        let mut stream = serde_json::Deserializer::from_slice(&self.text).into_iter::<TerminalSize>();
        let mut newest = None;
        let mut end = 0;
        loop {
            match stream.next() {
                Some(Ok(size)) => {
                    newest = Some(size);
                    end = stream.byte_offset();
                }
                Some(Err(error)) if !error.is_eof() => {
                    self.broken = true;
                    break;
                }
                Some(Err(_)) | None => break,
            }
        }
        self.text.drain(..end);
        if self.broken || self.text.len() > MAX_SIZE_TEXT {
            self.broken = true;
            self.text = Vec::new();
        }
        newest.map(|size| Input::Resize {
            rows: size.height,
            cols: size.width,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn sizes_are_found_wherever_the_pieces_break() {
        let mut sizes = Sizes::default();
        let rows: [(&str, Option<(u16, u16)>); 5] = [
            ("{\"Width\":80,", None),
            ("\"Height\":24}\n", Some((24, 80))),
            ("{\"Width\":1,\"Height\":2}\n{\"Width\":3,\"Height\":4}{\"Wi", Some((4, 3))),
            ("dth\":5,\"Height\":6}", Some((6, 5))),
            ("   ", None),
        ];
        for (piece, wanted) in rows {
            sizes.push(piece.as_bytes());
            assert_eq!(sizes.take(), wanted.map(|(rows, cols)| Input::Resize { rows, cols }), "{piece}");
        }
    }

    #[test]
    fn a_stream_that_is_no_json_is_heeded_no_more_and_keeps_nothing() {
        for bad in ["{]", "{\"Width\":70000,\"Height\":1}", &format!("{{\"{}", "x".repeat(5000))] {
            let mut sizes = Sizes::default();
            sizes.push(bad.as_bytes());
            assert_eq!(sizes.take(), None);
            sizes.push(b"{\"Width\":80,\"Height\":24}");
            assert_eq!(sizes.take(), None);
            assert!(sizes.text.is_empty());
        }
    }
}
