//! Kubeconfigs, good and bad, and the credentials that they give.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::path::Path;

use cofferdam_cluster::{Cluster, Error};
use common::{Home, json, serve};

const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// The Authorization header that a user's request carries.
fn authorization(home: impl FnOnce(SocketAddr) -> Home) -> Option<String> {
    let server = serve(vec![json("200 OK", r#"{"kind":"NodeList","items":[]}"#)]);
    let home = home(server.address);
    assert!(home.open().unwrap().nodes().unwrap().is_empty());
    let head = server.heads.recv().unwrap();
    head.lines()
        .find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned))
}

/// A home whose user runs `script` for credentials.
fn with_plugin(address: SocketAddr, script: &str) -> Home {
    let home = Home::new(
        address,
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [PLUGIN], interactiveMode: Never}}",
    );
    let plugin = home.write("plugin", script);
    let config = std::fs::read_to_string(home.path())
        .unwrap()
        .replace("PLUGIN", plugin.to_str().unwrap());
    home.write("config", &config);
    home
}

#[test]
fn credentials() {
    assert_eq!(authorization(|a| Home::new(a, "{}")), None);
    assert_eq!(authorization(|a| Home::new(a, "{token: abc}")).as_deref(), Some("Bearer abc"));
    assert_eq!(
        authorization(|a| Home::new(a, "{username: u, password: p}")).as_deref(),
        Some("Basic dTpw")
    );
    assert_eq!(
        authorization(|a| Home::new(a, "{token: abc, tokenFile: /nowhere/token}")).as_deref(),
        Some("Bearer abc")
    );
    let file = authorization(|a| {
        let home = Home::new(a, "{token: abc, tokenFile: token}");
        home.write("token", "from-file\n");
        home
    });
    assert_eq!(file.as_deref(), Some("Bearer from-file"));
    let script = r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}'"#;
    assert_eq!(authorization(|a| with_plugin(a, script)).as_deref(), Some("Bearer from-plugin"));
}

#[test]
fn credentials_that_are_not_there() {
    for (home, part) in [
        (Home::new(NOBODY, "{tokenFile: /nowhere/token}"), "/nowhere/token"),
        (
            Home::new(NOBODY, r#"{token: "a\nb"}"#),
            "its token has characters that no token has",
        ),
        (with_plugin(NOBODY, "echo no >&2; exit 3"), "exit status: 3"),
        (with_plugin(NOBODY, "echo hello"), "exec"),
        (
            Home::new(
                NOBODY,
                "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nowhere/plugin}}",
            ),
            "No such file",
        ),
    ] {
        let error = home.open().err().unwrap();
        assert!(matches!(error, Error::Credentials { .. }), "{error}");
        assert!(
            error.to_string().contains("http://127.0.0.1:9: ") && error.to_string().contains(part),
            "{error}"
        );
    }
}

#[test]
fn contexts() {
    let home = Home::new(NOBODY, "{}");
    assert_eq!(home.open().unwrap().default_namespace(), "default");
    let other = Cluster::open(Some(&home.path()), Some("other")).unwrap();
    assert_eq!((other.default_namespace(), other.server()), ("shop", "http://127.0.0.1:9"));
}

#[test]
fn kubeconfigs_that_cannot_be_used() {
    let home = Home::new(NOBODY, "{}");
    let good = std::fs::read_to_string(home.path()).unwrap();
    let error = |path: &Path, context| Cluster::open(Some(path), context).err().unwrap();
    let row = |path: &Path, context, part: &str| {
        let error = error(path, context);
        assert!(matches!(error, Error::Kubeconfig { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with(&format!("the kubeconfig {} cannot be used: ", path.display())),
            "{error}"
        );
        assert!(error.to_string().contains(part), "{error}, not {part}");
    };
    row(&home.path(), Some("third"), "it has no context \"third\"");
    row(Path::new("/nowhere/config"), None, "No such file");
    row(
        &home.write("a", &good.replace("current-context: main", "current-context: ")),
        None,
        "context",
    );
    row(
        &home.write("b", &good.replace("cluster: c,", "cluster: d,")),
        None,
        "it has no cluster \"d\", which its context names",
    );
    row(
        &home.write("c", &good.replace("server: ", "x: ")),
        None,
        "the cluster of its context has no server",
    );
    row(
        &home.write("d", &good.replace("server: ", "certificate-authority: /nowhere/ca, server: ")),
        None,
        "/nowhere/ca",
    );
    row(&home.write("e", "a: ]"), None, "YAML");
    row(home.dir.path(), None, "directory");
}

#[test]
fn servers() {
    let good = std::fs::read_to_string(Home::new(NOBODY, "{}").path()).unwrap();
    let open = |server: &str, more: &str| {
        let home = Home::new(NOBODY, "{}");
        home.write("config", &good.replace("'http://127.0.0.1:9'", &format!("'{server}'{more}")));
        home.open()
    };
    // As kubectl reads them.
    for (server, more, read) in [
        ("127.0.0.1:9", "", "http://127.0.0.1:9"),
        ("localhost", "", "http://localhost"),
        ("127.0.0.1:9", ", insecure-skip-tls-verify: true", "https://127.0.0.1:9"),
        ("http://127.0.0.1:9/k8s/one/", "", "http://127.0.0.1:9/k8s/one"),
    ] {
        assert_eq!(open(server, more).unwrap().server(), read);
    }
    for server in [
        "",
        "/api",
        "ftp://127.0.0.1:9",
        "unix:///run/x",
        "https://",
        "http:// x",
        "http://u:secret@127.0.0.1:9",
    ] {
        let error = open(server, "").err().unwrap();
        assert!(matches!(error, Error::Kubeconfig { .. }), "{server}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
