//! Security settings of pods and containers.

use super::{Shape, TEXT, TEXTS, Type, later_unless, may, must, never};
use crate::format::Format;

/// Greatest user or group id (`IsValidUserID` of Kubernetes' validation).
const MAX_ID: i64 = i32::MAX as i64;
const ID: Type = Type::Int(0, MAX_ID);
const NO_WINDOWS: &str = "pods run on Linux here; remove it";

pub(crate) const CONTAINER: Type = Type::Object(&Shape {
    fields: &[
        may("runAsUser", ID),
        may("runAsGroup", ID),
        may("runAsNonRoot", Type::Bool),
        may("privileged", Type::Bool),
        may("allowPrivilegeEscalation", Type::Bool),
        may("readOnlyRootFilesystem", Type::Bool),
        may(
            "capabilities",
            Type::Object(&Shape {
                fields: &[may("add", TEXTS), may("drop", TEXTS)],
            }),
        ),
        may("seccompProfile", SECCOMP),
        may("appArmorProfile", APP_ARMOR),
        may("procMount", Type::OneOf(&["Default", "Unmasked"])),
        may("seLinuxOptions", SE_LINUX),
        never("windowsOptions", NO_WINDOWS),
    ],
});

pub(crate) const POD: Type = Type::Object(&Shape {
    fields: &[
        may("runAsUser", ID),
        may("runAsGroup", ID),
        may("runAsNonRoot", Type::Bool),
        may("supplementalGroups", Type::List(&ID)),
        may("supplementalGroupsPolicy", Type::OneOf(&["Merge", "Strict"])),
        may("fsGroup", ID),
        may("fsGroupChangePolicy", Type::OneOf(&["OnRootMismatch", "Always"])),
        may("sysctls", Type::List(&SYSCTL)),
        may("seccompProfile", SECCOMP),
        may("appArmorProfile", APP_ARMOR),
        may("seLinuxOptions", SE_LINUX),
        later_unless("seLinuxChangePolicy", "Recursive"),
        never("windowsOptions", NO_WINDOWS),
    ],
});

static SYSCTL: Type = Type::Object(&Shape {
    fields: &[must("name", Type::Text(Format::Sysctl)), must("value", TEXT)],
});

const PROFILE: Type = Type::OneOf(&["Unconfined", "RuntimeDefault", "Localhost"]);
const SECCOMP: Type = Type::Object(&Shape {
    fields: &[must("type", PROFILE), may("localhostProfile", Type::Text(Format::Relative))],
});
const APP_ARMOR: Type = Type::Object(&Shape {
    fields: &[must("type", PROFILE), may("localhostProfile", TEXT)],
});
const SE_LINUX: Type = Type::Object(&Shape {
    fields: &[may("user", TEXT), may("role", TEXT), may("type", TEXT), may("level", TEXT)],
});
