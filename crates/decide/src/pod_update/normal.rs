//! Two ways to say the same made one, as API defaulting (`pkg/apis/core/v1/defaults.go`) makes them
//! before an update is compared.

use cofferdam_model::pod::{Container, EmptyDir, HttpGetAction, PodSpec, Probe, PullPolicy, RestartPolicy, Volume};

/// The spec with what is absent written out.
pub(super) fn form(mut spec: PodSpec) -> PodSpec {
    spec.overhead = spec.overhead.filter(|o| !o.is_empty());
    spec.restart_policy.get_or_insert(RestartPolicy::Always);
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.security_context.get_or_insert_default();
    spec.enable_service_links.get_or_insert(true);
    spec.priority.get_or_insert(0);
    text(&mut spec.preemption_policy, "PreemptLowerPriority");
    text(&mut spec.dns_policy, "ClusterFirst");
    for absent in [
        &mut spec.hostname,
        &mut spec.subdomain,
        &mut spec.service_account_name,
        &mut spec.node_name,
        &mut spec.priority_class_name,
    ] {
        text(absent, "");
    }
    spec.containers.iter_mut().chain(&mut spec.init_containers).for_each(container);
    spec.volumes.iter_mut().for_each(volume);
    spec
}

fn text(field: &mut Option<String>, default: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(default.to_string());
    }
}

fn container(container: &mut Container) {
    container.resources.get_or_insert_default();
    text(&mut container.working_dir, "");
    text(&mut container.termination_message_path, "/dev/termination-log");
    text(&mut container.termination_message_policy, "File");
    let latest = is_latest(&container.image);
    container
        .image_pull_policy
        .get_or_insert(if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent });
    for probe in [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ] {
        probe.iter_mut().for_each(self::probe);
    }
    let hooks = container.lifecycle.iter_mut().flat_map(|l| [&mut l.post_start, &mut l.pre_stop]);
    hooks.flatten().filter_map(|h| h.http_get.as_mut()).for_each(http_get);
    for port in &mut container.ports {
        text(&mut port.protocol, "TCP");
        text(&mut port.name, "");
        text(&mut port.host_ip, "");
        port.host_port.get_or_insert(0);
    }
    for field in container.env.iter_mut().filter_map(|e| e.value_from.as_mut()?.field_ref.as_mut()) {
        text(&mut field.api_version, "v1");
    }
}

fn probe(probe: &mut Probe) {
    let numbers = [
        (&mut probe.initial_delay_seconds, 0),
        (&mut probe.timeout_seconds, 1),
        (&mut probe.period_seconds, 10),
        (&mut probe.success_threshold, 1),
        (&mut probe.failure_threshold, 3),
    ];
    for (number, default) in numbers {
        *number = Some(number.filter(|n| *n != 0).unwrap_or(default));
    }
    probe.http_get.iter_mut().for_each(http_get);
}

fn http_get(action: &mut HttpGetAction) {
    text(&mut action.path, "/");
    text(&mut action.scheme, "HTTP");
}

/// Whether the image is named without a tag, or by the tag `latest`, and not by a digest.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn volume(volume: &mut Volume) {
    let has_other = [
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.host_path.is_some(),
        volume.downward_api.is_some(),
        volume.projected.is_some(),
        volume.image.is_some(),
    ];
    if !has_other.contains(&true) {
        let dir = volume.empty_dir.get_or_insert_with(EmptyDir::default);
        text(&mut dir.medium, "");
    }
    if let Some(map) = &mut volume.config_map {
        map.default_mode.get_or_insert(0o644);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(0o644);
    }
    if let Some(fields) = &mut volume.downward_api {
        fields.default_mode.get_or_insert(0o644);
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(0o644);
    }
    if let Some(image) = &mut volume.image {
        let latest = is_latest(&image.reference);
        image
            .pull_policy
            .get_or_insert(if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent });
    }
    if let Some(path) = &mut volume.host_path {
        text(&mut path.kind, "");
    }
}
