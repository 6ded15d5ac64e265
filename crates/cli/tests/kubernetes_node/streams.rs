//! What a person does with a running pod: logs, exec, attach, port-forward, cp, debug.

use crate::cluster::{CLASSES, Cluster, IMAGE, Running, WAITS, http, pod};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::ChildStdout;

#[test]
#[ignore = "needs a node"]
fn logs_of_every_class() {
    let cluster = Cluster::new();
    cluster.one_each(
        "echo to stdout; echo to stderr >&2; trap 'exit 0' TERM; while :; do sleep 1; done",
        "",
    );
    for class in CLASSES {
        let logs = cluster.logs(class);
        for line in ["to stdout", "to stderr"] {
            assert!(logs.lines().any(|l| l == line), "{class}: {logs}");
        }
    }
}

#[test]
#[ignore = "needs a node"]
fn logs_are_followed_to_the_end() {
    let cluster = Cluster::new();
    let yaml: String = CLASSES
        .map(|c| pod(c, c, "for n in $(seq 1 50); do echo line $n; sleep 0.1; done", ""))
        .concat();
    cluster.apply(&yaml.replace("spec: {", "spec: {restartPolicy: Never, "));
    for class in CLASSES {
        cluster.until("it started", || {
            cluster.get(&format!("pod/{class}"))["status"]["phase"] != "Pending"
        });
        let lines = cluster.kubectl(&["logs", "--follow", class]).good();
        assert_eq!(
            lines,
            (1..=50).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n"),
            "{class}"
        );
    }
}

#[test]
#[ignore = "needs a node"]
fn logs_of_a_container_before_and_logs_that_were_rotated() {
    let cluster = Cluster::new();
    // The kubelet of the tests rotates at 1 MiB.
    cluster.apply(&pod(
        "p",
        "crun",
        "n=0; while [ $n -lt 30000 ]; do n=$((n+1)); echo line $n of a log that is long enough to be rotated; done; exec sleep 3600",
        "",
    ));
    cluster.until("the log was rotated", || {
        let uid = cluster.get("pod/p")["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let folder = format!(
            "{}/pod-logs/{}_p_{uid}/c",
            std::env::var("KUBERNETES_FOLDER").unwrap(),
            cluster.namespace
        );
        std::fs::read_dir(folder).is_ok_and(|files| files.flatten().count() > 1)
    });
    let read = |cluster: &Cluster| cluster.kubectl(&["logs", "p", "--tail", "1"]).out;
    cluster.exec("p", "echo after rotation >/proc/1/fd/1").good();
    cluster.until("lines after the rotation are read", || read(&cluster).trim() == "after rotation");
    cluster.apply(&pod("q", "crun", "echo $(date +%s%N); sleep 1; exit 1", ""));
    cluster.until("it was started again", || {
        cluster.get("pod/q")["status"]["containerStatuses"][0]["restartCount"].as_u64() > Some(0)
    });
    cluster.until("both logs are there", || {
        let (now, before) = (
            cluster.kubectl(&["logs", "q"]).out,
            cluster.kubectl(&["logs", "q", "--previous"]).out,
        );
        !now.is_empty() && !before.is_empty() && now != before
    });
}

#[test]
#[ignore = "needs a node"]
fn exec_gives_output_input_and_the_exit_code() {
    let cluster = Cluster::new();
    cluster.one_each(WAITS, "");
    for class in CLASSES {
        let answer = cluster.exec(class, "echo out; echo err >&2; exit 7");
        assert_eq!((answer.code, answer.out.as_str()), (7, "out\n"), "{class}: {}", answer.err);
        assert!(answer.err.starts_with("err\n"), "{class}: {}", answer.err);
        // The other side sees the end of the input.
        let answer = cluster.feed(&["exec", "-i", class, "--", "sh", "-c", "wc -c; echo end"], &"x".repeat(300_000));
        assert_eq!(answer.good().split_whitespace().collect::<Vec<_>>(), ["300000", "end"], "{class}");
        // As many bytes the other way.
        assert_eq!(
            cluster.exec(class, "head -c 1000000 /dev/zero | tr '\\0' y").good().len(),
            1_000_000,
            "{class}"
        );
        let answer = cluster.kubectl(&["exec", class, "--", "no-such-program"]);
        assert_ne!(answer.code, 0, "{class}");
    }
}

#[test]
#[ignore = "needs a node"]
fn exec_on_a_terminal_has_its_size() {
    let cluster = Cluster::new();
    cluster.one_each(WAITS, "");
    for class in CLASSES {
        let answer = cluster.terminal(
            &format!("exec -it {class} -- sh"),
            "test -t 0 && test -t 1 && stty size; echo sum $((40 + 2))\nexit 5",
        );
        assert!(answer.out.contains("33 77") && answer.out.contains("sum 42"), "{class}: {answer:?}");
        assert_eq!(answer.code, 5, "{class}: {answer:?}");
    }
}

#[test]
#[ignore = "needs a node"]
fn attach_takes_part_in_input_and_output() {
    let cluster = Cluster::new();
    let yaml: String = CLASSES
        .map(|c| {
            pod(
                c,
                c,
                "while read line; do echo heard $line; done; echo over",
                "stdin: true, stdinOnce: true",
            )
        })
        .concat();
    cluster.apply(&yaml.replace("spec: {", "spec: {restartPolicy: Never, "));
    cluster.ready(&CLASSES);
    for class in CLASSES {
        let answer = cluster.feed(&["attach", "-i", class], "one\ntwo\n");
        assert!(
            answer.out.contains("heard one") && answer.out.contains("heard two"),
            "{class}: {answer:?}"
        );
        cluster.phase(class, "Succeeded");
        assert!(cluster.logs(class).ends_with("over"), "{class}");
    }
}

/// A port-forward that runs, what it says (it ends where nobody reads that), and its local address.
fn forward(cluster: &Cluster, pod: &str, port: u16) -> (Running, BufReader<ChildStdout>, String) {
    let mut running = cluster.spawn(&["port-forward", pod, &format!(":{port}")]);
    let (mut says, mut line) = (BufReader::new(running.0.stdout.take().unwrap()), String::new());
    says.read_line(&mut line).unwrap();
    let address = line
        .split_whitespace()
        .find(|w| w.starts_with("127.0.0.1:"))
        .unwrap_or_else(|| panic!("{pod}: {line:?}"))
        .to_owned();
    (running, says, address)
}

#[test]
#[ignore = "needs a node"]
fn port_forward_leads_into_every_class() {
    let cluster = Cluster::new();
    cluster.one_each("mkdir -p /www; head -c 2000000 /dev/zero | tr '\\0' z >/www/big; echo page of $HOSTNAME >/www/index.html; exec httpd -f -p 8080 -h /www", "");
    for class in CLASSES {
        cluster.until("it listens", || cluster.exec(class, "wget -qO- 127.0.0.1:8080").code == 0);
        let (_running, _says, address) = forward(&cluster, class, 8080);
        for _ in 0..3 {
            assert_eq!(
                http(&address, "/").as_deref(),
                Some(format!("page of {class}\n").as_str()),
                "{class}"
            );
        }
        assert_eq!(http(&address, "/big").map(|b| b.len()), Some(2_000_000), "{class}");
    }
}

/// A server in the pod that only listens on its loopback is reached, too.
#[test]
#[ignore = "needs a node"]
fn port_forward_reaches_the_pods_loopback() {
    let cluster = Cluster::new();
    cluster.one_each("echo private >/index.html; exec httpd -f -p 127.0.0.1:8080 -h /", "");
    for class in CLASSES {
        cluster.until("it listens", || cluster.exec(class, "wget -qO- 127.0.0.1:8080").code == 0);
        let (_running, _says, address) = forward(&cluster, class, 8080);
        assert_eq!(http(&address, "/").as_deref(), Some("private\n"), "{class}");
    }
}

#[test]
#[ignore = "needs a node"]
fn files_are_copied_both_ways() {
    let cluster = Cluster::new();
    cluster.one_each(WAITS, "");
    let folder = tempfile::tempdir().unwrap();
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    let data: Vec<u8> = (0..500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(&there, &data).unwrap();
    for class in CLASSES {
        cluster
            .kubectl(&["cp", there.to_str().unwrap(), &format!("{class}:/tmp/file")])
            .good();
        cluster
            .kubectl(&["cp", &format!("{class}:/tmp/file"), back.to_str().unwrap()])
            .good();
        assert!(std::fs::read(&back).unwrap() == data, "{class}");
    }
}

#[test]
#[ignore = "needs a node"]
fn debug_adds_a_container_that_sees_the_others_processes() {
    let cluster = Cluster::new();
    for class in ["crun", "runc"] {
        cluster.apply(&pod(class, class, &format!(": marked; {WAITS}"), ""));
        cluster.ready(&[class]);
        let line = "tr '\\0' ' ' </proc/1/cmdline; echo; sleep 3600";
        cluster
            .kubectl(&[
                "debug",
                class,
                "--image",
                IMAGE,
                "--container",
                "lens",
                "--target",
                "c",
                "--",
                "sh",
                "-c",
                line,
            ])
            .good();
        cluster.until("the container that was added sees the other's first process", || {
            cluster.kubectl(&["logs", class, "--container", "lens"]).out.contains(": marked")
        });
        assert_eq!(
            cluster.get(&format!("pod/{class}"))["status"]["containerStatuses"][0]["restartCount"],
            0
        );
    }
}

/// In a sandbox a container is added as well; that it sees the others' processes is not asked of it.
#[test]
#[ignore = "needs a node"]
fn debug_adds_a_container_to_a_sandbox() {
    let cluster = Cluster::new();
    cluster.apply(&pod("p", "gvisor", WAITS, ""));
    cluster.ready(&["p"]);
    cluster
        .kubectl(&[
            "debug",
            "p",
            "--image",
            IMAGE,
            "--container",
            "lens",
            "--",
            "sh",
            "-c",
            "uname -r; sleep 3600",
        ])
        .good();
    let kernel = cluster.exec("p", "uname -r").good();
    cluster.until("it runs in the same sandbox", || {
        cluster.kubectl(&["logs", "p", "--container", "lens"]).out.trim() == kernel
    });
}

/// Input that is typed later, over one connection that stays open.
#[test]
#[ignore = "needs a node"]
fn an_exec_stays_open_between_words() {
    let cluster = Cluster::new();
    cluster.one_each(WAITS, "");
    for class in CLASSES {
        let mut running = cluster.spawn(&["exec", "-i", class, "--", "sh", "-c", "while read w; do echo got $w; done"]);
        let mut out = BufReader::new(running.0.stdout.take().unwrap());
        let mut input = running.0.stdin.take().unwrap();
        for word in ["one", "two"] {
            writeln!(input, "{word}").unwrap();
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert_eq!(line, format!("got {word}\n"), "{class}");
        }
        drop(input);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), running.0.wait().unwrap().code()), ("", Some(0)), "{class}");
    }
}
