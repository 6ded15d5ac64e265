//! Devices of the machine, by CDI: which of them each container of a pod has.
//!
//! A container asks for a number of them as for any extended resource (`nvidia.com/gpu: 2`), whose
//! name is the kind of a CDI specification; or the pod names them in annotations `cdi.k8s.io/…`. What
//! a device is, and whether it can be given, is the engine's to know.

use cofferdam_model::pod::{Container, Pod, RestartPolicy};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Prefix of annotations that name devices (`cncf.io/container-device-interface`, `AnnotationPrefix`).
const ANNOTATION: &str = "cdi.k8s.io/";
/// Most devices that a pod may name in annotations.
const MAX_NAMED: usize = 1024;
/// Name of a device that is all of its kind (`nvidia-ctk cdi generate`): never one that is chosen.
const ALL: &str = "all";
/// File in a pod's folder that says which devices are the pod's: qualified names, a line each.
const FILE: &str = "devices";
/// Largest such file, bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The devices of a pod, by their qualified names (`kind=name`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    mine: BTreeSet<String>,
    containers: BTreeMap<String, Vec<String>>,
}

impl Devices {
    /// Those of `container`, init containers too.
    pub(crate) fn of(&self, container: &str) -> Vec<String> {
        self.containers.get(container).cloned().unwrap_or_default()
    }
}

/// Chooses devices for every container of `pod` out of `known` (kind to names): none that another pod
/// has whose folder is under `root`, be it of this process or of another. They are the pod's as long
/// as its folder is there, so nothing has to be given back. An error is one sentence.
///
/// As upstream, what a container has that has ended before the others begin is theirs again
/// (`pkg/kubelet/cm/devicemanager`, `devicesToReuse`).
pub(crate) fn claim(pod: &Pod, known: &BTreeMap<String, Vec<String>>, root: &Path) -> Result<Devices, String> {
    let named = annotated(pod)?;
    let all = || pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let mut devices = Devices::default();
    if !named.is_empty() {
        devices.containers = all().map(|container| (container.name.clone(), named.clone())).collect();
        devices.mine.extend(named);
    }
    let mut kinds: BTreeMap<String, Need> = BTreeMap::new();
    for container in all() {
        for (kind, amount) in extended(container) {
            kinds.entry(kind).or_default().containers.push((container, amount));
        }
    }
    if kinds.is_empty() && devices.mine.is_empty() {
        return Ok(devices);
    }
    let failed = |err: std::io::Error| format!("the devices of pods under {} could not be looked up: {err}", root.display());
    let _alone = locked(root).map_err(failed)?;
    let mut busy = taken(root).map_err(failed)?;
    // What the pod names itself it does not get a second time.
    busy.extend(devices.mine.iter().cloned());
    for (kind, need) in &kinds {
        need.take(pod, kind, known.get(kind).map_or(&[], Vec::as_slice), &busy, &mut devices)?;
    }
    let file = root.join(pod.metadata.uid.as_deref().unwrap_or_default()).join(FILE);
    let lines: String = devices.mine.iter().map(|name| format!("{name}\n")).collect();
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&file);
    written
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|err| format!("could not write {}: {err}", file.display()))?;
    Ok(devices)
}

/// Keeps others from choosing until it is dropped.
fn locked(root: &Path) -> std::io::Result<OwnedFd> {
    let folder = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// What the pods with a folder under `root` have.
fn taken(root: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in std::fs::read_dir(root)? {
        let file = match File::open(folder?.path().join(FILE)) {
            Ok(file) => file,
            // Most pods have none; and any may go at this moment.
            Err(err) if matches!(err.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => continue,
            Err(err) => return Err(err),
        };
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        names.extend(text.lines().map(str::to_owned));
    }
    Ok(names)
}

/// The containers of a pod that want devices of one kind, in order, with how many.
#[derive(Debug, Default)]
struct Need<'a> {
    containers: Vec<(&'a Container, u64)>,
}

impl Need<'_> {
    fn take(&self, pod: &Pod, kind: &str, names: &[String], busy: &BTreeSet<String>, devices: &mut Devices) -> Result<(), String> {
        let everything = busy.contains(&format!("{kind}={ALL}"));
        let mut free = names
            .iter()
            .filter(|name| *name != ALL && !everything)
            .map(|name| format!("{kind}={name}"))
            .filter(|name| !busy.contains(name));
        let ends_early = |container: &Container| {
            container.restart_policy != Some(RestartPolicy::Always) && pod.spec.init_containers.iter().any(|c| c.name == container.name)
        };
        // What runs until the end first; an init container then has the devices of those that come after it.
        let mut spare: Vec<String> = Vec::new();
        let (early, lasting): (Vec<_>, Vec<_>) = self.containers.iter().partition(|(container, _)| ends_early(container));
        for (container, amount) in lasting.into_iter().chain(early) {
            let mut mine: Vec<String> = Vec::new();
            if ends_early(container) {
                mine.extend(spare.iter().take(usize::try_from(amount).unwrap_or(usize::MAX)).cloned());
            }
            while (mine.len() as u64) < amount {
                let Some(name) = free.next() else {
                    return Err(self.insufficient(pod, kind, names, busy));
                };
                devices.mine.insert(name.clone());
                if container.restart_policy != Some(RestartPolicy::Always) {
                    spare.push(name.clone());
                }
                mine.push(name);
            }
            devices.containers.entry(container.name.clone()).or_default().extend(mine);
        }
        Ok(())
    }

    /// The scheduler's words (`pkg/scheduler/framework/plugins/noderesources/fit.go`), then why.
    fn insufficient(&self, pod: &Pod, kind: &str, names: &[String], busy: &BTreeSet<String>) -> String {
        let wanted: u64 = self.containers.iter().map(|(_, amount)| *amount).fold(0, u64::saturating_add);
        let names: Vec<_> = names.iter().filter(|name| *name != ALL).collect();
        let everything = busy.contains(&format!("{kind}={ALL}"));
        let used = names
            .iter()
            .filter(|name| everything || busy.contains(&format!("{kind}={name}")))
            .count();
        let pod = &pod.metadata.name;
        match names.len() {
            0 => format!(
                "Insufficient {kind}: pod {pod:?} asks for {wanted}, and no CDI specification on this machine describes any; install one in /etc/cdi"
            ),
            many => format!(
                "Insufficient {kind}: the containers of pod {pod:?} ask for {wanted}, and of the {many} on this machine {used} are in use"
            ),
        }
    }
}

/// The extended resources of a container (`pkg/apis/core/v1/helper`, `IsExtendedResourceName`). Limits
/// and requests of them are equal by validation.
fn extended(container: &Container) -> BTreeMap<String, u64> {
    let is_extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    let lists = container.resources.iter().flat_map(|r| r.requests.iter().chain(&r.limits));
    lists
        .filter(|(name, _)| is_extended(name))
        .map(|(name, amount)| (name.clone(), u64::try_from(amount.value()).unwrap_or(0)))
        .filter(|(_, amount)| *amount > 0)
        .collect()
}

/// The devices that the pod's annotations name.
fn annotated(pod: &Pod) -> Result<Vec<String>, String> {
    let annotations = pod.metadata.annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION));
    let mut names = Vec::new();
    for (key, value) in annotations {
        for name in value.split(',').map(str::trim) {
            if !is_qualified(name) {
                return Err(format!(
                    "annotation {key}: {name:?} is not a CDI device; write vendor/class=name, such as nvidia.com/gpu=0"
                ));
            }
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        if names.len() > MAX_NAMED {
            return Err(format!(
                "the annotations {ANNOTATION}… name more than {MAX_NAMED} devices; name fewer"
            ));
        }
    }
    Ok(names)
}

/// `vendor/class=name` by the rules of CDI's specification (`pkg/parser`, `ParseQualifiedName`).
fn is_qualified(name: &str) -> bool {
    let Some(((vendor, class), device)) = name
        .split_once('=')
        .and_then(|(kind, device)| Some((kind.split_once('/')?, device)))
    else {
        return false;
    };
    let part = |text: &str, between: &[u8], first_digit: bool| {
        let bytes = text.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let begins = bytes
            .first()
            .is_some_and(|b| b.is_ascii_alphabetic() || (first_digit && b.is_ascii_digit()));
        text.len() <= 253 && begins && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || between.contains(b))
    };
    part(vendor, b"-_.", false) && part(class, b"-_", false) && part(device, b"-_.:", true)
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
