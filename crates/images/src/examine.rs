//! Parsers of hostile input alone, without a store: for fuzzers.

use crate::compress;
use crate::config;
use crate::digest::Metered;
use crate::limits::Limits;
use crate::manifest::{self, Parsed};
use crate::platform::Platform;
use crate::tarball::TarReader;
use std::io::{self, BufReader};

/// Reads a manifest or index as a registry would give it, and chooses from an index as a pull does.
///
/// # Errors
/// The sentence that a pull would give.
pub fn manifest(data: &[u8], media_type: &str) -> Result<(), String> {
    match manifest::parse(data, media_type)? {
        Parsed::Manifest { .. } => Ok(()),
        Parsed::Index(entries) => manifest::choose(entries, &Platform::host()).map(drop),
    }
}

/// Reads an image configuration.
///
/// # Errors
/// The sentence that a load would give.
pub fn configuration(data: &[u8]) -> Result<(), String> {
    let (_, diff_ids) = config::parse(data)?;
    config::chain(&diff_ids);
    Ok(())
}

/// Reads a layer, compressed or not, to its end, and makes nothing. Returns the count of its entries.
///
/// # Errors
/// What is wrong with the compression or with the archive, or that a bound is reached.
pub fn layer(data: &[u8], limits: &Limits) -> io::Result<u64> {
    let plain = Metered::new(compress::decoder(data)?, limits.free_growth_bytes, "the layer is too large");
    let mut reader = TarReader::new(BufReader::new(plain));
    let mut entries = 0;
    while reader.next()?.is_some() {
        reader.copy_to(|_| Ok(()))?;
        entries += 1;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn bytes_that_were_changed_at_random_never_panic() {
        let digest = crate::Digest::of(b"");
        let descriptor = format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#);
        let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#).into_bytes();
        let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#).into_bytes();
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        archive.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        let plain = archive.into_inner().unwrap();
        let packed = zstd::stream::encode_all(&plain[..], 1).unwrap();
        assert_eq!((manifest(&image, ""), configuration(&config)), (Ok(()), Ok(())));
        assert_eq!(
            (
                layer(&plain, &Limits::default()).unwrap(),
                layer(&packed, &Limits::default()).unwrap()
            ),
            (1, 1)
        );
        let mut state = 1u64;
        for _ in 0..3000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            for seed in [&image, &config, &plain, &packed] {
                let mut data = seed.clone();
                let at = (state >> 33) as usize % data.len();
                data[at] = (state >> 20) as u8;
                data.truncate(data.len() - (state >> 50) as usize % 3);
                let _ = (manifest(&data, ""), configuration(&data), layer(&data, &Limits::default()));
            }
        }
    }
}
