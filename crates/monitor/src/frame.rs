//! Frames: a little-endian `u32` length, then that many bytes of postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, Read};

/// Bytes of the length.
pub const HEADER: usize = 4;

/// Why bytes are not a frame, or a value not fit for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    /// The body would be this long.
    TooLong(usize),
    /// The body is not the value that is expected here.
    Malformed,
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "a frame of {n} bytes is longer than this protocol allows"),
            Self::Malformed => f.write_str("a frame does not hold what this protocol expects there"),
        }
    }
}

impl std::error::Error for Garbage {}

/// Appends `value` as a frame to `out`. Nothing is appended where its body is longer than `max`.
pub fn encode<T: Serialize>(value: &T, max: usize, out: &mut Vec<u8>) -> Result<(), Garbage> {
    let body = postcard::to_stdvec(value).map_err(|_| Garbage::Malformed)?;
    let length = u32::try_from(body.len()).map_err(|_| Garbage::TooLong(body.len()))?;
    if body.len() > max {
        return Err(Garbage::TooLong(body.len()));
    }
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Takes one value from the front of `input`: the value and how many bytes it took; `None` while
/// it is not there whole. Bytes left over within a frame are refused.
pub fn decode<T: DeserializeOwned>(input: &[u8], max: usize) -> Result<Option<(T, usize)>, Garbage> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*header) as usize;
    if length > max {
        return Err(Garbage::TooLong(length));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    Ok(Some((parse(body)?, HEADER + length)))
}

/// Reads one value. The inner error is [`Garbage`]; an end before or within it is
/// `UnexpectedEof`.
pub fn read<T: DeserializeOwned>(from: &mut impl Read, max: usize) -> io::Result<Result<T, Garbage>> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let length = u32::from_le_bytes(header) as usize;
    if length > max {
        return Ok(Err(Garbage::TooLong(length)));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(parse(&body))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Garbage> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(Garbage::Malformed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::{MAX_FRAME, Request};

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        encode(&Request::Wait { key: "a".into() }, MAX_FRAME, &mut bytes).unwrap();
        encode(&Request::List, MAX_FRAME, &mut bytes).unwrap();
        let first = {
            let (value, used) = decode::<Request>(&bytes, MAX_FRAME).unwrap().unwrap();
            assert!(matches!(value, Request::Wait { key } if key == "a"));
            used
        };
        for cut in 0..first {
            assert!(decode::<Request>(&bytes[..cut], MAX_FRAME).unwrap().is_none(), "{cut}");
        }
        let (value, used) = decode::<Request>(&bytes[first..], MAX_FRAME).unwrap().unwrap();
        assert!(matches!(value, Request::List));
        assert_eq!(first + used, bytes.len());
        let mut reader = bytes.as_slice();
        assert!(read::<Request>(&mut reader, MAX_FRAME).unwrap().is_ok());
        assert!(read::<Request>(&mut reader, MAX_FRAME).unwrap().is_ok());
        assert_eq!(read::<Request>(&mut reader, MAX_FRAME).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn garbage_is_refused() {
        let long = (MAX_FRAME as u32 + 1).to_le_bytes();
        assert_eq!(decode::<Request>(&long, MAX_FRAME).unwrap_err(), Garbage::TooLong(MAX_FRAME + 1));
        assert_eq!(decode::<Request>(&[1, 0, 0, 0, 0xff], MAX_FRAME).unwrap_err(), Garbage::Malformed);
        assert_eq!(decode::<Request>(&[0, 0, 0, 0], MAX_FRAME).unwrap_err(), Garbage::Malformed);
        let mut trailing = Vec::new();
        encode(&Request::List, MAX_FRAME, &mut trailing).unwrap();
        trailing[0] += 1;
        trailing.push(7);
        assert_eq!(decode::<Request>(&trailing, MAX_FRAME).unwrap_err(), Garbage::Malformed);
        let mut out = vec![9];
        let big = Request::Await { key: String::new(), socket: String::new(), payload: vec![0; 100] };
        assert_eq!(encode(&big, 50, &mut out).unwrap_err(), Garbage::TooLong(104));
        assert_eq!(out, [9]);
    }
}
