//! A scratch folder for one run, and small helpers.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The image that all contestants run.
pub(crate) const IMAGE: &str = "docker.io/cofferdam/bench:latest";
/// What it runs.
pub(crate) const COMMAND: [&str; 2] = ["/bin/sleep", "1000"];

/// A folder of this run, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) dir: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        if !cofferdam_host::privilege::is_root() {
            bail!("the bench starts pods: run it as root");
        }
        let dir = PathBuf::from(format!("/var/tmp/cdb-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir })
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
        if let Err(e) = cofferdam_host::remove::remove_tree(&self.dir) {
            eprintln!("left behind: {e}");
        }
    }
}

/// Runs this program anew in a mount namespace without the v2 mount of a hybrid machine, for all
/// contestants alike: crun 1.8 refuses to run beside it on its own.
pub(crate) fn leave_hybrid_mode() -> Result<()> {
    use std::os::unix::process::CommandExt;
    const DONE: &str = "COFFERDAM_BENCH_INNER";
    let cgroups = cofferdam_host::cgroup::Cgroups::detect()?;
    if cgroups.mode() != cofferdam_host::cgroup::Mode::Hybrid || std::env::var_os(DONE).is_some() {
        return Ok(());
    }
    let Some(v2) = cgroups.unified() else { return Ok(()) };
    let hide = "mount --make-rprivate / && umount \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide]).arg(v2).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
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

/// Lets the machine come to rest, so that nobody profits from what the contestant before left warm
/// (the kernel's locks stay in their fast state for a grace period).
pub(crate) fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(120));
}

/// Milliseconds since.
pub(crate) fn millis(since: std::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
