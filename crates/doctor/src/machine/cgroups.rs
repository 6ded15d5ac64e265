//! Control groups.

use super::Sources;
use crate::facts::Cgroups;
use cofferdam_host::cgroup::{Cgroups as Mounts, Mode};
use std::collections::BTreeSet;

pub(super) fn cgroups(sources: &Sources<'_>, unknown: &mut Vec<String>) -> Option<Cgroups> {
    let mounts = sources.table_file("/proc/self/mountinfo", unknown)?;
    let mounts = Mounts::from_mountinfo(&mounts, &sources.fs).ok()?;
    let on_v2: BTreeSet<String> = mounts
        .v2_controllers()
        .map_err(|e| unknown.push(e.to_string()))
        .unwrap_or_default()
        .into_iter()
        .collect();
    let v1: BTreeSet<String> = mounts.mounts().keys().filter(|n| !n.starts_with("name=")).cloned().collect();
    Some(match mounts.mode() {
        Mode::V1 => Cgroups {
            mode: "v1",
            controllers: v1,
            on_v2: BTreeSet::new(),
        },
        Mode::Hybrid => Cgroups {
            mode: "hybrid",
            controllers: v1,
            on_v2,
        },
        Mode::V2 => Cgroups {
            mode: "v2",
            controllers: on_v2,
            on_v2: BTreeSet::new(),
        },
    })
}
