//! AppArmor profiles and SELinux labels: what a container asks for against what the kernel has.

use cofferdam_model::cri::Profile;
use cofferdam_model::pod::SeLinuxOptions;

/// Longest name of a profile and longest part of a label, bytes.
const MAX_NAME: usize = 4096;

/// Name of the runtime's own AppArmor profile.
pub const DEFAULT_PROFILE: &str = "cofferdam-default";

/// The runtime's own AppArmor profile, as its parser takes it: what Docker's and containerd's denies is
/// denied (`contrib/apparmor/template.go`). Everything in the container but mounts, writes to what of
/// `/proc` is no process's and not `/proc/sys/kernel/shm*`, and to `/sys` beside the cgroups; of others'
/// processes only unconfined ones, as our monitor is, may send signals.
pub const DEFAULT_PROFILE_TEXT: &str = r"profile cofferdam-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=cofferdam-default,
  ptrace (trace, tracedby, read, readby) peer=cofferdam-default,
  deny mount,
  deny /proc/* w,
  deny /proc/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
";

/// What of a machine's AppArmor is asked about.
#[derive(Debug, Clone, Copy)]
pub struct AppArmor<'a> {
    /// The kernel enforces it.
    pub enabled: bool,
    /// The runtime's own profile, where one could be loaded.
    pub default: Option<&'a str>,
    /// Names of the profiles that are loaded.
    pub loaded: &'a [String],
}

/// The profile of a container; `None` for none. Nothing that was asked for is left out in silence: the
/// words are those of the kubelet (`pkg/security/apparmor/validate.go`) and of containerd's CRI.
///
/// A container that asks for nothing gets the runtime's own where there is one; a privileged one gets
/// none unless it names one.
pub fn apparmor(asked: Option<&Profile>, privileged: bool, machine: AppArmor<'_>) -> Result<Option<String>, String> {
    let wanted = match asked {
        Some(Profile::Unconfined) => return Ok(None),
        None | Some(Profile::RuntimeDefault) if privileged => return Ok(None),
        None => return Ok(machine.default.filter(|_| machine.enabled).map(str::to_owned)),
        Some(wanted) => wanted,
    };
    if !machine.enabled {
        return Err("Cannot enforce AppArmor: AppArmor is not enabled on the host".into());
    }
    let Profile::Localhost(name) = wanted else {
        return machine.default.map(|name| Some(name.to_owned())).ok_or_else(|| {
            "Cannot enforce AppArmor: the runtime's own profile is not loaded, for which apparmor_parser must be installed".into()
        });
    };
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("AppArmor profile {name:?} is not the name of one"));
    }
    if !machine.loaded.contains(name) {
        return Err(format!("AppArmor profile not found {name}; load it with apparmor_parser"));
    }
    Ok(Some(name.clone()))
}

/// Labels of a container: of its processes, and of the files of its own mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// `process.selinuxLabel`.
    pub process: String,
    /// `linux.mountLabel`.
    pub mount: String,
}

/// The SELinux labels of a container; `None` where it asks for none. Parts that are not given are those
/// of containers (`container_t`, `container_file_t`: container-selinux). A kernel without SELinux
/// cannot honour them.
pub fn selinux(asked: Option<&SeLinuxOptions>, enabled: bool) -> Result<Option<Labels>, String> {
    let Some(asked) = asked.filter(|o| **o != SeLinuxOptions::default()) else {
        return Ok(None);
    };
    if !enabled {
        return Err("Cannot enforce SELinux: SELinux is not enabled on the host; remove seLinuxOptions".into());
    }
    let part = |given: &Option<String>, default: &str, name: &str, extra: &[char]| {
        let text = given.as_deref().filter(|t| !t.is_empty()).unwrap_or(default).to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c) || extra.contains(&c);
        if text.len() <= MAX_NAME && text.chars().all(plain) {
            Ok(text)
        } else {
            Err(format!("seLinuxOptions.{name} {text:?} cannot be part of a label"))
        }
    };
    let user = part(&asked.user, "system_u", "user", &[])?;
    let role = part(&asked.role, "system_r", "role", &[])?;
    let kind = part(&asked.kind, "container_t", "type", &[])?;
    let level = part(&asked.level, "s0", "level", &[':', ','])?;
    Ok(Some(Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        mount: format!("{user}:object_r:container_file_t:{level}"),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn apparmor_is_enforced_or_refused() {
        use Profile::{Localhost, RuntimeDefault, Unconfined};
        let loaded = ["strict".to_owned()];
        let on = AppArmor {
            enabled: true,
            default: Some("ours"),
            loaded: &loaded,
        };
        let (off, bare) = (
            AppArmor {
                enabled: false,
                default: None,
                ..on
            },
            AppArmor { default: None, ..on },
        );
        let strict = Some(Localhost("strict".into()));
        let rows = [
            (None, false, on, Ok(Some("ours"))),
            (None, false, off, Ok(None)),
            (None, false, bare, Ok(None)),
            (None, true, on, Ok(None)),
            (Some(RuntimeDefault), false, on, Ok(Some("ours"))),
            (Some(RuntimeDefault), true, on, Ok(None)),
            (Some(RuntimeDefault), false, off, Err("AppArmor is not enabled on the host")),
            (Some(RuntimeDefault), false, bare, Err("own profile is not loaded")),
            (Some(Unconfined), false, off, Ok(None)),
            (strict.clone(), false, on, Ok(Some("strict"))),
            (strict.clone(), true, on, Ok(Some("strict"))),
            (strict, false, off, Err("AppArmor is not enabled on the host")),
            (Some(Localhost("other".into())), false, on, Err("AppArmor profile not found other")),
            (Some(Localhost("a\nb".into())), false, on, Err("is not the name of one")),
            (Some(Localhost(String::new())), false, on, Err("is not the name of one")),
        ];
        for (asked, privileged, machine, wanted) in rows {
            let found = apparmor(asked.as_ref(), privileged, machine);
            match wanted {
                Ok(name) => assert_eq!(found.unwrap().as_deref(), name, "{asked:?} {privileged}"),
                Err(part) => assert!(found.clone().unwrap_err().contains(part), "{asked:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_profile_has_its_name() {
        assert!(DEFAULT_PROFILE_TEXT.starts_with(&format!("profile {DEFAULT_PROFILE} ")));
        assert_eq!(DEFAULT_PROFILE_TEXT.matches(&format!("peer={DEFAULT_PROFILE},")).count(), 2);
    }

    #[test]
    fn labels_have_four_parts_or_are_refused() {
        let asked = |level: &str| SeLinuxOptions {
            level: Some(level.into()),
            ..SeLinuxOptions::default()
        };
        assert_eq!(selinux(None, false), Ok(None));
        assert_eq!(selinux(Some(&SeLinuxOptions::default()), false), Ok(None));
        assert!(
            selinux(Some(&asked("s0")), false)
                .unwrap_err()
                .contains("SELinux is not enabled on the host")
        );
        let labels = selinux(Some(&asked("s0:c123,c456")), true).unwrap().unwrap();
        assert_eq!(labels.process, "system_u:system_r:container_t:s0:c123,c456");
        assert_eq!(labels.mount, "system_u:object_r:container_file_t:s0:c123,c456");
        let spc = SeLinuxOptions {
            kind: Some("spc_t".into()),
            ..asked("s0")
        };
        assert_eq!(selinux(Some(&spc), true).unwrap().unwrap().process, "system_u:system_r:spc_t:s0");
        let bad = SeLinuxOptions {
            user: Some("a:b".into()),
            ..SeLinuxOptions::default()
        };
        assert!(selinux(Some(&bad), true).unwrap_err().contains("seLinuxOptions.user"));
    }
}
