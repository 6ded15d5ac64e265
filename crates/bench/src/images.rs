//! Pull and unpack of a large image from a registry on loopback: ours, containerd's, and skopeo's copy
//! with umoci's unpacking, as the commands that a person types.

use crate::containerd::Containerd;
use crate::machine::{Scratch, find, millis, rest, run};
use cofferdam_bench::sample::Series;
use anyhow::{Context, Result, bail};
use cofferdam_images::Digest;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    /// Bytes of all layers, unpacked.
    pub(crate) unpacked: u64,
    /// Bytes of all layers in the registry.
    pub(crate) packed: u64,
    pub(crate) layers: usize,
    /// Cold, then warm, of each contestant.
    pub(crate) series: Vec<Series>,
    /// Greatest memory of ours, MiB.
    pub(crate) peak: f64,
}

/// A registry with one image.
struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pulls in turn, `rounds` times, an image of `mib` MiB in `layers` layers.
pub(crate) fn measure(scratch: &Scratch, rounds: usize, mib: u64, layers: usize, peer: Option<&Containerd>) -> Result<Pulls> {
    let dir = scratch.dir.join("images");
    std::fs::create_dir_all(&dir)?;
    let mut pulls = Pulls {
        layers,
        ..Pulls::default()
    };
    let registry = serve(&dir)?;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let [mut own, mut own_warm] = ["cofferdam image pull, cold", "cofferdam image pull, warm"].map(Series::new);
    let [mut other, mut other_warm] = ["containerd (ctr images pull), cold", "containerd (ctr images pull), warm"].map(Series::new);
    let mut tools = Series::new("skopeo copy + umoci unpack, cold");
    for round in 0..rounds {
        // An image of its own each round, and nothing is removed before the end: ext4 avoids inodes that
        // were freed a moment ago, which whoever comes next would pay for.
        eprintln!("images: round {} of {rounds}, making an image of {mib} MiB", round + 1);
        let name = format!("127.0.0.1:{}/bench/big:{round}", registry.port);
        let dir = dir.join(round.to_string());
        make(&dir.join("layout"), mib, &mut pulls, &mut noise)?;
        let layout = format!("oci:{}:1", dir.join("layout").display());
        run(Command::new(find("skopeo")?).args(["copy", "-q", "--dest-tls-verify=false", &layout, &format!("docker://{name}")]))?;
        settle(&dir)?;
        pulls.peak = pulls.peak.max(ours(&dir, &name, &mut own, &mut own_warm)?);
        settle(&dir)?;
        if let Some(peer) = peer {
            other.push(timed(&mut peer.pull(&name)?)?);
            rest();
            other_warm.push(timed(&mut peer.pull(&name)?)?);
            settle(&dir)?;
        }
        tools.push(skopeo_umoci(&dir, &name)?);
    }
    pulls.series = vec![own, own_warm, tools];
    if peer.is_some() {
        pulls.series.extend([other, other_warm]);
    }
    Ok(pulls)
}

/// What a contestant wrote must not be the next one's burden.
fn settle(dir: &Path) -> Result<()> {
    run(Command::new("sync").arg("-f").arg(dir))?;
    rest();
    Ok(())
}

fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    run(command)?;
    Ok(millis(start))
}

/// A cold pull and a warm one; the greatest memory of the first, MiB.
fn ours(dir: &Path, name: &str, cold: &mut Series, warm: &mut Series) -> Result<f64> {
    let binary = std::env::current_exe()?.with_file_name("cofferdam");
    if !binary.is_file() {
        bail!(
            "{} is not there; build it with: cargo build --release -p cofferdam-cli",
            binary.display()
        );
    }
    let (root, state) = (dir.join("ours"), PathBuf::from(format!("/run/cdb-{}-i", std::process::id())));
    let pull = || {
        let mut command = Command::new(&binary);
        command
            .args(["--config", "/dev/null", "--root"])
            .arg(&root)
            .arg("--state")
            .arg(&state)
            .args(["image", "pull", name]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let start = Instant::now();
    let mut child = pull().spawn()?;
    let mut peak = 0.0_f64;
    let status = loop {
        peak = peak.max(high_water(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    cold.push(millis(start));
    if !status.success() {
        bail!("cofferdam image pull ended with {status}");
    }
    rest();
    warm.push(timed(&mut pull())?);
    cofferdam_host::remove::remove_tree(&state)?;
    Ok(peak)
}

/// Most memory that a process had at once so far, MiB; 0 where it is gone.
fn high_water(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn skopeo_umoci(dir: &Path, name: &str) -> Result<f64> {
    let (layout, bundle) = (dir.join("copied"), dir.join("bundle"));
    let start = Instant::now();
    let target = format!("oci:{}:1", layout.display());
    run(Command::new(find("skopeo")?).args(["copy", "-q", "--src-tls-verify=false", &format!("docker://{name}"), &target]))?;
    run(Command::new(find("umoci")?)
        .args(["unpack", "--image", &format!("{}:1", layout.display())])
        .arg(&bundle))?;
    Ok(millis(start))
}

fn serve(dir: &Path) -> Result<Registry> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = json!({
        "version": 0.1, "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": dir.join("registry")}},
        "http": {"addr": format!("127.0.0.1:{port}")},
    });
    std::fs::write(dir.join("registry.json"), config.to_string())?;
    let mut command = Command::new(find("docker-registry")?);
    let child = command
        .arg("serve")
        .arg(dir.join("registry.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let registry = Registry { child, port };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("docker-registry does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(registry)
}

/// An OCI layout: each layer has many small files and some large ones, which pack to about half.
fn make(dir: &Path, mib: u64, pulls: &mut Pulls, noise: &mut Noise) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8], kind: &str| -> Result<Value> {
        let digest = Digest::of(bytes).to_string();
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes)?;
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    };
    let (mut layers, mut diffs) = (Vec::new(), Vec::new());
    (pulls.unpacked, pulls.packed) = (0, 0);
    for number in 0..pulls.layers {
        let tar = layer(number, (mib << 20) / pulls.layers as u64, noise)?;
        pulls.unpacked += tar.len() as u64;
        diffs.push(Digest::of(&tar).to_string());
        let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
        packed.write_all(&tar)?;
        let packed = packed.finish()?;
        pulls.packed += packed.len() as u64;
        layers.push(put(&packed, "application/vnd.oci.image.layer.v1.tar+gzip")?);
    }
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config =
        json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut manifest = put(manifest.to_string().as_bytes(), kind)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    std::fs::write(dir.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    std::fs::write(
        dir.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    Ok(())
}

fn layer(number: usize, bytes: u64, noise: &mut Noise) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let (mut written, mut file) = (0, 0);
    while written < bytes {
        // Most files of an image are small, and most of its bytes are in large ones.
        let size = match noise.next() % 10 {
            0 => 256 << 10,
            1..=3 => 32 << 10,
            _ => 2 << 10,
        };
        let data: Vec<u8> = (0..size / 8)
            .flat_map(|_| {
                (noise.next() & 0x0f0f_0f0f_0f0f_0f0f)
                    .wrapping_add(0x6161_6161_6161_6161)
                    .to_le_bytes()
            })
            .collect();
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        archive
            .append_data(&mut header, format!("usr/share/l{number}/d{}/f{file}", file % 40), data.as_slice())
            .context("a layer")?;
        (written, file) = (written + data.len() as u64, file + 1);
    }
    Ok(archive.into_inner()?)
}

/// Numbers that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
