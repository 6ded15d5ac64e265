//! How plugins come.

use super::fake::{Fake, Reply};
use super::*;
use crate::wire::{self, Event};
use crate::{Error, join};
use prost::Message;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

#[test]
fn a_plugin_is_configured_and_told_the_state() {
    let state = Remembering::default();
    state.pods.lock().unwrap().push(pod());
    state.containers.lock().unwrap().push(container());
    let rig = Rig::on(state, |options| options.runtime_name = "test".to_owned());
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let (configured, told) = (Arc::clone(&seen), Arc::clone(&seen));
    let _plugin = Fake::new("10", "a")
        .on("Configure", move |request| {
            let r = wire::ConfigureRequest::decode(request).unwrap();
            let times = (r.registration_timeout, r.request_timeout);
            configured
                .lock()
                .unwrap()
                .push(format!("{} {:?} {times:?}", r.runtime_name, r.config));
            Reply::of(&wire::ConfigureResponse::default())
        })
        .on("Synchronize", move |request| {
            let r = wire::SynchronizeRequest::decode(request).unwrap();
            told.lock()
                .unwrap()
                .push(format!("{} {} {}", r.pods[0].id, r.containers[0].id, r.more));
            let resources = wire::LinuxResources {
                pids: Some(wire::LinuxPids { limit: 7 }),
                ..Default::default()
            };
            let linux = Some(wire::LinuxContainerUpdate {
                resources: Some(resources),
            });
            let update = wire::ContainerUpdate {
                container_id: "ctr1".into(),
                linux,
                ignore_failure: false,
            };
            Reply::of(&wire::SynchronizeResponse {
                update: vec![update],
                more: false,
            })
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    assert_eq!(*seen.lock().unwrap(), ["test \"\" (20000, 20000)", "pod1 ctr1 false"]);
    let updates = rig.state.updates.lock().unwrap();
    assert_eq!((updates[0].container.as_str(), updates[0].resources.pids_limit), ("ctr1", Some(7)));
}

#[test]
fn plugins_are_asked_in_order_of_their_index() {
    let rig = Rig::new();
    let asked = Arc::default();
    let events = &[Event::RunPodSandbox];
    let _b = Fake::new("20", "b").wants(events).asked(&asked).connect(&rig.socket);
    rig.wait_for(&["20-b"]);
    let _a = Fake::new("05", "a").wants(events).asked(&asked).connect(&rig.socket);
    rig.wait_for(&["05-a", "20-b"]);
    let _other = Fake::new("01", "other")
        .wants(&[Event::StopContainer])
        .asked(&asked)
        .connect(&rig.socket);
    rig.wait_for(&["01-other", "05-a", "20-b"]);
    asked.lock().unwrap().clear();
    rig.nri.run_pod(&pod()).unwrap();
    assert_eq!(*asked.lock().unwrap(), ["a:RunPodSandbox", "b:RunPodSandbox"]);
}

#[test]
fn a_large_state_is_told_in_parts() {
    let state = Remembering::default();
    let large = Pod {
        name: "x".repeat(2 << 20),
        ..pod()
    };
    *state.pods.lock().unwrap() = vec![large.clone(), large.clone(), large];
    let rig = Rig::on(state, |_| {});
    let seen = Arc::<Mutex<Vec<(usize, bool)>>>::default();
    let told = Arc::clone(&seen);
    let _plugin = Fake::new("10", "a")
        .on("Synchronize", move |request| {
            let r = wire::SynchronizeRequest::decode(request).unwrap();
            told.lock().unwrap().push((r.pods.len(), r.more));
            Reply::of(&wire::SynchronizeResponse {
                more: r.more,
                ..Default::default()
            })
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a"]);
    assert_eq!(*seen.lock().unwrap(), [(1, true), (1, true), (1, false)]);
    let _old = Fake::new("10", "old")
        .on("Synchronize", |_| Reply::Answer(Vec::new()))
        .connect(&rig.socket);
    rig.wait_told("plugin does not handle split sync requests");
}

#[test]
fn who_does_not_register_rightly_is_let_go() {
    let rig = Rig::with(|options| options.registration_timeout = Duration::from_secs(1));
    for (idx, name, told) in [
        ("1", "a", "invalid plugin index: \"1\""),
        ("10", "a/b", "invalid plugin name: \"a/b\""),
        ("10", "", "invalid plugin name: \"\""),
    ] {
        let _plugin = Fake::new(idx, name).connect(&rig.socket);
        rig.wait_told(told);
    }
    let _silent = UnixStream::connect(&rig.socket).unwrap();
    rig.wait_told("it did not register within 1000 ms");
    let mut hostile = UnixStream::connect(&rig.socket).unwrap();
    hostile.write_all(&[0xff; 64]).unwrap();
    rig.wait_told("it closed its connection");
    let _odd = Fake::new("10", "odd")
        .on("Configure", |_| {
            Reply::of(&wire::ConfigureResponse {
                events: 1 << 20,
                ..Default::default()
            })
        })
        .connect(&rig.socket);
    rig.wait_told("10-odd: invalid plugin events: 0x100000");
    assert!(rig.nri.plugins().is_empty());
    rig.nri.run_pod(&pod()).unwrap();
}

#[test]
fn the_socket_is_roots_and_of_one_runtime() {
    let rig = Rig::new();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&rig.socket), mode(rig.socket.parent().unwrap())), (0o600, 0o700));
    let start = || {
        let options = Options {
            socket: Some(rig.socket.clone()),
            plugin_dir: "/no".into(),
            ..Options::default()
        };
        Nri::start(options, Arc::new(Remembering::default()))
    };
    assert!(matches!(start(), Err(Error::Taken { .. })));
    let Rig {
        nri, socket, dir: _dir, ..
    } = rig;
    drop(nri);
    assert!(!socket.exists());
    // Left over by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let options = Options {
        socket: Some(socket.clone()),
        plugin_dir: "/no".into(),
        ..Options::default()
    };
    let nri: join::Nri = Nri::start(options, Arc::new(Remembering::default())).unwrap();
    let _plugin = Fake::new("10", "a").connect(&socket);
    wait_until("10-a", || nri.plugins() == ["10-a"]);
}

#[test]
fn a_plugin_waits_for_verbs_that_run() {
    let rig = Rig::new();
    let hold = rig.nri.hold();
    let seen = Arc::<Mutex<Vec<usize>>>::default();
    let told = Arc::clone(&seen);
    let socket = rig.socket.clone();
    let (configured, wait) = std::sync::mpsc::channel();
    let _plugin = Fake::new("10", "a")
        .on("Configure", move |_| {
            configured.send(()).unwrap();
            Reply::Answer(Vec::new())
        })
        .on("Synchronize", move |request| {
            told.lock()
                .unwrap()
                .push(wire::SynchronizeRequest::decode(request).unwrap().pods.len());
            Reply::Answer(Vec::new())
        })
        .connect(&socket);
    wait.recv().unwrap();
    // The verb ends with its pod in the state; the plugin, which came before, is told of it.
    rig.state.pods.lock().unwrap().push(pod());
    drop(hold);
    rig.wait_for(&["10-a"]);
    assert_eq!(*seen.lock().unwrap(), [1]);
}

/// Not a test but the plugin that the next test starts: this program once more, its connection as standard input.
#[test]
fn plugin_main() {
    if std::env::var("NRI_PLUGIN_SOCKET").is_err() {
        return;
    }
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let leaked = |name| &*Box::leak(std::env::var(name).unwrap().into_boxed_str());
    Fake::new("99", "registers-as-another")
        .on("Configure", move |request| {
            let config = wire::ConfigureRequest::decode(request).unwrap().config;
            let expected = format!("of {}-{}", leaked("NRI_PLUGIN_IDX"), leaked("NRI_PLUGIN_NAME"));
            if config == expected {
                Reply::Answer(Vec::new())
            } else {
                Reply::Error(2, "not the configuration")
            }
        })
        .on("StopPodSandbox", |_| std::process::exit(0))
        .run(socket);
}

#[test]
fn installed_plugins_are_started_and_ended() {
    let own = std::env::current_exe().unwrap();
    let own = own.display();
    let rig = Rig::with(|options| {
        std::fs::create_dir_all(&options.plugin_dir).unwrap();
        std::fs::create_dir_all(&options.config_dir).unwrap();
        for (name, script) in [
            (
                "10-real",
                format!("echo $$ >$(dirname $0)/pid; exec {own} --exact tests::coming::plugin_main <&3"),
            ),
            ("20-ends", "exit 1".to_owned()),
        ] {
            let path = options.plugin_dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\nexport PATH=/usr/bin:/bin\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(options.plugin_dir.join("30-broken"), "#!/no/such/shell\n").unwrap();
        let broken = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(options.plugin_dir.join("30-broken"), broken).unwrap();
        std::fs::write(options.config_dir.join("real.conf"), "of 10-real").unwrap();
    });
    assert_eq!(rig.nri.plugins(), ["10-real"]);
    rig.wait_told("20-ends is not used: it closed its connection");
    rig.wait_told("30-broken cannot be started");
    rig.nri.run_pod(&pod()).unwrap();
    let pid = std::fs::read_to_string(rig.dir.path().join("plugins/pid")).unwrap();
    let proc = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(proc.exists());
    // It dies while it is asked: the verb goes on without it, and its process is waited for.
    rig.nri.stop_pod(&pod()).unwrap();
    rig.wait_for(&[]);
    wait_until("its end", || !proc.exists());
}
