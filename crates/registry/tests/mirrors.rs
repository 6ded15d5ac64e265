//! `hosts.toml` at work: mirrors, their order, their capabilities and what each is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Credential, Error, Image, Options};
use std::io::Read as _;
use support::{DIGEST, MANIFEST, OCI, Seen, Server, Stream, answer, assert_words, content, head, options};

/// A client that knows one registry, docker.io, by this `hosts.toml`; the folder lives as long as it.
fn knowing(hosts_toml: &str) -> (Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("docker.io")).unwrap();
    std::fs::write(dir.path().join("docker.io/hosts.toml"), hosts_toml).unwrap();
    (
        Client::new(Options {
            hosts_dirs: vec![dir.path().to_owned()],
            ..options()
        })
        .unwrap(),
        dir,
    )
}

fn nginx() -> Image {
    Image {
        registry: "docker.io".to_owned(),
        repository: "library/nginx".to_owned(),
    }
}

fn good(_: &Seen, stream: &mut dyn Stream) {
    answer(
        stream,
        200,
        &[("Content-Type", OCI), ("Docker-Content-Digest", DIGEST)],
        MANIFEST.as_bytes(),
    );
}

#[test]
fn mirrors_are_asked_in_order_and_told_whom_they_mirror() {
    let (broken, lost, right) = (
        Server::start(|_, stream| answer(stream, 500, &[], b"oh")),
        Server::start(|_, stream| answer(stream, 404, &[], b"")),
        Server::start(good),
    );
    let never = Server::start(good);
    let text = format!(
        "server = 'http://{}'\n[host.'http://{}']\n[host.'http://{}/proxy']\n[host.'http://{}/exact']\noverride_path = true\n[host.'http://{}'.header]\nx-who = ['a', 'b']",
        never.address, broken.address, lost.address, right.address, broken.address
    );
    let (client, _dir) = knowing(&text);
    let manifest = client.manifest(&nginx(), "1.27").unwrap();
    assert_eq!((manifest.from, manifest.digest.as_str()), (right.address.to_string(), DIGEST));
    assert_eq!(broken.targets(), ["GET /v2/library/nginx/manifests/1.27?ns=docker.io"]);
    assert_eq!(lost.targets(), ["GET /proxy/v2/library/nginx/manifests/1.27?ns=docker.io"]);
    assert_eq!(right.targets(), ["GET /exact/library/nginx/manifests/1.27?ns=docker.io"]);
    assert!(never.seen().is_empty());
    let who: Vec<String> = broken.seen()[0]
        .headers
        .iter()
        .filter(|(name, _)| name == "x-who")
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(who, ["a", "b"]);
    assert_eq!(right.seen()[0].header("x-who"), None);
}

#[test]
fn when_all_fail_each_reason_is_told() {
    let (broken, lost) = (
        Server::start(|_, stream| answer(stream, 500, &[], b"oh")),
        Server::start(|_, stream| answer(stream, 404, &[], b"")),
    );
    let (client, _dir) = knowing(&format!("server = 'http://{}'\n[host.'http://{}']", lost.address, broken.address));
    let error = client.manifest(&nginx(), "1").unwrap_err();
    let (b, l) = (broken.address.to_string(), lost.address.to_string());
    assert_words(
        &error,
        &[
            "no host gave docker.io/library/nginx:1: ",
            &format!("{b} did not give"),
            "500, oh",
            &format!("; {l} has no "),
        ],
    );
    assert!(!error.is_not_found());
    let (client, _dir) = knowing(&format!("server = 'http://{}'\n[host.'http://{}']", lost.address, lost.address));
    assert!(client.manifest(&nginx(), "1").unwrap_err().is_not_found());
    assert_eq!(client.head(&nginx(), "1").unwrap(), None);
}

#[test]
fn hosts_are_asked_only_for_what_they_can_do() {
    let (puller, resolver) = (Server::start(good), Server::start(good));
    let text = format!(
        "server = 'http://{}'\ncapabilities = ['resolve']\n[host.'http://{}']\ncapabilities = ['pull']",
        resolver.address, puller.address
    );
    let (client, _dir) = knowing(&text);
    // Who may only resolve says which digest it is; who may only pull gives that.
    assert_eq!(client.manifest(&nginx(), "1").unwrap().from, puller.address.to_string());
    assert_eq!(resolver.targets(), ["HEAD /v2/library/nginx/manifests/1?ns=docker.io"]);
    assert_eq!(puller.targets(), [format!("GET /v2/library/nginx/manifests/{DIGEST}?ns=docker.io")]);
    let (client, _dir) = knowing("capabilities = ['push']\nserver = 'http://127.0.0.1:1'");
    let error = client.manifest(&nginx(), "1").unwrap_err();
    assert!(matches!(error, Error::NoHost { .. }), "{error}");
    assert_words(&error, &["resolve images of docker.io", "hosts.toml"]);
}

#[test]
fn a_blob_goes_on_at_the_next_mirror() {
    let size = 50_000;
    let cut = Server::start(move |seen, stream| match seen.from() {
        0 => {
            head(stream, 200, &[], Some(size));
            let _ = stream.write_all(&content(size)[..20_000]);
        }
        _ => answer(stream, 503, &[], b"gone"),
    });
    let whole = Server::start(move |seen, stream| {
        let range = format!("bytes {}-{}/{size}", seen.from(), size - 1);
        answer(stream, 206, &[("Content-Range", &range)], &content(size)[seen.from()..]);
    });
    let (client, _dir) = knowing(&format!("server = 'http://{}'\n[host.'http://{}']", whole.address, cut.address));
    let mut blob = client.blob(&nginx(), DIGEST, size as u64, 0).unwrap();
    assert_eq!(blob.host(), cut.address.to_string());
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content(size));
    assert_eq!(whole.seen()[0].header("range"), Some("bytes=20000-"));
}

#[test]
fn credentials_of_the_registry_are_not_for_its_mirror() {
    let mirror = Server::start(|_, stream| answer(stream, 401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b""));
    let (client, _dir) = knowing(&format!("server = 'http://{}'", mirror.address));
    let hub = Credential::password("docker.io", "me", "pw", "x");
    let error = client.with_credentials(vec![hub.clone()]).manifest(&nginx(), "1").unwrap_err();
    assert_words(&error, &[&format!("there are no credentials for {}", mirror.address)]);
    let own = Credential::password(&mirror.address.to_string(), "mine", "pw", "x");
    let error = client.with_credentials(vec![hub, own]).manifest(&nginx(), "1").unwrap_err();
    assert_words(&error, &["user mine of x"]);
    assert_eq!(
        mirror.seen().iter().filter(|seen| seen.header("authorization").is_some()).count(),
        1
    );
}

#[test]
fn changes_count_at_once_and_mistakes_are_told() {
    let (one, two) = (Server::start(good), Server::start(good));
    let (client, dir) = knowing(&format!("server = 'http://{}'\nservre = 1", one.address));
    let hosts = client.hosts(&nginx()).unwrap();
    assert!(hosts.warnings[0].contains(":2: the key \"servre\""), "{:?}", hosts.warnings);
    assert_eq!(client.manifest(&nginx(), "1").unwrap().from, one.address.to_string());
    let file = dir.path().join("docker.io/hosts.toml");
    std::fs::write(&file, format!("server = 'http://{}'", two.address)).unwrap();
    assert_eq!(client.manifest(&nginx(), "1").unwrap().from, two.address.to_string());
    std::fs::write(&file, "server = 'http://u:p@x'").unwrap();
    assert_words(&client.manifest(&nginx(), "1").unwrap_err(), &["hosts.toml:1: ", "neither a user"]);
}

#[test]
fn a_mirror_that_is_configured_wrongly_is_told_and_not_passed_over() {
    let right = Server::start(good);
    let (client, dir) = knowing(&format!(
        "server = 'http://{}'\n[host.'https://127.0.0.1:1']\nca = 'missing.pem'",
        right.address
    ));
    let named = dir.path().join("docker.io/missing.pem").display().to_string();
    assert_words(&client.manifest(&nginx(), "1").unwrap_err(), &[&named, "not there"]);
    assert_words(&client.blob(&nginx(), DIGEST, 1, 0).unwrap_err(), &[&named]);
    assert!(right.seen().is_empty());
}

#[test]
fn headers_of_a_mirror_are_for_it_alone() {
    let cdn = Server::start(good);
    let to = format!("http://{}/", cdn.address);
    let mirror = Server::start(move |_, stream| answer(stream, 307, &[("Location", &to)], b""));
    let header = "[header]\nx-key = 'secret'\nauthorization = 'Basic eDp5'";
    let (client, _dir) = knowing(&format!("server = 'http://{}'\n{header}", mirror.address));
    client.manifest(&nginx(), "1").unwrap();
    for name in ["x-key", "authorization"] {
        assert!(mirror.seen()[0].header(name).is_some());
        assert_eq!(cdn.seen()[0].header(name), None);
    }
}
