//! A bounded pipe of buffers between two threads. The buffers go back and are filled again, so that
//! memory stays as it is however much flows.

use std::io::{self, BufRead, Read};
use std::sync::mpsc;

/// Bytes of one buffer.
const CHUNK: usize = 256 << 10;
/// Buffers of one pipe: with two pipes a layer takes 4 MiB.
const CHUNKS: usize = 8;

type Chunk = (Vec<u8>, usize);

/// Where buffers go in.
pub(super) struct Inlet {
    full: mpsc::SyncSender<Chunk>,
    empty: mpsc::Receiver<Vec<u8>>,
    made: usize,
}

/// Where bytes come out; at its end where the other end is gone.
pub(super) struct Outlet {
    full: mpsc::Receiver<Chunk>,
    empty: mpsc::Sender<Vec<u8>>,
    chunk: Chunk,
    at: usize,
}

pub(super) fn pipe() -> (Inlet, Outlet) {
    let (full, out) = mpsc::sync_channel(CHUNKS);
    let (back, empty) = mpsc::channel();
    (
        Inlet { full, empty, made: 0 },
        Outlet {
            full: out,
            empty: back,
            chunk: (Vec::new(), 0),
            at: 0,
        },
    )
}

impl Inlet {
    /// A buffer to fill; waits until one is free.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        if let Ok(buffer) = self.empty.try_recv() {
            return buffer;
        }
        if self.made < CHUNKS {
            self.made += 1;
            return vec![0; CHUNK];
        }
        // Where the other end is gone nothing comes back, and nobody reads what is sent.
        self.empty.recv().unwrap_or_else(|_| vec![0; CHUNK])
    }

    /// Sends the first `used` bytes; `false` where nobody reads any more.
    pub(super) fn send(&self, buffer: Vec<u8>, used: usize) -> bool {
        self.full.send((buffer, used)).is_ok()
    }
}

impl BufRead for Outlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.chunk.1 {
            let Ok(next) = self.full.recv() else {
                return Ok(&[]);
            };
            let (old, _) = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            if !old.is_empty() {
                // The other end may have sent its last.
                let _ = self.empty.send(old);
            }
        }
        Ok(&self.chunk.0[self.at..self.chunk.1])
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.chunk.1.min(self.at.saturating_add(amount));
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let n = data.len().min(buffer.len());
        buffer[..n].copy_from_slice(&data[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Reads until `buffer` is full or `reader` at its end.
pub(super) fn fill(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(e)),
        }
    }
    (filled, Ok(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_a_reader_that_goes_stops_the_writer() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let (mut inlet, mut outlet) = pipe();
        let read = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut rest = &data[..];
                loop {
                    let mut buffer = inlet.buffer();
                    let (n, _) = fill(&mut rest, &mut buffer);
                    if n == 0 || !inlet.send(buffer, n) {
                        break;
                    }
                }
                assert!(inlet.made <= CHUNKS);
                drop(inlet);
            });
            let mut read = Vec::new();
            outlet.read_to_end(&mut read).unwrap();
            read
        });
        assert!(read == data);
        let (mut inlet, outlet) = pipe();
        drop(outlet);
        for _ in 0..20 {
            let buffer = inlet.buffer();
            assert!(!inlet.send(buffer, 1));
        }
    }
}
