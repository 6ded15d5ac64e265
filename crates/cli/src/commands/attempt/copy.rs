//! The copy of a pod that is tried under a handler. Pure.

use cofferdam_decide::resources;
use cofferdam_model::pod::{Container, EnvSource, Pod, RestartPolicy};
use cofferdam_node::PodSetup;

/// Longest name of a copy, bytes: host names end there.
const MAX_NAME: usize = 63;

/// `setup` to be run under `handler`, once: named `NAME-HANDLER`, without its class, each container
/// started once. The class's overhead stays only where `own`, the handler that the pod would have had,
/// is this one. What the pod can see of its name is the name that it had.
pub(crate) fn for_handler(setup: &PodSetup, handler: &str, own: &str) -> PodSetup {
    let mut pod = setup.pod.clone();
    let name = pod.metadata.name.clone();
    pod.metadata.uid = None;
    pod.metadata.name = copy_name(&name, handler);
    pod.spec.runtime_class_name = None;
    if handler != own {
        pod.spec.overhead = None;
    }
    pod.spec.hostname.get_or_insert_with(|| name.clone());
    pod.spec.restart_policy = Some(RestartPolicy::Never);
    for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
        keep_name(container, &name);
    }
    PodSetup {
        handler: handler.to_owned(),
        class: None,
        admitted_as: None,
        pod_resources: resources::pod_cgroup(&pod),
        overhead: resources::sandbox_overhead(&pod),
        containers: setup.containers.clone(),
        pod,
    }
}

fn copy_name(name: &str, handler: &str) -> String {
    let room = MAX_NAME.saturating_sub(handler.len() + 1).max(1);
    let base = name.get(..room).unwrap_or(name).trim_end_matches(['-', '.']);
    format!("{base}-{handler}")
}

/// A variable that is made of the pod's name shows the name of the manifest.
fn keep_name(container: &mut Container, name: &str) {
    for variable in &mut container.env {
        let path = |source: &EnvSource| source.field_ref.as_ref().map(|f| f.field_path.clone());
        if variable.value_from.as_ref().and_then(path).as_deref() == Some("metadata.name") {
            variable.value_from = None;
            variable.value = Some(name.to_owned());
        }
    }
}

/// The setups without those that are another's replica, each with the number of pods that it stands for.
pub(crate) fn without_replicas(setups: Vec<PodSetup>) -> Vec<(PodSetup, usize)> {
    let mut all: Vec<(PodSetup, usize)> = Vec::new();
    for setup in setups {
        let twin = |(other, _): &&mut (PodSetup, usize)| alike(&other.pod, &setup.pod) && other.handler == setup.handler;
        match all.iter_mut().find(twin) {
            Some((_, count)) => *count += 1,
            None => all.push((setup, 1)),
        }
    }
    all
}

fn alike(a: &Pod, b: &Pod) -> bool {
    a.spec == b.spec && a.metadata.labels == b.metadata.labels && a.metadata.namespace == b.metadata.namespace
}

/// What a pod brings that makes its tries depend on each other, in one sentence.
pub(crate) fn dependence(pod: &Pod) -> Option<String> {
    let of_machine: Vec<&str> = pod
        .spec
        .volumes
        .iter()
        .filter(|v| v.host_path.is_some())
        .map(|v| v.name.as_str())
        .collect();
    (!of_machine.is_empty()).then(|| {
        format!(
            "volume {} is a path of the machine: each try sees what the one before it left there",
            of_machine.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::ResourceList;
    use cofferdam_model::pod::{EnvVar, FieldRef};

    fn setup(name: &str) -> PodSetup {
        let mut pod = Pod::default();
        pod.metadata.name = name.into();
        pod.spec.runtime_class_name = Some("gvisor".into());
        let overhead: ResourceList = [("memory".into(), "64Mi".parse().unwrap())].into_iter().collect();
        pod.spec.overhead = Some(overhead);
        let field = FieldRef {
            field_path: "metadata.name".into(),
            ..FieldRef::default()
        };
        let source = EnvSource {
            field_ref: Some(field),
            ..EnvSource::default()
        };
        let variable = EnvVar {
            name: "POD".into(),
            value_from: Some(source),
            ..EnvVar::default()
        };
        pod.spec.containers.push(Container {
            name: "app".into(),
            env: vec![variable],
            ..Container::default()
        });
        let overhead = resources::sandbox_overhead(&pod);
        PodSetup {
            pod,
            handler: "runsc".into(),
            class: Some("gvisor".into()),
            overhead,
            ..PodSetup::default()
        }
    }

    #[test]
    fn overhead_stays_only_under_the_handler_of_the_class() {
        for (handler, overhead) in [("runsc", 64 << 20), ("runc", 0)] {
            let copy = for_handler(&setup("web"), handler, "runsc");
            assert_eq!((copy.handler.as_str(), copy.class), (handler, None));
            assert_eq!(copy.overhead.memory_limit, overhead, "{handler}");
            assert_eq!(copy.pod.spec.overhead.is_some(), overhead > 0, "{handler}");
        }
    }

    #[test]
    fn a_copy_is_named_after_its_handler_and_sees_its_own_name() {
        let copy = for_handler(&setup("web"), "crun", "runsc");
        assert_eq!(copy.pod.metadata.name, "web-crun");
        assert_eq!(copy.pod.spec.hostname.as_deref(), Some("web"));
        assert_eq!(copy.pod.spec.containers[0].env[0].value.as_deref(), Some("web"));
        assert_eq!(copy.pod.spec.restart_policy, Some(RestartPolicy::Never));
        for (name, handler, want) in [
            ("a".repeat(80), "runc".to_owned(), format!("{}-runc", "a".repeat(58))),
            (
                format!("{}-b", "a".repeat(57)),
                "runc".to_owned(),
                format!("{}-runc", "a".repeat(57)),
            ),
            ("web".into(), "h".repeat(63), format!("w-{}", "h".repeat(63))),
        ] {
            assert_eq!(copy_name(&name, &handler), want);
        }
    }

    #[test]
    fn replicas_are_tried_once() {
        let mut other = setup("d");
        other.pod.spec.host_network = true;
        let all = without_replicas(vec![setup("a"), setup("b"), other, setup("c")]);
        let names: Vec<_> = all.iter().map(|(s, n)| (s.pod.metadata.name.as_str(), *n)).collect();
        assert_eq!(names, [("a", 3), ("d", 1)]);
    }
}
