//! Damage that is found, mended, and told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, FsckReport, Image, PruneOptions, PullOptions, Reference, Remote, Store};
use common::registry::*;
use common::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn sentences(report: &FsckReport) -> Vec<String> {
    report.findings.iter().map(|finding| finding.sentence.clone()).collect()
}

fn layers() -> [Vec<u8>; 2] {
    let base = Layer::new()
        .dir("d")
        .file("d/f", b"content")
        .link("d/g", "d/f")
        .symlink("s", "d/f")
        .node("null", b'3', 1, 3);
    let attributes = [
        ("SCHILY.xattr.user.mine", "1"),
        ("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ];
    let top = Layer::new().pax(&attributes).file("d/h", b"more").file("d/.wh.g", b"");
    [base.end(), top.end()]
}

/// Sets a file back to how it was dated.
fn keep_times(path: &Path, change: impl FnOnce()) {
    let parent = path.parent().unwrap();
    let of = |path: &Path| fs::symlink_metadata(path).ok().and_then(|meta| meta.modified().ok());
    let (own, above) = (of(path), of(parent).unwrap());
    change();
    if let (Some(own), Ok(file)) = (own, fs::File::open(path)) {
        file.set_modified(own).unwrap();
    }
    fs::File::open(parent).unwrap().set_modified(above).unwrap();
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn pulled(registry: &Registry, fixture: &Fixture) -> Image {
    registry.simple(&layers(), "1");
    fixture
        .store
        .pull(&Reference::parse("x:1").unwrap(), registry, PullOptions::default())
        .unwrap()
        .image
}

fn repaired(store: &Store, registry: Option<&Registry>) -> FsckReport {
    let remote = |reference: &Reference| {
        assert_eq!(reference.repository(), "docker.io/library/x");
        registry.map(|registry| Box::new(registry.clone()) as Box<dyn Remote>)
    };
    store.fsck(Some(&remote), &|_| ()).unwrap()
}

#[test]
fn each_kind_of_damage_to_a_layer_is_found_and_mended() {
    type Harm = fn(&Path);
    let rows: [(&str, Harm); 12] = [
        ("content", |t| {
            keep_times(&t.join("d/f"), || fs::write(t.join("d/f"), "CONTENT").unwrap())
        }),
        ("cut off", |t| {
            keep_times(&t.join("d/f"), || fs::write(t.join("d/f"), "cont").unwrap())
        }),
        ("mode", |t| {
            fs::set_permissions(t.join("d/f"), fs::Permissions::from_mode(0o4755)).unwrap()
        }),
        ("owner", |t| std::os::unix::fs::lchown(t.join("s"), Some(1), None).unwrap()),
        ("date", |t| {
            fs::File::open(t.join("d/f"))
                .unwrap()
                .set_modified(std::time::SystemTime::now())
                .unwrap()
        }),
        ("attribute", |t| set(&t.join("d"), "user.other", b"1")),
        ("opaque", |t| set(&t.join("d"), "trusted.overlay.opaque", b"y")),
        ("missing", |t| {
            keep_times(&t.join("d/g"), || fs::remove_file(t.join("d/g")).unwrap())
        }),
        ("one too many", |t| {
            keep_times(&t.join("d/z"), || fs::write(t.join("d/z"), "").unwrap())
        }),
        ("no link any more", |t| {
            keep_times(&t.join("d/g"), || {
                fs::remove_file(t.join("d/g")).unwrap();
                fs::copy(t.join("d/f"), t.join("d/g")).unwrap();
                let date = fs::metadata(t.join("d/f")).unwrap().modified().unwrap();
                fs::File::open(t.join("d/g")).unwrap().set_modified(date).unwrap();
            });
        }),
        ("another device", |t| {
            keep_times(&t.join("null"), || {
                fs::remove_file(t.join("null")).unwrap();
                run(
                    "sh",
                    &[
                        "-c",
                        &format!("cd {}; mknod -m 644 null c 1 5; touch -d @1000000000 null", t.display()),
                    ],
                );
            });
        }),
        ("all of it", |t| fs::remove_dir_all(t.parent().unwrap()).unwrap()),
    ];
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let image = pulled(&registry, &fixture);
    let list = "find . -mindepth 1 -printf '%P %y %m %U %G %T@ %s %l\\n' | sort; cat d/f d/h";
    let before = fixture.in_overlay(&image, list);
    let good = fixture.store.fsck(None, &|_| ()).unwrap();
    assert_eq!((good.images, good.layers, good.unverified, sentences(&good)), (1, 2, 0, Vec::new()));
    assert!(good.bytes > 11);
    for (what, harm) in rows {
        harm(&image.layers[0]);
        let found = fixture.store.fsck(None, &|_| ()).unwrap();
        assert_eq!(found.findings.len(), 1, "{what}: {:?}", sentences(&found));
        assert!(
            found.findings[0].sentence.contains("repair the store") && !found.findings[0].repaired,
            "{what}"
        );
        // From the kept content: nobody is asked.
        let mended = repaired(&fixture.store, None);
        assert!(
            mended.findings.len() == 1 && mended.findings[0].repaired,
            "{what}: {:?}",
            sentences(&mended)
        );
        assert!(
            mended.findings[0]
                .sentence
                .contains("unpacked again; containers that run keep the old files"),
            "{what}"
        );
        assert_eq!(
            sentences(&fixture.store.fsck(None, &|_| ()).unwrap()),
            Vec::<String>::new(),
            "{what}"
        );
        assert_eq!(fixture.in_overlay(&image, list), before, "{what}");
    }
}

#[test]
fn what_is_not_kept_comes_from_the_registry() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let image = pulled(&registry, &fixture);
    registry.asked();
    let blob = |digest: &Digest| fixture.root().join("blobs/sha256").join(digest.hex());
    let packed: Vec<_> = layers().iter().map(|layer| Digest::of(&gzip(layer))).collect();
    let manifest = image.target.clone().unwrap();
    fs::write(image.layers[1].join("d/h"), "MORE").unwrap();
    fs::write(blob(&packed[1]), "damaged").unwrap();
    fs::write(blob(&manifest), "damaged").unwrap();
    fs::write(blob(&image.id), "damaged").unwrap();
    // Without a registry: what cannot be mended is told, and why.
    let alone = Fixture::new();
    run(
        "cp",
        &[
            "-a",
            fixture.root().to_str().unwrap(),
            alone.dir.path().join("copy").to_str().unwrap(),
        ],
    );
    let copy = Store::open_with(&alone.dir.path().join("copy"), Default::default(), amd64()).unwrap();
    let report = repaired(&copy, None);
    let text = sentences(&report).join("\n");
    for want in [
        "the configuration of image",
        "the manifest of image",
        "it was removed",
        "could not be unpacked again",
        "load the image again",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
    assert_eq!(
        report.findings.iter().filter(|f| f.repaired).count(),
        1,
        "the damaged content went: {text}"
    );
    // With one.
    let report = repaired(&fixture.store, Some(&registry));
    assert_eq!(report.findings.len(), 4, "{:?}", sentences(&report));
    assert!(report.findings.iter().all(|finding| finding.repaired), "{:?}", sentences(&report));
    assert_eq!(fixture.in_overlay(&fixture.store.resolve("x:1").unwrap(), "cat d/h"), "more");
    assert_eq!(sentences(&fixture.store.fsck(None, &|_| ()).unwrap()), Vec::<String>::new());
    // A registry that has another image under the name is of no use, nor one that lies.
    fs::write(image.layers[0].join("d/f"), "x").unwrap();
    fs::remove_file(blob(&packed[0])).unwrap();
    registry.fault(&gzip(&layers()[0]), Fault::Flipped);
    let report = repaired(&fixture.store, Some(&registry));
    assert!(
        !report.findings[0].repaired && report.findings[0].sentence.contains("damaged or forged"),
        "{:?}",
        sentences(&report)
    );
    assert_eq!(
        fs::read(image.layers[0].join("d/f")).unwrap(),
        b"x",
        "what cannot be mended stays as it is"
    );
    assert!(fixture.names_in("tmp").is_empty());
}

#[test]
fn a_container_that_runs_keeps_its_files_through_a_repair() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let image = pulled(&registry, &fixture);
    let old = fs::File::open(&image.layers[0]).unwrap();
    fs::write(image.layers[0].join("d/f"), "damaged").unwrap();
    repaired(&fixture.store, None);
    assert_eq!(fs::read(image.layers[0].join("d/f")).unwrap(), b"content");
    // What a mount holds is the old directory: nothing in it is gone.
    let held = |name: &str| fs::read(format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&old)));
    assert_eq!(held("d/g").unwrap(), b"damaged");
    Store::open(&fixture.root()).unwrap();
    let prune = |used: bool| {
        let options = PruneOptions {
            all: false,
            content: false,
            partial_older: Duration::MAX,
            in_use: &|_| used.then(|| "pod default/web".to_owned()),
        };
        fixture.store.prune(&options).unwrap()
    };
    prune(true);
    assert_eq!(held("d/g").unwrap(), b"damaged");
    assert!(prune(false).bytes > 0);
    assert!(held("d/g").is_err());
    assert!(fixture.names_in("replaced").is_empty());
    // Those of an earlier boot go when the store is opened.
    let name = format!("{}.00000000-0000-0000-0000-000000000000.1", "f".repeat(64));
    fs::create_dir_all(fixture.root().join("replaced").join(name).join("tree/d")).unwrap();
    Store::open(&fixture.root()).unwrap();
    assert!(fixture.names_in("replaced").is_empty() && fixture.names_in("tmp").is_empty());
}

#[test]
fn names_links_records_and_orphans_are_looked_at() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let image = pulled(&registry, &fixture);
    let short: PathBuf = fixture.store.lower_dirs(&image).unwrap().remove(0);
    fs::remove_file(&short).unwrap();
    fs::create_dir_all(fixture.root().join("layers").join("e".repeat(64)).join("tree")).unwrap();
    let report = fixture.store.fsck(None, &|_| ()).unwrap();
    let text = sentences(&report).join("\n");
    assert_eq!(report.findings.len(), 2, "{text}");
    assert!(text.contains("the link to layer") && text.contains("no image needs it"), "{text}");
    assert!(repaired(&fixture.store, None).findings.iter().all(|finding| finding.repaired));
    assert_eq!(fixture.names_in("layers").len(), 2);
    assert_eq!(fixture.in_overlay(&image, "cat d/h"), "more");
    // A record that is gone leaves names; the registry brings the image back.
    fs::remove_file(fixture.root().join("images").join(format!("{}.json", image.id.hex()))).unwrap();
    let report = fixture.store.fsck(None, &|_| ()).unwrap();
    assert!(
        sentences(&report)
            .join("\n")
            .contains("name docker.io/library/x:1 has no image: pull or load it again")
    );
    let report = repaired(&fixture.store, Some(&registry));
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.repaired && f.sentence.contains("it was pulled again")),
        "{:?}",
        sentences(&report)
    );
    assert_eq!(fixture.store.resolve("x:1").unwrap().id, image.id);
    // One that cannot be read is told until somebody removes it.
    let record = fixture.root().join("images").join(format!("{}.json", image.id.hex()));
    fs::write(&record, "{").unwrap();
    let report = fixture.store.fsck(None, &|_| ()).unwrap();
    assert!(sentences(&report).join("\n").contains("cannot be read"), "{:?}", sentences(&report));
    let store = Store::open(&fixture.root()).unwrap();
    let report = store.fsck(None, &|_| ()).unwrap();
    assert!(
        sentences(&report).join("\n").contains("could not be read"),
        "{:?}",
        sentences(&report)
    );
}
