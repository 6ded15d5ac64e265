//! `cofferdam demo`: one image, one command, every handler of this machine side by side; then what is
//! refused; then what is left behind, counted.

use crate::args::Global;
use crate::commands::run::{self, Started};
use crate::leftovers::{Left, Witness};
use crate::live;
use crate::owner::{self, Keeper};
use crate::settings::{self, Settings};
use crate::show::{self, Colour, paint};
use crate::world::Manifests;
use anyhow::{Context, Result};
use cofferdam_handlers::HandlerTable;
use cofferdam_decide::resources::pod_requests;
use cofferdam_engine::Engine;
use cofferdam_images::{BuildFile, BuildSpec, Content};
use cofferdam_node::{Machine, Phase, PodView};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PODS: &str = include_str!("../../../../examples/tiers.yaml");
const REFUSED: &str = include_str!("../../../../examples/refused.yaml");
/// The image that the examples name.
pub(crate) const IMAGE: &str = "cofferdam/busybox:demo";
/// Where a static busybox is looked for.
const BUSYBOX: [&str; 3] = ["/usr/local/lib/cofferdam/busybox", "/usr/bin/busybox", "/bin/busybox"];
/// What runs in the pods; any other name in a pod's process list is not the pod's own.
const OWN: [&str; 6] = ["sh", "sleep", "cat", "busybox", "app", "exe"];
/// How long pods may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the full table stays before the pods are ended.
const PAUSE: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(100);

/// What a pod told of itself.
#[derive(Debug, Clone, Default)]
struct Told {
    kernel: String,
    foreign: Option<usize>,
    memory: u64,
}

/// Runs the demo.
pub(crate) fn demo(global: &Global, pods: Option<&Path>, refused: Option<&Path>) -> Result<u8> {
    Settings::need_root()?;
    let settings = Settings::read(global).insist()?;
    let broken = broken_runtime(&settings)?;
    let drop_in = format!("[handlers.broken]\ntype = \"oci\"\nbinary = {:?}\n", broken.display().to_string());
    let settings = Settings {
        loaded: settings::read_with(&settings::roots(global), Some(&drop_in)),
        ..settings
    }
    .insist()?;
    let keeper = Keeper::open(&settings.layout)?;
    let engine = settings.open()?;
    let mut stage = Stage {
        witness: Witness::new(&engine, &settings.network()?),
        settings,
        engine,
        keeper,
    };
    let good = stage.show(pods, refused);
    std::fs::remove_dir_all(broken.parent().unwrap_or(&broken))?;
    let left = stage.clear()?;
    show::say(format_args!("\nLeft behind: {left}"));
    Ok(if good? && left.is_nothing() { 0 } else { 1 })
}

/// What the demo runs on.
struct Stage {
    settings: Settings,
    engine: Arc<Engine>,
    keeper: Keeper,
    witness: Witness,
}

impl Stage {
    /// Shows what runs, then what is refused; whether all did so.
    fn show(&mut self, pods: Option<&Path>, refused: Option<&Path>) -> Result<bool> {
        let running = read(pods, PODS, "examples/tiers.yaml")?;
        let refused = read(refused, REFUSED, "examples/refused.yaml")?;
        build_image(&self.engine)?;
        show::say("One image, one command; each pod in the enclosure that its class names:\n");
        let started = run::start(&self.settings, &self.engine, &running, 8, &self.keeper.desk)?;
        let good = self.watch(&running, &started);
        let all_refused = good.is_ok().then(|| {
            show::say("\nAnd what is refused:\n");
            self.refuse(&refused)
        });
        started.handle.stop_all(None);
        started.handle.wait_all();
        started.handle.remove_logs();
        Ok(good? && all_refused.transpose()?.unwrap_or(false))
    }

    /// Removes what the demo made, and counts what is left.
    fn clear(self) -> Result<Left> {
        let Self {
            settings,
            engine,
            keeper,
            witness,
        } = self;
        if engine.images().list()?.iter().any(|i| i.names.iter().any(|n| n.contains(IMAGE))) {
            engine.remove_image(IMAGE)?;
        }
        drop(keeper);
        // What all pods need stays while somebody else has pods.
        let alone = owner::alone(&settings.layout)?;
        let all = alone.is_some() && engine.list_sandboxes()?.is_empty();
        if all {
            engine.tear_down()?;
        }
        witness.left(Duration::from_secs(5), all)
    }

    /// Fills the table until every pod runs and has told of itself; whether all do.
    fn watch(&mut self, manifests: &Manifests, started: &Started) -> Result<bool> {
        let (setups, _, _) = manifests.admit(&HandlerTable::default(), Machine::detect(&cofferdam_node::Dirs::default()).memory);
        let declared: BTreeMap<String, u64> = setups
            .iter()
            .map(|s| {
                (
                    s.pod.metadata.name.clone(),
                    pod_requests(&s.pod)
                        .get("memory")
                        .map_or(0, |q| u64::try_from(q.value()).unwrap_or(0)),
                )
            })
            .collect();
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        let (deadline, mut lines) = (Instant::now() + PATIENCE, 0);
        let terminal = std::io::stdout().is_terminal();
        loop {
            self.witness.look();
            let views = started.handle.snapshot();
            for view in views.iter().filter(|v| v.phase == Phase::Running && v.ready) {
                if !told.contains_key(&view.name) {
                    told.insert(view.name.clone(), ask(&self.engine, view).unwrap_or_default());
                }
                if let (Some(told), Some(pod)) = (told.get_mut(&view.name), &view.sandbox) {
                    told.memory = self.engine.pod_stats(pod).map_or(0, |s| s.memory_working_set);
                }
            }
            let over = views.iter().all(|v| v.ended || told.contains_key(&v.name)) || Instant::now() > deadline;
            if terminal || over {
                let text = render(&views, &told, &declared);
                let mut out = std::io::stdout().lock();
                if lines > 0 {
                    let _ = write!(out, "\x1b[{lines}A\x1b[J");
                }
                // The pods are ended and removed whether anybody reads this or not.
                let _ = write!(out, "{text}").and_then(|()| out.flush());
                lines = text.lines().count();
            }
            if over {
                std::thread::sleep(PAUSE);
                return Ok(views.iter().all(|v| told.get(&v.name).is_some_and(|t| !t.kernel.is_empty())));
            }
            std::thread::sleep(FRAME);
        }
    }

    /// Tries pods that must not start; whether none did.
    fn refuse(&mut self, manifests: &Manifests) -> Result<bool> {
        let (setups, denied, _) = manifests.admit(&self.settings.loaded.table, 0);
        let mut none_ran = true;
        for refused in &denied {
            show::say(format_args!("  {} {}", paint("refused", Colour::Good), refused.reason));
        }
        for mut setup in setups {
            self.keeper.desk.plan(std::slice::from_mut(&mut setup))?;
            let name = setup.pod.metadata.name.clone();
            let node = cofferdam_node::Node::new(
                Arc::new(cofferdam_engine::Shared(self.engine.clone())),
                run::dirs(self.engine.layout()),
                manifests.objects(),
            )?;
            let handle = Arc::new(node.start(vec![setup], 1)?);
            self.keeper.desk.keep(handle.clone());
            let changes = handle.changes();
            let mut views = handle.snapshot();
            while views.iter().any(|v| !v.ended && v.phase == Phase::Pending) && changes.recv_timeout(PATIENCE).is_ok() {
                self.witness.look();
                views = handle.snapshot();
            }
            handle.stop_all(Some(Duration::ZERO));
            for view in handle.wait_all() {
                none_ran &= !view.began;
                let word = if view.began {
                    paint("RAN", Colour::Bad)
                } else {
                    paint("refused", Colour::Good)
                };
                show::say(format_args!("  {word} pod \"{name}\": {}", view.message));
            }
            handle.remove_logs();
        }
        Ok(none_ran)
    }
}

fn read(path: Option<&Path>, built_in: &str, name: &str) -> Result<Manifests> {
    let texts = match path {
        Some(path) => Manifests::texts(&[path.to_owned()])?,
        None => vec![(name.to_owned(), built_in.to_owned())],
    };
    Manifests::decode(&texts)
}

/// A runtime that is broken on purpose.
fn broken_runtime(settings: &Settings) -> Result<PathBuf> {
    let dir = settings.layout.state.join("demo");
    cofferdam_host::files::private_dir(&dir)?;
    let path = dir.join("broken-runtime");
    std::fs::write(&path, "#!/bin/sh\necho 'broken on purpose' >&2\nexit 1\n")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Makes the examples' image from the machine's static busybox.
pub(crate) fn build_image(engine: &Engine) -> Result<()> {
    let busybox = BUSYBOX
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists())
        .context("no static busybox; install Debian's busybox-static")?;
    let file = |path: &str, mode, content| BuildFile {
        path: path.to_owned(),
        mode,
        content,
    };
    let mut files = vec![
        file("bin/busybox", 0o755, Content::File(busybox)),
        file("tmp", 0o1777, Content::Dir),
        file("root", 0o700, Content::Dir),
        file(
            "etc/passwd",
            0o644,
            Content::Bytes(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n".to_vec()),
        ),
        file("etc/group", 0o644, Content::Bytes(b"root:x:0:\nnobody:x:65534:\n".to_vec())),
    ];
    let applets = "sh sleep cat echo uname ls ps id env true false grep wc head tail dmesg hostname mount mkdir rm touch \
                   kill stat test seq date nc wget ping ip ifconfig route nslookup vi top df free dd sync sed awk tr cut sort \
                   find xargs tee chmod chown ln readlink mknod stty tty httpd nproc ulimit yes";
    for applet in applets.split_whitespace() {
        files.push(file(&format!("bin/{applet}"), 0o777, Content::Symlink("busybox".into())));
    }
    let spec = BuildSpec {
        name: IMAGE.into(),
        files,
        env: vec![("PATH".into(), "/bin".into())],
        cmd: vec!["sh".into()],
        ..BuildSpec::default()
    };
    engine.images().build(&spec, &())?;
    Ok(())
}

/// Asks a pod which kernel it runs on and which processes it sees.
fn ask(engine: &Engine, view: &PodView) -> Result<Told> {
    let id = view.containers.first().and_then(|c| c.id.clone()).context("no container")?;
    let script = "uname -r; for p in /proc/[0-9]*; do cat $p/comm 2>/dev/null; done";
    let command = ["sh", "-c", script].map(str::to_owned);
    let output = engine.exec_sync(&id, &command, Duration::from_secs(20))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let kernel = lines.next().unwrap_or_default().to_owned();
    Ok(Told {
        kernel,
        foreign: Some(lines.filter(|l| !OWN.contains(l)).count()),
        memory: 0,
    })
}

fn render(views: &[Arc<PodView>], told: &BTreeMap<String, Told>, declared: &BTreeMap<String, u64>) -> String {
    let mut table = show::table(&[
        "pod",
        "class",
        "handler",
        "status",
        "kernel it saw",
        "host processes it saw",
        "start",
        "memory declared",
        "measured",
    ]);
    for view in views {
        let (word, colour) = live::status(view);
        let of = told.get(&view.name).cloned().unwrap_or_default();
        let dash = || "-".to_owned();
        table.add_row([
            view.name.clone(),
            view.class.clone().unwrap_or_else(|| "(none named)".into()),
            view.handler.clone(),
            paint(&word, colour),
            if of.kernel.is_empty() { dash() } else { of.kernel },
            of.foreign.map_or_else(dash, |n| n.to_string()),
            view.start_micros.map_or_else(dash, show::micros),
            declared.get(&view.name).map_or_else(dash, |b| show::bytes(*b)),
            if of.memory == 0 { dash() } else { show::bytes(of.memory) },
        ]);
    }
    let mut text = format!("{table}\n");
    for view in views.iter().filter(|v| !v.message.is_empty()) {
        text.push_str(&format!("{}: {}\n", view.name, view.message));
    }
    text
}
