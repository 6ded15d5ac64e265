//! Which plugin asked for which field: two that ask for the same are in conflict (upstream's
//! `pkg/api/owners.go`).

use crate::wire;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// What can be asked for once, with upstream's number and the name that it goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Annotation = 1,
    Mount = 2,
    Hooks = 3,
    Device = 4,
    CdiDevice = 5,
    Env = 6,
    Args = 7,
    MemLimit = 8,
    MemSwapLimit = 10,
    CpuShares = 16,
    CpuQuota = 17,
    CpuPeriod = 18,
    CpusetCpus = 21,
    CpusetMems = 22,
    PidsLimit = 23,
    HugepageLimit = 24,
    Unified = 27,
    OomScoreAdj = 29,
    Rlimit = 30,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::Mount => "mount",
            Self::Hooks => "OCI hooks",
            Self::Device => "device",
            Self::CdiDevice => "CDI device",
            Self::Env => "environment variable",
            Self::Args => "args",
            Self::MemLimit => "memory limit",
            Self::MemSwapLimit => "memory swap limit",
            Self::CpuShares => "CPU shares",
            Self::CpuQuota => "CPU quota",
            Self::CpuPeriod => "CPU period",
            Self::CpusetCpus => "CPU pinning",
            Self::CpusetMems => "memory pinning",
            Self::PidsLimit => "pids limit",
            Self::HugepageLimit => "hugepage limit of size",
            Self::Unified => "cgroup file",
            Self::OomScoreAdj => "OOM score adjustment",
            Self::Rlimit => "rlimit",
        }
    }
}

/// The plugins that asked for something, by container, field and key within it (empty for none).
#[derive(Default)]
pub(crate) struct Owners(BTreeMap<(String, Field, String), Owner>);

struct Owner {
    plugin: String,
    /// It asked to take away what was there: it alone may set it anew.
    cleared: bool,
}

impl Owners {
    /// Takes a field for a plugin.
    ///
    /// # Errors
    /// [`Error::Conflict`] where another has it.
    pub(crate) fn claim(&mut self, id: &str, field: Field, key: &str, plugin: &str) -> Result<()> {
        let at = (id.to_owned(), field, key.to_owned());
        match self.0.get(&at) {
            Some(owner) if !(owner.cleared && owner.plugin == plugin) => Err(Error::Conflict {
                plugin: plugin.to_owned(),
                other: owner.plugin.clone(),
                what: if key.is_empty() {
                    field.name().to_owned()
                } else {
                    format!("{} {key:?}", field.name())
                },
            }),
            _ => {
                self.0.insert(
                    at,
                    Owner {
                        plugin: plugin.to_owned(),
                        cleared: false,
                    },
                );
                Ok(())
            }
        }
    }

    /// Takes a field from the plugin that asked for it, for one that removes that: it may set it anew.
    pub(crate) fn clear(&mut self, id: &str, field: Field, key: &str, plugin: &str) {
        if let Some(owner) = self.0.get_mut(&(id.to_owned(), field, key.to_owned())) {
            *owner = Owner {
                plugin: plugin.to_owned(),
                cleared: true,
            };
        }
    }

    /// Hooks add up, and so do those who asked for them.
    pub(crate) fn claim_hooks(&mut self, id: &str, plugin: &str) {
        let owner = self.0.entry((id.to_owned(), Field::Hooks, String::new())).or_insert_with(|| Owner {
            plugin: String::new(),
            cleared: false,
        });
        if !owner.plugin.is_empty() {
            owner.plugin.push(',');
        }
        owner.plugin.push_str(plugin);
    }

    /// For a validating plugin; a plugin that cleared a field is marked with `-`.
    pub(crate) fn to_wire(&self) -> wire::OwningPlugins {
        let mut all = wire::OwningPlugins::default();
        for ((id, field, key), owner) in &self.0 {
            let owners = all.owners.entry(id.clone()).or_default();
            let plugin = if owner.cleared {
                format!("-{}", owner.plugin)
            } else {
                owner.plugin.clone()
            };
            let number = *field as i32;
            if key.is_empty() {
                owners.simple.insert(number, plugin);
            } else {
                owners.compound.entry(number).or_default().owners.insert(key.clone(), plugin);
            }
        }
        all
    }
}
