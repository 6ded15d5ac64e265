//! OCI layouts as tools write them, and as they should not be: platforms, nested indexes, names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, Error, LoadOptions, Reference};
use common::*;
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const CONTAINERD: &str = "io.containerd.image.name";
const OCI: &str = "org.opencontainers.image.ref.name";

/// An OCI archive in the making.
#[derive(Default)]
struct Layout {
    blobs: Vec<Vec<u8>>,
}

impl Layout {
    fn blob(&mut self, media_type: &str, data: &[u8]) -> Value {
        self.blobs.push(data.to_vec());
        json!({"mediaType": media_type, "digest": Digest::of(data).to_string(), "size": data.len()})
    }
    /// An image with one layer whose only file has the architecture's name.
    fn image(&mut self, architecture: &str) -> Value {
        let layer = Layer::new().file(architecture, b"x").end();
        let config = config(std::slice::from_ref(&layer), "");
        let config = String::from_utf8(config)
            .unwrap()
            .replace("amd64", architecture);
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", &layer);
        self.manifest(CONFIG, config.as_bytes(), &[layer])
    }
    fn manifest(&mut self, config_type: &str, config: &[u8], layers: &[Value]) -> Value {
        let config = self.blob(config_type, config);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }
    fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }
    fn archive(&self, manifests: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let start = Layer::new()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .dir("blobs")
            .file("index.json", index.as_bytes());
        let all = self.blobs.iter().fold(start, |tar, blob| {
            tar.pax(&[("path", &format!("blobs/sha256/{}", Digest::of(blob).hex()))])
                .file("b", blob)
        });
        all.end()
    }
}

fn with(mut descriptor: Value, key: &str, value: Value) -> Value {
    descriptor[key] = value;
    descriptor
}

fn on(descriptor: Value, architecture: &str) -> Value {
    with(
        descriptor,
        "platform",
        json!({"os": "linux", "architecture": architecture}),
    )
}

fn named(descriptor: Value, key: &str, name: &str) -> Value {
    with(descriptor, "annotations", json!({ key: name }))
}

/// Architectures and names of what an archive gives a machine of amd64.
fn loaded(archive: &[u8], name: Option<&str>) -> Result<Vec<(String, Vec<String>)>, Error> {
    let fixture = Fixture::new();
    let options = LoadOptions {
        name: name.map(|n| Reference::parse(n).unwrap()),
    };
    let loaded = fixture.store.load(
        cofferdam_images::Input::Stream(&mut &archive[..]),
        &options,
        &(),
    )?;
    Ok(loaded
        .into_iter()
        .map(|l| (l.image.config.platform.architecture, l.names))
        .collect())
}

fn expect(rows: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    rows.iter()
        .map(|(a, names)| {
            (
                (*a).to_owned(),
                names.iter().map(|n| (*n).to_owned()).collect(),
            )
        })
        .collect()
}

#[test]
fn the_platform_of_the_machine_is_chosen() {
    let mut l = Layout::default();
    let (amd, arm, x86) = (l.image("amd64"), l.image("arm64"), l.image("386"));
    let attestation = with(
        l.manifest(CONFIG, b"{}", &[]),
        "annotations",
        json!({"vnd.docker.reference.type": "attestation-manifest"}),
    );
    let several = l.index(&[
        on(arm.clone(), "arm64"),
        attestation,
        on(x86.clone(), "386"),
        on(amd.clone(), "amd64"),
    ]);
    let nested = l.index(std::slice::from_ref(&several));
    let sister = l.index(&[on(arm.clone(), "arm64"), on(x86, "386")]);
    let foreign = l.index(&[on(arm.clone(), "arm64")]);
    let silent = l.index(&[arm.clone(), amd.clone()]);
    let absent = on(
        json!({"mediaType": MANIFEST, "digest": Digest::of(b"absent").to_string(), "size": 6}),
        "s390x",
    );
    let pruned = l.index(&[absent, on(amd.clone(), "amd64")]);
    for (what, top, want) in [
        ("index", vec![several], &[("amd64", &[][..])][..]),
        ("nested", vec![nested], &[("amd64", &[])]),
        ("sister", vec![sister], &[("386", &[])]),
        ("foreign only", vec![foreign], &[("arm64", &[])]),
        (
            "platform only in the configuration",
            vec![silent],
            &[("amd64", &[])],
        ),
        (
            "blobs of others were left out",
            vec![pruned],
            &[("amd64", &[])],
        ),
        (
            "flat",
            vec![on(arm.clone(), "arm64"), on(amd.clone(), "amd64")],
            &[("amd64", &[])],
        ),
        (
            "flat, one name",
            vec![
                named(on(arm.clone(), "arm64"), OCI, "a/b:1"),
                named(on(amd.clone(), "amd64"), OCI, "a/b:1"),
            ],
            &[("amd64", &["docker.io/a/b:1"])],
        ),
        (
            "two names of different platforms",
            vec![named(arm, OCI, "a/arm:1"), named(amd, OCI, "a/amd:1")],
            &[
                ("arm64", &["docker.io/a/arm:1"]),
                ("amd64", &["docker.io/a/amd:1"]),
            ],
        ),
    ] {
        assert_eq!(
            loaded(&l.archive(&top), None).unwrap(),
            expect(want),
            "{what}"
        );
    }
}

#[test]
fn a_foreign_image_is_loaded_but_does_not_run() {
    let mut l = Layout::default();
    let arm = named(l.image("arm64"), CONTAINERD, "docker.io/library/x:1");
    let fixture = Fixture::new();
    fixture.load(&l.archive(&[arm])).unwrap();
    fixture.store.resolve("x:1").unwrap();
    let error = fixture.store.resolve_for_run("x:1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "image x:1 is for linux/arm64; this machine is linux/amd64"
    );
}

#[test]
fn names_come_from_annotations_or_the_user() {
    let mut l = Layout::default();
    let amd = l.image("amd64");
    let both = with(
        amd.clone(),
        "annotations",
        json!({CONTAINERD: "docker.io/library/busybox:1", OCI: "1"}),
    );
    for (what, top, name, want) in [
        (
            "containerd's",
            vec![both.clone()],
            None,
            &["docker.io/library/busybox:1"][..],
        ),
        (
            "whole",
            vec![named(amd.clone(), OCI, "quay.io/a/b:2")],
            None,
            &["quay.io/a/b:2"],
        ),
        ("a tag", vec![named(amd.clone(), OCI, "2")], None, &[]),
        (
            "a tag and a repository",
            vec![named(amd.clone(), OCI, "2")],
            Some("a/b"),
            &["docker.io/a/b:2"],
        ),
        (
            "a tag and another",
            vec![named(amd.clone(), OCI, "2")],
            Some("a/b:3"),
            &["docker.io/a/b:3"],
        ),
        ("none", vec![amd.clone()], None, &[]),
        (
            "the user's",
            vec![amd.clone()],
            Some("a/b:3"),
            &["docker.io/a/b:3"],
        ),
        (
            "the user's before the archive's",
            vec![both],
            Some("a/b:3"),
            &["docker.io/a/b:3"],
        ),
    ] {
        assert_eq!(
            loaded(&l.archive(&top), name).unwrap(),
            expect(&[("amd64", want)]),
            "{what}"
        );
    }
    let two = [named(amd.clone(), OCI, "1"), named(amd.clone(), OCI, "2")];
    let want = expect(&[
        ("amd64", &["docker.io/a/b:1"]),
        ("amd64", &["docker.io/a/b:2"]),
    ]);
    assert_eq!(loaded(&l.archive(&two), Some("a/b")).unwrap(), want);
    let own = [
        named(amd.clone(), OCI, "x/y:1"),
        named(l.image("386"), OCI, "x/z:1"),
    ];
    assert!(
        loaded(&l.archive(&own), Some("a/b"))
            .unwrap_err()
            .to_string()
            .contains("2 images with names of their own")
    );
    let bad = named(amd, CONTAINERD, "../x");
    assert!(matches!(
        loaded(&l.archive(&[bad]), None),
        Err(Error::Reference { .. })
    ));
}

#[test]
fn a_digest_reference_means_what_the_name_meant() {
    let mut l = Layout::default();
    let amd = named(l.image("amd64"), CONTAINERD, "docker.io/library/x:1");
    let digest = amd["digest"].as_str().unwrap().to_owned();
    let fixture = Fixture::new();
    let id = fixture.load(&l.archive(&[amd])).unwrap()[0]
        .image
        .id
        .clone();
    let other = Digest::of(b"other");
    for (text, found) in [
        (format!("x@{digest}"), true),
        (format!("x:1@{digest}"), true),
        (format!("x:2@{digest}"), false),
        (format!("y@{digest}"), false),
        (format!("x@{other}"), false),
        (format!("x:1@{other}"), false),
    ] {
        assert_eq!(
            fixture.store.resolve(&text).ok().map(|i| i.id),
            found.then(|| id.clone()),
            "{text}"
        );
    }
}

#[test]
fn layouts_that_lie_are_refused() {
    let mut l = Layout::default();
    let amd = l.image("amd64");
    let mut deep = amd.clone();
    for _ in 0..6 {
        deep = l.index(&[deep]);
    }
    let mut wide = amd.clone();
    for _ in 0..3 {
        wide = l.index(&vec![wide; 40]);
    }
    let chart = l.manifest("application/vnd.cncf.helm.config.v1+json", b"{}", &[]);
    let neither = l.blob(MANIFEST, br#"{"schemaVersion":2}"#);
    let first = l.blob(MANIFEST, br#"{"schemaVersion":1,"name":"x"}"#);
    let layer = l.blob(
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        b"x",
    );
    let encrypted = l.manifest(CONFIG, br#"{"rootfs":{"type":"layers"}}"#, &[layer]);
    let absent =
        json!({"mediaType": MANIFEST, "digest": Digest::of(b"absent").to_string(), "size": 6});
    for (what, top, why) in [
        (
            "wrong size",
            with(amd.clone(), "size", json!(1)),
            "with 1 bytes",
        ),
        (
            "wrong digest",
            with(amd.clone(), "digest", neither["digest"].clone()),
            "with 19 bytes",
        ),
        ("absent", absent, "has no"),
        ("deep", deep, "nested more than four deep"),
        ("wide", wide, "1024"),
        ("no image", chart, "no container image"),
        ("neither", neither, "neither a manifest nor an index"),
        ("schema 1", first, "schema version 1"),
        ("encrypted", encrypted, "encrypted"),
        (
            "escaping digest",
            with(amd, "digest", json!("sha256:../../../../etc/passwd")),
            "not valid",
        ),
    ] {
        let error = loaded(&l.archive(&[top]), None).unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    let old = Layer::new()
        .file("oci-layout", br#"{"imageLayoutVersion":"2.0"}"#)
        .file("index.json", b"{}")
        .end();
    assert!(
        loaded(&old, None)
            .unwrap_err()
            .to_string()
            .contains("only 1.x")
    );
}

#[test]
fn docker_archives_old_and_new() {
    let layers = [
        Layer::new().file("a", b"1").end(),
        Layer::new().file("b", b"2").end(),
    ];
    let twice = [layers[0].clone(), layers[1].clone(), layers[0].clone()];
    let config_bytes = config(&twice, r#""config":{"Cmd":["a"]},"#);
    let name = format!("{}.json", Digest::of(&config_bytes).hex());
    // A layer that occurs twice is a link from the second time on.
    let manifest = json!([{"Config": name, "RepoTags": ["me/old:1", "me/old:2"], "Layers": ["x/layer.tar", "y/layer.tar", "z/layer.tar"]}]);
    let old = Layer::new()
        .dir("x/")
        .file("x/VERSION", b"1.0")
        .file("x/layer.tar", &layers[0])
        .file("y/layer.tar", &layers[1])
        .symlink("z/layer.tar", "../x/layer.tar")
        .file(&name, &config_bytes)
        .file("manifest.json", manifest.to_string().as_bytes())
        .file("repositories", b"{}")
        .end();
    let fixture = Fixture::new();
    let image = fixture.load(&old).unwrap().remove(0).image;
    assert_eq!(
        (image.layers.len(), &image.names[..]),
        (
            3,
            &[
                "docker.io/me/old:1".to_owned(),
                "docker.io/me/old:2".to_owned()
            ][..]
        )
    );

    // Since version 25 the archive is an OCI layout too, with blobs by digest.
    let mut l = Layout::default();
    let blobs: Vec<_> = twice
        .iter()
        .map(|layer| l.blob("application/vnd.oci.image.layer.v1.tar", layer))
        .collect();
    let manifest = l.manifest(CONFIG, &config_bytes, &blobs);
    let path = |v: &Value| {
        format!(
            "blobs/sha256/{}",
            v["digest"].as_str().unwrap().trim_start_matches("sha256:")
        )
    };
    let docker = json!([{"Config": format!("blobs/sha256/{}", Digest::of(&config_bytes).hex()), "RepoTags": ["me/new:1"], "Layers": blobs.iter().map(path).collect::<Vec<_>>()}]);
    let top = with(
        manifest,
        "annotations",
        json!({CONTAINERD: "docker.io/me/new:1", OCI: "1"}),
    );
    let mut both = Layer(l.archive(&[top]));
    both.0.truncate(both.0.len() - 1024);
    let new = both
        .clone()
        .file("manifest.json", docker.to_string().as_bytes())
        .end();
    let again = fixture.load(&new).unwrap().remove(0).image;
    assert_eq!((again.id, again.names.len()), (image.id.clone(), 3));

    // The same without its index, as older tools rewrite it.
    let only_docker = l.blobs.iter().fold(Layer::new(), |tar, b| {
        tar.file(&format!("blobs/sha256/{}", Digest::of(b).hex()), b)
    });
    let only_docker = only_docker
        .file("manifest.json", docker.to_string().as_bytes())
        .end();
    assert_eq!(
        Fixture::new().load(&only_docker).unwrap()[0].image.id,
        image.id
    );

    // The image's blobs are named by digests, and have to have them.
    let forged = l.blobs.iter().fold(Layer::new(), |tar, b| {
        let bytes = if *b == config_bytes {
            config(&twice, "")
        } else {
            b.clone()
        };
        tar.file(&format!("blobs/sha256/{}", Digest::of(b).hex()), &bytes)
    });
    let forged = forged
        .file("manifest.json", docker.to_string().as_bytes())
        .end();
    assert!(matches!(
        Fixture::new().load(&forged),
        Err(Error::DigestMismatch { .. })
    ));
}
