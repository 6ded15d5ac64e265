//! What confines a container beside its namespaces: seccomp, AppArmor, SELinux. What was asked for and
//! cannot be had is an error; a container that asks for nothing costs nothing.

use crate::sandbox::failed;
use cofferdam_handlers::Defaults;
use cofferdam_host::files;
use cofferdam_host::lsm::{Lsm, load_apparmor};
use cofferdam_model::cri::{ContainerConfig, Error, Profile, Result};
use cofferdam_plan::confine::{self, AppArmor, DEFAULT_PROFILE, DEFAULT_PROFILE_TEXT, Labels};
use cofferdam_plan::seccomp::{self, Target};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

/// What a container is confined by, beside its process's own labels.
#[derive(Debug, Default)]
pub(crate) struct Confined {
    /// `linux.seccomp`.
    pub(crate) seccomp: Option<Value>,
    /// SELinux label of the container's own files.
    pub(crate) mount_label: Option<String>,
}

/// What is asked for. A privileged container has no seccomp filter, whatever it asks for, as upstream
/// (containerd, `internal/cri/server/container_create_linux.go`).
pub(crate) fn of(config: &ContainerConfig, capabilities: &BTreeSet<String>) -> Result<Confined> {
    let mount_label = labels(config)?.map(|labels| labels.mount);
    let seccomp = if config.security.privileged { None } else { seccomp(config, capabilities)? };
    Ok(Confined { seccomp, mount_label })
}

/// AppArmor profile and SELinux label of a container's processes. A handler may say which profile is its
/// own, `unconfined` for none, or that AppArmor is not used at all.
pub(crate) fn of_process(defaults: &Defaults, config: &ContainerConfig) -> Result<(Option<String>, Option<String>)> {
    let security = &config.security;
    let own = own_profile()?;
    let enabled = own.enabled && !defaults.disable_apparmor;
    let mut profile = None;
    if security.apparmor.is_some() || enabled {
        let default = match defaults.apparmor_profile.as_deref() {
            Some("unconfined") => None,
            Some(name) => Some(name),
            None => own.name,
        };
        let lsm = if security.apparmor.is_some() { Lsm::detect().map_err(failed)? } else { Lsm::default() };
        let machine = AppArmor { enabled, default, loaded: &lsm.profiles };
        profile = confine::apparmor(security.apparmor.as_ref(), security.privileged, machine).map_err(|e| wrong(config, &e))?;
    }
    Ok((profile, labels(config)?.map(|labels| labels.process)))
}

/// AppArmor on this machine.
#[derive(Debug, Clone, Copy)]
struct OwnProfile {
    /// The kernel has it.
    enabled: bool,
    /// The profile of containers that name none. There is none where it cannot be loaded, as containerd has
    /// it on machines without apparmor_parser.
    name: Option<&'static str>,
}

/// Found out once, when the first container is made.
fn own_profile() -> Result<OwnProfile> {
    static FOUND: OnceLock<OwnProfile> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let lsm = Lsm::detect().map_err(failed)?;
    let loaded = || lsm.profiles.iter().any(|name| name == DEFAULT_PROFILE) || load_apparmor(DEFAULT_PROFILE_TEXT).is_ok();
    let name = (lsm.apparmor && loaded()).then_some(DEFAULT_PROFILE);
    Ok(*FOUND.get_or_init(|| OwnProfile { enabled: lsm.apparmor, name }))
}

fn labels(config: &ContainerConfig) -> Result<Option<Labels>> {
    let Some(asked) = &config.security.selinux else { return Ok(None) };
    let enabled = Lsm::detect().map_err(failed)?.selinux;
    confine::selinux(Some(asked), enabled).map_err(|e| wrong(config, &e))
}

fn wrong(config: &ContainerConfig, why: &str) -> Error {
    Error::Invalid(format!("container \"{}\": {why}", config.name))
}

fn seccomp(config: &ContainerConfig, capabilities: &BTreeSet<String>) -> Result<Option<Value>> {
    let path = match &config.security.seccomp {
        Profile::Unconfined => return Ok(None),
        Profile::RuntimeDefault => None,
        Profile::Localhost(path) => Some(Path::new(path)),
    };
    let uname = rustix::system::uname();
    let (machine, release) = (uname.machine().to_string_lossy(), uname.release().to_string_lossy());
    let target = Target { architecture: &machine, kernel: seccomp::kernel_version(&release), capabilities };
    let Some(path) = path else { return Ok(Some(seccomp::runtime_default(&target))) };
    // One that is a pipe would never end.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(wrong(config, &format!("seccomp profile {} is not a file", path.display())));
    }
    let bytes = files::read_bounded(path, seccomp::MAX_PROFILE).map_err(|e| wrong(config, &format!("seccomp profile {e}")))?;
    seccomp::localhost(&bytes, &target).map(Some).map_err(|e| wrong(config, &format!("seccomp profile {}: {e}", path.display())))
}
