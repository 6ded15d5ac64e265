//! What several plugins ask for about one container.

use super::fake::{Fake, Reply};
use super::*;
use crate::wire::{self, Event};
use crate::{Adjustment, Created, Error};
use cofferdam_model::cri::{ContainerConfig, LinuxResources, Mount, Profile};
use prost::Message;

fn adjust(change: impl FnOnce(&mut wire::ContainerAdjustment)) -> wire::ContainerAdjustment {
    let linux = wire::LinuxContainerAdjustment {
        resources: Some(Default::default()),
        ..Default::default()
    };
    let mut adjust = wire::ContainerAdjustment {
        linux: Some(linux),
        ..Default::default()
    };
    change(&mut adjust);
    adjust
}

fn linux(change: impl FnOnce(&mut wire::LinuxContainerAdjustment)) -> wire::ContainerAdjustment {
    adjust(|a| change(a.linux.as_mut().unwrap()))
}

fn limits(change: impl FnOnce(&mut wire::LinuxResources)) -> wire::ContainerAdjustment {
    linux(|l| change(l.resources.as_mut().unwrap()))
}

fn env(key: &str, value: &str) -> wire::KeyValue {
    wire::KeyValue {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn bind(destination: &str, source: &str) -> wire::Mount {
    let options = vec!["ro".to_owned()];
    wire::Mount {
        destination: destination.to_owned(),
        r#type: "bind".to_owned(),
        source: source.to_owned(),
        options,
    }
}

fn null(path: &str) -> wire::LinuxDevice {
    wire::LinuxDevice {
        path: path.to_owned(),
        r#type: "c".to_owned(),
        major: 1,
        minor: 3,
        ..Default::default()
    }
}

fn cdi(name: &str) -> wire::CdiDevice {
    wire::CdiDevice { name: name.to_owned() }
}

fn hook(path: &str) -> wire::Hook {
    wire::Hook {
        path: path.to_owned(),
        ..Default::default()
    }
}

fn nofile(soft: u64) -> wire::PosixRlimit {
    wire::PosixRlimit {
        r#type: "RLIMIT_NOFILE".to_owned(),
        hard: 100,
        soft,
    }
}

fn int64(value: i64) -> Option<wire::OptionalInt64> {
    Some(wire::OptionalInt64 { value })
}

fn uint64(value: u64) -> Option<wire::OptionalUInt64> {
    Some(wire::OptionalUInt64 { value })
}

fn cpu(change: impl FnOnce(&mut wire::LinuxCpu)) -> wire::ContainerAdjustment {
    limits(|r| change(r.cpu.get_or_insert_default()))
}

fn memory(change: impl FnOnce(&mut wire::LinuxMemory)) -> wire::ContainerAdjustment {
    limits(|r| change(r.memory.get_or_insert_default()))
}

/// What plugins `10-a` and `20-b` make of a container together.
fn together(rig: &Rig, container: &Container, a: wire::ContainerAdjustment, b: wire::ContainerAdjustment) -> crate::Result<Created> {
    let events = &[Event::CreateContainer];
    let first = Fake::new("10", "a").wants(events).adjusts(a).connect(&rig.socket);
    let second = Fake::new("20", "b").wants(events).adjusts(b).connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    let created = rig.nri.create_container(&pod(), container);
    first.hang_up();
    second.hang_up();
    rig.wait_for(&[]);
    created
}

#[test]
fn what_plugins_ask_for_is_added_up() {
    let rig = Rig::new();
    let requested = ContainerConfig {
        env: vec![("KEEP".into(), "1".into()), ("DROP".into(), "1".into())],
        mounts: vec![Mount {
            container_path: "/old".into(),
            host_path: "/x".into(),
            ..Mount::default()
        }],
        rlimits: vec![("RLIMIT_NOFILE".into(), 1, 2)],
        resources: LinuxResources {
            cpu_shares: 2,
            pids_limit: 5,
            ..LinuxResources::default()
        },
        args: vec!["old".into()],
        ..ContainerConfig::default()
    };
    let container = Container::new("ctr1", "pod1", &requested);
    let a = adjust(|a| {
        a.annotations = [("a".into(), "1".into()), ("shared".into(), "a".into())].into();
        a.env = vec![env("-DROP", ""), env("NEW", "a=b")];
        a.mounts = vec![bind("-/old", ""), bind("/data", "/srv/a")];
        a.cdi_devices = vec![cdi("vendor.com/gpu=0")];
        a.hooks = Some(wire::Hooks {
            create_runtime: vec![hook("/bin/a")],
            ..Default::default()
        });
        a.rlimits = vec![nofile(50)];
        a.args = vec!["first".into()];
        let linux = a.linux.as_mut().unwrap();
        linux.devices = vec![null("/dev/a")];
        linux.oom_score_adj = Some(wire::OptionalInt { value: -5 });
        let resources = linux.resources.as_mut().unwrap();
        resources.memory.get_or_insert_default().limit = int64(1 << 20);
        resources.cpu = Some(wire::LinuxCpu {
            shares: uint64(100),
            cpus: "0-1".into(),
            ..Default::default()
        });
        resources.unified.insert("memory.high".into(), "1000".into());
    });
    // The later one takes over what it removes first, and adds.
    let b = adjust(|b| {
        b.annotations = [("-shared".into(), String::new()), ("shared".into(), "b".into())].into();
        b.env = vec![env("OTHER", "2")];
        b.mounts = vec![bind("-/data", ""), bind("/data", "/srv/b")];
        b.hooks = Some(wire::Hooks {
            create_runtime: vec![hook("/bin/b")],
            ..Default::default()
        });
        b.args = vec![String::new(), "second".into(), "arg".into()];
        let linux = b.linux.as_mut().unwrap();
        linux.devices = vec![null("-/dev/a")];
        linux.resources.as_mut().unwrap().cpu.get_or_insert_default().quota = int64(500);
    });
    let created = together(&rig, &container, a, b).unwrap();
    let mut made = requested.clone();
    created.adjustment.apply(&mut made);
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    assert_eq!(
        made.annotations.into_iter().collect::<Vec<_>>(),
        pairs(&[("a", "1"), ("shared", "b")])
    );
    assert_eq!(made.env, pairs(&[("KEEP", "1"), ("NEW", "a=b"), ("OTHER", "2")]));
    let mounts: Vec<_> = made
        .mounts
        .iter()
        .map(|m| (m.container_path.to_str().unwrap(), m.host_path.to_str().unwrap(), m.readonly))
        .collect();
    assert_eq!(mounts, [("/data", "/srv/b", true)]);
    assert_eq!(made.cdi_devices, ["vendor.com/gpu=0"]);
    let hooks: Vec<_> = made
        .hooks
        .iter()
        .map(|(stage, h)| (stage.as_str(), h.path.to_str().unwrap()))
        .collect();
    assert_eq!(hooks, [("createRuntime", "/bin/a"), ("createRuntime", "/bin/b")]);
    assert_eq!(made.rlimits, [("RLIMIT_NOFILE".to_owned(), 50, 100)]);
    assert_eq!((made.command, made.args), (vec!["second".to_owned(), "arg".to_owned()], vec![]));
    assert!(made.devices.is_empty());
    let expected = LinuxResources {
        cpu_shares: 100,
        cpu_quota: 500,
        cpuset_cpus: "0-1".into(),
        memory_limit: 1 << 20,
        pids_limit: 5,
        oom_score_adj: Some(-5),
        unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
        ..LinuxResources::default()
    };
    assert_eq!(made.resources, expected);
}

#[test]
fn the_next_plugin_sees_what_the_one_before_changed() {
    let rig = Rig::new();
    let a = adjust(|a| {
        a.env = vec![env("NEW", "1"), env("IMAGE", "changed")];
        a.mounts = vec![bind("/data", "/srv")];
        a.args = vec!["run".into()];
        a.annotations = [("k".into(), "v".into())].into();
        a.linux.as_mut().unwrap().resources.as_mut().unwrap().pids = Some(wire::LinuxPids { limit: 9 });
    });
    let events = &[Event::CreateContainer];
    let _first = Fake::new("10", "a").wants(events).adjusts(a).connect(&rig.socket);
    let seen = Arc::<Mutex<Option<wire::ContainerRequest>>>::default();
    let told = Arc::clone(&seen);
    let _second = Fake::new("20", "b")
        .wants(events)
        .on("CreateContainer", move |request| {
            *told.lock().unwrap() = Some(wire::ContainerRequest::decode(request).unwrap());
            Reply::Answer(Vec::new())
        })
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    let requested = Container {
        image_env: vec![("IMAGE".into(), "1".into()), ("PATH".into(), "/bin".into())],
        env: vec![("PATH".into(), "/own".into())],
        seccomp: Profile::Localhost("/profile".into()),
        ..container()
    };
    rig.nri.create_container(&pod(), &requested).unwrap();
    let request = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (request.pod.unwrap().name, request.container.as_ref().unwrap().name.clone()),
        ("web".into(), "app".into())
    );
    let seen = request.container.unwrap();
    assert_eq!(seen.env, ["PATH=/own", "NEW=1", "IMAGE=changed"]);
    assert_eq!(seen.mounts[0].destination, "/data");
    assert_eq!((seen.args, seen.annotations["k"].as_str()), (vec!["run".to_owned()], "v"));
    let linux = seen.linux.unwrap();
    assert_eq!(linux.seccomp_profile.unwrap().localhost_ref, "/profile");
    assert_eq!(linux.resources.unwrap().pids.unwrap().limit, 9);
}

#[test]
fn two_plugins_cannot_set_the_same() {
    let rig = Rig::new();
    let hugepages = || {
        vec![wire::HugepageLimit {
            page_size: "2MB".into(),
            limit: 1,
        }]
    };
    for (what, asked) in [
        ("annotation \"k\"", adjust(|a| a.annotations = [("k".into(), "v".into())].into())),
        ("mount \"/data\"", adjust(|a| a.mounts = vec![bind("/data", "/srv")])),
        ("environment variable \"X\"", adjust(|a| a.env = vec![env("X", "1")])),
        ("args", adjust(|a| a.args = vec!["x".into()])),
        ("CDI device \"v/c=n\"", adjust(|a| a.cdi_devices = vec![cdi("v/c=n")])),
        ("rlimit \"RLIMIT_NOFILE\"", adjust(|a| a.rlimits = vec![nofile(1)])),
        ("device \"/dev/x\"", linux(|l| l.devices = vec![null("/dev/x")])),
        (
            "OOM score adjustment",
            linux(|l| l.oom_score_adj = Some(wire::OptionalInt { value: 1 })),
        ),
        ("memory limit", memory(|m| m.limit = int64(1))),
        ("memory swap limit", memory(|m| m.swap = int64(1))),
        ("CPU shares", cpu(|c| c.shares = uint64(2))),
        ("CPU quota", cpu(|c| c.quota = int64(1))),
        ("CPU period", cpu(|c| c.period = uint64(1))),
        ("CPU pinning", cpu(|c| c.cpus = "0".into())),
        ("memory pinning", cpu(|c| c.mems = "0".into())),
        ("pids limit", limits(|r| r.pids = Some(wire::LinuxPids { limit: 1 }))),
        ("hugepage limit of size \"2MB\"", limits(|r| r.hugepage_limits = hugepages())),
        (
            "cgroup file \"memory.high\"",
            limits(|r| r.unified = [("memory.high".into(), "1".into())].into()),
        ),
    ] {
        let error = together(&rig, &container(), asked.clone(), asked).unwrap_err();
        assert_eq!(error.to_string(), format!("plugins \"20-b\" and \"10-a\" both tried to set {what}"));
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let rig = Rig::new();
    let requested = Container {
        image_env: vec![("PATH".into(), "/bin".into())],
        ..container()
    };
    let class = || Some(wire::OptionalString { value: "x".into() });
    let present = || Some(wire::Present {});
    for (field, asked) in [
        ("the cgroups path", linux(|l| l.cgroups_path = "/x".into())),
        ("namespaces", linux(|l| l.namespaces = vec![wire::LinuxNamespace::default()])),
        ("sysctls", linux(|l| l.sysctl = [("a".into(), "b".into())].into())),
        (
            "network devices",
            linux(|l| l.net_devices = [("eth1".into(), wire::Present {})].into()),
        ),
        ("the I/O priority", linux(|l| l.io_priority = present())),
        ("the seccomp policy", linux(|l| l.seccomp_policy = present())),
        ("the scheduler", linux(|l| l.scheduler = present())),
        ("RDT", linux(|l| l.rdt = present())),
        ("the memory policy", linux(|l| l.memory_policy = present())),
        (
            "OOM score adjustment",
            linux(|l| l.oom_score_adj = Some(wire::OptionalInt { value: 1001 })),
        ),
        (
            "devices",
            linux(|l| {
                l.devices = vec![wire::LinuxDevice {
                    minor: 999,
                    ..null("/dev/x")
                }]
            }),
        ),
        ("devices", linux(|l| l.devices = vec![null("-/dev/null")])),
        ("the memory reservation", memory(|m| m.reservation = int64(1))),
        ("the kernel memory limit", memory(|m| m.kernel = int64(1))),
        ("the kernel TCP memory limit", memory(|m| m.kernel_tcp = int64(1))),
        ("the swappiness", memory(|m| m.swappiness = uint64(0))),
        (
            "the OOM killer",
            memory(|m| m.disable_oom_killer = Some(wire::OptionalBool { value: true })),
        ),
        (
            "the memory hierarchy",
            memory(|m| m.use_hierarchy = Some(wire::OptionalBool { value: false })),
        ),
        ("the CPU realtime runtime", cpu(|c| c.realtime_runtime = int64(1))),
        ("the CPU realtime period", cpu(|c| c.realtime_period = uint64(1))),
        ("the block I/O class", limits(|r| r.blockio_class = class())),
        ("the RDT class", limits(|r| r.rdt_class = class())),
        (
            "device cgroup rules",
            limits(|r| r.devices = vec![wire::LinuxDeviceCgroup::default()]),
        ),
        ("unified resources", limits(|r| r.unified = [("../x".into(), "1".into())].into())),
        ("mounts", adjust(|a| a.mounts = vec![bind("-/proc", "")])),
        (
            "mounts",
            adjust(|a| {
                a.mounts = vec![wire::Mount {
                    r#type: "tmpfs".into(),
                    ..bind("/t", "tmpfs")
                }]
            }),
        ),
        ("env", adjust(|a| a.env = vec![env("-PATH", "")])),
        ("env", adjust(|a| a.env = vec![env("A=B", "")])),
        (
            "hooks",
            adjust(|a| {
                a.hooks = Some(wire::Hooks {
                    poststop: vec![hook("rel")],
                    ..Default::default()
                })
            }),
        ),
    ] {
        let error = together(&rig, &requested, Default::default(), asked).unwrap_err();
        let start = format!("NRI plugin \"20-b\" asks to change {field} of container ctr1: ");
        assert!(error.to_string().starts_with(&start), "{field}: {error}");
    }
    // What asks for nothing passes.
    let nothing = memory(|m| {
        (m.kernel, m.disable_oom_killer) = (int64(0), Some(wire::OptionalBool { value: false }));
        m.use_hierarchy = Some(wire::OptionalBool { value: true });
    });
    let env = adjust(|a| a.env = vec![env("-NOT_THERE", ""), env("-PATH", ""), env("PATH", "/new")]);
    let created = together(&rig, &requested, nothing, env).unwrap();
    let mut made = ContainerConfig::default();
    created.adjustment.apply(&mut made);
    assert_eq!(made.env, [("PATH".to_owned(), "/new".to_owned())]);
    assert!(
        together(&rig, &requested, Default::default(), adjust(|_| {}))
            .unwrap()
            .adjustment
            .is_empty()
    );
}

#[test]
fn a_field_that_was_cleared_belongs_to_who_cleared_it() {
    let rig = Rig::new();
    let set = || adjust(|a| a.env = vec![env("X", "1")]);
    let first = Fake::new("10", "a").adjusts(set()).connect(&rig.socket);
    let second = Fake::new("20", "b")
        .adjusts(adjust(|a| a.env = vec![env("-X", "")]))
        .connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b"]);
    let created = rig.nri.create_container(&pod(), &container()).unwrap();
    assert_eq!(
        created.adjustment,
        Adjustment {
            env: vec![("X".into(), None)],
            ..Adjustment::default()
        }
    );
    let third = Fake::new("30", "c").adjusts(set()).connect(&rig.socket);
    rig.wait_for(&["10-a", "20-b", "30-c"]);
    let error = rig.nri.create_container(&pod(), &container()).unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { plugin, other, .. } if plugin == "30-c" && other == "20-b"),
        "{error}"
    );
    drop((first, second, third));
}
