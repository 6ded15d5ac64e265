#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn header(name: &str, flag: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().div_ceil(BLOCK) * BLOCK, 0);
    out
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let data: String = records.iter().map(|(k, v)| record(k, v)).collect();
    [
        header("pax", b'x', data.len() as u64),
        padded(data.as_bytes()),
    ]
    .concat()
}

fn first(archive: &[u8]) -> io::Result<(Entry, Vec<u8>)> {
    let mut reader = TarReader::new(archive);
    let entry = reader.next()?.expect("an entry");
    let mut data = Vec::new();
    reader.read_to_end(&mut data)?;
    reader.next()?;
    Ok((entry, data))
}

#[test]
fn numbers_are_octal_or_base_256() {
    for (field, want) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"    644 ", Some(0o644)),
        (b"\0\0\0\0", Some(0)),
        (&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256)),
        (&[0xff; 12], Some(-1)),
        (
            &[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            None,
        ),
        (b"-1", None),
        (b"+7", None),
        (b"9", None),
        (b"7777777777777777777777777", None),
    ] {
        assert_eq!(number(field).ok(), want, "{field:?}");
    }
}

#[test]
fn long_names_of_gnu_and_pax() {
    let long = "d/".repeat(400) + "f";
    let gnu = [
        header("././@LongLink", b'L', long.len() as u64 + 1),
        padded(long.as_bytes()),
        header("d/d", b'0', 3),
        padded(b"abc"),
    ]
    .concat();
    let (entry, data) = first(&gnu).unwrap();
    assert_eq!(
        (entry.path, &data[..]),
        (long.clone().into_bytes(), &b"abc"[..])
    );

    let records = [
        ("path", long.as_str()),
        ("uid", "4000000"),
        ("mtime", "7.5"),
        ("SCHILY.xattr.user.k", "v"),
    ];
    let (entry, _) = first(&[pax(&records), header("x", b'0', 0)].concat()).unwrap();
    assert_eq!(
        (entry.path, entry.uid, entry.mtime),
        (long.into_bytes(), 4_000_000, (7, 500_000_000))
    );
    assert_eq!(entry.xattrs, [(b"user.k".to_vec(), b"v".to_vec())]);
}

#[test]
fn sparse_files_in_all_four_forms() {
    // A file of 10000 bytes with "abc" at 0 and "de" at 5000.
    let pieces = Some(vec![(0, 3), (5000, 2)]);
    let check = |name: &str, archive: Vec<u8>| {
        let (entry, data) = first(&archive).unwrap();
        assert_eq!(
            (entry.size, &entry.pieces, &data[..], &entry.path[..]),
            (10000, &pieces, &b"abcde"[..], &b"f"[..]),
            "{name}"
        );
    };

    let mut old = header("f", b'S', 5);
    for (at, text) in [
        (386, "00000000000"),
        (398, "00000000003"),
        (410, "00000011610"),
        (422, "00000000002"),
        (483, "00000023420"),
    ] {
        old[at..at + 11].copy_from_slice(text.as_bytes());
    }
    let mut whole = tar::Header::from_byte_slice(&old).clone();
    whole.set_cksum();
    check(
        "old GNU",
        [whole.as_bytes().to_vec(), padded(b"abcde")].concat(),
    );

    let offsets = [
        ("GNU.sparse.size", "10000"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "3"),
        ("GNU.sparse.offset", "5000"),
        ("GNU.sparse.numbytes", "2"),
    ];
    check(
        "0.0",
        [pax(&offsets), header("f", b'0', 5), padded(b"abcde")].concat(),
    );
    let map = [
        ("GNU.sparse.size", "10000"),
        ("GNU.sparse.map", "0,3,5000,2"),
        ("GNU.sparse.name", "f"),
    ];
    check(
        "0.1",
        [
            pax(&map),
            header("GNUSparseFile.1/f", b'0', 5),
            padded(b"abcde"),
        ]
        .concat(),
    );
    let one = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "10000"),
        ("GNU.sparse.name", "f"),
    ];
    let data = [padded(b"2\n0\n3\n5000\n2\n"), b"abcde".to_vec()].concat();
    check(
        "1.0",
        [
            pax(&one),
            header("GNUSparseFile.1/f", b'0', data.len() as u64),
            padded(&data),
        ]
        .concat(),
    );
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for map in [
        "0,3,2,2",
        "5000,3,0,2",
        "9999,5",
        "0,4",
        "0,3,5000",
        "18446744073709551615,5",
    ] {
        let archive = [
            pax(&[("GNU.sparse.size", "10000"), ("GNU.sparse.map", map)]),
            header("f", b'0', 5),
            padded(b"abcde"),
        ]
        .concat();
        assert!(first(&archive).is_err(), "{map}");
    }
    let endless = [
        pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1")]),
        header("f", b'0', 512),
        vec![b'1'; 512],
    ]
    .concat();
    assert!(first(&endless).is_err());
    let many = [
        pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1")]),
        header("f", b'0', 512),
        padded(b"99999999\n"),
    ]
    .concat();
    assert!(first(&many).is_err());
}

#[test]
fn broken_archives_are_refused() {
    let mut wrong_sum = header("f", b'0', 0);
    wrong_sum[0] = b'g';
    let mut owner = tar::Header::from_byte_slice(&header("f", b'0', 0)).clone();
    owner.set_uid(u64::from(u32::MAX));
    owner.set_cksum();
    for (what, archive, why) in [
        ("checksum", wrong_sum, "checksum"),
        ("half a header", vec![b'x'; 100], "middle of a header"),
        (
            "half a file",
            [header("f", b'0', 1000), vec![1; 512]].concat(),
            "middle of a file",
        ),
        (
            "size without end",
            header("f", b'0', 1 << 40),
            "middle of a file",
        ),
        ("pax of 2 MiB", header("p", b'x', 2 << 20), "1 MiB"),
        ("long name of 1 TiB", header("p", b'L', 1 << 40), "1 MiB"),
        (
            "five long names",
            [header("p", b'L', 1 << 20), vec![b'a'; 1 << 20]]
                .concat()
                .repeat(5),
            "1 MiB",
        ),
        (
            "lone extension",
            pax(&[("path", "a")]),
            "after an extended header",
        ),
        (
            "garbage behind the end",
            [vec![0; 512], vec![1; 512]].concat(),
            "follows the end",
        ),
        ("odd type", header("f", b'V', 0), "type 'V'"),
        ("owner -1", owner.as_bytes().to_vec(), "owner"),
    ] {
        let error = first(&archive).unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    assert!(TarReader::new(&b""[..]).next().unwrap().is_none());
}

#[test]
fn no_bytes_make_it_panic_or_run_on() {
    let sparse = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.realsize", "9000"),
        ("GNU.sparse.name", "f"),
        ("mtime", "1.5"),
    ];
    let data = [padded(b"1\n5000\n2\n"), b"ab".to_vec()].concat();
    let good = [
        header("p", b'L', 3),
        padded(b"ab\0"),
        header("d/f", b'0', 700),
        padded(&[7; 700]),
        pax(&sparse),
        header("f", b'0', data.len() as u64),
        padded(&data),
        header("s", b'S', 0),
        header("l", b'2', 0),
        vec![0; 1024],
    ]
    .concat();
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut bad = good.clone();
        let block = next(good.len() / BLOCK) * BLOCK;
        for _ in 0..=next(4) {
            bad[block + next(BLOCK)] = *b"\0\xff\x80079 =,\n-xgSL".get(next(20)).unwrap_or(&b'1');
        }
        bad.truncate(if next(4) == 0 {
            next(good.len())
        } else {
            good.len()
        });
        // Half of them with a checksum that fits, or nothing but that would be tested.
        if next(2) == 0 && bad.len() >= block + BLOCK {
            let mut header = tar::Header::from_byte_slice(&bad[block..block + BLOCK]).clone();
            header.set_cksum();
            bad[block..block + BLOCK].copy_from_slice(header.as_bytes());
        }
        let mut reader = TarReader::new(&bad[..]);
        let mut entries = 0;
        while let Ok(Some(_)) = reader.next() {
            entries += 1;
            if io::copy(&mut reader, &mut io::sink()).is_err() {
                break;
            }
        }
        assert!(entries <= good.len() / BLOCK);
    }
}
