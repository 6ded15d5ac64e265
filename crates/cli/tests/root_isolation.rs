//! What holds a container: resources, users, capabilities, devices, namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, SHARED, World, app, container, end_of, merge, pod, pod_in};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const TELL: &str = "/dev/termination-log";

/// Sets the securityContext of the first container.
fn security(pod: &mut Value, context: &Value) {
    merge(&mut pod["spec"]["containers"][0]["securityContext"], context);
}

fn limits(pod: &mut Value, requests: &Value, limits: &Value) {
    pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": limits});
}

#[test]
fn a_container_that_takes_more_memory_than_its_limit_is_killed_with_the_reason() {
    let world = World::new();
    for handler in SHARED {
        // `tail` keeps all that it is to print.
        let mut pod = pod(handler, handler, &[app("")]);
        pod["spec"]["containers"][0]["command"] = json!(["tail", "-c", "200000000", "/dev/zero"]);
        limits(&mut pod, &json!({}), &json!({"memory": "32Mi"}));
        let (code, report) = world.report(&[pod]);
        assert_eq!((code, end_of(&report, handler, "app")["reason"].as_str()), (137, Some("OOMKilled")), "{handler}: {}", common::brief(&report));
    }
}

#[test]
fn a_gvisor_pod_that_takes_more_memory_than_its_limit_is_killed_with_the_reason() {
    let world = World::new();
    let mut pod = pod("p", "runsc", &[app("")]);
    pod["spec"]["containers"][0]["command"] = json!(["tail", "-c", "400000000", "/dev/zero"]);
    limits(&mut pod, &json!({}), &json!({"memory": "64Mi"}));
    let (code, report) = world.report(&[pod]);
    assert_eq!((code, end_of(&report, "p", "app")["reason"].as_str()), (137, Some("OOMKilled")), "{}", common::brief(&report));
    assert_eq!(pod_in(&report, "p")["phase"], "Failed");
}

/// The value of a controller's file in a group of a pod, on v1 or v2.
fn cgroup(group: &str, v1: &str, v2: &str) -> String {
    let root = Path::new("/sys/fs/cgroup");
    let controller = v1.split('.').next().unwrap();
    let files = [root.join(controller).join("cofferdam").join(group).join(v1), root.join("cofferdam").join(group).join(v2)];
    let found: Vec<PathBuf> = files.into_iter().filter(|f| f.exists()).collect();
    std::fs::read_to_string(found.first().unwrap_or_else(|| panic!("{group} has neither {v1} nor {v2}"))).unwrap().trim().to_owned()
}

/// The cgroup of a pod, and that of its only container.
fn groups(world: &World, pod: &str) -> (String, String) {
    let id = world.id_of(pod);
    let containers = common::names(&world.root().join("pods").join(&id).join("c"));
    (id.clone(), format!("{id}/{}", containers[0]))
}

fn with_limits(handler: &str) -> Value {
    let mut pod = pod(handler, handler, &[app(common::WAITS)]);
    limits(&mut pod, &json!({"cpu": "250m", "memory": "32Mi"}), &json!({"cpu": "500m", "memory": "64Mi"}));
    pod
}

#[test]
fn limits_are_in_the_containers_cgroup() {
    let world = World::new();
    world.detach(&ALL.map(with_limits));
    for handler in ALL {
        let (_, container) = groups(&world, handler);
        assert_eq!(cgroup(&container, "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string(), "{handler}");
        assert_eq!(cgroup(&container, "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some("50000"), "{handler}");
        if Path::new("/sys/fs/cgroup/cpu").exists() {
            assert_eq!(cgroup(&container, "cpu.shares", "-"), "256", "{handler}");
        }
    }
}

#[test]
fn the_pods_cgroup_has_the_sum_and_the_overhead_of_its_class() {
    let world = World::new();
    world.detach(&ALL.map(with_limits));
    for (handler, memory, quota) in [("runc", 64u64 << 20, "50000"), ("crun", 64 << 20, "50000"), ("runsc", 128 << 20, "55000")] {
        let (pod, _) = groups(&world, handler);
        assert_eq!(cgroup(&pod, "memory.limit_in_bytes", "memory.max"), memory.to_string(), "{handler}");
        assert_eq!(cgroup(&pod, "cpu.cfs_quota_us", "cpu.max").split(' ').next(), Some(quota), "{handler}");
    }
}

#[test]
fn every_process_of_a_pod_is_in_the_pods_cgroup() {
    let world = World::new();
    world.detach(&ALL.map(with_limits));
    for handler in ALL {
        let id = world.id_of(handler);
        let processes = common::traces::processes(&world, std::slice::from_ref(&id));
        assert!(processes.len() >= 2, "{handler}: a monitor and a container at least");
        for process in processes {
            let groups = std::fs::read_to_string(process.join("cgroup")).unwrap();
            // v1 hierarchies that no limit needs (freezer, systemd) and v2's empty one are not used.
            let used = |line: &&str| [":memory:", ":cpu:", ":pids:", ":devices:"].iter().any(|c| line.contains(c)) || line.contains("0::/cofferdam");
            for line in groups.lines().filter(used) {
                assert!(line.contains(&id), "{handler}: {} is in {line}", process.display());
            }
        }
    }
}

#[test]
fn user_and_groups_are_the_pods() {
    let world = World::new();
    world.asserts(&ALL, &format!("echo $(id -u) $(id -g) $(id -G) > {TELL}"), "1000 2000 2000 3000", |pod| {
        security(pod, &json!({"runAsUser": 1000, "runAsGroup": 2000}));
        pod["spec"]["securityContext"] = json!({"supplementalGroups": [3000]});
    });
}

#[test]
fn a_container_that_must_not_be_root_and_would_be_does_not_start() {
    let world = World::new();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[app("exit 0")]);
        security(&mut pod, &json!({"runAsNonRoot": true}));
        let (code, report) = world.report(&[pod]);
        assert_eq!(pod_in(&report, handler)["began"], false, "{handler}: {}", common::brief(&report));
        assert_ne!(code, 0);
    }
}

/// The mask of capabilities(7) numbers.
fn mask(bits: &[u32]) -> String {
    format!("{:016x}", bits.iter().map(|bit| 1u64 << bit).sum::<u64>())
}

#[test]
fn capabilities_are_the_default_set_where_the_pod_says_nothing() {
    let world = World::new();
    let tell = format!("grep CapEff /proc/self/status | cut -f2 > {TELL}");
    world.asserts(&SHARED, &tell, &mask(&[29, 0, 1, 3, 4, 5, 27, 10, 13, 31, 6, 8, 7, 18]), |_| {});
    // gVisor keeps NET_RAW (13) back unless its own flag `net-raw` is set.
    world.asserts(&["runsc"], &tell, &mask(&[29, 0, 1, 3, 4, 5, 27, 10, 31, 6, 8, 7, 18]), |_| {});
}

#[test]
fn capabilities_are_added_and_dropped() {
    let world = World::new();
    let tell = format!("grep CapEff /proc/self/status | cut -f2 > {TELL}");
    world.asserts(&ALL, &tell, &mask(&[10, 12]), |pod| {
        security(pod, &json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_BIND_SERVICE"]}}));
    });
}

#[test]
fn a_privileged_container_has_all_capabilities_that_the_machine_gives() {
    let world = World::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    let tell = format!("grep CapEff /proc/self/status | cut -f2 > {TELL}");
    world.asserts(&SHARED, &tell, &ours, |pod| security(pod, &json!({"privileged": true})));
}

#[test]
fn no_new_privileges_only_where_escalation_is_not_allowed() {
    let world = World::new();
    let tell = format!("grep NoNewPrivs /proc/self/status | cut -f2 > {TELL}");
    world.asserts(&SHARED, &tell, "1", |pod| security(pod, &json!({"allowPrivilegeEscalation": false})));
    world.asserts(&SHARED, &tell, "0", |_| {});
}

#[test]
fn a_read_only_root_cannot_be_written() {
    let world = World::new();
    let script = format!("touch /root/x 2>/dev/null && echo written > {TELL} || echo refused > {TELL}");
    world.asserts(&ALL, &script, "refused", |pod| security(pod, &json!({"readOnlyRootFilesystem": true})));
    world.asserts(&ALL, &script, "written", |_| {});
}

#[test]
fn a_device_of_the_machine_cannot_be_opened() {
    let world = World::new();
    let script = format!("mknod /tmp/disk b 254 0; dd if=/tmp/disk of=/dev/null bs=512 count=1 2> /tmp/err && echo READ > {TELL} || echo refused > {TELL}");
    world.asserts(&ALL, &script, "refused", |_| {});
}

/// The machine's first disk, `major minor`.
fn a_disk() -> String {
    let disks = common::names(Path::new("/sys/block"));
    let disk = disks.iter().min().expect("a machine without any block device");
    std::fs::read_to_string(Path::new("/sys/block").join(disk).join("dev")).unwrap().trim().replace(':', " ")
}

#[test]
fn a_device_of_the_machine_is_denied_by_the_cgroup_and_open_to_the_privileged() {
    let world = World::new();
    let script = format!(
        "mknod /tmp/disk b {} || exit 1; dd if=/tmp/disk of=/dev/null bs=512 count=0 2> /tmp/err && echo open > {TELL} || grep -o 'Operation not permitted' /tmp/err > {TELL}",
        a_disk()
    );
    world.asserts(&SHARED, &script, "Operation not permitted", |_| {});
    world.asserts(&SHARED, &script, "open", |pod| security(pod, &json!({"privileged": true})));
}

#[test]
fn the_standard_devices_work() {
    let world = World::new();
    let script = format!("echo x > /dev/null && head -c 4 /dev/zero | wc -c > {TELL} && head -c 4 /dev/urandom > /tmp/r && [ -c /dev/full ] && [ -e /dev/pts/ptmx ]");
    world.asserts(&ALL, &script, "4", |_| {});
}

#[test]
fn a_container_sees_only_its_own_processes() {
    let world = World::new();
    // The shell, the one that it forks, ls and wc.
    let script = format!("n=$(ls -d /proc/[0-9]* | wc -l); [ $n -le 4 ] && echo own > {TELL} || echo $n > {TELL}");
    world.asserts(&ALL, &script, "own", |_| {});
}

#[test]
fn gvisor_pods_see_gvisors_kernel_and_the_others_the_machines() {
    let world = World::new();
    let machine = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned();
    for (handler, kernel) in world.ask(&ALL, &format!("uname -r > {TELL}"), |_| {}) {
        assert_eq!(kernel.trim() == machine, handler != "runsc", "{handler} saw {kernel}");
    }
}

#[test]
fn the_machines_namespaces_are_given_where_asked_for() {
    let world = World::new();
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for (field, kind) in [("hostNetwork", "net"), ("hostPID", "pid"), ("hostIPC", "ipc")] {
        world.asserts(&SHARED, &format!("readlink /proc/self/ns/{kind} > {TELL}"), &own(kind), |pod| pod["spec"][field] = json!(true));
    }
}

#[test]
fn no_namespace_is_the_machines_where_not_asked_for() {
    let world = World::new();
    let kinds = ["net", "pid", "ipc", "uts", "mnt"];
    let script = format!("for k in {}; do readlink /proc/self/ns/$k; done > {TELL}", kinds.join(" "));
    for (handler, answer) in world.ask(&SHARED, &script, |_| {}) {
        for (kind, got) in kinds.iter().zip(answer.lines()) {
            assert_ne!(got, std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap(), "{handler}");
        }
    }
}

#[test]
fn gvisor_refuses_the_machines_namespaces_with_one_sentence_and_nothing_runs() {
    let world = World::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let mut pod = pod("p", "runsc", &[app("touch /v/ran")]);
        common::with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
        pod["spec"][field] = json!(true);
        let sentence = format!("gVisor cannot give a pod the machine's namespaces; remove {field}");
        world.run(&[pod], &[]).fails(121, &sentence);
        assert!(common::names(&world.out()).is_empty());
    }
}

#[test]
fn sysctls_of_the_pod_are_its_own_and_those_of_the_machine_are_refused() {
    let world = World::new();
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap();
    world.asserts(&SHARED, &format!("cat /proc/sys/kernel/shmmax > {TELL}"), "1234567", |pod| {
        pod["spec"]["securityContext"] = json!({"sysctls": [{"name": "kernel.shmmax", "value": "1234567"}]});
    });
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shmmax").unwrap(), before);
    let mut bad = pod("bad", "crun", &[app("exit 0")]);
    bad["spec"]["securityContext"] = json!({"sysctls": [{"name": "kernel.panic", "value": "1"}]});
    let answer = world.run(&[bad], &["-o", "json"]);
    assert!(answer.code >= Some(120), "{answer:?}");
}

#[test]
fn a_container_cannot_unmask_what_is_masked() {
    let world = World::new();
    let script = format!("(cat /proc/kcore | head -c 1 | wc -c; umount /proc/kcore 2>/dev/null && echo UNMASKED; echo 1 > /proc/sys/kernel/panic 2>/dev/null && echo WRITTEN; true) > {TELL}");
    world.asserts(&SHARED, &script, "0", |_| {});
}

#[test]
fn limits_hold_for_each_container_of_a_pod_by_itself() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[container("big", ""), container("small", "sleep 1; exit 0")]);
    pod["spec"]["containers"][0]["command"] = json!(["tail", "-c", "200000000", "/dev/zero"]);
    limits(&mut pod, &json!({}), &json!({"memory": "32Mi"}));
    let (_, report) = world.report(&[pod]);
    assert_eq!(end_of(&report, "p", "big")["reason"], "OOMKilled");
    assert_eq!(end_of(&report, "p", "small")["exitCode"], 0);
}

/// Whether this machine has cgroup v2 alone.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_container_sees_its_own_cgroup_and_cannot_change_it() {
    let world = World::new();
    let files = if unified() { "memory.max" } else { "memory/memory.limit_in_bytes" };
    // On v2 its own group is the root that it sees, as Kubernetes has it; v1 names the machine's.
    let name = if unified() { "cat /proc/self/cgroup" } else { "echo 0::/" };
    let script = format!("cd /sys/fs/cgroup; {{ cat {files}; {name}; echo 1 2>/dev/null >{files} || echo refused; }} >{TELL}");
    world.asserts(&SHARED, &script, "67108864\n0::/\nrefused", |pod| limits(pod, &json!({}), &json!({"memory": "64Mi"})));
}

#[test]
fn a_process_killed_for_memory_takes_its_container_with_it_on_v2() {
    let world = World::new();
    for handler in SHARED {
        let mut pod = pod(handler, handler, &[app(&format!("tail -c 200000000 /dev/zero & wait $!; echo outlived > {TELL}"))]);
        limits(&mut pod, &json!({}), &json!({"memory": "32Mi"}));
        let (code, report) = world.report(&[pod]);
        if unified() {
            assert_eq!((code, end_of(&report, handler, "app")["reason"].as_str()), (137, Some("OOMKilled")), "{handler}");
        } else {
            assert_eq!(common::message(&report, handler, "app").trim(), "outlived", "{handler}");
        }
    }
}
