//! Pods with a user namespace of their own (`hostUsers: false`): whoever is root inside is nobody on the
//! machine, and volumes show the ids that they have on disk all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::web::{PORT, SERVES, address, get_from, until_get};
use common::{SHARED, WAITS, World, app, brief, container, end_of, message, object, pod, pod_in, with_volume};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const TELL: &str = "/dev/termination-log";

fn own_users(pod: &mut Value) {
    pod["spec"]["hostUsers"] = json!(false);
}

/// A pod of a handler with users of its own.
fn apart(name: &str, handler: &str, containers: &[Value]) -> Value {
    let mut pod = pod(name, handler, containers);
    own_users(&mut pod);
    pod
}

/// User and group of a process on the machine.
fn ids_of(pid: i64) -> (u32, u32) {
    let meta = fs::metadata(format!("/proc/{pid}")).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn each_pod_has_a_range_of_ids_of_its_own() {
    let world = World::new();
    let mut user = apart("user", "crun", &[app(WAITS)]);
    user["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 2000});
    world.detach(&[
        apart("runc", "runc", &[app(WAITS)]),
        apart("crun", "crun", &[app(WAITS), container("second", WAITS)]),
        user,
        pod("machines", "runc", &[app(WAITS)]),
    ]);
    let mut ranges = BTreeSet::new();
    for pod in ["runc", "crun", "user"] {
        let map = |args: &[&str]| {
            world
                .call(&[&["exec", pod], args, &["--", "cat", "/proc/self/uid_map", "/proc/self/gid_map"]].concat())
                .good()
                .out
        };
        let inside = map(&["-c", "app"]);
        let fields: Vec<u32> = inside.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let first = fields[1];
        assert_eq!(fields, [0, first, 65_536, 0, first, 65_536], "{pod}");
        assert!(first >= 65_536 && first.is_multiple_of(65_536), "{pod}: {first}");
        let (user, group) = if pod == "user" { (1000, 2000) } else { (0, 0) };
        assert_eq!(ids_of(world.container_pid(pod)), (first + user, first + group), "{pod}");
        if pod == "crun" {
            assert_eq!(map(&["-c", "second"]), inside, "the containers of a pod share them");
        }
        assert!(ranges.insert(first), "{pod} shares {first} with another");
    }
    assert_eq!(ids_of(world.container_pid("machines")), (0, 0));
    // Nothing of the machine's belongs to a pod's root for longer than the pod is there.
    world.call(&["stop", "runc", "crun", "user", "--grace", "0"]).good();
    world.detach(&[apart("next", "crun", &[app(WAITS)])]);
    assert!(ranges.contains(&ids_of(world.container_pid("next")).0), "ranges are given again");
}

#[test]
fn root_inside_has_its_own_files_and_none_of_the_machines_powers() {
    let world = World::new();
    let script = "set -e; exec 2>&1; trap 'echo failed' EXIT
         id -u; id -g; stat -c %u:%g /bin/busybox /etc/passwd /tmp
         echo x > /etc/new; chown 1000:1000 /etc/new; stat -c %u:%g /etc/new
         echo x > /dev/shm/new; stat -c %u:%g /dev/shm/new; echo x > /dev/null
         hostname other 2> /dev/null && echo renamed; mknod /tmp/disk b 254 0 2> /dev/null && echo disk
         for file in /proc/sys/kernel/panic /proc/sysrq-trigger /proc/1/oom_score_adj; do [ -e $file ] && (echo -1000 > $file) 2> /dev/null && echo wrote $file; done
         trap - EXIT";
    let want = "0\n0\n0:0\n0:0\n0:0\n1000:1000\n0:0";
    world.asserts(&SHARED, &format!("({script}) > {TELL}"), want, own_users);
}

#[test]
fn files_on_volumes_have_the_ids_inside_that_they_have_on_disk() {
    let world = World::new();
    for handler in SHARED {
        let dir = world.out().join(handler);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        for (name, id) in [("of-root", 0), ("of-worker", 1000), ("of-nobody-inside", 70_000)] {
            fs::write(dir.join(name), name).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
            chown(dir.join(name), Some(id), Some(id)).unwrap();
        }
        let mut p = apart(
            "p",
            handler,
            &[
                app(&format!(
                    "cd /v; (stat -c %u:%g of-root of-worker of-nobody-inside; cat of-root of-worker of-nobody-inside 2> /dev/null; echo; echo x > by-root; stat -c %u:%g by-root) > {TELL}"
                )),
                container(
                    "worker",
                    "cd /v; echo x > by-worker; mkdir dir-of-worker; cat of-worker && ! cat of-root",
                ),
            ],
        );
        with_volume(&mut p, &json!({"hostPath": {"path": dir}}));
        p["spec"]["containers"][1]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        p["spec"]["containers"][1]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1000});
        let (code, report) = world.report(&[p]);
        assert_eq!(code, 0, "{handler}: {}", brief(&report));
        // An id that the pod has none for is the kernel's nobody, and its files are not root's to read.
        let want = "0:0\n1000:1000\n65534:65534\nof-rootof-worker\n0:0";
        assert_eq!(message(&report, "p", "app").trim(), want, "{handler}");
        for (name, id) in [("by-root", 0), ("by-worker", 1000), ("dir-of-worker", 1000)] {
            let meta = fs::metadata(dir.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (id, id), "{handler}: {name} on disk");
        }
    }
}

#[test]
fn volumes_of_all_kinds_are_the_pods_own() {
    let world = World::new();
    let objects = [
        object("Secret", "s", json!({"stringData": {"k": "secret"}})),
        object("ConfigMap", "c", json!({"data": {"k": "config"}})),
    ];
    let volumes = json!([
        {"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}}, {"name": "config", "configMap": {"name": "c"}},
        {"name": "down", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    let mounts: Vec<Value> = ["disk", "memory", "secret", "config", "down"]
        .iter()
        .map(|n| json!({"name": n, "mountPath": format!("/{n}")}))
        .collect();
    let script =
        "cat /secret/k /config/k /down/name; echo; for v in disk memory; do echo $v > /$v/by-$(id -u); stat -c %u:%g /$v/by-$(id -u); done";
    let check = "cat /disk/by-0 /memory/by-0; cd /memory; for n in 1 2 3; do head -c 500000 /dev/zero > $n || break; done 2> /dev/null; rm -f 1 2 3; echo $n";
    for handler in SHARED {
        let mut plain = apart(
            "plain",
            handler,
            &[
                app(&format!("({script}) > {TELL} 2>&1")),
                container(
                    "after",
                    &format!("while ! [ -e /memory/by-0 ]; do sleep 0.05; done; ({check}) > {TELL} 2>&1"),
                ),
            ],
        );
        let mut grouped = apart("grouped", handler, &[app(&format!("({script}) > {TELL} 2>&1"))]);
        grouped["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 3000});
        for pod in [&mut plain, &mut grouped] {
            pod["spec"]["volumes"] = volumes.clone();
            for container in pod["spec"]["containers"].as_array_mut().unwrap() {
                container["volumeMounts"] = json!(mounts);
            }
        }
        let (code, report) = world.report(&[&objects[..], &[plain, grouped]].concat());
        assert_eq!(code, 0, "{handler}: {}", brief(&report));
        assert_eq!(message(&report, "plain", "app").trim(), "secretconfigplain\n0:0\n0:0", "{handler}");
        assert_eq!(
            message(&report, "plain", "after").trim(),
            "disk\nmemory\n3",
            "{handler}: shared, and bounded"
        );
        assert_eq!(
            message(&report, "grouped", "app").trim(),
            "secretconfiggrouped\n1000:3000\n1000:3000",
            "{handler}: fsGroup"
        );
    }
}

#[test]
fn its_network_is_like_any_others() {
    let world = World::new();
    let port = 17_000 + world.net.split('.').nth(2).unwrap().parse::<u16>().unwrap();
    // Below 1024, which only root of the network namespace may.
    let serves = SERVES.replace("8080", "80");
    world.detach(&SHARED.map(|handler| {
        let mut serving = apart(handler, handler, &[app(&serves)]);
        if handler == "crun" {
            serving["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": port}]);
        }
        serving
    }));
    world.detach(&[pod("machines", "crun", &[app(SERVES)])]);
    for (handler, other) in [("runc", "crun"), ("crun", "runc")] {
        assert!(until_get(address(&world, handler), 80).starts_with(handler));
        let own = address(&world, handler);
        assert_eq!(
            get_from(&world, handler, address(&world, other), 80),
            Some(format!("{other} {own}"))
        );
        until_get(address(&world, "machines"), PORT);
        assert_eq!(
            get_from(&world, handler, address(&world, "machines"), PORT),
            Some(format!("machines {own}"))
        );
    }
    assert!(until_get([127, 0, 0, 1], port).starts_with("crun"));
}

#[test]
fn the_rest_of_a_pod_works_inside() {
    let world = World::new();
    for handler in SHARED {
        // A restart, a sub path, shared process ids, a read-only root, an init container, standard output.
        let mut p = apart(
            "p",
            handler,
            &[app(
                "cd /v; [ -e once ] || { touch once; exit 1; }; ls -la > all; echo told; [ $$ != 1 ]",
            )],
        );
        with_volume(&mut p, &json!({"emptyDir": {}}));
        p["spec"]["initContainers"] = json!([container("init", "exit 0")]);
        p["spec"]["restartPolicy"] = json!("OnFailure");
        p["spec"]["shareProcessNamespace"] = json!(true);
        p["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("deep/below");
        p["spec"]["containers"][0]["securityContext"] = json!({"readOnlyRootFilesystem": true});
        let (code, report) = world.report(&[p]);
        assert_eq!(code, 0, "{handler}: {}", brief(&report));
        assert_eq!(end_of(&report, "p", "app")["exitCode"], 0);
        let mut open = apart(
            "open",
            handler,
            &[
                app("! grep -q ' /proc/[a-z]' /proc/mounts"),
                container("masked", "grep -q ' /proc/[a-z]' /proc/mounts"),
            ],
        );
        open["spec"]["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"});
        let (code, report) = world.report(&[open]);
        assert_eq!(code, 0, "{handler}: {}", brief(&report));
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let world = World::new();
    let answer = world.run(&[apart("p", "runsc", &[app("exit 0")])], &[]);
    let told = "gVisor's users are those of its own kernel, and their ids on volumes cannot be mapped; remove hostUsers: false";
    assert!(answer.code == Some(121) && answer.err.contains(told), "{answer:?}");
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let mut p = apart("p", "crun", &[app("exit 0")]);
        p["spec"][field] = json!(true);
        let answer = world.run(&[p], &[]);
        assert!(
            answer.code == Some(120)
                && answer
                    .err
                    .contains(&format!("spec.{field} cannot be true where hostUsers is false")),
            "{answer:?}"
        );
    }
    // A file system that the kernel cannot show with other ids.
    let (code, report) = world.report(&SHARED.map(|handler| {
        let mut p = apart(handler, handler, &[app("exit 0")]);
        with_volume(&mut p, &json!({"hostPath": {"path": "/sys/kernel"}}));
        p
    }));
    assert_ne!(code, 0);
    for handler in SHARED {
        let told = pod_in(&report, handler)["message"].as_str().unwrap();
        let want = "/sys/kernel is on a file system whose ids the kernel cannot map, as hostUsers: false needs it";
        assert!(told.contains(want), "{handler}: {told}");
    }
}
