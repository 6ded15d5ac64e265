//! Archives that are saved load again here and in the tools that people have; what is pruned is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, Error, Input, LoadOptions, PruneOptions, PullOptions, Reference, SaveFormat};
use common::registry::*;
use common::*;
use serde_json::json;
use std::fs;
use std::time::Duration;

fn pull(fixture: &Fixture, registry: &Registry, text: &str) -> cofferdam_images::Pulled {
    fixture
        .store
        .pull(&Reference::parse(text).unwrap(), registry, PullOptions::default())
        .unwrap()
}

fn layer(name: &str) -> Vec<u8> {
    Layer::new().file(name, name.as_bytes()).end()
}

#[test]
fn a_saved_image_keeps_id_manifest_and_names() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let base = layer("base");
    let zstd = zstd::stream::encode_all(&layer("z")[..], 3).unwrap();
    registry.image(&OCI, "amd64", &[(base.clone(), gzip(&base)), (layer("z"), zstd)], Some("1"));
    registry.image(
        &DOCKER,
        "amd64",
        &[(base.clone(), gzip(&base)), (layer("b"), gzip(&layer("b")))],
        Some("2"),
    );
    let (one, two) = (
        pull(&fixture, &registry, "example.com/app:1"),
        pull(&fixture, &registry, "busybox:2"),
    );
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let mut archive = Vec::new();
        fixture
            .store
            .save(&["example.com/app:1", "busybox:2"], &mut archive, format)
            .unwrap();
        let mut again = Vec::new();
        fixture.store.save(&["example.com/app:1", "busybox:2"], &mut again, format).unwrap();
        assert!(archive == again, "the same images give the same archive");
        let other = Fixture::new();
        let loaded = other.load(&archive).unwrap();
        let mut ids: Vec<_> = loaded.iter().map(|l| (l.image.id.clone(), l.image.names.clone())).collect();
        ids.sort();
        let mut want = vec![
            (one.id.clone(), vec!["example.com/app:1".to_owned()]),
            (two.id.clone(), vec!["docker.io/library/busybox:2".to_owned()]),
        ];
        want.sort();
        assert_eq!(ids, want, "{format:?}");
        if format == SaveFormat::OciArchive {
            assert_eq!(other.store.resolve("example.com/app:1").unwrap().target, Some(one.digest.clone()));
            assert_eq!(other.store.resolve("busybox:2").unwrap().target, Some(two.digest.clone()));
        }
        assert_eq!(other.in_overlay(&other.store.resolve("busybox:2").unwrap(), "cat base b"), "baseb");
        // What was loaded is saved again from what was kept.
        let mut third = Vec::new();
        other.store.save(&[one.id.hex()], &mut third, format).unwrap();
        assert_eq!(Fixture::new().load(&third).unwrap()[0].image.id, one.id, "{format:?}");
    }
    assert!(matches!(
        fixture.store.save(&["none"], Vec::new(), SaveFormat::OciArchive),
        Err(Error::NotFound(_))
    ));
}

#[test]
fn other_tools_take_what_is_saved() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let (a, b) = (layer("a"), layer("b"));
    let bytes = registry.image(&OCI, "amd64", &[(a.clone(), gzip(&a)), (b.clone(), gzip(&b))], Some("1"));
    pull(&fixture, &registry, "example.com/app:1");
    let docker = registry.image(&DOCKER, "amd64", &[(b.clone(), gzip(&b))], Some("2"));
    pull(&fixture, &registry, "example.com/app:2");
    let save = |name: &str, text: &str, format| {
        let path = fixture.dir.path().join(name);
        fixture.store.save(&[text], fs::File::create(&path).unwrap(), format).unwrap();
        path.display().to_string()
    };
    let oci = save("oci.tar", "example.com/app:1", SaveFormat::OciArchive);
    let shown = run("skopeo", &["inspect", &format!("oci-archive:{oci}")]);
    assert!(shown.contains(bytes["digest"].as_str().unwrap()), "{shown}");
    let schema2 = save("schema2.tar", "example.com/app:2", SaveFormat::OciArchive);
    let target = fixture.dir.path().join("copied");
    run(
        "skopeo",
        &[
            "copy",
            "--quiet",
            &format!("oci-archive:{oci}"),
            &format!("dir:{}", target.display()),
        ],
    );
    let plain = save("docker.tar", "example.com/app:1", SaveFormat::DockerArchive);
    let shown = run(
        "skopeo",
        &["inspect", "--config", &format!("docker-archive:{plain}:example.com/app:1")],
    );
    assert!(shown.contains(&cofferdam_images::Digest::of(&b).to_string()), "{shown}");
    // containerd reads docker's schema 2 in a layout, as skopeo's own format of that name does not.
    let index = run("tar", &["-xOf", &schema2, "index.json"]);
    assert!(
        index.contains(docker["digest"].as_str().unwrap()) && index.contains(DOCKER[1]),
        "{index}"
    );
}

#[test]
fn what_was_not_kept_or_is_damaged_is_not_saved() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    registry.simple(&[layer("a")], "1");
    let store = fixture.store.clone().keep_content(false);
    let pulled = store
        .pull(&Reference::parse("x:1").unwrap(), &registry, PullOptions::default())
        .unwrap();
    let error = store.save(&["x:1"], Vec::new(), SaveFormat::OciArchive).unwrap_err();
    assert!(error.to_string().contains("was not kept: pull or load the image again"), "{error}");
    // Somebody loads it, with another form of the same layer.
    let archive = docker_archive(
        &fs::read(fixture.root().join("blobs/sha256").join(pulled.id.hex())).unwrap(),
        &[layer("a")],
        &[],
    );
    fixture
        .store
        .load(Input::Stream(&mut &archive[..]), &LoadOptions::default(), &())
        .unwrap();
    fixture.store.remove(pulled.id.hex(), &|_| None).unwrap();
    pull(&fixture, &registry, "x:1");
    let blob = fixture
        .root()
        .join("blobs/sha256")
        .join(cofferdam_images::Digest::of(&gzip(&layer("a"))).hex());
    let mut data = fs::read(&blob).unwrap();
    *data.last_mut().unwrap() ^= 1;
    fs::write(&blob, data).unwrap();
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let error = fixture.store.save(&["x:1"], Vec::new(), format).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn a_manifest_that_names_somebody_elses_layer_does_not_get_it_saved() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let (base, secret) = (layer("base"), layer("secret"));
    registry.simple(std::slice::from_ref(&base), "base");
    registry.simple(std::slice::from_ref(&secret), "secret");
    pull(&fixture, &registry, "a.example/base:base");
    pull(&fixture, &registry, "b.example/secret:secret");
    // Its layer is there already, so nothing is fetched, and what its manifest calls it is not looked at.
    let config = json!({"architecture": "amd64", "os": "linux", "author": "c", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&base)]}});
    let (config, secret) = (config.to_string().into_bytes(), gzip(&secret));
    let described = |kind: &str, data: &[u8]| json!({"mediaType": kind, "digest": registry.blob_of(data), "size": data.len()});
    let layers = [described(&format!("{}+gzip", OCI[3]), &secret)];
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI[1], "config": described(OCI[2], &config), "layers": layers});
    registry.document(OCI[1], &manifest, Some("evil"));
    pull(&fixture, &registry, "c.example/evil:evil");
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let mut archive = Vec::new();
        fixture.store.save(&["c.example/evil:evil"], &mut archive, format).unwrap();
        let there = archive.windows(secret.len()).any(|part| part == secret);
        assert!(!there, "{format:?} holds the content of another image");
        assert_eq!(Fixture::new().load(&archive).unwrap().len(), 1);
    }
}

#[test]
fn pruning_takes_what_nobody_uses_and_says_how_much() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let large = Layer::new().file("large", &vec![7; 300_000]).end();
    registry.simple(&[layer("base"), large], "1");
    let old = pull(&fixture, &registry, "x:1");
    registry.simple(&[layer("base"), layer("new")], "1");
    let new = pull(&fixture, &registry, "x:1");
    registry.simple(&[layer("other")], "2");
    let used = pull(&fixture, &registry, "y:2");
    fs::write(fixture.root().join("partial").join("a".repeat(64)), vec![1; 100_000]).unwrap();
    let prune = |all, content, partial_older| {
        let in_use = |id: &cofferdam_images::Digest| (*id == used.id).then(|| "pod default/web".to_owned());
        fixture
            .store
            .prune(&PruneOptions {
                all,
                content,
                partial_older,
                in_use: &in_use,
            })
            .unwrap()
    };
    let pruned = prune(false, false, Duration::from_secs(3600));
    assert_eq!(pruned.images.iter().map(|r| r.image.clone().unwrap()).collect::<Vec<_>>(), [old.id]);
    assert!(pruned.bytes >= 300_000 && !pruned.deferred, "{pruned:?}");
    assert_eq!((fixture.names_in("layers").len(), fixture.names_in("partial").len()), (3, 1));
    assert!(prune(false, false, Duration::ZERO).bytes >= 100_000);
    assert!(fixture.names_in("partial").is_empty());
    assert!(prune(false, true, Duration::ZERO).bytes > 0);
    assert_eq!(
        fixture.names_in("blobs/sha256").len(),
        4,
        "configurations and manifests of two images"
    );
    let pruned = prune(true, false, Duration::ZERO);
    assert_eq!(
        pruned
            .images
            .iter()
            .map(|r| (r.image.clone().unwrap(), r.names.len()))
            .collect::<Vec<_>>(),
        [(new.id, 1)]
    );
    assert_eq!(fixture.store.list().unwrap(), [fixture.store.resolve("y:2").unwrap()]);
    assert_eq!(prune(true, true, Duration::ZERO), cofferdam_images::Pruned::default());
}

/// A containerd of its own, ended with the test.
struct Containerd(std::process::Child, tempfile::TempDir);

impl Containerd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\nroot = {:?}\nstate = {:?}\n",
            at("root"),
            at("state")
        );
        fs::write(at("config.toml"), config).unwrap();
        let child = std::process::Command::new("containerd")
            .args(["--config", &at("config.toml"), "--address", &at("socket")])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let this = Self(child, dir);
        while !this.ctr(&["version"]).status.success() {
            std::thread::sleep(Duration::from_millis(50));
        }
        this
    }

    fn ctr(&self, arguments: &[&str]) -> std::process::Output {
        let socket = self.1.path().join("socket");
        std::process::Command::new("ctr")
            .arg("--address")
            .arg(socket)
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn containerd_takes_what_is_saved() {
    let (registry, fixture) = (Registry::default(), Fixture::new());
    let containerd = Containerd::start();
    for (kinds, tag) in [(&OCI, "oci"), (&DOCKER, "docker")] {
        let (a, b) = (layer("a"), layer(tag));
        let manifest = registry.image(kinds, "amd64", &[(a.clone(), gzip(&a)), (b.clone(), gzip(&b))], Some(tag));
        let name = format!("example.com/app:{tag}");
        pull(&fixture, &registry, &name);
        let path = fixture.dir.path().join(tag);
        for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
            fixture.store.save(&[&name], fs::File::create(&path).unwrap(), format).unwrap();
            let imported = containerd.ctr(&["images", "import", "--no-unpack", path.to_str().unwrap()]);
            assert!(
                imported.status.success(),
                "{tag} {format:?}: {}",
                String::from_utf8_lossy(&imported.stderr)
            );
            let list = String::from_utf8(containerd.ctr(&["images", "list"]).stdout).unwrap();
            assert!(list.contains(&name), "{list}");
            assert!(
                format != SaveFormat::OciArchive || list.contains(manifest["digest"].as_str().unwrap()),
                "{list}"
            );
        }
    }
}
