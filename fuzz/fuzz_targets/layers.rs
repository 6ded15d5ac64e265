//! Any bytes as layers of an image: read to their end within bounds, or refused with one printable
//! line. Unpacked (which needs root) they make nothing outside of the store, what was refused leaves
//! nothing, and what was taken is found whole by the store's own check.
#![no_main]

use cofferdam_fuzz::{Room, mend_tar, names, one_line, small_limits, store_is_empty};
use cofferdam_images::{Digest, Input, LoadOptions, Platform, Store, TarKind, TarReader, examine};
use libfuzzer_sys::fuzz_target;

const PART: &[u8] = b"\n####\n";

/// Entries that a tar of this many bytes can have.
fn most_entries(data: &[u8]) -> u64 {
    data.len() as u64 / 512
}

/// What the reader itself promises of entries.
fn read(data: &[u8]) {
    let mut reader = TarReader::new(data);
    let mut entries = 0;
    loop {
        match reader.next() {
            Ok(Some(entry)) => {
                entries += 1;
                assert!(entry.kind == TarKind::File || entry.size == 0, "{entry:?}");
                assert!(entry.mode <= 0o7777 && entry.mtime.1 < 1_000_000_000, "{entry:?}");
                let mut end = 0;
                for (offset, length) in entry.pieces.iter().flatten() {
                    assert!(*offset >= end, "{entry:?}");
                    end = offset.checked_add(*length).unwrap();
                    assert!(end <= entry.size, "{entry:?}");
                }
            }
            Ok(None) => break,
            Err(error) => {
                one_line(error);
                break;
            }
        }
    }
    assert!(entries <= most_entries(data));
}

/// What `docker save` writes of an image with these layers, lowest first.
fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let listed: Vec<_> = (0..layers.len()).map(|i| format!("\"{i}\"")).collect();
    let manifest = format!(r#"[{{"Config":"c","RepoTags":["f:1"],"Layers":[{}]}}]"#, listed.join(","));
    let mut archive = Vec::new();
    for (name, data) in [
        ("c".to_owned(), config.as_bytes()),
        ("manifest.json".to_owned(), manifest.as_bytes()),
    ]
    .into_iter()
    .chain(layers.iter().enumerate().map(|(i, layer)| (i.to_string(), layer.as_slice())))
    {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        mend_tar(&mut header);
        archive.extend(header);
        archive.extend(data);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn unpack(layers: &[Vec<u8>]) {
    let room = Room::new("layers");
    let host = Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: String::new(),
    };
    let store = Store::open_with(&room.inside(), small_limits(), host).unwrap();
    let machine = names("/".as_ref());
    let loaded = store.load(Input::Stream(&mut archive(layers).as_slice()), &LoadOptions::default(), &());
    room.check();
    assert_eq!(names("/".as_ref()), machine, "something was made at the root of the machine");
    match loaded {
        Ok(loaded) => {
            loaded.iter().flat_map(|l| &l.notes).for_each(one_line);
            assert!(loaded.iter().all(|l| l.image.size <= small_limits().image_bytes));
            let report = store.fsck(None, &|_| ()).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        }
        Err(error) => {
            one_line(error);
            store_is_empty(&room.inside());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let limits = small_limits();
    match examine::layer(data, &limits) {
        Ok(entries) => assert!(entries <= limits.free_growth_bytes / 512),
        Err(error) => one_line(error),
    }
    // A line of its own parts a layer from the one above it.
    let end = data.windows(PART.len()).position(|window| window == PART);
    let (lower, upper) = end.map_or((data, None), |at| (&data[..at], Some(&data[at + PART.len()..])));
    let layers: Vec<_> = std::iter::once(lower)
        .chain(upper)
        .map(|part| {
            let mut layer = part.to_vec();
            mend_tar(&mut layer);
            layer
        })
        .collect();
    layers.iter().for_each(|layer| read(layer));
    let whole = layers.iter().all(|layer| matches!(examine::layer(layer, &limits), Ok(1..)));
    if whole && rustix::process::geteuid().is_root() {
        unpack(&layers);
    }
});
