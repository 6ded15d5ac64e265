//! Manifests and digests from servers that answer well, badly, or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Error, Options};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use support::{DIGEST, MANIFEST, OCI, Server, answer, assert_words, client, head, hold, impatient, options};

#[test]
fn a_manifest_comes_with_kind_digest_and_origin() {
    let server = Server::start(|_, stream| answer(stream, 200, &[("Content-Type", OCI)], MANIFEST.as_bytes()));
    for reference in ["latest", DIGEST] {
        let manifest = client().manifest(&server.image(), reference).unwrap();
        assert_eq!((manifest.media_type.as_str(), manifest.digest.as_str()), (OCI, DIGEST));
        assert_eq!(
            (manifest.bytes, manifest.from),
            (MANIFEST.as_bytes().to_vec(), server.address.to_string())
        );
    }
    let seen = server.seen();
    assert_eq!(seen[0].target, "/v2/team/app/manifests/latest");
    assert_eq!(seen[1].target, format!("/v2/team/app/manifests/{DIGEST}"));
    let accept = seen[0].header("accept").unwrap();
    assert!(
        accept.contains("image.index.v1+json") && accept.contains("manifest.list.v2+json") && !accept.contains("v1+prettyjws"),
        "{accept}"
    );
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert!(seen[0].header("user-agent").unwrap().starts_with("cofferdam/"));
    assert_eq!(seen[0].header("authorization"), None);
}

#[test]
fn other_bytes_than_were_asked_for_are_refused() {
    let other = format!("sha256:{}", "0".repeat(64));
    let named = other.clone();
    let server = Server::start(move |_, stream| {
        answer(
            stream,
            200,
            &[("Content-Type", OCI), ("Docker-Content-Digest", &named)],
            MANIFEST.as_bytes(),
        )
    });
    for reference in [other.as_str(), "latest", DIGEST] {
        let error = client().manifest(&server.image(), reference).unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{error}");
        assert_words(&error, &[&other, DIGEST, "it is not used"]);
    }
}

#[test]
fn refusals_are_told_with_the_registrys_own_words() {
    for (status, headers, body, words) in [
        (
            404,
            vec![],
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such\u001b[2J manifest"}]}"#,
            vec!["has no", "team/app:latest", "404, MANIFEST_UNKNOWN: no such [2J manifest"],
        ),
        (
            403,
            vec![],
            r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
            vec!["forbids", "403, DENIED: no"],
        ),
        (
            429,
            vec![("Retry-After", "30")],
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"limit"}]}"#,
            vec!["429, TOOMANYREQUESTS: limit", "try again in 30 s"],
        ),
        (
            429,
            vec![("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")],
            "",
            vec!["(429)", "after Wed, 21 Oct"],
        ),
        (429, vec![], "", vec!["through a mirror"]),
        (
            500,
            vec![("Content-Type", "text/html")],
            "<html>oh",
            vec!["(500)", "fault is on its side"],
        ),
        (
            400,
            vec![("Content-Type", "text/plain")],
            "Client sent an HTTP request to an HTTPS server.\n",
            vec!["HTTP request to an HTTPS server."],
        ),
        (418, vec![], "tea", vec!["418, tea"]),
        (204, vec![], "", vec!["did not give"]),
        (401, vec![], "", vec!["names no way to authenticate"]),
        (
            401,
            vec![("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "NTLM")],
            "",
            vec!["asks for negotiate, ntlm"],
        ),
    ] {
        let shared = (status, headers.clone(), body);
        let server = Server::start(move |_, stream| answer(stream, shared.0, &shared.1, shared.2.as_bytes()));
        let error = client().manifest(&server.image(), "latest").unwrap_err();
        assert_words(&error, &words);
        assert_words(&error, &[&server.address.to_string()]);
        assert!(!error.to_string().contains(['\u{1b}', '\n']), "{error}");
        assert_eq!(error.is_not_found(), status == 404);
        assert_eq!(error.is_transient(), matches!(status, 429 | 500));
    }
}

#[test]
fn what_is_too_much_is_not_taken() {
    let server = Server::start(|seen, stream| match seen.target.rsplit('/').next().unwrap() {
        "long" => head(stream, 200, &[("Content-Type", OCI)], Some(5 << 20)),
        "endless" => {
            head(stream, 200, &[("Content-Type", OCI), ("Transfer-Encoding", "chunked")], None);
            while support::chunk(stream, &[b' '; 65536]).is_ok() {}
        }
        "headers" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(format!("X-A: {}\r\n", "a".repeat(1000)).as_bytes()).is_ok() {}
        }
        _ => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: ");
            while stream.write_all(&[b'a'; 65536]).is_ok() {}
        }
    });
    for (tag, words) in [
        ("long", "more than 4194304 bytes"),
        ("endless", "more than 4194304 bytes"),
        ("headers", "headers"),
        ("header", "of headers"),
    ] {
        let error = client().manifest(&server.image(), tag).unwrap_err();
        // Whether their number or their size is too much is seen first, is up to how they arrive.
        assert!(tag == "headers" || matches!(error, Error::TooBig { .. }), "{tag}: {error}");
        assert_words(&error, &[words]);
    }
}

#[test]
fn what_is_no_answer_is_an_error() {
    let server = Server::start(|seen, stream| match seen.target.rsplit('/').next().unwrap() {
        "garbage" => {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n");
        }
        "nothing" => {}
        "short" => {
            head(stream, 200, &[("Content-Type", OCI)], Some(MANIFEST.len()));
            let _ = stream.write_all(&MANIFEST.as_bytes()[..20]);
        }
        "length" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n");
        }
        "chunks" => {
            head(stream, 200, &[("Content-Type", OCI), ("Transfer-Encoding", "chunked")], None);
            let _ = stream.write_all(b"zzz\r\n");
        }
        "packed" => answer(stream, 200, &[("Content-Type", OCI), ("Content-Encoding", "gzip")], b"x"),
        "html" => answer(stream, 200, &[("Content-Type", "text/html")], b"<html>Welcome"),
        "old" => answer(
            stream,
            200,
            &[("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")],
            b"{}",
        ),
        other => panic!("{other}"),
    });
    let what = "team/app:";
    for (tag, words) in [
        ("garbage", "protocol does not allow"),
        ("nothing", "cut the connection"),
        ("short", "cut the connection"),
        ("length", "protocol does not allow"),
        ("chunks", what),
        ("packed", "compressed in transit"),
        ("html", "not the JSON of a manifest"),
        ("old", "schema 1"),
    ] {
        let error = client().manifest(&server.image(), tag).unwrap_err();
        assert_words(&error, &[words, what]);
    }
}

#[test]
fn silence_and_drip_end_with_a_stall() {
    let server = Server::start(|seen, stream| match seen.target.rsplit('/').next().unwrap() {
        "silent" => hold(stream),
        "half" => {
            head(stream, 200, &[("Content-Type", OCI)], Some(MANIFEST.len()));
            let _ = stream.write_all(&MANIFEST.as_bytes()[..20]);
            hold(stream);
        }
        "drip-head" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: ");
            while stream.write_all(b"a").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        _ => {
            head(stream, 200, &[("Content-Type", OCI)], Some(1 << 20));
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    });
    for (tag, words) in [
        ("silent", "stalled while it sent 127.0.0.1"),
        ("half", "1 s without progress"),
        ("drip-head", "1 s without progress"),
        ("drip-body", "not complete after 3 s"),
    ] {
        let error = impatient().manifest(&server.image(), tag).unwrap_err();
        assert_words(&error, &[words]);
        assert!(error.is_transient());
    }
}

#[test]
fn hosts_that_cannot_be_reached_are_named_with_the_reason() {
    // Nobody listens where a listener was just closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let error = client().manifest(&support::image(&closed), "latest").unwrap_err();
    assert_words(&error, &[&format!("no connection to {closed}"), "nothing listens there"]);
    // A label over 63 bytes has no address, and nobody needs to be asked for it.
    let name = format!("{}.example", "a".repeat(64));
    let error = client().manifest(&support::image(&name), "latest").unwrap_err();
    assert!(matches!(error, Error::Unresolved { .. }), "{error}");
    assert_words(&error, &[&name, "resolv.conf"]);
}

/// Of nothing that is here.
const OTHER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn head_asks_get_only_where_it_must() {
    let server = Server::start(|seen, stream| {
        let tag = seen.target.rsplit('/').next().unwrap();
        let digest: &[(&str, &str)] = &[("Content-Type", OCI), ("Docker-Content-Digest", DIGEST)];
        match (seen.method.as_str(), tag) {
            ("HEAD", "good") | ("HEAD", OTHER) => head(stream, 200, digest, Some(MANIFEST.len())),
            ("HEAD", "mute") => head(stream, 200, &digest[..1], Some(MANIFEST.len())),
            ("HEAD", "refused") => head(stream, 405, &[], Some(0)),
            ("HEAD", "broken") => head(stream, 500, &[], Some(0)),
            (_, "broken") => answer(stream, 500, &[], b"disk full"),
            (_, "lost") => head(stream, 404, &[], Some(0)),
            (_, "busy") => head(stream, 429, &[("Retry-After", "7")], Some(0)),
            _ => answer(stream, 200, &digest[..1], MANIFEST.as_bytes()),
        }
    });
    let head = |tag: &str| client().head(&server.image(), tag);
    assert_eq!(head("good").unwrap().as_deref(), Some(DIGEST));
    assert_eq!(server.targets(), ["HEAD /v2/team/app/manifests/good"]);
    assert_eq!(head("mute").unwrap().as_deref(), Some(DIGEST));
    assert_eq!(head("refused").unwrap().as_deref(), Some(DIGEST));
    assert_eq!(head("lost").unwrap(), None);
    assert_words(&head("broken").unwrap_err(), &["500, disk full"]);
    assert_words(&head("busy").unwrap_err(), &["in 7 s"]);
    let wrong = head(OTHER).unwrap_err();
    assert!(matches!(wrong, Error::Digest { .. }), "{wrong}");
}

#[test]
fn what_is_no_name_is_not_asked_for() {
    let server = Server::start(|_, stream| answer(stream, 200, &[], b""));
    let mut image = server.image();
    for reference in ["", "a b", "sha256:abc", "../x", "a?b"] {
        assert!(
            matches!(client().manifest(&image, reference), Err(Error::Invalid { .. })),
            "{reference}"
        );
        assert!(
            matches!(client().head(&image, reference), Err(Error::Invalid { .. })),
            "{reference}"
        );
    }
    assert!(client().blob(&image, "latest", 1, 0).is_err());
    image.repository = "../etc".to_owned();
    assert!(matches!(client().manifest(&image, "latest"), Err(Error::Invalid { .. })));
    assert!(server.seen().is_empty());
    assert!(
        Client::new(Options {
            user_agent: "a\nb".to_owned(),
            ..options()
        })
        .is_err()
    );
}

#[test]
fn connections_are_used_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = support::image(&listener.local_addr().unwrap().to_string());
    let serving = std::thread::spawn(move || {
        // One connection is accepted, and no other: whoever needs another waits in vain.
        let (stream, _) = listener.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream).lines();
        while let Some(Ok(request)) = lines.next() {
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = if request.contains("/blobs/") { "blob" } else { MANIFEST };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {OCI}\r\nContent-Length: {}\r\n\r\n", body.len());
            writer.write_all((head + body).as_bytes()).unwrap();
        }
    });
    let client = impatient();
    for _ in 0..2 {
        assert_eq!(client.manifest(&image, "latest").unwrap().digest, DIGEST);
        let mut text = String::new();
        client.blob(&image, DIGEST, 4, 0).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "blob");
    }
    drop(client);
    serving.join().unwrap();
}
