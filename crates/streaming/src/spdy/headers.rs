//! Name/value header blocks, and their compression with SPDY/3's dictionary.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status as Progress};

use super::frame::ProtocolError;

/// Names in lower case with their values, in order. Several values of one name are parted by NUL.
pub type Headers = Vec<(String, String)>;

/// The most bytes that a header block may have, compressed or not. Each open stream keeps its own, and those
/// of Kubernetes' clients have a tenth of a kilobyte.
pub const MAX_HEADER_BLOCK: usize = 16 * 1024;
/// The most headers in a block: each is compared with those before.
const MAX_HEADERS: u32 = 64;

/// The words at the dictionary's beginning, each preceded by its length (draft 3, section 2.6.10.1).
const DICTIONARY_WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200\u{a0}OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

/// What follows the words, as it is.
const DICTIONARY_TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052\
    03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
    Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
    00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::with_capacity(1423);
    for word in DICTIONARY_WORDS.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let word = word.replace('\u{a0}', " ");
        put_text(&mut bytes, &word);
    }
    bytes.extend_from_slice(DICTIONARY_TAIL.as_bytes());
    bytes
});

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Compresses the header blocks of one direction of a connection; one zlib stream runs through them all.
#[derive(Debug)]
pub struct HeaderWriter(Compress);

impl Default for HeaderWriter {
    fn default() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        // It can only fail on a stream that has begun. Should it, the blocks are still a valid zlib stream.
        let _ = deflate.set_dictionary(&DICTIONARY);
        Self(deflate)
    }
}

impl HeaderWriter {
    /// One block, compressed, names in lower case.
    ///
    /// # Errors
    /// The block is larger than [`MAX_HEADER_BLOCK`].
    pub fn write(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, ProtocolError> {
        let mut plain = Vec::new();
        plain.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (name, value) in headers {
            put_text(&mut plain, &name.to_ascii_lowercase());
            put_text(&mut plain, value);
        }
        if plain.len() > MAX_HEADER_BLOCK {
            return Err(ProtocolError::HeadersTooLarge);
        }
        // A sync flush ends a block on a byte; deflate adds a few bytes at most to what it cannot compress.
        let mut out = Vec::with_capacity(plain.len() + 128);
        let before = self.0.total_in();
        while self.0.total_in() - before < plain.len() as u64 || out.len() == out.capacity() {
            out.reserve(256);
            let done = usize::try_from(self.0.total_in() - before).unwrap_or(plain.len());
            self.0
                .compress_vec(&plain[done..], &mut out, FlushCompress::Sync)
                .map_err(|_| ProtocolError::BadHeaders)?;
        }
        Ok(out)
    }
}

/// Decompresses the header blocks of one direction of a connection.
#[derive(Debug)]
pub struct HeaderReader(Decompress);

impl Default for HeaderReader {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl HeaderReader {
    /// The headers of one compressed block.
    ///
    /// # Errors
    /// The block is not zlib with SPDY's dictionary, is too large, or its lengths contradict each other.
    /// The connection cannot go on then: the compression's state is lost.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, ProtocolError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let mut plain = Vec::with_capacity(1024);
        let start = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - start).unwrap_or(block.len());
            let before = plain.len();
            let result = self.0.decompress_vec(&block[done..], &mut plain, FlushDecompress::Sync);
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| ProtocolError::BadHeaders)?;
                    continue;
                }
                Err(_) | Ok(Progress::StreamEnd) => return Err(ProtocolError::BadHeaders),
                Ok(Progress::Ok | Progress::BufError) => {}
            }
            if plain.len() > MAX_HEADER_BLOCK {
                return Err(ProtocolError::HeadersTooLarge);
            }
            let consumed = usize::try_from(self.0.total_in() - start).unwrap_or(block.len());
            if plain.len() == plain.capacity() {
                plain.reserve(4096);
            } else if consumed == block.len() {
                return Ok(plain);
            } else if consumed == done && plain.len() == before {
                return Err(ProtocolError::BadHeaders);
            }
        }
    }
}

fn parse(plain: &[u8]) -> Result<Headers, ProtocolError> {
    let mut rest = plain;
    let count = take_u32(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(ProtocolError::HeadersTooLarge);
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?;
        let value = take_text(&mut rest)?;
        if name.is_empty() || headers.iter().any(|(other, _)| *other == name) {
            return Err(ProtocolError::BadHeaders);
        }
        headers.push((name, value));
    }
    if rest.is_empty() {
        Ok(headers)
    } else {
        Err(ProtocolError::BadHeaders)
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, ProtocolError> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or(ProtocolError::BadHeaders)?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes))
}

fn take_text(rest: &mut &[u8]) -> Result<String, ProtocolError> {
    let length = take_u32(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or(ProtocolError::BadHeaders)?;
    *rest = after;
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtocolError::BadHeaders)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Headers {
        list.iter()
            .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
            .collect()
    }

    /// The whole dictionary as the draft has it: its length and its Adler-32, which zlib streams carry.
    #[test]
    fn the_dictionary_is_the_drafts() {
        assert_eq!(DICTIONARY.len(), 1423);
        let (mut low, mut high) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            low = (low + u32::from(*byte)) % 65521;
            high = (high + low) % 65521;
        }
        assert_eq!(high << 16 | low, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_one_stream_come_back() {
        let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::default());
        for headers in [
            pairs(&[("streamtype", "stdin")]),
            pairs(&[]),
            pairs(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
        ] {
            let block = writer.write(&headers).unwrap();
            assert_eq!(reader.read(&block).unwrap(), headers);
        }
    }

    #[test]
    fn a_block_begins_with_the_dictionarys_checksum() {
        let block = HeaderWriter::default().write(&pairs(&[("StreamType", "error")])).unwrap();
        assert_eq!(block[0] & 0x0f, 8, "deflate");
        assert_eq!(block[1] & 0x20, 0x20, "with a preset dictionary");
        assert_eq!(block[2..6], 0xe3c6_a7c2u32.to_be_bytes());
    }

    /// Bytes made by Go's compress/zlib with the dictionary: what spdystream sends.
    #[test]
    fn bytes_of_another_implementation_are_read() {
        let block = [
            0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x62, 0x60, 0x60, 0x60, 0x04, 0xa7, 0xb3, 0x92, 0xa2, 0xd4, 0xc4, 0x5c, 0x68, 0x51, 0xc2,
            0x9a, 0x0a, 0x0a, 0x68, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
        ];
        assert_eq!(HeaderReader::default().read(&block).unwrap(), pairs(&[("streamtype", "error")]));
    }

    #[test]
    fn a_bomb_and_contradicting_lengths_are_refused() {
        let mut bomb = Compress::new(Compression::best(), true);
        bomb.set_dictionary(&DICTIONARY).unwrap();
        let mut block = Vec::with_capacity(1 << 16);
        bomb.compress_vec(&vec![0; 8 << 20], &mut block, FlushCompress::Sync).unwrap();
        assert_eq!(HeaderReader::default().read(&block), Err(ProtocolError::HeadersTooLarge));
        assert_eq!(HeaderReader::default().read(b"not zlib at all"), Err(ProtocolError::BadHeaders));
        assert_eq!(HeaderReader::default().read(&block[..3]), Err(ProtocolError::BadHeaders));
        assert_eq!(parse(&[0xff; 4]), Err(ProtocolError::HeadersTooLarge));
        let names: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let read = |many: &[(&str, &str)]| HeaderReader::default().read(&HeaderWriter::default().write(&pairs(many)).unwrap());
        assert_eq!(read(&many), Err(ProtocolError::HeadersTooLarge));
        assert!(read(&many[1..]).is_ok());
        for plain in [
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff][..],
            &[0, 0, 0, 0, 1],
            &[0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(parse(plain), Err(ProtocolError::BadHeaders), "{plain:?}");
        }
    }
}
