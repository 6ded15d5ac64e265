//! An engine of one test: directories, bridge and subnet of its own; what it leaves is looked for when
//! it ends.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_engine::handlers::Table;
use cofferdam_engine::{Engine, Options};
use cofferdam_images::{BuildFile, BuildSpec, Content};
use cofferdam_model::cri::{ContainerConfig, ContainerState, ContainerStatus, Mount, NamespaceMode, SandboxConfig};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_plan::Layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The image that every world has.
pub(crate) const IMAGE: &str = "test/busybox:1";
/// How long anything that is waited for may take; nothing that works takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The handlers that share the machine's kernel.
pub(crate) const SHARED: [&str; 2] = ["crun", "runc"];

const APPLETS: &str = "sh sleep cat echo id env true false grep wc head tail hostname mount umount mkdir rm touch stat test \
    seq date nc ls ps df awk sed tr cut sort chmod chown ln readlink mknod stty tty dd kill ip uname printf sync";

/// The world of one test.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    pub(crate) engine: Arc<Engine>,
    pub(crate) number: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        let claim = |n: &u32| std::fs::create_dir(format!("/run/cdte-{n}")).is_ok();
        let number = (0..4096).find(claim).expect("no directory can be made in /run; these tests need root");
        let dir = PathBuf::from(format!("/run/cdte-{number}"));
        let world = Self { engine: open(&dir, number), dir, number };
        build(&world.engine, IMAGE, &[]);
        world
    }

    /// Opens an engine on the same directories, as the next process would; what recovery says.
    pub(crate) fn again(&self) -> (Arc<Engine>, Vec<String>) {
        Engine::open(options(&self.dir, self.number)).unwrap()
    }

    /// As [`World::again`], with other options.
    pub(crate) fn reopen(&self, change: impl FnOnce(&mut Options)) -> (Arc<Engine>, Vec<String>) {
        let mut options = options(&self.dir, self.number);
        change(&mut options);
        Engine::open(options).unwrap()
    }

    /// A directory for what a test needs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn pod(&self, handler: &str) -> PodId {
        self.pod_with(handler, |_| {})
    }

    /// A pod without a network, unless `change` says otherwise.
    pub(crate) fn pod_with(&self, handler: &str, change: impl FnOnce(&mut SandboxConfig)) -> PodId {
        self.try_pod(handler, change).unwrap()
    }

    pub(crate) fn try_pod(&self, handler: &str, change: impl FnOnce(&mut SandboxConfig)) -> cofferdam_model::cri::Result<PodId> {
        self.pod_in(&self.engine, handler, change)
    }

    pub(crate) fn pod_in(
        &self,
        engine: &Engine,
        handler: &str,
        change: impl FnOnce(&mut SandboxConfig),
    ) -> cofferdam_model::cri::Result<PodId> {
        let mut config = SandboxConfig {
            name: "pod".into(),
            namespace: "default".into(),
            hostname: "pod".into(),
            pid: NamespaceMode::Container,
            log_directory: self.dir.join("logs"),
            ..SandboxConfig::default()
        };
        std::fs::create_dir_all(&config.log_directory).unwrap();
        change(&mut config);
        engine.run_sandbox(&config, handler)
    }

    /// Runs `sh -c script` to its end: exit code and output.
    #[track_caller]
    pub(crate) fn run(&self, pod: &PodId, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> (i32, String) {
        let id = self.start(pod, script, change);
        let status = self.ended(&id);
        (status.exit_code, self.log(&status))
    }

    /// As [`World::run`], for a script that must end well.
    #[track_caller]
    pub(crate) fn good(&self, pod: &PodId, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let (code, out) = self.run(pod, script, change);
        assert_eq!(code, 0, "{script}: {out}");
        out
    }

    /// Makes and starts a container of `sh -c script`.
    #[track_caller]
    pub(crate) fn start(&self, pod: &PodId, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> ContainerId {
        let id = self.create(pod, script, change).unwrap();
        self.engine.start_container(&id).unwrap();
        id
    }

    pub(crate) fn create(
        &self,
        pod: &PodId,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> cofferdam_model::cri::Result<ContainerId> {
        let count = self.engine.list_containers(Some(pod)).unwrap().len();
        let mut config = ContainerConfig {
            name: format!("c{count}"),
            image: IMAGE.into(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("c{count}-{}.log", pod.short()).into(),
            ..ContainerConfig::default()
        };
        change(&mut config);
        self.engine.create_container(pod, &config)
    }

    #[track_caller]
    pub(crate) fn ended(&self, id: &ContainerId) -> ContainerStatus {
        until("the container ends", || {
            let status = self.engine.container_status(id).unwrap();
            (status.state == ContainerState::Exited).then_some(status)
        })
    }

    pub(crate) fn log(&self, status: &ContainerStatus) -> String {
        let text = std::fs::read_to_string(self.dir.join("logs").join(&status.config.log_path)).unwrap();
        // `time stream F text`
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    /// Runs a command in a container: exit code and output.
    pub(crate) fn exec(&self, id: &ContainerId, script: &str) -> (i32, String) {
        let command = ["sh", "-c", script].map(str::to_owned);
        let out = self.engine.exec_sync(id, &command, PATIENCE).unwrap();
        (out.exit_code, String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let torn = self.engine.tear_down();
        if std::thread::panicking() {
            return; // what is left is for whoever looks into it
        }
        torn.unwrap();
        let name = self.dir.to_string_lossy().into_owned();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted: Vec<_> = table.lines().filter(|l| l.contains(&name)).collect();
        assert!(mounted.is_empty(), "{mounted:?}");
        for pid in processes() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(&format!("{name}/")), "process {pid} is left");
        }
        cofferdam_host::remove::remove_tree(&self.dir).unwrap();
    }
}

fn processes() -> Vec<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn options(dir: &Path, number: u32) -> Options {
    let table = Table::new(&cofferdam_handlers::HandlerTable::built_in(), &std::env::var("PATH").unwrap());
    let mut options = Options::new(Layout::new(dir.join("l"), dir.join("s")), table);
    options.network.bridge = format!("cdte{number}");
    options.network.table = format!("cofferdam_cdte{number}");
    options.network.subnet = format!("10.{}.{}.0/24", 230 + number / 256, number % 256).parse().unwrap();
    options.network_mode = cofferdam_engine::NetworkMode::Bridge;
    options
}

fn open(dir: &Path, number: u32) -> Arc<Engine> {
    let (engine, findings) = Engine::open(options(dir, number)).unwrap();
    assert_eq!(findings, Vec::<String>::new());
    engine
}

/// An image of the machine's static busybox, and of further files.
pub(crate) fn build(engine: &Engine, name: &str, more: &[(&str, &str)]) {
    let places = ["/usr/local/lib/cofferdam/busybox", "/usr/bin/busybox", "/bin/busybox"];
    let busybox = places.map(Path::new).into_iter().find(|p| p.exists()).expect("busybox is missing; install Debian's busybox-static");
    let file = |path: &str, mode, content| BuildFile { path: path.to_owned(), mode, content };
    let mut files = vec![
        file("/bin/busybox", 0o755, Content::File(busybox.to_owned())),
        file("/etc/passwd", 0o644, Content::Bytes(b"root:x:0:0::/root:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n".to_vec())),
        file("/etc/group", 0o644, Content::Bytes(b"root:x:0:\nworker:x:1000:\nextra:x:50:worker\n".to_vec())),
        file("/tmp", 0o1777, Content::Dir),
    ];
    files.extend(APPLETS.split_whitespace().map(|a| file(&format!("/bin/{a}"), 0, Content::Symlink("busybox".into()))));
    files.extend(more.iter().map(|(path, text)| file(path, 0o644, Content::Bytes(text.as_bytes().to_vec()))));
    let spec = BuildSpec { name: name.to_owned(), files, env: vec![("PATH".into(), "/bin".into())], cmd: vec!["sh".into()], ..BuildSpec::default() };
    engine.images().build(&spec, &()).unwrap();
}

/// A volume of the machine.
pub(crate) fn volume(host_path: impl Into<PathBuf>, container_path: &str) -> Mount {
    Mount { host_path: host_path.into(), container_path: container_path.into(), ..Mount::default() }
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
