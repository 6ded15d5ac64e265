//! Plugins that refuse, fail, hang or die, and those that a pod cannot do without.

use super::fake::{Fake, Reply};
use super::*;
use crate::Error;
use crate::wire::{self, Event};

const REQUIRED: &str = "required-plugins.noderesource.dev";

#[test]
fn a_refusal_fails_the_verb_and_the_plugin_stays() {
    let rig = Rig::new();
    let asked = Arc::default();
    let _a = Fake::new("10", "a")
        .on("RunPodSandbox", |_| Reply::Error(2, "not this pod"))
        .connect(&rig.socket);
    let _b = Fake::new("20", "b").asked(&asked).connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    asked.lock().unwrap().clear();
    for _ in 0..2 {
        let error = rig.nri.run_pod(&pod()).unwrap_err();
        assert_eq!(error.to_string(), "NRI plugin \"10-a\" refused RunPodSandbox: not this pod");
    }
    assert!(asked.lock().unwrap().is_empty(), "no plugin is asked after a refusal");
    rig.nri.remove_pod(&pod()).unwrap();
    assert_eq!(*asked.lock().unwrap(), ["b:RemovePodSandbox"]);
}

#[test]
fn one_that_does_not_answer_is_let_go() {
    for (reply, why) in [
        (0, "it did not answer within 1000 ms"),
        (1, "its connection is closed"),
        (2, "its connection is closed"),
        (3, "it does not keep to the protocol"),
    ] {
        let rig = Rig::with(|options| options.request_timeout = Duration::from_secs(1));
        let asked = Arc::default();
        let _bad = Fake::new("10", "bad")
            .on("CreateContainer", move |_| match reply {
                0 => Reply::Silence,
                1 => Reply::HangUp,
                2 => Reply::Garbage(vec![0xff; 64]),
                _ => Reply::Answer(vec![0xff; 3]),
            })
            .connect(&rig.socket);
        let _good = Fake::new("20", "good").asked(&asked).connect(&rig.socket);
        rig.wait_for(&["10-bad", "20-good"]);
        rig.nri.create_container(&pod(), &container()).unwrap();
        rig.wait_told(&format!(
            "NRI plugin \"10-bad\" failed to handle CreateContainer, going on without it: {why}"
        ));
        rig.wait_told("NRI plugin \"10-bad\" is gone");
        rig.wait_for(&["20-good"]);
        assert!(asked.lock().unwrap().contains(&"good:CreateContainer".to_owned()));
    }
}

#[test]
fn a_plugin_that_dies_between_verbs_is_let_go() {
    let rig = Rig::new();
    let plugin = Fake::new("10", "a").connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    plugin.hang_up();
    rig.wait_for(&[]);
    rig.wait_told("NRI plugin \"10-a\" is gone");
    assert!(!rig.nri.is_needed(&pod().annotations));
}

#[test]
fn a_plugin_has_a_say_in_what_its_failure_means() {
    for (fail_request, keep_connected) in [(false, false), (true, false), (false, true), (true, true)] {
        let rig = Rig::with(|options| options.request_timeout = Duration::from_secs(1));
        let _plugin = Fake::new("10", "a")
            .policy(fail_request, keep_connected)
            .on("StartContainer", |_| Reply::Silence)
            .connect(&rig.socket);
        rig.wait_for(&["10-a"]);
        let started = rig.nri.start_container(&pod(), &container());
        assert_eq!(started.is_err(), fail_request);
        if keep_connected {
            rig.nri.container_started(&pod(), &container()).unwrap();
            assert_eq!(rig.nri.plugins(), ["10-a"]);
        } else {
            rig.wait_for(&[]);
        }
    }
}

#[test]
fn a_required_plugin_that_is_missing_stops_the_pod() {
    let rig = Rig::with(|options| options.required = vec!["guard".to_owned()]);
    assert!(rig.nri.is_needed(&pod().annotations));
    let error = rig.nri.run_pod(&pod()).unwrap_err();
    let text = "NRI plugin \"guard\", which is required for RunPodSandbox of pod pod1, is not connected";
    assert_eq!(error.to_string(), text);
    for verb in [
        rig.nri.create_container(&pod(), &container()).map(drop),
        rig.nri.start_container(&pod(), &container()),
        rig.nri.update_container(&pod(), &container(), &Default::default()).map(drop),
        rig.nri.update_pod(&pod(), &Default::default(), &Default::default()),
    ] {
        assert!(matches!(verb, Err(Error::Missing { .. })), "{verb:?}");
    }
    // What ends a pod is never held up.
    rig.nri.stop_container(&pod(), &container()).unwrap();
    rig.nri.remove_container(&pod(), &container()).unwrap();
    rig.nri.stop_pod(&pod()).unwrap();
    rig.nri.remove_pod(&pod()).unwrap();
    // One of another name does not do; the one that is meant does.
    let _other = Fake::new("10", "other").connect(&rig.socket);
    rig.wait_for(&["10-other"]);
    assert!(rig.nri.run_pod(&pod()).is_err());
    let guard = Fake::new("20", "guard").connect(&rig.socket);
    rig.wait_for(&["10-other", "20-guard"]);
    rig.nri.run_pod(&pod()).unwrap();
    guard.hang_up();
    rig.wait_for(&["10-other"]);
    assert!(rig.nri.run_pod(&pod()).is_err());
}

#[test]
fn a_pod_can_require_plugins_for_itself() {
    let rig = Rig::new();
    let annotated_pod = annotated(REQUIRED, "[guard]");
    assert!(rig.nri.is_needed(&annotated_pod.annotations));
    assert!(matches!(rig.nri.run_pod(&annotated_pod), Err(Error::Missing { .. })));
    rig.nri.run_pod(&pod()).unwrap();
    let container_only = annotated(&format!("{REQUIRED}/container.app"), "[20-guard]");
    rig.nri.run_pod(&container_only).unwrap();
    assert!(rig.nri.create_container(&container_only, &container()).is_err());
    let unclear = rig.nri.run_pod(&annotated(REQUIRED, "{")).unwrap_err();
    let text = format!("annotation {REQUIRED} of pod pod1 is \"{{\": a YAML list of plugin names is expected");
    assert_eq!(unclear.to_string(), text);
    let _guard = Fake::new("20", "guard").connect(&rig.socket);
    rig.wait_for(&["20-guard"]);
    rig.nri.run_pod(&annotated_pod).unwrap();
    rig.nri.create_container(&container_only, &container()).unwrap();
    let other_index = annotated(REQUIRED, "[10-guard]");
    assert!(rig.nri.run_pod(&other_index).is_err());
}

#[test]
fn a_required_plugin_that_fails_stops_the_pod() {
    for reply in [|| Reply::Silence, || Reply::HangUp] {
        let rig = Rig::with(|options| options.request_timeout = Duration::from_secs(1));
        let _guard = Fake::new("20", "guard").on("RunPodSandbox", move |_| reply()).connect(&rig.socket);
        rig.wait_for(&["20-guard"]);
        let error = rig.nri.run_pod(&annotated(REQUIRED, "[guard]")).unwrap_err().to_string();
        assert!(
            error.starts_with("NRI plugin \"20-guard\" failed to handle RunPodSandbox, which cannot go on"),
            "{error}"
        );
        rig.wait_for(&[]);
        assert!(matches!(
            rig.nri.run_pod(&annotated(REQUIRED, "[guard]")),
            Err(Error::Missing { .. })
        ));
    }
}

#[test]
fn verbs_that_wait_for_a_hung_plugin_fail_with_it() {
    let rig = Rig::with(|options| options.request_timeout = Duration::from_secs(1));
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let _hung = Fake::new("10", "hung")
        .asked(&asked)
        .on("RunPodSandbox", |_| Reply::Silence)
        .connect(&rig.socket);
    rig.wait_for(&["10-hung"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| rig.nri.run_pod(&pod()).unwrap());
        }
    });
    let questions = asked.lock().unwrap().iter().filter(|q| q.ends_with("RunPodSandbox")).count();
    assert_eq!(questions, 1, "who waits for its turn does not ask one that is gone");
}

#[test]
fn a_plugin_that_does_not_read_is_let_go() {
    let rig = Rig::with(|options| options.request_timeout = Duration::from_secs(1));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let _stuck = Fake::new("10", "stuck")
        .wants(&[Event::RunPodSandbox])
        .on("RunPodSandbox", move |_| {
            let _ = stopped.recv();
            Reply::Silence
        })
        .policy(false, true)
        .connect(&rig.socket);
    rig.wait_for(&["10-stuck"]);
    rig.nri.run_pod(&pod()).unwrap();
    // More than the socket takes.
    rig.nri
        .run_pod(&Pod {
            name: "x".repeat(3 << 20),
            ..pod()
        })
        .unwrap();
    rig.wait_for(&[]);
    drop(stop);
}

#[test]
fn a_pod_that_is_too_large_to_tell_is_no_fault_of_the_plugin() {
    let rig = Rig::new();
    let _plugin = Fake::new("10", "a").connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    let large = Pod {
        name: "x".repeat(5 << 20),
        ..pod()
    };
    rig.nri.run_pod(&large).unwrap();
    rig.wait_told("more than 4194304");
    assert_eq!(rig.nri.plugins(), ["10-a"]);
    let required = Pod {
        annotations: annotated(REQUIRED, "[a]").annotations,
        ..large
    };
    assert!(matches!(rig.nri.run_pod(&required), Err(Error::Failed { .. })));
}

#[test]
fn validators_judge_what_came_together() {
    let rig = Rig::new();
    let adjust = wire::ContainerAdjustment {
        args: vec!["x".into()],
        ..Default::default()
    };
    let _a = Fake::new("10", "a")
        .wants(&[Event::CreateContainer])
        .adjusts(adjust)
        .connect(&rig.socket);
    let _judge = Fake::new("90", "judge")
        .wants(&[Event::ValidateContainerAdjustment])
        .on("ValidateContainerAdjustment", |request| {
            let r: wire::ValidateContainerAdjustmentRequest = prost::Message::decode(request).unwrap();
            let owner = r.owners.unwrap().owners["ctr1"].simple[&7].clone();
            let plugins: Vec<_> = r.plugins.iter().map(|p| format!("{}-{}", p.index, p.name)).collect();
            assert_eq!((owner.as_str(), r.adjust.unwrap().args), ("10-a", vec!["x".to_owned()]));
            assert_eq!(
                (plugins, r.container.unwrap().args),
                (vec!["10-a".into(), "90-judge".into()], vec![])
            );
            let reject = r.pod.unwrap().name == "web";
            Reply::of(&wire::ValidateContainerAdjustmentResponse {
                reject,
                reason: "no args".into(),
            })
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "90-judge"]);
    let error = rig.nri.create_container(&pod(), &container()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "validator \"90-judge\" rejected container adjustment, reason: no args"
    );
    let other = Pod {
        name: "db".into(),
        ..pod()
    };
    assert_eq!(rig.nri.create_container(&other, &container()).unwrap().adjustment.args, ["x"]);
}
