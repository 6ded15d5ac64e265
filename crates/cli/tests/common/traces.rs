//! What there is of a world's pods on the machine: looked at while they are there, and again when
//! nothing of them may be left.

use super::{World, names, until};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Pods, and the namespaces that their processes were seen in.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    /// The pods' ids.
    pub(crate) ids: Vec<String>,
    /// Network, IPC, UTS, mount and process id namespaces that are not the machine's.
    pub(crate) namespaces: BTreeSet<String>,
    /// When that was, seconds since the machine's start.
    at: f64,
}

impl Traces {
    /// Looks at the pods of these ids.
    pub(crate) fn of(world: &World, ids: &[String]) -> Self {
        let own = namespaces(Path::new("/proc/self"));
        let of_pods = processes(world, ids).into_iter().flat_map(|pid| namespaces(&pid));
        let namespaces = of_pods.filter(|ns| !own.contains(ns)).collect();
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        Self {
            ids: ids.to_vec(),
            namespaces,
            at: uptime.split(' ').next().unwrap().parse().unwrap(),
        }
    }

    /// Fails unless all of it goes, record and directories included.
    #[track_caller]
    pub(crate) fn assert_gone(&self, world: &World) {
        self.assert_ended(world);
        let left: Vec<PathBuf> = self.directories(world);
        assert!(left.is_empty(), "directories left: {left:?}");
    }

    /// Fails unless all of it goes but the record.
    #[track_caller]
    pub(crate) fn assert_ended(&self, world: &World) {
        // The kernel drops namespaces, and the links in them, after the last process is gone.
        let mut left = Vec::new();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5) * super::slowness();
        loop {
            left.clear();
            left.extend(self.left(world));
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "left behind: {left:#?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn left(&self, world: &World) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(
            processes(world, &self.ids)
                .iter()
                .map(|p| format!("process {}: {}", p.display(), command_line(p))),
        );
        // The kernel gives a namespace's number again: who began later is in another one.
        let then = pids().filter(|pid| began(pid).is_some_and(|at| at <= self.at));
        let seen: BTreeSet<String> = then.flat_map(|pid| namespaces(&pid)).collect();
        left.extend(self.namespaces.intersection(&seen).map(|ns| format!("namespace {ns}")));
        for id in &self.ids {
            left.extend(mounts_of(id).map(|m| format!("mount {m}")));
            left.extend(cgroups(id).map(|c| format!("cgroup {}", c.display())));
            left.extend(links(id).map(|l| format!("link {l}")));
            left.extend(addresses(world, id).map(|a| format!("address {a}")));
        }
        left
    }

    fn directories(&self, world: &World) -> Vec<PathBuf> {
        let of = |id: &String| ["l/pods", "s/pods"].map(|d| world.dir.join(d).join(id));
        self.ids.iter().flat_map(of).filter(|p| p.exists()).collect()
    }
}

fn pids() -> impl Iterator<Item = PathBuf> {
    let numbered = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    names(Path::new("/proc"))
        .into_iter()
        .filter(numbered)
        .map(|name| Path::new("/proc").join(name))
}

/// When a process began, seconds since the machine's start (`proc(5)`: field 22 of `stat`, in
/// hundredths).
fn began(pid: &Path) -> Option<f64> {
    let stat = fs::read_to_string(pid.join("stat")).ok()?;
    let ticks: f64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / 100.0)
}

/// Processes in a cgroup of these pods, or whose command line names one of them.
pub(crate) fn processes(_: &World, ids: &[String]) -> Vec<PathBuf> {
    let ours = |pid: &PathBuf| {
        let cgroup = fs::read_to_string(pid.join("cgroup")).unwrap_or_default();
        let line = command_line(pid);
        ids.iter().any(|id| cgroup.contains(id.as_str()) || line.contains(id.as_str()))
    };
    pids().filter(ours).collect()
}

/// The same, once all of them have started and none comes or goes.
pub(crate) fn settled(world: &World, ids: &[String]) -> Vec<PathBuf> {
    let mut last = Vec::new();
    until("its processes stay the same", || {
        std::thread::sleep(std::time::Duration::from_millis(60));
        let now = processes(world, ids);
        let same = now == last;
        last = now;
        same.then(|| last.clone())
    })
}

fn command_line(pid: &Path) -> String {
    let bytes = fs::read(pid.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn namespaces(pid: &Path) -> BTreeSet<String> {
    let link = |kind: &&str| {
        fs::read_link(pid.join("ns").join(kind))
            .ok()
            .map(|l| l.to_string_lossy().into_owned())
    };
    ["net", "ipc", "uts", "mnt", "pid"].iter().filter_map(link).collect()
}

/// Mounts that name a pod, in any mount namespace.
fn mounts_of(id: &str) -> impl Iterator<Item = String> {
    let in_process = move |pid: PathBuf| {
        let text = fs::read_to_string(pid.join("mountinfo")).unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(id))
            .map(|line| format!("{}: {line}", pid.display()))
            .collect::<Vec<_>>()
    };
    pids().flat_map(in_process).take(3)
}

/// The cgroup directories of a pod, in every hierarchy.
pub(crate) fn cgroups(id: &str) -> impl Iterator<Item = PathBuf> {
    let roots = names(Path::new("/sys/fs/cgroup"))
        .into_iter()
        .map(|n| Path::new("/sys/fs/cgroup").join(n));
    let all = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(move |root| root.join("cofferdam").join(id)).filter(|p| p.is_dir())
}

/// The machine's end of a pod's link and the device of its limit, named after the pod.
fn links(id: &str) -> impl Iterator<Item = String> {
    let part = |name: &str| name.strip_prefix("cd").or_else(|| name.strip_prefix("cb")).map(str::to_owned);
    let of_pod = move |name: &String| part(name).is_some_and(|part| part.len() == 12 && id.starts_with(&part));
    names(Path::new("/sys/class/net")).into_iter().filter(of_pod)
}

/// The ports of the world's bridge.
pub(crate) fn bridge_ports(world: &World) -> Vec<String> {
    names(&Path::new("/sys/class/net").join(&world.bridge).join("brif"))
}

fn addresses(world: &World, id: &str) -> impl Iterator<Item = String> {
    let dir = world.root().join("network/addresses");
    let held = names(&dir)
        .into_iter()
        .filter(move |name| fs::read_link(dir.join(name)).is_ok_and(|t| t == Path::new(id)));
    held.collect::<Vec<_>>().into_iter()
}

/// Waits until the world's bridge has this many ports.
#[track_caller]
pub(crate) fn until_ports(world: &World, count: usize) {
    until(&format!("{} has {count} ports", world.bridge), || {
        (bridge_ports(world).len() == count).then_some(())
    });
}
