//! Sparse files: the old GNU form and the three pax forms (0.0, 0.1 and 1.0).

use super::pax::{name, unsigned};
use super::{BLOCK, Header, number};
use crate::error::invalid;
use std::io::{self, Read};

/// Pieces of one file. Go's reader has no bound but its 1 MiB of header; this is about the same.
const MAX_PIECES: usize = 64 << 10;

type Pieces = Vec<(u64, u64)>;

/// What `GNU.sparse.*` records say.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    size: Option<u64>,
    numbers: Vec<u64>,
}

impl PaxSparse {
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = Some(unsigned(value)?),
            b"name" => self.name = name(Some(value))?,
            b"size" | b"realsize" => self.size = Some(unsigned(value)?),
            b"offset" | b"numbytes" => self.push(unsigned(value)?)?,
            b"map" => {
                self.numbers.clear();
                for text in value.split(|b| *b == b',').filter(|_| !value.is_empty()) {
                    self.push(unsigned(text)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> io::Result<()> {
        if self.numbers.len() >= 2 * MAX_PIECES {
            return Err(invalid("a sparse file has more than 65536 pieces"));
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Pieces and size, where the entry is a sparse file. Form 1.0 has its map before the data,
    /// in `data`.
    pub(super) fn read<R: Read>(
        mut self,
        data: &mut super::TarReader<R>,
    ) -> io::Result<Option<(Pieces, u64)>> {
        let Some(size) = self.size else {
            return Ok(None);
        };
        if self.major == Some(1) {
            self.numbers.clear();
            self.read_map(data)?;
        }
        if !self.numbers.len().is_multiple_of(2) {
            return Err(invalid(
                "the map of a sparse file ends in the middle of a piece",
            ));
        }
        Ok(Some((
            self.numbers
                .chunks_exact(2)
                .map(|pair| (pair[0], pair[1]))
                .collect(),
            size,
        )))
    }

    /// Decimal numbers, each with a newline: their count of pairs, then the pairs; padded to a block.
    fn read_map(&mut self, data: &mut impl Read) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let mut text = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|wanted| self.numbers.len() < wanted) {
            data.read_exact(&mut block)
                .map_err(|_| invalid("the map of a sparse file is cut off"))?;
            for byte in block {
                if byte != b'\n' {
                    text.push(byte);
                    if text.len() > 20 && wanted.is_none_or(|wanted| self.numbers.len() < wanted) {
                        return Err(invalid("the map of a sparse file is not valid"));
                    }
                    continue;
                }
                let number = unsigned(&std::mem::take(&mut text))?;
                match wanted {
                    None if number > MAX_PIECES as u64 => {
                        return Err(invalid("a sparse file has more than 65536 pieces"));
                    }
                    None => wanted = Some(2 * number as usize),
                    Some(wanted) if self.numbers.len() < wanted => self.push(number)?,
                    Some(_) => {}
                }
                if wanted.is_some_and(|wanted| self.numbers.len() >= wanted) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The old GNU form: four pieces in the header, more in blocks behind it.
pub(super) fn old_gnu(header: &Header, inner: &mut impl Read) -> io::Result<(Pieces, u64)> {
    let mut pieces = Vec::new();
    collect(&header.0[386..482], &mut pieces)?;
    let mut more = header.0[482] != 0;
    let mut block = [0; BLOCK];
    while more {
        inner.read_exact(&mut block)?;
        collect(&block[..504], &mut pieces)?;
        more = block[504] != 0;
    }
    let size = u64::try_from(header.number(483..495)?)
        .map_err(|_| invalid("a sparse file has a negative size"))?;
    Ok((pieces, size))
}

fn collect(table: &[u8], pieces: &mut Pieces) -> io::Result<()> {
    for slot in table.chunks_exact(24) {
        if slot[0] == 0 || slot[12] == 0 {
            break;
        }
        let read = |field| {
            u64::try_from(number(field)?)
                .map_err(|_| invalid("a sparse file has a negative offset"))
        };
        pieces.push((read(&slot[..12])?, read(&slot[12..])?));
        if pieces.len() > MAX_PIECES {
            return Err(invalid("a sparse file has more than 65536 pieces"));
        }
    }
    Ok(())
}

/// Pieces come in order, do not overlap, lie within the file, and are as long together as the data.
pub(super) fn check(pieces: &[(u64, u64)], size: u64, stored: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in pieces {
        let stop = offset
            .checked_add(*length)
            .filter(|stop| *offset >= end && *stop <= size);
        end =
            stop.ok_or_else(|| invalid("the pieces of a sparse file overlap or lie outside it"))?;
        sum = sum.saturating_add(*length);
    }
    if sum == stored {
        Ok(())
    } else {
        Err(invalid(
            "the pieces of a sparse file are not as long as its data",
        ))
    }
}
