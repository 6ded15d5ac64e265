//! Images from a registry on loopback. Needs root and Debian's docker-registry and skopeo.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_engine::images::PullOptions;
use cofferdam_engine::{Engine, Options, Shared};
use cofferdam_images::SaveFormat;
use cofferdam_model::cri::{PullRequest, Runtime};
use common::{IMAGE, World, until};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A registry with [`IMAGE`] as `test/busybox:1`.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn new(world: &World) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = world.path("registry.yml");
        let text = format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n", world.path("registry").display());
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry").arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Self { child, port };
        until("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let archive = world.path("image.tar");
        world.engine.save_images(&[IMAGE], std::fs::File::create(&archive).unwrap(), SaveFormat::DockerArchive).unwrap();
        let (from, to) = (format!("docker-archive:{}", archive.display()), format!("docker://127.0.0.1:{port}/test/busybox:1"));
        let pushed = Command::new("skopeo").args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", &from, &to]).status().unwrap();
        assert!(pushed.success());
        registry
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/test/busybox:1", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fresh(world: &World, change: impl FnOnce(&mut Options)) -> Arc<Engine> {
    world.reopen(|options| {
        options.layout = cofferdam_plan::Layout::new(world.path("fresh/l"), world.path("fresh/s"));
        change(options);
    }).0
}

#[test]
fn an_image_is_pulled_once_however_many_ask() {
    let world = World::new();
    let registry = Registry::new(&world);
    let engine = fresh(&world, |_| {});
    let pulled: Vec<_> = std::thread::scope(|scope| {
        let one = || engine.pull(&registry.name(), PullOptions::default()).unwrap();
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(pulled.iter().all(|p| p.id == pulled[0].id));
    let fetched: std::collections::BTreeSet<_> = pulled.iter().map(|p| p.bytes_fetched).filter(|b| *b > 0).collect();
    assert_eq!(fetched.len(), 1, "those who waited have the same answer");
    let shared = Shared(engine.clone());
    let again = shared.pull_image(&PullRequest { image: registry.name(), docker_configs: vec![] }).unwrap();
    assert_eq!(again, pulled[0].id.to_string());
    assert_eq!(shared.image_status(&registry.name()).unwrap(), Some(again));
    assert_eq!(engine.fsck_images(false, &|_| {}).unwrap().findings, []);
    let why = engine.pull(&format!("127.0.0.1:{}/test/none:1", registry.port), PullOptions::default()).unwrap_err().to_string();
    assert!(why.contains("test/none"), "{why}");
    let why = engine.pull("UPPER", PullOptions::default()).unwrap_err();
    assert!(matches!(why, cofferdam_model::cri::Error::Invalid(_)), "{why:?}");
    let secret = b"{not json".to_vec();
    let why = engine.pull(&registry.name(), PullOptions { docker_configs: &[secret], ..PullOptions::default() }).unwrap_err().to_string();
    assert!(why.contains("pull secret"), "{why}");
    engine.tear_down().unwrap();
}

#[test]
fn what_a_container_has_is_not_pruned() {
    let world = World::new();
    common::build(&world.engine, "test/unused:1", &[("/x", "y")]);
    let pod = world.pod("crun");
    world.start(&pod, "sleep 1000", |_| {});
    let pruned = world.engine.prune_images(true, false, std::time::Duration::ZERO).unwrap();
    assert_eq!(pruned.images.len(), 1, "{pruned:?}");
    assert!(world.engine.images().resolve(IMAGE).is_ok() && world.engine.images().resolve("test/unused:1").is_err());
}
