//! What `cofferdam cri` tells of itself: metrics, health, spans and log lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;
mod otlp;

use common::{Lines, WAITS, World, patience, until};
use cri::{Daemon, Kubelet};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use tonic::Code;

/// A kubelet's span, and its trace.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Where the daemon says that metrics and health are.
#[track_caller]
fn address(said: &Lines) -> String {
    let line = said.wait_for("metrics and health are served");
    let (_, address) = line.split_once("address=").unwrap();
    address.trim().trim_matches('"').to_owned()
}

/// Status and body of an answer.
#[track_caller]
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Fails unless each of these lines is in a scrape.
#[track_caller]
fn assert_lines(scrape: &str, lines: &[&str]) {
    for line in lines {
        assert!(scrape.lines().any(|l| l == *line), "looked for {line} in:\n{scrape}");
    }
}

fn observed(more: &str) -> World {
    let world = World::new();
    world.drop_in("observe.toml", &format!("[cri]\nmetrics_address = \"127.0.0.1:0\"\n{more}"));
    world
}

#[test]
fn a_scrape_has_verbs_by_handler_and_code_stages_and_what_there_is() {
    let world = observed("");
    let daemon = Daemon::start(&world);
    let address = address(&daemon.said);
    let kubelet = Kubelet::new(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let container = kubelet.begin(&pod, kubelet.container_config("main", 0, WAITS));
    kubelet.assert_alive(&container);
    assert_eq!(
        kubelet.run_pod(kubelet.pod_config("odd", 0), "made-up").unwrap_err().code(),
        Code::Unknown
    );
    let mut odd = kubelet.container_config("odd", 0, "");
    odd.command = vec!["/none".into()];
    kubelet.create(&pod, odd).unwrap_err();
    let (status, scrape) = get(&address, "/metrics");
    assert_eq!(status, 200);
    assert_lines(
        &scrape,
        &[
            "cofferdam_cri_requests_total{verb=\"RunPodSandbox\",handler=\"crun\",code=\"OK\"} 1",
            "cofferdam_cri_requests_total{verb=\"RunPodSandbox\",handler=\"unknown\",code=\"Unknown\"} 1",
            "cofferdam_cri_requests_total{verb=\"ExecSync\",handler=\"crun\",code=\"OK\"} 1",
            "cofferdam_cri_request_duration_seconds_count{verb=\"CreateContainer\",handler=\"crun\"} 2",
            "cofferdam_cri_stage_duration_seconds_count{verb=\"RunPodSandbox\",handler=\"crun\",stage=\"network\"} 1",
            // Of the one that failed, too, as far as it came.
            "cofferdam_cri_stage_duration_seconds_count{verb=\"CreateContainer\",handler=\"crun\",stage=\"bundle\"} 2",
            "cofferdam_cri_stage_duration_seconds_count{verb=\"CreateContainer\",handler=\"crun\",stage=\"create\"} 1",
            "cofferdam_cri_stage_duration_seconds_count{verb=\"StartContainer\",handler=\"crun\",stage=\"start\"} 1",
            "cofferdam_cri_requests_in_flight{verb=\"RunPodSandbox\"} 0",
            "cofferdam_pods{handler=\"crun\",state=\"ready\"} 1",
            "cofferdam_containers{handler=\"crun\",state=\"running\"} 1",
            "cofferdam_cleanups_failed 0",
            "cofferdam_image_pulls_in_progress 0",
            "cofferdam_engine_answers 1",
        ],
    );
    assert!(!scrape.contains("made-up"), "what callers make up is no label");
    kubelet.end_pod(&pod);
    // A handler that the configuration adds is named from then on.
    world.drop_in("own.toml", "[handlers.own]\nbinary = \"crun\"\n");
    daemon.said.wait_for("handler own was added");
    let pod = kubelet.run_pod(kubelet.pod_config("own", 0), "own").unwrap();
    let (_, scrape) = get(&address, "/metrics");
    assert_lines(&scrape, &["cofferdam_pods{handler=\"own\",state=\"ready\"} 1"]);
    kubelet.end_pod(&pod);
    std::fs::remove_file(world.dir.join("etc/conf.d/own.toml")).unwrap();
    daemon.end();
}

#[test]
fn health_fails_where_pods_would_have_no_network_and_is_well_again() {
    let world = observed("");
    let dir = world.dir.display();
    let cni = format!("[network]\nmode = \"cni\"\ncni_conf = \"{dir}/net.d\"\ncni_plugins = [\"{dir}/plugins\"]\n");
    world.drop_in("cni.toml", &cni);
    for sub in ["net.d", "plugins"] {
        std::fs::create_dir(world.dir.join(sub)).unwrap();
    }
    let daemon = Daemon::start(&world);
    let address = address(&daemon.said);
    for path in ["/healthz", "/readyz"] {
        let (status, body) = get(&address, path);
        assert_eq!(status, 503, "{path}: {body}");
        assert!(body.lines().any(|line| line.starts_with("network: ")), "{path}: {body}");
        assert!(!body.contains("engine") && !body.contains("socket"), "{path}: {body}");
    }
    world.script(
        "plugins/odd",
        "#!/bin/sh\necho '{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"1.0.0\"]}'\n",
    );
    std::fs::write(
        world.dir.join("net.d/10-odd.conflist"),
        "{\"cniVersion\": \"1.0.0\", \"name\": \"odd\", \"plugins\": [{\"type\": \"odd\"}]}",
    )
    .unwrap();
    for path in ["/healthz", "/readyz"] {
        until(&format!("{path} is well"), || (get(&address, path).0 == 200).then_some(()));
    }
    daemon.end();
    // The world ends by its own network.
    std::fs::remove_file(world.dir.join("etc/conf.d/cni.toml")).unwrap();
}

/// A collector of spans: what is posted to it.
fn collector() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap() > 2 {}
                let head = head.to_ascii_lowercase();
                let Some((_, rest)) = head.split_once("content-length: ") else {
                    break;
                };
                let mut body = vec![0; rest.lines().next().unwrap().trim().parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                reader
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                    .unwrap();
                if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                    return;
                }
            }
        }
    });
    (url, receiver)
}

fn spans(posted: &Value) -> Vec<Value> {
    let scopes = posted["resourceSpans"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|r| r["scopeSpans"].as_array().unwrap());
    scopes.flat_map(|s| s["spans"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_kubelets_trace_goes_on_into_a_pods_stages() {
    let (url, posts) = collector();
    let world = observed(&format!("otlp_endpoint = \"{url}\"\notlp_protocol = \"http/json\"\n"));
    let mut command: Command = world.command(&["cri"]);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let daemon = Daemon::start_as(&world, command);
    let kubelet = Kubelet::new(&world);
    let mut request = tonic::Request::new(cofferdam_cri_api::v1::RunPodSandboxRequest {
        config: Some(kubelet.pod_config("web", 0)),
        runtime_handler: "crun".into(),
    });
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
    let pod = kubelet
        .ask(async |mut c| c.run_pod_sandbox(request).await)
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let all: Vec<Value> = loop {
        let all = spans(&posts.recv_timeout(patience()).unwrap());
        if all.iter().any(|s| s["traceId"] == TRACE) {
            break all;
        }
    };
    let call = all.iter().find(|s| s["name"] == "runtime.v1.RuntimeService/RunPodSandbox").unwrap();
    assert_eq!((&call["traceId"], &call["parentSpanId"]), (&TRACE.into(), &SPAN.into()));
    let attribute =
        |name: &str| call["attributes"].as_array().unwrap().iter().find(|a| a["key"] == name).unwrap()["value"]["stringValue"].clone();
    assert_eq!(attribute("cofferdam.handler"), "crun");
    assert_eq!(
        (attribute("k8s.pod.name"), attribute("cofferdam.sandbox.id")),
        ("web".into(), pod.as_str().into())
    );
    let stages: Vec<&str> = all
        .iter()
        .filter(|s| s["parentSpanId"] == call["spanId"])
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    for stage in ["cgroup", "monitor", "network", "enclosure"] {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    kubelet.end_pod(&pod);
    daemon.end();
}

#[test]
fn the_start_recovery_and_clean_ups_are_spans_too() {
    let collector = otlp::Collector::start();
    let world = observed(&format!("otlp_endpoint = \"{}\"\notlp_protocol = \"grpc\"\n", collector.url));
    // What the daemon before left: a record that cannot be read.
    let left = world.root().join("pods").join("a".repeat(32));
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("pod.json"), "{").unwrap();
    let mut command: Command = world.command(&["cri"]);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let daemon = Daemon::start_as(&world, command);
    let line = daemon.said.wait_for("something was recovered");
    let recovery = collector.next("recovery");
    assert_eq!(otlp::attribute(&recovery.attributes, "cofferdam.recovery.findings"), "1");
    assert_eq!(otlp::attribute(&recovery.attributes, "cofferdam.recovery.cleanups_failed"), "0");
    let [finding] = &recovery.events[..] else { panic!("{recovery:?}") };
    let told = otlp::attribute(&finding.attributes, "cofferdam.finding");
    assert!(
        finding.name == "finding" && told.contains("its record cannot be read"),
        "{finding:?}"
    );
    assert!(line.contains(&told), "{line}");
    let parts = [recovery, collector.next("plugins"), collector.next("serve")];
    let start = collector.next("start");
    assert!(start.parent.is_empty() && start.status.is_none(), "{start:?}");
    for part in parts {
        assert_eq!(
            (&part.trace, &part.parent, &part.status),
            (&start.trace, &start.id, &None),
            "{part:?}"
        );
    }
    // A clean-up that fails until what is in its way goes.
    let kubelet = Kubelet::new(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    assert_eq!(collector.next("runtime.v1.RuntimeService/RunPodSandbox").status, None);
    let busy = world.root().join("pods").join(&pod).join("busy");
    std::fs::create_dir(&busy).unwrap();
    let run = |args: &[&str]| assert!(Command::new(args[0]).args(&args[1..]).arg(&busy).status().unwrap().success());
    run(&["mount", "-t", "tmpfs", "none"]);
    kubelet.remove_pod(&pod).unwrap_err();
    let failed = collector.next("clean-up");
    run(&["umount"]);
    assert_eq!(otlp::attribute(&failed.attributes, "cofferdam.cleanups.failed"), "1");
    let [event] = &failed.events[..] else { panic!("{failed:?}") };
    assert_eq!(
        (event.name.as_str(), otlp::attribute(&event.attributes, "cofferdam.sandbox.id")),
        ("failed", pod.clone())
    );
    assert!(!otlp::attribute(&event.attributes, "error.message").is_empty());
    assert!(failed.parent.is_empty() && failed.status.is_some_and(|status| !status.message.is_empty()));
    let done = collector.next("clean-up");
    assert_eq!((&done.events[0].name, &done.status), (&"cleaned up".to_owned(), &None));
    assert_eq!(otlp::attribute(&done.attributes, "cofferdam.cleanups.tried"), "1");
    assert_eq!(kubelet.pods(), vec![]);
    daemon.end();
}

#[test]
fn a_start_that_fails_is_a_span_that_failed() {
    let collector = otlp::Collector::start();
    let world = observed(&format!("otlp_endpoint = \"{}\"\notlp_protocol = \"grpc\"\n", collector.url));
    // The engine's folder is none.
    std::fs::remove_dir_all(world.root().join("pods")).unwrap();
    std::fs::write(world.root().join("pods"), "").unwrap();
    world.call(&["cri"]).fails(120, "it is not a directory");
    let recovery = collector.next("recovery");
    assert!(recovery.status.is_some_and(|status| !status.message.is_empty()));
    let start = collector.next("start");
    assert!(start.id == recovery.parent && start.status.is_some(), "{start:?}");
    std::fs::remove_file(world.root().join("pods")).unwrap();
}

#[test]
fn a_verb_that_fails_is_one_line_of_json_with_the_stages_that_it_reached() {
    let world = observed("log_format = \"json\"\n");
    // A network that refuses pods: the start fails in its middle.
    let dir = world.dir.display();
    let cni = format!("[network]\nmode = \"cni\"\ncni_conf = \"{dir}/net.d\"\ncni_plugins = [\"{dir}/plugins\"]\n");
    world.drop_in("cni.toml", &cni);
    for sub in ["net.d", "plugins"] {
        std::fs::create_dir(world.dir.join(sub)).unwrap();
    }
    let refuses = "#!/bin/sh\ncase $CNI_COMMAND in\nVERSION) echo '{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [\"1.0.0\"]}' ;;\nADD) echo '{\"cniVersion\": \"1.0.0\", \"code\": 100, \"msg\": \"no room\"}'; exit 1 ;;\nesac\n";
    world.script("plugins/odd", refuses);
    std::fs::write(
        world.dir.join("net.d/10-odd.conflist"),
        "{\"cniVersion\": \"1.0.0\", \"name\": \"odd\", \"plugins\": [{\"type\": \"odd\"}]}",
    )
    .unwrap();
    let daemon = Daemon::start(&world);
    let address = {
        let line: Value = serde_json::from_str(&daemon.said.wait_for("metrics and health are served")).unwrap();
        line["address"].as_str().unwrap().to_owned()
    };
    let kubelet = Kubelet::new(&world);
    let failed = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap_err();
    assert!(failed.message().contains("no room"), "{failed}");
    assert!(kubelet.run_pod(kubelet.pod_config("web", 0), "last").is_err());
    let lines: Vec<Value> = daemon
        .said
        .up_to("\\\"last\\\"")
        .iter()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let of_it: Vec<&Value> = lines.iter().filter(|l| l.to_string().contains("no room")).collect();
    let [line] = of_it[..] else { panic!("{of_it:?}") };
    assert_eq!(
        (&line["level"], &line["verb"], &line["code"]),
        (&"error".into(), &"RunPodSandbox".into(), &"Unknown".into())
    );
    assert_eq!(
        (&line["handler"], &line["pod"], &line["namespace"]),
        (&"crun".into(), &"web".into(), &"default".into())
    );
    assert_eq!(line["error"], failed.message());
    let (_, scrape) = get(&address, "/metrics");
    assert_lines(
        &scrape,
        &["cofferdam_cri_stage_duration_seconds_count{verb=\"RunPodSandbox\",handler=\"crun\",stage=\"monitor\"} 1"],
    );
    assert!(
        !scrape.contains("verb=\"RunPodSandbox\",handler=\"crun\",stage=\"network\""),
        "{scrape}"
    );
    daemon.end();
    std::fs::remove_file(world.dir.join("etc/conf.d/cni.toml")).unwrap();
}

#[test]
fn a_clean_up_that_failed_is_told_and_tried_again() {
    let world = observed("");
    let daemon = Daemon::start(&world);
    let address = address(&daemon.said);
    let kubelet = Kubelet::new(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let busy = world.root().join("pods").join(&pod).join("busy");
    std::fs::create_dir(&busy).unwrap();
    let run = |args: &[&str]| assert!(Command::new(args[0]).args(&args[1..]).arg(&busy).status().unwrap().success());
    run(&["mount", "-t", "tmpfs", "none"]);
    kubelet.remove_pod(&pod).unwrap_err();
    assert_lines(&get(&address, "/metrics").1, &["cofferdam_cleanups_failed 1"]);
    let (_, reason) = kubelet.pod_told(&pod).unwrap();
    assert!(reason.contains("its removal failed and is tried again"), "{reason}");
    let line = daemon.said.wait_for("what is left of a pod cannot be cleaned up");
    assert!(line.contains(&pod), "{line}");
    run(&["umount"]);
    daemon.said.wait_for("what was left of a pod is cleaned up");
    assert_lines(&get(&address, "/metrics").1, &["cofferdam_cleanups_failed 0"]);
    assert_eq!(kubelet.pods(), vec![]);
    daemon.end();
}

#[test]
fn of_a_commands_output_as_much_is_kept_as_is_set() {
    let world = observed("max_exec_output = 4096\n");
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let container = kubelet.begin(&pod, kubelet.container_config("main", 0, WAITS));
    let answer = kubelet.exec(&container, "yes | head -c 100000; echo end >&2; exit 3", 20).unwrap();
    assert_eq!(
        (answer.stdout.len(), answer.stderr.as_slice(), answer.exit_code),
        (4096, &b"end\n"[..], 3)
    );
    kubelet.end_pod(&pod);
    daemon.end();
}

#[test]
fn pods_of_run_are_none_of_a_kubelets() {
    let world = observed("");
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    world.detach(&[common::pod("mine", "crun", &[common::app(WAITS)])]);
    let id = world.id_of("mine");
    let events = kubelet.events();
    assert_eq!((kubelet.pods(), kubelet.containers()), (vec![], vec![]));
    let container = common::names(&world.root().join("pods").join(&id).join("c")).pop().unwrap();
    assert_eq!(kubelet.pod_status(&id).unwrap_err().code(), Code::NotFound);
    assert_eq!(kubelet.status(&container).unwrap_err().code(), Code::NotFound);
    assert_eq!(kubelet.exec(&container, "true", 5).unwrap_err().code(), Code::NotFound);
    assert_eq!(
        kubelet.create(&id, kubelet.container_config("more", 0, "true")).unwrap_err().code(),
        Code::NotFound
    );
    // What is not there is done, by CRI's rule; nothing happens to it.
    kubelet.stop(&container, 0).unwrap();
    kubelet.remove(&container).unwrap();
    kubelet.stop_pod(&id).unwrap();
    kubelet.remove_pod(&id).unwrap();
    assert_eq!(world.statuses()["mine"], "Running");
    let row = world.ps().into_iter().find(|r| r["name"] == "mine").unwrap();
    assert_eq!(row["kept"], true, "its own process keeps it: {row}");
    world.call(&["stop", "mine", "--grace", "0"]).good();
    // The other way round, and that events come at all.
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let first = events.0.recv_timeout(patience()).unwrap();
    assert_eq!(first.container_id, pod, "the pod of `run` was told of");
    kubelet.end_pod(&pod);
    daemon.end();
}
