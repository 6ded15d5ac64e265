//! What a pod's manifest gives its containers, under each handler: environment, volumes, order,
//! what they share, what becomes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, SHARED, WAITS, World, app, container, end_of, message, object, pod, pod_in, with_volume};
use serde_json::{Value, json};

const TELL: &str = "/dev/termination-log";

/// Runs a pod of each handler beside configuration objects, and compares what each told.
#[track_caller]
fn each(objects: &[Value], script: &str, want: &str, change: impl Fn(&mut Value)) {
    let world = World::new();
    let mut all: Vec<Value> = objects.to_vec();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[app(&format!("({script}) > {TELL} 2>&1"))]);
        change(&mut pod);
        all.push(pod);
    }
    let (_, report) = world.report(&all);
    for handler in ALL {
        assert_eq!(message(&report, handler, "app").trim(), want, "under {handler}");
    }
}

fn config_map() -> Value {
    object("ConfigMap", "settings", json!({"data": {"COLOUR": "green", "file.txt": "of the map"}}))
}

fn secret() -> Value {
    object("Secret", "keys", json!({"stringData": {"token": "s3cret"}}))
}

#[test]
fn environment_comes_from_values_config_maps_secrets_fields_and_the_image() {
    each(&[config_map(), secret()], "echo $PLAIN $COLOUR $TOKEN $NAME $FROM_IMAGE $TWICE", "plain green s3cret POD yes plain+plain", |pod| {
        // Of three pods with three names only this knows which is asked.
        pod["metadata"]["labels"] = json!({"word": "POD"});
        pod["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
        pod["spec"]["containers"][0]["env"] = json!([
            {"name": "PLAIN", "value": "plain"},
            {"name": "TWICE", "value": "$(PLAIN)+$(PLAIN)"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['word']"}}},
        ]);
    });
}

#[test]
fn a_config_map_is_a_volume() {
    each(&[config_map()], "cat /v/file.txt; ls /v", "of the mapCOLOUR\nfile.txt", |pod| {
        with_volume(pod, &json!({"configMap": {"name": "settings"}}));
    });
}

#[test]
fn a_secret_is_a_volume_with_its_mode_and_is_never_on_disk() {
    each(&[secret()], "cat /v/token; stat -L -c ' %a' /v/token", "s3cret 400", |pod| {
        with_volume(pod, &json!({"secret": {"secretName": "keys", "defaultMode": 0o400}}));
    });
}

#[test]
fn an_empty_dir_on_disk_is_shared_by_the_containers_and_writable() {
    let world = World::new();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[
            app(&format!("until grep -q shared /v/word 2>/dev/null; do sleep 0.05; done; cat /v/word > {TELL}")),
            container("writer", "echo shared > /v/word"),
        ]);
        with_volume(&mut pod, &json!({"emptyDir": {}}));
        pod["spec"]["containers"][1]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), "shared", "{handler}");
    }
}

#[test]
fn an_empty_dir_in_memory_is_a_tmpfs_of_its_size_shared_by_the_containers() {
    let world = World::new();
    for handler in SHARED {
        let mut pod = pod(handler, handler, &[
            app(&format!("until [ -e /v/word ]; do sleep 0.05; done; (stat -f -c %T /v; df -k /v | awk 'END {{print $2}}') > {TELL}")),
            container("writer", "touch /v/word"),
        ]);
        with_volume(&mut pod, &json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}));
        pod["spec"]["containers"][1]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), "tmpfs\n1024", "{handler}");
    }
}

#[test]
fn an_empty_dir_in_memory_is_writable_under_gvisor_too() {
    let world = World::new();
    let mut pod = pod("p", "runsc", &[app(&format!("echo word > /v/x; cat /v/x > {TELL}"))]);
    with_volume(&mut pod, &json!({"emptyDir": {"medium": "Memory"}}));
    assert_eq!(message(&world.report(&[pod]).1, "p", "app").trim(), "word");
}

#[test]
fn the_volumes_group_owns_what_is_made_in_memory_and_on_disk() {
    let world = World::new();
    for volume in [json!({"emptyDir": {"medium": "Memory"}}), json!({"emptyDir": {}})] {
        world.asserts(&ALL, &format!("touch /v/x; stat -c %u:%g /v/x > {TELL}"), "1000:3000", |pod| {
            with_volume(pod, &volume);
            pod["spec"]["securityContext"] = json!({"runAsUser": 1000, "fsGroup": 3000});
        });
    }
}

#[test]
fn a_host_path_is_read_and_written() {
    let world = World::new();
    std::fs::write(world.out().join("given"), "from the machine").unwrap();
    world.asserts(&ALL, &format!("cat /v/given > {TELL}; touch /v/$(hostname)"), "from the machine", |pod| {
        with_volume(pod, &json!({"hostPath": {"path": world.out(), "type": "Directory"}}));
    });
    let mut made = common::names(&world.out());
    made.sort();
    assert_eq!(made, ["crun", "given", "runc", "runsc"]);
}

#[test]
fn a_read_only_volume_cannot_be_written() {
    let world = World::new();
    world.asserts(&ALL, &format!("touch /v/x 2>/dev/null && echo written > {TELL} || echo refused > {TELL}"), "refused", |pod| {
        with_volume(pod, &json!({"hostPath": {"path": world.out()}}));
        pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    });
}

#[test]
fn a_host_path_that_must_be_there_and_is_not_keeps_the_pod_from_starting() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("exit 0")]);
    with_volume(&mut pod, &json!({"hostPath": {"path": "/no/such/dir", "type": "Directory"}}));
    let (code, report) = world.report(&[pod]);
    assert_eq!((code, pod_in(&report, "p")["began"].as_bool()), (125, Some(false)), "{}", common::brief(&report));
    assert!(pod_in(&report, "p")["message"].as_str().unwrap().contains("/no/such/dir"), "{}", common::brief(&report));
}

#[test]
fn a_missing_config_map_keeps_the_pod_from_starting() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("exit 0")]);
    with_volume(&mut pod, &json!({"configMap": {"name": "nowhere"}}));
    let (code, report) = world.report(&[pod]);
    assert_eq!((code, pod_in(&report, "p")["began"].as_bool()), (125, Some(false)), "{}", common::brief(&report));
    assert!(report.to_string().contains("nowhere"), "{}", common::brief(&report));
}

#[test]
fn volumes_are_gone_with_their_pod() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("echo x > /v/x")]);
    with_volume(&mut pod, &json!({"emptyDir": {}}));
    world.report(&[pod]);
    assert!(common::names(&world.root().join("volumes")).is_empty());
}

#[test]
fn init_containers_run_one_after_another_before_the_containers() {
    let world = World::new();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[app(&format!("cat /v/order > {TELL}"))]);
        with_volume(&mut pod, &json!({"emptyDir": {}}));
        let init = |name: &str| {
            let mut c = container(name, &format!("sleep 0.1; echo {name} >> /v/order"));
            c["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
            c
        };
        pod["spec"]["initContainers"] = json!([init("first"), init("second")]);
        assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), "first\nsecond", "{handler}");
    }
}

#[test]
fn a_failed_init_container_ends_the_pod_with_its_code_and_nothing_else_runs() {
    let world = World::new();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[app("touch /v/ran")]);
        with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
        pod["spec"]["initContainers"] = json!([container("init", "exit 17")]);
        assert_eq!(world.report(&[pod]).0, 17, "{handler}");
        assert!(common::names(&world.out()).is_empty(), "{handler}");
    }
}

#[test]
fn a_sidecar_runs_beside_the_container_and_ends_after_it() {
    let world = World::new();
    for handler in ALL {
        let mut pod = pod(handler, handler, &[app("until [ -e /v/sidecar ]; do sleep 0.05; done; echo app >> /v/order")]);
        with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
        let mut sidecar = container("side", "touch /v/sidecar; trap 'echo sidecar >> /v/order; exit 0' TERM; while :; do sleep 0.05; done");
        sidecar["restartPolicy"] = json!("Always");
        sidecar["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        pod["spec"]["initContainers"] = json!([sidecar]);
        assert_eq!(world.report(&[pod]).0, 0, "{handler}");
        assert_eq!(std::fs::read_to_string(world.out().join("order")).unwrap(), "app\nsidecar\n", "{handler}");
        for file in ["order", "sidecar"] {
            std::fs::remove_file(world.out().join(file)).unwrap();
        }
    }
}

#[test]
fn containers_of_a_pod_share_its_network() {
    let world = World::new();
    for handler in ALL {
        let pod = pod(handler, handler, &[
            app(&format!("until nc -w 1 127.0.0.1 8080 < /dev/null > {TELL} && [ -s {TELL} ]; do sleep 0.1; done")),
            container("server", "while :; do echo hello | nc -l -p 8080; done & until [ -e /tmp/never ]; do sleep 0.2; i=$((i+1)); [ $i -gt 20 ] && exit 0; done"),
        ]);
        assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), "hello", "{handler}");
    }
}

#[test]
fn containers_of_a_pod_share_dev_shm() {
    let world = World::new();
    for handler in SHARED {
        let pod = pod(handler, handler, &[
            app(&format!("until [ -e /dev/shm/word ]; do sleep 0.05; done; stat -f -c %T /dev/shm > {TELL}")),
            container("writer", "touch /dev/shm/word"),
        ]);
        assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), "tmpfs", "{handler}");
    }
}

#[test]
fn two_pods_do_not_share_dev_shm() {
    let world = World::new();
    let (_, report) = world.report(&[
        pod("one", "crun", &[app("touch /dev/shm/word; sleep 1")]),
        pod("two", "crun", &[app(&format!("sleep 0.5; ls /dev/shm | wc -l > {TELL}"))]),
    ]);
    assert_eq!(message(&report, "two", "app").trim(), "0");
}

#[test]
fn containers_see_each_others_processes_only_where_the_pod_says_so() {
    let world = World::new();
    for handler in SHARED {
        for (shared, want) in [(true, "seen"), (false, "alone")] {
            let script = format!(
                "until [ -e /v/there ]; do sleep 0.1; done; grep -lq 'sleep.1234[5]' /proc/[0-9]*/cmdline && echo seen > {TELL} || echo alone > {TELL}; touch /v/over"
            );
            let other = "sleep 12345 & touch /v/there; until [ -e /v/over ]; do sleep 0.1; done; kill $!";
            let mut pod = pod(handler, handler, &[app(&script), container("other", other)]);
            with_volume(&mut pod, &json!({"emptyDir": {}}));
            pod["spec"]["containers"][1]["volumeMounts"] = pod["spec"]["containers"][0]["volumeMounts"].clone();
            pod["spec"]["shareProcessNamespace"] = json!(shared);
            assert_eq!(message(&world.report(&[pod]).1, handler, "app").trim(), want, "{handler}, shared: {shared}");
        }
    }
}

#[test]
fn a_failed_container_is_started_again_where_the_policy_says_so() {
    for handler in ALL {
        let world = World::new();
        let mut pod = pod("p", handler, &[app("[ -e /v/again ] && exit 0; touch /v/again; exit 1")]);
        with_volume(&mut pod, &json!({"emptyDir": {}}));
        pod["spec"]["restartPolicy"] = json!("OnFailure");
        let (code, report) = world.report(&[pod]);
        assert_eq!((code, pod_in(&report, "p")["restarts"].as_i64()), (0, Some(1)), "{handler}: {}", common::brief(&report));
    }
}

#[test]
fn a_container_that_fails_again_and_again_is_held_back() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("exit 1")]);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    let mut run = common::Running(world.spawn(&["run", "-f", "-"], common::manifest(&[pod]).as_bytes()));
    let lines = common::Lines::of(run.0.stderr.take().unwrap());
    lines.wait_for("CrashLoopBackOff");
    common::signal(run.0.id(), rustix::process::Signal::INT);
    common::until("it ends", || run.0.try_wait().unwrap());
}

#[test]
fn a_pod_that_takes_too_long_is_ended_with_its_reason() {
    let world = World::new();
    let pods: Vec<Value> = ALL
        .iter()
        .map(|handler| {
            let mut pod = pod(handler, handler, &[app(WAITS)]);
            pod["spec"]["activeDeadlineSeconds"] = json!(2);
            pod
        })
        .collect();
    let (code, report) = world.report(&pods);
    assert_ne!(code, 0);
    for handler in ALL {
        assert_eq!(pod_in(&report, handler)["reason"], "DeadlineExceeded", "{}", common::brief(&report));
    }
}

#[test]
fn the_termination_message_comes_from_its_own_path() {
    let world = World::new();
    let pods: Vec<Value> = ALL
        .iter()
        .map(|handler| {
            let mut pod = pod(handler, handler, &[app("echo last word > /tmp/last; exit 4")]);
            pod["spec"]["containers"][0]["terminationMessagePath"] = json!("/tmp/last");
            pod
        })
        .collect();
    let (_, report) = world.report(&pods);
    for handler in ALL {
        assert_eq!(message(&report, handler, "app"), "last word\n", "{handler}");
    }
}

#[test]
fn the_termination_message_falls_back_to_the_log_of_a_failed_container() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("echo to the log; exit 4")]);
    pod["spec"]["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    let (_, report) = world.report(&[pod]);
    assert_eq!(message(&report, "p", "app").trim(), "to the log");
    assert_eq!(end_of(&report, "p", "app")["exitCode"], 4);
}

#[test]
fn working_directory_and_arguments_are_the_pods() {
    let world = World::new();
    world.asserts(&ALL, "", "/tmp one two", |pod| {
        let c = &mut pod["spec"]["containers"][0];
        c["command"] = json!(["sh", "-c", format!("echo $PWD $1 $2 > {TELL}"), "sh"]);
        c["args"] = json!(["one", "two"]);
        c["workingDir"] = json!("/tmp");
    });
}

#[test]
fn the_host_name_is_the_pods() {
    let world = World::new();
    world.asserts(&ALL, &format!("hostname > {TELL}; cat /etc/hostname >> {TELL}; grep -w chosen /etc/hosts | cut -f2- | sort -u >> {TELL}"), "chosen\nchosen\nchosen", |pod| {
        pod["spec"]["hostname"] = json!("chosen");
    });
}

#[test]
fn a_pre_stop_hook_runs_before_the_signal() {
    let world = World::new();
    let mut pod = pod("p", "crun", &[app("trap 'echo signal >> /v/order; exit 0' TERM; while :; do sleep 0.05; done")]);
    with_volume(&mut pod, &json!({"hostPath": {"path": world.out()}}));
    pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /v/order"]}}});
    world.detach(&[pod]);
    world.call(&["stop", "p"]).good();
    assert_eq!(std::fs::read_to_string(world.out().join("order")).unwrap(), "hook\nsignal\n");
}
