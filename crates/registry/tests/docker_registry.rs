//! Against Debian's docker-registry on loopback: in the clear, over TLS, and with passwords.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Credential, Error, Image, Options};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use support::{OCI, assert_words, content, options};

/// `me` with the password `pw`.
const HTPASSWD: &str = "me:$2y$05$nUs8v3CScin2cc5ld1V6FuWxXmQ6eLa8ro3H/jqbaIDDqCUNSHh4u\n";
const BASIC: &str = "Authorization: Basic bWU6cHc=\r\n";

struct Registry {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Registry {
    /// Starts one and waits until it answers. Another process may take its port before it does; then
    /// another port is tried.
    fn start(http: &str, more: &str) -> Self {
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().display().to_string();
            std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
            let more = more.replace("DIR", &root);
            let storage = if more.contains("storage:") {
                ""
            } else {
                &format!("storage: {{filesystem: {{rootdirectory: {root}/data}}}}\n")
            };
            let config = format!("version: 0.1\nlog: {{level: error}}\n{storage}http: {{addr: '{address}'{http}}}\n{more}");
            std::fs::write(dir.path().join("config.yml"), config).unwrap();
            let mut command = Command::new("docker-registry");
            command
                .arg("serve")
                .arg(dir.path().join("config.yml"))
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = command.spawn().expect("docker-registry, of the Debian package of that name, runs");
            let mut registry = Self { child, address, dir };
            if registry.is_up() {
                return registry;
            }
        }
        panic!("docker-registry did not come up");
    }

    fn is_up(&mut self) -> bool {
        for _ in 0..3000 {
            if let Some(_ended) = self.child.try_wait().unwrap() {
                return false;
            }
            if TcpStream::connect(&self.address).is_ok() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        false
    }

    fn image(&self) -> Image {
        support::image(&self.address)
    }

    /// Status and head of the answer to a request in the clear.
    fn say(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    fn push_blob(&self, auth: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let (status, answer) = self.say("POST", "/v2/team/app/blobs/uploads/", auth, b"");
        assert_eq!(status, 202, "{answer}");
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim();
        let target = location.strip_prefix(&format!("http://{}", self.address)).unwrap();
        let headers = format!("{auth}Content-Type: application/octet-stream\r\n");
        let (status, answer) = self.say("PUT", &format!("{target}&digest={digest}"), &headers, bytes);
        assert_eq!(status, 201, "{answer}");
        digest
    }

    /// Pushes an image with this layer as `v1`; gives the digests of manifest and layer.
    fn push(&self, auth: &str, layer: &[u8]) -> (String, String) {
        let config = b"{}";
        let (config_digest, layer_digest) = (self.push_blob(auth, config), self.push_blob(auth, layer));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
            layer.len()
        );
        let headers = format!("{auth}Content-Type: {OCI}\r\n");
        let (status, answer) = self.say("PUT", "/v2/team/app/manifests/v1", &headers, manifest.as_bytes());
        assert_eq!(status, 201, "{answer}");
        (digest_of(manifest.as_bytes()), layer_digest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn download(client: &Client, image: &Image, digest: &str, size: u64, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.blob(image, digest, size, offset).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_image_is_pulled() {
    let registry = Registry::start("", "");
    let layer = content(1 << 20);
    let (digest, layer_digest) = registry.push("", &layer);
    let (client, image, size) = (support::client(), registry.image(), layer.len() as u64);
    let manifest = client.manifest(&image, "v1").unwrap();
    assert_eq!(
        (manifest.digest.as_str(), manifest.media_type.as_str(), manifest.from.as_str()),
        (digest.as_str(), OCI, registry.address.as_str())
    );
    assert_eq!(digest_of(&manifest.bytes), digest);
    assert_eq!(client.manifest(&image, &digest).unwrap(), manifest);
    assert_eq!(client.head(&image, "v1").unwrap(), Some(digest.clone()));
    assert_eq!(client.head(&image, &digest).unwrap(), Some(digest));
    assert_eq!(client.head(&image, "v2").unwrap(), None);
    assert!(download(&client, &image, &layer_digest, size, 0) == layer);
    assert!(download(&client, &image, &layer_digest, size, 777_777) == layer[777_777..]);
    // Threads share the client.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(download(&client, &image, &layer_digest, size, 5) == layer[5..]));
        }
    });
    let error = client.manifest(&image, "v2").unwrap_err();
    assert!(error.is_not_found());
    assert_words(
        &error,
        &[&registry.address, "team/app:v2", "404, MANIFEST_UNKNOWN: manifest unknown"],
    );
    let none = format!("sha256:{}", "0".repeat(64));
    assert_words(&client.blob(&image, &none, 5, 0).unwrap_err(), &[&none, "404, BLOB_UNKNOWN"]);
    assert_words(
        &client.blob(&image, &layer_digest, 5, 0).unwrap_err(),
        &["sends 1048576 bytes instead of 5"],
    );
}

#[test]
fn passwords_let_in_and_their_absence_does_not() {
    let registry = Registry::start("", "auth: {htpasswd: {realm: 'a, realm', path: DIR/htpasswd}}\n");
    let layer = content(5000);
    let (digest, layer_digest) = registry.push(BASIC, &layer);
    let image = registry.image();
    let error = support::client().manifest(&image, "v1").unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_words(&error, &["401, UNAUTHORIZED: authentication required", "no credentials for"]);
    let wrong = Credential::password(&registry.address, "me", "guess", "a test");
    assert_words(
        &support::client().with_credentials(vec![wrong]).head(&image, "v1").unwrap_err(),
        &["user me of a test (401"],
    );
    let file = registry.dir.path().join("config.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{}":{{"auth":"bWU6cHc="}}}}}}"#, registry.address)).unwrap();
    let client = Client::new(Options {
        auth_files: vec![file.clone()],
        ..options()
    })
    .unwrap();
    assert_eq!(client.manifest(&image, "v1").unwrap().digest, digest);
    assert!(download(&client, &image, &layer_digest, 5000, 100) == layer[100..]);
    let secret = Credential::from_docker_config(&std::fs::read(file).unwrap(), "a secret").unwrap();
    assert_eq!(support::client().with_credentials(secret).head(&image, "v1").unwrap(), Some(digest));
}

#[test]
fn tls_is_spoken_with_the_authority_of_hosts_toml() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let clear = Registry::start("", "");
    let (digest, _) = clear.push("", b"layer");
    let write = |name: &str, text: &str| std::fs::write(clear.dir.path().join(name), text).unwrap();
    write("cert.pem", &made.cert.pem());
    write("key.pem", &made.signing_key.serialize_pem());
    // The same data over TLS.
    let root = clear.dir.path().display();
    let registry = Registry::start(
        &format!(", tls: {{certificate: {root}/cert.pem, key: {root}/key.pem}}"),
        &format!("storage: {{filesystem: {{rootdirectory: {root}/data}}}}\n"),
    );
    let error = support::client().manifest(&registry.image(), "v1").unwrap_err();
    assert_words(&error, &["400", "HTTP request to an HTTPS server"]);
    let own = clear.dir.path().join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), "ca = '../../cert.pem'\n").unwrap();
    let client = Client::new(Options {
        hosts_dirs: vec![clear.dir.path().join("certs.d")],
        ..options()
    })
    .unwrap();
    assert_eq!(client.manifest(&registry.image(), "v1").unwrap().digest, digest);
}
