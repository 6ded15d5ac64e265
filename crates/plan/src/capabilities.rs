//! The capability set of a container.

use std::collections::BTreeSet;

/// Capabilities of a container that asks for none, as containerd and Docker have them.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All capabilities of Linux 5.9 and later (`capabilities(7)`).
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// The capability set of a container: defaults, then dropped, then added; `ALL` is all. Names come
/// with or without `CAP_`, in any case. An unknown name is an error, as dropping it in silence would
/// leave what the user wanted gone.
pub fn capabilities(privileged: bool, add: &[String], drop: &[String]) -> Result<BTreeSet<String>, String> {
    if privileged {
        return Ok(ALL_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect());
    }
    let all = || ALL_CAPABILITIES.iter().map(|c| (*c).to_owned());
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    // As upstream: ALL first, then the single names, so that "drop ALL, add NET_BIND_SERVICE" works
    // (containerd, internal/cri/server, container security context).
    if is_all(add) {
        set = all().collect();
    }
    if is_all(drop) {
        set.clear();
    }
    for name in add.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        set.insert(canonical(name)?);
    }
    for name in drop.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        set.remove(&canonical(name)?);
    }
    Ok(set)
}

fn is_all(names: &[String]) -> bool {
    names.iter().any(|n| n.eq_ignore_ascii_case("ALL"))
}

fn canonical(name: &str) -> Result<String, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if ALL_CAPABILITIES.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(format!("capability {name:?} does not exist; see capabilities(7) for the names"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn capabilities_follow_add_and_drop() {
        let caps = |add: &[&str], drop: &[&str]| capabilities(false, &strings(add), &strings(drop)).unwrap();
        assert_eq!(caps(&[], &[]).len(), 14);
        assert_eq!(
            caps(&["net_bind_service"], &["ALL"]),
            BTreeSet::from(["CAP_NET_BIND_SERVICE".to_owned()])
        );
        assert_eq!(caps(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert!(!caps(&[], &["CAP_MKNOD"]).contains("CAP_MKNOD"));
        assert!(capabilities(false, &[], &strings(&["SYSADMIN"])).unwrap_err().contains("SYSADMIN"));
        assert_eq!(capabilities(true, &[], &strings(&["ALL"])).unwrap().len(), 41);
    }
}
