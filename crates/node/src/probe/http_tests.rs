#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A server that gives one connection after the other to `serve`, and tells what it was asked.
fn server(serve: impl Fn(usize, &mut TcpStream) + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = sender.send(String::from_utf8_lossy(&head).into_owned());
            serve(n, &mut stream);
        }
    });
    (port, asked)
}

fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Get {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Get {
        url: Url::new(false, "127.0.0.1", port, path),
        headers,
        agent: "kube-probe/1.34",
    }
}

/// What a server that answers so comes to: the status and the body, or why not, with its port as `P`.
fn answer(bytes: &'static [u8]) -> Result<(u16, String), NoAnswer> {
    let (port, _asked) = server(move |_, stream| drop(stream.write_all(bytes)));
    let said = fetch(&get(port, "/h", &[]), &Patience::of(Duration::from_secs(20)));
    let plain = |why: String| why.replace(&port.to_string(), "P");
    said.map(|s| (s.status, String::from_utf8(s.body).unwrap())).map_err(|no| match no {
        NoAnswer::Failed(why) => NoAnswer::Failed(plain(why)),
        other => other,
    })
}

#[test]
fn answers_good_bad_and_hostile() {
    let said = |status, body: &str| Ok((status, body.to_owned()));
    let failed = |why: &str| Err(NoAnswer::Failed(format!("Get \"http://127.0.0.1:P/h\": {why}")));
    let broken = |why: &str| Err(NoAnswer::Body(why.to_owned()));
    let rows: Vec<(&'static [u8], _)> = vec![
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", said(200, "ok")),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", said(200, "until the end")),
        (b"HTTP/1.0 500\n\n", said(500, "")),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
            said(204, ""),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
            said(200, "ok!"),
        ),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 1\r\n\r\nx", said(301, "x")),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            said(302, ""),
        ),
        (b"", failed("EOF")),
        (b"HTTP/1.1 200 OK\r\nContent-Le", failed("unexpected EOF")),
        (
            b"SSH-2.0-x\r\n",
            failed("net/http: HTTP/1.x transport connection broken: malformed HTTP response \"SSH-2.0-x\""),
        ),
        (
            b"HTTP/1.1 2000 x\r\n\r\n",
            failed("net/http: HTTP/1.x transport connection broken: malformed HTTP response \"HTTP/1.1 2000 x\""),
        ),
        (
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            failed("net/http: HTTP/1.x transport connection broken: malformed MIME header \"no colon\""),
        ),
        (
            b"HTTP/1.1 302 x\r\nLocation: gopher://127.0.0.1/\r\n\r\n",
            failed("failed to parse Location header \"gopher://127.0.0.1/\""),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nno", broken("unexpected EOF")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            broken("invalid byte in chunk length"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            broken("invalid byte in chunk length"),
        ),
    ];
    for (bytes, expected) in rows {
        assert_eq!(answer(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_never_ends_is_bounded() {
    let endless = |first: &'static [u8], then: &'static [u8]| {
        let (port, _asked) = server(move |_, stream| {
            let _ = stream.write_all(first);
            while stream.write_all(then).is_ok() {}
        });
        fetch(&get(port, "/", &[]), &Patience::of(Duration::from_secs(60)))
    };
    let body = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).unwrap();
    assert_eq!(body.body.len(), MAX_BODY);
    let chunks = endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n").unwrap();
    assert_eq!(chunks.body.len(), MAX_BODY);
    for (first, then) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"a: b\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\na: ", b"xxxxxxxx"),
        (b"", b"HTTP/1.1 100 x\r\n\r\n"),
    ] {
        let NoAnswer::Failed(why) = endless(first, then).unwrap_err() else {
            panic!("no answer")
        };
        assert!(why.contains("response headers exceeded") || why.contains("too many 1xx"), "{why}");
    }
}

#[test]
fn a_server_that_says_nothing_runs_into_the_time() {
    let (port, _asked) = server(|_, stream| drop(stream.read(&mut [0; 16])));
    let said = fetch(&get(port, "/", &[]), &Patience::of(Duration::from_millis(200)));
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(said, Err(NoAnswer::Failed(format!("Get \"http://127.0.0.1:{port}/\": {late}"))));
    // Nobody waits any more: long before its time.
    let patience = Patience {
        over: &|| true,
        ..Patience::of(Duration::from_secs(600))
    };
    assert!(fetch(&get(port, "/", &[]), &patience).is_err());
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = fetch(&get(gone, "/a?b=c", &[]), &Patience::of(Duration::from_secs(20)));
    let refused = format!("Get \"http://127.0.0.1:{gone}/a?b=c\": dial tcp 127.0.0.1:{gone}: connect: connection refused");
    assert_eq!(said, Err(NoAnswer::Failed(refused)));
}

#[test]
fn what_is_asked() {
    for (path, headers, lines) in [
        (
            "",
            vec![],
            vec![
                "GET / HTTP/1.1",
                "Host: 127.0.0.1:P",
                "User-Agent: kube-probe/1.34",
                "Accept: */*",
                "Connection: close",
            ],
        ),
        ("a b?c=d#e", vec![], vec!["GET /a%20b?c=d HTTP/1.1"]),
        ("http://other/x", vec![], vec!["GET /x HTTP/1.1", "Host: 127.0.0.1:P"]),
        (
            "/",
            vec![
                ("host", "web.example"),
                ("USER-AGENT", "me"),
                ("accept", ""),
                ("X-A", "1"),
                ("X-A", "2"),
            ],
            vec![
                "GET / HTTP/1.1",
                "Host: web.example",
                "User-Agent: me",
                "X-A: 1",
                "X-A: 2",
                "Connection: close",
            ],
        ),
    ] {
        let (port, asked) = server(|_, stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")));
        fetch(&get(port, path, &headers), &Patience::of(Duration::from_secs(20))).unwrap();
        let asked = asked.recv().unwrap().replace(&format!(":{port}"), ":P");
        let got: Vec<_> = asked.lines().take(lines.len()).collect();
        assert_eq!(got, lines, "{path}");
    }
    for (name, value) in [("X", "a\r\nY: b"), ("X\r\n", "a"), ("", "a"), ("a b", "c")] {
        let said = fetch(&get(1, "/", &[(name, value)]), &Patience::of(Duration::from_secs(20)));
        let Err(NoAnswer::Failed(why)) = said else { panic!("refused") };
        assert!(why.contains("net/http: invalid header field"), "{why}");
    }
}

#[test]
fn redirects_stay_on_their_host() {
    let to = |location: &'static str| {
        move |n: usize, stream: &mut TcpStream| {
            let answer = if n == 0 {
                format!("HTTP/1.1 307 x\r\nLocation: {location}\r\n\r\n")
            } else {
                "HTTP/1.1 200 OK\r\n\r\n".to_owned()
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    for (location, path) in [("/b", "/b"), ("b", "/x/b"), ("?q", "/x/y?q")] {
        let (port, asked) = server(to(location));
        let get = get(port, "/x/y?z", &[("Host", "web.example")]);
        assert_eq!(fetch(&get, &Patience::of(Duration::from_secs(20))).unwrap().status, 200);
        let second = asked.iter().nth(1).unwrap();
        assert!(
            second.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: web.example\r\n")),
            "{second}"
        );
    }
    let (other, asked) = server(|_, stream| drop(stream.write_all(b"HTTP/1.1 204 x\r\n\r\n")));
    let (port, _first) = server(move |_, stream| {
        let _ = stream.write_all(format!("HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:{other}/n\r\n\r\n").as_bytes());
    });
    let followed = fetch(&get(port, "/", &[("Host", "web.example")]), &Patience::of(Duration::from_secs(20)));
    assert_eq!(followed.unwrap().status, 204);
    let asked = asked.recv().unwrap();
    assert!(
        asked.contains(&format!("Host: 127.0.0.1:{other}\r\n")),
        "another address has its own host: {asked}"
    );

    let (port, asked) = server(|n, stream| {
        let here = stream.local_addr().unwrap();
        let to = [format!("http://{here}/a"), "/b".into()];
        let answer = to.get(n).map_or("HTTP/1.1 200 OK\r\n\r\n".to_owned(), |to| format!("HTTP/1.1 302 x\r\nLocation: {to}\r\n\r\n"));
        let _ = stream.write_all(answer.as_bytes());
    });
    let get_it = get(port, "/", &[("Host", "web.example")]);
    assert_eq!(fetch(&get_it, &Patience::of(Duration::from_secs(20))).unwrap().status, 200);
    let hosts: Vec<bool> = asked.iter().take(3).map(|asked| asked.contains("Host: web.example\r\n")).collect();
    assert_eq!(hosts, [true, false, false], "a written Host ends with the first address that is named");

    let (port, asked) = server(|_, stream| drop(stream.write_all(b"HTTP/1.1 301 x\r\nLocation: /again\r\n\r\n")));
    let said = fetch(&get(port, "/", &[]), &Patience::of(Duration::from_secs(20)));
    assert_eq!(
        said,
        Err(NoAnswer::Failed("Get \"/again\": stopped after 10 redirects".into()))
    );
    assert_eq!(asked.try_iter().count(), 10);
}

#[test]
fn https_with_any_certificate_and_against_a_server_without() {
    let key = rcgen::generate_simple_self_signed(vec!["nobody.example".to_owned()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let connection = rustls::ServerConnection::new(config).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
        let mut head = [0; 512];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
        let _ = stream.flush();
    });
    let secure = |port| Get {
        url: Url::new(true, "127.0.0.1", port, "/"),
        ..get(port, "/", &[])
    };
    let said = fetch(&secure(port), &Patience::of(Duration::from_secs(20))).unwrap();
    assert_eq!((said.status, said.body.as_slice()), (200, &b"secret"[..]));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let plain = format!("Get \"https://127.0.0.1:{port}/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(
        fetch(&secure(port), &Patience::of(Duration::from_secs(20))),
        Err(NoAnswer::PlainServer(plain))
    );
}
