//! Rules of probes and hooks.

use super::Check;
use super::container::Place;
use crate::path::{Path, quoted};
use crate::schema::action::{HOOKS, PROBES};
use cofferdam_model::pod::{Container, ExecAction, Lifecycle, PortRef, Probe, RestartPolicy};

/// Seconds between SIGTERM and SIGKILL where the pod says nothing.
const GRACE_PERIOD: i64 = 30;

/// Checks the hooks and probes of a container.
pub(super) fn actions(check: &mut Check<'_>, place: &Place<'_>, container: &Container) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    // KEP-753: of init containers only sidecars have them.
    if place.is_init && container.restart_policy != Some(RestartPolicy::Always) {
        let hooks = container.lifecycle.is_some().then_some("lifecycle");
        let probes = probes.iter().filter(|(_, probe)| probe.is_some()).map(|(name, _)| *name);
        for field in hooks.into_iter().chain(probes) {
            check.refuse(
                &place.path.key(field),
                "cannot be set on an init container; add restartPolicy: Always to make it a sidecar, or remove it",
            );
        }
        return;
    }
    if let Some(lifecycle) = &container.lifecycle {
        hooks(check, place, container, lifecycle);
    }
    for (name, one) in probes {
        if let Some(one) = one {
            probe(check, &place.path.key(name), name, one, container);
        }
    }
}

fn hooks(check: &mut Check<'_>, place: &Place<'_>, container: &Container, lifecycle: &Lifecycle) {
    let grace = place.spec.termination_grace_period_seconds.unwrap_or(GRACE_PERIOD);
    for (hook, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(handler) = handler else { continue };
        let path = place.path.key("lifecycle").key(hook);
        check.exactly_one(&path, &HOOKS);
        command(check, &path, handler.exec.as_ref());
        if let Some(action) = &handler.http_get {
            port(check, &path.key("httpGet"), &action.port, container);
        }
        if let Some(sleep) = handler.sleep.as_ref().filter(|s| s.seconds > grace) {
            let rule = format!(
                "is {}, but the pod's terminationGracePeriodSeconds is {grace}; make it shorter, or the period longer",
                sleep.seconds
            );
            check.refuse(&path.key("sleep").key("seconds"), rule);
        }
    }
}

fn probe(check: &mut Check<'_>, path: &Path, name: &str, probe: &Probe, container: &Container) {
    check.exactly_one(path, &PROBES);
    command(check, path, probe.exec.as_ref());
    if let Some(action) = &probe.http_get {
        port(check, &path.key("httpGet"), &action.port, container);
    }
    if let Some(action) = &probe.tcp_socket {
        port(check, &path.key("tcpSocket"), &action.port, container);
    }
    let is_readiness = name == "readinessProbe";
    if !is_readiness && !matches!(probe.success_threshold, None | Some(0 | 1)) {
        check.refuse(
            &path.key("successThreshold"),
            "must be 1; only a readiness probe can ask for more successes in a row",
        );
    }
    if is_readiness && probe.termination_grace_period_seconds.is_some() {
        check.refuse(
            &path.key("terminationGracePeriodSeconds"),
            "cannot be set on a readiness probe, which ends nothing; remove it",
        );
    }
}

fn command(check: &mut Check<'_>, path: &Path, exec: Option<&ExecAction>) {
    if exec.is_some_and(|e| e.command.is_empty()) {
        check.refuse(&path.key("exec").key("command"), "is empty; name the command to run");
    }
}

/// A port that the container does not name can be asked for, and never answers.
fn port(check: &mut Check<'_>, path: &Path, port: &PortRef, container: &Container) {
    let PortRef::Name(name) = port else { return };
    if !container.ports.iter().any(|p| p.name.as_deref() == Some(name)) {
        let path = path.key("port");
        check.warn(
            &path,
            &format!(
                "is {}, but the container has no port of that name, so it never succeeds",
                quoted(name)
            ),
        );
    }
}
