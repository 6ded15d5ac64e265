//! An object of any kind, of which only what a scheduler reads is kept.

use super::{ClusterPod, ClusterQuota};
use cofferdam_model::ResourceList;
use cofferdam_model::affinity::{Affinity, TopologySpreadConstraint};
use cofferdam_model::meta::ObjectMeta;
use cofferdam_model::node::{Node, NodeRuntimeHandler, NodeSpec, NodeStatus, Taint};
use cofferdam_model::objects::{
    LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, Overhead, ResourceQuota, ResourceQuotaSpec, RuntimeClass, Scheduling,
    ScopeSelector,
};
use cofferdam_model::pod::{Container, ContainerPort, Pod, PodSpec, Resources, RestartPolicy, Toleration};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// The kinds that are read, and the group of their apiVersion.
pub(super) const KINDS: [(&str, &str); 6] = [
    ("Node", ""),
    ("Pod", ""),
    ("Namespace", ""),
    ("RuntimeClass", "node.k8s.io"),
    ("LimitRange", ""),
    ("ResourceQuota", ""),
];
/// Kinds of owners whose pods go with their node.
const BOUND: [&str; 2] = ["DaemonSet", "Node"];

/// An object, or a list of them.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) kind: Option<String>,
    /// Not known to be of another kind or group (which has a `Node` too, perhaps).
    pub(super) is_ours: bool,
    pub(super) metadata: Metadata,
    spec: Spec,
    pub(super) status: Option<Status>,
    handler: String,
    overhead: Option<Overhead>,
    scheduling: Option<Scheduling>,
    pub(super) items: Vec<Raw>,
}

/// Null means absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    namespace: Option<String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
}

/// The specification of a node, a pod, a limit range or a quota: no field of the one is a field of
/// another.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    unschedulable: bool,
    #[serde(deserialize_with = "or_default")]
    taints: Vec<Taint>,
    runtime_class_name: Option<String>,
    overhead: Option<ResourceList>,
    #[serde(deserialize_with = "or_default")]
    node_selector: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    tolerations: Vec<Toleration>,
    affinity: Option<Affinity>,
    #[serde(deserialize_with = "or_default")]
    topology_spread_constraints: Vec<TopologySpreadConstraint>,
    node_name: Option<String>,
    priority: Option<i32>,
    priority_class_name: Option<String>,
    preemption_policy: Option<String>,
    active_deadline_seconds: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    host_network: bool,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<RawContainer>,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<RawContainer>,
    resources: Option<Resources>,
    #[serde(deserialize_with = "or_default")]
    limits: Vec<LimitRangeItem>,
    #[serde(deserialize_with = "or_default")]
    hard: ResourceList,
    #[serde(deserialize_with = "or_default")]
    scopes: Vec<String>,
    scope_selector: Option<ScopeSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<ContainerPort>,
    resources: Option<Resources>,
    restart_policy: Option<String>,
}

/// The status of a node, a pod or a quota.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    #[serde(deserialize_with = "or_default")]
    hard: ResourceList,
    #[serde(deserialize_with = "or_default")]
    used: ResourceList,
    #[serde(deserialize_with = "or_default")]
    capacity: ResourceList,
    #[serde(deserialize_with = "or_default")]
    allocatable: ResourceList,
    runtime_handlers: Option<Vec<NodeRuntimeHandler>>,
    phase: Option<String>,
    start_time: Option<String>,
}

impl Status {
    fn has_ended(&self) -> bool {
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with kind and metadata")
    }

    /// kubectl and the API write apiVersion and kind before what is large, so that objects of other
    /// kinds are passed over unread.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw {
            is_ours: true,
            ..Raw::default()
        };
        let mut version: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => raw.kind = map.next_value()?,
                "apiVersion" => version = map.next_value()?,
                "items" if raw.kind.as_deref().is_none_or(|kind| kind.ends_with("List")) => {
                    raw.items = map.next_value::<Option<_>>()?.unwrap_or_default()
                }
                _ if !raw.is_ours => drop(map.next_value::<IgnoredAny>()?),
                "metadata" => raw.metadata = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "spec" => raw.spec = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "status" => raw.status = map.next_value()?,
                "handler" => raw.handler = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "overhead" => raw.overhead = map.next_value()?,
                "scheduling" => raw.scheduling = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            raw.is_ours = can_be_ours(raw.kind.as_deref(), version.as_deref());
        }
        Ok(raw)
    }
}

/// Whether an object of this kind and apiVersion, as far as they are known, can be one that is read.
fn can_be_ours(kind: Option<&str>, version: Option<&str>) -> bool {
    let group = version.map(|v| v.split_once('/').map_or("", |(group, _)| group));
    let fits = |(k, g): &(&str, &str)| kind.is_none_or(|kind| kind == *k) && group.is_none_or(|group| group == *g);
    KINDS.iter().any(fits)
}

impl Raw {
    fn meta(metadata: Metadata) -> ObjectMeta {
        ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            ..ObjectMeta::default()
        }
    }

    /// Of few objects only: annotations of nodes and pods are large, and no scheduler reads them.
    fn annotated(mut metadata: Metadata) -> ObjectMeta {
        let annotations = std::mem::take(&mut metadata.annotations);
        ObjectMeta {
            annotations,
            ..Self::meta(metadata)
        }
    }

    /// Whether it is a pod that has ended, and so takes no place.
    pub(super) fn has_ended(&self) -> bool {
        self.status.as_ref().is_some_and(Status::has_ended)
    }

    pub(super) fn into_node(self) -> Node {
        let status = self.status.unwrap_or_default();
        Node {
            metadata: Self::meta(self.metadata),
            spec: NodeSpec {
                unschedulable: self.spec.unschedulable,
                taints: self.spec.taints,
            },
            status: NodeStatus {
                capacity: status.capacity,
                allocatable: status.allocatable,
                runtime_handlers: status.runtime_handlers,
            },
        }
    }

    pub(super) fn into_pod(self) -> ClusterPod {
        let containers = |all: Vec<RawContainer>| all.into_iter().map(RawContainer::read).collect();
        let spec = self.spec;
        let ending = self.metadata.deletion_timestamp.is_some();
        let bound = self.metadata.owner_references.iter().any(|o| BOUND.contains(&o.kind.as_str()));
        let pod = Pod {
            metadata: Self::meta(self.metadata),
            spec: PodSpec {
                runtime_class_name: spec.runtime_class_name,
                overhead: spec.overhead,
                node_selector: spec.node_selector,
                tolerations: spec.tolerations,
                affinity: spec.affinity,
                topology_spread_constraints: spec.topology_spread_constraints,
                node_name: spec.node_name.filter(|n| !n.is_empty()),
                priority: spec.priority,
                priority_class_name: spec.priority_class_name,
                preemption_policy: spec.preemption_policy,
                active_deadline_seconds: spec.active_deadline_seconds,
                host_network: spec.host_network,
                init_containers: containers(spec.init_containers),
                containers: containers(spec.containers),
                resources: spec.resources,
                ..PodSpec::default()
            },
        };
        ClusterPod {
            pod,
            ending,
            bound,
            started: self.status.unwrap_or_default().start_time,
        }
    }

    pub(super) fn into_limit_range(self) -> LimitRange {
        LimitRange {
            metadata: Self::meta(self.metadata),
            spec: LimitRangeSpec { limits: self.spec.limits },
        }
    }

    pub(super) fn into_quota(self) -> ClusterQuota {
        let (hard, used) = self.status.map(|s| (s.hard, s.used)).unzip();
        ClusterQuota {
            quota: ResourceQuota {
                metadata: Self::meta(self.metadata),
                spec: ResourceQuotaSpec {
                    hard: self.spec.hard,
                    scopes: self.spec.scopes,
                    scope_selector: self.spec.scope_selector,
                },
            },
            hard: hard.unwrap_or_default(),
            used,
        }
    }

    pub(super) fn into_class(self) -> RuntimeClass {
        RuntimeClass {
            metadata: Self::annotated(self.metadata),
            handler: self.handler,
            overhead: self.overhead,
            scheduling: self.scheduling,
        }
    }

    pub(super) fn into_namespace(self) -> Namespace {
        Namespace {
            metadata: Self::annotated(self.metadata),
        }
    }
}

impl RawContainer {
    fn read(self) -> Container {
        Container {
            name: self.name,
            ports: self.ports,
            resources: self.resources,
            // Any other policy ends some day, which is all that a scheduler asks.
            restart_policy: self.restart_policy.filter(|p| p == "Always").map(|_| RestartPolicy::Always),
            ..Container::default()
        }
    }
}
