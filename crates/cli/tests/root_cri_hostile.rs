//! The daemon under those who wish it ill: pods that hold what others need, requests too large to be kept,
//! users of the machine who crowd its streaming port. Whoever does so harms himself alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;

use cofferdam_cri_api::v1;
use common::{ALL, WAITS, World};
use cri::stream::Stream;
use cri::{Daemon, Kubelet};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

/// Takes no signal that can be ignored.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 1000; done";
/// Stops, and as many commands, that never end: more together than any bound on those that wait.
const MANY: usize = 400;

#[test]
fn a_container_too_large_to_be_recorded_is_refused_and_disturbs_nobody() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("large", 0), "crun").unwrap();
    let small = kubelet.begin(&pod, kubelet.container_config("small", 0, WAITS));
    let mut config = kubelet.container_config("large", 0, WAITS);
    // Each byte is six in a record.
    config.envs = (0..10)
        .map(|n| v1::KeyValue {
            key: format!("K{n}"),
            value: vec![1; 100 << 10],
        })
        .collect();
    let why = kubelet.create(&pod, config).unwrap_err();
    assert!(why.message().contains("is too large to be kept"), "{why:?}");
    let all: Vec<String> = kubelet.containers().into_iter().map(|c| c.id).collect();
    assert_eq!(all, std::slice::from_ref(&small));
    kubelet.assert_alive(&small);
    kubelet.end_pod(&pod);
    daemon.end();
    world.end();
}

#[test]
fn stops_and_commands_that_never_end_leave_room_for_those_of_other_pods() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let run = |name: String, script: &str| {
        let pod = kubelet.run_pod(kubelet.pod_config(&name, 0), "crun").unwrap();
        let main = kubelet.begin(&pod, kubelet.container_config("main", 0, script));
        (pod, main)
    };
    let hold: Vec<_> = (0..8).map(|n| run(format!("holds-{n}"), STUBBORN)).collect();
    let (pod, other) = run("other".into(), WAITS);
    let tasks = kubelet.ask(async |client| {
        let begin = |n: usize| {
            let (mut client, container_id) = (client.clone(), hold[n % hold.len()].1.clone());
            tokio::spawn(async move {
                if n < MANY {
                    let timeout = i64::MAX;
                    return drop(client.stop_container(v1::StopContainerRequest { container_id, timeout }).await);
                }
                let cmd = ["sleep", "100000"].map(str::to_owned).to_vec();
                drop(
                    client
                        .exec_sync(v1::ExecSyncRequest {
                            container_id,
                            cmd,
                            timeout: 0,
                        })
                        .await,
                );
            })
        };
        (0..2 * MANY).map(begin).collect::<Vec<_>>()
    });
    // They have come to where they wait.
    std::thread::sleep(Duration::from_secs(5));
    kubelet.assert_alive(&other);
    kubelet.stop(&other, 5).unwrap();
    assert_eq!(kubelet.containers().len(), 9);
    // Those pods can be ended, too.
    hold.iter().for_each(|(pod, _)| kubelet.end_pod(pod));
    kubelet.end_pod(&pod);
    kubelet.block_on(async { futures_util::future::join_all(tasks).await });
    daemon.end();
    world.end();
}

#[test]
fn ports_that_never_answer_keep_nobody_else_waiting() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("silent", 0), "crun").unwrap();
    // It listens and takes nobody; once two wait, the kernel answers nobody either.
    let script = "nc -l -p 80 -e cat & sleep 1; kill -STOP $!; while :; do sleep 1000; done";
    let silent = kubelet.begin(&pod, kubelet.container_config("main", 0, script));
    std::thread::sleep(Duration::from_secs(2));
    let open: Vec<_> = (0..6).map(|_| Stream::forward_to(&kubelet, &pod, &[80; 127])).collect();
    std::thread::sleep(Duration::from_secs(1));
    let (sender, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(kubelet.containers().len(), 1);
            kubelet.assert_alive(&silent);
            sender.send(()).unwrap();
        });
        // Sooner than the daemon gives the ports up.
        answered.recv_timeout(Duration::from_secs(8)).expect("it answers nobody");
    });
    drop(open);
    kubelet.end_pod(&pod);
    daemon.end();
    world.end();
}

#[test]
fn users_of_the_machine_who_crowd_the_streaming_port_keep_no_client_out() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("crowded", 0), "crun").unwrap();
    let main = kubelet.begin(&pod, kubelet.container_config("main", 0, WAITS));
    let url = kubelet.ask(async |mut c| {
        let request = v1::PortForwardRequest {
            pod_sandbox_id: pod.clone(),
            port: vec![1],
        };
        c.port_forward(request).await.unwrap().into_inner().url
    });
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    // They say nothing.
    let crowd: Vec<TcpStream> = (0..3000).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut stream = Stream::exec(&kubelet, &main, "echo through; cat");
    stream.wait_for("through");
    // Who crowds is cut off, the first first; who is served is not.
    let mut first = &crowd[0];
    first.set_read_timeout(Some(common::patience())).unwrap();
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
    stream.send("still\n");
    stream.wait_for("still");
    drop(stream);
    kubelet.end_pod(&pod);
    daemon.end();
    world.end();
}

#[test]
fn nothing_of_the_daemon_is_open_in_a_container_or_a_command() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    for handler in ALL {
        let pod = kubelet.run_pod(kubelet.pod_config(handler, 0), handler).unwrap();
        let main = kubelet.begin(&pod, kubelet.container_config("main", 0, WAITS));
        // Streams are open meanwhile.
        let mut stream = Stream::exec(&kubelet, &main, "ls /proc/$$/fd; echo :; cat");
        stream.wait_for("0\n1\n2\n:\n");
        // No pipe, which the shell would have open itself.
        let told = kubelet.exec(&main, "ls /proc/1/fd; echo :; ls /proc/$$/fd; true", 20).unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout), "0\n1\n2\n:\n0\n1\n2\n", "{handler}");
        drop(stream);
        kubelet.end_pod(&pod);
    }
    daemon.end();
    world.end();
}
