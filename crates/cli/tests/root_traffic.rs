//! What passes between pods and the rest: who is seen as whom, who is kept out, and how fast it may go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::web::{PORT, SERVES, address, gateway, get, get_from, tool, until_get};
use common::{ALL, Running, WAITS, World, app, brief, pod, until};
use rustix::thread::LinkNameSpaceType::Network;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A place that the machine reaches by a link: a network namespace.
struct Outside {
    process: Running,
    /// Address of the machine on the way there.
    machine: IpAddr,
    /// Its own.
    own: IpAddr,
}

impl Outside {
    fn new(world: &World) -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "1000"])
            .spawn()
            .expect("unshare is missing");
        let (process, pid) = (Running(child), |p: &Running| p.0.id().to_string());
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        until("it has a namespace", || {
            fs::read_link(format!("/proc/{}/ns/net", pid(&process)))
                .ok()
                .filter(|ns| *ns != own)
        });
        let number = world.net.split('.').nth(2).unwrap();
        let (machine, outside) = (format!("10.254.{number}.1"), format!("10.254.{number}.2"));
        let link = format!("cdo{number}");
        tool(
            "ip",
            &[
                "link",
                "add",
                &link,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &pid(&process),
            ],
        );
        tool("ip", &["addr", "add", &format!("{machine}/30"), "dev", &link]);
        tool("ip", &["link", "set", &link, "up"]);
        let inside = |args: &[&str]| tool("nsenter", &[&["--target", &pid(&process), "--net", "ip"], args].concat());
        inside(&["addr", "add", &format!("{outside}/30"), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        inside(&["route", "add", "default", "via", &machine]);
        Self {
            process,
            machine: machine.parse().unwrap(),
            own: outside.parse().unwrap(),
        }
    }

    /// Runs work there.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.process.0.id())).unwrap();
        std::thread::scope(|scope| {
            let there = move || {
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(Network)).unwrap();
                work()
            };
            scope.spawn(there).join().unwrap()
        })
    }
}

/// Who comes to a listener when a pod connects to it.
#[track_caller]
fn seen_at(world: &World, listener: &TcpListener, pod: &str) -> IpAddr {
    let to = listener.local_addr().unwrap();
    let script = format!("nc -w 5 {} {} < /dev/null", to.ip(), to.port());
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| listener.accept().unwrap().1.ip());
        world.call(&["exec", pod, "--", "sh", "-c", &script]).good();
        peer.join().unwrap()
    })
}

#[test]
fn pods_hide_behind_the_machine_only_where_they_leave_it() {
    let world = World::new();
    let outside = Outside::new(&world);
    let port = 19_000 + world.net.split('.').nth(2).unwrap().parse::<u16>().unwrap();
    world.detach(&ALL.map(|handler| {
        let mut serving = pod(handler, handler, &[app(SERVES)]);
        if handler == "crun" {
            serving["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": port}]);
        }
        serving
    }));
    let far = outside.run(|| TcpListener::bind((outside.own, 0)).unwrap());
    let near = [gateway(&world), outside.machine].map(|ip| TcpListener::bind((ip, 0)).unwrap());
    for (handler, next) in ALL.iter().zip(ALL.iter().cycle().skip(1)) {
        let own = address(&world, handler);
        assert_eq!(seen_at(&world, &far, handler), outside.machine, "{handler} outside");
        for listener in &near {
            assert_eq!(seen_at(&world, listener, handler), own, "{handler} at {listener:?}");
        }
        let to = address(&world, next);
        until_get(to, PORT);
        assert_eq!(
            get_from(&world, handler, to, PORT),
            Some(format!("{next} {own}")),
            "{handler} to {next}"
        );
        // A neighbour may know the way; it is kept out, and comes in where a port leads.
        assert_eq!(outside.run(|| get(own, PORT)), None, "{handler} from outside");
    }
    assert_eq!(outside.run(|| get(outside.machine, port)), Some(format!("crun {}", outside.own)));
}

const MEGABIT: u64 = 1_000_000;
const LIMIT: u64 = 16 * MEGABIT;
/// Takes a second and a half within the limit, and a few milliseconds without.
const SENT: usize = 3_000_000;

/// Fails where so much came faster than the limit allows, by half.
#[track_caller]
fn assert_limited(handler: &str, way: &str, took: Duration) {
    let rate = SENT as f64 * 8.0 / took.as_secs_f64();
    assert!(rate < 2.0 * LIMIT as f64, "{handler}, {way}: {rate:.0} bits a second");
}

fn limited(handler: &str, script: &str) -> Value {
    let mut limited = pod(handler, handler, &[app(script)]);
    let limit = format!("{}M", LIMIT / MEGABIT);
    limited["metadata"]["annotations"] = json!({"kubernetes.io/ingress-bandwidth": limit, "kubernetes.io/egress-bandwidth": limit});
    limited
}

/// Sends to a pod, and looks how long that takes.
#[track_caller]
fn into(world: &World, handler: &str) {
    let ip = address(world, handler);
    let mut stream = until("it listens", || TcpStream::connect((ip, 8080)).ok());
    // Little may wait on this side: nc ends its own half of a connection at once, so that nothing but
    // the writing itself tells how fast it went.
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 32 << 10).unwrap();
    let began = Instant::now();
    stream.write_all(&vec![0; SENT]).unwrap();
    assert_limited(handler, "into the pod", began.elapsed());
}

/// Takes from a pod, and looks how long that takes.
#[track_caller]
fn out_of(world: &World, handler: &str) {
    let listener = TcpListener::bind((gateway(world), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("head -c {} /dev/zero | nc -w 5 {} {port}; true", SENT + 1, gateway(world));
    let _sender = Running(world.spawn(&["exec", handler, "--", "sh", "-c", &script], b""));
    let (mut stream, _) = listener.accept().unwrap();
    let began = Instant::now();
    stream.read_exact(&mut vec![0; SENT]).unwrap();
    assert_limited(handler, "out of the pod", began.elapsed());
}

#[test]
fn limits_of_the_rate_hold_both_ways_and_go_with_the_pod() {
    let world = World::new();
    world.detach(&ALL.map(|handler| limited(handler, "while :; do nc -l -p 8080 > /dev/null; done")));
    world.detach(&[pod("free", "crun", &[app(WAITS)])]);
    let device = |prefix: &str, pod: &str| format!("{prefix}{}", &world.id_of(pod)[..12]);
    for handler in ALL {
        for prefix in ["cd", "cb"] {
            let shaped = tool("tc", &["qdisc", "show", "dev", &device(prefix, handler)]);
            assert!(shaped.contains("tbf") && shaped.contains("rate 16Mbit"), "{handler}: {shaped}");
        }
    }
    assert!(
        !tool("tc", &["qdisc", "show", "dev", &device("cd", "free")]).contains("tbf"),
        "who asks for no limit has none"
    );
    std::thread::scope(|scope| {
        for handler in ALL {
            let world = &world;
            scope.spawn(move || {
                into(world, handler);
                out_of(world, handler);
            });
        }
    });
    let devices = ALL.map(|handler| device("cb", handler));
    world.call(&["stop", ALL[0], ALL[1], ALL[2], "--grace", "0"]).good();
    for device in devices {
        assert!(!Path::new("/sys/class/net").join(&device).exists(), "{device} is left");
    }
}

#[test]
fn a_limit_that_is_none_is_refused() {
    let world = World::new();
    let rows = [("words", "fast", "fast"), ("little", "1", "1k"), ("much", "2P", "1P")];
    let pods = rows.map(|(name, value, _)| {
        let mut pod = pod(name, "crun", &[app("exit 0")]);
        pod["metadata"]["annotations"] = json!({"kubernetes.io/egress-bandwidth": value});
        pod
    });
    for (pod, (name, _, why)) in pods.into_iter().zip(rows) {
        let answer = world.run(&[pod], &["-o", "json"]);
        let told = if answer.out.is_empty() {
            answer.err.clone()
        } else {
            brief(&answer.json())
        };
        assert!(
            answer.code != Some(0) && told.contains("kubernetes.io/egress-bandwidth") && told.contains(why),
            "{name}: {told}"
        );
    }
}
