//! Nodes of a cluster: what a scheduler reads of them.

use crate::ResourceList;
use crate::meta::ObjectMeta;
use serde::{Deserialize, Serialize};

/// `v1` Node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Metadata; cluster-scoped.
    pub metadata: ObjectMeta,
    /// Specification.
    pub spec: NodeSpec,
    /// What the node reported last.
    pub status: NodeStatus,
}

/// Specification of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Cordoned: no new pods.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
    /// What a pod must tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

/// A taint: keeps pods away that do not tolerate it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Status of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// What the machine has.
    #[serde(skip_serializing_if = "ResourceList::is_empty")]
    pub capacity: ResourceList,
    /// What pods can have of it.
    #[serde(skip_serializing_if = "ResourceList::is_empty")]
    pub allocatable: ResourceList,
    /// The handlers of its runtime; `None` where the node does not say (Kubernetes before 1.30, or
    /// a runtime that does not report them).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_handlers: Option<Vec<NodeRuntimeHandler>>,
}

/// A handler that a node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRuntimeHandler {
    /// Its name; empty is the default handler.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<RuntimeHandlerFeatures>,
}

/// Features of a handler (KEP-3857, KEP-127); `None` where the node does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeHandlerFeatures {
    /// Recursive read-only mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursive_read_only_mounts: Option<bool>,
    /// User namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<bool>,
}

impl Node {
    /// Whether the node says that it has no handler of this name. The default handler (`""`) and a
    /// node that lists no handlers are never doubted.
    pub fn lacks_handler(&self, handler: &str) -> bool {
        let listed = self.status.runtime_handlers.as_ref();
        !handler.is_empty() && listed.is_some_and(|all| all.iter().all(|h| h.name != handler))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_without_the_name_lacks_a_handler() {
        let node = |handlers: Option<&[&str]>| {
            let listed = |names: &[&str]| {
                names
                    .iter()
                    .map(|n| NodeRuntimeHandler {
                        name: (*n).into(),
                        features: None,
                    })
                    .collect()
            };
            Node {
                status: NodeStatus {
                    runtime_handlers: handlers.map(listed),
                    ..Default::default()
                },
                ..Default::default()
            }
        };
        let rows = [
            // listed handlers, asked for, lacking
            (None, "kata-qemu", false),
            (Some(&["", "runc", "kata-qemu"][..]), "kata-qemu", false),
            (Some(&["", "runc"][..]), "kata-qemu", true),
            (Some(&[][..]), "kata-qemu", true),
            (Some(&["runc"][..]), "", false),
        ];
        for (handlers, asked, lacking) in rows {
            assert_eq!(node(handlers).lacks_handler(asked), lacking, "{handlers:?} {asked}");
        }
    }
}
