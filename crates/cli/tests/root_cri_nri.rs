//! NRI plugins beside `cofferdam cri`: what they are told, change and refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;
mod plugin;

use common::{WAITS, World, until};
use cri::{Daemon, Kubelet};
use plugin::{Adjustment, Asked, Created, Mount, Pair, Plugin, Unsolicited, Update};
use prost::Message;
use tonic::Code;

fn pair(key: &str, value: &str) -> Pair {
    Pair {
        key: key.into(),
        value: value.into(),
    }
}

fn plugin(world: &World, name: &str, answer: impl Fn(&Asked) -> plugin::Answer + Send + 'static) -> Plugin {
    Plugin::connect(&world.dir.join("nri"), name, answer)
}

/// Nothing of a pod that was refused is left.
#[track_caller]
fn assert_nothing(world: &World, kubelet: &Kubelet) {
    assert_eq!(kubelet.pods(), vec![]);
    // Handlers may still be proved, by pods of their own.
    until("no pod is left", || world.pod_ids().is_empty().then_some(()));
}

#[test]
fn a_plugin_sees_a_pods_whole_life_and_adjusts_its_container() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    // It comes before the plugin, which is told of it as it comes.
    let early = kubelet.run_pod(kubelet.pod_config("early", 0), "crun").unwrap();
    let sleeper = kubelet.begin(&early, kubelet.container_config("sleeper", 0, WAITS));
    let given = world.out().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::write(given.join("word"), "from the plugin").unwrap();
    let source = given.display().to_string();
    let plugin = plugin(&world, "adjuster", move |asked| {
        let mount = Mount {
            destination: "/given".into(),
            kind: "bind".into(),
            source: source.clone(),
            options: vec!["bind".into(), "ro".into()],
        };
        let adjust = Adjustment {
            mounts: vec![mount],
            env: vec![pair("GIVEN", "yes")],
        };
        Ok(match asked.method.as_str() {
            "CreateContainer" => Created {
                adjust: Some(adjust),
                ..Created::default()
            }
            .encode_to_vec(),
            _ => vec![],
        })
    });
    let state = plugin.wait_for("Synchronize");
    assert_eq!(
        state.pods.iter().map(|p| (p.id.as_str(), p.handler.as_str())).collect::<Vec<_>>(),
        [(early.as_str(), "crun")]
    );
    assert!(state.pods[0].pid > 0, "{state:?}");
    assert_eq!(
        state.containers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        [sleeper.as_str()]
    );
    daemon.said.wait_for("NRI plugin \"10-adjuster\" is connected");

    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let script = format!("echo $GIVEN $(cat /given/word); {WAITS}");
    let main = kubelet.begin(&pod, kubelet.container_config("main", 0, &script));
    let answer = kubelet.exec(&main, "echo $GIVEN; cat /given/word; touch /given/x", 20).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "yes\nfrom the plugin");
    assert_ne!(answer.exit_code, 0, "the mount is not read-only");
    kubelet.update(&main, 64 << 20).unwrap();
    kubelet.stop(&main, 5).unwrap();
    let stopped = plugin.wait_for("StopContainer");
    assert_eq!(stopped.containers[0].id, main);
    kubelet.remove(&main).unwrap();
    kubelet.end_pod(&pod);
    kubelet.end_pod(&early);
    let mut told = vec![];
    while told.iter().filter(|(m, _)| m == "RemovePodSandbox").count() < 2 {
        let asked = plugin.asked.recv_timeout(common::patience()).unwrap();
        told.push((asked.method, asked.pods[0].id.clone()));
    }
    let of_pod: Vec<&str> = told.iter().filter(|(_, id)| *id == pod).map(|(m, _)| m.as_str()).collect();
    assert_eq!(of_pod, ["RemoveContainer", "StopPodSandbox", "RemovePodSandbox"]);
    daemon.end();
}

/// How a pod and its container begin, as upstream asks.
const ORDER: [&str; 6] = [
    "RunPodSandbox",
    "CreateContainer",
    "ValidateContainerAdjustment",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
];

#[test]
fn a_plugin_is_asked_in_order_with_one_id_throughout() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let plugin = plugin(&world, "watcher", |_| Ok(vec![]));
    plugin.wait_for("Synchronize");
    daemon.said.wait_for("is connected");
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let main = kubelet.begin(&pod, kubelet.container_config("main", 0, "true"));
    for wanted in ORDER {
        let asked = plugin.asked.recv_timeout(common::patience()).unwrap();
        assert_eq!(asked.method, wanted);
        assert_eq!(asked.pods[0].id, pod);
        if let Some(container) = asked.containers.first() {
            assert_eq!(
                (container.id.as_str(), container.name.as_str()),
                (main.as_str(), "main"),
                "{wanted}"
            );
            assert_eq!(container.args, ["sh", "-c", "true"]);
        }
    }
    plugin.wait_for("StopContainer");
    kubelet.end_pod(&pod);
    daemon.end();
}

#[test]
fn a_plugin_refuses_a_pod_and_nothing_of_it_is_left() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let plugin = plugin(&world, "denier", |asked| {
        match (asked.method.as_str(), asked.pods[0].name.as_str()) {
            ("RunPodSandbox", "bad") => Err("not this one"),
            ("StartContainer", _) => Err("not now"),
            // Nobody is asked whether these may be.
            ("RemoveContainer" | "RemovePodSandbox", _) => Err("not gone"),
            _ => Ok(vec![]),
        }
    });
    plugin.wait_for("Synchronize");
    daemon.said.wait_for("is connected");
    let why = kubelet.run_pod(kubelet.pod_config("bad", 0), "crun").unwrap_err();
    assert_eq!(why.code(), Code::Unknown);
    assert!(
        why.message().contains("10-denier") && why.message().contains("not this one"),
        "{why}"
    );
    assert_nothing(&world, &kubelet);
    // As upstream, who agreed to it is told that it ends.
    for wanted in ["StopPodSandbox", "RemovePodSandbox"] {
        assert_eq!(plugin.wait_for(wanted).pods[0].name, "bad");
    }
    // The name is free again.
    assert!(
        kubelet
            .run_pod(kubelet.pod_config("bad", 0), "crun")
            .unwrap_err()
            .message()
            .contains("not this one")
    );
    let pod = kubelet.run_pod(kubelet.pod_config("good", 0), "crun").unwrap();
    let main = kubelet.create(&pod, kubelet.container_config("main", 0, WAITS)).unwrap();
    assert!(kubelet.start(&main).unwrap_err().message().contains("not now"));
    assert_eq!(
        kubelet.status(&main).unwrap().state(),
        cofferdam_cri_api::v1::ContainerState::ContainerCreated
    );
    assert_eq!(plugin.wait_for("StopContainer").containers[0].id, main);
    kubelet.end_pod(&pod);
    assert_eq!(plugin.wait_for("RemoveContainer").containers[0].id, main);
    assert_nothing(&world, &kubelet);
    daemon.end();
}

#[test]
fn without_a_required_plugin_no_pod_starts() {
    let world = World::new();
    world.drop_in("nri.toml", "[cri.nri]\nrequired = [\"guard\"]\n");
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let missing = |kubelet: &Kubelet| {
        let why = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap_err();
        assert!(
            why.message().contains("\"guard\"") && why.message().contains("is not connected"),
            "{why}"
        );
        assert_nothing(&world, kubelet);
    };
    missing(&kubelet);
    let guard = plugin(&world, "guard", |_| Ok(vec![]));
    daemon.said.wait_for("is connected");
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    kubelet.end_pod(&pod);
    drop(guard);
    daemon.said.wait_for("is gone");
    missing(&kubelet);
    daemon.end();
}

#[test]
fn a_pod_can_require_a_plugin_by_itself() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let mut config = kubelet.pod_config("web", 0);
    config
        .annotations
        .insert("required-plugins.noderesource.dev".into(), "[guard]".into());
    let why = kubelet.run_pod(config, "crun").unwrap_err();
    assert!(why.message().contains("is not connected"), "{why}");
    assert_nothing(&world, &kubelet);
    daemon.end();
}

#[test]
fn a_plugin_changes_and_ends_others_by_itself_and_in_a_verb() {
    let world = World::new();
    let daemon = Daemon::start(&world);
    let kubelet = Kubelet::new(&world);
    let pod = kubelet.run_pod(kubelet.pod_config("web", 0), "crun").unwrap();
    let main = kubelet.begin(&pod, kubelet.container_config("main", 0, WAITS));
    let victim = kubelet.begin(&pod, kubelet.container_config("victim", 0, WAITS));
    let memory = |id: &str| kubelet.status(id).unwrap().resources.unwrap().linux.unwrap().memory_limit_in_bytes;
    let (changed, ended) = (main.clone(), victim.clone());
    let mut plugin = plugin(&world, "changer", move |asked| {
        let created = Created {
            adjust: None,
            update: vec![Update::memory(&changed, 96 << 20)],
            evict: vec![pair(&ended, "no room")],
        };
        Ok(if asked.method == "CreateContainer" {
            created.encode_to_vec()
        } else {
            vec![]
        })
    });
    plugin.wait_for("Synchronize");
    daemon.said.wait_for("is connected");
    plugin.call(
        "UpdateContainers",
        &Unsolicited {
            update: vec![Update::memory(&main, 80 << 20)],
            evict: vec![],
        },
    );
    assert_eq!(memory(&main), 80 << 20);
    let third = kubelet.create(&pod, kubelet.container_config("third", 0, WAITS)).unwrap();
    assert_eq!(memory(&main), 96 << 20);
    kubelet.ended(&victim);
    plugin.call(
        "UpdateContainers",
        &Unsolicited {
            update: vec![],
            evict: vec![pair(&main, "by itself")],
        },
    );
    until("it is ended", || {
        (kubelet.status(&main).unwrap().state() == cofferdam_cri_api::v1::ContainerState::ContainerExited).then_some(())
    });
    kubelet.remove(&third).unwrap();
    kubelet.end_pod(&pod);
    daemon.end();
}

#[test]
fn a_plugin_that_is_installed_is_started_with_the_daemon_and_a_wrong_one_stops_it() {
    let world = World::new();
    std::fs::create_dir(world.dir.join("plugins.d")).unwrap();
    world.script("plugins.d/logger", "#!/bin/sh\n");
    world.call(&["cri"]).fails(120, "is not named as an NRI plugin");
    world.drop_in("nri.toml", "[cri.nri]\nenabled = false\n");
    let daemon = Daemon::start(&world);
    assert!(!world.dir.join("nri").exists(), "it listens for plugins though it is off");
    daemon.end();
    std::fs::remove_file(world.dir.join("etc/conf.d/nri.toml")).unwrap();
    std::fs::remove_dir_all(world.dir.join("plugins.d")).unwrap();
}
