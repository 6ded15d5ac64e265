//! Something in a pod that answers over the network, and who asks it.

use super::traces::settled;
use super::{Running, World, until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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

/// The machine's own IPv4 addresses, but those of bridges and of links of tests, which come and go.
pub(crate) fn machine_addresses() -> Vec<IpAddr> {
    let listed = tool("ip", &["-4", "-o", "addr", "show", "scope", "global"]);
    let lasts = |link: &str| !link.starts_with("cd") && !Path::new("/sys/class/net").join(link).join("bridge").exists();
    let fields = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|f| lasts(f[1]))
        .map(|f| f[3].split('/').next().unwrap().parse().unwrap())
        .collect()
}

/// Kills, all by SIGKILL, a run and every process of the world's pods.
#[track_caller]
pub(crate) fn kill_all(world: &World, run: &mut Running) {
    super::signal(run.0.id(), Signal::KILL);
    let all = settled(world, &world.pod_ids());
    for process in &all {
        let pid = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // Some go with others.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    until("the run is dead", || run.0.try_wait().unwrap());
    let is_dead = |process: &PathBuf| std::fs::read_to_string(process.join("stat")).map_or(true, |stat| stat.contains(") Z "));
    until("the pods' processes are dead", || all.iter().all(is_dead).then_some(()));
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
