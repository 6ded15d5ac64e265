//! Versions of runtimes that are known to be broken. Each names its advisory.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::facts::{Facts, Runtime};
use crate::finding::Severity::{Degrades, Note, StopsPods};
use crate::version::Version;

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "crun-oci-version",
        "crun rejects the OCI version (\"unknown version specified\")",
        StopsPods,
        "crun before 1.14.3 refuses a container whose ociVersion is newer than it knows, and containerd 2, CRI-O and Podman write 1.2 (containers/crun#1485). Cofferdam writes a version that it takes; for the others install crun 1.14.3 or later.",
        &["crun --version", "apt-get install crun"],
    )
    .heard(&[says("unknown version specified")])
    .seen(|facts| {
        let old = of_kind(facts, "crun").filter(|(_, v)| *v < Version::new(1, 14, 3));
        old.map(|(r, _)| case(r).severe(Note)).collect()
    }),
    row(
        "crun-hybrid-cgroups",
        "crun refuses hybrid cgroups",
        StopsPods,
        "crun does not run on a machine with cgroup v1 whose v2 mount holds a controller of its own, as it cannot tell which side to use. Cofferdam hides that mount from it; for other runtimes boot with systemd.unified_cgroup_hierarchy=1, or mount the controller as v1.",
        &["cat /sys/fs/cgroup/unified/cgroup.controllers", "grep -o 'systemd.unified_cgroup_hierarchy=.' /proc/cmdline"],
    )
    .heard(&[says("cgroups in hybrid mode not supported")])
    .seen(|facts| {
        let Some(cgroups) = facts.cgroups.as_ref().filter(|c| c.mode == "hybrid" && !c.on_v2.is_empty()) else { return Vec::new() };
        let on_v2: Vec<_> = cgroups.on_v2.iter().map(String::as_str).collect();
        let crun = facts.runtimes.iter().find(|r| r.kind == "crun");
        crun.map(|_| Case::new(format!("hybrid cgroups, with {} on v2", on_v2.join(", "))).severe(Note)).into_iter().collect()
    }),
    row(
        "runc-cve-2024-21626",
        "runc leaks file descriptors: containers can break out (CVE-2024-21626)",
        Degrades,
        "runc before 1.1.12 leaves a descriptor of the machine's file system open in containers, and an image whose working directory names it gets out (GHSA-xr7r-f8xq-vfvv). Install 1.1.12 or later, or your distribution's repaired package.",
        &["<binary> --version", "apt-get install --only-upgrade runc"],
    )
    .seen(|facts| broken(facts, "runc", "CVE-2024-21626", |v| v < Version::new(1, 1, 12))),
    row(
        "runc-cve-2025-31133",
        "runc can be led to write to /proc: containers can break out (CVE-2025-31133)",
        Degrades,
        "runc before 1.2.8, 1.3.3 and 1.4.0-rc.3 can be made to mask or write the wrong files of /proc by a container that races it (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881; GHSA-9493-h29p-rfm2, GHSA-qw9x-cqr3-wc7r, GHSA-cgrx-mc8f-2prm). Install a repaired version; until then run what is not trusted in gVisor.",
        &["<binary> --version", "apt-get install --only-upgrade runc"],
    )
    .seen(|facts| broken(facts, "runc", "CVE-2025-31133", masked_paths)),
    row(
        "crun-cve-2025-24965",
        "crun's krun handler lets images write to the machine (CVE-2025-24965)",
        Degrades,
        "crun before 1.20 that was built with libkrun lets an image write files outside of its root (GHSA-f42g-r5jj-qh4j). Install 1.20 or later; builds without +LIBKRUN are not affected.",
        &["<binary> --version", "apt-get install --only-upgrade crun"],
    )
    .seen(|facts| {
        let krun = |r: &Runtime| r.version.as_deref().is_some_and(|v| v.contains("+LIBKRUN"));
        let old = of_kind(facts, "crun").filter(|(r, v)| krun(r) && *v < Version::new(1, 20, 0));
        old.filter(|(r, _)| !r.repaired.contains("CVE-2025-24965")).map(|(r, _)| case(r)).collect()
    }),
    row(
        "crun-cve-2022-27650",
        "crun gives containers inheritable capabilities (CVE-2022-27650)",
        Degrades,
        "crun before 1.4.4 starts containers with inheritable capabilities that they should not have, so that programs with file capabilities gain them. Install 1.4.4 or later.",
        &["<binary> --version", "apt-get install --only-upgrade crun"],
    )
    .seen(|facts| broken(facts, "crun", "CVE-2022-27650", |v| v < Version::new(1, 4, 4))),
    row(
        "io-priority-rejected",
        "this crun rejects containers for their I/O priority",
        StopsPods,
        "crun 1.8.5 was reported to fail with `io priority not supported` for containers that name no I/O priority. Install another version; 1.8.4 and 1.15 were reported to work.",
        &["crun --version"],
    )
    .heard(&[says("io priority not supported")])
    .seen(|facts| {
        let reported = of_kind(facts, "crun").filter(|(_, v)| *v == Version::new(1, 8, 5));
        reported.map(|(r, _)| case(r).severe(Note)).collect()
    }),
];

/// Runtimes of a kind whose version is known.
fn of_kind<'f>(facts: &'f Facts, kind: &'static str) -> impl Iterator<Item = (&'f Runtime, Version)> {
    let known = facts.runtimes.iter().filter(move |r| r.kind == kind);
    known.filter_map(|r| Some((r, Version::find(r.version.as_deref()?)?)))
}

/// Those with a weakness that the distribution did not repair under the same number.
fn broken(facts: &Facts, kind: &'static str, cve: &str, affected: impl Fn(Version) -> bool) -> Vec<Case> {
    let affected = of_kind(facts, kind).filter(|(_, v)| affected(*v));
    affected.filter(|(r, _)| !r.repaired.contains(cve)).map(|(r, _)| case(r)).collect()
}

fn masked_paths(version: Version) -> bool {
    let v = Version::new;
    version < v(1, 2, 8)
        || (version >= v(1, 3, 0).candidate(1) && version < v(1, 3, 3))
        || (version >= v(1, 4, 0).candidate(1) && version < v(1, 4, 0).candidate(3))
}

fn case(runtime: &Runtime) -> Case {
    let version = runtime.version.as_deref().unwrap_or_default();
    Case::new(format!("{}: {version}", runtime.path.display()))
        .with("binary", runtime.path.display())
        .about(format!("runtime {}", runtime.path.display()))
}
