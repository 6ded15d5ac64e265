//! Rules of volumes, and of where containers have them.

use super::Check;
use super::container::resource_field;
use super::pod::MAX_ITEMS;
use crate::path::{Path, quoted};
use crate::schema::volume::{FILE_SOURCES, PROJECTED_SOURCES, VOLUME_SOURCES};
use cofferdam_model::Quantity;
use cofferdam_model::pod::{Container, DownwardApiFile, EmptyDir, KeyToPath, PodSpec, ProjectedVolume, VolumeMount};
use std::collections::BTreeSet;

/// Checks the volumes of a pod.
pub(super) fn volumes(check: &mut Check<'_>, path: &Path, spec: &PodSpec) {
    let path = path.key("volumes");
    if spec.volumes.len() > MAX_ITEMS {
        check.refuse(&path, format!("has more than {MAX_ITEMS} items; split this pod"));
    }
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().enumerate().take(MAX_ITEMS) {
        let path = path.index(i);
        if !seen.insert(volume.name.as_str()) {
            let rule = format!("is {} a second time; rename one of the volumes", quoted(&volume.name));
            check.refuse(&path.key("name"), rule);
        }
        check.at_most_one(&path, &VOLUME_SOURCES);
        if let Some(dir) = &volume.empty_dir {
            empty_dir(check, &path.key("emptyDir"), dir, spec);
        }
        let mut files = Files::default();
        let items = [
            ("configMap", volume.config_map.as_ref().map(|c| &c.items)),
            ("secret", volume.secret.as_ref().map(|s| &s.items)),
        ];
        for (source, items) in items {
            files.keys(check, &path.key(source), items.into_iter().flatten());
        }
        if let Some(fields) = &volume.downward_api {
            files.fields(check, &path.key("downwardAPI"), &fields.items, spec);
        }
        if let Some(projected) = &volume.projected {
            projection(check, &path.key("projected"), projected, spec, &mut files);
        }
        files.apart(check);
    }
}

/// Huge pages are mounted in the size that the pod asks for (`pkg/volume/emptydir/empty_dir.go`,
/// `getPageSizeMountOption`).
fn empty_dir(check: &mut Check<'_>, path: &Path, dir: &EmptyDir, spec: &PodSpec) {
    let Some(rest) = dir.medium.as_deref().and_then(|m| m.strip_prefix("HugePages")) else {
        return;
    };
    let sizes = page_sizes(spec);
    let medium = path.key("medium");
    let Some(size) = rest.strip_prefix('-') else {
        match sizes.len() {
            0 => check.refuse(
                &medium,
                "is HugePages, but no container has a limit of huge pages; add hugepages-2Mi, or the size that the machine has, to its limits",
            ),
            1 => {}
            _ => check.refuse(
                &medium,
                "is HugePages, but the pod asks for several sizes; name one, as HugePages-2Mi",
            ),
        }
        return;
    };
    match size.parse::<Quantity>() {
        Ok(size) if size.sign() > 0 => {
            if !sizes.contains(&size.value()) {
                let rule = format!("needs huge pages of this size; add hugepages-{size} to the limits of a container");
                check.refuse(&medium, rule);
            }
        }
        _ => check.refuse(&medium, "must end in a size, as HugePages-2Mi"),
    }
}

/// The sizes of huge pages that a pod asks for, bytes.
fn page_sizes(spec: &PodSpec) -> BTreeSet<i64> {
    let containers = spec.containers.iter().chain(&spec.init_containers);
    let all = containers.filter_map(|c| c.resources.as_ref()).chain(&spec.resources);
    all.flat_map(|r| r.limits.keys().chain(r.requests.keys()))
        .filter_map(|name| name.strip_prefix("hugepages-")?.parse::<Quantity>().ok())
        .map(|size| size.value())
        .collect()
}

fn projection(check: &mut Check<'_>, path: &Path, projected: &ProjectedVolume, spec: &PodSpec, files: &mut Files) {
    for (i, source) in projected.sources.iter().enumerate().take(MAX_ITEMS) {
        let path = path.key("sources").index(i);
        check.exactly_one(&path, &PROJECTED_SOURCES);
        for (name, object) in [("configMap", &source.config_map), ("secret", &source.secret)] {
            files.keys(check, &path.key(name), object.iter().flat_map(|o| &o.items));
        }
        if let Some(fields) = &source.downward_api {
            files.fields(check, &path.key("downwardAPI"), &fields.items, spec);
        }
    }
}

/// The files of one volume, with the places of their paths.
#[derive(Default)]
struct Files(Vec<(String, Path)>);

impl Files {
    fn keys<'k>(&mut self, check: &mut Check<'_>, path: &Path, items: impl Iterator<Item = &'k KeyToPath>) {
        for (i, item) in items.enumerate() {
            self.add(check, &item.path, path.key("items").index(i).key("path"));
        }
    }

    fn fields(&mut self, check: &mut Check<'_>, path: &Path, items: &[DownwardApiFile], spec: &PodSpec) {
        for (i, file) in items.iter().enumerate() {
            let path = path.key("items").index(i);
            check.exactly_one(&path, &FILE_SOURCES);
            if let Some(field) = &file.resource_field_ref {
                resource_field(check, &path.key("resourceFieldRef"), field, spec);
            }
            self.add(check, &file.path, path.key("path"));
        }
    }

    fn add(&mut self, check: &mut Check<'_>, file: &str, path: Path) {
        if check.log.is_full() || file.is_empty() {
            return;
        }
        let parts: Vec<_> = file.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
        self.0.push((parts.join("/"), path));
    }

    /// No path is there twice, and none is a folder too.
    fn apart(mut self, check: &mut Check<'_>) {
        self.0.sort_by(|a, b| a.0.cmp(&b.0));
        let names: BTreeSet<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let mut last = None;
        for (name, path) in &self.0 {
            if last == Some(name) {
                let rule = format!("is {} a second time; give each key a path of its own", quoted(name));
                check.refuse(path, rule);
            }
            last = Some(name);
            let folders = name.match_indices('/').map(|(at, _)| &name[..at]);
            if let Some(folder) = folders.into_iter().find(|folder| names.contains(folder)) {
                let rule = format!(
                    "is {}, but {} is a file; give each key a path of its own",
                    quoted(name),
                    quoted(folder)
                );
                check.refuse(path, rule);
            }
        }
    }
}

/// Checks where a container has volumes.
pub(super) fn mounts(check: &mut Check<'_>, path: &Path, container: &Container, spec: &PodSpec) {
    let known: BTreeSet<_> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
    let mut mounted = BTreeSet::new();
    let is_privileged = container.security_context.as_ref().is_some_and(|s| s.privileged == Some(true));
    for (i, one) in container.volume_mounts.iter().enumerate() {
        let path = path.key("volumeMounts").index(i);
        if !known.contains(one.name.as_str()) {
            let rule = format!(
                "is {}, but the pod has no volume of that name; add it to volumes",
                quoted(&one.name)
            );
            check.refuse(&path.key("name"), rule);
        }
        if !mounted.insert(one.mount_path.trim_end_matches('/')) {
            let rule = format!("is {} a second time; mount each volume elsewhere", quoted(&one.mount_path));
            check.refuse(&path.key("mountPath"), rule);
        }
        mount(check, &path, one, is_privileged);
    }
}

fn mount(check: &mut Check<'_>, path: &Path, mount: &VolumeMount, is_privileged: bool) {
    if mount.sub_path.is_some() && mount.sub_path_expr.is_some() {
        check.refuse(&path.key("subPathExpr"), "cannot stand beside subPath; remove one");
    }
    let propagation = mount.mount_propagation.as_deref().unwrap_or("None");
    if propagation == "Bidirectional" && !is_privileged {
        check.refuse(
            &path.key("mountPropagation"),
            "is Bidirectional, which needs securityContext.privileged: true; write HostToContainer, or None",
        );
    }
    let recursive = path.key("recursiveReadOnly");
    if matches!(mount.recursive_read_only.as_deref(), None | Some("Disabled")) {
        return;
    }
    if !mount.read_only {
        check.refuse(&recursive, "needs readOnly: true beside it");
    }
    if propagation != "None" {
        check.refuse(&recursive, "needs mountPropagation: None, or none at all");
    }
}
