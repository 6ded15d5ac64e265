//! Volumes, and where containers have them.

use super::container::{FIELD_VERSION, RESOURCE_FIELD};
use super::{Shape, Type, may, must, never};
use crate::format::Format;

const MODE: Type = Type::Int(0, 0o777);
const NO_CLAIMS: &str = "there are no persistent volumes on one machine; use hostPath for what shall stay, emptyDir for the rest";
const NO_DRIVERS: &str = "storage drivers are not run here; mount it on the machine, and give the place as a hostPath";
const NO_TOKENS: &str = "it takes an API server to issue it; remove this source, or run this pod on a cluster";

/// The sources of a volume, of which at most one is set.
pub(crate) const VOLUME_SOURCES: [&str; 7] = ["emptyDir", "configMap", "secret", "hostPath", "downwardAPI", "projected", "image"];
pub(crate) static VOLUME: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Label)),
        may("emptyDir", EMPTY_DIR),
        may("configMap", CONFIG_MAP),
        may("secret", SECRET),
        may("hostPath", HOST_PATH),
        may("downwardAPI", DOWNWARD_API),
        may("projected", PROJECTED),
        may("image", IMAGE),
        never("awsElasticBlockStore", NO_DRIVERS),
        never("azureDisk", NO_DRIVERS),
        never("azureFile", NO_DRIVERS),
        never("cephfs", NO_DRIVERS),
        never("cinder", NO_DRIVERS),
        never("csi", NO_DRIVERS),
        never("ephemeral", NO_CLAIMS),
        never("fc", NO_DRIVERS),
        never("flexVolume", NO_DRIVERS),
        never("flocker", NO_DRIVERS),
        never("gcePersistentDisk", NO_DRIVERS),
        never(
            "gitRepo",
            "Kubernetes has switched it off; clone in an init container into an emptyDir",
        ),
        never("glusterfs", NO_DRIVERS),
        never("iscsi", NO_DRIVERS),
        never("nfs", NO_DRIVERS),
        never("persistentVolumeClaim", NO_CLAIMS),
        never("photonPersistentDisk", NO_DRIVERS),
        never("portworxVolume", NO_DRIVERS),
        never("quobyte", NO_DRIVERS),
        never("rbd", NO_DRIVERS),
        never("scaleIO", NO_DRIVERS),
        never("storageos", NO_DRIVERS),
        never("vsphereVolume", NO_DRIVERS),
    ],
});

const EMPTY_DIR: Type = Type::Object(&Shape {
    fields: &[
        may("medium", Type::OneOfOrLike(&["", "Memory", "HugePages"], &["HugePages-"])),
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
        must("path", Type::Text(Format::FilePath)),
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

const DOWNWARD_API: Type = Type::Object(&Shape {
    fields: &[may("items", Type::List(&DOWNWARD_API_FILE)), may("defaultMode", MODE)],
});
/// The sources of a file, of which one is set.
pub(crate) const FILE_SOURCES: [&str; 2] = ["fieldRef", "resourceFieldRef"];
static DOWNWARD_API_FILE: Type = Type::Object(&Shape {
    fields: &[
        must("path", Type::Text(Format::FilePath)),
        may(
            "fieldRef",
            Type::Object(&Shape {
                fields: &[
                    may("apiVersion", FIELD_VERSION),
                    must("fieldPath", Type::Text(Format::FileFieldPath)),
                ],
            }),
        ),
        may(
            "resourceFieldRef",
            Type::Object(&Shape {
                fields: &[
                    must("containerName", Type::Text(Format::Label)),
                    must("resource", RESOURCE_FIELD),
                    may("divisor", Type::Quantity),
                ],
            }),
        ),
        may("mode", MODE),
    ],
});

const PROJECTED: Type = Type::Object(&Shape {
    fields: &[may("sources", Type::List(&PROJECTED_SOURCE)), may("defaultMode", MODE)],
});
/// What is projected, of which one is set.
pub(crate) const PROJECTED_SOURCES: [&str; 3] = ["configMap", "secret", "downwardAPI"];
static PROJECTED_SOURCE: Type = Type::Object(&Shape {
    fields: &[
        may("configMap", PROJECTED_OBJECT),
        may("secret", PROJECTED_OBJECT),
        may(
            "downwardAPI",
            Type::Object(&Shape {
                fields: &[may("items", Type::List(&DOWNWARD_API_FILE))],
            }),
        ),
        never("serviceAccountToken", NO_TOKENS),
        never("clusterTrustBundle", NO_TOKENS),
        never("podCertificate", NO_TOKENS),
    ],
});
const PROJECTED_OBJECT: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Subdomain)),
        may("items", Type::List(&KEY_TO_PATH)),
        may("optional", Type::Bool),
    ],
});

const IMAGE: Type = Type::Object(&Shape {
    fields: &[
        must("reference", Type::Text(Format::Image)),
        may("pullPolicy", Type::OneOf(&["Always", "Never", "IfNotPresent"])),
    ],
});

pub(crate) static VOLUME_MOUNT: Type = Type::Object(&Shape {
    fields: &[
        must("name", Type::Text(Format::Label)),
        must("mountPath", Type::Text(Format::MountPath)),
        may("subPath", Type::Text(Format::Relative)),
        may("subPathExpr", Type::Text(Format::Relative)),
        may("readOnly", Type::Bool),
        may("recursiveReadOnly", Type::OneOf(&["Disabled", "IfPossible", "Enabled"])),
        may("mountPropagation", Type::OneOf(&["None", "HostToContainer", "Bidirectional"])),
    ],
});

/// A name of the pod's own in `/etc/hosts`.
pub(crate) static HOST_ALIAS: Type = Type::Object(&Shape {
    fields: &[
        must("ip", Type::Text(Format::Address)),
        may("hostnames", Type::List(&Type::Text(Format::Subdomain))),
    ],
});

/// A secret that holds the credentials of a registry.
pub(crate) static PULL_SECRET: Type = Type::Object(&Shape {
    fields: &[must("name", Type::Text(Format::Subdomain))],
});

/// The system that a pod is for.
pub(crate) const OS: Type = Type::Object(&Shape {
    fields: &[must("name", Type::OneOfYet(&["linux"], &["windows"]))],
});
