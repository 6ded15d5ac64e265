//! containerd and `cofferdam cri` beside each other over CRI, with the bare runtimes as the floor: the
//! bars of a kubelet's runtime.

use crate::Args;
use crate::bare;
use crate::containerd::{Containerd, archive};
use crate::machine::{COMMAND, IMAGE, Scratch, run};
use anyhow::{Context, Result, bail};
use cofferdam_bench::cri::{self, Bar, Options, Reference, Report};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon of ours with folders of its own.
struct Daemon {
    child: Option<Child>,
    base: Vec<String>,
    binary: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    fn start(binary: &Path, scratch: &Scratch) -> Result<Self> {
        let dir = scratch.dir.join("cri");
        std::fs::create_dir_all(&dir)?;
        // Short, for the sockets in it.
        let state = PathBuf::from(format!("/run/cdb-{}-cri", std::process::id()));
        let (config, socket, log) = (dir.join("config.toml"), state.join("cri.sock"), dir.join("daemon.log"));
        let text = format!(
            "[network]\nmode = \"bridge\"\nbridge = \"cdbench2\"\nsubnet = \"10.217.0.0/16\"\n[cri]\nsocket = {:?}\n",
            socket.display().to_string()
        );
        std::fs::write(&config, text)?;
        let [config, root, below] = [config, dir.join("root"), state.clone()].map(|p| p.display().to_string());
        let base = vec!["--config".into(), config, "--root".into(), root, "--state".into(), below];
        let mut daemon = Self {
            child: None,
            base,
            binary: binary.to_owned(),
            state,
            socket,
            log,
        };
        let image = archive(&dir, IMAGE, |root| scratch.rootfs(root))?;
        run(daemon.command().args(["image", "load", "-i"]).arg(image))?;
        let log = std::fs::File::create(&daemon.log)?;
        daemon.child = Some(
            daemon
                .command()
                .arg("cri")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?,
        );
        daemon.wait()?;
        Ok(daemon)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(&self.base);
        command
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("`cofferdam cri` does not answer: {}", log.trim());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its pods are gone; what is left is the bridge, which the command takes down.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let down = run(self.command().args(["stop", "--all", "--force"]));
        let removed = cofferdam_host::remove::remove_tree(&self.state);
        for e in [down.err().map(|e| e.to_string()), removed.err().map(|e| e.to_string())]
            .into_iter()
            .flatten()
        {
            eprintln!("left behind: {e}");
        }
    }
}

/// Measures, prints, and writes where that is wanted.
pub(crate) fn measure(args: &Args, cofferdam: &Path, scratch: &Scratch) -> Result<()> {
    let peer = Containerd::start(scratch).context("containerd as the peer")?;
    let daemon = Daemon::start(cofferdam, scratch)?;
    let options = Options {
        sockets: vec![peer.socket().to_owned(), daemon.socket.clone()],
        handlers: ["crun", "runc"].map(String::from).to_vec(),
        image: IMAGE.into(),
        command: COMMAND.map(String::from).to_vec(),
        pull: false,
        rounds: args.rounds,
        at_once: args.at_once,
        density: args.density,
        rest: cri::REST,
        soak: args.soak,
    };
    let mut references = Vec::new();
    for handler in &options.handlers {
        let bare = bare::Oci::new(handler, scratch)?;
        bare.one()?;
        let once = Box::new(move || bare.one().map_err(|e| format!("{e:#}")));
        references.push(Reference {
            name: format!("bare {handler} create + start"),
            handler: handler.clone(),
            once,
        });
    }
    let report = cri::run(&options, &mut references, &|line| eprintln!("{line}"))?;
    let bars = bars(&report);
    print!("{}", cri::table(&report));
    for Bar { promise, measured, kept } in &bars {
        println!("{} {promise}: {measured}", if *kept { "kept  " } else { "BROKEN" });
    }
    if let Some(path) = &args.write {
        cri::page(path, &report, &bars, "make bench")?;
        println!("written: {}", path.display());
    }
    Ok(())
}

/// What a kubelet's runtime is held to; the second runtime is ours.
fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |promise: &str, measured: String, kept| {
        bars.push(Bar {
            promise: promise.into(),
            measured,
            kept,
        })
    };
    let handler = |name: &str| report.handlers.iter().find(|h| h.name == name);
    let ratio = |name: &str, key: &str| handler(name)?.row(key)?.ratio(1);
    let ours = |name: &str, key: &str| handler(name)?.row(key)?.values.get(1).copied().flatten();
    if let Some(r) = ratio("crun", "up_p50") {
        add("crun pod up, p50, at most 0.25 × containerd's", format!("{r:.2} ×"), r <= 0.25);
    }
    let bare = handler("runc").and_then(|h| h.references.first()).map(|(_, p50, _)| *p50);
    if let (Some(own), Some(bare)) = (ours("runc", "up_p50"), bare) {
        let more = own - bare;
        add(
            "runc pod up, p50, at most bare create + start and 15 ms",
            format!("{own:.1} − {bare:.1} = {more:+.1} ms"),
            more <= 15.0,
        );
    }
    if let Some(r) = ratio("crun", "rate") {
        add(
            "crun pods a second, many at once, at least 4 × containerd's",
            format!("{r:.1} ×"),
            r >= 4.0,
        );
    }
    if let Some(own) = ours("crun", "beside") {
        add("memory of ours per pod, PSS, at most 0.6 MiB", format!("{own:.2} MiB"), own <= 0.6);
    }
    if let Some(own) = ours("crun", "daemon") {
        add("memory of the daemon, PSS, at most 25 MiB", format!("{own:.1} MiB"), own <= 25.0);
    }
    bars
}
