use super::*;
use Action::{MakeSandbox, Start, Terminate, Wait};
use RestartPolicy::{Always, Never, OnFailure};

const T: Duration = Duration::from_secs(100);

fn after(seconds: u64) -> Option<Duration> {
    Some(T + Duration::from_secs(seconds))
}

/// `i`, `s`, `r`, `e` are an init container, a sidecar, a regular and an added one; then `new`, `pull`, `hook`,
/// `up` (its startup probe has not succeeded), `run`,
/// `N` (ended with that code at `T`), `retry` (in 5 s), `crashed` (ended at `T` in a back-off of 10 s).
fn container(text: &str) -> ContainerState {
    let (role, life) = text.split_at(1);
    let mut state = ContainerState::new(match role {
        "i" => Role::Init,
        "s" => Role::Sidecar,
        "e" => Role::Ephemeral,
        _ => Role::Regular,
    });
    state.ran = !matches!(life, "new" | "retry" | "pull");
    state.started = life == "run";
    state.life = match life {
        "new" => Life::New,
        "hook" => Life::Hook,
        "run" | "up" => Life::Running,
        "pull" => Life::Pulling,
        "retry" => Life::Retry(T + Duration::from_secs(5)),
        "crashed" => {
            state.backoff.restarted(T, T);
            Life::Exited { code: 1, at: T }
        }
        code => Life::Exited {
            code: code.parse().unwrap_or(-1),
            at: T,
        },
    };
    state
}

fn pod(restart: RestartPolicy, containers: &str) -> PodState {
    let containers = containers.split_whitespace().map(container).collect();
    PodState {
        restart,
        deadline: None,
        sandbox: SandboxLife::Ready,
        containers,
        verdict: None,
    }
}

#[test]
fn containers_in_order() {
    let init_failed = |index, code| Terminate(Verdict::InitFailed { index, code });
    let done = || Terminate(Verdict::Completed);
    let rows: Vec<(&str, RestartPolicy, &str, Action)> = vec![
        (
            "the first init container first",
            Never,
            "inew inew rnew",
            Start(0),
        ),
        (
            "a running one is waited for",
            Never,
            "irun inew rnew",
            Wait(None),
        ),
        ("then the second", Never, "i0 inew rnew", Start(1)),
        ("then the containers", Never, "i0 i0 rnew rnew", Start(2)),
        ("one after the other", Never, "i0 rrun rnew", Start(2)),
        (
            "a failed one fails the pod",
            Never,
            "i3 rnew",
            init_failed(0, 3),
        ),
        ("or is started again", OnFailure, "i3 rnew", Start(0)),
        ("by back-off", Always, "icrashed rnew", Wait(after(10))),
        (
            "a good one is not, whatever the policy",
            Always,
            "i0 rnew",
            Start(1),
        ),
        ("nor after the work began", Always, "i7 rrun", Wait(None)),
        (
            "a sidecar starts in its turn",
            Never,
            "i0 snew inew rnew",
            Start(1),
        ),
        (
            "the next waits for its hook",
            Never,
            "shook inew rnew",
            Wait(None),
        ),
        ("and not for its end", Never, "srun inew rnew", Start(1)),
        ("nor before its startup probe", Never, "sup inew rnew", Wait(None)),
        ("which holds nothing back later", Never, "sup rrun rnew", Start(2)),
        ("an image that is pulled holds an init container back", Never, "ipull inew rnew", Wait(None)),
        ("but not the other containers", Never, "rpull rnew", Start(1)),
        ("an added container comes before all", Never, "inew rnew enew", Start(2)),
        ("and is not started again", Always, "rrun e1", Wait(None)),
        ("nor waited for", Never, "r0 erun", done()),
        ("it holds nothing back", Never, "rnew epull", Start(0)),
        (
            "a sidecar that ended first holds the rest back",
            Never,
            "scrashed inew rnew",
            Wait(after(10)),
        ),
        ("and is started again", Never, "s0 inew rnew", Start(0)),
        (
            "later it holds nothing back",
            Never,
            "scrashed irun rnew",
            Wait(after(10)),
        ),
        (
            "it is started again beside the work",
            Never,
            "s1 rrun",
            Start(0),
        ),
        (
            "in back-off the work goes on",
            Always,
            "scrashed rrun r1",
            Start(2),
        ),
        ("not once the work is over", Never, "s1 r0", done()),
        (
            "a running sidecar does not keep the pod",
            Never,
            "srun r0",
            done(),
        ),
        (
            "a sidecar in its hook does not keep the pod",
            Never,
            "shook r0",
            done(),
        ),
        (
            "hooks hold the next container back",
            Never,
            "rhook rnew",
            Wait(None),
        ),
        ("all ended", Never, "r0 r1", done()),
        ("one still runs", Never, "r0 rrun", Wait(None)),
        (
            "on failure, the failed one again",
            OnFailure,
            "r0 r1",
            Start(1),
        ),
        ("on failure, all good", OnFailure, "r0 r0", done()),
        ("always, the good one too", Always, "r0", Start(0)),
        ("always, by back-off", Always, "rcrashed", Wait(after(10))),
        (
            "one in back-off does not hold others back",
            Always,
            "rcrashed r0",
            Start(1),
        ),
        (
            "a container that could not be made is tried again",
            Never,
            "rretry",
            Wait(after(5)),
        ),
        (
            "an init container too",
            Never,
            "iretry rnew",
            Wait(after(5)),
        ),
    ];
    for (what, restart, containers, expected) in rows {
        assert_eq!(
            next(&pod(restart, containers), T),
            expected,
            "{what}: {containers}"
        );
    }
}

#[test]
fn one_that_the_node_ended_is_started_again() {
    let ended = |before: Option<u64>, text: &str, restart| {
        let mut pod = pod(restart, text);
        pod.containers[0].again = true;
        pod.containers[0].before = before.map(|ago| T - Duration::from_secs(ago));
        next(&pod, T)
    };
    assert_eq!(ended(None, "rcrashed", Always), Start(0), "at once, the first time");
    assert_eq!(ended(Some(10), "rcrashed", Always), Start(0), "its wait began with the end before");
    assert_eq!(ended(Some(9), "rcrashed", Always), Wait(after(10)), "it was not over");
    assert_eq!(ended(None, "r0", OnFailure), Start(0), "whatever its code");
}

#[test]
fn when_the_time_has_come() {
    let later = T + Duration::from_secs(10);
    assert_eq!(next(&pod(Always, "rcrashed"), later), Start(0));
    assert_eq!(next(&pod(Never, "rretry"), later), Start(0));
}

#[test]
fn the_pod_as_a_whole() {
    let none = |from| PodState {
        sandbox: SandboxLife::None(from),
        ..pod(Never, "rnew")
    };
    let deadline = |text: &str, seconds| PodState {
        deadline: after(seconds),
        ..pod(Always, text)
    };
    let stop = PodState {
        verdict: Some(Verdict::Stopped),
        ..none(T)
    };
    let died = PodState {
        sandbox: SandboxLife::Died("gone".into()),
        ..pod(Always, "rrun")
    };
    let rows = [
        ("no sandbox yet", none(T), MakeSandbox),
        (
            "not before its time",
            none(T + Duration::from_secs(1)),
            Wait(after(1)),
        ),
        ("a deadline wakes", deadline("rrun", 7), Wait(after(7))),
        (
            "the earlier of two times",
            deadline("rcrashed", 30),
            Wait(after(10)),
        ),
        (
            "the earlier of two times, again",
            deadline("rcrashed", 7),
            Wait(after(7)),
        ),
        (
            "the deadline is over",
            deadline("rrun", 0),
            Terminate(Verdict::Deadline),
        ),
        ("stopped before it began", stop, Terminate(Verdict::Stopped)),
        (
            "a dead sandbox is not made again",
            died,
            Terminate(Verdict::SandboxDied("gone".into())),
        ),
    ];
    for (what, state, expected) in rows {
        assert_eq!(next(&state, T), expected, "{what}");
    }
}
