//! Answers of every kind, from a server on loopback that does as it is told.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::TcpListener;

use cofferdam_cluster::{Error, Limits, Listing};
use common::{Home, Reply, hasty, json, serve};

const STATUS: &str =
    r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no \u001b[31mway\n","reason":"Forbidden","code":403}"#;

/// The error that a list of the nodes ends with.
fn refused(reply: Reply) -> Error {
    let server = serve(vec![reply]);
    Home::new(server.address, "{token: t}").open_within(hasty()).nodes().unwrap_err()
}

#[test]
fn pages_follow_each_other() {
    let first = r#"{"kind":"PodList","metadata":{"continue":"a+b/="},"items":[{"metadata":{"name":"one","managedFields":[]}}]}"#;
    let last = r#"{"kind":"PodList","metadata":{},"items":[{"metadata":{"name":"two"}}]}"#;
    let server = serve(vec![json("200 OK", first), json("200 OK", last)]);
    let cluster = Home::new(server.address, "{token: secret}").open().unwrap();
    let pods = cluster.pods(Some("shop")).unwrap();
    let names: Vec<_> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!((&pods[0]["kind"], &pods[0]["apiVersion"]), (&"Pod".into(), &"v1".into()));
    assert!(pods[0]["metadata"].get("managedFields").is_none());
    let heads: Vec<String> = server.heads.try_iter().collect();
    assert!(
        heads[0].starts_with("GET /api/v1/namespaces/shop/pods?limit=500 HTTP/1.1\r\n"),
        "{heads:?}"
    );
    assert!(
        heads[1].starts_with("GET /api/v1/namespaces/shop/pods?limit=500&continue=a%2Bb%2F%3D HTTP/1.1\r\n"),
        "{heads:?}"
    );
    assert!(
        heads.iter().all(|head| head.contains("authorization: Bearer secret\r\n")),
        "{heads:?}"
    );
}

#[test]
fn one_pod() {
    let server = serve(vec![
        json(
            "200 OK",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","managedFields":[]}}"#,
        ),
        json("404 Not Found", r#"{"kind":"Status","message":"pods \"b\" not found"}"#),
    ]);
    let cluster = Home::new(server.address, "{}").open().unwrap();
    assert_eq!(cluster.pod("shop", "a").unwrap()["metadata"], serde_json::json!({"name": "a"}));
    let error = cluster.pod("shop", "b").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(
        error.to_string().contains(r#"does not have pod shop/b (404): pods "b" not found"#),
        "{error}"
    );
    assert!(matches!(cluster.pod("shop", "../a").unwrap_err(), Error::Name(_)));
}

#[test]
fn refusals_say_what_and_why() {
    let words = |code: &str, error: Error, part: &str| assert!(error.to_string().contains(part), "{code}: {error}");
    let error = refused(json("401 Unauthorized", "{}"));
    assert!(matches!(error, Error::Unauthorized { .. }));
    words(
        "401",
        error,
        "does not know who asks for the nodes (401): the token or certificate in the kubeconfig",
    );
    let error = refused(json("403 Forbidden", STATUS));
    assert!(matches!(error, Error::Forbidden { .. }));
    words("403", error, "refuses the nodes (403): no  [31mway; use");
    let error = refused(json("410 Gone", "{}"));
    assert!(matches!(error, Error::Gone { .. }));
    let error = refused(json("500 Internal Server Error", "<html>"));
    assert!(matches!(error, Error::Refused { code: 500, .. }));
    words("500", error, "answered 500 when asked for the nodes: Internal Server Error;");
    // A token goes nowhere but to the server that the kubeconfig names.
    let error = refused(Reply::Bytes(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".into(),
    ));
    assert!(matches!(error, Error::Refused { code: 302, .. }));
    let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(5000));
    assert!(refused(json("400 Bad Request", &long)).to_string().len() < 1300);
}

#[test]
fn other_answers_are_not_taken_for_empty_lists() {
    for body in [
        "",
        "{}",
        "<html>hello</html>",
        r#"{"kind":"Status","status":"Success"}"#,
        r#"{"kind":"PodList","items":[]}"#,
    ] {
        let error = refused(json("200 OK", body));
        assert!(matches!(error, Error::Garbled { .. }), "{body}: {error}");
    }
    for bytes in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let error = refused(Reply::Bytes(bytes.into()));
        assert!(matches!(error, Error::Unreachable { .. }), "{bytes:?}: {error}");
    }
}

#[test]
fn a_list_without_end_ends() {
    let page = r#"{"kind":"NodeList","metadata":{"continue":"x"},"items":[]}"#;
    let server = serve(vec![json("200 OK", page), json("200 OK", page)]);
    let error = Home::new(server.address, "{}").open().unwrap().nodes().unwrap_err();
    assert!(error.to_string().contains("it gave the same page twice"), "{error}");
}

#[test]
fn too_big() {
    let told = refused(Reply::Stall(
        format!("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n{}", " ".repeat(1 << 21)).into(),
    ));
    for error in [told, refused(Reply::Endless)] {
        assert!(matches!(error, Error::TooBig { limit: 1_048_576, .. }), "{error}");
    }
    // The limit is the whole list's, not a page's.
    let page = |token: &str| {
        let name = "n".repeat(600);
        json(
            "200 OK",
            &format!(r#"{{"kind":"NodeList","metadata":{{"continue":"{token}"}},"items":[{{"metadata":{{"name":"{name}"}}}}]}}"#),
        )
    };
    let server = serve(vec![page("a"), page("")]);
    let limits = Limits {
        list_bytes: 1000,
        ..Limits::default()
    };
    let mut seen = 0;
    let error = Home::new(server.address, "{}")
        .open_within(limits)
        .each(&Listing::Nodes, |_| seen += 1)
        .unwrap_err();
    assert!(matches!(error, Error::TooBig { limit: 1000, .. }), "{error}");
    assert_eq!(seen, 1);
}

#[test]
fn a_server_that_stalls() {
    for bytes in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let error = refused(Reply::Stall(bytes.into()));
        assert!(matches!(error, Error::TimedOut { .. }), "{bytes:?}: {error}");
        assert!(error.to_string().contains("did not give the nodes within 0.3 s; see"), "{error}");
    }
    // One that does not even accept: the backlog takes the connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Home::new(listener.local_addr().unwrap(), "{}")
        .open_within(hasty())
        .nodes()
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_server_that_is_down() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Home::new(address, "{}").open().unwrap().nodes().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("the API server http://{address} cannot be reached: ")),
        "{error}"
    );
    assert!(error.to_string().contains("onnection refused"), "{error}");
}
