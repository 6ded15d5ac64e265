//! Groups on the machine's real hierarchies: v1 as it is mounted, and v2 wherever it is. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::cgroup::{Cgroups, DEFAULT_DEVICES, Group, Limits, Mode};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// The machine's hierarchies, each as a mode of its own.
fn all_modes() -> Vec<Cgroups> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let only = |fstype: &str| {
        let lines: Vec<_> = text
            .lines()
            .filter(|l| l.contains(&format!(" - {fstype} ")))
            .collect();
        Cgroups::from_mountinfo(&(lines.join("\n") + "\n"), Path::new("/"))
    };
    let found: Vec<_> = [only("cgroup"), only("cgroup2")]
        .into_iter()
        .flatten()
        .collect();
    assert!(!found.is_empty(), "no cgroup hierarchy is mounted");
    found
}

/// A group that is emptied and removed however the test ends.
struct Made(Group);

impl Made {
    fn new(cgroups: &Cgroups, name: &str) -> Self {
        let group = cgroups
            .group(format!("cdtest-{}-{name}", std::process::id()))
            .unwrap();
        group.create().unwrap();
        Self(group)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.0.kill_all(SOON);
        let _ = self.0.remove(SOON);
    }
}

/// A shell that joins `group` itself, says so, and then runs `script`.
fn join(group: &Group, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    join_also(group, &[], script)
}

#[test]
fn processes_join_and_are_killed_while_they_fork() {
    for cgroups in all_modes() {
        let made = Made::new(&cgroups, "kill");
        let group = &made.0;
        let inner = group.child("inner").unwrap();
        inner.create().unwrap();
        let (mut child, _output) = join(&inner, "while :; do sleep 100 & sleep 0.01; done");
        assert!(
            group.procs().unwrap().contains(&(child.id() as i32)),
            "{:?}",
            cgroups.mode()
        );
        assert_eq!(group.list_children().unwrap().len(), 1);
        assert!(
            group.remove(Duration::ZERO).is_err(),
            "it still has processes"
        );
        group.kill_all(SOON).unwrap();
        assert!(group.procs().unwrap().is_empty());
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
            Some(9)
        );
        group.remove(SOON).unwrap();
        assert!(!group.exists());
        group.kill_all(Duration::ZERO).unwrap();
        group.remove(Duration::ZERO).unwrap();
    }
}

#[test]
fn devices_outside_the_list_are_denied_until_all_are_allowed() {
    // The kernel log's number, made by mknod (which is allowed) and opened (which is not).
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("kmsg");
    let script = format!(
        "head -c1 /dev/zero >/dev/null && echo zero; mknod {n} c 1 11 && echo made; (: < {n}) 2>/dev/null && echo opened; rm -f {n}",
        n = node.display()
    );
    for cgroups in all_modes() {
        let made = Made::new(&cgroups, "devices");
        // Twice: the second replaces the first.
        for _ in 0..2 {
            made.0.deny_devices_but(&DEFAULT_DEVICES).unwrap();
        }
        let ask = || {
            let (mut child, mut output) = join(&made.0, &script);
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            child.wait().unwrap();
            text
        };
        assert_eq!(ask(), "zero\nmade\n", "{:?}", cgroups.mode());
        made.0.allow_all_devices().unwrap();
        assert_eq!(ask(), "zero\nmade\nopened\n", "{:?}", cgroups.mode());
        made.0.deny_devices_but(&[]).unwrap();
        assert_eq!(ask(), "", "{:?}", cgroups.mode());
    }
}

#[test]
fn limits_hold_rise_and_fall_and_usage_is_told() {
    let cgroups = Cgroups::detect().unwrap();
    let made = Made::new(&cgroups, "limits");
    let group = &made.0;
    let mib = 1 << 20;
    for (memory, quota, period) in [
        (64 * mib, 50_000, 100_000),
        (32 * mib, 10_000, 20_000),
        (128 * mib, 200_000, 100_000),
        (-1, -1, 0),
        (64 * mib, 0, 0),
    ] {
        let limits = Limits {
            cpu_shares: 512,
            cpu_quota: quota,
            cpu_period: period,
            memory_limit: memory,
            pids_limit: 20,
            ..Limits::default()
        };
        group
            .set_limits(&limits)
            .unwrap_or_else(|e| panic!("{limits:?}: {e}"));
    }
    let (mut child, mut output) = join(group, "head -c 8M /dev/zero | tail | wc -c; cat");
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let stats = group.stats().unwrap();
    assert!(
        stats.memory_usage > 0 && stats.cpu_nanos > 0 && stats.pids >= 1 && stats.oom_kills == 0,
        "{stats:?}"
    );
    assert!(stats.memory_working_set <= stats.memory_usage);
    drop(child.stdin.take());
    child.wait().unwrap();

    // More memory than the limit: killed. More processes than one: no fork.
    let (mut child, _output) = join(
        group,
        "(head -c 200M /dev/zero | tail >/dev/null) 2>/dev/null; exit 0",
    );
    child.wait().unwrap();
    assert!(group.oom_kills().unwrap() >= 1);
    group
        .set_limits(&Limits {
            pids_limit: 1,
            ..Limits::default()
        })
        .unwrap();
    let (mut child, mut output) = join(group, "exec 2>/dev/null; (echo forked); true");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(!text.contains("forked"));
    child.wait().unwrap();
}

#[test]
fn where_one_is_killed_for_memory_all_of_the_group_are_on_v2() {
    let cgroups = Cgroups::detect().unwrap();
    let made = Made::new(&cgroups, "together");
    let limits = Limits {
        memory_limit: 32 << 20,
        ..Limits::default()
    };
    made.0.set_limits(&limits).unwrap();
    made.0.kill_together().unwrap();
    let (mut child, mut output) = join(
        &made.0,
        "(head -c 200M /dev/zero | tail >/dev/null) 2>/dev/null; echo alive",
    );
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    assert!(made.0.oom_kills().unwrap() >= 1);
    assert_eq!(text.is_empty(), cgroups.mode() == Mode::V2, "{text:?}");
}

#[test]
fn the_machine_has_a_mode() {
    let cgroups = Cgroups::detect().unwrap();
    if cgroups.mode() != Mode::V2 {
        assert!(cgroups.mounts().contains_key("memory"));
    }
    if cgroups.mode() != Mode::V1 {
        cgroups.v2_controllers().unwrap();
    }
}

#[test]
fn cpus_are_bound_where_the_controller_is() {
    for cgroups in all_modes() {
        let made = Made::new(&cgroups, "cpuset");
        let inner = made.0.child("inner").unwrap();
        inner.create().unwrap();
        assert!(made.0.set_cpuset("0-1;1", "").is_err());
        assert_eq!(inner.set_cpuset("", "").unwrap(), Vec::<std::path::PathBuf>::new());
        let has = cgroups.mode() != Mode::V2 && cgroups.mounts().contains_key("cpuset")
            || cgroups.v2_controllers().unwrap().iter().any(|c| c == "cpuset");
        let joined = match inner.set_cpuset("0", "0") {
            Ok(files) => files,
            Err(error) => {
                assert!(!has && error.to_string().contains("controller cpuset"), "{error}");
                continue;
            }
        };
        let (mut child, _output) = join_also(&inner, &joined, "exec sleep 100");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        assert!(status.lines().any(|l| l == "Cpus_allowed_list:\t0"), "{status}");
        child.kill().unwrap();
        child.wait().unwrap();
        made.0.remove(SOON).unwrap();
        assert!(joined.iter().all(|f| !f.exists()), "{joined:?}");
    }
}

#[test]
fn huge_pages_are_limited_where_the_controller_is() {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroups = Cgroups::from_mountinfo(&text, Path::new("/")).unwrap();
    let made = Made::new(&cgroups, "huge");
    let limits = |size: &str| std::collections::BTreeMap::from([(size.to_owned(), 4 << 20)]);
    let joined = made.0.set_hugepages(&limits("2MB")).unwrap();
    let error = made.0.set_hugepages(&limits("3MB")).unwrap_err().to_string();
    assert!(error.contains("no huge pages of \"3MB\""), "{error}");
    let (mut child, _output) = join_also(&made.0, &joined, "exec sleep 100");
    let directory = joined.first().map_or_else(|| made.0.directories()[0].clone(), |f| f.parent().unwrap().to_owned());
    let limit = ["hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"].iter().find_map(|f| std::fs::read_to_string(directory.join(f)).ok());
    assert_eq!(limit.unwrap().trim(), (4 << 20).to_string());
    let inside = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert!(inside.lines().any(|l| l == child.id().to_string()), "{inside}");
    child.kill().unwrap();
    child.wait().unwrap();
    made.0.remove(SOON).unwrap();
    assert!(!directory.exists());
}

/// As [`join`], with further files.
fn join_also(group: &Group, also: &[std::path::PathBuf], script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let files = group.join_files().into_iter().chain(also.iter().cloned());
    let joins: String = files.map(|f| format!("echo 0 > {} && ", f.display())).collect();
    let mut child = Command::new("sh")
        .args(["-c", &format!("{joins} echo joined; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "joined\n");
    (child, output)
}
