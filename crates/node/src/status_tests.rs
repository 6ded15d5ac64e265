use super::*;
use crate::next::SandboxLife;
use RestartPolicy::{Always, Never, OnFailure};
use std::time::Duration;

/// As in the tests of `next`: role, then `new`, `run`, `hook`, `N` (ended with that code),
/// or `again` (ended with 1 and not made again yet).
fn pod(restart: RestartPolicy, text: &str) -> PodState {
    let containers = text.split_whitespace().map(|text| {
        let (role, life) = text.split_at(1);
        let role = match role {
            "i" => Role::Init,
            "s" => Role::Sidecar,
            _ => Role::Regular,
        };
        let exited = |code| {
            (
                Life::Exited {
                    code,
                    at: Duration::ZERO,
                },
                Some(code),
            )
        };
        let (life, last_code) = match life {
            "new" => (Life::New, None),
            "run" => (Life::Running, None),
            "rerun" => (Life::Running, Some(1)),
            "hook" => (Life::Hook, None),
            "again" => (Life::Retry(Duration::ZERO), Some(1)),
            code => exited(code.parse().unwrap_or(-1)),
        };
        ContainerState {
            ran: life != Life::New,
            started: life == Life::Running,
            life,
            last_code,
            ..ContainerState::new(role)
        }
    });
    PodState {
        restart,
        deadline: None,
        sandbox: SandboxLife::Ready,
        containers: containers.collect(),
        verdict: None,
    }
}

#[test]
fn phases_as_upstream() {
    use Phase::{Failed, Pending, Running, Succeeded};
    for (restart, containers, expected) in [
        (Never, "rnew", Pending),
        (Never, "rrun rnew", Pending),
        (Never, "rrun rhook", Running),
        (Never, "rrun r1", Running),
        (Never, "r0 r0", Succeeded),
        (Never, "r0 r1", Failed),
        (OnFailure, "r0 r0", Succeeded),
        (OnFailure, "r0 r1", Running),
        (Always, "r0 r0", Running),
        (Always, "r1", Running),
        (Always, "ragain", Running),
        (Never, "inew rnew", Pending),
        (Never, "irun rnew", Pending),
        (Always, "i1 rnew", Pending),
        (Never, "i1 rnew", Failed),
        (Never, "i0 rnew", Pending),
        (Never, "i0 rrun", Running),
        (Never, "srun rnew", Pending),
        (Never, "srun rrun", Running),
        (Never, "s1 rrun", Running),
        (Never, "srun r0", Running),
        (Never, "s1 r0", Succeeded),
        (Never, "s1 r2", Failed),
    ] {
        assert_eq!(
            phase(&pod(restart, containers)),
            expected,
            "{restart:?} {containers}"
        );
    }
}

#[test]
fn verdicts() {
    let check =
        |containers, given: Verdict| verdict(&pod(Never, containers), &given, |i| format!("c{i}"));
    assert_eq!(
        check("r0", Verdict::Completed),
        (Phase::Succeeded, String::new(), String::new())
    );
    assert_eq!(check("r0 r1", Verdict::Completed).0, Phase::Failed);
    assert_eq!(
        check("i4 rnew", Verdict::InitFailed { index: 0, code: 4 }).2,
        "init container \"c0\" ended with exit code 4"
    );
    assert_eq!(check("r0", Verdict::Stopped).0, Phase::Succeeded);
    assert_eq!(check("r143", Verdict::Stopped).1, REASON_STOPPED);
    assert_eq!(check("rnew", Verdict::Stopped).0, Phase::Failed);
    assert_eq!(
        check("r0", Verdict::Deadline).0,
        Phase::Failed,
        "though it ended with 0 when told to"
    );
    assert_eq!(
        check("rrun", Verdict::SandboxDied("x".into())).2,
        "its sandbox died and is not made again: x"
    );
}

#[test]
fn exit_codes() {
    let view = |phase, reason: &str, codes: &[(&'static str, i32)]| PodView {
        phase,
        reason: reason.into(),
        began: !codes.is_empty(),
        containers: codes
            .iter()
            .map(|(kind, code)| ContainerView {
                name: "c".into(),
                kind,
                image: String::new(),
                id: None,
                state: ContainerPhase::Terminated(Terminated {
                    exit_code: *code,
                    ..Terminated::default()
                }),
                last: None,
                restarts: 0,
                ready: false,
                started: None,
                allocated_resources: ResourceList::new(),
                resources: None,
                stages: Vec::new(),
            })
            .collect(),
        ..PodView::default()
    };
    let good = || view(Phase::Succeeded, "", &[("container", 0)]);
    let left = || PodView {
        left_behind: Some("x".into()),
        ..good()
    };
    let starved = || {
        let mut pod = view(Phase::Failed, REASON_SANDBOX_DIED, &[("container", 137)]);
        let end = Terminated { exit_code: 137, reason: "OOMKilled".into(), ..Terminated::default() };
        pod.containers[0].state = ContainerPhase::Terminated(end);
        pod
    };
    let rows = vec![
        ("no pods", vec![], 0),
        ("a sandbox that died of what a container needed", vec![starved()], 137),
        ("all good", vec![good(), good()], 0),
        (
            "the first failed pod",
            vec![
                good(),
                view(Phase::Failed, "", &[("container", 3)]),
                view(Phase::Failed, "", &[("container", 4)]),
            ],
            3,
        ),
        (
            "its first failed container",
            vec![view(
                Phase::Failed,
                "",
                &[("container", 0), ("container", 5), ("container", 6)],
            )],
            5,
        ),
        (
            "init containers first",
            vec![view(Phase::Failed, "", &[("init", 7), ("container", 8)])],
            7,
        ),
        (
            "a sidecar's end counts for nothing",
            vec![view(Phase::Failed, "", &[("sidecar", 9), ("container", 8)])],
            8,
        ),
        (
            "a pod that never started",
            vec![view(Phase::Failed, REASON_HANDLER, &[])],
            EXIT_NOT_STARTED,
        ),
        (
            "a dead sandbox",
            vec![view(
                Phase::Failed,
                REASON_SANDBOX_DIED,
                &[("container", 137)],
            )],
            EXIT_SANDBOX_DIED,
        ),
        (
            "a deadline that all obeyed",
            vec![view(Phase::Failed, REASON_DEADLINE, &[("container", 0)])],
            EXIT_ENDED,
        ),
        (
            "a deadline that one did not",
            vec![view(Phase::Failed, REASON_DEADLINE, &[("container", 137)])],
            137,
        ),
        (
            "something left behind",
            vec![good(), left()],
            EXIT_LEFT_BEHIND,
        ),
        (
            "a failure before something left behind",
            vec![left(), view(Phase::Failed, "", &[("container", 2)])],
            2,
        ),
    ];
    for (what, pods, expected) in rows {
        assert_eq!(exit_code(&pods), expected, "{what}");
    }
}

#[test]
fn conditions_as_upstream() {
    let container = |text: &str| {
        let (kind, rest) = text.split_at(1);
        let kind = match kind {
            "i" => "init",
            "s" => "sidecar",
            _ => "container",
        };
        ContainerView {
            name: text.to_owned(),
            kind,
            image: String::new(),
            id: None,
            state: ContainerPhase::Running { started_at: 0 },
            last: None,
            restarts: 0,
            ready: rest.starts_with("ready"),
            started: Some(rest.ends_with("started")),
            allocated_resources: ResourceList::new(),
            resources: None,
            stages: Vec::new(),
        }
    };
    let facts = |work_ran| Facts { began: true, sandbox: true, work_ran, changes: false };
    let said = |phase, containers: &str, work_ran| {
        let containers = containers.split_whitespace().map(container).collect();
        let view = PodView { phase, containers, ..PodView::default() };
        let all = conditions(&view, facts(work_ran));
        let said = |kind| {
            let found = all.iter().find(|c| c.kind == kind);
            found.map_or_else(String::new, |c| format!("{} {} {}", c.status, c.reason, c.message).trim().to_owned())
        };
        [said("Initialized"), said("ContainersReady"), said("Ready")]
    };
    let no = |what: &str| format!("False ContainersNotReady containers with unready status: [{what}]");
    let not_yet = |what: &str| format!("False ContainersNotInitialized containers with incomplete status: [{what}]");
    for (phase, containers, work_ran, initialised, ready) in [
        (Phase::Running, "cready", true, "True".to_owned(), "True".to_owned()),
        (Phase::Running, "cready c", true, "True".into(), no("c")),
        (Phase::Running, "s cready", true, "True".into(), no("s")),
        (Phase::Pending, "i s c", false, not_yet("i s"), no("s c")),
        (Phase::Pending, "iready s-started c", false, "True".into(), no("s-started c")),
        (Phase::Pending, "iready sready-started c", false, "True".into(), no("c")),
        (Phase::Running, "i cready", true, "True".into(), "True".into()),
        (Phase::Succeeded, "i c", true, "True PodCompleted".into(), "False PodCompleted".into()),
        (Phase::Failed, "i cready", false, not_yet("i"), "False PodFailed".into()),
    ] {
        let expected = [initialised, ready.clone(), ready];
        assert_eq!(said(phase, containers, work_ran), expected, "{phase:?} {containers}");
    }
    assert!(conditions(&PodView::default(), Facts { began: false, ..facts(false) }).is_empty(), "it waits for its turn");
}
