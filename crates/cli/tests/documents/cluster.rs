//! A cluster's API, played on loopback: one pod that no node takes.

use super::common::World;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

/// The kubeconfig, in this world, of a cluster with this pod, to which the scheduler said this.
pub(crate) fn unscheduled(world: &World, pod: Value, said: &str) -> PathBuf {
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "type": "Warning",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": name, "uid": pod["metadata"]["uid"]},
        "reason": "FailedScheduling", "lastTimestamp": "2026-01-01T00:00:00Z", "message": said,
    });
    let events = json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": [event]});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let objects = [
        (format!("/api/v1/namespaces/default/pods/{name}"), pod),
        ("/api/v1/namespaces/default/events".to_owned(), events),
    ];
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &objects)));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    let path = world.dir.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

fn answer(mut stream: TcpStream, objects: &[(String, Value)]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split([' ', '?']).nth(1).unwrap_or_default();
    lines.find(String::is_empty);
    let found = objects.iter().find(|(of, _)| of == path);
    let (status, body) = match found {
        Some((_, object)) => ("200 OK", object.to_string()),
        None => ("403 Forbidden", json!({"kind": "Status", "message": "not yours"}).to_string()),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}
