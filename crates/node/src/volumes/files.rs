//! The files of config maps and secrets.

use super::{VolumeError, component, failed, make_dirs, paths};
use crate::env::{decode, secret_bytes};
use cofferdam_model::objects::{ConfigMap, Secret};
use cofferdam_model::pod::{ConfigMapVolume, KeyToPath, SecretVolume};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Mode of files where none is given.
const DEFAULT_MODE: i32 = 0o644;

/// Relative path to bytes and mode.
pub(super) type Payload = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// What a config map volume shows (`pkg/volume/configmap`, `MakePayload`).
pub(super) fn config_map(
    source: &ConfigMapVolume,
    found: Option<&ConfigMap>,
) -> Result<Payload, VolumeError> {
    let optional = source.optional == Some(true);
    let Some(map) = found else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(VolumeError(format!(
                "configmap {:?} not found",
                source.name
            )))
        };
    };
    let keys: BTreeSet<&String> = map.data.keys().chain(map.binary_data.keys()).collect();
    let read = |key: &str| match (map.data.get(key), map.binary_data.get(key)) {
        (Some(text), _) => Ok(Some(text.clone().into_bytes())),
        (None, Some(data)) => decode(data, "configmap", &source.name, key)
            .map(Some)
            .map_err(|e| VolumeError(e.0)),
        (None, None) => Ok(None),
    };
    let missing = |key: &str| format!("configmap references non-existent config key: {key}");
    payload(
        &keys,
        &source.items,
        source.default_mode,
        optional,
        read,
        missing,
    )
}

/// What a secret volume shows (`pkg/volume/secret`, `MakePayload`).
pub(super) fn secret(
    source: &SecretVolume,
    found: Option<&Secret>,
) -> Result<Payload, VolumeError> {
    let optional = source.optional == Some(true);
    let Some(secret) = found else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(VolumeError(format!(
                "secret {:?} not found",
                source.secret_name
            )))
        };
    };
    let keys: BTreeSet<&String> = secret
        .data
        .keys()
        .chain(secret.string_data.keys())
        .collect();
    let read = |key: &str| secret_bytes(secret, key).map_err(|e| VolumeError(e.0));
    let missing = |key: &str| format!("references non-existent secret key: {key}");
    payload(
        &keys,
        &source.items,
        source.default_mode,
        optional,
        read,
        missing,
    )
}

fn payload(
    keys: &BTreeSet<&String>,
    items: &[KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, VolumeError>,
    missing: impl Fn(&str) -> String,
) -> Result<Payload, VolumeError> {
    let whole: Vec<KeyToPath>;
    let items = if items.is_empty() {
        whole = keys
            .iter()
            .map(|key| KeyToPath {
                key: (*key).clone(),
                path: (*key).clone(),
                mode: None,
            })
            .collect();
        for item in &whole {
            component("key", &item.key)?;
        }
        &whole
    } else {
        items
    };
    let mut payload = Payload::new();
    for item in items {
        let mode = item.mode.or(default_mode).unwrap_or(DEFAULT_MODE);
        let mode = u32::try_from(mode).ok().filter(|m| *m <= 0o777);
        let mode = mode.ok_or_else(|| {
            VolumeError(format!(
                "the mode of key {:?} must be between 0 and 0777 (octal)",
                item.key
            ))
        })?;
        let path = paths::relative(&item.path)?;
        match read(&item.key)? {
            Some(bytes) => drop(payload.insert(path, (bytes, mode))),
            None if optional => {}
            None => return Err(VolumeError(missing(&item.key))),
        }
    }
    Ok(payload)
}

/// Writes `payload` under `dir`, which it makes. Nothing but this process writes there.
pub(super) fn write(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    make_dirs(dir, 0o755)?;
    paths::chmod(dir, 0o755)?;
    for (relative, (bytes, mode)) in payload {
        let path = dir.join(relative);
        for parent in relative
            .ancestors()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            make_dirs(&dir.join(parent), 0o755)?;
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(bytes))
            .map_err(|err| failed("write", &path, &err))?;
        paths::chmod(&path, *mode)?;
    }
    Ok(())
}
