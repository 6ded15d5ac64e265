//! Pulling from a registry in memory, honest or not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Error, Image, Limits, Platform, PullEvent, PullOptions, Pulled, Reference, Store};
use common::registry::*;
use common::*;
use serde_json::json;
use std::cell::RefCell;
use std::fs;

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn pull(fixture: &Fixture, registry: &Registry, text: &str) -> Result<Pulled, Error> {
    fixture.store.pull(&name(text), registry, PullOptions::default())
}

fn files(image: &Image) -> Vec<Vec<String>> {
    let list = |dir: &std::path::PathBuf| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    image.layers.iter().map(list).collect()
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Asserts that a failed pull left nothing but parts of layers.
fn assert_nothing(fixture: &Fixture, what: &str, partial: usize) {
    for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
        assert!(fixture.names_in(dir).is_empty(), "{what}: {dir} has {:?}", fixture.names_in(dir));
    }
    assert_eq!(fixture.names_in("partial").len(), partial, "{what}");
    assert!(fixture.store.list().unwrap().is_empty(), "{what}");
}

#[test]
fn every_form_of_image_comes_through() {
    let layer = |name: &str| Layer::new().file(name, name.as_bytes()).end();
    let zstd = |data: &[u8]| zstd::stream::encode_all(data, 3).unwrap();
    for kinds in [&OCI, &DOCKER] {
        let (registry, fixture) = (Registry::default(), Fixture::new());
        let packed = [layer("a"), layer("b"), layer("c")];
        let layers = [
            (packed[0].clone(), gzip(&packed[0])),
            (packed[1].clone(), zstd(&packed[1])),
            (packed[2].clone(), packed[2].clone()),
        ];
        let manifest = registry.image(kinds, "amd64", &layers, None);
        let mut ours = manifest.clone();
        ours["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let mut other = registry.image(kinds, "arm64", &layers[..1], None);
        other["platform"] = json!({"os": "linux", "architecture": "arm64"});
        let index = registry.document(
            kinds[0],
            &json!({"schemaVersion": 2, "mediaType": kinds[0], "manifests": [other, ours]}),
            Some("1"),
        );
        let pulled = pull(&fixture, &registry, "example.com/app:1").unwrap();
        assert_eq!(pulled.digest.to_string(), index["digest"]);
        assert_eq!(files(&pulled.image), [["a"], ["b"], ["c"]]);
        assert_eq!((pulled.layers, pulled.layers_reused), (3, 0));
        assert_eq!(
            pulled.bytes_fetched,
            layers.iter().map(|(_, packed)| packed.len() as u64).sum::<u64>()
        );
        assert_eq!(pulled.image.names, ["example.com/app:1"]);
        assert_eq!(
            pulled.image.repo_digests,
            [format!("example.com/app@{}", index["digest"].as_str().unwrap())]
        );
        assert_eq!(fixture.store.resolve(&pulled.image.repo_digests[0]).unwrap(), pulled.image);
        assert_eq!(fixture.in_overlay(&pulled.image, "cat a b c"), "abc");
        // By the digest of one platform's manifest, and for another platform.
        let text = format!("example.com/app@{}", manifest["digest"].as_str().unwrap());
        let again = pull(&fixture, &registry, &text).unwrap();
        assert_eq!((again.id, again.bytes_fetched, again.layers_reused), (pulled.id, 0, 3));
        let arm = Platform {
            architecture: "arm64".into(),
            ..amd64()
        };
        let options = PullOptions {
            platform: Some(&arm),
            ..PullOptions::default()
        };
        let foreign = fixture.store.pull(&name("example.com/app:arm"), &registry, options);
        assert!(foreign.is_err(), "there is no such tag");
        let options = PullOptions {
            platform: Some(&arm),
            ..PullOptions::default()
        };
        let foreign = fixture.store.pull(&name("example.com/app:1"), &registry, options).unwrap();
        assert_eq!(
            (foreign.image.layers.len(), foreign.image.config.platform.architecture.as_str()),
            (1, "arm64")
        );
    }
}

#[test]
fn layers_that_are_there_are_not_fetched() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let [a, b, c] = ["a", "b", "c"].map(|name| Layer::new().file(name, b"x").end());
    registry.simple(&[a.clone(), b.clone()], "1");
    registry.simple(&[a.clone(), c.clone()], "2");
    // The same layers in another order are other trees, made from the content that is kept.
    registry.simple(&[b.clone(), a.clone(), b.clone()], "3");
    pull(&fixture, &registry, "x:1").unwrap();
    registry.asked();
    let second = pull(&fixture, &registry, "x:2").unwrap();
    assert_eq!((second.layers_reused, second.bytes_fetched), (1, gzip(&c).len() as u64));
    let asked: Vec<_> = registry.asked().into_iter().map(|(digest, _)| digest).collect();
    assert!(asked.contains(&cofferdam_images::Digest::of(&gzip(&c))) && !asked.contains(&cofferdam_images::Digest::of(&gzip(&a))));
    let third = pull(&fixture, &registry, "x:3").unwrap();
    assert_eq!((third.layers_reused, third.bytes_fetched), (3, 0));
    assert_eq!(files(&third.image), [["b"], ["a"], ["b"]]);
    // Where content is not kept, it is fetched.
    let lean = Fixture::new();
    let store = lean.store.clone().keep_content(false);
    store.pull(&name("x:1"), &registry, PullOptions::default()).unwrap();
    assert_eq!(lean.names_in("blobs/sha256").len(), 2, "configuration and manifest");
    assert!(lean.names_in("partial").is_empty());
    let third = store.pull(&name("x:3"), &registry, PullOptions::default()).unwrap();
    assert_eq!(
        third.layers_reused, 1,
        "the second b waits for the first, and reads what that fetched"
    );
    assert_eq!(files(&third.image), [["b"], ["a"], ["b"]]);
}

#[test]
fn layers_that_ask_those_below_come_out_as_in_order() {
    // Whiteouts that hide nothing, parents that no entry describes, and links to files below: the
    // large top layer is unpacked first.
    let big = random(600_000, 7);
    let base = Layer::new()
        .with("d", b'5', "", |h| h.set_mode(0o2750))
        .file("d/low", b"low")
        .file("gone", b"")
        .end();
    let middle = Layer::new()
        .file("d/mid", b"mid")
        .file(".wh.gone", b"")
        .file(".wh.never", b"")
        .end();
    let top = Layer::new()
        .file("d/big", &big)
        .link("d/link", "d/low")
        .file("d/.wh.mid", b"")
        .file(".wh.gone", b"")
        .end();
    let layers = [base, middle, top];
    let (registry, fixture) = (Registry::default(), Fixture::new());
    registry.simple(&layers, "1");
    let pulled = pull(&fixture, &registry, "x:1").unwrap().image;
    let loaded = Fixture::new();
    let other = loaded
        .load(&docker_archive(&config(&layers, ""), &layers, &[]))
        .unwrap()
        .remove(0)
        .image;
    let script = "find . -mindepth 1 -printf '%P %y %m %U %G %T@ %n %l\\n' | sort; cat d/link";
    assert_eq!(fixture.in_overlay(&pulled, script), loaded.in_overlay(&other, script));
    assert!(fixture.in_overlay(&pulled, script).contains("d d 2750"));
    assert_eq!(files(&pulled)[1], ["d", "gone"], "what hides nothing is no file");
    assert_eq!(files(&pulled)[2], ["d"], "gone is gone already");
    assert!(fixture.store.fsck(None, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn a_broken_pull_goes_on_where_it_broke() {
    let layer = Layer::new().file("f", &random(2_000_000, 3)).end();
    let packed = gzip(&layer);
    let (registry, fixture) = (Registry::default(), Fixture::new());
    registry.simple(std::slice::from_ref(&layer), "1");
    registry.fault(&packed, Fault::CutOnce(1_500_000));
    let error = pull(&fixture, &registry, "x:1").unwrap_err();
    let want = format!(
        "breaks off after 1500000 of {} bytes: the registry closed the connection",
        packed.len()
    );
    assert!(error.to_string().contains(&want), "{error}");
    assert_nothing(&fixture, "cut", 1);
    registry.asked();
    // Somebody else opens the store meanwhile.
    Store::open(&fixture.root()).unwrap();
    let pulled = pull(&fixture, &registry, "x:1").unwrap();
    assert_eq!(pulled.bytes_fetched, packed.len() as u64 - 1_500_000);
    assert_eq!(registry.asked().last().unwrap().1, 1_500_000);
    assert!(fixture.names_in("partial").is_empty());
    assert!(fixture.store.fsck(None, &|_| ()).unwrap().findings.is_empty());
}

#[test]
fn a_part_that_was_damaged_is_fetched_again() {
    let layer = Layer::new().file("f", &random(1_000_000, 5)).end();
    let packed = gzip(&layer);
    for (what, part) in [
        ("damaged", [&vec![7; 300_000][..], &packed[300_000..600_000]].concat()),
        ("whole but damaged", vec![9; packed.len()]),
        ("too long", vec![9; packed.len() + 1]),
        ("empty", Vec::new()),
    ] {
        let (registry, fixture) = (Registry::default(), Fixture::new());
        registry.simple(std::slice::from_ref(&layer), "1");
        fs::write(
            fixture.root().join("partial").join(cofferdam_images::Digest::of(&packed).hex()),
            part,
        )
        .unwrap();
        let pulled = pull(&fixture, &registry, "x:1").unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(files(&pulled.image), [["f"]], "{what}");
        assert!(fixture.names_in("partial").is_empty(), "{what}");
    }
    // Kept content that was damaged since is fetched again, too.
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let other = Layer::new().file("g", b"").end();
    registry.simple(std::slice::from_ref(&layer), "1");
    registry.simple(&[other, layer.clone()], "2");
    pull(&fixture, &registry, "x:1").unwrap();
    let kept = fixture
        .root()
        .join("blobs/sha256")
        .join(cofferdam_images::Digest::of(&packed).hex());
    fs::write(&kept, vec![1; packed.len()]).unwrap();
    assert_eq!(files(&pull(&fixture, &registry, "x:2").unwrap().image), [["g"], ["f"]]);
    assert!(fs::read(&kept).unwrap() == packed);
}

#[test]
fn registries_that_lie_are_found_out() {
    let layer = Layer::new().file("f", &random(700_000, 11)).end();
    let small = Layer::new().file("g", b"x").end();
    let packed = gzip(&layer);
    for (what, fault, why, partial) in [
        ("refused", Fault::Refused, "500 Internal Server Error", true),
        ("cut", Fault::Cut(1000), "breaks off after 1000 of", true),
        ("short", Fault::Short(5000), "breaks off after 5000 of", true),
        ("endless", Fault::Endless, "longer than promised", false),
        ("flipped", Fault::Flipped, "damaged or forged", false),
    ] {
        let (registry, fixture) = (Registry::default(), Fixture::new());
        registry.simple(&[small.clone(), layer.clone()], "1");
        registry.fault(&packed, fault);
        let error = pull(&fixture, &registry, "x:1").unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert!(!error.to_string().contains('\n'), "{what}");
        for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
            assert!(fixture.names_in(dir).is_empty(), "{what}: {dir}");
        }
        let part = fixture.root().join("partial").join(cofferdam_images::Digest::of(&packed).hex());
        assert_eq!(part.exists(), partial, "{what}");
        registry.with(|s| s.faults.clear());
        let pulled = pull(&fixture, &registry, "x:1").unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(files(&pulled.image), [["g"], ["f"]], "{what}");
    }
}

#[test]
fn manifests_that_lie_are_refused() {
    let layer = Layer::new().file("f", b"x").end();
    let other = Layer::new().file("g", b"x").end();
    let make = |change: &dyn Fn(&Registry) -> serde_json::Value| {
        let registry = Registry::default();
        let top = change(&registry);
        (registry, top)
    };
    let with = |registry: &Registry, change: &dyn Fn(&mut serde_json::Value)| {
        let descriptor = registry.image(&OCI, "amd64", &[(layer.clone(), gzip(&layer))], None);
        let bytes = registry.with(|s| s.manifests[descriptor["digest"].as_str().unwrap()].1.clone());
        let mut manifest = serde_json::from_slice(&bytes).unwrap();
        change(&mut manifest);
        registry.document(OCI[1], &manifest, Some("1"))
    };
    let nested = |registry: &Registry, depth: usize| {
        let mut at = registry.image(&OCI, "amd64", &[(layer.clone(), gzip(&layer))], None);
        for i in 0..depth {
            at["platform"] = json!({"os": "linux", "architecture": "amd64"});
            at = registry.document(
                OCI[0],
                &json!({"schemaVersion": 2, "mediaType": OCI[0], "manifests": [at]}),
                (i + 1 == depth).then_some("1"),
            );
        }
        at
    };
    type Change<'a> = Box<dyn Fn(&Registry) -> serde_json::Value + 'a>;
    let rows: Vec<(&str, &str, Change<'_>)> = vec![
        ("unknown", "manifest 1 is unknown", Box::new(|_| json!({}))),
        (
            "size of the layer",
            "breaks off after",
            Box::new(|r| with(r, &|m| m["layers"][0]["size"] = json!(100_000))),
        ),
        (
            "layer is smaller",
            "longer than promised",
            Box::new(|r| with(r, &|m| m["layers"][0]["size"] = json!(10))),
        ),
        (
            "size of the configuration",
            "were promised",
            Box::new(|r| with(r, &|m| m["config"]["size"] = json!(1))),
        ),
        (
            "huge configuration",
            "larger than",
            Box::new(|r| with(r, &|m| m["config"]["size"] = json!(1u64 << 40))),
        ),
        (
            "huge layers",
            "more than",
            Box::new(|r| with(r, &|m| m["layers"][0]["size"] = json!(u64::MAX))),
        ),
        (
            "thousands of layers",
            "5000 layers",
            Box::new(|r| with(r, &|m| m["layers"] = json!(vec![m["layers"][0].clone(); 5000]))),
        ),
        (
            "one layer more",
            "names 1",
            Box::new(|r| with(r, &|m| m["layers"] = json!(vec![m["layers"][0].clone(); 2]))),
        ),
        (
            "artifact",
            "artifact",
            Box::new(|r| with(r, &|m| m["config"]["mediaType"] = json!("application/vnd.x"))),
        ),
        (
            "kind of layer",
            "no layer of files",
            Box::new(|r| with(r, &|m| m["layers"][0]["mediaType"] = json!("text/plain"))),
        ),
        ("both", "both", Box::new(|r| with(r, &|m| m["manifests"] = json!([])))),
        ("six indexes", "nested more than 4 deep", Box::new(|r| nested(r, 6))),
        (
            "layer of another digest",
            "damaged or forged",
            Box::new(|r| {
                let digest = r.blob_of(&gzip(&other));
                with(r, &|m| {
                    m["layers"][0]["digest"] = json!(digest);
                    m["layers"][0]["size"] = json!(gzip(&other).len());
                })
            }),
        ),
        (
            "manifest of another digest",
            "damaged or forged",
            Box::new(|r| {
                let inner = with(r, &|_| ());
                let top = nested(r, 1);
                let (kind, bytes) = r.with(|s| s.manifests[inner["digest"].as_str().unwrap()].clone());
                let forged = [&bytes[..], b" "].concat();
                r.with(|s| s.manifests.insert(inner["digest"].as_str().unwrap().to_owned(), (kind, forged)));
                top
            }),
        ),
        (
            "configuration of another digest",
            "damaged or forged",
            Box::new(|r| {
                let top = with(r, &|_| ());
                r.with(|s| {
                    let bytes = s.manifests["1"].1.clone();
                    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                    let digest = cofferdam_images::Digest::parse(manifest["config"]["digest"].as_str().unwrap()).unwrap();
                    let data = s.blobs.get_mut(&digest).unwrap();
                    *data = vec![b' '; data.len()];
                });
                top
            }),
        ),
        (
            "another platform",
            "this machine is linux/amd64",
            Box::new(|r| r.image(&OCI, "s390x", &[(layer.clone(), gzip(&layer))], Some("1"))),
        ),
        (
            "large manifest",
            "larger than",
            Box::new(|r| with(r, &|m| m["annotations"] = json!({"x": "x".repeat(9 << 20)}))),
        ),
    ];
    for (what, why, change) in rows {
        let (registry, _) = make(&change);
        let fixture = Fixture::new();
        let error = pull(&fixture, &registry, "x:1").expect_err(what);
        assert!(error.to_string().contains(why), "{what}: {error}");
        for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
            assert!(fixture.names_in(dir).is_empty(), "{what}: {dir}");
        }
    }
    let (registry, _) = make(&|r| nested(r, 4));
    pull(&Fixture::new(), &registry, "x:1").unwrap();
    // A digest that a reference names is the digest of what comes.
    let (registry, top) = make(&|r| with(r, &|_| ()));
    let digest = top["digest"].as_str().unwrap();
    registry.with(|s| {
        let forged = ("".to_owned(), [&s.manifests[digest].1[..], b"\n"].concat());
        s.manifests.insert(digest.to_owned(), forged)
    });
    let error = pull(&Fixture::new(), &registry, &format!("x@{digest}")).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_layer_that_is_called_a_configuration_is_not_read_into_memory() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let packed = gzip(&Layer::new().file("large", &random(9 << 20, 5)).end());
    let layer = Layer::new().file("large", &random(9 << 20, 5)).end();
    registry.image(&OCI, "amd64", &[(layer, packed.clone())], Some("good"));
    pull(&fixture, &registry, "r.example/x:good").unwrap();
    // Its content is kept under this digest; nothing promises that its size is told as it is.
    let config = json!({"mediaType": OCI[2], "digest": cofferdam_images::Digest::of(&packed), "size": 2});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI[1], "config": config, "layers": []});
    registry.document(OCI[1], &manifest, Some("bad"));
    let error = pull(&fixture, &registry, "r.example/x:bad").unwrap_err().to_string();
    assert!(error.contains("3 bytes, but 2 were promised"), "{error}");
}

#[test]
fn bombs_and_hostile_layers_stop_a_pull() {
    let zeros = Layer::new().file("f", &vec![0; 16 << 20]).end();
    let up = Layer::new().file("../evil", b"x").end();
    for (what, plain, packed, why) in [
        ("gzip bomb", &zeros, gzip(&zeros), "bomb"),
        ("zstd bomb", &zeros, zstd::stream::encode_all(&zeros[..], 3).unwrap(), "bomb"),
        ("up", &up, gzip(&up), "'..'"),
    ] {
        let (registry, fixture) = (
            Registry::default(),
            Fixture::with(Limits {
                free_growth_bytes: 4 << 20,
                ratio: 10,
                ..Limits::default()
            }),
        );
        registry.image(&OCI, "amd64", &[(plain.clone(), packed)], Some("1"));
        let error = pull(&fixture, &registry, "x:1").unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert_nothing(&fixture, what, 0);
    }
    // A frame that wants a window of 256 MiB would make us hold as much.
    let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(28).unwrap();
    wide.include_contentsize(false).unwrap();
    let plain = Layer::new().file("f", b"x").end();
    std::io::Write::write_all(&mut wide, &plain).unwrap();
    let (registry, fixture) = (Registry::default(), Fixture::new());
    registry.image(&OCI, "amd64", &[(plain, wide.finish().unwrap())], Some("1"));
    let error = pull(&fixture, &registry, "x:1").unwrap_err();
    assert!(error.to_string().contains("too much memory"), "{error}");
    assert_nothing(&fixture, "window", 0);
}

#[test]
fn progress_tells_each_layer_and_ends_with_the_commit() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let layers = ["a", "b"].map(|name| Layer::new().file(name, b"x").end());
    registry.simple(&layers, "1");
    let seen = RefCell::new(Vec::new());
    let progress = |event: &PullEvent| seen.borrow_mut().push(event.clone());
    let options = PullOptions {
        parallel: Some(1),
        progress: Some(&progress),
        ..PullOptions::default()
    };
    fixture.store.pull(&name("x:1"), &registry, options).unwrap();
    let sizes: Vec<_> = layers.iter().map(|layer| gzip(layer).len() as u64).collect();
    let layer = |index: usize| PullEvent::Layer {
        index,
        done: sizes[index],
        total: sizes[index],
    };
    let done = |index| PullEvent::LayerDone { index, reused: false };
    let seen = seen.into_inner();
    assert!(matches!(&seen[0], PullEvent::Resolved { layers } if layers.iter().map(|l| l.1).eq(sizes.iter().copied())));
    // One at a time comes in order.
    let want = [layer(0), done(0), layer(1), done(1), PullEvent::Commit];
    assert_eq!(seen[1..], want);
}

#[test]
fn a_moved_tag_leaves_the_old_image_its_digest() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    registry.simple(&[Layer::new().file("a", b"x").end()], "1");
    let old = pull(&fixture, &registry, "x:1").unwrap();
    registry.simple(&[Layer::new().file("b", b"x").end()], "1");
    let new = pull(&fixture, &registry, "x:1").unwrap();
    assert_ne!(old.id, new.id);
    let text = format!("x@{}", old.digest);
    let found = fixture.store.resolve(&text).unwrap();
    assert_eq!((found.id, found.names), (old.id.clone(), Vec::new()));
    fixture.store.remove(old.id.hex(), &|_| None).unwrap();
    assert!(matches!(fixture.store.resolve(&text), Err(Error::NotFound(_))));
}

#[test]
fn many_pulls_of_the_same_layers_fetch_each_once() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let shared = Layer::new().file("shared", &random(1_500_000, 2)).end();
    let tops: Vec<_> = (0..4).map(|i| Layer::new().file(&format!("own{i}"), b"x").end()).collect();
    for (i, top) in tops.iter().enumerate() {
        registry.simple(&[shared.clone(), top.clone()], &format!("{i}"));
        // The other way round, so that pulls wait for each other's layers.
        registry.simple(&[top.clone(), shared.clone()], &format!("r{i}"));
    }
    std::thread::scope(|scope| {
        for i in 0..4 {
            for tag in [format!("{i}"), format!("r{i}")] {
                let (registry, root) = (&registry, fixture.root());
                scope.spawn(move || {
                    let store = Store::open_with(&root, Limits::default(), amd64()).unwrap();
                    store.pull(&name(&format!("x:{tag}")), registry, PullOptions::default()).unwrap();
                });
            }
        }
    });
    assert_eq!(fixture.store.list().unwrap().len(), 8);
    let digest = cofferdam_images::Digest::of(&gzip(&shared));
    assert_eq!(registry.asked().iter().filter(|(asked, _)| *asked == digest).count(), 1);
    assert!(fixture.names_in("partial").is_empty() && fixture.names_in("tmp").is_empty());
    assert!(fixture.store.fsck(None, &|_| ()).unwrap().findings.is_empty());
}
