//! Rules of probes and hooks.

use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::pod::{Container, ExecAction, GrpcAction, HttpGetAction, Lifecycle, PortRef, Probe, SleepAction, TcpSocketAction};

/// Checks the hooks and probes of a container that may have them. `grace`: seconds between SIGTERM
/// and SIGKILL.
pub(super) fn validate(container: &Container, grace: i64, path: &Path, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        validate_lifecycle(lifecycle, grace, &path.child("lifecycle"), errors);
    }
    if let Some(probe) = &container.liveness_probe {
        once(probe, &path.child("livenessProbe"), errors);
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        validate_probe(probe, &path, errors);
        if let Some(seconds) = probe.termination_grace_period_seconds {
            errors.invalid(
                &path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            );
        }
    }
    if let Some(probe) = &container.startup_probe {
        once(probe, &path.child("startupProbe"), errors);
    }
}

/// Refuses hooks and probes of a container that may not have them.
pub(super) fn refuse(container: &Container, path: &Path, errors: &mut Errors) {
    let fields = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        errors.forbidden(
            &path.child(field),
            "may not be set for init containers without restartPolicy=Always",
        );
    }
}

/// A probe that one success satisfies.
fn once(probe: &Probe, path: &Path, errors: &mut Errors) {
    validate_probe(probe, path, errors);
    // Zero stands for the default, which is 1.
    if let Some(count) = probe.success_threshold.filter(|n| !matches!(n, 0 | 1)) {
        errors.invalid(&path.child("successThreshold"), count, "must be 1");
    }
}

fn validate_probe(probe: &Probe, path: &Path, errors: &mut Errors) {
    let mut actions = Actions::new(path, errors);
    actions.exec(probe.exec.as_ref());
    actions.http_get(probe.http_get.as_ref());
    actions.tcp_socket(probe.tcp_socket.as_ref());
    actions.grpc(probe.grpc.as_ref());
    actions.finish();
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        if let Some(number) = number.filter(|n| *n < 0) {
            errors.invalid(&path.child(name), number, "must be greater than or equal to 0");
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.invalid(&path.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
    }
}

fn validate_lifecycle(lifecycle: &Lifecycle, grace: i64, path: &Path, errors: &mut Errors) {
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        let Some(hook) = hook else { continue };
        let path = path.child(name);
        let mut actions = Actions::new(&path, errors);
        actions.exec(hook.exec.as_ref());
        actions.http_get(hook.http_get.as_ref());
        actions.sleep(hook.sleep.as_ref(), grace);
        actions.finish();
    }
}

/// What is to be done, of which one is allowed: the first counts.
struct Actions<'a> {
    path: &'a Path,
    errors: &'a mut Errors,
    taken: bool,
}

impl<'a> Actions<'a> {
    fn new(path: &'a Path, errors: &'a mut Errors) -> Self {
        Self {
            path,
            errors,
            taken: false,
        }
    }

    fn first(&mut self, name: &str) -> Option<Path> {
        let path = self.path.child(name);
        if std::mem::replace(&mut self.taken, true) {
            self.errors.forbidden(&path, "may not specify more than 1 handler type");
            return None;
        }
        Some(path)
    }

    fn exec(&mut self, action: Option<&ExecAction>) {
        let Some(action) = action else { return };
        if let Some(path) = self.first("exec")
            && action.command.is_empty()
        {
            self.errors.required(&path.child("command"), "");
        }
    }

    fn http_get(&mut self, action: Option<&HttpGetAction>) {
        let Some(action) = action else { return };
        let Some(path) = self.first("httpGet") else { return };
        port(&action.port, &path.child("port"), self.errors);
        let scheme = action.scheme.as_deref().unwrap_or_default();
        if !["", "HTTP", "HTTPS"].contains(&scheme) {
            self.errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
        }
        for header in &action.http_headers {
            self.errors
                .invalid_each(&path.child("httpHeaders"), &header.name, format::header_name(&header.name));
        }
    }

    fn tcp_socket(&mut self, action: Option<&TcpSocketAction>) {
        let Some(action) = action else { return };
        if let Some(path) = self.first("tcpSocket") {
            port(&action.port, &path.child("port"), self.errors);
        }
    }

    fn grpc(&mut self, action: Option<&GrpcAction>) {
        let Some(action) = action else { return };
        if let Some(path) = self.first("grpc") {
            port(&PortRef::Number(action.port), &path.child("port"), self.errors);
        }
    }

    fn sleep(&mut self, action: Option<&SleepAction>, grace: i64) {
        let Some(action) = action else { return };
        let Some(path) = self.first("sleep") else { return };
        if !(0..=grace).contains(&action.seconds) {
            let rule = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            self.errors.invalid(&path, action.seconds, &rule);
        }
    }

    fn finish(self) {
        if !self.taken {
            self.errors.required(self.path, "must specify a handler type");
        }
    }
}

fn port(port: &PortRef, path: &Path, errors: &mut Errors) {
    match port {
        PortRef::Number(number) => {
            for wrong in format::in_range((*number).into(), 1, 65535) {
                errors.invalid(path, *number, &wrong);
            }
        }
        PortRef::Name(name) => errors.invalid_each(path, name, format::port_name(name)),
    }
}
