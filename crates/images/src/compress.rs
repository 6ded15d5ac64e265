//! Compression, told by the first bytes rather than by a media type: the digest says what the
//! bytes are, and producers get media types wrong.

use crate::error::invalid;
use std::io::{self, BufRead, Cursor, Read};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
}

/// Bytes that [`sniff`] wants to see.
pub(crate) const SNIFF: usize = 6;

/// The format of what begins with `head`; an error for a compression that is not supported.
pub(crate) fn sniff(head: &[u8]) -> io::Result<Format> {
    // Magic numbers: RFC 1952, RFC 8878 (and its skippable frames), and the file formats of the others.
    match head {
        [0x1f, 0x8b, ..] => Ok(Format::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Format::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(invalid(
            "is compressed with xz, which images do not use: decompress it first",
        )),
        [b'B', b'Z', b'h', ..] => Err(invalid(
            "is compressed with bzip2, which images do not use: decompress it first",
        )),
        _ => Ok(Format::Plain),
    }
}

/// Base 2 logarithm of the largest window of zstd: 128 MiB, the default bound of zstd's own tools.
/// A frame that wants more would make whoever unpacks it hold as much.
const LARGEST_WINDOW: u32 = 27;

/// What `reader` holds, decompressed.
pub(crate) fn decoder<'a, R: BufRead + 'a>(mut reader: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::with_capacity(SNIFF);
    reader.by_ref().take(SNIFF as u64).read_to_end(&mut head)?;
    let format = sniff(&head)?;
    let whole = Cursor::new(head).chain(reader);
    Ok(match format {
        Format::Plain => Box::new(whole),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Box::new(decoder)
        }
    })
}
