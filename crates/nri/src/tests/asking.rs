//! What plugins are asked, and what they ask for.

use super::fake::{Fake, Reply};
use super::*;
use crate::connection::UNIMPLEMENTED;
use crate::wire::{self, Event};
use crate::{Created, Error};
use cofferdam_model::cri::LinuxResources;
use prost::Message;

fn update(id: &str, limit: i64, ignore_failure: bool) -> wire::ContainerUpdate {
    let resources = wire::LinuxResources {
        pids: Some(wire::LinuxPids { limit }),
        ..Default::default()
    };
    let linux = Some(wire::LinuxContainerUpdate {
        resources: Some(resources),
    });
    wire::ContainerUpdate {
        container_id: id.to_owned(),
        linux,
        ignore_failure,
    }
}

fn shares(id: &str, value: u64) -> wire::ContainerUpdate {
    let shares = Some(wire::OptionalUInt64 { value });
    let resources = wire::LinuxResources {
        cpu: Some(wire::LinuxCpu {
            shares,
            ..Default::default()
        }),
        ..Default::default()
    };
    let linux = Some(wire::LinuxContainerUpdate {
        resources: Some(resources),
    });
    wire::ContainerUpdate {
        container_id: id.to_owned(),
        linux,
        ignore_failure: false,
    }
}

/// A pod's life, as far as it brings nothing back.
fn live(nri: &Nri) {
    let (pod, container, limits) = (pod(), container(), LinuxResources::default());
    nri.run_pod(&pod).unwrap();
    nri.update_pod(&pod, &limits, &limits).unwrap();
    nri.pod_updated(&pod).unwrap();
    assert_eq!(nri.create_container(&pod, &container).unwrap(), Created::default());
    nri.container_created(&pod, &container).unwrap();
    nri.start_container(&pod, &container).unwrap();
    nri.container_started(&pod, &container).unwrap();
    nri.update_container(&pod, &container, &limits).unwrap();
    nri.container_updated(&pod, &container).unwrap();
    assert!(nri.stop_container(&pod, &container).unwrap().is_empty());
    nri.remove_container(&pod, &container).unwrap();
    nri.stop_pod(&pod).unwrap();
    nri.remove_pod(&pod).unwrap();
}

const LIFE: [&str; 14] = [
    "RunPodSandbox",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "CreateContainer",
    "ValidateContainerAdjustment",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
    "UpdateContainer",
    "PostUpdateContainer",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

#[test]
fn every_event_is_asked_about() {
    let rig = Rig::new();
    live(&rig.nri);
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let _plugin = Fake::new("10", "a").asked(&asked).connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    asked.lock().unwrap().clear();
    live(&rig.nri);
    assert_eq!(*asked.lock().unwrap(), LIFE.map(|event| format!("a:{event}")));
}

#[test]
fn old_plugins_are_told_by_state_change() {
    const OLD: [(&str, Event); 9] = [
        ("RunPodSandbox", Event::RunPodSandbox),
        ("PostUpdatePodSandbox", Event::PostUpdatePodSandbox),
        ("PostCreateContainer", Event::PostCreateContainer),
        ("StartContainer", Event::StartContainer),
        ("PostStartContainer", Event::PostStartContainer),
        ("PostUpdateContainer", Event::PostUpdateContainer),
        ("RemoveContainer", Event::RemoveContainer),
        ("StopPodSandbox", Event::StopPodSandbox),
        ("RemovePodSandbox", Event::RemovePodSandbox),
    ];
    let rig = Rig::new();
    let seen = Arc::<Mutex<Vec<i32>>>::default();
    let told = Arc::clone(&seen);
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let mut plugin = Fake::new("10", "old").asked(&asked).on("StateChange", move |event| {
        let event = wire::StateChangeEvent::decode(event).unwrap();
        assert_eq!(event.pod.unwrap().id, "pod1");
        told.lock().unwrap().push(event.event);
        Reply::Answer(Vec::new())
    });
    for (method, _) in OLD {
        plugin = plugin.on(method, |_| Reply::Error(UNIMPLEMENTED, "method"));
    }
    let _plugin = plugin.connect(&rig.socket);
    rig.wait_for(&["10-old"]);
    live(&rig.nri);
    assert_eq!(*seen.lock().unwrap(), OLD.map(|(_, event)| event as i32));
    asked.lock().unwrap().clear();
    rig.nri.run_pod(&pod()).unwrap();
    assert_eq!(*asked.lock().unwrap(), ["old:StateChange"], "it is not asked in the new way again");
}

#[test]
fn an_update_is_merged_and_others_come_with_it() {
    let rig = Rig::new();
    let answer = |updates: Vec<wire::ContainerUpdate>| {
        move |_: &[u8]| {
            Reply::of(&wire::UpdateContainerResponse {
                update: updates.clone(),
                evict: vec![],
            })
        }
    };
    let _a = Fake::new("10", "a").on("UpdateContainer", answer(vec![update("ctr1", 9, false), update("other", 1, true)]));
    let _a = _a.connect(&rig.socket);
    let seen = Arc::<Mutex<Option<wire::UpdateContainerRequest>>>::default();
    let told = Arc::clone(&seen);
    let _b = Fake::new("20", "b")
        .on("UpdateContainer", move |request| {
            *told.lock().unwrap() = Some(wire::UpdateContainerRequest::decode(request).unwrap());
            let evict = vec![wire::ContainerEviction {
                container_id: "bad".into(),
                reason: "full".into(),
            }];
            Reply::of(&wire::UpdateContainerResponse {
                update: vec![shares("other", 64)],
                evict,
            })
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    let asked = LinuxResources {
        memory_limit: 1 << 20,
        pids_limit: 3,
        oom_score_adj: Some(7),
        ..Default::default()
    };
    let updated = rig.nri.update_container(&pod(), &container(), &asked).unwrap();
    assert_eq!(updated.resources, LinuxResources { pids_limit: 9, ..asked });
    assert_eq!(updated.updates.len(), 1);
    let other = &updated.updates[0];
    assert_eq!((other.container.as_str(), other.ignore_failure), ("other", false));
    assert_eq!((other.resources.pids_limit, other.resources.cpu_shares), (Some(1), Some(64)));
    let seen = seen.lock().unwrap().take().unwrap().linux_resources.unwrap();
    assert_eq!((seen.pids.unwrap().limit, seen.memory.unwrap().limit.unwrap().value), (9, 1 << 20));
    assert_eq!(rig.state.evictions.lock().unwrap()[0].container, "bad");

    let _c = Fake::new("30", "c")
        .on("UpdateContainer", answer(vec![update("ctr1", 1, false)]))
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b", "30-c"]);
    let error = rig
        .nri
        .update_container(&pod(), &container(), &LinuxResources::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "plugins \"30-c\" and \"10-a\" both tried to set pids limit");
}

#[test]
fn a_conflict_that_a_plugin_does_not_mind_is_left_out() {
    let rig = Rig::new();
    let answer = |updates: Vec<wire::ContainerUpdate>| move |_: &[u8]| Reply::of(&wire::StopContainerResponse { update: updates.clone() });
    let _a = Fake::new("10", "a")
        .on("StopContainer", answer(vec![update("other", 1, false)]))
        .connect(&rig.socket);
    let _b = Fake::new("20", "b")
        .on("StopContainer", answer(vec![update("other", 2, true)]))
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    let updates = rig.nri.stop_container(&pod(), &container()).unwrap();
    assert_eq!((updates.len(), updates[0].resources.pids_limit), (1, Some(1)));
    assert!(!updates[0].ignore_failure);
}

#[test]
fn a_creation_updates_others_but_not_itself() {
    let rig = Rig::new();
    let seen = Arc::new(Mutex::new("other"));
    let which = Arc::clone(&seen);
    let _a = Fake::new("10", "a")
        .on("CreateContainer", move |_| {
            let update = vec![update(*which.lock().unwrap(), 1, true)];
            Reply::of(&wire::CreateContainerResponse {
                update,
                ..Default::default()
            })
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    let created = rig.nri.create_container(&pod(), &container()).unwrap();
    assert!(created.updates[0].ignore_failure);
    assert_eq!(created.updates[0].container, "other");
    *seen.lock().unwrap() = "ctr1";
    let error = rig.nri.create_container(&pod(), &container()).unwrap_err();
    assert!(matches!(error, Error::SelfUpdate { .. }), "{error}");
}

#[test]
fn plugins_update_and_evict_on_their_own() {
    let rig = Rig::new();
    let plugin = Fake::new("10", "a").connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    let refused = wire::ContainerUpdate {
        container_id: "classed".into(),
        linux: Some(wire::LinuxContainerUpdate {
            resources: Some(wire::LinuxResources {
                rdt_class: Some(wire::OptionalString { value: "x".into() }),
                ..Default::default()
            }),
        }),
        ignore_failure: false,
    };
    let request = wire::UpdateContainersRequest {
        update: vec![update("ctr1", 4, false), update("gone", 4, false), update("gone", 5, true), refused],
        evict: vec![wire::ContainerEviction {
            container_id: "bad".into(),
            reason: "full".into(),
        }],
    };
    let response = plugin.call("UpdateContainers", &request).unwrap();
    assert_eq!(response.status, None);
    let failed = wire::UpdateContainersResponse::decode(response.payload.as_slice()).unwrap().failed;
    let ids: Vec<_> = failed.iter().map(|update| update.container_id.as_str()).collect();
    assert_eq!(ids, ["gone", "classed"]);
    let limits: Vec<_> = rig.state.updates.lock().unwrap().iter().map(|u| u.resources.pids_limit).collect();
    assert_eq!(limits, [Some(4), Some(4), Some(5)]);
    assert_eq!(rig.state.evictions.lock().unwrap()[0].reason, "full");
    assert_eq!(plugin.call("NoSuchMethod", &request).unwrap().status.unwrap().code, UNIMPLEMENTED);
}

#[test]
fn a_plugin_may_update_while_it_is_asked() {
    let rig = Rig::new();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    // It calls while its own answer is waited for: the runtime serves both ways at once.
    let plugin = Fake::new("10", "a")
        .wants(&[Event::RunPodSandbox])
        .on("RunPodSandbox", move |_| {
            ask.send(()).unwrap();
            Reply::Silence
        })
        .policy(false, true)
        .connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    std::thread::scope(|scope| {
        let plugin = &plugin;
        scope.spawn(move || {
            asked.recv().unwrap();
            let request = wire::UpdateContainersRequest {
                update: vec![update("ctr1", 4, false)],
                evict: vec![],
            };
            assert!(plugin.call("UpdateContainers", &request).is_some());
            done.send(()).unwrap();
            plugin.hang_up();
        });
        rig.nri.run_pod(&pod()).unwrap();
        wait.recv().unwrap();
    });
    assert_eq!(rig.state.updates.lock().unwrap().len(), 1);
}
