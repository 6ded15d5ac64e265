//! Finding fields in a pod.

use cofferdam_model::pod::{Container, Pod, PodSecurityContext, Probe, SecurityContext, Volume, VolumeMount};

/// `spec.NAME` where `is_set`.
pub(super) fn field(is_set: bool, name: &str) -> Vec<String> {
    is_set.then(|| format!("spec.{name}")).into_iter().collect()
}

/// A field of a pod's security context.
pub(super) fn of_context(pod: &Pod, name: &str, is_set: impl Fn(&PodSecurityContext) -> bool) -> Vec<String> {
    let context = pod.spec.security_context.as_ref();
    field(context.is_some_and(is_set), &format!("securityContext.{name}"))
}

/// What `of` finds in each container, below its path.
pub(super) fn in_containers<T: AsRef<str>>(pod: &Pod, of: impl Fn(&Container) -> Vec<T>) -> Vec<String> {
    let lists = [("initContainers", &pod.spec.init_containers), ("containers", &pod.spec.containers)];
    let one = |(list, at, container): (&str, usize, &Container)| {
        let fields = of(container);
        let paths = fields.iter().map(|field| format!("spec.{list}[{at}].{}", field.as_ref()));
        paths.collect::<Vec<_>>()
    };
    let all = lists
        .into_iter()
        .flat_map(|(list, containers)| containers.iter().enumerate().map(move |(at, c)| (list, at, c)));
    all.flat_map(one).collect()
}

/// `NAME` of each container in which `is_set`.
pub(super) fn of_containers(pod: &Pod, name: &str, is_set: impl Fn(&Container) -> bool) -> Vec<String> {
    in_containers(pod, |c| if is_set(c) { vec![name.to_string()] } else { vec![] })
}

/// A field of the containers' security contexts.
pub(super) fn of_contexts(pod: &Pod, name: &str, is_set: impl Fn(&SecurityContext) -> bool) -> Vec<String> {
    let name = format!("securityContext.{name}");
    of_containers(pod, &name, |c| c.security_context.as_ref().is_some_and(&is_set))
}

/// A field of a probe that `is_set`, whichever probe it is.
pub(super) fn of_probes(pod: &Pod, name: &str, is_set: impl Fn(&Probe) -> bool) -> Vec<String> {
    in_containers(pod, |c| {
        let probes = [
            ("livenessProbe", &c.liveness_probe),
            ("readinessProbe", &c.readiness_probe),
            ("startupProbe", &c.startup_probe),
        ];
        let set = probes.iter().filter(|(_, probe)| probe.as_ref().is_some_and(&is_set));
        set.map(|(probe, _)| format!("{probe}.{name}")).collect()
    })
}

/// A field of volumes.
pub(super) fn of_volumes(pod: &Pod, name: &str, is_set: impl Fn(&Volume) -> bool) -> Vec<String> {
    let volumes = pod.spec.volumes.iter().enumerate().filter(|(_, v)| is_set(v));
    volumes.map(|(at, _)| format!("spec.volumes[{at}].{name}")).collect()
}

/// A field of mounts.
pub(super) fn of_mounts(pod: &Pod, name: &str, is_set: impl Fn(&VolumeMount) -> bool) -> Vec<String> {
    in_containers(pod, |c| {
        let mounts = c.volume_mounts.iter().enumerate().filter(|(_, m)| is_set(m));
        mounts.map(|(at, _)| format!("volumeMounts[{at}].{name}")).collect()
    })
}

/// Resources of the pod and its containers whose name `is`.
pub(super) fn of_resources(pod: &Pod, is: fn(&str) -> bool) -> Vec<String> {
    let found = |resources: Option<&cofferdam_model::pod::Resources>| {
        let lists = resources.map(|r| [("limits", &r.limits), ("requests", &r.requests)]);
        let names = lists
            .into_iter()
            .flatten()
            .flat_map(|(list, all)| all.keys().map(move |name| (list, name)));
        let wanted = names.filter(|(_, name)| is(name));
        wanted.map(|(list, name)| format!("resources.{list}[{name}]")).collect::<Vec<_>>()
    };
    let own = found(pod.spec.resources.as_ref()).into_iter().map(|path| format!("spec.{path}"));
    own.chain(in_containers(pod, |c| found(c.resources.as_ref()))).collect()
}
