//! `cofferdam cri` within the cgroups of a kubelet, of either driver and on either version of cgroups: limits,
//! usage, changes in place, and what stays the kubelet's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod cri;
mod kubelet_cgroup;

use cofferdam_cri_api::v1;
use common::{ALL, World};
use cri::{Daemon, Kubelet};
use kubelet_cgroup::{MIB, POD_MEMORY, Parent, ROOT, assert_held, read, resources, unified, with};
use std::fs;
use std::path::Path;

/// Whether the kernel tells of pressure: in groups of v2 alone.
fn pressure() -> bool {
    unified() && Path::new("/proc/pressure/cpu").exists()
}

#[test]
fn a_kubelets_pod_is_held_and_measured_where_the_kubelet_says() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let mut daemon = Daemon::start(&world);
    for (handler, number) in [("crun", 0), ("crun", 1), ("runc", 0), ("runc", 2), ("runsc", 1)] {
        let parent = match number {
            0 => Parent::paths(&world),
            more => Parent::slices(&world, more == 1),
        };
        let what = format!("{handler} in {}", parent.asked);
        let pod = kubelet.run_pod(parent.pod_config(&kubelet, handler), handler).unwrap();
        let mut asked = resources(&parent, 64 * MIB, 50_000, 512, true);
        if handler != "runsc" {
            asked.hugepage_limits[0].limit = 4 << 20;
        }
        let id = kubelet.begin(&pod, with(kubelet.container_config("app", 0, "sleep 100000"), asked));
        let group = Path::new(&pod).join(&id);
        assert_held(&parent, &group, 64 * MIB, 50_000, ("512", "20"), &what);
        if handler != "runsc" && parent.file("hugetlb", "hugetlb.2MB.max").exists() {
            assert_eq!(
                read(parent.file("hugetlb", "").join(&group).join("hugetlb.2MB.max")),
                "4194304",
                "{what}"
            );
        }
        let of_pod = parent.file("memory", &pod);
        if unified() {
            // systemd, which knows of nothing below its slice, takes away there what it sees no need for: in vain.
            for controller in read(of_pod.join("cgroup.subtree_control")).split(' ') {
                let taken = fs::write(parent.file("", "cgroup.subtree_control"), format!("-{controller}"));
                assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::ResourceBusy, "{what}: {controller}");
            }
        }
        assert_ne!(
            read(of_pod.join("sandbox/cgroup.procs")),
            "",
            "{what}: the enclosure's own processes"
        );
        assert_eq!(read(of_pod.join("cgroup.procs")), "", "{what}");

        kubelet.assert_alive(&id);
        if handler != "runsc" {
            let seen = |script: &str| String::from_utf8(kubelet.exec(&id, script, 60).unwrap().stdout).unwrap();
            let lies = format!("/{}/{pod}/{id}", parent.lies.display());
            let own = read(format!("/proc/{}/cgroup", kubelet.container_pid(&id)));
            assert!(own.lines().any(|line| line.ends_with(&lies)), "{what}: {own}");
            if unified() {
                assert_eq!(own, format!("0::{lies}"), "{what}");
                // It sees itself at the root, and so does a command that came later: it is in the same one.
                assert_eq!(
                    seen("cat /proc/self/cgroup /sys/fs/cgroup/memory.max"),
                    format!("0::/\n{}\n", 64 * MIB),
                    "{what}"
                );
            } else {
                assert!(seen("cat /proc/self/cgroup").contains(&lies), "{what}");
            }
            // Devices: the standard ones, and no other, made by whom it may be.
            assert_eq!(
                seen("head -c 3 /dev/zero | wc -c; mknod /fuse c 10 229; cat /fuse 2>&1"),
                "3\ncat: can't open '/fuse': Operation not permitted\n",
                "{what}"
            );
        }
        daemon.strike();
        daemon = Daemon::start(&world);
        assert_measured(&kubelet, &parent, &pod, &id, handler);
        change(&kubelet, &parent, &pod, &id, &what);

        if number == 1 {
            kubelet.stop_pod(&pod).unwrap();
            parent.assert_untouched(&what);
            // A kubelet removes its own cgroup when the pod has ended, which may be before the sandbox is removed.
            drop(parent);
            kubelet.remove_pod(&pod).unwrap();
        } else {
            kubelet.end_pod(&pod);
            parent.assert_untouched(&what);
        }
    }
    assert_eq!(kubelet.pods(), vec![]);
    daemon.end();
}

/// What a kubelet is told of a running container and its pod.
#[track_caller]
fn assert_measured(kubelet: &Kubelet, parent: &Parent, pod: &str, id: &str, handler: &str) {
    let of_pod = || {
        let request = v1::PodSandboxStatsRequest {
            pod_sandbox_id: pod.into(),
        };
        let answer = kubelet.ask(async |mut c| c.pod_sandbox_stats(request).await).unwrap().into_inner();
        answer.stats.unwrap().linux.unwrap()
    };
    let of_container = || {
        let request = v1::ContainerStatsRequest { container_id: id.into() };
        kubelet
            .ask(async |mut c| c.container_stats(request).await)
            .unwrap()
            .into_inner()
            .stats
            .unwrap()
    };
    let number = |v: Option<v1::UInt64Value>| v.map(|v| v.value);
    let all = of_pod();
    assert_eq!(all.containers.len(), 1, "{handler}");
    assert!(number(all.process.as_ref().unwrap().process_count) >= Some(2), "{handler}: {all:?}");
    let one = of_container();
    let (cpu, memory) = (one.cpu.unwrap(), one.memory.unwrap());
    // The sentry's own clock may not have counted an idle container yet.
    let idle = if handler == "runsc" { None } else { Some(0) };
    assert!(number(cpu.usage_core_nano_seconds) > idle, "{handler}: {cpu:?}");
    let whole = all.memory.as_ref().unwrap();
    let (of_all, of_one) = (number(whole.working_set_bytes).unwrap(), number(memory.working_set_bytes).unwrap());
    // They are asked one after the other.
    assert!(of_one > 0 && of_all + (1 << 20) > of_one, "{handler}: {whole:?} {memory:?}");
    let pressures = [&all.cpu.as_ref().unwrap().psi, &whole.psi, &all.io.and_then(|io| io.psi)].map(Option::is_some);
    assert_eq!(pressures, [pressure(); 3], "{handler}: pressure of the pod");
    if handler == "runsc" {
        return;
    }
    let pressures = [&cpu.psi, &memory.psi, &one.io.and_then(|io| io.psi)].map(Option::is_some);
    assert_eq!(pressures, [pressure(); 3], "{handler}: pressure of the container");
    let available = number(memory.available_bytes).unwrap() + number(memory.working_set_bytes).unwrap();
    assert_eq!(available, u64::try_from(64 * MIB).unwrap(), "{handler}");
    if !unified() {
        return;
    }
    let group = parent.file("", pod).join(id);
    let field = |file: &str, name: &str| {
        let text = read(group.join(file));
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{name} in {text}"))
    };
    let counted = field("memory.current", "").saturating_sub(field("memory.stat", "inactive_file "));
    let told = number(of_container().memory.unwrap().working_set_bytes).unwrap();
    assert!(told.abs_diff(counted) < 2 << 20, "{handler}: told {told}, counted {counted}");
    // Traffic to disks, where the container's file system is on one.
    kubelet.exec(id, "dd if=/dev/zero of=/f bs=65536 count=64 conv=fsync", 300).unwrap();
    let numbers = read(group.join("io.stat"));
    let of_each = numbers
        .split_ascii_whitespace()
        .filter_map(|f| f.strip_prefix("wbytes=")?.parse::<u64>().ok());
    assert_eq!(written(kubelet, pod, id), of_each.sum::<u64>(), "{handler}: {numbers}");
    // One that is held back for its CPU limit waits for the CPU.
    kubelet.exec(id, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done", 300).unwrap();
    let busy = of_container().cpu.unwrap();
    assert_eq!(
        busy.psi.as_ref().is_some_and(|psi| psi.some.as_ref().unwrap().total > 0),
        pressure(),
        "{handler}: {:?}",
        busy.psi
    );
    let (told, counted) = (number(busy.usage_core_nano_seconds).unwrap(), field("cpu.stat", "usage_usec "));
    assert!(
        told / 1000 <= counted && told / 1000 > counted / 2,
        "{handler}: told {told}, counted {counted}"
    );
}

/// The bytes that a container wrote to disks, as a scrape tells.
#[track_caller]
fn written(kubelet: &Kubelet, pod: &str, id: &str) -> u64 {
    let request = v1::ListPodSandboxMetricsRequest::default();
    let all = kubelet
        .ask(async |mut c| c.list_pod_sandbox_metrics(request).await)
        .unwrap()
        .into_inner();
    let of_pod = all.pod_metrics.into_iter().find(|p| p.pod_sandbox_id == pod).unwrap();
    let own = of_pod.container_metrics.into_iter().find(|c| c.container_id == id).unwrap();
    let bytes = own.metrics.iter().filter(|m| m.name == "container_fs_writes_bytes_total");
    bytes.map(|m| m.value.as_ref().unwrap().value).sum()
}

/// Limits are changed, of the container and of the pod, whose own cgroup is the kubelet's to change.
#[track_caller]
fn change(kubelet: &Kubelet, parent: &Parent, pod: &str, id: &str, what: &str) {
    let more = resources(parent, 96 * MIB, 80_000, 1024, true);
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(more.clone()),
        ..Default::default()
    };
    kubelet.ask(async |mut c| c.update_container_resources(request).await).unwrap();
    assert_held(parent, &Path::new(pod).join(id), 96 * MIB, 80_000, ("1024", "39"), what);
    let told = kubelet.status(id).unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(
        (told.memory_limit_in_bytes, told.cpu_quota, told.cpu_shares),
        (96 * MIB, 80_000, 1024),
        "{what}"
    );
    let sandbox = |memory| {
        Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            ..Default::default()
        })
    };
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.into(),
        overhead: sandbox(8 * MIB),
        resources: sandbox(96 * MIB),
    };
    kubelet.ask(async |mut c| c.update_pod_sandbox_resources(request).await).unwrap();
    assert_eq!(read(parent.memory("memory.max")), POD_MEMORY, "{what}");
    let none = read(parent.memory(&format!("{pod}/memory.max")));
    assert!(
        none == "max" || none.len() > 15,
        "{what}: the kubelet's limit is around it, and it has none of its own: {none}"
    );
}

#[test]
fn without_a_kubelets_cgroup_the_pods_own_is_limited_overhead_included() {
    let world = World::new();
    let kubelet = Kubelet::new(&world);
    let daemon = Daemon::start(&world);
    let limit = |memory, cpu_quota| {
        Some(v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota,
            memory_limit_in_bytes: memory,
            ..Default::default()
        })
    };
    for handler in ALL {
        let mut config = kubelet.pod_config(handler, 0);
        let linux = config.linux.as_mut().unwrap();
        (linux.overhead, linux.resources) = (limit(100 * MIB, 10_000), limit(64 * MIB, 50_000));
        let pod = kubelet.run_pod(config, handler).unwrap();
        let held = |memory: i64, quota: i64| {
            let at = |controller: &str, v1: &str, v2: &str| {
                let point = if unified() { ROOT.into() } else { Path::new(ROOT).join(controller) };
                read(point.join("cofferdam").join(&pod).join(if unified() { v2 } else { v1 }))
            };
            let found = (
                at("memory", "memory.limit_in_bytes", "memory.max"),
                at("cpu", "cpu.cfs_quota_us", "cpu.max"),
            );
            let of_cpu = if unified() { format!("{quota} 100000") } else { quota.to_string() };
            assert_eq!(found, (memory.to_string(), of_cpu), "{handler}");
        };
        held(164 * MIB, 60_000);
        let id = kubelet.begin(&pod, kubelet.container_config("app", 0, "sleep 100000"));
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.clone(),
            overhead: limit(100 * MIB, 10_000),
            resources: limit(128 * MIB, 80_000),
        };
        kubelet.ask(async |mut c| c.update_pod_sandbox_resources(request).await).unwrap();
        held(228 * MIB, 90_000);
        kubelet.assert_alive(&id);
        kubelet.end_pod(&pod);
    }
    daemon.end();
}

#[test]
fn a_kubelet_is_told_the_driver() {
    let world = World::bare();
    let kubelet = Kubelet::new(&world);
    let systemd = Path::new("/run/systemd/system").is_dir();
    let found = if systemd {
        v1::CgroupDriver::Systemd
    } else {
        v1::CgroupDriver::Cgroupfs
    };
    for (set, told) in [
        ("auto", found),
        ("systemd", v1::CgroupDriver::Systemd),
        ("cgroupfs", v1::CgroupDriver::Cgroupfs),
    ] {
        world.drop_in("cri.toml", &format!("[cri]\ncgroup_driver = \"{set}\"\n"));
        let daemon = Daemon::start(&world);
        let answer = kubelet
            .ask(async |mut c| c.runtime_config(v1::RuntimeConfigRequest {}).await)
            .unwrap()
            .into_inner();
        assert_eq!(answer.linux.unwrap().cgroup_driver(), told, "{set}");
        daemon.end();
    }
}
