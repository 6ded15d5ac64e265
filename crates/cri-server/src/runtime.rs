//! Verbs on the runtime itself.

use crate::core::{Core, Note};
use crate::{CgroupDriver, error, verbose};
use cofferdam_cri_api::v1;
use cofferdam_model::cri::{FEATURE_RECURSIVE_READ_ONLY, FEATURE_USER_NAMESPACES, HandlerStatus};
use tonic::Status;

/// Version of CRI that is spoken.
const API_VERSION: &str = "v1";

pub(crate) fn version() -> v1::VersionResponse {
    v1::VersionResponse {
        // Of the kubelet's own API; it never changed.
        version: "0.1.0".into(),
        runtime_name: "cofferdam".into(),
        runtime_version: env!("CARGO_PKG_VERSION").into(),
        runtime_api_version: API_VERSION.into(),
    }
}

impl Core {
    pub(crate) fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse, Status> {
        let table = self.engine.table();
        let mut handlers = self.engine.handler_statuses();
        handlers.retain(|handler| table.is_wanted(&handler.name));
        let attachable = self.engine.network_status();
        let network = match &attachable {
            Ok(()) => condition("NetworkReady", None),
            Err(why) => condition(
                "NetworkReady",
                Some(("NetworkPluginNotReady", format!("Network plugin returns error: {why}"))),
            ),
        };
        let unproved: Vec<String> = handlers.iter().filter_map(|h| h.unproved.clone()).collect();
        let proved = (!unproved.is_empty()).then(|| ("HandlersUnproved", unproved.join("; ")));
        Ok(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", None),
                    network,
                    condition("CofferdamHandlersProved", proved),
                ],
            }),
            info: if request.verbose {
                verbose::runtime(self, &handlers, &attachable)
            } else {
                Default::default()
            },
            runtime_handlers: runtime_handlers(&handlers),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
                mount_options: false,
            }),
        })
    }

    pub(crate) fn runtime_config(&self) -> v1::RuntimeConfigResponse {
        let driver = match self.options.cgroup_driver {
            CgroupDriver::Systemd => v1::CgroupDriver::Systemd,
            CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
        };
        v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration {
                cgroup_driver: driver.into(),
            }),
        }
    }

    pub(crate) fn update_runtime_config(&self, request: v1::UpdateRuntimeConfigRequest) -> v1::UpdateRuntimeConfigResponse {
        // The pods' addresses are this runtime's own or the plugins' to choose: kept for `crictl info` alone.
        if let Some(network) = request.runtime_config.and_then(|c| c.network_config) {
            *self.pod_cidr.write().unwrap_or_else(|e| e.into_inner()) = network.pod_cidr;
        }
        v1::UpdateRuntimeConfigResponse {}
    }

    pub(crate) fn checkpoint_container(
        &self,
        request: v1::CheckpointContainerRequest,
        note: &mut Note,
    ) -> Result<v1::CheckpointContainerResponse, Status> {
        let (pod, _) = self.named_container(&request.container_id, error::CONTAINER, note)?;
        Err(Status::unimplemented(format!(
            "handler \"{}\" cannot write a running container down; no handler of this runtime can",
            pod.handler
        )))
    }
}

fn condition(kind: &str, wrong: Option<(&str, String)>) -> v1::RuntimeCondition {
    let (status, (reason, message)) = (wrong.is_none(), wrong.unwrap_or_default());
    v1::RuntimeCondition {
        r#type: kind.into(),
        status,
        reason: reason.into(),
        message,
    }
}

/// The handlers that are proved, the default one under "" too. One that is not is none that a scheduler
/// should send pods to.
fn runtime_handlers(all: &[HandlerStatus]) -> Vec<v1::RuntimeHandler> {
    let has = |handler: &HandlerStatus, feature: &str| handler.features.get(feature).copied().unwrap_or(false);
    let wire = |name: &str, handler: &HandlerStatus| v1::RuntimeHandler {
        name: name.to_owned(),
        features: Some(v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: has(handler, FEATURE_RECURSIVE_READ_ONLY),
            user_namespaces: has(handler, FEATURE_USER_NAMESPACES),
        }),
    };
    let proved: Vec<&HandlerStatus> = all.iter().filter(|h| h.unproved.is_none()).collect();
    let default = proved.iter().find(|h| h.default).map(|h| wire("", h));
    default.into_iter().chain(proved.iter().map(|h| wire(&h.name, h))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unproved_handlers_are_not_offered_and_the_default_is_twice() {
        let handler = |name: &str, default, unproved: Option<&str>, userns| HandlerStatus {
            name: name.into(),
            default,
            binary: None,
            version: None,
            driver: "oci".into(),
            unproved: unproved.map(str::to_owned),
            features: [(FEATURE_USER_NAMESPACES.to_owned(), userns)].into(),
        };
        let told = runtime_handlers(&[
            handler("crun", true, None, true),
            handler("kata", false, Some("no"), true),
            handler("runsc", false, None, false),
        ]);
        let told: Vec<_> = told
            .iter()
            .map(|h| (h.name.as_str(), h.features.is_some_and(|f| f.user_namespaces)))
            .collect();
        assert_eq!(told, [("", true), ("crun", true), ("runsc", false)]);
        assert!(runtime_handlers(&[handler("crun", true, Some("no"), true)]).is_empty());
    }
}
