#![allow(clippy::unwrap_used)]

use super::*;
use crate::spec::{ContainerSpec, SpecDevice};

const FILE: &str = r#"{"cdiVersion":"0.7.0","kind":"vendor.com/gpu","annotations":{"a":"b"},
    "containerEdits":{"env":["DRIVER=1"],"mounts":[{"hostPath":"/lib/drv","containerPath":"/drv","options":["ro","bind"]}]},
    "devices":[{"name":"0","containerEdits":{"env":["GPU=0"],"deviceNodes":[{"path":"/dev/gpu0","hostPath":"/dev/null","permissions":"rw"}],
        "hooks":[{"hookName":"createContainer","path":"/bin/h","args":["h"],"timeout":5}],"additionalGids":[44,0,44]}},
      {"name":"1","containerEdits":{"deviceNodes":[{"path":"/dev/gpu1","type":"c","major":195,"minor":1,"fileMode":420,"uid":7}]}}]}"#;

fn registry(files: &[(usize, &str, &str)]) -> Registry {
    Registry::new(
        files
            .iter()
            .map(|(priority, path, text)| (*priority, PathBuf::from(path), Ok(text.as_bytes().to_vec()))),
    )
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn machine(path: &Path) -> Result<SpecDevice, String> {
    match path.to_str() {
        Some("/dev/null") => Ok(SpecDevice {
            path: path.into(),
            kind: 'c',
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }),
        _ => Err(format!("{} is not there", path.display())),
    }
}

#[test]
fn a_device_does_to_a_container_what_its_file_says() {
    let edits = registry(&[(0, "/etc/cdi/v.json", FILE)])
        .resolve(&names(&["vendor.com/gpu=1", "vendor.com/gpu=0"]))
        .unwrap();
    let mut spec = ContainerSpec::default();
    spec.process.user.uid = 1000;
    spec.mounts.push(SpecMountOf("/drv").into());
    apply(&edits, &mut spec, &machine).unwrap();
    // Once for the file, before its devices.
    let env: Vec<_> = spec.process.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(env, ["DRIVER=1", "GPU=0"]);
    let device = |path: &str, minor, major, mode, uid| SpecDevice {
        path: path.into(),
        kind: 'c',
        major,
        minor,
        mode,
        uid,
        gid: 0,
    };
    assert_eq!(
        spec.devices,
        [device("/dev/gpu1", 1, 195, 0o644, 7), device("/dev/gpu0", 3, 1, 0o666, 1000)]
    );
    let rules: Vec<_> = spec
        .device_rules
        .iter()
        .map(|r| format!("{} {}:{} {}", r.kind, r.major, r.minor, r.access))
        .collect();
    assert_eq!(rules, ["c 195:1 rwm", "c 1:3 rw"]);
    assert_eq!(spec.mounts.len(), 1, "the device's mount takes the place of the one that was there");
    assert_eq!(
        (spec.mounts[0].source.to_str(), spec.mounts[0].options.join(" ")),
        (Some("/lib/drv"), "ro bind".into())
    );
    assert_eq!((spec.hooks[0].moment.as_str(), spec.hooks[0].timeout), ("createContainer", Some(5)));
    assert_eq!(spec.process.user.groups, [44]);
}

struct SpecMountOf(&'static str);
impl From<SpecMountOf> for crate::spec::SpecMount {
    fn from(at: SpecMountOf) -> Self {
        Self::bind("/elsewhere", at.0, false)
    }
}

#[test]
fn yaml_is_read_too() {
    let text =
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n";
    let found = registry(&[(0, "/etc/cdi/nvidia.yaml", text)]);
    assert_eq!(found.broken(), []);
    assert_eq!(
        found.resolve(&names(&["nvidia.com/gpu=all"])).unwrap().device_nodes[0].path,
        "/dev/nvidia0"
    );
}

#[test]
fn the_later_directory_wins_and_equals_resolve_to_none() {
    let with = |value: &str| FILE.replace("GPU=0", value);
    let (low, high) = (with("GPU=low"), with("GPU=high"));
    let value = |r: &Registry| r.resolve(&names(&["vendor.com/gpu=0"])).map(|e| e.env.last().cloned().unwrap().1);
    assert_eq!(value(&registry(&[(0, "/a", &low), (1, "/b", &high)])).unwrap(), "high");
    assert_eq!(value(&registry(&[(1, "/a", &high), (0, "/b", &low)])).unwrap(), "high");
    let error = value(&registry(&[(0, "/a", &low), (0, "/b", &high)])).unwrap_err();
    assert_eq!(
        error,
        "unresolvable CDI devices vendor.com/gpu=0; more than one file has vendor.com/gpu=0, leave one"
    );
    assert_eq!(
        value(&registry(&[(0, "/a", &low), (0, "/b", &low), (1, "/c", &high)])).unwrap(),
        "high"
    );
}

#[test]
fn what_is_not_found_is_told_with_its_reason() {
    let rows = [
        (
            vec![],
            "vendor.com/gpu=9",
            "unresolvable CDI devices vendor.com/gpu=9; no file in /etc/cdi or /run/cdi has them",
        ),
        (
            vec![(0, "/etc/cdi/v.json", FILE)],
            "gpu0",
            "unresolvable CDI devices gpu0; \"gpu0\" is not of the form vendor/class=name",
        ),
        (
            vec![(0, "/etc/cdi/x.json", "{}")],
            "a/b=c",
            "unresolvable CDI devices a/b=c; /etc/cdi/x.json is not a CDI file: missing field `cdiVersion`",
        ),
    ];
    for (files, name, wanted) in rows {
        let error = registry(&files).resolve(&names(&[name])).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_honoured_is_refused_whole() {
    let of = |edits: &str| format!(r#"{{"cdiVersion":"1.0.0","kind":"v/c","devices":[{{"name":"d","containerEdits":{edits}}}]}}"#);
    let rows = [
        (FILE.replace("0.7.0", "1.1.0"), "has cdiVersion \"1.1.0\""),
        (FILE.replace("0.7.0", "0.2.0"), "has cdiVersion \"0.2.0\""),
        (FILE.replace("vendor.com/gpu", "gpu"), "not of the form vendor/class"),
        (FILE.replace("\"name\":\"1\"", "\"name\":\"0\""), "the device 0 twice"),
        (FILE.replace("\"name\":\"1\"", "\"name\":\"-\""), "whose name is not one"),
        (FILE.replace("containerEdits", "containerEdit"), "unknown field"),
        (r#"{"cdiVersion":"1.0.0","kind":"v/c","devices":[]}"#.into(), "has 0 devices"),
        (of("{}"), "does nothing to a container"),
        (of(r#"{"env":["=x"]}"#), "is not NAME=VALUE"),
        (of(r#"{"env":["x"]}"#), "is not NAME=VALUE"),
        (of(r#"{"intelRdt":{"closID":"a"}}"#), "uses intelRdt"),
        (of(r#"{"netDevices":[]}"#), "uses netDevices"),
        (of(r#"{"hooks":[{"hookName":"later","path":"/h"}]}"#), "has the hook \"later\""),
        (of(r#"{"hooks":[{"hookName":"poststop","path":"h"}]}"#), "must be absolute"),
        (of(r#"{"deviceNodes":[{"path":"dev"}]}"#), "must be absolute"),
        (of(r#"{"deviceNodes":[{"path":"/dev/../x"}]}"#), "without \"..\""),
        (of(r#"{"deviceNodes":[{"path":"/dev/x","type":"d"}]}"#), "it is b, c, u or p"),
        (of(r#"{"deviceNodes":[{"path":"/dev/x","permissions":"rx"}]}"#), "of r, w and m"),
        (of(r#"{"deviceNodes":[{"path":"/dev/x","major":-1}]}"#), "is not a CDI file"),
        (of(r#"{"mounts":[{"hostPath":"x","containerPath":"/x"}]}"#), "must be absolute"),
        (" ".repeat(MAX_FILE as usize + 1), "is larger than"),
        ("[".repeat(50_000), "is not a CDI file"),
        (String::new(), "is not a CDI file"),
    ];
    for (text, wanted) in rows {
        let found = parse(text.as_bytes());
        assert!(found.clone().unwrap_err().contains(wanted), "{found:?} for {wanted}");
    }
}

#[test]
fn a_device_of_another_type_or_place_is_refused() {
    let of = |node: &str| {
        let text =
            format!(r#"{{"cdiVersion":"1.0.0","kind":"v/c","devices":[{{"name":"d","containerEdits":{{"deviceNodes":[{node}]}}}}]}}"#);
        let edits = registry(&[(0, "/x", &text)]).resolve(&names(&["v/c=d"]))?;
        let mut spec = ContainerSpec::default();
        apply(&edits, &mut spec, &machine).map(|()| spec)
    };
    assert!(
        of(r#"{"path":"/dev/null","type":"b"}"#)
            .unwrap_err()
            .contains("is of type b, and /dev/null of the machine of type c")
    );
    assert!(of(r#"{"path":"/dev/none"}"#).unwrap_err().contains("/dev/none is not there"));
    assert!(of(r#"{"path":"/"}"#).unwrap_err().contains("cannot be a path"));
    let hidden = of(r#"{"path":"/dev/null","permissions":"none"}"#).unwrap();
    assert_eq!((hidden.devices.len(), hidden.device_rules.len()), (1, 0));
}

#[test]
fn no_damage_to_a_file_is_more_than_an_error() {
    let yaml = "cdiVersion: 0.5.0\nkind: v/c\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/x\n";
    assert!(parse(yaml.as_bytes()).is_ok());
    for text in [FILE, yaml] {
        for at in 0..text.len() {
            for byte in *b"\"{}[]0-:&*\n\xff" {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                let _ = parse(&bytes);
                let _ = parse(&bytes[..at]);
            }
        }
    }
    // Aliases that grow without end.
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(parse(bomb.as_bytes()).is_err());
}
