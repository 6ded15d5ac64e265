#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn story() -> PodStory {
    PodStory {
        name: "web".into(),
        namespace: "shop".into(),
        class: Some("gvisor".into()),
        handler: "runsc".into(),
        phase: "Failed".into(),
        binary: Some("/usr/local/bin/runsc".into()),
        ..PodStory::default()
    }
}

fn container(reason: &str, message: &str, code: Option<i32>, log: &str) -> ContainerStory {
    ContainerStory {
        name: "app".into(),
        image: "web:1".into(),
        reason: reason.into(),
        message: message.into(),
        exit_code: code,
        down: true,
        restarts: 0,
        log: log.into(),
    }
}

fn event(warning: bool, reason: &str, message: &str) -> EventStory {
    EventStory {
        warning,
        reason: reason.into(),
        message: message.into(),
    }
}

fn ids(story: &PodStory) -> Vec<&'static str> {
    diagnose_pod(story).iter().map(|f| f.id).collect()
}

#[test]
fn each_story_has_its_cause() {
    let of = |container| PodStory {
        containers: vec![container],
        ..story()
    };
    let rows: Vec<(&str, PodStory)> = vec![
        (
            "monitor-dead",
            PodStory {
                reason: "SandboxDied".into(),
                message: "its sandbox died and is not made again: its monitor died".into(),
                ..story()
            },
        ),
        (
            "enclosure-dead",
            PodStory {
                message: "its sandbox died and is not made again: its enclosure died".into(),
                containers: vec![container("Error", "", Some(137), "working\n")],
                ..story()
            },
        ),
        (
            "handler-not-found",
            PodStory {
                reason: "HandlerUnavailable".into(),
                message: "not started, and not started anywhere weaker: no runtime for \"runsc\" is configured; configured are: crun"
                    .into(),
                ..story()
            },
        ),
        (
            "entrypoint-not-found",
            of(container(
                "CreateContainerError",
                "crun create failed: executable file `serve` not found in $PATH: No such file or directory",
                None,
                "",
            )),
        ),
        ("oom-killed", of(container("OOMKilled", "", Some(137), "working\n"))),
        (
            "gvisor-unsupported-call",
            of(container(
                "Error",
                "",
                Some(1),
                "starting\nio_uring_setup: Operation not supported\nbye\n",
            )),
        ),
        ("port-taken", of(container("Error", "", Some(1), "bind: Address already in use\n"))),
        ("container-failed", of(container("Error", "", Some(3), "no idea\n\n"))),
        (
            "disk-full",
            PodStory {
                sandbox_reason: Some("record /x cannot be written: No space left on device (os error 28)".into()),
                ..story()
            },
        ),
        // The event has the reason; the phase only says that there was one.
        (
            "addresses-overlap",
            PodStory {
                reason: "FailedCreatePodSandBox".into(),
                message: "its sandbox could not be made in 5 tries".into(),
                events: vec![event(
                    true,
                    "FailedCreatePodSandBox",
                    "the pod subnet 10.89.0.0/16 overlaps 10.89.0.0/24 of the link docker0: configure another subnet",
                )],
                ..story()
            },
        ),
        (
            "left-behind",
            PodStory {
                phase: "Succeeded".into(),
                left_behind: Some("a process in uninterruptible sleep".into()),
                ..story()
            },
        ),
        (
            "keeper-gone",
            PodStory {
                phase: "Running".into(),
                ready: true,
                abandoned: true,
                ..story()
            },
        ),
        (
            "stuck-container-creating",
            PodStory {
                phase: "Pending".into(),
                events: vec![event(false, "Pulling", "pulling web:1")],
                ..story()
            },
        ),
    ];
    for (id, story) in rows {
        let found = diagnose_pod(&story);
        assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), [id], "{found:#?}");
    }
}

#[test]
fn the_names_of_the_pod_stand_in_the_finding() {
    let found = diagnose_pod(&PodStory {
        containers: vec![container("Error", "", Some(3), "first\nlast word\n")],
        ..story()
    });
    assert_eq!(found[0].subject, "container app");
    assert_eq!(found[0].remedy, ["cofferdam logs shop/web -c app"]);
    assert_eq!(found[0].evidence, "exit code 3; last line: last word");
    assert!(
        found[0].explanation.contains("Container app ended with exit code 3"),
        "{}",
        found[0].explanation
    );
}

#[test]
fn a_crash_loop_shows_the_last_words() {
    let crashed = container(
        "CrashLoopBackOff: Error",
        "back-off 10s restarting failed container=app",
        Some(3),
        "cannot find it\n",
    );
    let found = diagnose_pod(&PodStory {
        phase: "Running".into(),
        containers: vec![crashed],
        ..story()
    });
    let [only] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(
        (only.id, only.evidence.as_str()),
        ("crash-loop", "exit code 3; last line: cannot find it")
    );
}

#[test]
fn what_is_over_is_a_note() {
    let well = PodStory {
        phase: "Running".into(),
        ready: true,
        events: vec![event(true, "FailedCreatePodSandBox", "no space left on device")],
        containers: vec![ContainerStory {
            down: false,
            exit_code: None,
            ..container("", "", None, "Temporary failure in name resolution\nnow connected\n")
        }],
        ..story()
    };
    let found = diagnose_pod(&well);
    assert!(found.iter().all(|f| f.severity == Severity::Note), "{found:#?}");
    assert_eq!(
        ids(&PodStory {
            events: vec![],
            containers: vec![],
            ..well.clone()
        }),
        Vec::<&str>::new()
    );
    assert_eq!(
        ids(&PodStory {
            phase: "Succeeded".into(),
            containers: vec![container("Completed", "", Some(0), "done")],
            ..story()
        }),
        Vec::<&str>::new()
    );
    // An event that is no warning says nothing of causes.
    assert_eq!(
        ids(&PodStory {
            events: vec![event(false, "Note", "no space left on device")],
            ..well
        }),
        ["dns-fails"]
    );
}

#[test]
fn changes_under_a_running_pod_are_notes() {
    let running = PodStory {
        phase: "Running".into(),
        ready: true,
        class_then: Some("runsc, memory=64Mi".into()),
        ..story()
    };
    let rows: Vec<(&str, PodStory)> = vec![
        (
            "handler-removed",
            PodStory {
                binary_now: Now::Gone,
                ..running.clone()
            },
        ),
        (
            "handler-changed",
            PodStory {
                binary_now: Now::There("/opt/runsc".into()),
                ..running.clone()
            },
        ),
        (
            "class-edited",
            PodStory {
                class_now: Now::There("runsc, memory=80Mi".into()),
                ..running.clone()
            },
        ),
        (
            "class-edited",
            PodStory {
                class_now: Now::Gone,
                ..running.clone()
            },
        ),
    ];
    for (id, story) in rows {
        let found = diagnose_pod(&story);
        assert_eq!(found.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>(), [(id, Severity::Note)]);
    }
    let replaced = PodStory {
        binary_now: Now::There("/usr/local/bin/runsc".into()),
        binary_replaced: true,
        ..running.clone()
    };
    let found = diagnose_pod(&replaced);
    assert_eq!(
        found.iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>(),
        [("handler-changed", Severity::Note)]
    );
    assert!(found[0].evidence.contains("/usr/local/bin/runsc was written anew"), "{found:?}");
    let same = PodStory {
        binary_now: Now::There("/usr/local/bin/runsc".into()),
        class_now: Now::There("runsc, memory=64Mi".into()),
        ..running
    };
    assert_eq!(diagnose_pod(&same), []);
}

#[test]
fn refused_calls_are_a_cause_only_of_a_failure() {
    let refused = |ready, code| PodStory {
        ready,
        refused_calls: vec!["io_uring_setup".into(), "bpf".into()],
        containers: vec![container("", "", Some(code), "")],
        ..story()
    };
    for (ready, code, severity) in [
        (false, 1, Severity::StopsPods),
        (true, 0, Severity::Note),
        (false, 0, Severity::Note),
    ] {
        let found = diagnose_pod(&refused(ready, code));
        assert_eq!(
            (found[0].id, found[0].severity),
            ("gvisor-unsupported-call", severity),
            "{ready} {code}"
        );
        assert!(found[0].evidence.ends_with("io_uring_setup, bpf"), "{found:?}");
    }
}

#[test]
fn a_start_is_stuck_only_after_a_while() {
    let waiting = |age| PodStory {
        phase: "Pending".into(),
        age,
        ..story()
    };
    assert_eq!(ids(&waiting(2)), Vec::<&str>::new());
    for age in [0, 10, 1000] {
        assert_eq!(ids(&waiting(age)), ["stuck-container-creating"]);
    }
}

#[test]
fn a_long_log_is_looked_at_from_its_end() {
    let noise = "é line\n".repeat(100_000);
    let early = container("Error", "", Some(1), &format!("Address already in use\n{noise}"));
    assert_eq!(
        ids(&PodStory {
            containers: vec![early],
            ..story()
        }),
        ["container-failed"]
    );
    let late = container(
        "Error",
        "",
        Some(1),
        &format!("{noise}Address already in use\nagain: Address already in use\n"),
    );
    assert_eq!(
        ids(&PodStory {
            containers: vec![late],
            ..story()
        }),
        ["port-taken"]
    );
}

#[test]
fn a_story_is_data() {
    let text = r#"{"name": "web", "phase": "Pending", "binaryNow": {"there": "/bin/runc"}, "classNow": "gone"}"#;
    let story: PodStory = serde_json::from_str(text).unwrap();
    assert_eq!((story.binary_now, story.class_now), (Now::There("/bin/runc".into()), Now::Gone));
}
