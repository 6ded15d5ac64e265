//! How we are let in: Basic, tokens, several credentials, and what is never sent where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use base64::Engine as _;
use cofferdam_registry::{Client, Credential, Error, Image, Options};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{DIGEST, MANIFEST, OCI, Seen, Server, Stream, answer, assert_words, client, options};

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}

fn good(stream: &mut dyn Stream) {
    answer(
        stream,
        200,
        &[("Content-Type", OCI), ("Docker-Content-Digest", DIGEST)],
        MANIFEST.as_bytes(),
    );
}

/// A registry that lets in who bears this header.
fn registry(challenge: String, header: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    Server::start(move |seen, stream| match seen.header("authorization") {
        Some(bearer) if header(bearer) => good(stream),
        _ => answer(
            stream,
            401,
            &[("WWW-Authenticate", &challenge)],
            br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#,
        ),
    })
}

fn authorizations(seen: &[Seen]) -> Vec<Option<String>> {
    seen.iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

fn with(server: &Server, users: &[(&str, &str)]) -> Client {
    let registry = server.address.to_string();
    client().with_credentials(
        users
            .iter()
            .map(|(user, password)| Credential::password(&registry, user, password, "the test"))
            .collect(),
    )
}

#[test]
fn basic_is_given_when_asked_for_and_then_at_once() {
    let server = registry("Basic realm=\"a, b\"".to_owned(), |header| header == basic("me", "p:w"));
    let client = with(&server, &[("me", "p:w")]);
    client.manifest(&server.image(), "latest").unwrap();
    client.manifest(&server.image(), "latest").unwrap();
    let sent = Some(basic("me", "p:w"));
    assert_eq!(authorizations(&server.seen()), [None, sent.clone(), sent]);
}

#[test]
fn one_credential_after_the_other_is_tried() {
    let server = registry("Basic realm=\"x\"".to_owned(), |header| header == basic("third", "pw"));
    let client = with(&server, &[("first", "pw"), ("second", "pw"), ("third", "pw")]);
    assert_eq!(client.manifest(&server.image(), "latest").unwrap().digest, DIGEST);
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_refusal_says_what_was_tried_and_from_where() {
    let server = registry("Basic realm=\"x\"".to_owned(), |_| false);
    let host = server.address.to_string();
    let error = client().manifest(&server.image(), "latest").unwrap_err();
    assert_words(
        &error,
        &[
            &host,
            "401, UNAUTHORIZED: who are you",
            &format!("no credentials for {host}"),
            "log in",
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(
        &file,
        format!(r#"{{"auths":{{"http://{host}/v2/":{{"username":"filed","password":"secret"}}}}}}"#),
    )
    .unwrap();
    let options = Options {
        auth_files: vec![file.clone()],
        credentials: vec![Credential::password(&host, "given", "secret", "secret ns/x")],
        ..options()
    };
    let error = Client::new(options).unwrap().manifest(&server.image(), "latest").unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }));
    assert_words(
        &error,
        &[
            "user given of secret ns/x (401, UNAUTHORIZED: who are you)",
            &format!("user filed of {}", file.display()),
        ],
    );
    assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
}

/// A token service that gives `token` to whom it likes, and a registry that takes it.
fn bearer(scope: &'static str, service: impl Fn(&Seen, &mut dyn Stream) + Send + Sync + 'static) -> (Server, Server) {
    let tokens = Server::start(service);
    let challenge = format!("Bearer realm=\"http://{}/token?x=1\",service=\"a registry\"{scope}", tokens.address);
    (registry(challenge, |header| header == "Bearer good.token"), tokens)
}

const GOOD: &[u8] = br#"{"token":"good.token","expires_in":300}"#;

#[test]
fn anonymous_tokens_are_fetched_once() {
    let (server, tokens) = bearer("", |_, stream| answer(stream, 200, &[], br#"{"access_token":"good.token"}"#));
    let client = client();
    for _ in 0..3 {
        assert_eq!(client.head(&server.image(), "latest").unwrap().as_deref(), Some(DIGEST));
    }
    assert_eq!(
        tokens.targets(),
        ["GET /token?x=1&service=a%20registry&scope=repository%3Ateam%2Fapp%3Apull"]
    );
    assert_eq!(authorizations(&tokens.seen()), [None]);
    assert_eq!(server.seen().len(), 4);
    // Each repository has a token of its own.
    let other = Image {
        repository: "team/other".to_owned(),
        ..server.image()
    };
    client.head(&other, "latest").unwrap();
    assert_eq!(tokens.seen().len(), 2);
}

#[test]
fn passwords_go_to_the_token_service_only() {
    let (server, tokens) = bearer(",scope=\"repository:team/app:pull,push\"", |seen, stream| {
        match seen.header("authorization") {
            Some(header) if header == basic("me", "pw") => answer(stream, 200, &[], GOOD),
            _ => answer(stream, 401, &[], br#"{"details":"incorrect username or password"}"#),
        }
    });
    with(&server, &[("me", "pw")]).manifest(&server.image(), "latest").unwrap();
    assert_eq!(
        tokens.targets(),
        ["GET /token?x=1&service=a%20registry&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"]
    );
    assert_eq!(authorizations(&server.seen()), [None, Some("Bearer good.token".to_owned())]);
    let error = with(&server, &[("me", "wrong")]).manifest(&server.image(), "latest").unwrap_err();
    assert_words(&error, &["user me of the test (401, incorrect username or password)"]);
    // The second of two is tried after the token service refused the first.
    with(&server, &[("me", "wrong"), ("me", "pw")])
        .manifest(&server.image(), "latest")
        .unwrap();
}

#[test]
fn identity_tokens_are_posted() {
    let (server, tokens) = bearer("", |_, stream| answer(stream, 200, &[], GOOD));
    let credential = Credential::identity_token(&server.address.to_string(), "refresh&me", "x");
    client()
        .with_credentials(vec![credential])
        .manifest(&server.image(), "latest")
        .unwrap();
    let seen = &tokens.seen()[0];
    assert_eq!((seen.method.as_str(), seen.header("authorization")), ("POST", None));
    assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
    let form =
        "grant_type=refresh_token&client_id=cofferdam&refresh_token=refresh%26me&service=a%20registry&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(seen.body, form);
}

#[test]
fn registry_tokens_are_sent_as_they_are() {
    let (server, tokens) = bearer("", |_, stream| answer(stream, 500, &[], b""));
    let credential = Credential::registry_token(&server.address.to_string(), "good.token", "x");
    client()
        .with_credentials(vec![credential])
        .manifest(&server.image(), "latest")
        .unwrap();
    assert!(tokens.seen().is_empty());
}

#[test]
fn a_token_that_is_no_longer_taken_is_renewed() {
    let (made, now) = (AtomicUsize::new(0), std::sync::Arc::new(AtomicUsize::new(1)));
    let tokens = Server::start(move |_, stream| {
        let body = format!(r#"{{"token":"t{}","expires_in":3600}}"#, made.fetch_add(1, Ordering::SeqCst) + 1);
        answer(stream, 200, &[], body.as_bytes());
    });
    let valid = now.clone();
    let server = registry(format!("Bearer realm=\"http://{}/t\"", tokens.address), move |header| {
        header == format!("Bearer t{}", valid.load(Ordering::SeqCst))
    });
    let client = client();
    client.manifest(&server.image(), "latest").unwrap();
    now.store(2, Ordering::SeqCst);
    client.manifest(&server.image(), "latest").unwrap();
    let sent: Vec<String> = authorizations(&server.seen()).into_iter().flatten().collect();
    assert_eq!(sent, ["Bearer t1", "Bearer t1", "Bearer t2"]);
}

#[test]
fn what_one_caller_was_granted_is_not_anothers() {
    let server = registry("Basic realm=\"x\"".to_owned(), |header| header == basic("me", "pw"));
    let mine = with(&server, &[("me", "pw")]);
    mine.manifest(&server.image(), "latest").unwrap();
    let theirs = mine.with_credentials(Vec::new());
    assert!(matches!(
        theirs.manifest(&server.image(), "latest"),
        Err(Error::Unauthorized { .. })
    ));
    mine.clone().manifest(&server.image(), "latest").unwrap();
}

#[test]
fn credentials_of_others_are_not_sent() {
    let server = registry("Basic realm=\"x\"".to_owned(), |_| true);
    let other = |key: &str| Credential::password(key, "me", "pw", "x");
    let port = server.address.port();
    let keys = [
        "docker.io".to_owned(),
        "127.0.0.1".to_owned(),
        format!("127.0.0.2:{port}"),
        format!("{}/team/apple", server.address),
        "*".to_owned(),
    ];
    let client = client().with_credentials(keys.iter().map(|key| other(key)).collect());
    assert!(client.manifest(&server.image(), "latest").is_err());
    assert_eq!(authorizations(&server.seen()), [None]);
}

#[test]
fn token_services_that_misbehave_are_errors() {
    for (status, body, words) in [
        (200, "".as_bytes().to_vec(), "not the JSON of a token"),
        (200, b"{}".to_vec(), "holds no token"),
        (200, br#"{"token":"a b"}"#.to_vec(), "no header's value"),
        (200, br#"{"token":"a\r\nX: y"}"#.to_vec(), "no header's value"),
        (200, vec![b' '; 2 << 20], "more than 1048576 bytes"),
        (500, b"down".to_vec(), "500, down"),
        (302, b"".to_vec(), "sends on to"),
        (429, b"slow".to_vec(), "429, slow"),
        (400, br#"{"error":"invalid_grant"}"#.to_vec(), "400, invalid_grant"),
    ] {
        let (server, tokens) = bearer("", move |_, stream| {
            answer(stream, status, &[("Location", "file:///etc/shadow")], &body)
        });
        let error = client().manifest(&server.image(), "latest").unwrap_err();
        assert_words(&error, &[words]);
        let shown = error.to_string();
        assert!(
            shown.contains(&tokens.address.to_string()) || shown.contains(&server.address.to_string()),
            "{shown}"
        );
    }
}

#[test]
fn realms_that_are_not_safe_get_nothing() {
    for realm in [
        "http://auth.example/token",
        "file:///etc/passwd",
        "nonsense",
        "http://me@127.0.0.1/",
    ] {
        let server = registry(format!("Bearer realm=\"{realm}\",service=\"x\""), |_| true);
        let error = with(&server, &[("me", "pw")]).manifest(&server.image(), "latest").unwrap_err();
        assert!(matches!(error, Error::Realm { .. }), "{realm}: {error}");
    }
}

#[test]
fn a_redirect_to_another_origin_gets_neither_credentials_nor_a_login() {
    let thief = Server::start(|_, stream| answer(stream, 401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b"log in here"));
    let to = format!("http://{}/v2/", thief.address);
    let server = Server::start(move |_, stream| answer(stream, 307, &[("Location", &to)], b""));
    let both = vec![
        Credential::password(&server.address.to_string(), "me", "pw", "x"),
        Credential::password(&thief.address.to_string(), "me", "pw", "x"),
    ];
    let error = client().with_credentials(both).manifest(&server.image(), "latest").unwrap_err();
    assert_words(&error, &[&format!("{} forbids", thief.address), "401, log in here"]);
    assert_eq!(authorizations(&thief.seen()), [None]);
}

/// The helper stands in PATH, which a test may only change for a process of its own.
#[test]
fn helpers_of_a_config_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-cofferdamtest");
    let script = r#"printf '#!/bin/sh\nread -r host\ncase $host in 127.*) echo "{\\"Username\\":\\"helped\\",\\"Secret\\":\\"pw\\"}";; *) echo credentials not found; exit 1;; esac\n' >"$1" && chmod 755 "$1""#;
    assert!(
        std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&helper)
            .status()
            .unwrap()
            .success()
    );
    std::fs::write(
        dir.path().join("config.json"),
        r#"{"credsStore":"cofferdamtest","auths":{"127.0.0.1":{}}}"#,
    )
    .unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "with_a_helper_in_path", "--nocapture"])
        .env("PATH", path)
        .env("COFFERDAM_TEST_CONFIG", dir.path().join("config.json"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "helpers_of_a_config_are_asked runs it, with a helper in PATH"]
fn with_a_helper_in_path() {
    let server = registry("Basic realm=\"x\"".to_owned(), |header| header == basic("helped", "pw"));
    let file = std::env::var_os("COFFERDAM_TEST_CONFIG").unwrap().into();
    let client = Client::new(Options {
        auth_files: vec![file],
        ..options()
    })
    .unwrap();
    client.manifest(&server.image(), "latest").unwrap();
}
