//! Which sandboxes and containers a list is about.

use cofferdam_cri_api::v1;
use cofferdam_model::cri::{ContainerState, ContainerStatus, SandboxState, SandboxStatus};
use std::collections::BTreeMap;

/// Whether `labels` have all of `selector`.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether `id` is, or begins with, what a filter names; nothing is named by "". containerd takes the
/// beginning of an id too.
pub(crate) fn names(wanted: &str, id: &str) -> bool {
    id.starts_with(wanted)
}

/// CRI's state of a sandbox.
pub(crate) fn sandbox_state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

/// CRI's state of a container.
pub(crate) fn container_state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

/// Whether a filter takes a sandbox.
pub(crate) fn sandbox(filter: &v1::PodSandboxFilter, status: &SandboxStatus) -> bool {
    names(&filter.id, status.id.as_str())
        && filter.state.is_none_or(|s| s.state == i32::from(sandbox_state(status.state)))
        && selects(&filter.label_selector, &status.config.labels)
}

/// Whether a filter takes a container.
pub(crate) fn container(filter: &v1::ContainerFilter, status: &ContainerStatus) -> bool {
    names(&filter.id, status.id.as_str())
        && names(&filter.pod_sandbox_id, status.pod.as_str())
        && filter.state.is_none_or(|s| s.state == i32::from(container_state(status.state)))
        && selects(&filter.label_selector, &status.config.labels)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::cri::ContainerConfig;
    use cofferdam_model::{ContainerId, PodId};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_filter_takes_what_fits_all_of_it() {
        let status = ContainerStatus {
            id: ContainerId::from_bytes([0xab; 16]),
            pod: PodId::from_bytes([0xcd; 16]),
            config: ContainerConfig {
                labels: labels(&[("a", "1"), ("b", "2")]),
                ..ContainerConfig::default()
            },
            image_id: String::new(),
            state: ContainerState::Running,
            created_at: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            pid: None,
            stages: vec![],
        };
        let base = v1::ContainerFilter::default;
        let state = |state: v1::ContainerState| Some(v1::ContainerStateValue { state: state.into() });
        for (filter, fits) in [
            (base(), true),
            (
                v1::ContainerFilter {
                    id: "abab".into(),
                    ..base()
                },
                true,
            ),
            (
                v1::ContainerFilter {
                    id: "abba".into(),
                    ..base()
                },
                false,
            ),
            (
                v1::ContainerFilter {
                    pod_sandbox_id: "cdcd".into(),
                    ..base()
                },
                true,
            ),
            (
                v1::ContainerFilter {
                    pod_sandbox_id: "abab".into(),
                    ..base()
                },
                false,
            ),
            (
                v1::ContainerFilter {
                    state: state(v1::ContainerState::ContainerRunning),
                    ..base()
                },
                true,
            ),
            // CREATED is the number 0, and still a state that is asked for.
            (
                v1::ContainerFilter {
                    state: state(v1::ContainerState::ContainerCreated),
                    ..base()
                },
                false,
            ),
            (
                v1::ContainerFilter {
                    label_selector: labels(&[("a", "1")]),
                    ..base()
                },
                true,
            ),
            (
                v1::ContainerFilter {
                    label_selector: labels(&[("a", "1"), ("b", "3")]),
                    ..base()
                },
                false,
            ),
            (
                v1::ContainerFilter {
                    label_selector: labels(&[("c", "")]),
                    ..base()
                },
                false,
            ),
        ] {
            assert_eq!(container(&filter, &status), fits, "{filter:?}");
        }
    }
}
