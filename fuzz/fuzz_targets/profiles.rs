//! Any bytes as a seccomp profile and as a CDI file. A profile that is taken becomes one that is taken
//! as it is; a CDI file gives the devices that it names, and they can be applied or are refused; the
//! rest is one printable line.
#![no_main]

use cofferdam_fuzz::one_line;
use cofferdam_plan::cdi::{self, Registry, is_qualified};
use cofferdam_plan::seccomp::{Target, kernel_version, localhost};
use cofferdam_plan::spec::{ContainerSpec, SpecDevice};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::path::Path;

fn seccomp(data: &[u8]) {
    let (none, some) = (BTreeSet::new(), BTreeSet::from(["CAP_SYS_ADMIN".to_owned(), "CAP_BPF".to_owned()]));
    for (architecture, capabilities) in [("x86_64", &none), ("aarch64", &some), ("vax", &none)] {
        let target = Target {
            architecture,
            kernel: (6, 1),
            capabilities,
        };
        match localhost(data, &target) {
            Ok(profile) => {
                let written = serde_json::to_vec(&profile).unwrap();
                let again = localhost(&written, &target).unwrap_or_else(|e| panic!("{e}: {profile}"));
                assert_eq!(again, profile);
            }
            Err(error) => one_line(error),
        }
    }
    let _ = kernel_version(&String::from_utf8_lossy(data));
}

fn devices(data: &[u8]) {
    let file = match cdi::parse(data) {
        Ok(file) => file,
        Err(error) => return one_line(error),
    };
    let names: Vec<_> = file.devices.keys().map(|name| format!("{}={name}", file.kind)).collect();
    assert!(!names.is_empty() && names.iter().all(|name| is_qualified(name)), "{names:?}");
    let path = Path::new("/etc/cdi/f.json").to_path_buf();
    let registry = Registry::new([(0, path.clone(), Ok(data.to_vec()))]);
    assert!(registry.broken().is_empty());
    let edits = registry.resolve(&names).unwrap();
    let wanted: usize = file.devices.values().map(|d| d.device_nodes.len()).sum();
    assert_eq!(edits.device_nodes.len(), wanted + file.edits.device_nodes.len());
    // Twice in one folder is nowhere: nobody knows which is meant.
    let twice = Registry::new([(0, path.clone(), Ok(data.to_vec())), (0, path, Ok(data.to_vec()))]);
    one_line(twice.resolve(&names).unwrap_err());
    let machine = |path: &Path| match path.to_str() {
        Some("/dev/null") => Ok(SpecDevice {
            path: path.to_owned(),
            kind: 'c',
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }),
        _ => Err(format!("{path:?} is not on this machine")),
    };
    let mut spec = ContainerSpec::default();
    match cdi::apply(&edits, &mut spec, &machine) {
        Ok(()) => {
            for device in &spec.devices {
                assert!(device.path.is_absolute() && device.mode <= 0o7777, "{device:?}");
                assert_eq!(spec.devices.iter().filter(|d| d.path == device.path).count(), 1);
            }
            for rule in &spec.device_rules {
                assert!(
                    "rwm".contains(&rule.access) || rule.access.chars().all(|c| "rwm".contains(c)),
                    "{rule:?}"
                );
            }
            for mount in &spec.mounts {
                assert!(mount.destination.is_absolute(), "{mount:?}");
            }
        }
        Err(error) => one_line(error),
    }
}

fuzz_target!(|data: &[u8]| {
    seccomp(data);
    devices(data);
});
