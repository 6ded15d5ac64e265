//! What a kubelet asks beyond a manifest: its own cgroups and ids, and settings of containers. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::PodId;
use cofferdam_model::cri::{IdMapping, LinuxResources, OciHook, Profile, Runtime, SandboxConfig};
use common::{SHARED, World, volume};
use std::path::{Path, PathBuf};

/// The directory of a cgroup in the hierarchy that holds memory.
fn memory(path: impl AsRef<Path>) -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup/memory");
    if v1.is_dir() { v1.join(path) } else { Path::new("/sys/fs/cgroup").join(path) }
}

/// Removes what a kubelet would remove: the parents, which are not ours.
fn remove_parents(top: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        remove_tree(&hierarchy.path().join(top));
    }
    remove_tree(&Path::new("/sys/fs/cgroup").join(top));
}

fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_tree(&entry.path());
    }
    let _ = std::fs::remove_dir(dir);
}

#[test]
fn a_pods_cgroups_lie_where_the_kubelet_says() {
    let world = World::new();
    let top = format!("cdte{}kube", world.number);
    let slice = format!("{top}-burstable-pod1_2.slice");
    let nested = format!("{top}.slice/{top}-burstable.slice/{slice}");
    for handler in ["crun", "runc", "runsc"] {
        for (asked, lies) in [(format!("/{top}/burstable/pod1-2"), format!("{top}/burstable/pod1-2")), (slice.clone(), nested.clone())] {
            let pod = world.pod_with(handler, |c| {
                c.cgroup_parent = asked.clone().into();
                c.resources.memory_limit = 512 << 20;
            });
            let group = memory(&lies).join(pod.as_str());
            assert!(group.join("sandbox").is_dir(), "{handler} {}", group.display());
            let id = world.start(&pod, "sleep 1000", |c| c.resources = LinuxResources { memory_limit: 256 << 20, cpuset_cpus: "0".into(), ..LinuxResources::default() });
            assert!(group.join(id.as_str()).is_dir());
            assert_eq!(world.exec(&id, "echo hello").1, "hello\n", "{handler}");
            if handler != "runsc" {
                let pid = world.engine.container_status(&id).unwrap().pid.unwrap();
                let within = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
                let wanted = format!("/{lies}/{pod}/{id}");
                let ours = |line: &&str| ["memory", "cpu", "pids", "devices", "freezer", "cpuset"].iter().any(|c| line.split(':').nth(1).unwrap().split(',').any(|n| n == *c));
                for line in within.lines().filter(ours) {
                    assert!(line.ends_with(&wanted), "{handler}: {line}");
                }
                let used = world.engine.stats_of_container(&id).unwrap();
                assert!(used.cgroup.memory.usage.unwrap() > 0 && used.cgroup.memory.available.unwrap() > 200 << 20, "{used:?}");
            }
            assert!(world.engine.stats_of_pod(&pod).unwrap().cgroup.memory.working_set.unwrap() > 0);
            world.engine.stop_container(&id, std::time::Duration::ZERO).unwrap();
            world.engine.remove_sandbox(&pod).unwrap();
            assert!(!group.exists(), "{handler}: {}", group.display());
            assert!(memory(&lies).is_dir(), "the kubelet's own stays");
        }
    }
    remove_parents(&top);
    remove_parents(&format!("{top}.slice"));
}

#[test]
fn a_pod_in_a_kubelets_cgroup_is_found_without_its_record() {
    let world = World::new();
    let top = format!("cdte{}lost", world.number);
    let asks = |c: &mut SandboxConfig| c.cgroup_parent = format!("/{top}/pod1").into();
    let pod = world.pod_with("crun", asks);
    world.start(&pod, "sleep 1000", |_| {});
    let group = memory(&top).join("pod1").join(pod.as_str());
    assert!(group.is_dir());
    std::fs::write(world.engine.layout().pod(&pod).record(), "{").unwrap();
    let (_, findings) = world.again();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].contains("its record cannot be read; its processes are ended"), "{findings:?}");
    assert!(!group.exists());

    let before = world.engine.list_sandboxes().unwrap().len();
    for bad in ["/../x", "a/../../b", "/", "-.slice", "/a b"] {
        let why = world.try_pod("crun", |c| c.cgroup_parent = bad.into()).unwrap_err().to_string();
        assert!(why.contains("cgroup parent"), "{bad}: {why}");
    }
    assert_eq!(world.engine.list_sandboxes().unwrap().len(), before);
    assert_eq!(std::fs::read_dir(world.engine.layout().run_pods()).unwrap().count(), 0, "nothing is left of what was refused");
    remove_parents(&top);
}

#[test]
fn the_kubelets_ids_are_the_pods() {
    let world = World::new();
    let asks = |host_id, length| {
        move |c: &mut SandboxConfig| {
            c.user_namespace = true;
            c.ids = Some(IdMapping { host_id, length });
        }
    };
    for handler in SHARED {
        let pod = world.pod_with(handler, asks(6_553_600, 131_072));
        let map = world.good(&pod, "cat /proc/self/uid_map", |_| {});
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "6553600", "131072"], "{handler}");
        let why = world.try_pod(handler, asks(6_619_136, 65_536)).unwrap_err().to_string();
        assert!(why.contains("are in use by pod \"default/pod\""), "{why}");
        world.engine.stop_sandbox(&pod).unwrap();
        // A kubelet gives the ids of a pod that has ended again.
        let next = world.pod_with(handler, asks(6_619_136, 65_536));
        for pod in [pod, next] {
            world.engine.remove_sandbox(&pod).unwrap();
        }
    }
    // Any that a kubelet may give, below 65536 too.
    let low = world.pod_with("crun", asks(1000, 100_000));
    let map = world.good(&low, "cat /proc/self/uid_map", |_| {});
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1000", "100000"]);
    world.engine.remove_sandbox(&low).unwrap();
    for (host_id, length, part) in [(65_536, 0, "too few"), (0, 65_536, "own root")] {
        let why = world.try_pod("crun", asks(host_id, length)).unwrap_err().to_string();
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn settings_of_a_container_hold() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        assert_eq!(world.good(&pod, "id -u; id -g", |c| c.security.run_as_username = "worker".into()), "1000\n1000\n", "{handler}");
        let why = world.create(&pod, "true", |c| c.security.run_as_username = "nobody-here".into()).unwrap_err().to_string();
        assert!(why.contains("nobody-here"), "{why}");

        let out = world.good(&pod, "cat /proc/version | wc -c; : > /proc/sys/kernel/hostname && echo written", |c| {
            // The default profile denies it by itself, where the kernel enforces one.
            c.security.apparmor = Some(Profile::Unconfined);
            c.security.masked_paths = Some(vec!["/proc/version".into()]);
            c.security.readonly_paths = Some(vec![]);
        });
        assert_eq!(out, "0\nwritten\n", "{handler}");

        let out = world.good(&pod, "ulimit -n; ulimit -Hn", |c| c.rlimits = vec![("RLIMIT_NOFILE".into(), 123, 456)]);
        assert_eq!(out, "123\n456\n", "{handler}");

        let id = world.start(&pod, "trap 'exit 7' USR1; echo up; while true; do sleep 0.05; done", |c| c.stop_signal = Some(10));
        common::until("it is up", || (!world.log(&world.engine.container_status(&id).unwrap()).is_empty()).then_some(()));
        world.engine.stop_container(&id, common::PATIENCE).unwrap();
        assert_eq!(world.ended(&id).exit_code, 7, "{handler}");

        let told = world.path(&format!("hook-{handler}"));
        let script = format!("cat > {}", told.display());
        let hook = OciHook { path: "/bin/sh".into(), args: vec!["sh".into(), "-c".into(), script], env: vec!["PATH=/bin:/usr/bin".into()], timeout: Some(10) };
        world.good(&pod, "true", |c| c.hooks = vec![("createRuntime".into(), hook.clone())]);
        let state = std::fs::read_to_string(&told).unwrap();
        assert!(state.contains("\"bundle\""), "{handler}: {state}");
        let why = world.create(&pod, "true", |c| c.hooks = vec![("poststop".into(), hook.clone())]).unwrap_err().to_string();
        assert!(why.contains("hooks of the stage poststop are not run"), "{why}");
        let failing = OciHook { args: ["sh", "-c", "exit 3"].map(str::to_owned).to_vec(), ..hook.clone() };
        let why = world.create(&pod, "true", |c| {
            c.hooks = vec![("createRuntime".into(), failing)];
            c.log_path = "failing.log".into();
        });
        why.unwrap_err();

        let hosts = world.path("hosts");
        std::fs::write(&hosts, "the kubelet's\n").unwrap();
        let link = world.path(&format!("link-{handler}"));
        std::os::unix::fs::symlink(&hosts, &link).unwrap();
        let out = world.good(&pod, "cat /etc/hosts; grep -c ' /etc/hosts ' /proc/self/mountinfo", |c| c.mounts = vec![volume(&link, "/etc/hosts")]);
        assert_eq!(out, "the kubelet's\n1\n", "{handler}");

        let swap = |memory_limit, memory_swap_limit| LinuxResources { memory_limit, memory_swap_limit, ..LinuxResources::default() };
        let why = world.create(&pod, "true", |c| c.resources = swap(100 << 20, 50 << 20)).unwrap_err().to_string();
        assert!(why.contains("give at least as much"), "{why}");
        world.good(&pod, "true", |c| c.resources = swap(64 << 20, 128 << 20));
        let unified = |c: &mut cofferdam_model::cri::ContainerConfig| c.resources.unified = [("memory.high".to_owned(), "50000000".to_owned())].into();
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert_eq!(world.good(&pod, "cat /sys/fs/cgroup/memory.high", unified), "49999872\n");
        } else {
            let why = world.create(&pod, "true", unified).unwrap_err().to_string();
            assert!(why.contains("memory.high, a file of cgroup v2"), "{why}");
        }
        world.engine.remove_sandbox(&pod).unwrap();
    }
    let pod = world.pod("runsc");
    let why = world.create(&pod, "true", |c| c.hooks = vec![("prestart".into(), OciHook { path: "/x".into(), ..OciHook::default() })]).unwrap_err();
    assert!(why.to_string().contains("remove the hooks"), "{why}");
}

#[test]
fn cpus_of_a_container_hold_from_its_first_moment() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let out = world.good(&pod, "grep Cpus_allowed_list /proc/self/status", |c| c.resources.cpuset_cpus = "0".into());
        assert_eq!(out, "Cpus_allowed_list:\t0\n", "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn a_removal_that_failed_is_told_and_tried_again() {
    let world = World::new();
    let pod = world.pod("crun");
    let at = world.engine.layout().pod(&pod).dir.join("busy");
    std::fs::create_dir(&at).unwrap();
    let mount = |args: &[&str]| assert!(std::process::Command::new(args[0]).args(&args[1..]).status().unwrap().success());
    mount(&["mount", "-t", "tmpfs", "none", &at.to_string_lossy()]);
    assert_eq!(world.engine.failed_cleanups(), vec![]);
    world.engine.remove_sandbox(&pod).unwrap_err();
    let left = |world: &World| world.engine.failed_cleanups().into_iter().map(|(id, _)| id).collect::<Vec<PodId>>();
    assert_eq!(left(&world), std::slice::from_ref(&pod));
    assert!(world.engine.sandbox_status(&pod).unwrap().reason.unwrap().contains("its removal failed and is tried again"));
    assert!(world.engine.retry_cleanups().into_iter().all(|(id, outcome)| id == pod && outcome.is_err()));
    mount(&["umount", &at.to_string_lossy()]);
    assert!(world.engine.retry_cleanups().into_iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!((left(&world), world.engine.list_sandboxes().unwrap().len()), (vec![], 0));
}

#[test]
fn an_end_that_nobody_watched_is_told_to_who_listens_next() {
    let world = World::new();
    let pod = world.pod("crun");
    let id = world.start(&pod, "exit 5", |_| {});
    world.ended(&id);
    let (again, findings) = world.again();
    assert_eq!(findings, Vec::<String>::new());
    let events = cofferdam_engine::Shared(again).events();
    match events.recv_timeout(common::PATIENCE).unwrap() {
        cofferdam_model::cri::Event::ContainerExited { pod: of, container, exit_code } => assert_eq!((of, container, exit_code), (pod, id, 5)),
        other => panic!("{other:?}"),
    }
}
