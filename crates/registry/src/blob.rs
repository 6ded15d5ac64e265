//! Downloads of blobs, which go on where they were cut off.

use crate::client::Client;
use crate::error::{Error, Result, Tried};
use crate::fault;
use crate::hosts::Endpoint;
use crate::reference::{Digest, Image};
use crate::transport::Reply;
use http::header;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::BodyReader;

/// Who brings this much has a new count of tries: a large blob over a bad line may need many.
const REAL_PROGRESS: u64 = 256 << 10;
/// The longest wait between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A blob that is being downloaded. Reading gives its bytes from the offset on, never more than it has,
/// and fails where they cannot all be had. Its digest is not checked here; see [`Client::blob`].
pub struct Blob {
    client: Client,
    image: Image,
    digest: Digest,
    what: String,
    size: u64,
    position: u64,
    endpoints: Vec<Endpoint>,
    /// Which of the endpoints is read from.
    at: usize,
    stream: Option<Stream>,
    tries: u32,
    /// Where the count of tries began.
    mark: u64,
    broken: bool,
}

/// One answer, as far as it was read.
struct Stream {
    host: String,
    reader: BodyReader<'static>,
    /// Bytes that come before those that are wanted.
    skip: u64,
    /// Whether the answer says how long it is, so that its end can be read without waiting.
    has_length: bool,
    /// Whether anything that was wanted came.
    gave: bool,
    waited: Duration,
    came: u64,
}

impl Blob {
    pub(crate) fn open(client: Client, image: Image, digest: Digest, size: u64, offset: u64, endpoints: Vec<Endpoint>) -> Result<Self> {
        let what = format!("the blob {} of {image}", digest.as_str());
        let mut blob = Self {
            client,
            image,
            digest,
            what,
            size,
            position: offset,
            endpoints,
            at: 0,
            stream: None,
            tries: 0,
            mark: offset,
            broken: false,
        };
        if offset < size
            && let Err(error) = blob.connect(0)
        {
            if !error.is_passing() {
                return Err(error);
            }
            blob.resume(error, false)?;
        }
        Ok(blob)
    }

    /// The host that is read from now.
    pub fn host(&self) -> &str {
        match (&self.stream, self.endpoints.get(self.at)) {
            (Some(stream), _) => &stream.host,
            (None, Some(endpoint)) => &endpoint.host,
            (None, None) => "",
        }
    }

    /// Bytes of the blob up to where it has been read, the offset included.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Asks every endpoint once, from one of them on, until one gives what is still missing.
    fn connect(&mut self, first: usize) -> Result<()> {
        let mut tries = Vec::new();
        for step in 0..self.endpoints.len() {
            let at = (first + step) % self.endpoints.len();
            let Some(endpoint) = self.endpoints.get(at) else { continue };
            let reply = self.client.get_blob(endpoint, &self.image, &self.digest, self.position, &self.what);
            match reply.and_then(|reply| self.stream_of(reply)) {
                Ok(stream) => {
                    self.at = at;
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(error) if error.is_local_mistake() => return Err(error),
                Err(error) => tries.push(Tried {
                    host: endpoint.host.clone(),
                    error,
                }),
            }
        }
        Err(Error::of_tries(&self.what, tries))
    }

    /// An answer whose lengths are right.
    fn stream_of(&self, reply: Reply) -> Result<Stream> {
        let missing = self.size - self.position;
        let (skip, expected) = match reply.status.as_u16() {
            200 => (self.position, self.size),
            206 => {
                let range = reply.header(header::CONTENT_RANGE).unwrap_or("");
                if !is_range(range, self.position, self.size) {
                    let reason = format!(
                        "of bytes {} to {} it sends {:?}",
                        self.position,
                        self.size - 1,
                        crate::error::clean(range, 60)
                    );
                    return Err(Error::Protocol {
                        host: reply.host,
                        what: self.what.clone(),
                        reason,
                    });
                }
                (0, missing)
            }
            _ => return Err(self.client.refusal(reply, &self.what)),
        };
        let length = reply.body.content_length();
        if let Some(length) = length.filter(|length| *length != expected) {
            let reason = format!("it sends {length} bytes instead of {expected}");
            return Err(Error::Protocol {
                host: reply.host,
                what: self.what.clone(),
                reason,
            });
        }
        Ok(Stream {
            host: reply.host,
            reader: reply.body.into_with_config().limit(u64::MAX).reader(),
            skip,
            has_length: length.is_some(),
            gave: false,
            waited: Duration::ZERO,
            came: 0,
        })
    }

    /// After a failure: waits, and connects again; from the next host on if this one gave nothing.
    fn resume(&mut self, failure: Error, gave: bool) -> Result<()> {
        let limits = self.client.transport.limits;
        let mut last = failure;
        let mut first = if gave { self.at } else { self.at + 1 };
        if self.position - self.mark >= REAL_PROGRESS {
            self.tries = 0;
            self.mark = self.position;
        }
        while self.tries < limits.tries {
            std::thread::sleep(limits.backoff.saturating_mul(1 << self.tries.min(16)).min(MAX_BACKOFF));
            self.tries += 1;
            match self.connect(first) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            first += 1;
        }
        self.broken = true;
        Err(Error::Short {
            what: self.what.clone(),
            got: self.position,
            wanted: self.size,
            tries: self.tries,
            last: Box::new(last),
        })
    }

    /// Bytes from the stream, or what became of it.
    fn read_stream(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(0) };
        let room = usize::try_from(self.size - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        let (stall, progress) = (self.client.transport.timeouts.stall, self.client.transport.limits.progress);
        while stream.skip > 0 {
            let part = usize::try_from(stream.skip).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            let n = stream.read(part, &self.what, stall, progress)?;
            stream.skip -= n as u64;
        }
        let n = stream.read(buffer, &self.what, stall, progress)?;
        stream.gave = true;
        self.position += n as u64;
        if self.position == self.size {
            self.finish();
        }
        Ok(n)
    }

    /// Lets the connection be used again, where that needs no waiting.
    fn finish(&mut self) {
        if let Some(mut stream) = self.stream.take_if(|stream| stream.has_length) {
            let _ = stream.reader.read(&mut [0; 1]);
        }
        self.stream = None;
    }
}

impl Stream {
    /// At least one byte. Who sends too little in the time of a stall has stalled; only the time that is
    /// spent waiting counts, not what the caller does meanwhile.
    fn read(&mut self, buffer: &mut [u8], what: &str, stall: Duration, progress: u64) -> Result<usize> {
        if self.waited > stall {
            if self.came < progress {
                return Err(Error::Stalled {
                    host: self.host.clone(),
                    what: what.to_owned(),
                    seconds: stall.as_secs_f64(),
                });
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        let start = Instant::now();
        let n = loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault::of_body(error, &self.host, what, stall)),
                Ok(n) => break n,
            }
        };
        if n == 0 {
            return Err(Error::Cut {
                host: self.host.clone(),
                what: what.to_owned(),
                reason: "it ended early".to_owned(),
            });
        }
        self.waited += start.elapsed();
        self.came += n as u64;
        Ok(n)
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other(format!("the download of {} failed before", self.what)));
        }
        if buffer.is_empty() || self.position == self.size {
            return Ok(0);
        }
        loop {
            match self.read_stream(buffer) {
                Ok(n) if n > 0 => return Ok(n),
                Ok(_) => {
                    let reason = "it ended early".to_owned();
                    let failure = Error::Cut {
                        host: self.host().to_owned(),
                        what: self.what.clone(),
                        reason,
                    };
                    self.resume(failure, false).map_err(io::Error::other)?;
                }
                Err(failure) => {
                    let gave = self.stream.take().is_some_and(|stream| stream.gave);
                    self.resume(failure, gave).map_err(io::Error::other)?;
                }
            }
        }
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} at {} of {} from {})", self.what, self.position, self.size, self.host())
    }
}

/// Whether a Content-Range is just what is missing: `bytes FIRST-LAST/SIZE`, where SIZE may be `*`.
fn is_range(text: &str, position: u64, size: u64) -> bool {
    let number = |text: &str| {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            text.parse::<u64>().ok()
        } else {
            None
        }
    };
    let parts = text.trim().strip_prefix("bytes ").and_then(|rest| rest.split_once('/'));
    let Some((range, total)) = parts else { return false };
    let Some((first, last)) = range.trim().split_once('-') else {
        return false;
    };
    number(first) == Some(position) && number(last) == size.checked_sub(1) && (total == "*" || number(total) == Some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_missing_range_is_taken() {
        for (text, ok) in [
            ("bytes 5-9/10", true),
            ("bytes 5-9/*", true),
            ("bytes 4-9/10", false),
            ("bytes 5-8/10", false),
            ("bytes 5-9/11", false),
            ("bytes 5-10/10", false),
            ("bytes */10", false),
            ("bytes +5-9/10", false),
            ("bytes 5-9", false),
            ("5-9/10", false),
            ("", false),
            ("bytes 5-99999999999999999999/10", false),
        ] {
            assert_eq!(is_range(text, 5, 10), ok, "{text}");
        }
    }

    #[test]
    fn a_blob_can_be_read_in_another_thread() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Send + Sync + Clone>() {}
        is_send::<Blob>();
        is_shared::<Client>();
    }
}
