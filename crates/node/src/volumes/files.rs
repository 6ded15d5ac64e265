//! The files of config maps, secrets, fields of the pod, and of several of them in one directory.

use super::{Given, VolumeError, component, paths};
use crate::env::{EnvError, decode, secret_bytes};
use crate::fields;
use crate::setup::Machine;
use cofferdam_model::objects::{ConfigMap, Secret};
use cofferdam_model::pod::{DownwardApiFile, KeyToPath, Pod, ProjectedVolume, Volume};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Mode of files where none is given.
const DEFAULT_MODE: i32 = 0o644;

/// Relative path to bytes and mode.
pub(super) type Payload = BTreeMap<PathBuf, (Vec<u8>, u32)>;

impl From<EnvError> for VolumeError {
    fn from(err: EnvError) -> Self {
        Self(err.0)
    }
}

/// The files that a volume shows; `None` where it is not of files.
pub(super) fn payload(volume: &Volume, pod: &Pod, given: Given<'_>) -> Result<Option<Payload>, VolumeError> {
    let objects = Objects { pod, given };
    Ok(Some(if let Some(source) = &volume.config_map {
        let wanted = Wanted::new(&source.items, source.default_mode, source.optional);
        objects.config_map(&source.name, wanted)?
    } else if let Some(source) = &volume.secret {
        let wanted = Wanted::new(&source.items, source.default_mode, source.optional);
        objects.secret(&source.secret_name, wanted)?
    } else if let Some(source) = &volume.downward_api {
        downward(pod, given.machine, &source.items, source.default_mode)?
    } else if let Some(source) = &volume.projected {
        objects.projected(source)?
    } else {
        return Ok(None);
    }))
}

/// Which keys of an object are wanted, and how.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    items: &'a [KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
}

impl<'a> Wanted<'a> {
    fn new(items: &'a [KeyToPath], default_mode: Option<i32>, optional: Option<bool>) -> Self {
        Self {
            items,
            default_mode,
            optional: optional == Some(true),
        }
    }
}

struct Objects<'a> {
    pod: &'a Pod,
    given: Given<'a>,
}

impl Objects<'_> {
    /// `pkg/volume/configmap`, `MakePayload`.
    fn config_map(&self, name: &str, wanted: Wanted<'_>) -> Result<Payload, VolumeError> {
        let namespace = self.pod.metadata.namespace_or_default();
        match self.given.objects.config_map(namespace, name) {
            Some(map) => of_config_map(map, wanted),
            None if wanted.optional => Ok(Payload::new()),
            None => Err(VolumeError(format!("configmap {name:?} not found"))),
        }
    }

    /// `pkg/volume/secret`, `MakePayload`.
    fn secret(&self, name: &str, wanted: Wanted<'_>) -> Result<Payload, VolumeError> {
        let namespace = self.pod.metadata.namespace_or_default();
        match self.given.objects.secret(namespace, name) {
            Some(secret) => of_secret(secret, wanted),
            None if wanted.optional => Ok(Payload::new()),
            None => Err(VolumeError(format!("secret {name:?} not found"))),
        }
    }

    /// `pkg/volume/projected`, `collectData`: of two files at one path the later stands, unless both
    /// paths were written by the user (`validateProjectionSources`).
    fn projected(&self, volume: &ProjectedVolume) -> Result<Payload, VolumeError> {
        let (mut all, mut named) = (Payload::new(), BTreeSet::new());
        for source in &volume.sources {
            let (files, paths): (Payload, Vec<&String>) = match (&source.config_map, &source.secret, &source.downward_api) {
                (Some(map), None, None) => {
                    let wanted = Wanted::new(&map.items, volume.default_mode, map.optional);
                    (self.config_map(&map.name, wanted)?, map.items.iter().map(|i| &i.path).collect())
                }
                (None, Some(secret), None) => {
                    let wanted = Wanted::new(&secret.items, volume.default_mode, secret.optional);
                    (self.secret(&secret.name, wanted)?, secret.items.iter().map(|i| &i.path).collect())
                }
                (None, None, Some(fields)) => {
                    let files = downward(self.pod, self.given.machine, &fields.items, volume.default_mode)?;
                    (files, fields.items.iter().map(|i| &i.path).collect())
                }
                _ => {
                    return Err(VolumeError(
                        "a source of a projected volume needs exactly one of configMap, secret and downwardAPI".into(),
                    ));
                }
            };
            for path in paths {
                if !named.insert(paths::relative(path)?) {
                    return Err(VolumeError(format!(
                        "conflicting duplicate paths: {path:?}; give each file a path of its own"
                    )));
                }
            }
            all.extend(files);
        }
        apart(&all)?;
        Ok(all)
    }
}

/// No file is a folder too.
fn apart(payload: &Payload) -> Result<(), VolumeError> {
    for path in payload.keys() {
        if let Some(file) = path.ancestors().skip(1).find(|parent| payload.contains_key(*parent)) {
            let (path, file) = (path.display().to_string(), file.display().to_string());
            return Err(VolumeError(format!(
                "conflicting paths: {path:?} and the file {file:?}; give each file a path of its own"
            )));
        }
    }
    Ok(())
}

fn of_config_map(map: &ConfigMap, wanted: Wanted<'_>) -> Result<Payload, VolumeError> {
    let keys: BTreeSet<&String> = map.data.keys().chain(map.binary_data.keys()).collect();
    let read = |key: &str| match (map.data.get(key), map.binary_data.get(key)) {
        (Some(text), _) => Ok(Some(text.clone().into_bytes())),
        (None, Some(data)) => Ok(Some(decode(data, "configmap", &map.metadata.name, key)?)),
        (None, None) => Ok(None),
    };
    let missing = |key: &str| format!("configmap references non-existent config key: {key}");
    select(&keys, wanted, read, missing)
}

fn of_secret(secret: &Secret, wanted: Wanted<'_>) -> Result<Payload, VolumeError> {
    let keys: BTreeSet<&String> = secret.data.keys().chain(secret.string_data.keys()).collect();
    let missing = |key: &str| format!("references non-existent secret key: {key}");
    select(&keys, wanted, |key| Ok(secret_bytes(secret, key)?), missing)
}

fn select(
    keys: &BTreeSet<&String>,
    wanted: Wanted<'_>,
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, VolumeError>,
    missing: impl Fn(&str) -> String,
) -> Result<Payload, VolumeError> {
    let whole: Vec<KeyToPath>;
    let items = if wanted.items.is_empty() {
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
        wanted.items
    };
    let mut payload = Payload::new();
    for item in items {
        let mode = mode(item.mode.or(wanted.default_mode), || format!("key {:?}", item.key))?;
        let path = paths::relative(&item.path)?;
        match read(&item.key)? {
            Some(bytes) => drop(payload.insert(path, (bytes, mode))),
            None if wanted.optional => {}
            None => return Err(VolumeError(missing(&item.key))),
        }
    }
    apart(&payload)?;
    Ok(payload)
}

fn mode(mode: Option<i32>, of: impl Fn() -> String) -> Result<u32, VolumeError> {
    let mode = u32::try_from(mode.unwrap_or(DEFAULT_MODE)).ok().filter(|m| *m <= 0o777);
    mode.ok_or_else(|| VolumeError(format!("the mode of {} must be between 0 and 0777 (octal)", of())))
}

/// Fields of the pod (`pkg/volume/downwardapi`, `CollectData`).
fn downward(pod: &Pod, machine: &Machine, items: &[DownwardApiFile], default_mode: Option<i32>) -> Result<Payload, VolumeError> {
    let mut payload = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), None) => fields::of_pod(&pod.metadata, &field.field_path)?,
            (None, Some(resource)) if resource.container_name.as_deref().unwrap_or_default().is_empty() => {
                return Err(VolumeError(format!(
                    "file {:?}: resourceFieldRef must name a container; set containerName",
                    item.path
                )));
            }
            (None, Some(resource)) => fields::resource(pod, machine, None, resource)?,
            _ => {
                return Err(VolumeError(format!(
                    "file {:?} needs exactly one of fieldRef and resourceFieldRef",
                    item.path
                )));
            }
        };
        let mode = mode(item.mode.or(default_mode), || format!("file {:?}", item.path))?;
        payload.insert(paths::relative(&item.path)?, (text.into_bytes(), mode));
    }
    apart(&payload)?;
    Ok(payload)
}
