//! Any bytes as a manifest, an index, a configuration, a reference: taken, or one printable line. A
//! reference that is read prints as what is read as the same.
#![no_main]

use cofferdam_fuzz::one_line;
use cofferdam_images::{Digest, Reference, examine};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 5] = [
    "",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8",
];

fuzz_target!(|data: &[u8]| {
    for told in TYPES {
        if let Err(error) = examine::manifest(data, told) {
            one_line(error);
        }
    }
    if let Err(error) = examine::configuration(data) {
        one_line(error);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Digest::parse(text) {
        Ok(digest) => assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest),
        Err(error) => one_line(error),
    }
    match Reference::parse(text) {
        Ok(reference) => {
            let printed = reference.to_string();
            assert!(printed.bytes().all(|b| b.is_ascii_graphic()), "{printed:?}");
            assert_eq!(Reference::parse(&printed).unwrap(), reference, "{text:?} prints {printed:?}");
            let familiar = reference.familiar();
            assert_eq!(Reference::parse(&familiar).unwrap(), reference, "{text:?} is called {familiar:?}");
            // It becomes a part of a registry's URL.
            assert!(
                !reference.repository().split('/').any(|part| matches!(part, "" | "." | "..")),
                "{printed}"
            );
        }
        Err(error) => one_line(error),
    }
});
