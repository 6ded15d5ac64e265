//! What an OCI runtime's binary can do: what it tells of itself (`features.md` of the runtime
//! specification), or, of binaries older than that, its version.

use crate::oci::Flavor;
use crate::probe;
use crate::{
    FEATURE_APPARMOR, FEATURE_BIDIRECTIONAL_MOUNTS, FEATURE_DEVICES, FEATURE_HOST_NAMESPACES, FEATURE_HUGE_PAGES, FEATURE_IMAGE_VOLUMES,
    FEATURE_SECCOMP, FEATURE_SELINUX, FEATURE_SYSCTLS, Probe,
};
use cofferdam_model::cri::{FEATURE_CONTAINER_LIMITS, FEATURE_RECURSIVE_READ_ONLY, FEATURE_USER_NAMESPACES};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The least kernel for recursive read-only mounts (mount_setattr(2)).
const KERNEL_RECURSIVE: (u32, u32) = (5, 12);
/// The least kernel for a root whose ids are mapped: overlayfs over mapped lower layers.
const KERNEL_MAPPED_ROOT: (u32, u32) = (5, 19);

/// Asks a binary; an error is one sentence.
pub(crate) fn probe(flavor: Flavor, binary: &Path) -> Result<Probe, String> {
    let version = probe::output_of(binary, "--version")?;
    // Binaries that do not know the command say so and fail.
    let told = probe::output_of(binary, "features")
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    Ok(Probe {
        version: probe::first_line(&version),
        features: features(flavor, &version, told.as_ref(), kernel()),
    })
}

fn kernel() -> (u32, u32) {
    cofferdam_plan::seccomp::kernel_version(&rustix::system::uname().release().to_string_lossy())
}

fn features(flavor: Flavor, version: &str, told: Option<&Value>, kernel: (u32, u32)) -> BTreeMap<String, bool> {
    let lists_rro = told
        .and_then(|t| t["mountOptions"].as_array())
        .is_some_and(|all| all.iter().any(|o| o == "rro"));
    // crun tells nothing of itself before 1.8.6, youki 0.7 leaves it out of what it tells; both have it.
    let has_rro = match flavor {
        Flavor::Runc => lists_rro,
        Flavor::Crun => lists_rro || at_least(version, (1, 4)),
        Flavor::Youki => lists_rro || at_least(version, (0, 7)),
    };
    let built = |name: &str, tag: &str| match told {
        // An entry that is null or absent is one that was left out when the binary was built.
        Some(told) => told["linux"][name].get("enabled").and_then(Value::as_bool).unwrap_or(false),
        None => flavor != Flavor::Crun || version.split_ascii_whitespace().any(|word| word == tag),
    };
    let no_filter = flavor == Flavor::Youki && told.is_none();
    [
        (FEATURE_RECURSIVE_READ_ONLY, has_rro && kernel >= KERNEL_RECURSIVE),
        (FEATURE_USER_NAMESPACES, kernel >= KERNEL_MAPPED_ROOT && user_namespaces()),
        (FEATURE_SECCOMP, built("seccomp", "+SECCOMP") && !no_filter),
        (FEATURE_APPARMOR, built("apparmor", "+APPARMOR")),
        (FEATURE_SELINUX, built("selinux", "+SELINUX")),
        (FEATURE_HOST_NAMESPACES, true),
        (FEATURE_DEVICES, true),
        (FEATURE_BIDIRECTIONAL_MOUNTS, true),
        (FEATURE_IMAGE_VOLUMES, true),
        (FEATURE_SYSCTLS, true),
        (FEATURE_HUGE_PAGES, true),
        (FEATURE_CONTAINER_LIMITS, true),
    ]
    .into_iter()
    .map(|(name, has)| (name.to_owned(), has))
    .collect()
}

/// Whether this kernel makes user namespaces, and may (user_namespaces(7)).
fn user_namespaces() -> bool {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
    Path::new("/proc/self/ns/user").exists() && most.is_none_or(|text| text.trim() != "0")
}

/// Whether the version in `crun version 1.8.1` or `youki version: 0.7.0` is at least `wanted`.
fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let number = |word: &str| {
        let mut parts = word.split('.').map(str::parse::<u32>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let line = version.lines().next().unwrap_or_default();
    line.split_ascii_whitespace().find_map(number).is_some_and(|found| found >= wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const CRUN: &str = "crun version 1.8.1\ncommit: x\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n";

    #[test]
    fn features_are_what_the_binary_tells_or_its_version() {
        let runc = json!({"mountOptions": ["ro", "rro"], "linux": {"seccomp": {"enabled": true}, "apparmor": {"enabled": true}, "selinux": {"enabled": true}}});
        let old_runc = json!({"mountOptions": ["ro"], "linux": {"seccomp": {"enabled": true}}});
        let youki =
            json!({"mountOptions": ["ro"], "linux": {"seccomp": null, "apparmor": {"enabled": true}, "selinux": {"enabled": false}}});
        let rows = [
            (
                Flavor::Runc,
                "runc version 1.1.5",
                Some(&runc),
                (6, 1),
                "rro users seccomp apparmor selinux",
            ),
            (Flavor::Runc, "runc version 1.1.0", Some(&old_runc), (6, 1), "users seccomp"),
            (Flavor::Runc, "runc version 1.0.0", None, (6, 1), "users seccomp apparmor selinux"),
            (Flavor::Crun, CRUN, None, (6, 1), "rro users seccomp apparmor selinux"),
            (Flavor::Crun, CRUN, None, (5, 15), "rro seccomp apparmor selinux"),
            (Flavor::Crun, CRUN, None, (5, 4), "seccomp apparmor selinux"),
            (Flavor::Crun, "crun version 1.8.1\n-SECCOMP +CAP\n", None, (6, 1), "rro users"),
            (Flavor::Crun, "crun version 1.3\n+SECCOMP\n", None, (6, 1), "users seccomp"),
            (Flavor::Crun, "crun version UNKNOWN\n+SECCOMP\n", None, (6, 1), "users seccomp"),
            (Flavor::Youki, "youki version: 0.7.0", Some(&youki), (6, 1), "rro users apparmor"),
            (Flavor::Youki, "youki version: 0.5.0", None, (6, 1), "users apparmor selinux"),
        ];
        let names = [
            (FEATURE_RECURSIVE_READ_ONLY, "rro"),
            (FEATURE_USER_NAMESPACES, "users"),
            (FEATURE_SECCOMP, "seccomp"),
            (FEATURE_APPARMOR, "apparmor"),
            (FEATURE_SELINUX, "selinux"),
        ];
        for (flavor, version, told, kernel, wanted) in rows {
            let found = features(flavor, version, told, kernel);
            let has: Vec<_> = names.iter().filter(|(name, _)| found[*name]).map(|(_, short)| *short).collect();
            assert_eq!(has.join(" "), wanted, "{flavor:?} {version}");
        }
    }
}
