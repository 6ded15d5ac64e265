//! A scratch folder for one run, and small helpers.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The image that all contestants run.
pub(crate) const IMAGE: &str = "docker.io/cofferdam/bench:latest";
/// What it runs.
pub(crate) const COMMAND: [&str; 2] = ["/bin/sleep", "1000"];

/// Folders of this run, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// On the disk.
    pub(crate) dir: PathBuf,
    /// What need not outlive a reboot.
    pub(crate) state: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        if !cofferdam_host::privilege::is_root() {
            bail!("the bench starts pods: run it as root");
        }
        let dir = PathBuf::from(format!("/var/tmp/cdb-{}", std::process::id()));
        let state = PathBuf::from(format!("/run/cdb-{}-state", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        std::fs::create_dir_all(&state)?;
        Ok(Self { dir, state })
    }

    /// A root file system with a static busybox.
    pub(crate) fn rootfs(&self, at: &Path) -> Result<()> {
        let bin = at.join("bin");
        std::fs::create_dir_all(&bin)?;
        for dir in ["proc", "sys", "dev", "tmp", "etc"] {
            std::fs::create_dir_all(at.join(dir))?;
        }
        std::fs::copy(busybox()?, bin.join("busybox"))?;
        for applet in ["sleep", "sh", "true"] {
            let link = bin.join(applet);
            if !link.exists() {
                std::os::unix::fs::symlink("busybox", link)?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for dir in [&self.dir, &self.state] {
            if let Err(e) = cofferdam_host::remove::remove_tree(dir) {
                eprintln!("left behind: {e}");
            }
        }
    }
}

/// Runs this program anew in a mount namespace of its own, for all contestants alike: without the v2 mount of
/// a hybrid machine, beside which crun 1.8 refuses to run on its own, and with `/run` in memory, as it is on
/// every node that systemd boots and not in every container or virtual machine that a bench is run in.
pub(crate) fn own_mounts() -> Result<()> {
    use std::os::unix::process::CommandExt;
    const DONE: &str = "COFFERDAM_BENCH_INNER";
    if std::env::var_os(DONE).is_some() {
        return Ok(());
    }
    let cgroups = cofferdam_host::cgroup::Cgroups::detect()?;
    let v2 = cgroups.unified().filter(|_| cgroups.mode() == cofferdam_host::cgroup::Mode::Hybrid);
    let in_memory = cofferdam_host::mountinfo::mount_of("/run")?.fstype == "tmpfs";
    if v2.is_none() && in_memory {
        return Ok(());
    }
    let mut script = String::from("mount --make-rprivate /");
    if v2.is_some() {
        script += " && umount \"$0\"";
    }
    if !in_memory {
        script += " && mount -t tmpfs -o mode=755 tmpfs /run";
    }
    script += " && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(v2.unwrap_or(Path::new("sh")));
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(command.env(DONE, "1").exec().into())
}

/// The machine's static busybox.
pub(crate) fn busybox() -> Result<PathBuf> {
    ["/usr/local/lib/cofferdam/busybox", "/usr/bin/busybox", "/bin/busybox"].iter().map(PathBuf::from).find(|p| p.exists()).context("install busybox-static")
}

/// Finds a program in `PATH`.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin";
    let found = path.split(':').map(|dir| Path::new(dir).join(program)).find(|p| p.is_file());
    found.with_context(|| format!("{program} is not installed"))
}

/// Runs a command; its output on failure.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?} ended with {}: {}", command, output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Lets the machine come to rest, so that nobody profits from what the contestant before left warm (the
/// kernel's locks stay in their fast state for a grace period), or pays for what the kernel still clears away
/// of its network namespaces.
pub(crate) fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(400));
}

/// As [`rest`], after many pods.
pub(crate) fn long_rest() {
    std::thread::sleep(std::time::Duration::from_secs(4));
}

/// Milliseconds since.
pub(crate) fn millis(since: std::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
