//! Pods, but for their containers.

use super::affinity::{AFFINITY, TOPOLOGY_SPREAD};
use super::container::{CONTAINERS, RESOURCES};
use super::meta::{METADATA, NODE_SELECTOR, TOLERATIONS};
use super::security;
use super::volume::{HOST_ALIAS, OS, PULL_SECRET, VOLUME};
use super::{Shape, TEXT, Type, checked, forbidden, idle, later_unless, may, must, never, placing};
use crate::format::Format;

pub(crate) static POD_SPEC: Shape = Shape {
    fields: &[
        may("runtimeClassName", TEXT),
        may("overhead", Type::Quantities),
        may("nodeSelector", NODE_SELECTOR),
        may("tolerations", TOLERATIONS),
        may("affinity", AFFINITY),
        may("topologySpreadConstraints", TOPOLOGY_SPREAD),
        may("nodeName", TEXT),
        may("initContainers", CONTAINERS),
        must("containers", CONTAINERS),
        may("volumes", Type::List(&VOLUME)),
        may("restartPolicy", Type::OneOf(&["Always", "OnFailure", "Never"])),
        may("terminationGracePeriodSeconds", Type::Int(0, i64::MAX)),
        may("activeDeadlineSeconds", Type::Int(1, i32::MAX as i64)),
        may("hostname", Type::Text(Format::Label)),
        may(
            "dnsPolicy",
            Type::OneOf(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
        ),
        may("dnsConfig", DNS_CONFIG),
        may("hostNetwork", Type::Bool),
        may("hostPID", Type::Bool),
        may("hostIPC", Type::Bool),
        may("shareProcessNamespace", Type::Bool),
        may("securityContext", security::POD),
        may("resources", RESOURCES),
        may("serviceAccountName", TEXT),
        may("automountServiceAccountToken", Type::Bool),
        may("enableServiceLinks", Type::Bool),
        idle("serviceAccount", "there are no service accounts without an API server"),
        may("imagePullSecrets", Type::List(&PULL_SECRET)),
        may("hostUsers", Type::Bool),
        may("hostAliases", Type::List(&HOST_ALIAS)),
        may("subdomain", Type::Text(Format::Label)),
        may("setHostnameAsFQDN", Type::Bool),
        checked("os", OS),
        forbidden(
            "ephemeralContainers",
            "cannot be set on create; add such a container to the running pod with `cofferdam debug`",
        ),
        never(
            "hostnameOverride",
            "Kubernetes 1.34 drops it unless a gate is set; write hostname, and subdomain with setHostnameAsFQDN for a longer one",
        ),
        placing("preemptionPolicy", TEXT, Some("PreemptLowerPriority")),
        placing("priority", Type::Int(i32::MIN as i64, i32::MAX as i64), Some("0")),
        placing("priorityClassName", TEXT, None),
        never(
            "readinessGates",
            "there is nobody to set the condition on one machine; test it in a readiness probe",
        ),
        never(
            "resourceClaims",
            "there is no dynamic resource allocation on one machine; ask for the device in limits, by its CDI name",
        ),
        later_unless("schedulerName", "default-scheduler"),
        placing("schedulingGates", Type::List(&GATE), None),
    ],
};

static GATE: Type = Type::Object(&Shape {
    fields: &[must("name", TEXT)],
});

/// What Deployments and pods share.
pub(crate) static TEMPLATE: Shape = Shape {
    fields: &[may("metadata", Type::Object(&METADATA)), must("spec", Type::Object(&POD_SPEC))],
};

const DNS_CONFIG: Type = Type::Object(&Shape {
    fields: &[
        may("nameservers", Type::List(&Type::Text(Format::Address))),
        may("searches", Type::List(&Type::Text(Format::NotEmpty))),
        may("options", Type::List(&DNS_OPTION)),
    ],
});
static DNS_OPTION: Type = Type::Object(&Shape {
    fields: &[must("name", Type::Text(Format::NotEmpty)), may("value", TEXT)],
});
