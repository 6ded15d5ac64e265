//! Between our types and the wire's.

use crate::face::{Adjustment, Container, Pod, ResourceChange, Update};
use crate::{device, mount, wire};
use cofferdam_model::cri::{ContainerState, LinuxResources, OciHook, Profile};

/// Stages of hooks as the OCI runtime specification names them, in the order of the wire's fields.
const STAGES: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A key and whether it is marked for removal (`-key`).
pub(crate) fn removal(key: &str) -> (&str, bool) {
    key.strip_prefix('-').map_or((key, false), |key| (key, true))
}

pub(crate) fn pod(pod: &Pod) -> wire::PodSandbox {
    wire::PodSandbox {
        id: pod.id.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        runtime_handler: pod.handler.clone(),
        linux: Some(wire::LinuxPodSandbox {
            pod_overhead: Some(resources(&pod.overhead)),
            pod_resources: Some(resources(&pod.resources)),
            cgroup_parent: pod.cgroup_parent.clone(),
            ..Default::default()
        }),
        pid: pod.pid,
        ips: pod.ips.clone(),
    }
}

pub(crate) fn container(c: &Container) -> wire::Container {
    let state = match c.state {
        None | Some(ContainerState::Unknown) => wire::ContainerState::ContainerUnknown,
        Some(ContainerState::Created) => wire::ContainerState::ContainerCreated,
        Some(ContainerState::Running) => wire::ContainerState::ContainerRunning,
        Some(ContainerState::Exited) => wire::ContainerState::ContainerStopped,
    };
    wire::Container {
        id: c.id.clone(),
        pod_sandbox_id: c.pod.clone(),
        name: c.name.clone(),
        state: state.into(),
        labels: c.labels.clone(),
        annotations: c.annotations.clone(),
        args: c.args.clone(),
        env: environment(c),
        mounts: c.mounts.iter().map(mount::to_wire).collect(),
        hooks: Some(hooks(&c.hooks)),
        linux: Some(linux(c)),
        pid: c.pid,
        rlimits: c.rlimits.iter().map(|(name, soft, hard)| rlimit(name, *soft, *hard)).collect(),
        created_at: c.created_at,
        started_at: c.started_at,
        finished_at: c.finished_at,
        exit_code: c.exit_code,
        status_reason: c.reason.clone(),
        status_message: c.message.clone(),
        cdi_devices: c.cdi_devices.iter().map(|name| wire::CdiDevice { name: name.clone() }).collect(),
        user: c.user.map(|(uid, gid)| wire::User {
            uid,
            gid,
            additional_gids: c.groups.clone(),
        }),
        image: Some(wire::Image {
            name: c.image.0.clone(),
            digest: String::new(),
            config_digest: c.image.1.clone(),
        }),
    }
}

/// The image's variables, but for those that the request sets, and then the request's.
fn environment(c: &Container) -> Vec<String> {
    let image = c.image_env.iter().filter(|(name, _)| !c.env.iter().any(|(other, _)| other == name));
    image.chain(&c.env).map(|(name, value)| format!("{name}={value}")).collect()
}

fn linux(c: &Container) -> wire::LinuxContainer {
    use wire::security_profile::ProfileType;
    let (profile, path) = match &c.seccomp {
        Profile::Unconfined => (ProfileType::Unconfined, String::new()),
        Profile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Profile::Localhost(path) => (ProfileType::Localhost, path.clone()),
    };
    wire::LinuxContainer {
        devices: c.devices.iter().filter_map(device::to_wire).collect(),
        resources: Some(resources(&c.resources)),
        oom_score_adj: c.resources.oom_score_adj.map(|value| wire::OptionalInt { value: value.into() }),
        seccomp_profile: Some(wire::SecurityProfile {
            profile_type: profile.into(),
            localhost_ref: path,
        }),
        ..Default::default()
    }
}

fn rlimit(name: &str, soft: u64, hard: u64) -> wire::PosixRlimit {
    wire::PosixRlimit {
        r#type: name.to_owned(),
        hard,
        soft,
    }
}

/// Limits; zero is none, and is not told.
pub(crate) fn resources(r: &LinuxResources) -> wire::LinuxResources {
    let signed = |value: i64| (value != 0).then_some(wire::OptionalInt64 { value });
    let unsigned = |value: u64| (value != 0).then_some(wire::OptionalUInt64 { value });
    wire::LinuxResources {
        memory: Some(wire::LinuxMemory {
            limit: signed(r.memory_limit),
            swap: signed(r.memory_swap_limit),
            ..Default::default()
        }),
        cpu: Some(wire::LinuxCpu {
            shares: unsigned(r.cpu_shares),
            quota: signed(r.cpu_quota),
            period: unsigned(r.cpu_period),
            cpus: r.cpuset_cpus.clone(),
            mems: r.cpuset_mems.clone(),
            ..Default::default()
        }),
        hugepage_limits: r
            .hugepages
            .iter()
            .map(|(size, limit)| wire::HugepageLimit {
                page_size: size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: r.unified.clone(),
        pids: (r.pids_limit != 0).then_some(wire::LinuxPids { limit: r.pids_limit }),
        ..Default::default()
    }
}

/// What of the limits changes. What [`crate::support`] refuses is not there.
pub(crate) fn change(r: &wire::LinuxResources) -> ResourceChange {
    let memory = r.memory.unwrap_or_default();
    let cpu = r.cpu.clone().unwrap_or_default();
    ResourceChange {
        cpu_shares: cpu.shares.map(|v| v.value),
        cpu_quota: cpu.quota.map(|v| v.value),
        cpu_period: cpu.period.map(|v| v.value),
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        memory_limit: memory.limit.map(|v| v.value),
        memory_swap_limit: memory.swap.map(|v| v.value),
        pids_limit: r.pids.map(|v| v.limit),
        oom_score_adj: None,
        hugepages: r.hugepage_limits.iter().map(|l| (l.page_size.clone(), l.limit)).collect(),
        unified: r.unified.clone(),
    }
}

pub(crate) fn update(u: &wire::ContainerUpdate) -> Update {
    let resources = u.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    Update {
        container: u.container_id.clone(),
        resources: resources.map(change).unwrap_or_default(),
        ignore_failure: u.ignore_failure,
    }
}

fn hooks(hooks: &[(String, OciHook)]) -> wire::Hooks {
    let of = |stage: &str| -> Vec<wire::Hook> {
        hooks
            .iter()
            .filter(|(other, _)| other == stage)
            .map(|(_, hook)| to_wire_hook(hook))
            .collect()
    };
    let [prestart, create_runtime, create_container, start_container, poststart, poststop] = STAGES.map(of);
    wire::Hooks {
        prestart,
        create_runtime,
        create_container,
        start_container,
        poststart,
        poststop,
    }
}

fn to_wire_hook(hook: &OciHook) -> wire::Hook {
    wire::Hook {
        path: hook.path.to_string_lossy().into_owned(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout.map(|value| wire::OptionalInt { value }),
    }
}

/// The wire's hooks by stage.
pub(crate) fn stages(hooks: &wire::Hooks) -> [(&'static str, &Vec<wire::Hook>); 6] {
    let [a, b, c, d, e, f] = STAGES;
    [
        (a, &hooks.prestart),
        (b, &hooks.create_runtime),
        (c, &hooks.create_container),
        (d, &hooks.start_container),
        (e, &hooks.poststart),
        (f, &hooks.poststop),
    ]
}

fn from_wire_hook(hook: &wire::Hook) -> OciHook {
    OciHook {
        path: hook.path.clone().into(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout.map(|timeout| timeout.value),
    }
}

/// What was merged, as our type. What [`crate::support`] refuses is not there.
///
/// # Errors
/// A device or mount that cannot be made after all, in words.
pub(crate) fn adjustment(a: &wire::ContainerAdjustment) -> Result<Adjustment, String> {
    let linux = a.linux.clone().unwrap_or_default();
    let mut resources = linux.resources.as_ref().map(change).unwrap_or_default();
    resources.oom_score_adj = linux.oom_score_adj.and_then(|score| i32::try_from(score.value).ok());
    // The merge removes first: an order by "-key" before "key" keeps that.
    let annotations = a.annotations.iter().map(|(key, value)| match removal(key) {
        (key, true) => (key.to_owned(), None),
        (key, false) => (key.to_owned(), Some(value.clone())),
    });
    let mut ordered: Vec<_> = annotations.collect();
    ordered.sort_by_key(|(_, value)| value.is_some());
    Ok(Adjustment {
        annotations: ordered.into_iter().collect(),
        env: a
            .env
            .iter()
            .map(|e| match removal(&e.key) {
                (key, true) => (key.to_owned(), None),
                (key, false) => (key.to_owned(), Some(e.value.clone())),
            })
            .collect(),
        args: a.args.clone(),
        mounts: a.mounts.iter().map(mount::from_wire).collect::<Result<_, _>>()?,
        devices: linux.devices.iter().map(device::from_wire).collect::<Result<_, _>>()?,
        cdi_devices: a.cdi_devices.iter().map(|device| device.name.clone()).collect(),
        hooks: a
            .hooks
            .iter()
            .flat_map(stages)
            .flat_map(|(stage, hooks)| hooks.iter().map(move |hook| (stage.to_owned(), from_wire_hook(hook))))
            .collect(),
        rlimits: a.rlimits.iter().map(|l| (l.r#type.clone(), l.soft, l.hard)).collect(),
        resources,
    })
}
