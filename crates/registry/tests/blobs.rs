//! Downloads that are cut, stalled, lied about and never end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use cofferdam_registry::{Client, Error, Image};
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Seen, Server, Stream, answer, assert_words, client, content, head, hold, impatient};

const SIZE: usize = 100_000;

type Lie = Box<dyn Fn(&mut dyn Stream) + Send + Sync>;

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn download(client: &Client, image: &Image, offset: usize) -> Result<Vec<u8>, String> {
    let mut blob = client
        .blob(image, &digest(), SIZE as u64, offset as u64)
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    assert_eq!(blob.position(), SIZE as u64);
    Ok(bytes)
}

/// As a good registry answers.
fn serve(seen: &Seen, stream: &mut dyn Stream, bytes: &[u8]) {
    serve_part(seen, stream, bytes, bytes.len());
}

/// As one that sends only the bytes up to `end`.
fn serve_part(seen: &Seen, stream: &mut dyn Stream, bytes: &[u8], end: usize) {
    let (from, size) = (seen.from(), bytes.len());
    let range = format!("bytes {from}-{}/{size}", size - 1);
    let headers: &[(&str, &str)] = if from == 0 { &[] } else { &[("Content-Range", &range)] };
    head(stream, if from == 0 { 200 } else { 206 }, headers, Some(size - from));
    let _ = stream.write_all(&bytes[from..end.max(from)]);
}

#[test]
fn a_blob_comes_whole_or_from_an_offset() {
    let server = Server::start(|seen, stream| serve(seen, stream, &content(SIZE)));
    for offset in [0, 1, SIZE / 2, SIZE - 1] {
        assert_eq!(download(&client(), &server.image(), offset).unwrap(), content(SIZE)[offset..]);
    }
    assert_eq!(server.seen()[0].target, format!("/v2/team/app/blobs/{}", digest()));
    assert_eq!(server.seen()[0].header("range"), None);
    assert_eq!(server.seen()[1].header("range"), Some("bytes=1-"));
    // Nothing is missing, so nobody is asked.
    let before = server.seen().len();
    assert_eq!(download(&client(), &server.image(), SIZE).unwrap(), b"");
    assert_eq!(server.seen().len(), before);
    assert!(client().blob(&server.image(), &digest(), 5, 6).is_err());
}

#[test]
fn a_server_without_ranges_is_read_past() {
    let server = Server::start(|_, stream| answer(stream, 200, &[], &content(SIZE)));
    assert_eq!(download(&client(), &server.image(), 777).unwrap(), content(SIZE)[777..]);
    let chunked = Server::start(|_, stream| {
        head(stream, 200, &[("Transfer-Encoding", "chunked")], None);
        for part in content(SIZE).chunks(9999) {
            let _ = support::chunk(stream, part);
        }
        let _ = support::chunk(stream, b"");
    });
    assert_eq!(download(&client(), &chunked.image(), 777).unwrap(), content(SIZE)[777..]);
}

#[test]
fn cuts_are_gone_on_from() {
    for ranges in [true, false] {
        let times = AtomicUsize::new(0);
        let server = Server::start(move |seen, stream| {
            let end = SIZE.min(30_000 * (times.fetch_add(1, Ordering::SeqCst) + 1));
            if ranges {
                serve_part(seen, stream, &content(SIZE), end);
            } else {
                head(stream, 200, &[], Some(SIZE));
                let _ = stream.write_all(&content(SIZE)[..end]);
            }
        });
        assert_eq!(download(&client(), &server.image(), 0).unwrap(), content(SIZE));
        let ranges: Vec<usize> = server.seen().iter().map(Seen::from).collect();
        assert_eq!(ranges, [0, 30_000, 60_000, 90_000]);
    }
}

#[test]
fn stalls_are_gone_on_from() {
    let server = Server::start(move |seen, stream| {
        let end = if seen.from() == 0 { 1000 } else { SIZE };
        serve_part(seen, stream, &content(SIZE), end);
        hold(stream);
    });
    assert_eq!(download(&impatient(), &server.image(), 0).unwrap(), content(SIZE));
    assert!(server.seen().len() > 1);
}

#[test]
fn a_drip_is_a_stall() {
    let server = Server::start(move |seen, stream| {
        serve_part(seen, stream, &content(SIZE), seen.from());
        for byte in &content(SIZE)[seen.from()..] {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    });
    let error = download(&impatient(), &server.image(), 0).unwrap_err();
    assert_words(&error, &["of 100000 bytes", "in 2 tries", "1 s without progress"]);
}

#[test]
fn an_end_that_comes_too_early_is_an_error_with_both_sizes() {
    // It never has more than 12345 bytes.
    let server = Server::start(|seen, stream| serve_part(seen, stream, &content(SIZE), 12_345));
    let mut blob = client().blob(&server.image(), &digest(), SIZE as u64, 0).unwrap();
    let mut bytes = Vec::new();
    let error = blob.read_to_end(&mut bytes).unwrap_err();
    assert_words(
        &error,
        &["ended after 12345 of 100000 bytes", "in 5 tries", "cut the connection", &digest()],
    );
    assert_eq!(bytes, content(SIZE)[..12_345]);
    assert_eq!(server.seen().len(), 6);
    // Failed once is failed for good.
    assert_words(&blob.read(&mut [0; 9]).unwrap_err(), &["failed before"]);
}

#[test]
fn many_cuts_with_progress_between_them_are_borne() {
    let size: usize = 3 << 20;
    let server = Server::start(move |seen, stream| {
        let bytes = content(size);
        serve_part(seen, stream, &bytes, size.min(seen.from() + (300 << 10)));
    });
    let mut blob = client().blob(&server.image(), &digest(), size as u64, 0).unwrap();
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content(size));
    assert!(server.seen().len() > 7);
}

#[test]
fn lies_about_length_and_range_are_refused() {
    let lies: Vec<(usize, Lie, &str)> = vec![
        (
            0,
            Box::new(|s| head(s, 200, &[], Some(SIZE + 1))),
            "sends 100001 bytes instead of 100000",
        ),
        (
            0,
            Box::new(|s| answer(s, 200, &[], &content(10))),
            "sends 10 bytes instead of 100000",
        ),
        (0, Box::new(|s| head(s, 200, &[], Some(usize::MAX))), "instead of 100000"),
        (
            0,
            Box::new(|s| head(s, 206, &[("Content-Range", "bytes 5-9/10")], Some(5))),
            "\"bytes 5-9/10\"",
        ),
        (
            50,
            Box::new(|s| head(s, 206, &[], Some(SIZE - 50))),
            "of bytes 50 to 99999 it sends \"\"",
        ),
        (
            50,
            Box::new(|s| head(s, 206, &[("Content-Range", "bytes 49-99998/100000")], Some(SIZE - 50))),
            "it sends \"bytes 49-99998/100000\"",
        ),
        (
            50,
            Box::new(|s| head(s, 206, &[("Content-Range", "bytes 50-99999/200000")], Some(SIZE - 50))),
            "200000",
        ),
        (
            50,
            Box::new(|s| head(s, 206, &[("Content-Range", "bytes 50-99999/100000")], Some(7))),
            "sends 7 bytes instead of 99950",
        ),
        (50, Box::new(|s| head(s, 416, &[], Some(0))), "(416)"),
        (0, Box::new(|s| head(s, 404, &[], Some(0))), "has no the blob"),
    ];
    for (offset, lie, words) in lies {
        let server = Server::start(move |_, stream| lie(stream));
        assert_words(&download(&client(), &server.image(), offset).unwrap_err(), &[words]);
    }
}

#[test]
fn an_endless_body_gives_no_byte_too_many() {
    let server = Server::start(|_, stream| {
        head(stream, 200, &[("Transfer-Encoding", "chunked")], None);
        let _ = support::chunk(stream, &content(SIZE));
        while support::chunk(stream, &[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(download(&client(), &server.image(), 0).unwrap(), content(SIZE));
}

#[test]
fn redirects_are_followed_without_what_is_for_the_registry() {
    let cdn = Server::start(|seen, stream| serve(seen, stream, &content(SIZE)));
    let to = format!("http://{}/bucket/x?sig=1", cdn.address);
    let server = Server::start(move |seen, stream| match seen.header("authorization") {
        None => answer(stream, 401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
        Some(_) => answer(stream, 307, &[("Location", &to)], b"moved"),
    });
    let secret = cofferdam_registry::Credential::password(&server.address.to_string(), "me", "pw", "test");
    let client = client().with_credentials(vec![secret]);
    assert_eq!(download(&client, &server.image(), 9).unwrap(), content(SIZE)[9..]);
    let seen = cdn.seen();
    assert_eq!(
        (seen.len(), seen[0].target.as_str(), seen[0].header("range")),
        (1, "/bucket/x?sig=1", Some("bytes=9-"))
    );
    assert_eq!(seen[0].header("authorization"), None);
}

#[test]
fn redirects_elsewhere_are_refused() {
    for (location, words) in [
        ("file:///etc/passwd", "only https"),
        ("ftp://127.0.0.1/x", "only https"),
        ("gopher:x", "only https"),
        ("javascript:alert(1)", "only https"),
        ("http://user@127.0.0.1/", "a user with it"),
        ("http:///x", "sends on to"),
        ("", "names no place"),
        ("http://[::1", "sends on to"),
        ("/v2/again", "one redirect too many"),
        ("again", "one redirect too many"),
    ] {
        let server = Server::start(move |_, stream| answer(stream, 302, &[("Location", location)], b""));
        let error = client().blob(&server.image(), &digest(), 10, 0).unwrap_err();
        assert!(matches!(error, Error::Redirect { .. }), "{location}: {error}");
        assert_words(&error, &[words]);
        assert!(server.seen().len() <= 6, "{location}");
    }
}

#[test]
fn a_hiccup_at_the_start_is_borne_and_a_refusal_is_not_asked_again() {
    let times = AtomicUsize::new(0);
    let server = Server::start(move |seen, stream| match times.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => answer(stream, 503, &[], b"restarting"),
        _ => serve(seen, stream, &content(SIZE)),
    });
    assert_eq!(download(&client(), &server.image(), 0).unwrap(), content(SIZE));
    let down = Server::start(|_, stream| answer(stream, 503, &[], b"restarting"));
    assert_words(
        &download(&client(), &down.image(), 0).unwrap_err(),
        &["ended after 0 of 100000 bytes", "503, restarting"],
    );
    assert_eq!(down.seen().len(), 6);
    let lost = Server::start(|_, stream| answer(stream, 404, &[], b""));
    assert!(download(&client(), &lost.image(), 0).is_err());
    assert_eq!(lost.seen().len(), 1);
}
