//! What a handler's configuration gives pods that say nothing themselves.

use cofferdam_handlers::{Defaults, UnsetSeccomp};
use cofferdam_model::cri::{ContainerConfig, NamespaceMode, Profile, SandboxConfig};
use cofferdam_plan::spec;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// A pod with the kernel settings of its handler, where it does not set them itself; but not those of
/// namespaces that are the machine's. A sentry has settings of its own: they are meant for the kernel
/// that a pod shares.
pub(crate) fn of_pod<'a>(defaults: &Defaults, shared_kernel: bool, config: &'a SandboxConfig) -> Cow<'a, SandboxConfig> {
    if defaults.sysctls.is_empty() || !shared_kernel {
        return Cow::Borrowed(config);
    }
    let mut config = config.clone();
    for (name, value) in &defaults.sysctls {
        let of_machine = if name.starts_with("net.") { config.network } else { config.ipc } == NamespaceMode::Node;
        if !of_machine {
            config.sysctls.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Cow::Owned(config)
}

/// A container with what its handler gives those that say nothing.
pub(crate) fn of_container<'a>(defaults: &Defaults, config: &'a ContainerConfig) -> Cow<'a, ContainerConfig> {
    let seccomp = seccomp(defaults, config);
    let pids = defaults.pids_limit.filter(|_| config.resources.pids_limit == 0);
    if pids.is_none() && seccomp == config.security.seccomp {
        return Cow::Borrowed(config);
    }
    let mut config = config.clone();
    config.security.seccomp = seccomp;
    config.resources.pids_limit = pids.unwrap_or(config.resources.pids_limit);
    Cow::Owned(config)
}

fn seccomp(defaults: &Defaults, config: &ContainerConfig) -> Profile {
    let file = |path: &Path| Profile::Localhost(path.to_string_lossy().into_owned());
    let own = || defaults.seccomp_profile.as_deref().map_or(Profile::RuntimeDefault, file);
    match (&config.security.seccomp, &defaults.unset_seccomp_profile) {
        (Profile::RuntimeDefault, _) => own(),
        (Profile::Unconfined, Some(unset)) if !config.security.seccomp_named => match unset {
            UnsetSeccomp::RuntimeDefault => own(),
            UnsetSeccomp::Localhost(path) => file(path),
        },
        (given, _) => given.clone(),
    }
}

/// A container's capabilities by its own `add` and `drop`, over its handler's.
pub(crate) fn capabilities(defaults: &Defaults, config: &ContainerConfig) -> Result<BTreeSet<String>, String> {
    let security = &config.security;
    let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    match &defaults.capabilities {
        // Where all are added or dropped it does not matter what there was before.
        Some(own) if !security.privileged && !all(&security.add_capabilities) && !all(&security.drop_capabilities) => {
            let add = [own.as_slice(), &security.add_capabilities].concat();
            let drop = [&["ALL".to_owned()], security.drop_capabilities.as_slice()].concat();
            spec::capabilities(false, &add, &drop)
        }
        _ => spec::capabilities(security.privileged, &security.add_capabilities, &security.drop_capabilities),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(change: impl FnOnce(&mut ContainerConfig)) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        change(&mut config);
        config
    }

    #[test]
    fn profiles_are_replaced_only_where_none_was_named() {
        let own = Defaults { seccomp_profile: Some("/own".into()), ..Defaults::default() };
        let unset = Defaults { unset_seccomp_profile: Some(UnsetSeccomp::RuntimeDefault), ..Defaults::default() };
        let both = Defaults { unset_seccomp_profile: unset.unset_seccomp_profile.clone(), ..own.clone() };
        let local = |path: &str| Profile::Localhost(path.into());
        for (defaults, given, named, wanted) in [
            (&own, Profile::RuntimeDefault, true, local("/own")),
            (&own, Profile::Unconfined, false, Profile::Unconfined),
            (&unset, Profile::Unconfined, false, Profile::RuntimeDefault),
            (&unset, Profile::Unconfined, true, Profile::Unconfined),
            (&both, Profile::Unconfined, false, local("/own")),
            (&both, local("/theirs"), true, local("/theirs")),
        ] {
            let config = config(|c| (c.security.seccomp, c.security.seccomp_named) = (given, named));
            assert_eq!(of_container(defaults, &config).security.seccomp, wanted, "{config:?}");
        }
    }

    #[test]
    fn limits_and_settings_fill_what_is_not_said() {
        let defaults = Defaults {
            pids_limit: Some(100),
            sysctls: [("net.a".to_owned(), "1".to_owned()), ("kernel.shm_x".to_owned(), "2".to_owned())].into(),
            ..Defaults::default()
        };
        assert_eq!(of_container(&defaults, &ContainerConfig::default()).resources.pids_limit, 100);
        assert_eq!(of_container(&defaults, &config(|c| c.resources.pids_limit = 7)).resources.pids_limit, 7);
        let pod = SandboxConfig { sysctls: [("net.a".to_owned(), "9".to_owned())].into(), ..SandboxConfig::default() };
        assert_eq!(of_pod(&defaults, true, &pod).sysctls.values().collect::<Vec<_>>(), ["2", "9"]);
        let on_machine = SandboxConfig { network: NamespaceMode::Node, ipc: NamespaceMode::Node, ..SandboxConfig::default() };
        assert!(of_pod(&defaults, true, &on_machine).sysctls.is_empty());
        assert!(of_pod(&defaults, false, &SandboxConfig::default()).sysctls.is_empty());
    }

    #[test]
    fn capabilities_begin_with_the_handlers() {
        let defaults = Defaults { capabilities: Some(vec!["CHOWN".into(), "KILL".into()]), ..Defaults::default() };
        let of = |add: &[&str], drop: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
            let config = config(|c| (c.security.add_capabilities, c.security.drop_capabilities) = (list(add), list(drop)));
            capabilities(&defaults, &config).unwrap().into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[], &[]), "CAP_CHOWN CAP_KILL");
        assert_eq!(of(&["NET_RAW"], &["KILL"]), "CAP_CHOWN CAP_NET_RAW");
        assert_eq!(of(&["NET_RAW"], &["ALL"]), "CAP_NET_RAW");
        assert_eq!(of(&["ALL"], &["KILL"]).split(' ').count(), 40);
    }
}
