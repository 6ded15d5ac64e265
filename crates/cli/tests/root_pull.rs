//! Images from a real registry (Debian's docker-registry, on loopback): pulled, by pods too, saved,
//! pruned, checked and mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{WAITS, World, answer, app, brief, image, names, object, pod, pod_in, until};
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `user` with the password `secret`, as `htpasswd -nbB` writes it.
const USERS: &str = include_str!("common/htpasswd");

/// A registry of one test.
struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start(dir: &Path, auth: Option<&str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = json!({
            "version": 0.1, "log": {"level": "error"}, "http": {"addr": format!("127.0.0.1:{port}")},
            "storage": {"filesystem": {"rootdirectory": dir.join("registry")}},
        });
        if let Some(users) = auth {
            fs::write(dir.join("htpasswd"), users).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": dir.join("htpasswd")}});
        }
        let file = dir.join(format!("registry-{port}.json"));
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is missing; install Debian's docker-registry");
        let registry = Self { child, port };
        until("the registry listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        registry
    }

    /// Pushes the image of the tests under a name.
    fn push(&self, dir: &Path, name: &str, marker: &str, extra: &[&str]) -> String {
        let archive = dir.join(format!("push-{}.tar", self.port));
        fs::write(&archive, image::docker_archive("test/busybox:1", marker)).unwrap();
        let full = self.name(name);
        let mut command = Command::new("skopeo");
        command.args(["copy", "-q", "--dest-tls-verify=false"]).args(extra);
        command.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{full}"));
        answer(command, b"").good();
        full
    }

    fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

#[test]
fn an_image_is_pulled_runs_and_is_not_fetched_again() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, None);
    for (name, extra) in [("a/gzip:1", &[][..]), ("a/zstd:1", &["--dest-compress-format", "zstd", "--format", "oci"]), ("a/v2s2:1", &["--format", "v2s2"])] {
        let full = registry.push(&world.dir, name, name, extra);
        let pulled = &world.call(&["image", "pull", &full, "-o", "json"]).good().json()[0];
        assert!(pulled["bytesFetched"].as_u64().unwrap() > 100_000, "{pulled}");
        let again = &world.call(&["image", "pull", &full, "-o", "json"]).good().json()[0];
        assert_eq!((&again["bytesFetched"], &again["id"]), (&json!(0), &pulled["id"]), "{again}");
        let mut runs = pod("p", "crun", &[app("cat /etc/marker > /dev/termination-log")]);
        runs["spec"]["containers"][0]["image"] = json!(full);
        let (code, report) = world.report(&[runs]);
        assert_eq!(code, 0, "{}", brief(&report));
        assert_eq!(common::message(&report, "p", "app"), name);
    }
    let listed = world.call(&["image", "ls", "-o", "json"]).good().json();
    assert!(listed.as_array().unwrap().iter().all(|i| i["repoDigests"].as_array().unwrap().len() == 1), "{listed}");
}

#[test]
fn a_pod_pulls_what_it_needs_and_says_so() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, None);
    let full = registry.push(&world.dir, "team/app:2", "pulled", &[]);
    let pods: Vec<Value> = (0..3)
        .map(|n| {
            let mut pod = pod(&format!("p{n}"), "crun", &[app("cat /etc/marker > /dev/termination-log")]);
            pod["spec"]["containers"][0]["image"] = json!(full);
            pod
        })
        .collect();
    let (code, report) = world.report(&pods);
    assert_eq!(code, 0, "{}", brief(&report));
    let events = pod_in(&report, "p0")["events"].to_string();
    assert!(events.contains("Pulling") && events.contains("Successfully pulled image"), "{events}");
    // Never means never, and Always asks again.
    for (policy, wanted) in [("Never", "ErrImageNeverPull"), ("Always", "")] {
        let mut pod = pods[0].clone();
        pod["spec"]["containers"][0]["image"] = json!(registry.push(&world.dir, &format!("team/{}:1", policy.to_lowercase()), policy, &[]));
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!(policy);
        let (code, report) = world.report(&[pod]);
        assert_eq!(code == 0, wanted.is_empty(), "{}", brief(&report));
        assert!(brief(&report).contains(wanted), "{}", brief(&report));
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_one_sentence() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, Some(USERS));
    let name = registry.name("a/b:1");
    let answer = world.call(&["image", "pull", &name]).fails(120, "401");
    assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    let open = Registry::start(&world.dir, None);
    world.call(&["image", "pull", &open.name("no/such:1")]).fails(120, "no/such");
    world.call(&["image", "pull", "UPPER/case"]).fails(120, "UPPER");
    world.call(&["image", "pull", "127.0.0.1:1/a:1"]).fails(120, "127.0.0.1:1");
    world.call(&["image", "pull", "--platform", "linux", &name]).fails(120, "linux/arm64");
    let mut missing = pod("p", "crun", &[app("true")]);
    missing["spec"]["containers"][0]["image"] = json!(open.name("no/such:1"));
    let answer = world.run(&[missing], &["-o", "json"]);
    assert_eq!(answer.code, Some(125));
    assert!(brief(&answer.json()).contains("ErrImagePull"), "{}", brief(&answer.json()));
    assert!(names(&world.root().join("images/images")).is_empty());
}

#[test]
fn a_public_name_comes_from_the_mirror_of_hosts_toml() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, None);
    registry.push(&world.dir, "library/nginx:1.29", "mirrored", &[]);
    let hosts = world.dir.join("certs.d/docker.io");
    fs::create_dir_all(&hosts).unwrap();
    // The first mirror is not there: the second answers.
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:1\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"http://127.0.0.1:{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        registry.port
    );
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    world.call(&["image", "pull", "nginx:1.29"]).good();
    let listed = world.call(&["image", "ls"]).good().out;
    assert!(listed.contains("nginx:1.29"), "{listed}");
}

#[test]
fn pull_secrets_open_a_registry_for_their_pods_only() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, Some(USERS));
    let full = registry.push(&world.dir, "private/app:1", "secret", &["--dest-creds", "user:secret"]);
    let auth = json!({"auths": {format!("127.0.0.1:{}", registry.port): {"username": "user", "password": "secret"}}}).to_string();
    let secret = object("Secret", "regcred", json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": auth}}));
    let mut may = pod("may", "crun", &[app("true")]);
    may["spec"]["containers"][0]["image"] = json!(full);
    let mut may_not = may.clone();
    may_not["metadata"]["name"] = json!("may-not");
    may["spec"]["imagePullSecrets"] = json!([{"name": "regcred"}]);
    let (code, report) = world.report(&[secret.clone(), may_not]);
    assert_eq!(code, 125, "{}", brief(&report));
    let (code, report) = world.report(&[secret, may]);
    assert_eq!(code, 0, "{}", brief(&report));
    let file = world.dir.join("auth.json");
    fs::write(&file, auth).unwrap();
    world.call(&["image", "rm", &full]).good();
    world.call(&["image", "pull", "--auth-file", file.to_str().unwrap(), &full]).good();
}

#[test]
fn a_damaged_layer_is_found_and_mended_from_what_is_kept_or_from_the_registry() {
    let world = World::bare();
    let registry = Registry::start(&world.dir, None);
    let full = registry.push(&world.dir, "a/b:1", "whole", &[]);
    world.call(&["image", "pull", &full]).good();
    assert!(world.call(&["image", "fsck"]).good().out.contains("nothing is damaged"));
    let find = |name: &str| {
        let found = Command::new("find").arg(world.root().join("images")).args(["-path", name, "-type", "f"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().next().unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    for from_registry in [false, true] {
        let marker = find("*/layers/*/tree/etc/marker");
        fs::write(&marker, "chang").unwrap();
        if from_registry {
            // The kept blob is damaged too.
            let largest = Command::new("sh").arg("-c").arg(format!("ls -S {}/images/blobs/sha256/* | head -n 1", world.root().display())).output().unwrap();
            let blob = String::from_utf8(largest.stdout).unwrap().trim().to_owned();
            let mut bytes = fs::read(&blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&blob, bytes).unwrap();
        }
        let damaged = world.call(&["image", "fsck"]);
        assert_eq!(damaged.code, Some(120), "{damaged:?}");
        assert!(damaged.out.contains("damaged:"), "{damaged:?}");
        world.call(&["image", "fsck", "--repair"]).good();
        assert_eq!(fs::read_to_string(find("*/layers/*/tree/etc/marker")).unwrap(), "whole");
        assert!(world.call(&["image", "fsck"]).good().out.contains("nothing is damaged"));
    }
}

#[test]
fn a_saved_image_loads_with_the_same_id_and_prune_takes_what_nobody_needs() {
    let world = World::new();
    let archive = world.dir.join("saved.tar");
    let id = |world: &World| world.call(&["image", "ls", "-o", "json"]).good().json()[0]["id"].clone();
    let before = id(&world);
    for form in ["oci-archive", "docker-archive"] {
        world.call(&["image", "save", common::IMAGE, "-O", archive.to_str().unwrap(), "--format", form]).good();
        world.call(&["image", "rm", common::IMAGE]).good();
        world.call(&["image", "load", "-i", archive.to_str().unwrap()]).good();
        assert_eq!(id(&world), before, "{form}");
    }
    world.detach(&[pod("p", "crun", &[app(WAITS)])]);
    world.call(&["image", "prune", "--all"]).good();
    assert_eq!(id(&world), before, "a pod runs from it");
    world.call(&["stop", "p", "--grace", "0"]).good();
    let pruned = world.call(&["image", "prune", "--all", "-o", "json"]).good().json();
    assert!(pruned["bytes"].as_u64().unwrap() > 500_000, "{pruned}");
    assert_eq!(world.call(&["image", "ls", "-o", "json"]).good().json(), json!([]));
    world.call(&["image", "save", "no/such:1", "-O", archive.to_str().unwrap()]).fails(120, "no/such");
}
