//! The real monitor: processes, exits, namespaces and its manners. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_monitor::client::{Client, Error, start_monitor};
use cofferdam_monitor::protocol::{Keep, MAX_CONNECTIONS, MAX_FRAME, MountOp, Response, Spawn, Start, Stdio, UserNamespace};
use common::{PATIENCE, Pod, binary, sh, until};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn exits_are_kept_and_written() {
    let mut pod = Pod::new();
    let rows =
        [("zero", "exit 0", 0), ("seven", "exit 7", 7), ("killed", "kill -KILL $$", 137), ("term", "kill $$", 143)];
    for (key, script, code) in rows {
        let (command, pid) = pod.spawn(&sh(key, script));
        assert_eq!(command, None, "{key}");
        assert!(pid.is_some(), "{key}");
        let exit = pod.wait(key);
        assert_eq!((exit.key.as_str(), exit.code, exit.timed_out), (key, code, false));
        assert_eq!(pod.client.wait(key).unwrap(), exit, "an ended process is answered for at once");
        let written = std::fs::read_to_string(pod.path("exits").join(key)).unwrap();
        assert_eq!(written, format!("{code} {} 0\n", exit.at));
    }
    assert_eq!(pod.client.list().unwrap().len(), rows.len());
    pod.client.forget("seven").unwrap();
    assert!(!pod.path("exits/seven").exists());
    assert!(matches!(pod.client.wait("seven"), Err(Error::Refused(why)) if why.contains("seven")));
    assert!(matches!(pod.client.forget("seven"), Err(Error::Refused(_))));
    let past: Vec<_> = pod.connect().events().unwrap().take(3).map(|e| e.unwrap().key).collect();
    assert_eq!(past, ["zero", "term", "killed"]);
}

#[test]
fn argv_environment_and_directory_are_exact() {
    let mut pod = Pod::new();
    let mut spawn = sh("a", "");
    spawn.argv = ["/bin/sh", "-c", "pwd; echo \"$1|$2|$#\"", "sh", "a b", ""].map(str::to_owned).to_vec();
    spawn.cwd = "/usr".into();
    spawn.stdio = Stdio::Capture { max: 1000 };
    pod.spawn(&spawn);
    assert_eq!(String::from_utf8(pod.wait("a").stdout).unwrap(), "/usr\na b||2\n");
    let mut spawn = sh("env", "");
    spawn.argv = vec!["/usr/bin/env".into()];
    spawn.env = vec![("FOO".into(), "x=y z".into()), ("EMPTY".into(), String::new())];
    spawn.stdio = Stdio::Capture { max: 1000 };
    pod.spawn(&spawn);
    assert_eq!(String::from_utf8(pod.wait("env").stdout).unwrap(), "FOO=x=y z\nEMPTY=\n");
    // Nothing of the monitor's own leaks into a child.
    let mut spawn = sh("b", "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat");
    spawn.stdio = Stdio::Capture { max: 1000 };
    let (_, pid) = pod.spawn(&spawn);
    let out = String::from_utf8(pod.wait("b").stdout).unwrap();
    let expected = format!("0\n1\n2\n3\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n{}\n", pid.unwrap());
    assert_eq!(out, expected, "descriptors (3 is ls's own), signals, session");
}

#[test]
fn what_cannot_be_spawned_is_refused_with_a_sentence() {
    let mut pod = Pod::new();
    let spawn = |change: &dyn Fn(&mut Spawn)| {
        let mut spawn = sh("a", "exit 0");
        change(&mut spawn);
        spawn
    };
    let mount = MountOp::Mount {
        source: "none".into(),
        target: "/no/such/target".into(),
        fstype: "tmpfs".into(),
        flags: 0,
        data: String::new(),
    };
    let socket = pod.path("m.sock");
    let rows = [
        (spawn(&|s| s.argv[0] = "/no/such/binary".into()), "/no/such/binary cannot be executed: No such file"),
        (spawn(&|s| s.argv[0] = "sh".into()), "absolute path"),
        (spawn(&|s| s.argv.clear()), "absolute path"),
        (spawn(&|s| s.argv.push("a\0b".into())), "NUL"),
        (spawn(&|s| s.cwd = "/no/such/dir".into()), "/no/such/dir cannot be entered: No such file"),
        (spawn(&|s| s.cgroup_files = vec!["/no/such/tasks".into()]), "/no/such/tasks cannot be joined: No such file"),
        (spawn(&|s| s.mounts = vec![mount.clone()]), "/no/such/target cannot be mounted: No such file"),
        (spawn(&|s| s.key = "a/b".into()), "is no key"),
        (spawn(&|s| s.key = "..".into()), "is no key"),
        (spawn(&|s| s.stdio = pipes(Some("/dev/full".as_ref()))), "not a plain file"),
        (spawn(&|s| s.stdio = pipes(Some("/no/such/log".as_ref()))), "/no/such/log cannot be opened as a log: No such"),
        (spawn(&|s| s.stderr_file = Some("/no/such/err".into())), "/no/such/err cannot be opened for standard error"),
        (
            spawn(&|s| s.stdio = Stdio::Terminal { log: None, console_socket: socket.clone(), size: (0, 0) }),
            "cannot be made a console socket: Address already in use",
        ),
        (spawn(&|s| s.keep = Keep::PidFile("/no/such/pid".into())), "/no/such/pid cannot be read: No such file"),
        (
            spawn(&|s| s.keep = Keep::Await { socket: "@no-such-server".into(), payload: vec![] }),
            "@no-such-server cannot be connected to: Connection refused",
        ),
    ];
    let before = pod.descriptors();
    for (spawn, expected) in &rows {
        let why = pod.refused(spawn);
        assert!(why.contains(expected), "{why:?} does not say {expected:?}");
    }
    assert_eq!(pod.descriptors(), before);
    assert_eq!(pod.client.list().unwrap(), []);
    pod.spawn(&sh("a", "sleep 100"));
    assert!(pod.refused(&sh("a", "exit 0")).contains("a is taken"));
    assert!(matches!(pod.client.forget("a"), Err(Error::Refused(why)) if why == "a has not ended."));
}

fn pipes(log: Option<&Path>) -> Stdio {
    Stdio::Pipes { log: log.map(Path::to_owned), stdin: false, stdin_once: false }
}

#[test]
fn a_failed_command_tells_its_code_and_standard_error() {
    let mut pod = Pod::new();
    let mut spawn =
        sh("a", "i=0; while [ $i -lt 600 ]; do echo 'line of ten' >&2; i=$((i+1)); done; echo end >&2; exit 3");
    spawn.stderr_file = Some(pod.path("err"));
    spawn.keep = Keep::PidFile(pod.path("pid"));
    let Response::Spawned { code, pid, stderr, timed_out } = pod.client.spawn(&spawn).unwrap() else {
        panic!();
    };
    assert_eq!((code, pid, timed_out), (Some(3), None, false));
    assert_eq!(stderr.len(), 4096);
    assert!(stderr.ends_with("line of ten\nend\n"));
    assert_eq!(pod.client.list().unwrap(), [], "nothing is kept of what failed");
}

#[test]
fn timeouts_kill_the_whole_group() {
    let mut pod = Pod::new();
    let mut spawn = sh("process", "sleep 1000 & echo $! > \"$OUT\"; wait");
    let out = pod.path("grandchild");
    spawn.env.push(("OUT".into(), out.to_string_lossy().into_owned()));
    spawn.timeout_ms = 300;
    pod.spawn(&spawn);
    let exit = pod.wait("process");
    assert_eq!((exit.code, exit.timed_out), (137, true));
    assert!(std::fs::read_to_string(pod.path("exits/process")).unwrap().ends_with(" 1\n"));
    let grandchild: i32 = std::fs::read_to_string(&out).unwrap().trim().parse().unwrap();
    until("the grandchild is killed too", || !alive(grandchild));

    let mut spawn = sh("command", "sleep 1000 & wait");
    spawn.timeout_ms = 100;
    spawn.keep = Keep::PidFile(pod.path("pid"));
    let Response::Spawned { code, timed_out, .. } = pod.client.spawn(&spawn).unwrap() else {
        panic!();
    };
    assert_eq!((code, timed_out), (Some(137), true));
}

/// A script that leaves a process behind and writes its id: it is the monitor's from then on.
const LEAVE: &str = "{ exec sh -c \"$BODY\"; } & echo $! > \"$PIDFILE\"";

fn leaving(pod: &Pod, key: &str, body: &str) -> Spawn {
    let mut spawn = sh(key, LEAVE);
    spawn.env.push(("BODY".into(), body.into()));
    spawn.env.push(("PIDFILE".into(), pod.path("pid").to_string_lossy().into_owned()));
    spawn.keep = Keep::PidFile(pod.path("pid"));
    spawn
}

#[test]
fn a_process_that_is_left_behind_is_adopted() {
    let mut pod = Pod::new();
    let (code, pid) = pod.spawn(&leaving(&pod, "a", "while :; do sleep 1; done"));
    assert_eq!(code, Some(0));
    let written: i32 = std::fs::read_to_string(pod.path("pid")).unwrap().trim().parse().unwrap();
    assert_eq!(pid, Some(written));
    let parent = std::fs::read_to_string(format!("/proc/{written}/stat")).unwrap();
    assert_eq!(parent.split(' ').nth(3).unwrap(), pod.child.id().to_string());
    assert_eq!(pod.client.list().unwrap()[0].pid, pid);
    assert!(pod.client.wait_timeout("a", Duration::from_millis(50)).unwrap().is_none());
    pod.client.signal("a", 12).unwrap();
    assert_eq!(pod.wait("a").code, 128 + 12);
    assert!(matches!(pod.client.signal("a", 15), Err(Error::Refused(why)) if why == "a has ended."));
}

#[test]
fn an_exit_before_the_adoption_is_not_lost() {
    let mut pod = Pod::new();
    for round in 0..200 {
        let key = format!("r{round}");
        // The process ends as soon as its parent, an inner shell, was reaped by the command; and every
        // other time the command waits until the process is gone: then the monitor reaped it before
        // it could know its id.
        let tail = if round % 2 == 0 { "true" } else { "while [ -e /proc/$(cat \"$PIDFILE\") ]; do :; done" };
        let body = format!("while kill -0 $INNER; do :; done 2>/dev/null; exit {}", round % 100);
        let mut spawn = leaving(&pod, &key, &body);
        spawn.argv[2] = format!("sh -c 'export INNER=$$; {LEAVE}'; {tail}");
        let (code, pid) = pod.spawn(&spawn);
        assert_eq!(code, Some(0), "{round}");
        assert!(pid.is_some(), "{round}");
        assert_eq!(pod.wait(&key).code, round % 100, "{round}");
        pod.client.forget(&key).unwrap();
    }
}

#[test]
fn commands_side_by_side_do_not_lose_each_others_exits() {
    let mut pod = Pod::new();
    // The slow command's process is gone for long when the quick one is done.
    let body = "while kill -0 $INNER; do :; done 2>/dev/null; exit 3";
    let mut slow = leaving(&pod, "slow", body);
    let wait = "while [ -e /proc/$(cat \"$PIDFILE\") ]; do :; done; touch \"$PIDFILE.gone\"; while [ ! -e \"$PIDFILE.go\" ]; do sleep 0.01; done";
    slow.argv[2] = format!("sh -c 'export INNER=$$; {LEAVE}'; {wait}");
    let mut other = pod.connect();
    let spawning = std::thread::spawn(move || other.spawn(&slow).unwrap());
    until("the process of the slow command is gone", || pod.path("pid.gone").exists());
    let mut quick = sh("quick", "sleep 0.5 & echo $! > \"$PIDFILE\"");
    quick.env.push(("PIDFILE".into(), pod.path("other").to_string_lossy().into_owned()));
    quick.keep = Keep::PidFile(pod.path("other"));
    pod.spawn(&quick);
    std::fs::write(pod.path("pid.go"), "").unwrap();
    assert!(matches!(spawning.join().unwrap(), Response::Spawned { code: Some(0), pid: Some(_), .. }));
    assert_eq!((pod.wait("slow").code, pod.wait("quick").code), (3, 0));
}

#[test]
fn a_process_of_somebody_else_is_not_adopted() {
    let mut pod = Pod::new();
    let mut spawn = sh("a", "echo $PPID > \"$PIDFILE\"");
    spawn.env.push(("PIDFILE".into(), pod.path("pid").to_string_lossy().into_owned()));
    spawn.keep = Keep::PidFile(pod.path("pid"));
    assert!(pod.refused(&spawn).contains("was not left to the monitor"));
    for text in ["", "0", "1", "-4", "x", "99999999999999"] {
        spawn.argv[2] = format!("echo '{text}' > \"$PIDFILE\"");
        assert!(pod.refused(&spawn).contains("holds no process id"), "{text}");
    }
    assert_eq!(pod.client.list().unwrap(), []);
}

#[test]
fn events_come_from_processes_to_whoever_listens() {
    let mut pod = Pod::new();
    let mut events = pod.connect().events().unwrap();
    let mut spawn = sh("captured", "echo out");
    spawn.stdio = Stdio::Capture { max: 10 };
    pod.spawn(&spawn);
    let event = events.next().unwrap().unwrap();
    assert_eq!((event.key.as_str(), event.code, event.stdout.as_slice()), ("captured", 0, &b""[..]));
    assert_eq!(pod.wait("captured").stdout, b"out\n");
    let closer = events.closer().unwrap();
    closer.close();
    assert!(matches!(events.next(), Some(Err(Error::Gone { .. }))));
    assert!(events.next().is_none());
}

#[test]
fn an_exit_that_a_server_knows() {
    let mut pod = Pod::new();
    let path = pod.path("server");
    let server = UnixListener::bind(&path).unwrap();
    let name = path.to_string_lossy().into_owned();
    // What the server answers in pieces, whether it then closes, and what is kept.
    let rows: &[(&str, &[&str], bool, &str)] = &[
        ("whole", &["{\"exit\":", "\"}\"}", " ignored"], false, "{\"exit\":\"}\"}"),
        ("scalar", &["3", "7"], true, "37"),
        ("broken", &["{\"exit\":"], true, ""),
        ("silent", &[], true, ""),
    ];
    for (key, pieces, closes, reply) in rows {
        pod.client.await_reply(key, &name, b"question").unwrap();
        let (mut peer, _) = server.accept().unwrap();
        let mut question = [0; 8];
        peer.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"question");
        assert!(pod.client.wait_timeout(key, Duration::from_millis(30)).unwrap().is_none(), "{key}");
        for piece in *pieces {
            // The monitor hangs up when it has what it wants.
            let _ = peer.write_all(piece.as_bytes());
            std::thread::sleep(Duration::from_millis(10));
        }
        let keep = (!closes).then_some(peer);
        let exit = pod.wait(key);
        assert_eq!((exit.code, String::from_utf8(exit.reply).unwrap().as_str()), (-1, *reply), "{key}");
        drop(keep);
    }
    let written = std::fs::read_to_string(pod.path("exits/whole")).unwrap();
    assert!(written.starts_with("-1 ") && written.ends_with(" 0\n{\"exit\":\"}\"}"), "{written}");
    // A reply without end is given up.
    pod.client.await_reply("endless", &name, b"").unwrap();
    let (mut peer, _) = server.accept().unwrap();
    assert!((0..1000).any(|_| peer.write_all(&[b'['; 4096]).is_err()), "4 MB were taken");
    assert_eq!(pod.wait("endless").reply, b"");
    assert!(matches!(pod.client.signal("endless", 9), Err(Error::Refused(_))));
}

#[test]
fn an_awaited_exit_follows_a_command_and_has_its_streams() {
    let mut pod = Pod::new();
    let server = UnixListener::bind(pod.path("server")).unwrap();
    let (socket, log) = (pod.path("server").to_string_lossy().into_owned(), pod.path("log"));
    // In one request, and in two.
    let mut spawn = sh("one", "echo hello");
    spawn.stdio = pipes(Some(&log));
    spawn.keep = Keep::Await { socket: socket.clone(), payload: b"x".to_vec() };
    assert_eq!(pod.spawn(&spawn), (Some(0), None));
    let one = server.accept().unwrap().0;
    assert!(std::fs::read_to_string(&log).unwrap().ends_with(" stdout F hello\n"), "before the answer to the spawn");
    let mut spawn = sh("two", "{ read x <\"$GO\"; echo late; } &");
    rustix::fs::mknodat(rustix::fs::CWD, pod.path("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    spawn.env.push(("GO".into(), pod.path("go").to_string_lossy().into_owned()));
    spawn.stdio = pipes(Some(&log));
    spawn.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&spawn), (Some(0), None));
    pod.client.await_reply("two", &socket, b"x").unwrap();
    let two = server.accept().unwrap().0;
    std::fs::write(pod.path("go"), "go\n").unwrap();
    until("output of what was left running", || std::fs::read_to_string(&log).unwrap().ends_with("stdout F late\n"));
    drop(one);
    drop(two);
    assert_eq!((pod.wait("one").code, pod.wait("two").code), (-1, -1));
}

#[test]
fn nothing_is_kept_of_what_is_not_to_be_kept() {
    let mut pod = Pod::new();
    let mut spawn = sh("a", "exit 5");
    spawn.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&spawn), (Some(5), None));
    assert_eq!(pod.client.list().unwrap(), []);
    // Its streams are, until the last writer is gone, read or not.
    for log in [None, Some(pod.path("log"))] {
        spawn.argv[2] = "sleep 0.2 & echo x".into();
        spawn.stdio = pipes(log.as_deref());
        pod.spawn(&spawn);
        assert_eq!(pod.client.list().unwrap().len(), 1);
        until("the streams ended", || pod.client.list().unwrap().is_empty());
    }
    assert!(std::fs::read_to_string(pod.path("log")).unwrap().ends_with(" stdout F x\n"));
}

#[test]
fn mounts_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    let (outer, inner) = (dir.path().join("outer"), dir.path().join("inner"));
    let tmpfs = |target: &Path| MountOp::Mount {
        source: "cofferdam-test".into(),
        target: target.to_owned(),
        fstype: "tmpfs".into(),
        flags: 0,
        data: "size=64k".into(),
    };
    let mut pod = Pod::with(|start| {
        start.mounts = vec![MountOp::Mkdir(outer.clone()), tmpfs(&outer), MountOp::Touch(outer.join("mark"))];
    });
    assert!(outer.is_dir() && !outer.join("mark").exists(), "the machine sees the directory only");
    let seen = |pod: &mut Pod, key: &str, mounts: Vec<MountOp>, file: &Path| {
        let mut spawn = sh(key, &format!("test -e {}", file.display()));
        spawn.mounts = mounts;
        pod.spawn(&spawn);
        pod.wait(key).code == 0
    };
    assert!(seen(&mut pod, "a", vec![], &outer.join("mark")));
    // Of a command alone: not seen by the next.
    let ops = vec![MountOp::Mkdir(inner.clone()), tmpfs(&inner), MountOp::Touch(inner.join("mark"))];
    assert!(seen(&mut pod, "b", ops.clone(), &inner.join("mark")));
    assert!(!seen(&mut pod, "c", vec![], &inner.join("mark")));
    // Later, in the pod's namespace: seen by the next.
    pod.client.mounts(&ops).unwrap();
    assert!(seen(&mut pod, "d", vec![], &inner.join("mark")));
    pod.client.mounts(&[MountOp::Unmount(inner.clone())]).unwrap();
    assert!(!seen(&mut pod, "e", vec![], &inner.join("mark")));
    let failed = pod.client.mounts(&[MountOp::Unmount(inner.clone())]);
    assert!(matches!(failed, Err(Error::Refused(why)) if why.contains("inner cannot be unmounted: Invalid argument")));
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains("cofferdam-test"));
}

#[test]
fn mounts_stay_inside_where_the_machine_shares_them() {
    let dir = tempfile::tempdir().unwrap();
    // As under systemd, which makes / shared.
    let script = dir.path().join("shared");
    let body = format!(
        "#!/bin/sh\nexec unshare -m --propagation shared sh -c 'grep -q shared: /proc/self/mountinfo && exec {}'\n",
        binary().display()
    );
    std::fs::write(&script, body).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let start = Start { socket: dir.path().join("m.sock"), exit_dir: dir.path().to_owned(), ..Start::default() };
    let (client, mut child) = start_monitor(&script, &start).unwrap();
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", child.id())).unwrap();
    client.shutdown().unwrap();
    child.wait().unwrap();
    assert!(!mounts.contains(" shared:"), "{mounts}");
}

#[test]
fn namespaces_and_settings() {
    let pod = Pod::with(|start| {
        start.unshare_net = true;
        start.unshare_ipc = true;
        start.hostname = Some("inside".into());
        start.oom_score_adj = Some(123);
        start.sysctls = vec![("/proc/sys/net/ipv4/ip_unprivileged_port_start".into(), "7".into())];
    });
    let mut pod = pod;
    let pid = pod.child.id();
    assert_eq!(pod.client.monitor_pid(), pid as i32);
    let ns = |who: &str, kind: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}")).unwrap();
    for (kind, own) in [("mnt", true), ("net", true), ("ipc", true), ("uts", true), ("pid", false), ("user", false)] {
        assert_eq!(ns(&pid.to_string(), kind) != ns("self", kind), own, "{kind}");
    }
    let mut spawn = sh(
        "a",
        "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj; ip -o link show up",
    );
    spawn.stdio = Stdio::Capture { max: 1000 };
    pod.spawn(&spawn);
    let exit = pod.wait("a");
    let out = String::from_utf8(exit.stdout).unwrap();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(&lines[..3], ["inside", "7", "123"]);
    assert!(lines.len() == 4 && lines[3].contains("lo: <LOOPBACK,UP"), "{out}");
    let mode = std::fs::metadata(pod.path("m.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Without asking there is a mount namespace only.
    let plain = Pod::new();
    for (kind, own) in [("mnt", true), ("net", false), ("ipc", false), ("uts", false)] {
        assert_eq!(ns(&plain.child.id().to_string(), kind) != ns("self", kind), own, "{kind}");
    }
}

#[test]
fn monitor_and_commands_join_their_cgroups() {
    // The hierarchy of the pids controller, v1 or v2; a directory of the test's own in it.
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts
        .lines()
        .filter_map(|l| l.split(' ').collect::<Vec<_>>().try_into().ok())
        .find_map(|[_, dir, kind, options, _, _]: [&str; 6]| {
            let v1 = kind == "cgroup" && options.split(',').any(|o| o == "pids");
            (v1 || kind == "cgroup2" && dir == "/sys/fs/cgroup").then(|| dir.to_owned())
        })
        .expect("no cgroup mount");
    let group = Path::new(&root).join(format!("cofferdam-test-{}", std::process::id()));
    let inner = group.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    let file = |dir: &Path| ["tasks", "cgroup.procs"].map(|n| dir.join(n)).into_iter().find(|p| p.exists()).unwrap();
    {
        let mut pod = Pod::with(|start| start.cgroup_files = vec![file(&group)]);
        let members = |dir: &Path| std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        assert_eq!(members(&group).trim(), pod.child.id().to_string());
        let mut spawn = sh("a", "sleep 100");
        spawn.cgroup_files = vec![file(&inner)];
        let (_, pid) = pod.spawn(&spawn);
        assert!(members(&inner).lines().any(|l| l == pid.unwrap().to_string()));
    }
    let gone = || std::fs::remove_dir(&inner).is_ok() || !inner.exists();
    until("the cgroups can be removed", || gone() && std::fs::remove_dir(&group).is_ok());
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let start = |change: &dyn Fn(&mut Start)| {
        let mut start =
            Start { socket: dir.path().join("m.sock"), exit_dir: dir.path().to_owned(), ..Start::default() };
        change(&mut start);
        start
    };
    let long = dir.path().join("x".repeat(100));
    let rows = [
        (start(&|s| s.exit_dir = "/no/such/exits".into()), "/no/such/exits cannot be opened: No such file"),
        (start(&|s| s.cgroup_files = vec!["/no/such/tasks".into()]), "/no/such/tasks cannot be joined"),
        (start(&|s| s.sysctls = vec![("/proc/sys/no/such".into(), "1".into())]), "/proc/sys/no/such cannot be opened"),
        (start(&|s| s.mounts = vec![MountOp::Unmount("/no/such/mount".into())]), "/no/such/mount cannot be unmounted"),
        (start(&|s| s.hostname = Some("x".repeat(100))), "cannot be set: Invalid argument"),
        (start(&|s| s.socket = long.clone()), "cannot be made a socket: File name too long"),
    ];
    for (start, expected) in &rows {
        match start_monitor(binary(), start) {
            Err(Error::Start(why)) => assert!(why.contains(expected), "{why:?} does not say {expected:?}"),
            other => panic!("{other:?}"),
        }
    }
    let missing = start_monitor("/no/such/monitor".as_ref(), &start(&|_| {}));
    assert!(matches!(missing, Err(Error::Start(why)) if why.contains("/no/such/monitor")));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(matches!(Client::connect(&dir.path().join("m.sock")), Err(Error::Gone { .. })));
}

#[test]
fn the_engine_may_die() {
    let mut pod = Pod::new();
    let log = pod.path("log");
    let mut spawn = leaving(&pod, "a", "trap 'echo bye; exit 4' TERM; echo hi; while :; do sleep 0.02; done");
    spawn.stdio = pipes(Some(&log));
    // Gone while the spawn is under way; only a raw connection can do that.
    spawn.argv[2] = format!("sleep 0.2; {LEAVE}");
    let mut raw = raw(&pod.path("m.sock"));
    send(&mut raw, &cofferdam_monitor::protocol::Request::Spawn(Box::new(spawn)));
    until("the command runs", || !pod.client.list().unwrap().is_empty());
    drop(raw);
    until("it is kept all the same", || pod.client.list().unwrap()[0].pid.is_some());
    for signal in ["HUP", "INT", "TERM", "PIPE"] {
        let script = format!("kill -{signal} {}", pod.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }
    until("it said hi", || std::fs::read_to_string(&log).unwrap().ends_with("F hi\n"));
    pod.connect().signal("a", 15).unwrap();
    assert_eq!(pod.wait("a").code, 4);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("F bye\n"));
}

/// A connection that has said hello.
fn raw(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    send(&mut stream, &cofferdam_monitor::protocol::Request::Hello { version: 1 });
    let hello: Response = cofferdam_monitor::frame::read(&mut stream, MAX_FRAME).unwrap().unwrap();
    assert!(matches!(hello, Response::Hello { version: 1, .. }));
    stream
}

fn send(stream: &mut UnixStream, request: &cofferdam_monitor::protocol::Request) {
    let mut bytes = Vec::new();
    cofferdam_monitor::frame::encode(request, MAX_FRAME, &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

#[test]
fn garbage_ends_a_connection_and_nothing_else() {
    let mut pod = Pod::new();
    let socket = pod.path("m.sock");
    let list = {
        let mut bytes = Vec::new();
        cofferdam_monitor::frame::encode(&cofferdam_monitor::protocol::Request::List, MAX_FRAME, &mut bytes).unwrap();
        bytes
    };
    let too_long = (MAX_FRAME as u32 + 1).to_le_bytes().to_vec();
    let huge = u32::MAX.to_le_bytes().to_vec();
    let rows: &[(bool, &[u8])] = &[
        (false, b"GET / HTTP/1.1\r\n\r\n"),
        (false, &list), // before hello
        (true, &too_long),
        (true, &huge),
        (true, &[1, 0, 0, 0, 200]),
        (true, &[0, 0, 0, 0]),
        (true, &[9, 0, 0, 0, 2, 255, 255, 255, 255, 255, 255, 255, 255]),
        (true, &[3, 0, 0, 0, 0, 1, 0]), // a second hello with a byte too many
    ];
    for (hello, bytes) in rows {
        let mut stream = if *hello { raw(&socket) } else { UnixStream::connect(&socket).unwrap() };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        // Closed, by an end or a reset.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{bytes:?}");
    }
    // Requests that come together are answered in order.
    let mut stream = raw(&socket);
    stream.write_all(&[list.clone(), list.clone(), list].concat()).unwrap();
    for _ in 0..3 {
        let answer: Response = cofferdam_monitor::frame::read(&mut stream, MAX_FRAME).unwrap().unwrap();
        assert_eq!(answer, Response::Processes(vec![]));
    }
    // More connections than it holds.
    let held: Vec<_> = (0..MAX_CONNECTIONS - 2).map(|_| raw(&socket)).collect();
    let refused = Client::connect(&socket);
    assert!(matches!(&refused, Err(Error::Refused(why)) if why.contains("64 connections")), "{refused:?}");
    drop(held);
    until("there is room again", || Client::connect(&socket).is_ok());
    assert_eq!(pod.client.list().unwrap(), []);
}

#[test]
fn a_thousand_processes_leave_nothing() {
    let mut pod = Pod::new();
    let log = pod.path("log");
    let round = |pod: &mut Pod, i: u32| {
        let key = format!("p{i}");
        let mut spawn = sh(&key, "");
        spawn.argv = vec!["/bin/true".into()];
        spawn.stdio = match i % 3 {
            0 => Stdio::Null,
            1 => Stdio::Pipes { log: Some(log.clone()), stdin: true, stdin_once: false },
            _ => Stdio::Capture { max: 100 },
        };
        pod.spawn(&spawn);
        assert_eq!(pod.client.wait(&key).unwrap().code, 0);
        pod.client.forget(&key).unwrap();
    };
    (0..20).for_each(|i| round(&mut pod, i));
    let before = (pod.descriptors(), rss(pod.child.id()));
    (20..1000).for_each(|i| round(&mut pod, i));
    assert_eq!(pod.descriptors(), before.0);
    assert!(rss(pod.child.id()) <= before.1 + 64, "memory grew from {} to {} KiB", before.1, rss(pod.child.id()));
    assert_eq!(pod.client.list().unwrap(), []);
    assert_eq!(std::fs::read_dir(pod.path("exits")).unwrap().count(), 0);
}

fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn shutdown_leaves_nothing() {
    let mut pod = Pod::new();
    let mut spawn = sh("kept", "trap '' TERM; setsid sleep 1000 & while :; do sleep 1; done");
    // What it leaves in another session is the monitor's only after its own end.
    spawn.stdio = pipes(Some(&pod.path("log")));
    let (_, kept) = pod.spawn(&spawn);
    // One that nobody keeps, in a session of its own, and a command that has not ended.
    let mut spawn = sh("left", "setsid sh -c 'echo $$ > \"$OUT\"; exec sleep 1000' & sleep 0.1");
    spawn.env.push(("OUT".into(), pod.path("stray").to_string_lossy().into_owned()));
    spawn.keep = Keep::Nothing;
    pod.spawn(&spawn);
    let stray: i32 = std::fs::read_to_string(pod.path("stray")).unwrap().trim().parse().unwrap();
    let mut spawn = sh("command", "sleep 1000");
    spawn.keep = Keep::Nothing;
    let mut raw = raw(&pod.path("m.sock"));
    send(&mut raw, &cofferdam_monitor::protocol::Request::Spawn(Box::new(spawn)));
    until("the command runs", || pod.client.list().unwrap().len() == 2);
    let waiter = pod.connect();
    let waiting = std::thread::spawn(move || waiter.wait_timeout("kept", PATIENCE));
    assert!(alive(stray) && alive(kept.unwrap()));
    pod.connect().shutdown().unwrap();
    assert!(pod.child.wait().unwrap().success());
    assert!(!alive(stray) && !alive(kept.unwrap()));
    assert!(!pod.path("m.sock").exists());
    if let Ok(exit) = waiting.join().unwrap() {
        assert_eq!(exit.unwrap().code, 137); // it may also have come too late
    }
    assert!(std::fs::read_to_string(pod.path("exits/kept")).unwrap().starts_with("137 "));
    assert!(matches!(pod.client.list(), Err(Error::Gone { .. })));
    assert!(matches!(Client::connect(&pod.path("m.sock")), Err(Error::Gone { .. })));
}

#[test]
fn pause_reaps_and_ends_when_told() {
    for signal in ["TERM", "INT"] {
        // The first process of a process id namespace, as in a pod; something dies beside it.
        let mut pause = std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(binary())
            .arg("pause")
            .spawn()
            .unwrap();
        let child = || -> Option<i32> {
            let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pause.id())).ok()?;
            text.trim().parse().ok()
        };
        until("it runs", || {
            child().is_some_and(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|w| w.contains("sigtimedwait"))
                    || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") S "))
            })
        });
        let pid = child().unwrap();
        let enter = |script: &str| {
            std::process::Command::new("nsenter")
                .args(["-t", &pid.to_string(), "-p", "-m", "sh", "-c", script])
                .status()
                .unwrap()
        };
        assert!(enter("sleep 0.1 & exit 0").success(), "an orphan is left to it");
        until("the orphan is reaped", || {
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().is_empty()
        });
        assert!(alive(pid));
        // From within its namespace, where a first process gets only signals that it waits for; what
        // is in there dies with it.
        enter(&format!("kill -{signal} 1"));
        assert!(pause.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn what_lies_within_a_volume_is_bound_and_nothing_else() {
    let mut pod = Pod::new();
    let volume = pod.path("volume");
    std::fs::create_dir_all(volume.join("in")).unwrap();
    std::fs::write(volume.join("in/file"), "inside").unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
    let within = |sub: &str, target: &Path| MountOp::Within { root: volume.clone(), sub: sub.into(), target: target.to_owned(), make: true };
    let (target, file, new) = (pod.path("target"), pod.path("a-file"), pod.path("new"));
    let script = format!("cat {0}/file {1} && touch {2}/made", target.display(), file.display(), new.display());
    let mounts = vec![within("in", &target), within("in/file", &file), within("not/there", &new)];
    let spawn = Spawn { mounts, stdio: Stdio::Capture { max: 1024 }, ..sh("k", &script) };
    pod.spawn(&spawn);
    let exit = pod.wait("k");
    assert_eq!((exit.code, String::from_utf8_lossy(&exit.stdout).into_owned()), (0, "insideinside".into()), "{exit:?}");
    assert!(volume.join("not/there/made").exists(), "what is missing is made, in the volume");
    assert!(!target.join("file").exists(), "the machine sees none of it");
    for sub in ["out", "out/passwd", "../m.sock"] {
        let why = pod.refused(&Spawn { mounts: vec![within(sub, &target)], ..sh("bad", "true") });
        assert!(why.contains("leads out of") || why.contains("no relative path"), "{why}");
    }
}

#[test]
fn a_user_namespace_owns_the_pods_and_maps_its_files() {
    let mut file = PathBuf::new();
    let mut pod = Pod::with(|start| {
        file = start.socket.with_file_name("userns");
        start.user_namespace = Some(UserNamespace { file: file.clone(), first: 0x7000_0000, count: 65536 });
        (start.unshare_net, start.unshare_ipc, start.hostname) = (true, true, Some("mapped".into()));
        start.sysctls = vec![("/proc/sys/net/ipv4/ip_unprivileged_port_start".into(), "77".into())];
    });
    let own = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
    let of_monitor = |ns: &str| std::fs::read_link(format!("/proc/{}/ns/{ns}", pod.child.id())).unwrap();
    for ns in ["net", "ipc", "uts", "mnt"] {
        assert_ne!(own(ns), of_monitor(ns), "{ns}");
    }
    assert_eq!(own("user"), of_monitor("user"), "the monitor stays outside");
    let source = pod.path("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    let target = pod.path("mapped");
    let mounts = vec![MountOp::Mapped { source: source.clone(), target: target.clone(), user_namespace: file.clone() }];
    let script = format!(
        "stat -c %u {0}/file; nsenter --user={1} --net=/proc/{2}/ns/net sh -c 'cat /proc/self/uid_map; ip address add 10.1.2.3/32 dev lo && echo linked'",
        target.display(),
        file.display(),
        pod.child.id()
    );
    pod.spawn(&Spawn { mounts, stdio: Stdio::Capture { max: 4096 }, ..sh("k", &script) });
    let exit = pod.wait("k");
    let told = String::from_utf8_lossy(&exit.stdout).into_owned();
    let words: Vec<_> = told.split_whitespace().collect();
    assert_eq!(words, ["1879048192", "0", "1879048192", "65536", "linked"], "{exit:?}");
    let dir = tempfile::tempdir().unwrap();
    let start = Start {
        socket: dir.path().join("m.sock"),
        exit_dir: dir.path().to_owned(),
        user_namespace: Some(UserNamespace { file: dir.path().join("no/such/place"), first: 1, count: 1 }),
        ..Start::default()
    };
    let why = start_monitor(binary(), &start).unwrap_err().to_string();
    assert!(why.contains("no/such/place"), "{why}");
}

#[test]
fn what_is_mounted_shows_where_it_is_to() {
    // The machine of this test: a shared mount.
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("shared");
    std::fs::create_dir(&at).unwrap();
    let call = |command: &str, args: &[&str]| assert!(std::process::Command::new(command).args(args).status().unwrap().success());
    let path = at.to_str().unwrap();
    call("mount", &["-t", "tmpfs", "none", path]);
    call("mount", &["--make-shared", path]);
    for sub in ["mine", "theirs"] {
        std::fs::create_dir(at.join(sub)).unwrap();
    }
    let mut pod = Pod::new();
    let (slave, peer) = (pod.path("slave"), pod.path("peer"));
    let mounts = vec![
        MountOp::Shared { root: at.clone(), sub: PathBuf::new(), target: peer.clone() },
        MountOp::Within { root: at.clone(), sub: PathBuf::new(), target: slave.clone(), make: false },
    ];
    let script = format!(
        "mount -t tmpfs none {0}/theirs && touch {0}/theirs/there && touch {1}; while [ ! -e {2}/mine/there ]; do sleep 0.01; done; umount {0}/theirs",
        peer.display(),
        pod.path("ready").display(),
        slave.display()
    );
    pod.spawn(&Spawn { mounts, slave: true, ..sh("k", &script) });
    until("the container's mount shows on the machine", || at.join("theirs/there").exists());
    call("mount", &["-t", "tmpfs", "none", at.join("mine").to_str().unwrap()]);
    std::fs::write(at.join("mine/there"), "").unwrap();
    assert_eq!(pod.wait("k").code, 0, "and the machine's in the container");
    until("what it unmounted is gone", || !at.join("theirs/there").exists());
    call("umount", &["-R", path]);
}

#[test]
fn a_root_may_have_more_layers_than_a_page_holds() {
    let mut pod = Pod::new();
    let layers: Vec<PathBuf> = (0..127).map(|n| pod.path(&format!("a-rather-long-name-of-a-layer-{n:03}"))).collect();
    for (number, layer) in layers.iter().enumerate() {
        std::fs::create_dir(layer).unwrap();
        std::fs::write(layer.join(format!("f{number}")), "").unwrap();
    }
    let dirs = ["upper", "work", "root"].map(|name| pod.path(name));
    dirs.iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let lower: Vec<_> = layers.iter().map(|l| l.display().to_string()).collect();
    let data = format!("lowerdir={},upperdir={},workdir={},volatile", lower.join(":"), dirs[0].display(), dirs[1].display());
    assert!(data.len() > 4096);
    let mount = MountOp::Mount { source: "overlay".into(), target: dirs[2].clone(), fstype: "overlay".into(), flags: 0, data };
    let script = format!("ls {0} | wc -l && touch {0}/made", dirs[2].display());
    pod.spawn(&Spawn { mounts: vec![mount], stdio: Stdio::Capture { max: 64 }, ..sh("k", &script) });
    let exit = pod.wait("k");
    assert_eq!(String::from_utf8_lossy(&exit.stdout), "127\n", "{exit:?}");
    assert!(dirs[0].join("made").exists());
}
