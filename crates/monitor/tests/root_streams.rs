//! The real monitor: logs, attached clients, captures and terminals. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_monitor::client::{AttachStream, Error};
use cofferdam_monitor::protocol::{Exit, Frame, Keep, MAX_CAPTURE, MountOp, Spawn, Stdio};
use common::{Pod, sh, until};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn pipes(log: Option<&Path>, stdin: bool) -> Stdio {
    Stdio::Pipes { log: log.map(Path::to_owned), stdin, stdin_once: false }
}

fn with(mut spawn: Spawn, stdio: Stdio) -> Spawn {
    spawn.stdio = stdio;
    spawn
}

/// A log's entries: stream, tag, content. Times must be well-formed and not decrease.
fn entries(log: &Path) -> Vec<(String, String, Vec<u8>)> {
    let bytes = std::fs::read(log).unwrap();
    let mut last = String::new();
    let mut entries = Vec::new();
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").expect("an entry is not ended");
        let mut parts = line.splitn(4, |&b| b == b' ').map(<[u8]>::to_vec);
        let mut text = || String::from_utf8(parts.next().unwrap()).unwrap();
        let (stamp, stream, tag) = (text(), text(), text());
        assert_eq!(stamp.len(), "2016-10-06T00:17:09.669794202Z".len(), "{stamp}");
        assert!(stamp.starts_with("20") && stamp.ends_with('Z') && stamp >= last, "{last} {stamp}");
        last = stamp;
        entries.push((stream, tag, parts.next().unwrap()));
    }
    entries
}

/// All that an attached client gets: stdout, stderr, and the exit where there is one.
fn collect(stream: AttachStream) -> (Vec<u8>, Vec<u8>, Result<Exit, Error>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let keep = stream.writer;
    for frame in stream.reader {
        match frame {
            Ok(Frame::Stdout(piece)) => out.extend(piece),
            Ok(Frame::Stderr(piece)) => err.extend(piece),
            Ok(Frame::Exited(exit)) => return (out, err, Ok(exit)),
            Err(e) => return (out, err, Err(e)),
            other => panic!("{other:?}"),
        }
    }
    drop(keep);
    panic!("no end");
}

#[test]
fn logs_have_the_format_that_the_kubelet_reads() {
    let mut pod = Pod::new();
    let log = pod.path("log");
    let script =
        "echo one; echo; echo two >&2; sleep 0.05; printf 'a b  c '; sleep 0.05; printf 'd\\n'; printf 'no end'";
    pod.spawn(&with(sh("a", script), pipes(Some(&log), false)));
    assert_eq!(pod.wait("a").code, 0);
    let found = entries(&log);
    let of = |stream: &str| -> Vec<(&str, &[u8])> {
        found.iter().filter(|e| e.0 == stream).map(|e| (e.1.as_str(), e.2.as_slice())).collect()
    };
    assert_eq!(of("stdout"), [("F", &b"one"[..]), ("F", b""), ("F", b"a b  c d"), ("P", b"no end")]);
    assert_eq!(of("stderr"), [("F", &b"two"[..])]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn long_lines_are_split() {
    let mut pod = Pod::new();
    let log = pod.path("log");
    // Pieces of 16 KiB; a line of just that length is whole.
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo; head -c 16385 /dev/zero | tr '\\0' z; echo";
    pod.spawn(&with(sh("a", script), pipes(Some(&log), false)));
    pod.wait("a");
    let found: Vec<_> = entries(&log).into_iter().map(|(_, tag, line)| (tag, line[0], line.len())).collect();
    let expected = [
        ("P", b'x', 16384),
        ("P", b'x', 16384),
        ("F", b'x', 7232),
        ("F", b'y', 16384),
        ("P", b'z', 16384),
        ("F", b'z', 1),
    ];
    assert_eq!(found, expected.map(|(tag, byte, length)| (tag.to_owned(), byte, length)));
}

#[test]
fn logs_are_appended_to_and_reopened() {
    let mut pod = Pod::new();
    let (log, rotated) = (pod.path("log"), pod.path("log.1"));
    std::fs::write(&log, "2020-01-01T00:00:00.000000000Z stdout F old\n").unwrap();
    pod.spawn(&with(sh("a", "while read x; do echo $x; done"), pipes(Some(&log), true)));
    let mut writer = pod.connect().attach("a").unwrap().writer;
    let mut said = |line: &str, log: &Path| {
        writer.stdin(line.as_bytes()).unwrap();
        writer.stdin(b"\n").unwrap();
        until("it is in the log", || std::fs::read_to_string(log).unwrap().ends_with(&format!("F {line}\n")));
    };
    said("one", &log);
    std::fs::rename(&log, &rotated).unwrap();
    said("two", &rotated);
    pod.client.reopen_log("a").unwrap();
    said("three", &log);
    assert_eq!(entries(&rotated).len(), 3);
    assert_eq!(entries(&log).len(), 1);
    // Nothing but a plain file is opened, and what was open stays.
    std::fs::rename(&log, &rotated).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &log).unwrap();
    assert!(
        matches!(pod.client.reopen_log("a"), Err(Error::Refused(why)) if why.contains("cannot be opened as a log"))
    );
    said("four", &rotated);
    pod.spawn(&sh("b", "sleep 100"));
    assert!(matches!(pod.client.reopen_log("b"), Err(Error::Refused(why)) if why == "b has no log."));
}

#[test]
fn a_full_disk_loses_lines_and_says_how_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut pod = Pod::with(|start| {
        start.mounts = vec![MountOp::Mount {
            source: "cofferdam-test".into(),
            target: dir.path().to_owned(),
            fstype: "tmpfs".into(),
            flags: 0,
            data: "size=64k".into(),
        }];
    });
    let log = dir.path().join("log");
    pod.spawn(&with(sh("a", "yes | head -c 200000; echo full >&2; read x; echo next"), pipes(Some(&log), true)));
    // 42 bytes for each line of two, and one of 45, of which 64 KiB were written.
    until("the rest is counted", || pod.client.list().unwrap()[0].log_lost == 100_000 * 42 + 45 - 64 * 1024);
    // Seen in the monitor's mount namespace only.
    let inside = PathBuf::from(format!("/proc/{}/root{}", pod.child.id(), log.display()));
    assert_eq!(std::fs::metadata(&inside).unwrap().len(), 64 * 1024);
    // When there is room again, the next entry begins on a line of its own.
    std::fs::File::options().write(true).open(&inside).unwrap().set_len(100).unwrap();
    pod.connect().attach("a").unwrap().writer.stdin(b"\n").unwrap();
    assert_eq!(pod.wait("a").code, 0);
    let text = std::fs::read_to_string(&inside).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.ends_with("Z stdout F next") && last.len() == 44, "{last}");
}

#[test]
fn captures_are_bounded() {
    let mut pod = Pod::new();
    pod.spawn(&with(sh("a", "printf 12345; printf 123 >&2"), Stdio::Capture { max: 4 }));
    let exit = pod.wait("a");
    assert_eq!((exit.stdout.as_slice(), exit.stderr.as_slice(), exit.truncated), (&b"1234"[..], &b"123"[..], true));
    pod.spawn(&with(sh("b", "printf 1234; cat; cat <&- 2>/dev/null; exit 3"), Stdio::Capture { max: 4 }));
    let exit = pod.wait("b");
    assert_eq!((exit.stdout.as_slice(), exit.truncated, exit.code), (&b"1234"[..], false, 3), "input is empty");
    // The most that can be asked for, of both streams, still fits an answer.
    let script = "yes out | head -c 3000000; yes err | head -c 3000000 >&2";
    pod.spawn(&with(sh("c", script), Stdio::Capture { max: u32::MAX }));
    let exit = pod.wait("c");
    assert_eq!((exit.stdout.len(), exit.stderr.len()), (MAX_CAPTURE as usize, MAX_CAPTURE as usize));
    assert!(exit.truncated && exit.stdout.starts_with(b"out\nout") && exit.stderr.starts_with(b"err\nerr"));
    let listed = &pod.client.list().unwrap()[2];
    assert_eq!(listed.exit.as_ref().unwrap().stdout, b"");
}

#[test]
fn a_failed_runtime_command_tells_what_was_captured() {
    let mut pod = Pod::new();
    let mut spawn = with(sh("a", "echo why >&2; exit 2"), Stdio::Capture { max: 100 });
    spawn.keep = Keep::Nothing;
    let answer = pod.client.spawn(&spawn).unwrap();
    let cofferdam_monitor::protocol::Response::Spawned { code, stderr, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((code, stderr.as_str()), (Some(2), "why\n"));
}

#[test]
fn an_exit_waits_for_output_but_not_for_long() {
    let mut pod = Pod::new();
    // A descendant holds the pipe, and writes after the end that is told.
    let script = "{ sleep 1; echo late; sleep 100; } & echo $! > \"$OUT\"; echo early; exit 6";
    let mut spawn = with(sh("a", script), Stdio::Capture { max: 100 });
    spawn.env.push(("OUT".into(), pod.path("pid").to_string_lossy().into_owned()));
    pod.spawn(&spawn);
    let exit = pod.wait("a");
    assert_eq!((exit.code, exit.stdout.as_slice()), (6, &b"early\n"[..]));
    // What a descendant writes right after the end belongs to it.
    pod.spawn(&with(sh("b", "{ sleep 0.02; echo late; } & echo early; exit 6"), Stdio::Capture { max: 100 }));
    assert_eq!(pod.wait("b").stdout, b"early\nlate\n");
}

#[test]
fn attached_clients_see_and_say() {
    let mut pod = Pod::new();
    pod.spawn(&with(sh("a", "cat; echo end >&2; exit 9"), pipes(None, true)));
    let first = pod.connect().attach("a").unwrap();
    let second = pod.connect().attach("a").unwrap();
    // More than all the buffers on the way hold; writing and reading have their own threads.
    let input: Vec<u8> = (0..3_000_000u32).map(|i| if i % 50 == 49 { b'\n' } else { b'a' + (i % 23) as u8 }).collect();
    let mut writer = first.writer;
    let sent = input.clone();
    let writing = std::thread::spawn(move || {
        writer.stdin(&sent).unwrap();
        writer.close_stdin().unwrap();
        writer
    });
    let other = std::thread::spawn(move || collect(second));
    let mut out = Vec::new();
    let mut exit = None;
    for frame in first.reader {
        match frame.unwrap() {
            Frame::Stdout(piece) => out.extend(piece),
            Frame::Stderr(piece) => assert_eq!(piece, b"end\n"),
            Frame::Exited(e) => exit = Some(e),
            other => panic!("{other:?}"),
        }
    }
    drop(writing.join().unwrap());
    assert_eq!(exit.unwrap().code, 9);
    assert!(out == input, "{} of {} bytes", out.len(), input.len());
    let (out, err, exit) = other.join().unwrap();
    assert!(out == input && err == b"end\n" && exit.unwrap().code == 9);
    assert!(matches!(pod.connect().attach("b"), Err(Error::Refused(why)) if why.contains("\"b\"")));
}

#[test]
fn standard_input_closes_when_told() {
    let mut pod = Pod::new();
    let stdio = |once| Stdio::Pipes { log: None, stdin: true, stdin_once: once };
    // Leaving closes it with stdin_once, and does not without.
    pod.spawn(&with(sh("once", "cat >/dev/null; exit 3"), stdio(true)));
    let stream = pod.connect().attach("once").unwrap();
    stream.writer.detach();
    assert_eq!(pod.wait("once").code, 3);
    pod.spawn(&with(sh("more", "read a; read b; exit $a$b"), stdio(false)));
    for line in ["1\n", "2\n"] {
        let mut stream = pod.connect().attach("more").unwrap();
        stream.writer.stdin(line.as_bytes()).unwrap();
        stream.writer.detach();
        assert!(matches!(stream.reader.last(), Some(Err(Error::Gone { .. }))));
    }
    assert_eq!(pod.wait("more").code, 12);
    // A process that does not read: input waits, and goes when it goes.
    pod.spawn(&with(sh("deaf", "sleep 0.3; exit 1"), stdio(false)));
    let mut stream = pod.connect().attach("deaf").unwrap();
    let _ = stream.writer.stdin(&vec![b'x'; 2_000_000]);
    assert!(matches!(stream.reader.last(), Some(Ok(Frame::Exited(e))) if e.code == 1));
}

#[test]
fn without_a_log_output_waits_for_its_client() {
    let mut pod = Pod::new();
    // It ends before anybody attaches; what it said is still there, and its exit does not wait.
    pod.spawn(&with(sh("quick", "echo hello; echo oops >&2; exit 2"), pipes(None, false)));
    assert_eq!(pod.wait("quick").code, 2);
    let (out, err, exit) = collect(pod.connect().attach("quick").unwrap());
    assert_eq!((out.as_slice(), err.as_slice(), exit.unwrap().code), (&b"hello\n"[..], &b"oops\n"[..], 2));
    // Once more: nothing is left but the exit.
    let (out, _, exit) = collect(pod.connect().attach("quick").unwrap());
    assert_eq!((out.as_slice(), exit.unwrap().code), (&b""[..], 2));
    // More than a pipe holds: nothing is lost, however slow the client is.
    pod.spawn(&with(sh("long", "yes | head -c 5000000"), pipes(None, false)));
    std::thread::sleep(Duration::from_millis(100));
    let stream = pod.connect().attach("long").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let (out, _, exit) = collect(stream);
    assert_eq!((out.len(), exit.unwrap().code), (5_000_000, 0));
    // When the last client has left, output goes nowhere and the process goes on.
    pod.spawn(&with(sh("left", "yes | head -c 5000000"), pipes(None, false)));
    pod.connect().attach("left").unwrap().writer.detach();
    assert_eq!(pod.wait("left").code, 0);
}

#[test]
fn a_command_that_says_much_before_a_client_comes_ends_all_the_same() {
    let mut pod = Pod::new();
    let script = "head -c 300000 /dev/zero >&2; echo first; sh -c 'sleep 0.2; echo second; exit 4' & echo $! > $OUT";
    let mut spawn = with(sh("a", script), pipes(None, false));
    let file = pod.path("pid");
    spawn.env.push(("OUT".into(), file.to_string_lossy().into_owned()));
    spawn.keep = cofferdam_monitor::protocol::Keep::PidFile(file);
    spawn.timeout_ms = 20_000;
    pod.spawn(&spawn);
    let (out, err, exit) = collect(pod.connect().attach("a").unwrap());
    assert_eq!((out, err.len(), exit.unwrap().code), (b"first\nsecond\n".to_vec(), 300_000, 4));
}

#[test]
fn memory_is_bounded_and_a_stuck_client_stops_nothing() {
    let mut pod = Pod::new();
    let log = pod.path("log");
    let pid = pod.child.id();
    let anon = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find(|l| l.starts_with("RssAnon:")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = anon();
    pod.spawn(&with(
        sh("a", "read x; yes 0123456789012345678901234567890123456789 | head -c 100000000"),
        pipes(Some(&log), true),
    ));
    let mut stuck = pod.connect().attach("a").unwrap();
    stuck.writer.stdin(b"go\n").unwrap();
    let mut most = 0;
    let exit = loop {
        most = most.max(anon());
        if let Some(exit) = pod.client.wait_timeout("a", Duration::from_millis(20)).unwrap() {
            break exit;
        }
    };
    assert_eq!(exit.code, 0);
    assert!(most < before + 2048, "{before} KiB before, up to {most} KiB");
    let bytes = std::fs::metadata(&log).unwrap().len();
    assert_eq!(bytes, (100_000_000 / 41) * (41 + 40) + if 100_000_000 % 41 > 0 { 100_000_000 % 41 + 41 } else { 0 });
    // The stuck client was dropped, and finds that out after what it was sent.
    assert!(matches!(stuck.reader.last(), Some(Err(Error::Gone { .. }))));
    until("the monitor gave its memory back", || anon() <= before + 128);
    // The same without log: now the process is stopped, and memory is bounded all the same.
    pod.spawn(&with(sh("b", "yes | head -c 100000000"), pipes(None, false)));
    let stream = pod.connect().attach("b").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(anon() < before + 512, "{before} KiB before, {} KiB", anon());
    assert!(pod.client.wait_timeout("b", Duration::from_millis(50)).unwrap().is_none(), "it waits");
    let (out, _, exit) = collect(stream);
    assert_eq!((out.len(), exit.unwrap().code), (100_000_000, 0));
    // Input for a process that does not read waits at the client.
    pod.spawn(&with(sh("c", "sleep 1000"), pipes(None, true)));
    let stream = pod.connect().attach("c").unwrap();
    let closer = stream.reader.closer().unwrap();
    let mut writer = stream.writer;
    let writing = std::thread::spawn(move || writer.stdin(&vec![b'x'; 50_000_000]));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writing.is_finished() && anon() < before + 512, "{before} KiB before, {} KiB", anon());
    closer.close();
    assert!(matches!(writing.join().unwrap(), Err(Error::Gone { .. })));
}

/// A bundle with busybox as its whole root, and crun's arguments.
fn bundle(dir: &Path, terminal: bool, args: &[&str]) {
    let root = dir.join("rootfs");
    for sub in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    for name in ["busybox", "sh", "stty", "cat", "echo", "sleep"] {
        if name == "busybox" {
            // A static one: where the machine's own is not, the preflight unpacks one.
            let unpacked = Path::new("/usr/local/lib/cofferdam/busybox");
            let busybox = if unpacked.exists() { unpacked } else { Path::new("/usr/bin/busybox") };
            std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        } else {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
    }
    let quoted: Vec<_> = args.iter().map(|a| format!("{a:?}")).collect();
    let spec = format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":{terminal},"user":{{"uid":0,"gid":0}},"args":[{}],
        "env":["PATH=/bin"],"cwd":"/"}},"root":{{"path":"rootfs"}},"mounts":[
        {{"destination":"/proc","type":"proc","source":"proc"}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}},
        {{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666"]}}],
        "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}}]}}}}"#,
        quoted.join(",")
    );
    std::fs::write(dir.join("config.json"), spec).unwrap();
}

/// A monitor under which crun works where cgroup v1 and v2 are mixed: it does not see v2.
fn crun_pod() -> Pod {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    Pod::with(|start| {
        if hybrid.exists() {
            start.mounts = vec![MountOp::Unmount(hybrid.to_owned())];
        }
    })
}

fn crun(pod: &Pod, key: &str, rest: &[&str]) -> Spawn {
    let mut spawn = sh(key, "");
    let root = pod.path("state").to_string_lossy().into_owned();
    spawn.argv = ["/usr/bin/crun", "--root", &root, "--cgroup-manager=disabled"].map(str::to_owned).to_vec();
    spawn.argv.extend(rest.iter().map(|a| (*a).to_owned()));
    spawn
}

#[test]
fn a_container_of_crun_with_a_terminal() {
    let mut pod = crun_pod();
    let dir = pod.path("bundle");
    bundle(&dir, true, &["/bin/sh", "-c", "stty size; read x; echo got $x; read y; stty size; exit 5"]);
    let (log, console, pid_file) = (pod.path("log"), pod.path("console"), pod.path("pid"));
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let mut spawn = crun(
        &pod,
        "c",
        &["create", "--bundle", &text(&dir), "--pid-file", &text(&pid_file), "--console-socket", &text(&console), "c"],
    );
    spawn.stdio = Stdio::Terminal { log: Some(log.clone()), console_socket: console.clone(), size: (33, 101) };
    spawn.stderr_file = Some(pod.path("stderr"));
    spawn.keep = Keep::PidFile(pid_file);
    let answer = pod.client.spawn(&spawn).unwrap();
    let cofferdam_monitor::protocol::Response::Spawned { code: Some(0), pid: Some(_), .. } = answer else {
        panic!("{answer:?}");
    };
    assert!(!console.exists(), "the console socket is removed");
    let mut stream = pod.connect().attach("c").unwrap();
    let mut start = crun(&pod, "start", &["start", "c"]);
    start.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&start).0, Some(0));
    let logged = |what: &str| until(what, || std::fs::read_to_string(&log).unwrap().contains(what));
    logged("33 101");
    stream.writer.stdin(b"hello\n").unwrap();
    logged("got hello");
    stream.writer.resize(44, 0).unwrap();
    stream.writer.stdin(b"\n").unwrap();
    logged("44 101");
    let (out, _, exit) = collect(stream);
    assert_eq!(exit.unwrap().code, 5);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out, "33 101\r\nhello\r\ngot hello\r\n\r\n44 101\r\n", "with the terminal's echo");
    let mut delete = crun(&pod, "delete", &["delete", "c"]);
    delete.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&delete).0, Some(0));
}

#[test]
fn containers_of_crun_and_what_is_executed_in_them() {
    let mut pod = crun_pod();
    let dir = pod.path("bundle");
    bundle(&dir, false, &["/bin/sh", "-c", "echo started; read x; echo read $x; exit 7"]);
    let (log, pid_file) = (pod.path("log"), pod.path("pid"));
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let mut spawn = crun(&pod, "c", &["create", "--bundle", &text(&dir), "--pid-file", &text(&pid_file), "c"]);
    spawn.stdio = pipes(Some(&log), true);
    spawn.keep = Keep::PidFile(pid_file);
    pod.spawn(&spawn);
    let mut start = crun(&pod, "start", &["start", "c"]);
    start.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&start).0, Some(0));

    let exec_pid = pod.path("exec.pid");
    for (round, script) in
        ["echo out; echo err >&2; exit 3", "sleep 0.1; echo out; echo err >&2; exit 3"].iter().enumerate()
    {
        let key = format!("exec{round}");
        let args = ["exec", "--detach", "--pid-file", &text(&exec_pid), "c", "/bin/sh", "-c", script];
        let mut exec = crun(&pod, &key, &args);
        exec.stdio = Stdio::Capture { max: 1000 };
        exec.keep = Keep::PidFile(exec_pid.clone());
        assert!(pod.spawn(&exec).1.is_some());
        let exit = pod.wait(&key);
        assert_eq!((exit.code, exit.stdout.as_slice(), exit.stderr.as_slice()), (3, &b"out\n"[..], &b"err\n"[..]));
    }

    let mut stream = pod.connect().attach("c").unwrap();
    stream.writer.stdin(b"this\n").unwrap();
    assert_eq!(pod.wait("c").code, 7);
    let lines: Vec<_> = entries(&log).into_iter().map(|e| String::from_utf8(e.2).unwrap()).collect();
    assert_eq!(lines, ["started", "read this"]);
    let mut delete = crun(&pod, "delete", &["delete", "c"]);
    delete.keep = Keep::Nothing;
    assert_eq!(pod.spawn(&delete).0, Some(0));
}

#[test]
fn a_terminal_that_never_comes() {
    let mut pod = Pod::new();
    let console = pod.path("console");
    let mut spawn = sh("a", "test -S \"$CONSOLE\"");
    spawn.env.push(("CONSOLE".into(), console.to_string_lossy().into_owned()));
    spawn.stdio = Stdio::Terminal { log: None, console_socket: console.clone(), size: (0, 0) };
    spawn.keep = Keep::Nothing;
    let why = pod.refused(&spawn);
    assert!(why.contains("without sending a terminal"), "{why}");
    assert!(!console.exists());
    pod.spawn(&sh("b", "sleep 100"));
    assert!(matches!(pod.client.resize("b", 1, 1), Err(Error::Refused(why)) if why.contains("no terminal")));
}
