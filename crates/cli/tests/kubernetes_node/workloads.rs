//! Pods as controllers and people make them: roll-outs, probes, volumes, ports, ends.

use crate::cluster::{ADDRESS, CLASSES, Cluster, IMAGE, WAITS, http, pod};

#[test]
#[ignore = "needs a node"]
fn a_deployment_of_three_sandboxed_replicas_is_rolled_to_another_class() {
    let cluster = Cluster::new();
    let deployment = |class: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: api}}, spec: {{replicas: 3, selector: {{matchLabels: {{app: api}}}}, \
             template: {{metadata: {{labels: {{app: api}}}}, spec: {{runtimeClassName: {class}, terminationGracePeriodSeconds: 2, \
             containers: [{{name: c, image: '{IMAGE}', command: [sh, -c, \"{WAITS}\"]}}]}}}}}}}}"
        )
    };
    let kernels = || {
        let pods = cluster
            .kubectl(&[
                "get",
                "pods",
                "--selector",
                "app=api",
                "--field-selector",
                "status.phase=Running",
                "--output",
                "name",
            ])
            .good();
        pods.lines()
            .map(|p| cluster.exec(p, "uname -r").out.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let machine = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    cluster.apply(&deployment("gvisor"));
    cluster
        .kubectl(&["rollout", "status", "deployment/api", "--timeout", "120s"])
        .good();
    assert!(
        kernels().iter().all(|k| k != machine.trim() && !k.is_empty()) && kernels().len() == 3,
        "{:?}",
        kernels()
    );
    cluster.apply(&deployment("crun"));
    cluster
        .kubectl(&["rollout", "status", "deployment/api", "--timeout", "120s"])
        .good();
    cluster.until("only the new replicas are left", || {
        cluster.get("pods")["items"].as_array().is_some_and(|p| p.len() == 3)
    });
    assert_eq!(kernels(), [machine.trim(); 3]);
}

#[test]
#[ignore = "needs a node"]
fn a_failing_liveness_probe_starts_the_container_again() {
    let cluster = Cluster::new();
    let probe = "livenessProbe: {exec: {command: [test, '!', -e, /tmp/sick]}, periodSeconds: 1, failureThreshold: 2}";
    cluster.one_each(WAITS, probe);
    for class in CLASSES {
        cluster.exec(class, "touch /tmp/sick").good();
    }
    for class in CLASSES {
        cluster.until(&format!("{class} was started again"), || {
            let status = cluster.get(&format!("pod/{class}"))["status"]["containerStatuses"][0].clone();
            status["restartCount"] == 1 && status["ready"] == true
        });
        cluster.event(class, "Unhealthy", "Liveness probe failed");
    }
}

#[test]
#[ignore = "needs a node"]
fn a_readiness_probe_over_http_reaches_the_pod() {
    let cluster = Cluster::new();
    let probe = "readinessProbe: {httpGet: {path: /ok, port: 8080}, periodSeconds: 1}";
    for class in CLASSES {
        cluster.apply(&pod(class, class, "exec httpd -f -p 8080 -h /tmp", probe));
        cluster.phase(class, "Running");
        cluster.event(class, "Unhealthy", "Readiness probe failed");
        cluster.until("it can be told to be well", || cluster.exec(class, "touch /tmp/ok").code == 0);
    }
    cluster.ready(&CLASSES);
}

#[test]
#[ignore = "needs a node"]
fn init_containers_sidecars_and_containers_in_their_order() {
    let cluster = Cluster::new();
    for class in CLASSES {
        let mounts = "volumeMounts: [{name: shared, mountPath: /shared}]";
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {class}}}, spec: {{runtimeClassName: {class}, restartPolicy: Never, volumes: [{{name: shared, emptyDir: {{}}}}], \
             initContainers: [{{name: first, image: '{IMAGE}', command: [sh, -c, 'echo first >>/shared/order'], {mounts}}}, \
             {{name: side, image: '{IMAGE}', restartPolicy: Always, command: [sh, -c, \"echo side >>/shared/order; {WAITS}\"], \
             startupProbe: {{exec: {{command: [grep, side, /shared/order]}}, periodSeconds: 1}}, {mounts}}}], \
             containers: [{{name: c, image: '{IMAGE}', command: [sh, -c, 'echo last >>/shared/order; cat /shared/order'], {mounts}}}]}}}}"
        ));
    }
    for class in CLASSES {
        cluster.phase(class, "Succeeded");
        assert_eq!(
            cluster.kubectl(&["logs", class, "--container", "c"]).good(),
            "first\nside\nlast",
            "{class}"
        );
    }
}

#[test]
#[ignore = "needs a node"]
fn volumes_of_configuration_secrets_and_memory() {
    let cluster = Cluster::new();
    cluster
        .kubectl(&["create", "configmap", "settings", "--from-literal", "key=value of a configmap"])
        .good();
    cluster
        .kubectl(&["create", "secret", "generic", "hidden", "--from-literal", "key=value of a secret"])
        .good();
    let volumes = "volumes: [{name: s, configMap: {name: settings}}, {name: h, secret: {secretName: hidden, defaultMode: 0400}}, \
                   {name: m, emptyDir: {medium: Memory}}, {name: d, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}], ";
    let container = "env: [{name: FROM, valueFrom: {configMapKeyRef: {name: settings, key: key}}}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], \
                     volumeMounts: [{name: s, mountPath: /s, readOnly: true}, {name: h, mountPath: /h}, {name: m, mountPath: /m}, {name: d, mountPath: /d}, \
                     {name: s, mountPath: /one, subPath: key}]";
    for class in CLASSES {
        cluster.apply(&pod(class, class, WAITS, container).replace("spec: {", &format!("spec: {{{volumes}")));
    }
    cluster.ready(&CLASSES);
    for class in CLASSES {
        let read = |line: &str| cluster.exec(class, line).good();
        assert_eq!(
            read("cat /s/key; echo; cat /one; echo; echo $FROM"),
            ["value of a configmap"; 3].join("\n"),
            "{class}"
        );
        assert_eq!(
            read("cat /h/key; echo; stat -Lc %a /h/key; cat /d/name"),
            format!("value of a secret\n400\n{class}"),
            "{class}"
        );
        assert_eq!(read("echo x >/m/x; cat /m/x"), "x", "{class}");
        // gVisor tells no kind of file system for what it serves from the machine.
        assert!(class == "gvisor" || read("stat -fc %T /m") == "tmpfs", "{class}");
        assert_eq!(
            read("echo $IP"),
            cluster.get(&format!("pod/{class}"))["status"]["podIP"].as_str().unwrap(),
            "{class}"
        );
        assert_ne!(cluster.exec(class, "echo x >/s/new").code, 0, "{class}");
        assert_eq!(
            read("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"),
            cluster.namespace,
            "{class}"
        );
    }
    cluster
        .kubectl(&["patch", "configmap", "settings", "--patch", r#"{"data": {"key": "another"}}"#])
        .good();
    for class in CLASSES {
        cluster.until(&format!("{class} sees the change"), || {
            cluster.exec(class, "cat /s/key").out == "another"
        });
    }
}

#[test]
#[ignore = "needs a node"]
fn a_host_port_leads_to_its_pod() {
    let cluster = Cluster::new();
    for (n, class) in CLASSES.iter().enumerate() {
        let more = format!("ports: [{{containerPort: 8080, hostPort: {}}}]", 18080 + n);
        cluster.apply(&pod(
            class,
            class,
            "echo page of $HOSTNAME >/tmp/index.html; exec httpd -f -p 8080 -h /tmp",
            &more,
        ));
    }
    cluster.ready(&CLASSES);
    for (n, class) in CLASSES.iter().enumerate() {
        let page = format!("page of {class}\n");
        cluster.until(&format!("the host port of {class} answers"), || {
            http(&format!("{ADDRESS}:{}", 18080 + n), "/").as_deref() == Some(&page)
        });
    }
    cluster.apply(&pod("second", "crun", WAITS, "ports: [{containerPort: 8080, hostPort: 18080}]"));
    cluster.event("second", "FailedScheduling", "free ports");
}

#[test]
#[ignore = "needs a node"]
fn pods_of_different_classes_reach_each_other() {
    let cluster = Cluster::new();
    cluster.one_each("echo page of $HOSTNAME >/tmp/index.html; exec httpd -f -p 8080 -h /tmp", "");
    for from in CLASSES {
        for to in CLASSES {
            let address = cluster.get(&format!("pod/{to}"))["status"]["podIP"].as_str().unwrap().to_owned();
            cluster.until(&format!("{from} reaches {to}"), || {
                cluster.exec(from, &format!("wget -qO- {address}:8080")).out == format!("page of {to}\n")
            });
        }
    }
}

#[test]
#[ignore = "needs a node"]
fn a_deleted_pod_may_end_by_itself() {
    let cluster = Cluster::new();
    let hook = "lifecycle: {preStop: {exec: {command: [sh, -c, 'echo hook >/proc/1/fd/1']}}}";
    cluster.one_each(
        "trap 'echo told; sleep 1; echo done; exit 0' TERM; while :; do sleep 0.2; done",
        hook,
    );
    for class in CLASSES {
        let follow = cluster.spawn(&["logs", "--follow", class]);
        cluster.kubectl(&["delete", "pod", class, "--grace-period", "20"]).good();
        let mut running = follow;
        let mut out = String::new();
        std::io::Read::read_to_string(&mut running.0.stdout.take().unwrap(), &mut out).unwrap();
        let said: Vec<&str> = out.lines().filter(|l| *l != "hook").collect();
        assert_eq!(said, ["told", "done"], "{class}");
        // gVisor's containers do not reach each other's standard output by /proc.
        assert!(class == "gvisor" || out.contains("hook"), "{class}: {out}");
    }
}

#[test]
#[ignore = "needs a node"]
fn a_pod_that_does_not_end_is_killed_after_its_grace() {
    let cluster = Cluster::new();
    cluster.one_each("trap '' TERM; while :; do sleep 1; done", "");
    let start = std::time::Instant::now();
    for class in CLASSES {
        cluster
            .kubectl(&["delete", "pod", class, "--grace-period", "2", "--wait=false"])
            .good();
    }
    cluster.until("all are gone", || {
        cluster.get("pods")["items"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(start.elapsed().as_secs() >= 2);
}

#[test]
#[ignore = "needs a node"]
fn exit_codes_and_messages_are_told() {
    let cluster = Cluster::new();
    let yaml: String = CLASSES.map(|c| pod(c, c, "echo why >/dev/termination-log; exit 3", "")).concat();
    cluster.apply(&yaml.replace("spec: {", "spec: {restartPolicy: Never, "));
    for class in CLASSES {
        cluster.phase(class, "Failed");
        let ended = cluster.get(&format!("pod/{class}"))["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        assert_eq!(
            (ended["exitCode"].as_i64(), ended["reason"].as_str()),
            (Some(3), Some("Error")),
            "{class}"
        );
        assert_eq!(ended["message"].as_str().map(str::trim), Some("why"), "{class}");
    }
}

#[test]
#[ignore = "needs a node"]
fn a_container_runs_as_whom_its_security_context_says() {
    let cluster = Cluster::new();
    let security = "securityContext: {runAsUser: 1234, runAsGroup: 2345, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
    cluster.one_each(WAITS, security);
    for class in CLASSES {
        assert_eq!(cluster.exec(class, "id -u; id -g").good(), "1234\n2345", "{class}");
        assert!(cluster.exec(class, "grep ' / ' /proc/mounts").good().contains(" ro,"), "{class}");
        assert_ne!(cluster.exec(class, "echo x >/file").code, 0, "{class}");
        assert_eq!(
            cluster.exec(class, "grep CapEff /proc/self/status").good(),
            "CapEff:\t0000000000000000",
            "{class}"
        );
    }
}

#[test]
#[ignore = "needs a node"]
fn a_pod_of_the_nodes_network_and_processes() {
    let cluster = Cluster::new();
    for class in ["crun", "runc"] {
        cluster.apply(&pod(class, class, WAITS, "").replace("spec: {", "spec: {hostNetwork: true, hostPID: true, "));
    }
    cluster.ready(&["crun", "runc"]);
    for class in ["crun", "runc"] {
        assert_eq!(cluster.get(&format!("pod/{class}"))["status"]["podIP"], ADDRESS, "{class}");
        assert!(cluster.exec(class, "ps").good().contains("kubelet"), "{class}");
    }
}

#[test]
#[ignore = "needs a node"]
fn containers_of_a_pod_may_share_their_processes() {
    let cluster = Cluster::new();
    for class in ["crun", "runc"] {
        cluster.apply(
            &pod(
                class,
                class,
                WAITS,
                &format!("}}, {{name: other, image: '{IMAGE}', command: [sleep, '4242']"),
            )
            .replace("spec: {", "spec: {shareProcessNamespace: true, "),
        );
    }
    cluster.ready(&["crun", "runc"]);
    for class in ["crun", "runc"] {
        let seen = cluster.kubectl(&["exec", class, "--container", "c", "--", "ps"]).good();
        assert!(seen.contains("sleep 4242"), "{class}: {seen}");
    }
}
