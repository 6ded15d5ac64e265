//! Pods that nobody touches, and what must not change of them; the cgroup in which a kubelet wants its pods.

use super::Kubelet;
use crate::common::{self, World, names, until};
use cofferdam_cri_api::v1;
use std::path::{Path, PathBuf};

/// Counts, a number a line, for ever.
pub(crate) const COUNTS: &str = "trap 'exit 0' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";

/// The cgroup in which a kubelet wants its pods, in every hierarchy (driver `cgroupfs`).
pub(crate) struct CgroupParent {
    top: String,
    pub(crate) path: String,
}

impl CgroupParent {
    pub(crate) fn new(world: &World) -> Self {
        let top = format!("{}pods", world.bridge);
        Self {
            path: format!("/{top}/burstable/pod1-2"),
            top,
        }
    }

    fn places(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = names(root).into_iter().map(|name| root.join(name));
        let all = hierarchies.chain([root.to_owned()]).map(|at| at.join(&self.top));
        all.filter(|at| at.is_dir()).collect()
    }

    /// The cgroups that are in it.
    pub(crate) fn within(&self) -> Vec<PathBuf> {
        let below = self
            .path
            .trim_start_matches('/')
            .strip_prefix(&self.top)
            .unwrap()
            .trim_start_matches('/');
        let children = |at: PathBuf| {
            let at = at.join(below);
            names(&at)
                .into_iter()
                .map(move |name| at.join(name))
                .filter(|p| p.is_dir())
                .collect::<Vec<_>>()
        };
        self.places().into_iter().flat_map(children).collect()
    }
}

impl Drop for CgroupParent {
    fn drop(&mut self) {
        for place in self.places() {
            for part in ["burstable/pod1-2", "burstable", ""] {
                let _ = std::fs::remove_dir(place.join(part));
            }
        }
    }
}

/// What must not change of a pod that nobody touches.
pub(crate) struct Bystander {
    pub(crate) pod: String,
    pub(crate) name: String,
    pub(crate) container: String,
    began: i64,
    pid: i64,
    processes: Vec<PathBuf>,
}

impl Bystander {
    /// A pod whose container counts.
    #[track_caller]
    pub(crate) fn new(world: &World, kubelet: &Kubelet, handler: &str) -> Self {
        let name = format!("stays-{handler}");
        let pod = kubelet.run_pod(kubelet.pod_config(&name, 0), handler).unwrap();
        let container = kubelet.begin(&pod, kubelet.container_config("counts", 0, COUNTS));
        let log = kubelet.log(&name, "counts", 0);
        until("it counts", || (!counted(&log).is_empty()).then_some(()));
        Self {
            began: kubelet.status(&container).unwrap().started_at,
            pid: kubelet.container_pid(&container),
            processes: stable(world, &pod),
            pod,
            name,
            container,
        }
    }

    /// Fails unless it runs on as ever, and all that it said is in the log.
    #[track_caller]
    pub(crate) fn assert_untouched(&self, world: &World, kubelet: &Kubelet, after: &str) {
        let status = kubelet.status(&self.container).unwrap();
        assert_eq!(status.state(), v1::ContainerState::ContainerRunning, "{after}: {status:?}");
        assert_eq!((status.started_at, status.finished_at), (self.began, 0), "{after}");
        assert_eq!(kubelet.container_pid(&self.container), self.pid, "{after}");
        assert_eq!(
            kubelet.pod_status(&self.pod).unwrap().state(),
            v1::PodSandboxState::SandboxReady,
            "{after}"
        );
        let now = common::traces::processes(world, std::slice::from_ref(&self.pod));
        let gone: Vec<_> = self.processes.iter().filter(|p| !now.contains(p)).collect();
        assert!(gone.is_empty(), "{after}: {gone:?} are gone");
        let log = kubelet.log(&self.name, "counts", 0);
        let before = counted(&log).len();
        until("it counts on", || (counted(&log).len() > before + 1).then_some(()));
        assert_no_gap(&counted(&log), after);
    }
}

/// The processes of a pod that stay: without those that come and go (`sleep`).
fn stable(world: &World, pod: &str) -> Vec<PathBuf> {
    let look = || common::traces::processes(world, std::slice::from_ref(&pod.to_owned()));
    let mut all = look();
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(70));
        let now = look();
        all.retain(|p| now.contains(p));
    }
    all
}

/// The numbers in a log of [`COUNTS`]; the last line may be half written.
pub(crate) fn counted(log: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, ' ').collect();
            assert_eq!(
                (fields.len(), fields[1], fields[2]),
                (4, "stdout", "F"),
                "{line:?} is no line of a log"
            );
            fields[3].parse().unwrap_or_else(|e| panic!("{line:?}: {e}"))
        })
        .collect()
}

#[track_caller]
pub(crate) fn assert_no_gap(numbers: &[u64], after: &str) {
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "{after}: the log has a gap");
    assert_eq!(numbers.first(), Some(&0), "{after}: the log has no beginning");
}
