//! A reader of tar archives, for hostile ones: ustar, GNU and pax, every allocation bounded.
//!
//! Formats: POSIX.1-2017 `pax`, and the GNU tar manual ("Basic Tar Format", "Storing Sparse
//! Files"). The `tar` crate reads a long name or a pax header of any size into memory, and knows
//! no sparse file of the pax forms; that is why this one exists.

mod pax;
mod sparse;

use crate::error::invalid;
use pax::Pax;
use std::io::{self, Read};

pub(crate) const BLOCK: usize = 512;
/// Bytes of one pax header or long name. Go's reader has the same bound.
const MAX_EXTENSION: u64 = 1 << 20;
/// Bytes of all extensions before one entry.
const MAX_EXTENSIONS: u64 = 4 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// Another name of a file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Dir,
    /// A pipe.
    Fifo,
}

/// Seconds and nanoseconds since 1970.
pub(crate) type Time = (i64, u32);

/// One entry, without its data.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name as it stands in the archive: it may lead anywhere.
    pub path: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions and set-id bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When it was changed.
    pub mtime: Time,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Pieces of the file that the archive has: offset and length, in order; `None` for all of it.
    pub pieces: Option<Vec<(u64, u64)>>,
}

/// Reads entries one by one; [`Read`] gives the data of the current one.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    /// Bytes of the current entry's data that are still to come, and the padding behind them.
    left: u64,
    padding: u64,
    done: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads `inner` from its beginning.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
            done: false,
        }
    }

    /// The next entry, or `None` at the end of the archive.
    ///
    /// # Errors
    /// Where the archive cannot be read, is malformed, or passes a bound.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut pax = Pax::default();
        let (mut long_path, mut long_link) = (None, None);
        let mut extensions = 0;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extensions == 0 {
                    Ok(None)
                } else {
                    Err(invalid("the archive ends after an extended header"))
                };
            };
            let size = header.size()?;
            if b"xgLK".contains(&header.flag()) {
                extensions += size + BLOCK as u64;
                if size > MAX_EXTENSION || extensions > MAX_EXTENSIONS {
                    return Err(invalid("an extended header is larger than 1 MiB"));
                }
            }
            self.expect(size);
            match header.flag() {
                b'x' => pax.read(&self.whole()?)?,
                // Global headers hold comments (git writes its commit there); Go's users skip them too.
                b'g' => {}
                b'L' => long_path = Some(until_nul(self.whole()?)),
                b'K' => long_link = Some(until_nul(self.whole()?)),
                _ => return self.entry(&header, pax, long_path, long_link).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Entry> {
        let path = pax
            .sparse
            .name
            .clone()
            .or(pax.path)
            .or(long_path)
            .unwrap_or_else(|| header.path());
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link());
        let kind = match header.flag() {
            0 if path.ends_with(b"/") => Kind::Dir,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&path).into_owned();
                return Err(invalid(format!(
                    "entry {name:?} has the type {:?}, which no layer has",
                    char::from(other)
                )));
            }
        };
        // Only files have data; some old archives give directories and links a size all the same.
        let stored = if kind == Kind::File {
            pax.size.map_or_else(|| header.size(), Ok)?
        } else {
            0
        };
        self.expect(stored);
        let mut entry = Entry {
            path,
            link,
            kind,
            mode: (header.number(100..108)? & 0o7777) as u32,
            uid: narrow(
                pax.uid.map_or_else(|| header.number(108..116), Ok)?,
                "owner",
            )?,
            gid: narrow(
                pax.gid.map_or_else(|| header.number(116..124), Ok)?,
                "group",
            )?,
            mtime: pax
                .mtime
                .map_or_else(|| header.number(136..148).map(|s| (s, 0)), Ok)?,
            device: (0, 0),
            xattrs: pax.xattrs,
            size: stored,
            pieces: None,
        };
        if matches!(kind, Kind::Char | Kind::Block) {
            entry.device = (
                narrow(header.number(329..337)?, "major")?,
                narrow(header.number(337..345)?, "minor")?,
            );
        }
        if kind == Kind::File {
            self.pieces(header, pax.sparse, &mut entry)?;
        }
        Ok(entry)
    }

    /// Whether the file is sparse, and where its pieces lie.
    fn pieces(
        &mut self,
        header: &Header,
        pax: sparse::PaxSparse,
        entry: &mut Entry,
    ) -> io::Result<()> {
        let (pieces, size) = if header.flag() == b'S' {
            // The map's further blocks stand between header and data, and do not count as data.
            sparse::old_gnu(header, &mut self.inner)?
        } else if let Some(found) = pax.read(self)? {
            found
        } else {
            return Ok(());
        };
        sparse::check(&pieces, size, self.left)?;
        entry.size = size;
        entry.pieces = Some(pieces);
        Ok(())
    }

    /// One header block, checked; `None` at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|b| *b != 0) {
            let header = Header(block);
            return if header.checksum_fits() {
                Ok(Some(header))
            } else {
                Err(invalid("a tar header has a wrong checksum"))
            };
        }
        self.done = true;
        match self.block()? {
            Some(second) if second.iter().any(|b| *b != 0) => {
                Err(invalid("something follows the end of the tar archive"))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> io::Result<Option<Box<[u8; BLOCK]>>> {
        let mut block = Box::new([0; BLOCK]);
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(invalid("the tar archive ends in the middle of a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some(block))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The data of an extension, whose size is bounded already.
    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }

    fn skip(&mut self) -> io::Result<()> {
        if self.left > 0 {
            io::copy(self, &mut io::sink())?;
        }
        let padding = std::mem::take(&mut self.padding);
        if padding == 0 {
            return Ok(());
        }
        // The padding behind the very last entry may be missing.
        io::copy(&mut self.inner.by_ref().take(padding), &mut io::sink())?;
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(invalid("the tar archive ends in the middle of a file"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// For a stream that lies in buffers already.
impl<R: io::BufRead> TarReader<R> {
    /// Gives the rest of the current entry's data to `write`, as it lies there.
    pub(crate) fn copy_to(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while self.left > 0 {
            let data = match self.inner.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if data.is_empty() {
                return Err(invalid("the tar archive ends in the middle of a file"));
            }
            let take = data
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            write(&data[..take])?;
            self.inner.consume(take);
            self.left -= take as u64;
        }
        Ok(())
    }
}

/// For an archive whose data need not be read to be passed over.
impl TarReader<crate::source::Range<'_>> {
    /// Where the data of the current entry lies in the file, and passes over it.
    pub(crate) fn pass(&mut self) -> (u64, u64) {
        let at = self.inner.position();
        let length = std::mem::take(&mut self.left);
        self.inner.advance(length);
        (at, length)
    }
}

/// One header block.
struct Header(Box<[u8; BLOCK]>);

impl Header {
    fn flag(&self) -> u8 {
        self.0[156]
    }

    fn checksum_fits(&self) -> bool {
        let bytes = self
            .0
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
        let sum: i64 = bytes.clone().map(i64::from).sum();
        // Some old writers summed signed bytes.
        let signed: i64 = bytes.map(|b| i64::from(b as i8)).sum();
        self.number(148..156)
            .is_ok_and(|found| found == sum || found == signed)
    }

    fn size(&self) -> io::Result<u64> {
        u64::try_from(self.number(124..136)?)
            .map_err(|_| invalid("a tar header has a negative size"))
    }

    fn path(&self) -> Vec<u8> {
        let name = until_nul(self.0[..100].to_vec());
        let prefix = until_nul(self.0[345..500].to_vec());
        // The GNU format (magic with a blank) keeps other things where ustar has its prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            [&prefix[..], b"/", &name].concat()
        } else {
            name
        }
    }

    fn link(&self) -> Vec<u8> {
        until_nul(self.0[157..257].to_vec())
    }

    /// A number in octal digits, or in base 256 where the first bit is set.
    fn number(&self, field: std::ops::Range<usize>) -> io::Result<i64> {
        number(&self.0[field])
    }
}

fn number(field: &[u8]) -> io::Result<i64> {
    let bad = || invalid("a number in a tar header is not valid");
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        // Two's complement, big-endian; the very first bit is only the mark.
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x3f };
        let mut value = i128::from(if negative {
            first as i8
        } else {
            first as i8 & 0x7f
        });
        for byte in &field[1..] {
            value = value << 8 | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| bad());
    }
    let text = field
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    i64::from_str_radix(text, 8).map_err(|_| bad())
}

fn narrow(value: i64, what: &str) -> io::Result<u32> {
    // u32::MAX is "leave as it is" to chown, and no id.
    u32::try_from(value)
        .ok()
        .filter(|v| *v != u32::MAX)
        .ok_or_else(|| {
            invalid(format!(
                "the {what} number {value} in a tar header is out of range"
            ))
        })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
mod tests;
