//! The daemon killed while streams are open: they end with an error, what they were connected to runs on,
//! and a new attach goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1::ContainerState;
use common::{ALL, World, until};
use cri::stream::{End, Stream};
use cri::{Daemon, Kubelet};

/// Says what it is told, numbered.
const ECHO: &str = "n=0; while read line; do n=$((n+1)); echo \"$n: $line\"; done; exit 6";

#[test]
fn attached_streams_end_with_an_error_and_a_new_attach_goes_on() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    for (handler, tty) in ALL.into_iter().flat_map(|handler| [(handler, false), (handler, true)]) {
        let name = format!("{handler}-{tty}");
        let pod = kubelet.run_pod(kubelet.pod_config(&name, 0), handler).unwrap();
        let mut config = kubelet.container_config("main", 0, ECHO);
        (config.stdin, config.tty) = (true, tty);
        let container = kubelet.begin(&pod, config);
        let mut stream = Stream::attach(&kubelet, &container, tty);
        stream.send("one\n");
        stream.wait_for("1: one");
        daemon.kill();
        assert_eq!(stream.end(), End::Broken, "{name}");
        daemon = Daemon::start(&world);
        let mut stream = Stream::attach(&kubelet, &container, tty);
        stream.send("two\n");
        stream.wait_for("2: two");
        assert_eq!(
            kubelet.status(&container).unwrap().state(),
            ContainerState::ContainerRunning,
            "{name}"
        );
        // The end of its input was not the end of the first client.
        stream.send(if tty { "\u{4}" } else { "three\n" });
        if tty {
            assert_eq!(kubelet.ended(&container).exit_code, 6, "{name}");
            assert!(matches!(stream.end(), End::Told(_)), "{name}");
        } else {
            stream.wait_for("3: three");
            drop(stream);
        }
        let log = kubelet.log(&name, "main", 0);
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("1: one") && log.contains("2: two"), "{name}: {log}");
        kubelet.end_pod(&pod);
    }
    daemon.end();
}

#[test]
fn a_command_runs_on_when_its_stream_breaks() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let container = kubelet.begin(&pod, kubelet.container_config("main", 0, cri::bystander::COUNTS));
        let mut stream = Stream::exec(
            &kubelet,
            &container,
            "echo $$ > /tmp/pid; echo here; while :; do echo x; date +%s%N > /tmp/at; sleep 0.05; done",
        );
        stream.wait_for("here");
        daemon.kill();
        assert_eq!(stream.end(), End::Broken, "{handler}");
        daemon = Daemon::start(&world);
        let at = || kubelet.exec(&container, "cat /tmp/at", 20).unwrap().stdout;
        let first = at();
        until("the command goes on", || (at() != first).then_some(()));
        let pid = String::from_utf8(kubelet.exec(&container, "cat /tmp/pid", 20).unwrap().stdout).unwrap();
        let told = kubelet
            .exec(&container, &format!("kill {}; sleep 0.3; kill -0 {0} 2>&1", pid.trim()), 20)
            .unwrap();
        assert_ne!(told.exit_code, 0, "{handler}: it can be ended as ever: {told:?}");
        assert_eq!(
            kubelet.status(&container).unwrap().state(),
            ContainerState::ContainerRunning,
            "{handler}"
        );
        let traces = world.traces();
        kubelet.end_pod(&pod);
        traces.assert_gone(&world);
    }
    daemon.end();
}

#[test]
fn forwarded_ports_break_and_can_be_forwarded_anew() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let serves = "while :; do nc -l -p 8080 -e cat; done";
        let container = kubelet.begin(&pod, kubelet.container_config("main", 0, serves));
        let listens = "netstat -ltn 2>/dev/null | grep -q :8080 || grep -qi ':1F90 ' /proc/net/tcp /proc/net/tcp6";
        until("it listens", || {
            (kubelet.exec(&container, listens, 20).unwrap().exit_code == 0).then_some(())
        });
        let mut stream = Stream::forward(&kubelet, &pod, 8080);
        stream.send("first");
        stream.wait_for("first");
        daemon.kill();
        assert_eq!(stream.end(), End::Broken, "{handler}");
        daemon = Daemon::start(&world);
        until("it listens again", || {
            (kubelet.exec(&container, listens, 20).unwrap().exit_code == 0).then_some(())
        });
        let mut stream = Stream::forward(&kubelet, &pod, 8080);
        stream.send("second");
        stream.wait_for("second");
        drop(stream);
        assert_eq!(
            kubelet.status(&container).unwrap().state(),
            ContainerState::ContainerRunning,
            "{handler}"
        );
        kubelet.end_pod(&pod);
    }
    daemon.end();
}

/// Nor does it wait for those who listen.
#[test]
fn streams_end_when_the_daemon_is_told_to_end() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("p", 0), "crun").unwrap();
    let container = kubelet.begin(&pod, kubelet.container_config("main", 0, cri::bystander::COUNTS));
    let mut stream = Stream::attach(&kubelet, &container, false);
    stream.wait_for("\n");
    let events = kubelet.events();
    daemon.end();
    assert_eq!(stream.end(), End::Broken);
    events.assert_ends();
    let daemon = Daemon::start(&world);
    kubelet.end_pod(&pod);
    daemon.end();
}
