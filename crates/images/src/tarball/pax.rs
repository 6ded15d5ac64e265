//! Extended headers: records `length key=value\n`.

use super::Time;
use super::sparse::PaxSparse;
use crate::error::invalid;
use std::io;

/// What the extended headers before one entry say. A later record takes the place of an earlier one.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

impl Pax {
    pub(super) fn read(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let (record, rest) =
                split(data).ok_or_else(|| invalid("an extended tar header has a broken record"))?;
            data = rest;
            let at = record
                .iter()
                .position(|b| *b == b'=')
                .ok_or_else(|| invalid("an extended tar record has no '='"))?;
            self.set(&record[..at], &record[at + 1..])?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let some = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = name(some)?,
            b"linkpath" => self.link = name(some)?,
            b"size" => self.size = some.map(unsigned).transpose()?,
            b"uid" => self.uid = some.map(unsigned).transpose()?.map(signed).transpose()?,
            b"gid" => self.gid = some.map(unsigned).transpose()?.map(signed).transpose()?,
            b"mtime" => self.mtime = some.map(time).transpose()?,
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(old, _)| old != attribute);
                    self.xattrs.push((attribute.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value)?;
                }
                // Names of owners, other times, comments: nothing that a layer keeps.
            }
        }
        Ok(())
    }
}

/// One record without its length and newline, and what follows it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(unsigned(&data[..space]).ok()?).ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

pub(super) fn name(value: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
    if value.is_some_and(|v| v.contains(&0)) {
        return Err(invalid("a name in an extended tar header has a NUL in it"));
    }
    Ok(value.map(<[u8]>::to_vec))
}

pub(super) fn unsigned(text: &[u8]) -> io::Result<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)
        .and_then(|t| t.parse().ok());
    number.ok_or_else(|| invalid("a number in an extended tar header is not valid"))
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| invalid("a number in an extended tar header is out of range"))
}

/// Decimal seconds with an optional sign and fraction.
fn time(text: &[u8]) -> io::Result<Time> {
    let (negative, text) = text
        .strip_prefix(b"-")
        .map_or((false, text), |rest| (true, rest));
    let at = text.iter().position(|b| *b == b'.');
    let (whole, fraction) = at.map_or((text, &b""[..]), |at| (&text[..at], &text[at + 1..]));
    let seconds = if whole.is_empty() {
        0
    } else {
        signed(unsigned(whole)?)?
    };
    let mut nanos = 0;
    for i in 0..9 {
        let digit = fraction.get(i).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return Err(invalid("a time in an extended tar header is not valid"));
        }
        nanos = nanos * 10 + u32::from(digit - b'0');
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        for (text, want) in [
            ("1.5", (1, 500_000_000)),
            ("0", (0, 0)),
            ("-1.25", (-2, 750_000_000)),
            ("-3", (-3, 0)),
            (".1234567899", (0, 123_456_789)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), want, "{text}");
        }
        for bad in ["x", "1.x", "--1", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn broken_records_are_refused() {
        for bad in [
            &b"5 a=b\n"[..],
            b"6 a=b",
            b"0 \n",
            b"99999999999999999999 a=b\n",
            b"x a=b\n",
            b"6 abc\n",
            b"14 path=a\0bcd\n",
            b"10 size=-1\n",
        ] {
            assert!(
                Pax::default().read(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
        let mut pax = Pax::default();
        pax.read(b"8 path=a\n").unwrap_err();
        pax.read(b"9 path=a\n9 path=b\n28 SCHILY.xattr.user.a=x\ny=\n")
            .unwrap();
        assert_eq!(pax.path.unwrap(), b"b");
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"x\ny=".to_vec())]);
    }
}
