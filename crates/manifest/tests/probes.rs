//! Probes, hooks and what a change of resources does: one row a rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
use cofferdam_manifest::{ObjectKind, decode};
use cofferdam_model::pod::{PortRef, Probe};
use common::{hold, pod};

#[test]
fn probes() {
    let name = "ports: [{name: web, containerPort: 80}]\n";
    hold(&[
        (
            "",
            "livenessProbe: {exec: {command: [x]}, successThreshold: 1, terminationGracePeriodSeconds: 5}",
            "",
        ),
        ("", "livenessProbe: {exec: {command: [x]}, successThreshold: 0}", ""),
        (
            "",
            "readinessProbe: {httpGet: {port: 80, scheme: HTTPS, httpHeaders: [{name: Host, value: a}]}, successThreshold: 3}",
            "",
        ),
        (
            "",
            &format!("{name}startupProbe: {{tcpSocket: {{port: web, host: 127.0.0.1}}, failureThreshold: 30}}"),
            "",
        ),
        ("", "livenessProbe: {grpc: {port: 9000, service: a}}", ""),
        (
            "",
            "livenessProbe: {}",
            "spec.containers[0].livenessProbe must have one of exec, httpGet, tcpSocket, grpc",
        ),
        (
            "",
            "livenessProbe: {periodSeconds: 5}",
            "spec.containers[0].livenessProbe must have one of exec, httpGet, tcpSocket, grpc",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [x]}, grpc: {port: 1}}",
            "spec.containers[0].livenessProbe.grpc cannot stand beside exec; remove one",
        ),
        (
            "",
            "livenessProbe: {exec: {command: []}}",
            "spec.containers[0].livenessProbe.exec.command is empty; name the command to run",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [x]}, successThreshold: 2}",
            "spec.containers[0].livenessProbe.successThreshold must be 1; only a readiness probe can ask for more successes in a row",
        ),
        (
            "",
            "startupProbe: {exec: {command: [x]}, successThreshold: 2}",
            "spec.containers[0].startupProbe.successThreshold must be 1; only a readiness probe can ask for more successes in a row",
        ),
        (
            "",
            "readinessProbe: {exec: {command: [x]}, terminationGracePeriodSeconds: 2}",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds cannot be set on a readiness probe, which ends nothing; remove it",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [x]}, terminationGracePeriodSeconds: 0}",
            "spec.containers[0].livenessProbe.terminationGracePeriodSeconds is 0, but must be at least 1",
        ),
        (
            "",
            "livenessProbe: {exec: {command: [x]}, periodSeconds: -1}",
            "spec.containers[0].livenessProbe.periodSeconds is -1, but must be between 0 and 2147483647",
        ),
        (
            "",
            "readinessProbe: {httpGet: {path: /}}",
            "spec.containers[0].readinessProbe.httpGet.port is missing; add it",
        ),
        (
            "",
            "readinessProbe: {httpGet: {port: 0}}",
            "spec.containers[0].readinessProbe.httpGet.port is 0, but must be between 1 and 65535",
        ),
        (
            "",
            "readinessProbe: {httpGet: {port: \"80\"}}",
            "spec.containers[0].readinessProbe.httpGet.port is \"80\", but must be 1 to 15 lowercase letters, digits or single '-' within, with at least one letter",
        ),
        (
            "",
            "readinessProbe: {httpGet: {port: 80, scheme: https}}",
            "spec.containers[0].readinessProbe.httpGet.scheme is https, but must be one of HTTP, HTTPS; did you mean HTTPS?",
        ),
        (
            "",
            "readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}}",
            "spec.containers[0].readinessProbe.httpGet.httpHeaders[0].name is \"a b\", but must be letters, digits and '-'",
        ),
        (
            "",
            "readinessProbe: {tcpSocket: {port: web}}",
            "warning: spec.containers[0].readinessProbe.tcpSocket.port is \"web\", but the container has no port of that name, so it never succeeds",
        ),
        (
            "",
            "livenessProbe: {grpc: {port: web}}",
            "spec.containers[0].livenessProbe.grpc.port must be a whole number, but is a string; write it without quotes",
        ),
        (
            "initContainers: [{name: i, image: b, readinessProbe: {exec: {command: [x]}}}]",
            "",
            "spec.initContainers[0].readinessProbe cannot be set on an init container; add restartPolicy: Always to make it a sidecar, or remove it",
        ),
        (
            "initContainers: [{name: i, image: b, restartPolicy: Always, startupProbe: {exec: {command: [x]}}}]",
            "",
            "",
        ),
    ]);
}

#[test]
fn hooks() {
    hold(&[
        (
            "",
            "lifecycle: {postStart: {httpGet: {port: 80}}, preStop: {sleep: {seconds: 30}}}",
            "",
        ),
        (
            "terminationGracePeriodSeconds: 5",
            "lifecycle: {preStop: {sleep: {seconds: 6}}}",
            "spec.containers[0].lifecycle.preStop.sleep.seconds is 6, but the pod's terminationGracePeriodSeconds is 5; make it shorter, or the period longer",
        ),
        (
            "",
            "lifecycle: {preStop: {exec: {command: [x]}, httpGet: {port: 1}}}",
            "spec.containers[0].lifecycle.preStop.httpGet cannot stand beside exec; remove one",
        ),
        (
            "",
            "lifecycle: {stopSignal: SIGUSR1}",
            "spec.containers[0].lifecycle.stopSignal is not supported: Kubernetes 1.34 drops it unless a gate is set; build the image with STOPSIGNAL, or send the signal in a preStop hook",
        ),
    ]);
}

#[test]
fn resize_policies() {
    let both = "resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: RestartContainer}]";
    hold(&[
        ("", both, ""),
        (
            "restartPolicy: Never",
            both,
            "spec.containers[0].resizePolicy[1].restartPolicy must be NotRequired where the pod's restartPolicy is Never; change one",
        ),
        (
            "",
            &both.replace("memory", "cpu"),
            "spec.containers[0].resizePolicy[1].resourceName is \"cpu\" a second time; remove one",
        ),
        (
            "",
            "resizePolicy: [{resourceName: ephemeral-storage, restartPolicy: NotRequired}]",
            "spec.containers[0].resizePolicy[0].resourceName is ephemeral-storage, but must be one of cpu, memory",
        ),
    ]);
}

#[test]
fn every_value_arrives() {
    let text = pod(
        "",
        "readinessProbe: {httpGet: {path: /ready, port: web, host: h, scheme: HTTPS, httpHeaders: [{name: A, value: b}]}, initialDelaySeconds: 1, timeoutSeconds: 2, periodSeconds: 3, successThreshold: 4, failureThreshold: 5}\nports: [{name: web, containerPort: 80}]",
    );
    let decoded = decode("f", &text).unwrap();
    let ObjectKind::Pod(pod) = &decoded.objects[0].kind else { panic!() };
    let probe: &Probe = pod.spec.containers[0].readiness_probe.as_ref().unwrap();
    let get = probe.http_get.as_ref().unwrap();
    assert_eq!(
        (get.path.as_deref(), &get.port, get.host.as_deref()),
        (Some("/ready"), &PortRef::Name("web".into()), Some("h"))
    );
    assert_eq!((get.scheme.as_deref(), get.http_headers[0].value.as_str()), (Some("HTTPS"), "b"));
    let numbers = [
        probe.initial_delay_seconds,
        probe.timeout_seconds,
        probe.period_seconds,
        probe.success_threshold,
        probe.failure_threshold,
    ];
    assert_eq!(numbers, [1, 2, 3, 4, 5].map(Some));
}
