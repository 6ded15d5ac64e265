//! Pods, but for their containers.

use super::affinity::{AFFINITY, TOPOLOGY_SPREAD};
use super::container::{CONTAINERS, RESOURCES, SECCOMP};
use super::meta::{METADATA, NODE_SELECTOR, TOLERATIONS};
use super::{Shape, TEXT, Type, idle, later, later_unless, may, must, placing};
use crate::format::Format;

/// Greatest user or group id (`IsValidUserID` of Kubernetes' validation).
pub(crate) const MAX_ID: i64 = i32::MAX as i64;
const MODE: Type = Type::Int(0, 0o777);

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
            Type::OneOfYet(&["ClusterFirst", "Default", "None"], &["ClusterFirstWithHostNet"]),
        ),
        may("dnsConfig", DNS_CONFIG),
        may("hostNetwork", Type::Bool),
        may("hostPID", Type::Bool),
        may("hostIPC", Type::Bool),
        may("shareProcessNamespace", Type::Bool),
        may("securityContext", SECURITY_CONTEXT),
        may("resources", RESOURCES),
        may("serviceAccountName", TEXT),
        may("automountServiceAccountToken", Type::Bool),
        may("enableServiceLinks", Type::Bool),
        idle("serviceAccount", "there are no service accounts without an API server"),
        idle(
            "imagePullSecrets",
            "images are not pulled with a pod's secrets; load or pull them beforehand",
        ),
        later("ephemeralContainers"),
        later("hostAliases"),
        later_unless("hostUsers", "true"),
        later("hostnameOverride"),
        later("os"),
        placing("preemptionPolicy", TEXT, Some("PreemptLowerPriority")),
        placing("priority", Type::Int(i32::MIN as i64, i32::MAX as i64), Some("0")),
        placing("priorityClassName", TEXT, None),
        later("readinessGates"),
        later("resourceClaims"),
        later_unless("schedulerName", "default-scheduler"),
        placing("schedulingGates", Type::List(&GATE), None),
        later_unless("setHostnameAsFQDN", "false"),
        later("subdomain"),
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

const SECURITY_CONTEXT: Type = Type::Object(&Shape {
    fields: &[
        may("runAsUser", Type::Int(0, MAX_ID)),
        may("runAsGroup", Type::Int(0, MAX_ID)),
        may("runAsNonRoot", Type::Bool),
        may("supplementalGroups", Type::List(&Type::Int(0, MAX_ID))),
        may("fsGroup", Type::Int(0, MAX_ID)),
        may("sysctls", Type::List(&SYSCTL)),
        may("seccompProfile", SECCOMP),
        later("appArmorProfile"),
        later_unless("fsGroupChangePolicy", "Always"),
        later("seLinuxChangePolicy"),
        later("seLinuxOptions"),
        later_unless("supplementalGroupsPolicy", "Merge"),
        later("windowsOptions"),
    ],
});
static SYSCTL: Type = Type::Object(&Shape {
    fields: &[must("name", Type::Text(Format::Sysctl)), must("value", TEXT)],
});

static VOLUME: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Label)),
        may("emptyDir", EMPTY_DIR),
        may("configMap", CONFIG_MAP),
        may("secret", SECRET),
        may("hostPath", HOST_PATH),
        later("awsElasticBlockStore"),
        later("azureDisk"),
        later("azureFile"),
        later("cephfs"),
        later("cinder"),
        later("csi"),
        later("downwardAPI"),
        later("ephemeral"),
        later("fc"),
        later("flexVolume"),
        later("flocker"),
        later("gcePersistentDisk"),
        later("gitRepo"),
        later("glusterfs"),
        later("image"),
        later("iscsi"),
        later("nfs"),
        later("persistentVolumeClaim"),
        later("photonPersistentDisk"),
        later("portworxVolume"),
        later("projected"),
        later("quobyte"),
        later("rbd"),
        later("scaleIO"),
        later("storageos"),
        later("vsphereVolume"),
    ],
});

/// The sources of a volume, of which at most one is set.
pub(crate) const VOLUME_SOURCES: [&str; 4] = ["emptyDir", "configMap", "secret", "hostPath"];

const EMPTY_DIR: Type = Type::Object(&Shape {
    fields: &[
        may("medium", Type::OneOfYet(&["", "Memory"], &["HugePages"])),
        may("sizeLimit", Type::Quantity),
    ],
});
const CONFIG_MAP: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Subdomain)),
        may("items", Type::List(&KEY_TO_PATH)),
        may("defaultMode", MODE),
        may("optional", Type::Bool),
    ],
});
const SECRET: Type = Type::Object(&Shape {
    fields: &[
        must("secretName", Type::Text(Format::Subdomain)),
        may("items", Type::List(&KEY_TO_PATH)),
        may("defaultMode", MODE),
        may("optional", Type::Bool),
    ],
});
static KEY_TO_PATH: Type = Type::Object(&Shape {
    fields: &[
        must("key", Type::Text(Format::DataKey)),
        must("path", Type::Text(Format::Relative)),
        may("mode", MODE),
    ],
});
const HOST_PATH: Type = Type::Object(&Shape {
    fields: &[
        must("path", Type::Text(Format::Absolute)),
        may(
            "type",
            Type::OneOf(&[
                "",
                "DirectoryOrCreate",
                "Directory",
                "FileOrCreate",
                "File",
                "Socket",
                "CharDevice",
                "BlockDevice",
            ]),
        ),
    ],
});
