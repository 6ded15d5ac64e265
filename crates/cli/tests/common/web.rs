//! Something in a pod that answers over the network, and who asks it.

use super::{World, until};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Port that [`SERVES`] listens on.
pub(crate) const PORT: u16 = 8080;
/// Answers with the pod's name and the address that it sees the asker at.
pub(crate) const SERVES: &str = "mkdir -p /tmp/www/cgi-bin && cd /tmp/www/cgi-bin && \
    printf '#!/bin/sh\\necho; echo \"$(hostname) $REMOTE_ADDR\"\\n' > who && chmod +x who && exec httpd -f -p 8080 -h /tmp/www";

/// Asks from the machine; `None` where nobody answers.
pub(crate) fn get(ip: impl Into<IpAddr>, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip.into(), port), Duration::from_secs(3)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(plain(text.lines().last()?)).filter(|line| !line.is_empty())
}

/// The address without what httpd writes about it.
fn plain(line: &str) -> String {
    line.trim().replace("::ffff:", "").replace(['[', ']'], "")
}

/// Asks from the machine until there is an answer.
#[track_caller]
pub(crate) fn until_get(ip: impl Into<IpAddr>, port: u16) -> String {
    let ip = ip.into();
    until(&format!("{ip} answers at port {port}"), || get(ip, port))
}

/// Asks from a pod; `None` where nobody answers.
pub(crate) fn get_from(world: &World, pod: &str, ip: impl Into<IpAddr>, port: u16) -> Option<String> {
    let ip = ip.into();
    let script = format!("printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {ip} {port}");
    let answer = world.call(&["exec", pod, "--", "sh", "-c", &script]);
    if answer.code != Some(0) {
        eprintln!("{pod} got no answer from {ip} at {port}: {answer:?}");
        return None;
    }
    Some(plain(answer.out.lines().last()?))
}

/// The pod's IP, as `ps` has it.
#[track_caller]
pub(crate) fn address(world: &World, pod: &str) -> IpAddr {
    let rows = world.ps();
    let row = rows
        .iter()
        .find(|row| row["name"] == pod)
        .unwrap_or_else(|| panic!("no pod {pod} in {rows:?}"));
    row["ip"].as_str().unwrap().parse().unwrap()
}

/// The gateway of the world's pods: an address of the machine.
pub(crate) fn gateway(world: &World) -> IpAddr {
    format!("{}.1", world.net).parse().unwrap()
}

/// The machine's own IPv4 addresses, but those of bridges for pods.
pub(crate) fn machine_addresses() -> Vec<IpAddr> {
    let listed = tool("ip", &["-4", "-o", "addr", "show", "scope", "global"]);
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (!fields[1].starts_with("cdt") && !fields[1].starts_with("cni")).then(|| fields[3].split('/').next().unwrap().parse().unwrap())
    };
    listed.lines().filter_map(address).collect()
}

/// Runs a tool of the machine; it must be there and succeed.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} is missing: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
