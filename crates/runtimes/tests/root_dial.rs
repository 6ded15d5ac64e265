//! Streams into pods: into a network namespace of a process, and into the real gVisor. Needs root,
//! unshare, ip, runsc and a static busybox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::netns;
use cofferdam_model::cri::{ContainerConfig, NamespaceMode, Profile, SandboxConfig};
use cofferdam_model::{ContainerId, PodId};
use cofferdam_plan::Layout;
use cofferdam_plan::spec::{self, ContainerSpec, Namespace, Process};
use cofferdam_runtimes::oci::{Flavor, Oci};
use cofferdam_runtimes::runsc::Runsc;
use cofferdam_runtimes::{Driver, Pod};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process with a network namespace whose loopback is up; ended with the value.
struct Namespaced(Child);

impl Namespaced {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--ipc",
                "--uts",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep 1000",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0u8; 3];
        child.stdout.take().unwrap().read_exact(&mut told).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Namespaced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pod<'a>(id: &'a PodId, config: &'a SandboxConfig, dir: &Path, monitor_pid: i32) -> Pod<'a> {
    Pod {
        id,
        dirs: Layout::new(dir.join("root"), dir.join("state")).pod(id),
        config,
        monitor_pid,
        enclosure_pid: None,
        cgroup_files: vec![],
        foreign_cgroups: vec![],
        pause: "/none".into(),
        ids: None,
        oom_score_adj: 0,
    }
}

#[test]
fn a_port_of_a_pod_is_reached_on_either_loopback() {
    let (dir, inside) = (tempfile::tempdir().unwrap(), Namespaced::new());
    let (id, config) = (PodId::from_bytes([7; 16]), SandboxConfig::default());
    let pod = pod(&id, &config, dir.path(), inside.pid());
    let driver = Oci {
        flavor: Flavor::Crun,
        binary: "/usr/bin/crun".into(),
        root: None,
        flags: vec![],
    };
    let namespace = netns::open(format!("/proc/{}/ns/net", inside.pid())).unwrap();
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let listener = netns::run_in(namespace.as_fd(), || TcpListener::bind(address).unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let mut stream = std::net::TcpStream::from(driver.dial(&pod, port).unwrap());
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "HELLO", "{address}");
        server.join().unwrap();
        let error = driver.dial(&pod, port).unwrap_err().to_string();
        assert!(
            error.contains(&format!("connecting to port {port} of pod")) && error.contains("refused"),
            "{error}"
        );
    }
}

/// A sandbox of the real gVisor with a root container and one other, made by its command line.
struct Sandbox {
    dir: tempfile::TempDir,
    _namespace: Namespaced,
    id: PodId,
    container: ContainerId,
}

impl Sandbox {
    fn new(script: &str) -> Self {
        let sandbox = Self {
            dir: tempfile::Builder::new().prefix("cdt").tempdir().unwrap(),
            _namespace: Namespaced::new(),
            id: PodId::from_bytes([9; 16]),
            container: ContainerId::from_bytes([8; 16]),
        };
        sandbox.run(sandbox.id.as_str(), "sandbox", "sleep 1000");
        sandbox.run(sandbox.container.as_str(), "container", script);
        sandbox
    }

    fn run(&self, id: &str, kind: &str, script: &str) {
        let bundle = self.dir.path().join(id);
        for name in ["bin", "proc", "sys", "dev"] {
            std::fs::create_dir_all(bundle.join("rootfs").join(name)).unwrap();
        }
        let busybox = cofferdam_host::machine::find_command("busybox").expect("busybox is installed");
        std::fs::copy(busybox, bundle.join("rootfs/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin/sh")).unwrap();
        let mut spec = ContainerSpec {
            process: Process {
                args: ["sh", "-c", &format!("busybox {script}")].map(String::from).to_vec(),
                env: vec![("PATH".into(), "/bin".into())],
                ..Process::default()
            },
            rootfs: "rootfs".into(),
            network: Namespace::Join(format!("/proc/{}/ns/net", self._namespace.pid()).into()),
            cgroup: Namespace::Host,
            ..ContainerSpec::default()
        };
        spec.annotations.insert("io.kubernetes.cri.container-type".into(), kind.into());
        spec.annotations.insert("io.kubernetes.cri.sandbox-id".into(), self.id.to_string());
        std::fs::write(bundle.join("config.json"), spec::container_json(&spec).to_string()).unwrap();
        let log = bundle.join("log");
        let ran = Command::new("runsc")
            .arg("--root")
            .arg(self.root())
            .arg("--log")
            .arg(&log)
            .args([
                "--ignore-cgroups",
                "--network=sandbox",
                "--overlay2=none",
                "run",
                "--detach",
                "--bundle",
            ])
            .arg(&bundle)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(ran.success(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }

    fn driver(&self) -> Runsc {
        Runsc {
            binary: "/usr/local/bin/runsc".into(),
            root: Some(self.root()),
            flags: vec![],
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for id in [self.container.as_str(), self.id.as_str()] {
            let _ = Command::new("runsc")
                .arg("--root")
                .arg(self.root())
                .args(["delete", "--force", id])
                .output();
        }
    }
}

#[test]
fn gvisor_forwards_a_port_and_tells_what_a_container_uses() {
    let sandbox = Sandbox::new("nc -l -p 8080 -e /bin/busybox cat; busybox sleep 1000");
    let config = SandboxConfig::default();
    let pod = pod(&sandbox.id, &config, sandbox.dir.path(), 0);
    let driver = sandbox.driver();
    // It listens once it has come so far.
    let mut last = driver.dial(&pod, 8080);
    for _ in 0..200 {
        if last.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
        last = driver.dial(&pod, 8080);
    }
    let mut stream = UnixStream::from(last.unwrap());
    stream.write_all(b"hello").unwrap();
    let mut text = [0u8; 5];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    let error = driver.dial(&pod, 9).unwrap_err().to_string();
    assert!(
        error.contains("connecting to port 9 of pod") && error.contains("refused"),
        "{error}"
    );

    let usage = driver.stats(&pod, std::slice::from_ref(&sandbox.container)).unwrap().unwrap();
    assert!(
        usage[0].pids >= Some(1) && usage[0].cpu_nanos.is_some() && usage[0].memory.is_none(),
        "{usage:?}"
    );
    let none = ContainerId::from_bytes([1; 16]);
    assert!(driver.stats(&pod, &[none]).is_err());
}

#[test]
fn each_runtime_tells_what_it_can_do_and_refuses_the_rest() {
    let config = |seccomp| {
        let mut config = ContainerConfig {
            name: "app".into(),
            ..ContainerConfig::default()
        };
        config.security.seccomp = seccomp;
        config
    };
    for (flavor, binary) in [(Flavor::Crun, "crun"), (Flavor::Runc, "runc")] {
        let binary = cofferdam_host::machine::find_command(binary).expect("runc and crun are installed");
        let driver = Oci {
            flavor,
            binary,
            root: None,
            flags: vec![],
        };
        let probe = driver.probe().unwrap();
        for feature in [
            "recursive_read_only_mounts",
            "user_namespaces",
            "seccomp",
            "apparmor",
            "selinux",
            "devices",
        ] {
            assert_eq!(probe.features.get(feature), Some(&true), "{flavor:?} {feature}");
        }
        assert_eq!(driver.refuses_container(&config(Profile::RuntimeDefault), &probe.features), None);
    }
    let runsc = cofferdam_host::machine::find_command("runsc").expect("runsc is installed");
    let driver = |flags: &[&str]| Runsc {
        binary: runsc.clone(),
        root: None,
        flags: flags.iter().map(|f| (*f).to_owned()).collect(),
    };
    let honoured = driver(&[]).probe().unwrap().features;
    assert_eq!(driver(&[]).refuses_container(&config(Profile::RuntimeDefault), &honoured), None);
    let off = driver(&["--oci-seccomp=false"]);
    let told = off.refuses_container(&config(Profile::RuntimeDefault), &off.probe().unwrap().features);
    assert!(told.unwrap().contains("gVisor cannot apply seccomp profiles"));
    let shared = SandboxConfig {
        pid: NamespaceMode::Pod,
        ..SandboxConfig::default()
    };
    assert_eq!(driver(&[]).refuses(&shared), None);
    let users = SandboxConfig {
        user_namespace: true,
        ..SandboxConfig::default()
    };
    assert!(driver(&[]).refuses(&users).unwrap().contains("hostUsers: false"));
}
