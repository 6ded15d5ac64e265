//! What `cofferdam cri` says where it cannot serve: one sentence, which names the place. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long what works may take at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directories of one test, removed at its end.
struct Place(PathBuf);

impl Place {
    /// Short, as sockets lie below it.
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(format!("/run/cdtf-{name}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn daemon(&self, cri: &str) -> Command {
        let config = self.0.join("config.toml");
        fs::write(
            &config,
            format!("import = []\n[network]\nmode = \"cni\"\n[cri]\n{cri}\n[cri.nri]\nenabled = false\n"),
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("--config").arg(config).arg("--root").arg(self.0.join("r"));
        command.arg("--state").arg(self.0.join("s")).arg("cri");
        command
    }

    /// What a daemon says that does not start.
    fn refusal(&self, cri: &str) -> String {
        let output = self.daemon(cri).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(120), "{cri}: {said}");
        said
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon that serves, ended with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serving(place: &Place, socket: &Path, log: &Path) -> Serving {
    let mut command = place.daemon(&format!("socket = \"{}\"", socket.display()));
    let daemon = Serving(
        command
            .stderr(fs::File::create(log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let began = Instant::now();
    while !fs::read_to_string(log).unwrap().contains("CRI is served") {
        assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(log).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon
}

#[test]
fn every_refusal_is_one_sentence_that_names_the_place() {
    let place = Place::new("refuse");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap();
    let file = place.0.join("file");
    fs::write(&file, "").unwrap();
    let used = place.0.join("used");
    let _listens = UnixListener::bind(&used).unwrap();
    let long = format!("{}/{}", place.0.display(), "x".repeat(100));
    for (cri, saying) in [
        ("socket = 5".to_owned(), "config.toml:5:10: cri.socket must be a string"),
        ("socket = \"rel\"".into(), "must be an absolute path"),
        ("streaming_address = \"0.0.0.0:1\"".into(), "is not on the loopback"),
        ("cgroup_driver = \"x\"".into(), "is none of \"auto\", \"cgroupfs\", \"systemd\""),
        (format!("metrics_address = \"{metrics}\""), "free the address or choose another"),
        (format!("socket = \"{long}\""), "longer than the 107 bytes"),
        (format!("socket = \"{}\"", file.display()), "something else than a socket is there"),
        (format!("socket = \"{}\"", used.display()), "another process listens there"),
    ] {
        let said = place.refusal(&cri);
        assert!(said.contains(saying), "{cri}: {said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("cofferdam: "), "{said}");
        for twice in [long.as_str(), "Address already in use", used.to_str().unwrap()] {
            assert!(last.matches(twice).count() <= 1, "said twice: {last}");
        }
    }
}

#[test]
fn a_daemon_tells_that_it_serves_and_what_no_pod_can_start_under() {
    let place = Place::new("serve");
    let (socket, log) = (place.0.join("cri"), place.0.join("log"));
    let table = "[handlers.gone]\nbinary = \"/nonexistent/runtime\"\n[cri]";
    let mut command = place.daemon(&format!("socket = \"{}\"", socket.display()));
    let config = place.0.join("config.toml");
    let text = fs::read_to_string(&config).unwrap().replace("[cri]", table);
    fs::write(&config, text).unwrap();
    let daemon = Serving(command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let began = Instant::now();
    let both = |text: &str| text.contains("CRI is served") && text.contains("no pod can start under this handler");
    while !both(&fs::read_to_string(&log).unwrap()) {
        assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("handler=gone") && said.contains("/nonexistent/runtime"), "{said}");
    assert!(!said.contains("handler=youki") || which("youki"), "nobody asked for it: {said}");
    drop(daemon);
    // And a second one beside it.
    let first = serving(&place, &socket, &log);
    let second = place.refusal(&format!("socket = \"{}\"", place.0.join("other").display()));
    assert!(second.contains(&format!("already (process {})", first.0.id())), "{second}");
}

fn which(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).exists())
}
