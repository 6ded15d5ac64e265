//! How containers live: order, ends, commands, probes, hooks.

use super::Feature;
use super::find::{field, in_containers, of_containers, of_probes};
use crate::resources::is_sidecar;
use cofferdam_model::pod::{Container, LifecycleHandler, Pod, RestartPolicy};

const IN_SHARED: &str = "volumeMounts:\n- {name: shared, mountPath: /shared}";

pub(super) static FEATURES: &[Feature] = &[
    Feature::works("init-containers", "init containers, one after the other", |pod| {
        field(pod.spec.init_containers.iter().any(|c| !is_sidecar(c)), "initContainers")
    })
    .spec("volumes:\n- name: shared\n  emptyDir: {}\ninitContainers:\n- name: first\n  image: busybox\n  command: [sh, -c, echo ready > /shared/said]\n  volumeMounts:\n  - {name: shared, mountPath: /shared}")
    .container(IN_SHARED)
    .script("test \"$(cat /shared/said)\" = ready"),
    Feature::works("sidecars", "sidecars (`restartPolicy: Always` of an init container)", |pod| {
        in_containers(pod, |c| if is_sidecar(c) { vec!["restartPolicy"] } else { vec![] })
            .into_iter()
            .filter(|path| path.starts_with("spec.initContainers"))
            .collect()
    })
    .spec("terminationGracePeriodSeconds: 1\nvolumes:\n- name: shared\n  emptyDir: {}\ninitContainers:\n- name: beside\n  image: busybox\n  restartPolicy: Always\n  command: [sh, -c, 'while sleep 0.2; do date > /shared/now; done']\n  volumeMounts:\n  - {name: shared, mountPath: /shared}")
    .container(IN_SHARED)
    .script("until test -s /shared/now; do sleep 0.2; done"),
    Feature::works("restart-policy", "restart policies, with back-off", |pod| {
        let policy = pod.spec.restart_policy;
        field(policy.is_some_and(|p| p != RestartPolicy::Always), "restartPolicy")
    })
    .spec("restartPolicy: OnFailure\nvolumes:\n- name: shared\n  emptyDir: {}")
    .container(IN_SHARED)
    .script("if test -e /shared/tried; then exit 0; fi\ntouch /shared/tried\nexit 3"),
    Feature::works("deadline", "`activeDeadlineSeconds`", |pod| {
        field(pod.spec.active_deadline_seconds.is_some(), "activeDeadlineSeconds")
    })
    .spec("activeDeadlineSeconds: 600"),
    Feature::works("grace-period", "grace periods between SIGTERM and SIGKILL", |pod| {
        field(pod.spec.termination_grace_period_seconds.is_some(), "terminationGracePeriodSeconds")
    })
    .spec("terminationGracePeriodSeconds: 1"),
    Feature::works("env", "environment from values, fields, resources, config maps and secrets", |pod| {
        in_containers(pod, |c| {
            let lists = [("env", !c.env.is_empty()), ("envFrom", !c.env_from.is_empty())];
            lists.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
        })
    })
    .container("env:\n- {name: FIRST, value: one}\n- {name: BOTH, value: $(FIRST) two}\n- name: POD\n  valueFrom: {fieldRef: {fieldPath: metadata.name}}\n- name: CPU\n  valueFrom: {resourceFieldRef: {resource: limits.cpu}}\n- name: KEY\n  valueFrom: {secretKeyRef: {name: token, key: key}}\nenvFrom:\n- configMapRef: {name: settings}\nresources: {limits: {cpu: 1}}")
    .script("test \"$BOTH $POD $CPU $KEY $color\" = \"one two env 1 hunter2 blue\""),
    Feature::works("command", "command, arguments and their `$(NAME)`", |pod| {
        of_containers(pod, "args", |c| !c.args.is_empty())
    })
    .container("env:\n- {name: WORD, value: expanded}\nworkingDir: /tmp")
    .script("test $(WORD) = expanded\ntest \"$PWD\" = /tmp"),
    Feature::works("probe-exec", "startup, readiness and liveness probes by a command", |pod| {
        of_probes(pod, "exec", |p| p.exec.is_some())
    })
    .container("startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1}\nlivenessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 30}")
    .script("touch /tmp/up\nsleep 3"),
    Feature::works("probe-http", "probes by HTTP and HTTPS", |pod| {
        of_probes(pod, "httpGet", |p| p.http_get.is_some())
    })
    .container("ports: [{name: web, containerPort: 8080}]\nlivenessProbe: {httpGet: {port: web, path: /}, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 1}")
    .script("mkdir /tmp/www\necho hello > /tmp/www/index.html\nhttpd -f -p 8080 -h /tmp/www &\nsleep 6"),
    Feature::works("probe-tcp", "probes by TCP", |pod| of_probes(pod, "tcpSocket", |p| p.tcp_socket.is_some()))
        .container("livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 1}")
        .script("mkdir /tmp/www\nhttpd -f -p 8080 -h /tmp/www &\nsleep 6"),
    Feature::works("probe-grpc", "probes by gRPC's health protocol", |pod| of_probes(pod, "grpc", |p| p.grpc.is_some()))
        // No server of the kind is in the image: the probe fails, and no more than that.
        .container("readinessProbe: {grpc: {port: 9}, periodSeconds: 1}")
        .script("sleep 2"),
    Feature::works("hook-post-start", "hooks after the start", |pod| {
        of_containers(pod, "lifecycle.postStart", |c| hook(c, true).is_some())
    })
    .container("lifecycle: {postStart: {exec: {command: [touch, /tmp/hooked]}}}")
    .script("until test -e /tmp/hooked; do sleep 0.1; done"),
    Feature::works("hook-pre-stop", "hooks before the end", |pod| {
        of_containers(pod, "lifecycle.preStop", |c| hook(c, false).is_some())
    })
    .container("lifecycle: {preStop: {sleep: {seconds: 1}}}"),
    Feature::works("termination-message", "the last word of a container", |pod| {
        in_containers(pod, |c| {
            let fields = [
                ("terminationMessagePath", c.termination_message_path.is_some()),
                ("terminationMessagePolicy", c.termination_message_policy.is_some()),
            ];
            fields.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
        })
    })
    .container("terminationMessagePath: /tmp/last")
    .script("echo good bye > /tmp/last"),
    Feature::works("terminal", "a terminal and standard input", |pod| {
        in_containers(pod, |c| {
            let fields = [("tty", c.tty), ("stdin", c.stdin), ("stdinOnce", c.stdin_once)];
            fields.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
        })
    })
    .container("tty: true\nstdin: true")
    .script("test -t 0\ntest -t 1"),
    Feature::works("ephemeral-containers", "ephemeral containers (`cofferdam debug`)", asked_later),
    Feature::works("exec", "`exec`, `cp`, `attach` and `port-forward`", asked_later),
    Feature::works("usage", "logs, and usage of cpu and memory", asked_later),
];

fn asked_later(_: &Pod) -> Vec<String> {
    Vec::new()
}

fn hook(container: &Container, after_start: bool) -> Option<&LifecycleHandler> {
    let lifecycle = container.lifecycle.as_ref()?;
    if after_start {
        lifecycle.post_start.as_ref()
    } else {
        lifecycle.pre_stop.as_ref()
    }
}
