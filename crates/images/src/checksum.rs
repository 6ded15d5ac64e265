//! XXH64: a fast checksum of file contents.
//!
//! It finds what disks and interrupted writes do to a file, at the speed of memory. It proves nothing
//! about who wrote the file; digests of blobs and layers are SHA-256. Algorithm: "xxHash fast digest
//! algorithm", version 0.1.1, section XXH64.

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];
const STRIPE: usize = 32;

/// A checksum under way, with seed 0.
pub(crate) struct Checksum {
    lanes: [u64; 4],
    /// Bytes that do not fill a stripe yet.
    rest: [u8; STRIPE],
    filled: usize,
    length: u64,
}

impl Checksum {
    pub(crate) fn new() -> Self {
        let [first, second, ..] = PRIMES;
        let lanes = [first.wrapping_add(second), second, 0, 0u64.wrapping_sub(first)];
        Self {
            lanes,
            rest: [0; STRIPE],
            filled: 0,
            length: 0,
        }
    }

    /// Adds `data`.
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        self.length = self.length.wrapping_add(data.len() as u64);
        if self.filled > 0 {
            let take = data.len().min(STRIPE - self.filled);
            self.rest[self.filled..self.filled + take].copy_from_slice(&data[..take]);
            self.filled += take;
            data = &data[take..];
            if self.filled < STRIPE {
                return;
            }
            let rest = self.rest;
            self.stripe(&rest);
        }
        let mut stripes = data.chunks_exact(STRIPE);
        for stripe in &mut stripes {
            self.stripe(stripe);
        }
        self.filled = stripes.remainder().len();
        self.rest[..self.filled].copy_from_slice(stripes.remainder());
    }

    /// Adds `count` zeros: the holes of a sparse file.
    pub(crate) fn zeros(&mut self, mut count: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let take = ZEROS.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.update(&ZEROS[..take]);
            count -= take as u64;
        }
    }

    fn stripe(&mut self, stripe: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, word64(word));
        }
    }

    /// The checksum of all that was added.
    pub(crate) fn finish(&self) -> u64 {
        let [p1, p2, p3, p4, p5] = PRIMES;
        let mut hash = if self.length >= STRIPE as u64 {
            let turned = self.lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
            let sum = turned.fold(0u64, u64::wrapping_add);
            self.lanes
                .iter()
                .fold(sum, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(p1).wrapping_add(p4))
        } else {
            p5
        };
        hash = hash.wrapping_add(self.length);
        let mut words = self.rest[..self.filled].chunks_exact(8);
        for word in &mut words {
            hash = (hash ^ round(0, word64(word))).rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
        }
        let mut halves = words.remainder().chunks_exact(4);
        for half in &mut halves {
            let half = half.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            hash = (hash ^ half.wrapping_mul(p1)).rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
        }
        for byte in halves.remainder() {
            hash = (hash ^ u64::from(*byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(p2);
        hash = (hash ^ hash >> 29).wrapping_mul(p3);
        hash ^ hash >> 32
    }
}

fn round(lane: u64, word: u64) -> u64 {
    let [p1, p2, ..] = PRIMES;
    lane.wrapping_add(word.wrapping_mul(p2)).rotate_left(31).wrapping_mul(p1)
}

/// Eight bytes, little-endian.
fn word64(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut sum = Checksum::new();
        for part in parts {
            sum.update(part);
        }
        sum.finish()
    }

    #[test]
    fn known_values_come_out() {
        for (text, want) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ] {
            assert_eq!(of(&[text.as_bytes()]), want, "{text}");
        }
    }

    #[test]
    fn parts_make_no_difference() {
        let data: Vec<u8> = (0..200u8).collect();
        for cut in 0..data.len() {
            assert_eq!(of(&[&data[..cut], &data[cut..]]), of(&[&data]), "{cut}");
        }
        let mut holes = Checksum::new();
        holes.update(b"x");
        holes.zeros(100_000);
        assert_eq!(holes.finish(), of(&[b"x", &[0; 100_000]]));
    }
}
