#![allow(clippy::unwrap_used)]
use super::*;
use serde_json::json;

fn ports() -> Vec<ContainerPort> {
    serde_json::from_value(json!([{"name": "web", "containerPort": 8080}, {"name": "off", "containerPort": 0}])).unwrap()
}

#[test]
fn ports_by_number_and_by_name() {
    let name = |text: &str| PortRef::Name(text.to_owned());
    for (reference, expected) in [
        (PortRef::Number(80), Ok(80)),
        (name("web"), Ok(8080)),
        (name("81"), Ok(81)),
        (name("none"), Err("the container has no port named \"none\"".to_owned())),
        (name("off"), Err("invalid port number: 0".to_owned())),
        (PortRef::Number(65_536), Err("invalid port number: 65536".to_owned())),
        (PortRef::Number(-1), Err("invalid port number: -1".to_owned())),
    ] {
        assert_eq!(port(&reference, &ports()), expected, "{reference:?}");
    }
}

#[test]
fn commands_see_what_the_environment_says_outright() {
    let probe: Probe = serde_json::from_value(json!({"exec": {"command": ["$(A)", "$(B)x$(NONE)", "$$(A)"]}})).unwrap();
    let env: Vec<EnvVar> = serde_json::from_value(json!([
        {"name": "A", "value": "old"},
        {"name": "A", "value": "$(B)1"},
        {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]))
    .unwrap();
    let command = spelled_out(&probe, &env).unwrap().exec.unwrap().command;
    assert_eq!(command, ["$(B)1", "x$(NONE)", "$(A)"]);
    let long: Vec<EnvVar> = serde_json::from_value(json!([{"name": "A", "value": "x".repeat(200_000)}])).unwrap();
    assert_eq!(spelled_out(&probe, &long), Err(TooLong));
}

#[test]
fn where_a_request_goes() {
    let aim = |ip: Option<&str>| Aim {
        container: ContainerId::from_bytes([1; 16]),
        ports: ports(),
        ip: ip.map(|ip| ip.parse().unwrap()),
    };
    let url = |get: serde_json::Value, ip| {
        let get: HttpGetAction = serde_json::from_value(get).unwrap();
        request(&get, &aim(ip), "kube-probe/1.34").map(|get| get.url.to_string())
    };
    for (get, ip, expected) in [
        (json!({"port": "web"}), Some("10.88.0.1"), Ok("http://10.88.0.1:8080/")),
        (
            json!({"port": 443, "scheme": "HTTPS", "path": "ok"}),
            Some("fd00::1"),
            Ok("https://[fd00::1]:443/ok"),
        ),
        (
            json!({"port": 80, "host": "web.example", "path": "/a?b"}),
            None,
            Ok("http://web.example:80/a?b"),
        ),
        (json!({"port": 80}), None, Err("the pod has no address")),
        (
            json!({"port": "x"}),
            Some("10.88.0.1"),
            Err("the container has no port named \"x\""),
        ),
    ] {
        assert_eq!(url(get.clone(), ip), expected.map(str::to_owned).map_err(str::to_owned), "{get}");
    }
}

#[test]
fn tcp_connects_or_does_not() {
    let once = |probe: serde_json::Value| {
        let aim = Aim {
            container: ContainerId::from_bytes([1; 16]),
            ports: Vec::new(),
            ip: Some([127, 0, 0, 1].into()),
        };
        // A connection needs no runtime.
        let probe: Probe = serde_json::from_value(probe).unwrap();
        let tcp = probe.tcp_socket.unwrap();
        let port = port(&tcp.port, &aim.ports).unwrap();
        dial("127.0.0.1", port, &Patience::of(Duration::from_secs(20))).map(drop)
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(once(json!({"tcpSocket": {"port": port}})), Ok(()));
    drop(listener);
    assert_eq!(
        once(json!({"tcpSocket": {"port": port}})),
        Err(format!("dial tcp 127.0.0.1:{port}: connect: connection refused"))
    );
    assert_eq!(
        dial("name.invalid", 1, &Patience::of(Duration::from_secs(20))).map(drop),
        Err("dial tcp: lookup name.invalid: no such host".to_owned())
    );
}
