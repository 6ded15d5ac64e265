//! Rules of volumes.

use super::env::{Taker, validate_field, validate_resource};
use crate::field::{Errors, Path};
use crate::format;
use cofferdam_model::pod::{DownwardApiFile, HostPath, KeyToPath, ProjectedVolume, Volume};
use std::collections::BTreeSet;

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Checks the volumes of a pod, and gives the names of those that are right: mounts of others are
/// not found.
pub(super) fn validate<'a>(volumes: &'a [Volume], path: &Path, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (at, volume) in volumes.iter().enumerate() {
        let path = path.index(at);
        let mut wrong = Errors::default();
        validate_source(volume, &path, &mut wrong);
        let name = path.child("name");
        if volume.name.is_empty() {
            wrong.required(&name, "");
        } else {
            wrong.invalid_each(&name, &volume.name, format::dns_label(&volume.name));
        }
        if names.contains(volume.name.as_str()) {
            wrong.duplicate(&name, &volume.name);
        }
        if wrong.is_empty() {
            names.insert(volume.name.as_str());
        }
        errors.append(wrong);
    }
    names
}

/// Sources in upstream's order; the first counts, and any further one is refused.
fn validate_source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let mut taken = false;
    if let Some(empty_dir) = &volume.empty_dir {
        taken = true;
        if empty_dir.size_limit.as_ref().is_some_and(|s| s.sign() < 0) {
            errors.forbidden(
                &path.child("emptyDir").child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
    }
    let mut first = |name: &str, errors: &mut Errors| {
        let path = path.child(name);
        if std::mem::replace(&mut taken, true) {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            return None;
        }
        Some(path)
    };
    if let Some(host_path) = &volume.host_path
        && let Some(path) = first("hostPath", errors)
    {
        validate_host_path(host_path, &path, errors);
    }
    if let Some(secret) = &volume.secret
        && let Some(path) = first("secret", errors)
    {
        required(&secret.secret_name, &path.child("secretName"), errors);
        files(&secret.items, secret.default_mode, &path, errors);
    }
    if let Some(fields) = &volume.downward_api
        && let Some(path) = first("downwardAPI", errors)
    {
        mode(fields.default_mode, &path.child("defaultMode"), errors);
        for file in &fields.items {
            downward_file(file, &path, errors);
        }
    }
    if let Some(config_map) = &volume.config_map
        && let Some(path) = first("configMap", errors)
    {
        required(&config_map.name, &path.child("name"), errors);
        files(&config_map.items, config_map.default_mode, &path, errors);
    }
    if let Some(projected) = &volume.projected
        && let Some(path) = first("projected", errors)
    {
        mode(projected.default_mode, &path.child("defaultMode"), errors);
        projection(projected, &path, errors);
    }
    if let Some(image) = &volume.image
        && let Some(path) = first("image", errors)
    {
        required(&image.reference, &path.child("reference"), errors);
    }
}

fn required(text: &str, path: &Path, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    }
}

fn validate_host_path(host_path: &HostPath, path: &Path, errors: &mut Errors) {
    if host_path.path.is_empty() {
        errors.required(&path.child("path"), "");
        return;
    }
    no_backsteps(&host_path.path, &path.child("path"), errors);
    let kind = host_path.kind.as_deref().unwrap_or_default();
    if !HOST_PATH_TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, &HOST_PATH_TYPES);
    }
}

fn files(items: &[KeyToPath], default_mode: Option<i32>, path: &Path, errors: &mut Errors) {
    mode(default_mode, &path.child("defaultMode"), errors);
    for (at, item) in items.iter().enumerate() {
        key_to_path(item, &path.child("items").index(at), errors);
    }
}

fn key_to_path(item: &KeyToPath, path: &Path, errors: &mut Errors) {
    required(&item.key, &path.child("key"), errors);
    file_path(&item.path, &path.child("path"), errors);
    mode(item.mode, &path.child("mode"), errors);
}

/// The path of a file in a volume; `..` begins the names of our own folders there.
fn file_path(text: &str, path: &Path, errors: &mut Errors) {
    required(text, path, errors);
    local_path(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// Upstream gives the volume's path, without the entry.
fn downward_file(file: &DownwardApiFile, path: &Path, errors: &mut Errors) {
    file_path(&file.path, &path.child("path"), errors);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(field), other) => {
            validate_field(field, Taker::File, &path.child("fieldRef"), errors);
            if other.is_some() {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        }
        (None, Some(resource)) => validate_resource(resource, Taker::File, &path.child("resourceFieldRef"), errors),
        (None, None) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file.mode, &path.child("mode"), errors);
}

fn projection(projected: &ProjectedVolume, path: &Path, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    // The same path twice; upstream shows the object of the second.
    let mut conflict = |file: &str, shown: &str, errors: &mut Errors| {
        if !file.is_empty() && !paths.insert(file.to_string()) {
            errors.invalid(path, shown, "conflicting duplicate paths");
        }
    };
    for (at, source) in projected.sources.iter().enumerate() {
        let entry = path.child("sources").index(at);
        for (name, object) in [("secret", &source.secret), ("configMap", &source.config_map)] {
            let Some(object) = object else { continue };
            let place = entry.child(name);
            required(&object.name, &place.child("name"), errors);
            for (at, item) in object.items.iter().enumerate() {
                key_to_path(item, &place.child("items").index(at), errors);
                conflict(&item.path, &object.name, errors);
            }
        }
        for file in source.downward_api.iter().flat_map(|d| &d.items) {
            downward_file(file, &entry.child("downwardAPI"), errors);
            conflict(&file.path, &file.path, errors);
        }
        let given = [source.secret.is_some(), source.config_map.is_some(), source.downward_api.is_some()];
        if given.iter().filter(|g| **g).count() > 1 {
            errors.forbidden(&entry, "may not specify more than 1 volume type per source");
        }
    }
}

fn mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// A path that cannot lead out of the directory that it is used in.
pub(super) fn local_path(text: &str, path: &Path, errors: &mut Errors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

fn no_backsteps(text: &str, path: &Path, errors: &mut Errors) {
    if text.split('/').any(|part| part == "..") {
        errors.invalid(path, text, "must not contain '..'");
    }
}
