//! The proxies of the environment, which a test may only set for a process of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Options};
use std::process::Command;
use support::{DIGEST, MANIFEST, OCI, Server, answer, assert_words, options};

/// Runs one of the ignored tests with HTTP_PROXY set.
fn run(test: &str, proxy: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command
        .args(["--ignored", "--exact", test, "--nocapture"])
        .env("HTTP_PROXY", proxy)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Knows registry.example as a host that is asked in the clear.
fn client() -> (Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("registry.example")).unwrap();
    std::fs::write(dir.path().join("registry.example/hosts.toml"), "server = 'http://registry.example'").unwrap();
    (
        Client::new(Options {
            hosts_dirs: vec![dir.path().to_owned()],
            ..options()
        })
        .unwrap(),
        dir,
    )
}

#[test]
fn a_proxy_on_this_machine_is_gone_through() {
    let proxy = Server::start(|seen, stream| match (seen.method.as_str(), seen.target.as_str()) {
        ("CONNECT", "registry.example:80" | "cdn.example:80") => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            match support::read_request(stream).unwrap().target.as_str() {
                "/v2/team/app/manifests/moved" => answer(stream, 307, &[("Location", "http://cdn.example/m")], b""),
                _ => answer(stream, 200, &[("Content-Type", OCI)], MANIFEST.as_bytes()),
            }
        }
        _ => answer(stream, 403, &[], b""),
    });
    run("through_a_proxy", &format!("http://{}", proxy.address));
    assert_eq!(
        proxy.targets(),
        [
            "CONNECT registry.example:80",
            "CONNECT registry.example:80",
            "CONNECT cdn.example:80"
        ]
    );
}

#[test]
#[ignore = "a_proxy_on_this_machine_is_gone_through runs it, with HTTP_PROXY set"]
fn through_a_proxy() {
    let (client, _dir) = client();
    let image = support::image("registry.example");
    assert_eq!(client.manifest(&image, "latest").unwrap().digest, DIGEST);
    // Where a redirect leads is gone to through it as well.
    assert_eq!(client.manifest(&image, "moved").unwrap().digest, DIGEST);
    // A registry on this machine is not asked through it.
    let server = Server::start(|_, stream| answer(stream, 200, &[("Content-Type", OCI)], MANIFEST.as_bytes()));
    assert_eq!(client.manifest(&server.image(), "latest").unwrap().digest, DIGEST);
}

#[test]
fn a_proxy_that_refuses_or_is_none_is_told() {
    let proxy = Server::start(|_, stream| answer(stream, 403, &[], b""));
    run("through_a_refusing_proxy", &format!("http://{}", proxy.address));
    run("through_no_proxy", "ftp://user:secret@proxy");
}

#[test]
#[ignore = "a_proxy_that_refuses_or_is_none_is_told runs it, with HTTP_PROXY set"]
fn through_a_refusing_proxy() {
    assert_words(
        &client().0.manifest(&support::image("registry.example"), "latest").unwrap_err(),
        &[
            "no connection to registry.example",
            "through the proxy of HTTP_PROXY: it was refused",
        ],
    );
}

#[test]
#[ignore = "a_proxy_that_refuses_or_is_none_is_told runs it, with HTTP_PROXY set"]
fn through_no_proxy() {
    let error = client().0.manifest(&support::image("registry.example"), "latest").unwrap_err();
    assert_words(&error, &["HTTP_PROXY", "http://host:port"]);
    assert!(!error.to_string().contains("secret"), "{error}");
}
