//! Where everything of a pod is. Every name derives from the pod's id, so a record with the id
//! alone is enough to find and undo all of it; but for the cgroup of a pod whose parent somebody else
//! chose, which a file beside the lock names.

use cofferdam_model::{ContainerId, PodId};
use std::path::{Path, PathBuf};

/// The two roots: `root` outlives a reboot, `state` need not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Records, images, writable layers; `/var/lib/cofferdam`.
    pub root: PathBuf,
    /// Sockets, locks, exits; `/run/cofferdam`.
    pub state: PathBuf,
}

impl Layout {
    /// A layout over these roots.
    pub fn new(root: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), state: state.into() }
    }

    /// All pods' records.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }
    /// Records that could not be read, put aside.
    pub fn aside(&self) -> PathBuf {
        self.root.join("unreadable")
    }
    /// Image store.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    /// Addresses in use.
    pub fn network(&self) -> PathBuf {
        self.root.join("network")
    }
    /// Binaries that were embedded in ours.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// What was proved of the handlers.
    pub fn proofs(&self) -> PathBuf {
        self.state.join("handlers")
    }
    /// Where the machine's cgroup mounts are seen from inside a monitor's mount namespace.
    pub fn moved_cgroups(&self) -> PathBuf {
        self.state.join("cg")
    }

    /// One pod's record, volumes and writable layers.
    pub fn pod(&self, pod: &PodId) -> PodDirs {
        PodDirs {
            dir: self.pods().join(pod.as_str()),
            run: self.state.join("pods").join(pod.as_str()),
            id: pod.clone(),
            cgroup_parent: CGROUP_ROOT.into(),
        }
    }
    /// All pods' run-time directories.
    pub fn run_pods(&self) -> PathBuf {
        self.state.join("pods")
    }
}

/// The files of one pod.
#[derive(Debug, Clone)]
pub struct PodDirs {
    /// Outlives a reboot.
    pub dir: PathBuf,
    /// Need not outlive a reboot.
    pub run: PathBuf,
    id: PodId,
    cgroup_parent: PathBuf,
}

impl PodDirs {
    /// With the pod's cgroup in this one, relative to a controller's root; `None` is ours.
    pub fn within(mut self, cgroup_parent: Option<PathBuf>) -> Self {
        self.cgroup_parent = cgroup_parent.unwrap_or_else(|| CGROUP_ROOT.into());
        self
    }
    /// The cgroup in which the pod's own is, relative to a controller's root.
    pub fn cgroup_parent(&self) -> &Path {
        &self.cgroup_parent
    }
    /// Names the cgroup's parent where it is not ours, for who cannot read the record: written before
    /// that, and like the cgroup gone with a reboot.
    pub fn cgroup_file(&self) -> PathBuf {
        self.run.join("cgroup-parent")
    }
    /// The pod's id.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }
    /// Immutable metadata of the sandbox: the intent.
    pub fn record(&self) -> PathBuf {
        self.dir.join("pod.json")
    }
    /// Its small status: the result.
    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }
    /// Held while a verb works on the pod.
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }
    /// The monitor's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("monitor.sock")
    }
    /// Exits written by the monitor.
    pub fn exits(&self) -> PathBuf {
        self.run.join("exits")
    }
    /// The OCI runtime's state, unless the handler names a root of its own.
    pub fn runtime_root(&self) -> PathBuf {
        self.run.join("rt")
    }
    /// Mount point of the pod's `/dev/shm`.
    pub fn shm(&self) -> PathBuf {
        self.run.join("shm")
    }
    /// File of the pod's user namespace, as seen in the monitor's mount namespace.
    pub fn user_namespace(&self) -> PathBuf {
        self.run.join("userns")
    }
    /// What a sentry writes for its user: the system calls that it does not have.
    pub fn refused_calls(&self) -> PathBuf {
        self.run.join("refused-calls.log")
    }
    /// Bundle of the sandbox's own container, where the driver makes one.
    pub fn sandbox_bundle(&self) -> PathBuf {
        self.run.join("sandbox")
    }
    /// Files of `/etc` that the containers share; a small file system in memory, mounted in the monitor's mount
    /// namespace, so that a container that writes to them fills nothing of the machine.
    pub fn etc(&self) -> PathBuf {
        self.run.join("etc")
    }
    /// `/etc/hosts` of the containers.
    pub fn hosts(&self) -> PathBuf {
        self.etc().join("hosts")
    }
    /// `/etc/hostname` of the containers.
    pub fn hostname(&self) -> PathBuf {
        self.etc().join("hostname")
    }
    /// `/etc/resolv.conf` of the containers.
    pub fn resolv_conf(&self) -> PathBuf {
        self.etc().join("resolv.conf")
    }
    /// All containers' bundles.
    pub fn bundles(&self) -> PathBuf {
        self.run.join("b")
    }
    /// All containers' records.
    pub fn containers(&self) -> PathBuf {
        self.dir.join("c")
    }
    /// One container's record, bundle and writable layer.
    pub fn container(&self, container: &ContainerId) -> ContainerDirs {
        ContainerDirs { dir: self.containers().join(container.as_str()), bundle: self.bundles().join(container.as_str()) }
    }
    /// Cgroup of the pod, relative to a controller's root.
    pub fn cgroup(&self) -> PathBuf {
        self.cgroup_parent.join(self.id.as_str())
    }
    /// Cgroup of the enclosure itself: monitor, sentry, virtual machine.
    pub fn sandbox_cgroup(&self) -> PathBuf {
        self.cgroup().join(SANDBOX_CGROUP)
    }
    /// Cgroup of a container.
    pub fn container_cgroup(&self, container: &ContainerId) -> PathBuf {
        self.cgroup().join(container.as_str())
    }
}

/// The cgroup that holds all pods.
pub const CGROUP_ROOT: &str = "cofferdam";
/// The child of a pod's cgroup that holds the enclosure.
pub const SANDBOX_CGROUP: &str = "sandbox";

/// The files of one container.
#[derive(Debug, Clone)]
pub struct ContainerDirs {
    /// Record and writable layer: outlive a reboot.
    pub dir: PathBuf,
    /// The OCI bundle, and mount points in the runtime's own mount namespace: need not outlive one. On a disk each
    /// file that is made costs tenths of a millisecond where many were deleted before (ext4 does not use an inode
    /// again for a while, and steps over all of those).
    pub bundle: PathBuf,
}

impl ContainerDirs {
    /// Immutable metadata.
    pub fn record(&self) -> PathBuf {
        self.dir.join("container.json")
    }
    /// Small status.
    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }
    /// Its next status, there while the container's start is under way: recovery ends a start whose process was
    /// killed.
    pub fn next_status(&self) -> PathBuf {
        self.dir.join("next.json")
    }
    /// OCI spec.
    pub fn spec(&self) -> PathBuf {
        self.bundle.join("config.json")
    }
    /// Mount point of the root file system, in the runtime's own mount namespace.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }
    /// Writable layer.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }
    /// Overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }
    /// Where the OCI runtime writes its own errors.
    pub fn runtime_log(&self) -> PathBuf {
        self.bundle.join("runtime.log")
    }
    /// Where the OCI runtime writes the process id.
    pub fn pid_file(&self) -> PathBuf {
        self.bundle.join("pid")
    }
}
