//! Header compression of HTTP/2 (RFC 7541), as far as a health check needs it: requests are written
//! without compression, answers are read with all of it, within bounds.

use std::collections::VecDeque;

/// Most that one block of headers may come to, by RFC 7541's measure of an entry, bytes.
const MAX_HEADERS: usize = 64 << 10;
/// The dynamic table's size where nobody says otherwise, which nobody does (RFC 9113, 6.5.2).
const TABLE: usize = 4096;
/// What an entry costs beside its text (RFC 7541, 4.1).
const ENTRY: usize = 32;
/// Longest text that is read, bytes.
const MAX_TEXT: usize = 16 * 1024;
/// The names of the static table, from index 1 (RFC 7541, appendix A).
const NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
/// The values that `:status` has there, from this index on. Those of other names occur in no answer.
const STATUS_FROM: usize = 8;
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];

/// Adds a header that is not to be remembered, by name and value.
pub(crate) fn put(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    put_text(block, name);
    put_text(block, value);
}

fn put_text(block: &mut Vec<u8>, text: &str) {
    put_number(block, text.len());
    block.extend_from_slice(text.as_bytes());
}

/// A number with a prefix of seven bits (5.1), the eighth being 0: not compressed.
fn put_number(block: &mut Vec<u8>, number: usize) {
    let Some(mut rest) = number.checked_sub(127) else {
        block.push(number as u8);
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Name and value.
pub(crate) type Header = (Vec<u8>, Vec<u8>);

/// Reads the headers of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: VecDeque<Header>,
    size: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: TABLE,
        }
    }
}

impl Decoder {
    /// The headers of one block. `None` where it is not valid.
    pub(crate) fn read(&mut self, block: &[u8]) -> Option<Vec<Header>> {
        let mut input = block;
        let (mut headers, mut size) = (Vec::new(), 0);
        while let Some(first) = input.first().copied() {
            if first & 0x80 != 0 {
                let index = number(&mut input, 7)?;
                headers.push(self.at(index)?);
            } else if first & 0xe0 == 0x20 {
                let limit = number(&mut input, 5)?;
                self.limit = Some(limit).filter(|limit| *limit <= TABLE)?;
                self.shrink();
            } else {
                let kept = first & 0x40 != 0;
                let index = number(&mut input, if kept { 6 } else { 4 })?;
                let name = if index == 0 { text(&mut input)? } else { self.at(index)?.0 };
                let header = (name, text(&mut input)?);
                if kept {
                    self.keep(header.clone());
                }
                headers.push(header);
            }
            // An index of a byte may stand for all that the table holds.
            size += headers.last().map_or(0, cost);
            if size > MAX_HEADERS {
                return None;
            }
        }
        Some(headers)
    }

    fn at(&self, index: usize) -> Option<Header> {
        let Some(name) = NAMES.get(index.checked_sub(1)?) else {
            return self.table.get(index - NAMES.len() - 1).cloned();
        };
        let status = index.checked_sub(STATUS_FROM).and_then(|i| STATUSES.get(i)).copied();
        Some((name.as_bytes().to_vec(), status.unwrap_or_default().as_bytes().to_vec()))
    }

    fn keep(&mut self, header: Header) {
        self.size += cost(&header);
        self.table.push_front(header);
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.size > self.limit {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size -= cost(&oldest);
        }
    }
}

fn cost(header: &Header) -> usize {
    header.0.len() + header.1.len() + ENTRY
}

fn take(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

/// A number with a prefix of `bits` (5.1).
fn number(input: &mut &[u8], bits: u32) -> Option<usize> {
    let most = (1usize << bits) - 1;
    let mut number = usize::from(take(input)?) & most;
    if number < most {
        return Some(number);
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(take(input)?);
        number += (byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(number);
        }
    }
    None
}

fn text(input: &mut &[u8]) -> Option<Vec<u8>> {
    let packed = input.first()? & 0x80 != 0;
    let length = number(input, 7)?;
    let raw = input.get(..length)?;
    *input = &input[length..];
    if packed {
        unpack(raw)
    } else {
        Some(raw.to_vec()).filter(|raw| raw.len() <= MAX_TEXT)
    }
}

/// Huffman's code of RFC 7541, appendix B. It is canonical: codes of one length follow one another in
/// the order of their symbols, and the next length goes on where the last ended.
fn unpack(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut code = Code::default();
    for byte in raw {
        for shift in (0..8).rev() {
            if let Some(symbol) = code.add(byte >> shift & 1)? {
                out.push(symbol);
            }
        }
        if out.len() > MAX_TEXT {
            return None;
        }
    }
    // What is left over is padding: fewer than eight bits, all of them 1.
    (code.length < 8 && code.value == (1 << code.length) - 1).then_some(out)
}

/// A code that is being read.
#[derive(Debug, Default)]
struct Code {
    value: u32,
    length: usize,
    /// The first code of this length, and where its symbol stands.
    first: u32,
    place: usize,
}

impl Code {
    /// `None`: no such code. `Some(None)`: it goes on.
    fn add(&mut self, bit: u8) -> Option<Option<u8>> {
        self.place += usize::from(COUNTS[self.length]);
        self.first = (self.first + u32::from(COUNTS[self.length])) << 1;
        self.length += 1;
        self.value = self.value << 1 | u32::from(bit);
        let many = u32::from(*COUNTS.get(self.length)?);
        let Some(offset) = self.value.checked_sub(self.first).filter(|offset| *offset < many) else {
            return Some(None);
        };
        let symbol = SYMBOLS.get(self.place + offset as usize).copied()?;
        *self = Self::default();
        Some(Some(symbol))
    }
}

/// How many codes have each length.
const COUNTS: [u16; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4,
];
/// The symbols in the order of their codes; the one after the last ends a text and never occurs.
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108,
    109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113,
    118, 119, 120, 121, 122, 38, 42, 44, 59, 88, 90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123,
    92, 195, 208, 128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129, 132, 133,
    134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233, 1, 135, 137, 138,
    139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142,
    144, 145, 148, 159, 171, 206, 215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254, 2, 3, 4, 5, 6, 7, 8, 11, 12,
    14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249, 10, 13, 22,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn said(headers: &[Header]) -> Vec<String> {
        headers
            .iter()
            .map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    /// RFC 7541, C.6: three answers of one connection, with Huffman's code and a table that overflows.
    #[test]
    fn a_block_that_unfolds_without_end_is_refused() {
        // An entry that nearly fills the table, then its index, again and again.
        let mut block = vec![0x40, 1, b'x', 0x7f];
        let mut rest = 3900 - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        block.push(rest as u8);
        block.extend(std::iter::repeat_n(b'a', 3900));
        let once = block.len();
        block.extend(std::iter::repeat_n(0xbe, 8));
        assert_eq!(Decoder::default().read(&block).map(|h| h.len()), Some(9));
        block.truncate(once);
        block.extend(std::iter::repeat_n(0xbe, 10_000));
        assert_eq!(Decoder::default().read(&block), None);
    }

    #[test]
    fn the_examples_of_the_standard() {
        let mut decoder = Decoder {
            limit: 256,
            ..Decoder::default()
        };
        let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        let read = said(&decoder.read(&hex(first)).unwrap());
        assert_eq!((read[0].as_str(), read[1].as_str()), (":status=302", "cache-control=private"));
        assert_eq!(
            (read[2].as_str(), read[3].as_str()),
            ("date=Mon, 21 Oct 2013 20:13:21 GMT", "location=https://www.example.com")
        );
        let second = said(&decoder.read(&hex("4883 640e ffc1 c0bf")).unwrap());
        assert_eq!(
            (second[0].as_str(), second[3].as_str()),
            (":status=307", "location=https://www.example.com")
        );
        assert_eq!(decoder.table.len(), 4, "302 has left the table");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut block = Vec::new();
        put(&mut block, "grpc-status", "0");
        put(&mut block, "long", &"x".repeat(300));
        let read = said(&Decoder::default().read(&block).unwrap());
        assert_eq!(read, ["grpc-status=0".to_owned(), format!("long={}", "x".repeat(300))]);
    }

    #[test]
    fn every_symbol_has_its_code_and_rubbish_has_none() {
        // RFC 7541, appendix B: `0` is 00000, `a` 00011, `&` 11111000, NUL 1111111111000.
        for (raw, expected) in [("07", &b"0"[..]), ("1f", b"a"), ("f8", b"&"), ("ffc7", b"\0")] {
            assert_eq!(unpack(&hex(raw)).as_deref(), Some(expected), "{raw}");
        }
        for bad in ["00", "ff", "ffffffff", "f8ff"] {
            assert_eq!(unpack(&hex(bad)), None, "{bad}");
        }
        for bad in ["80", "be", "ffffffff7f", "3fe21f", "007f", "0001"] {
            assert!(Decoder::default().read(&hex(bad)).is_none(), "{bad}");
        }
    }
}
