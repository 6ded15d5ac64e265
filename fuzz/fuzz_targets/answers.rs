//! Any bytes as what a container answers to a probe: HTTP/1.1, and the headers of HTTP/2. Read to an
//! answer within its bounds, or refused with one printable line; headers that are written without
//! compression are read as the same.
//!
//! The parsers are no part of what their crate offers to others, so their files are taken as they are.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/node/src/probe/answer.rs"]
mod answer;
#[path = "../../crates/node/src/probe/hpack.rs"]
mod hpack;

/// What the files want of their neighbours, as it stands there.
mod http {
    pub(crate) const MAX_BODY: usize = 10 * 1024;
}
mod net {
    pub(crate) fn said(call: &str, err: &std::io::Error) -> String {
        format!("{call}: {err}")
    }
}

use answer::{Broken, ask};
use cofferdam_fuzz::one_line;
use hpack::{Decoder, put};
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read, Write};

/// Gives its bytes in pieces, as a network does.
struct Stream<'a>(&'a [u8]);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = buffer.len().min(7);
        self.0.read(&mut buffer[..piece])
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn http1(data: &[u8]) {
    match ask(Stream(data), b"GET / HTTP/1.1\r\n\r\n") {
        Ok(answer) => {
            assert!((0..1000).contains(&answer.status) && !(100..200).contains(&answer.status) || answer.status == 101);
            match answer.body {
                Ok(body) => assert!(body.len() <= http::MAX_BODY.min(data.len())),
                Err(error) => one_line(error),
            }
        }
        Err(Broken::Plain) => panic!("no TLS was spoken"),
        Err(Broken::Io(error) | Broken::Malformed(error)) => one_line(error),
    }
}

/// Blocks of headers of one connection, each with its length before it.
fn http2(mut data: &[u8]) {
    let mut decoder = Decoder::default();
    while let [high, low, rest @ ..] = data {
        let length = (usize::from(*high) << 8 | usize::from(*low)).min(rest.len());
        let (block, after) = rest.split_at(length);
        data = after;
        let Some(headers) = decoder.read(block) else { return };
        assert!(headers.len() <= block.len());
        // A header takes a byte at least, and what it repeats is in a table of 4 KiB.
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size <= MOST, "{size} bytes of headers out of {} bytes", block.len());
        let mut written = Vec::new();
        let mut texts = Vec::new();
        for (name, value) in &headers {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                continue;
            };
            put(&mut written, name, value);
            texts.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        assert_eq!(Decoder::default().read(&written), Some(texts));
    }
}

/// Bytes of headers that a block of 16 KiB may become; some bound must be.
const MOST: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    http1(data);
    http2(data);
});
