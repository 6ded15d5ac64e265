#![allow(clippy::unwrap_used)]
use super::*;

/// A pod of one container that ended with 0 and wrote `hello`.
fn trial(handler: &str) -> Trial {
    let output = Output {
        stdout: Stream::of(b"hello\n"),
        ..Output::default()
    };
    let app = Ran {
        name: "app".into(),
        kind: "container",
        exit_code: Some(0),
        reason: "Completed".into(),
        output,
    };
    Trial {
        handler: handler.into(),
        started: true,
        containers: vec![app],
        start_micros: Some(40_000),
        run_micros: Some(5_000),
        memory_peak: Some(3 << 20),
        ..Trial::default()
    }
}

fn changed(handler: &str, change: impl Fn(&mut Trial)) -> Trial {
    let mut trial = trial(handler);
    change(&mut trial);
    trial
}

fn writes(trial: &mut Trial, text: &str) {
    trial.containers[0].output.stdout = Stream::of(text.as_bytes());
}

fn code(trial: &mut Trial, code: i32) {
    trial.containers[0].exit_code = Some(code);
}

fn refused(trial: &mut Trial) {
    trial.refused_calls = vec!["io_uring_setup".into(), "rseq".into()];
}

fn never_starts(trial: &mut Trial) {
    *trial = Trial {
        handler: trial.handler.clone(),
        reason: "HandlerUnavailable".into(),
        message: "hostNetwork is refused.".into(),
        ..Trial::default()
    };
}

fn serves(trial: &mut Trial) {
    trial.stopped = true;
    code(trial, TERMINATED);
    trial.until = Some(Reached {
        micros: Some(1),
        why: String::new(),
    });
    let output = Output {
        stdout: Stream::of(b"done\n"),
        ..Output::default()
    };
    trial.exec = Some(Load {
        exit_code: Some(0),
        output,
        ..Load::default()
    });
}

type Change = fn(&mut Trial);

#[test]
fn one_sentence_says_whether_the_pod_runs_the_same_and_what_it_costs() {
    let as_is: Change = |_| {};
    let rows: [(Change, Change, bool, &str); 23] = [
        (as_is, as_is, true, "runs the same: exit code 0 and the same output"),
        (
            as_is,
            |t| (t.start_micros, t.memory_peak) = (Some(200_000), Some(24 << 20)),
            true,
            "runs the same: exit code 0 and the same output; starts 160 ms later, costs 21 MiB more",
        ),
        (
            as_is,
            |t| (t.start_micros, t.memory_peak) = (Some(31_500), Some(1 << 20)),
            true,
            "runs the same: exit code 0 and the same output; starts 8.5 ms sooner, costs 2.0 MiB less",
        ),
        (
            as_is,
            |t| t.run_micros = Some(2_405_000),
            true,
            "runs the same: exit code 0 and the same output; runs for 2.40 s in place of 5.0 ms",
        ),
        (
            as_is,
            |t| t.memory_peak = None,
            true,
            "runs the same: exit code 0 and the same output",
        ),
        (
            |t| writes(t, ""),
            |t| writes(t, ""),
            true,
            "runs the same: exit code 0 and no output",
        ),
        (
            |t| code(t, 3),
            |t| code(t, 3),
            true,
            "runs the same: exit code 3 and the same output",
        ),
        (
            as_is,
            refused,
            true,
            "runs the same: exit code 0 and the same output; asked for io_uring_setup and rseq, which gVisor does not have, and it did no harm",
        ),
        (
            as_is,
            |t| {
                code(t, 1);
                refused(t)
            },
            false,
            "does not run the same: exit code 1 in place of 0; asked for io_uring_setup, which gVisor does not have",
        ),
        (
            as_is,
            |t| {
                code(t, 137);
                t.containers[0].reason = "OOMKilled".into()
            },
            false,
            "does not run the same: exit code 137 (OOMKilled) in place of 0",
        ),
        (
            as_is,
            |t| {
                code(t, 1);
                writes(t, "no\n")
            },
            false,
            "does not run the same: exit code 1 in place of 0; what it writes differs in 1 line",
        ),
        (
            as_is,
            |t| {
                writes(t, "a\nb\n");
                t.start_micros = Some(50_000)
            },
            false,
            "runs, but what it writes differs in 2 lines; starts 10 ms later",
        ),
        (as_is, never_starts, false, "does not run: hostNetwork is refused"),
        (
            never_starts,
            never_starts,
            true,
            "does not run, as under runc: hostNetwork is refused",
        ),
        (never_starts, as_is, false, "runs, and under runc it does not: exit code 0"),
        (
            as_is,
            |t| (t.reason, t.message) = ("SandboxDied".into(), "its sandbox died".into()),
            false,
            "does not run the same: its sandbox died",
        ),
        (
            serves,
            serves,
            true,
            "runs the same: becomes ready, the command ends with exit code 0 and the same output",
        ),
        // Which of our two signals ended a server is not its behaviour; a code of its own is.
        (
            serves,
            |t| {
                serves(t);
                code(t, KILLED)
            },
            true,
            "runs the same: becomes ready, the command ends with exit code 0 and the same output",
        ),
        (
            serves,
            |t| {
                serves(t);
                code(t, 0)
            },
            false,
            "does not run the same: exit code 0 in place of 143",
        ),
        (
            serves,
            |t| {
                serves(t);
                t.until = Some(Reached {
                    micros: None,
                    why: "it answered 503".into(),
                });
                t.exec = None
            },
            false,
            "does not run the same: never becomes ready (it answered 503)",
        ),
        (
            serves,
            |t| {
                serves(t);
                t.exec = Some(Load {
                    exit_code: Some(2),
                    ..Load::default()
                })
            },
            false,
            "does not run the same: the command ends with exit code 2 in place of 0; what it writes differs in 1 line",
        ),
        (
            as_is,
            |t| (t.stopped, t.limit_reached, t.containers[0].exit_code) = (true, true, Some(KILLED)),
            false,
            "does not run the same: exit code 137 in place of 0; does not end in time",
        ),
        (
            |t| (t.stopped, t.limit_reached) = (true, true),
            |t| (t.stopped, t.limit_reached) = (true, true),
            true,
            "runs the same: runs until it is ended and the same output",
        ),
    ];
    for (reference, here, same, want) in rows {
        let judged = judge(&changed("runc", reference), &changed("runsc", here));
        assert_eq!(judged.verdict, format!("runsc: {want}"));
        assert_eq!(judged.same, same, "{want}");
    }
}

#[test]
fn the_reference_is_judged_by_itself() {
    let of = |change: Change| judge(&changed("runc", change), &changed("runc", change));
    assert_eq!(
        of(|_| {}).verdict,
        "runc: the reference: exit code 0; starts in 40 ms; uses 3.0 MiB at most"
    );
    assert_eq!(
        of(never_starts).verdict,
        "runc: the reference: does not run: hostNetwork is refused"
    );
    assert!(of(|t| code(t, 1)).same);
}

#[test]
fn containers_are_told_apart_where_there_are_several() {
    let two = |trial: &mut Trial| {
        let mut other = trial.containers[0].clone();
        other.name = "other".into();
        trial.containers.push(other);
    };
    let reference = changed("runc", two);
    assert!(
        judge(&reference, &changed("crun", two))
            .verdict
            .contains("exit code 0 and the same output")
    );
    let here = changed("crun", |t| {
        two(t);
        t.containers[1].exit_code = Some(4);
        t.containers[0].output.stderr = Stream::of(b"oh\n");
    });
    let judged = judge(&reference, &here);
    assert_eq!(
        judged.verdict,
        "crun: does not run the same: container other: exit code 4 in place of 0; what it writes differs in 1 line"
    );
    assert_eq!(
        (judged.differences[0].container.as_str(), judged.differences[0].stream),
        ("app", "stderr")
    );
    assert_eq!(exit_codes(&here.containers), "exit codes 0 (app) and 4 (other)");
}

#[test]
fn a_sidecar_that_we_ended_does_not_count() {
    let sidecar = |trial: &mut Trial, code: i32| {
        let output = Output::default();
        trial.containers.push(Ran {
            name: "s".into(),
            kind: "sidecar",
            exit_code: Some(code),
            reason: "Error".into(),
            output,
        });
    };
    let reference = changed("runc", |t| sidecar(t, TERMINATED));
    assert!(judge(&reference, &changed("crun", |t| sidecar(t, KILLED))).same);
    assert!(!judge(&reference, &changed("crun", |t| sidecar(t, 1))).same);
}

#[test]
fn outputs_that_were_cut_off_are_compared_as_far_as_both_go() {
    let stream = |text: &str, truncated| Stream {
        text: text.into(),
        truncated,
    };
    assert_eq!(lines(&stream("a\nb\nc", true), &stream("a\nb\nx", true)), []);
    assert_eq!(lines(&stream("a\nb\nc\nd", true), &stream("a\nb\nx", true)), []);
    assert_eq!(lines(&stream("a\nx\nc", true), &stream("a\nb\nc", true)).len(), 1);
    // More than is kept is more than all of the other.
    assert_eq!(lines(&stream("a\nb\nc", true), &stream("a\n", false)).len(), 1);
}

#[test]
fn the_overhead_of_a_kernel_of_its_own_is_what_goes_beyond_the_containers_need() {
    let took = |all: u64, enclosure: u64, apart: bool| Trial {
        memory_peak: Some(all),
        enclosure_peak: Some(enclosure),
        apart,
        ..Trial::default()
    };
    let mut trials = [took(54, 1, true), took(52, 2, true), took(73, 72, false), Trial::default()];
    overheads(&mut trials);
    assert_eq!(trials.each_ref().map(|t| t.overhead), [Some(1), Some(2), Some(23), None]);
    let mut alone = [took(73, 72, false)];
    overheads(&mut alone);
    assert_eq!(alone[0].overhead, None, "it cannot be told apart");
}
