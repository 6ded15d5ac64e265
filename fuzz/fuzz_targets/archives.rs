//! Any bytes as an archive of images, docker's or an OCI layout: images that the store's own check
//! finds whole, or one printable line and nothing left; and nothing outside of the store.
#![no_main]

use cofferdam_fuzz::{Room, mend_tar, one_line, small_limits, store_is_empty};
use cofferdam_images::{Input, LoadOptions, Platform, Reference, Store};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    mend_tar(&mut data);
    let room = Room::new("archives");
    let host = Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: String::new(),
    };
    let store = Store::open_with(&room.inside(), small_limits(), host).unwrap();
    let loaded = store.load(Input::Stream(&mut data.as_slice()), &LoadOptions::default(), &());
    room.check();
    match loaded {
        Ok(loaded) => {
            for one in loaded {
                one.notes.iter().for_each(one_line);
                for name in &one.names {
                    assert_eq!(Reference::parse(name).unwrap().to_string(), *name);
                    assert_eq!(store.resolve(name).unwrap().id, one.image.id);
                }
            }
            let report = store.fsck(None, &|_| ()).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
        Err(error) => {
            one_line(error);
            // An archive of several images may have brought the first of them.
            if store.list().unwrap().is_empty() {
                store_is_empty(&room.inside());
            }
        }
    }
});
