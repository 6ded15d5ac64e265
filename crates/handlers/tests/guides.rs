//! The fragments that guides to RuntimeClass show, as people paste them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Binary, Driver, Flavor, Level, VmHandler};
use common::*;

/// What the driver of a handler is, in one line.
fn driver(loaded: &cofferdam_handlers::Loaded, name: &str) -> String {
    let path = |binary: &Binary| match binary {
        Binary::Path(path) => path.display().to_string(),
        Binary::Search(name) => format!("${name}"),
    };
    let or_dash = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map_or("-".to_owned(), |p| p.display().to_string())
    };
    match &handler(loaded, name).driver {
        Driver::Oci(oci) => format!(
            "{} {} {} {}",
            oci.flavor,
            path(&oci.binary),
            or_dash(&oci.root),
            or_dash(&oci.config_file)
        ),
        Driver::Vm(vm) => format!(
            "vm {} {} {}",
            vm.binary.as_ref().map_or("-".to_owned(), path),
            or_dash(&vm.root),
            or_dash(&vm.config_file)
        ),
        Driver::Shim(shim) => format!("shim {} {}", path(&shim.binary), or_dash(&shim.config_file)),
        Driver::Unknown => "unknown".to_owned(),
    }
}

const NOT_BUILT: &str = "needs the VM driver, which is not built yet";

#[test]
fn containerd_with_several_runtimes() {
    let loaded = containerd(
        r#"version = 2

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
    runtime_type = "io.containerd.runsc.v1"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-qemu]
    runtime_type = "io.containerd.kata-qemu.v2"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-fc]
    runtime_type = "io.containerd.kata-fc.v2"
"#,
    );
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(warnings(&loaded), [""; 0]);
    assert_eq!(
        infos(&loaded),
        [
            "/etc/containerd/config.toml:10: SystemdCgroup is honoured in our own way: the cgroups are Cofferdam's own and never go through systemd"
        ]
    );
    assert_eq!(default_of(&loaded), "runc /etc/containerd/config.toml:4");
    for (name, expected) in [
        ("runc", "runc $runc - -"),
        ("runsc", "runsc $runsc - -"),
        ("kata-qemu", "vm $containerd-shim-kata-qemu-v2 - -"),
        ("kata-fc", "vm $containerd-shim-kata-fc-v2 - -"),
        ("crun", "crun $crun - -"),
        ("youki", "youki $youki - -"),
    ] {
        assert_eq!(driver(&loaded, name), expected, "{name}");
    }
    assert_eq!(handler(&loaded, "runc").unusable, None);
    assert_eq!(handler(&loaded, "runsc").unusable, None);
    assert_eq!(
        unusable(&loaded, "kata-qemu"),
        format!("handler \"kata-qemu\" {NOT_BUILT}")
    );
    assert_eq!(
        unusable(&loaded, "kata-fc"),
        format!("handler \"kata-fc\" {NOT_BUILT}")
    );
    for (name, key, line) in [
        ("runc", "handler", 7),
        ("runc", "type", 8),
        ("runsc", "type", 13),
        ("kata-fc", "type", 19),
    ] {
        assert_eq!(
            origin(&loaded, name, key),
            format!("{CONTAINERD}:{line}"),
            "{name} {key}"
        );
    }
    assert_eq!(origin(&loaded, "crun", "handler"), "built in");
}

#[test]
fn crio_with_several_runtimes() {
    let file = "/etc/crio/crio.conf.d/10-runtimes.conf";
    let loaded = machine(&[(
        file,
        r#"[crio.runtime.runtimes.runc]
runtime_path = "/usr/bin/runc"
runtime_type = "oci"
runtime_root = "/run/runc"

[crio.runtime.runtimes.runsc]
runtime_path = "/usr/local/bin/runsc"
runtime_type = "oci"
runtime_root = "/run/runsc"

[crio.runtime.runtimes.kata-qemu]
runtime_path = "/usr/bin/kata-runtime"
runtime_type = "oci"
runtime_root = "/run/kata"
privileged_without_host_devices = true
"#,
    )]);
    assert_eq!(
        (errors(&loaded), warnings(&loaded), infos(&loaded)),
        (vec![], vec![], vec![])
    );
    assert_eq!(driver(&loaded, "runc"), "runc /usr/bin/runc /run/runc -");
    assert_eq!(
        driver(&loaded, "runsc"),
        "runsc /usr/local/bin/runsc /run/runsc -"
    );
    assert_eq!(
        driver(&loaded, "kata-qemu"),
        "vm /usr/bin/kata-runtime /run/kata -"
    );
    assert_eq!(
        unusable(&loaded, "kata-qemu"),
        format!("handler \"kata-qemu\" {NOT_BUILT}")
    );
    assert!(handler(&loaded, "kata-qemu").privileged_without_host_devices);
    assert!(!handler(&loaded, "runc").privileged_without_host_devices);
    for (name, key, line) in [
        ("runc", "handler", 1),
        ("runsc", "binary", 7),
        ("runsc", "type", 8),
        ("kata-qemu", "root", 14),
        ("kata-qemu", "privileged_without_host_devices", 15),
    ] {
        assert_eq!(
            origin(&loaded, name, key),
            format!("{file}:{line}"),
            "{name} {key}"
        );
    }
}

#[test]
fn containerd_without_a_version() {
    let loaded = containerd(
        r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true

  # Example configuration for Kata Containers
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
    runtime_type = "io.containerd.kata.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata.options]
      ConfigPath = "/opt/kata/share/defaults/kata-containers/configuration.toml"

  # Example configuration for gVisor
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gvisor]
    runtime_type = "io.containerd.runsc.v1"
"#,
    );
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(
        warnings(&loaded),
        [
            "/etc/containerd/config.toml:1: plugins.\"io.containerd.grpc.v1.cri\" is read as version 2; \
         containerd before 2.3 would ignore it, as the file has no version, which it takes for version 1"
        ]
    );
    assert_eq!(driver(&loaded, "runc"), "runc $runc - -");
    assert_eq!(driver(&loaded, "gvisor"), "runsc $runsc - -");
    assert_eq!(
        driver(&loaded, "kata"),
        "vm $containerd-shim-kata-v2 - /opt/kata/share/defaults/kata-containers/configuration.toml"
    );
    assert_eq!(
        origin(&loaded, "kata", "config"),
        format!("{CONTAINERD}:11")
    );
    assert_eq!(default_of(&loaded), "runc built in");
}

#[test]
fn crio_with_paths_only() {
    let loaded = crio(
        r#"[crio.runtime.runtimes.runc]
runtime_path = "/usr/local/bin/runc"

[crio.runtime.runtimes.kata]
runtime_path = "/usr/bin/kata-runtime"

[crio.runtime.runtimes.runsc]
runtime_path = "/usr/local/bin/runsc"
"#,
    );
    assert_eq!(
        (errors(&loaded), warnings(&loaded), infos(&loaded)),
        (vec![], vec![], vec![])
    );
    assert_eq!(driver(&loaded, "runc"), "runc /usr/local/bin/runc - -");
    assert_eq!(driver(&loaded, "runsc"), "runsc /usr/local/bin/runsc - -");
    assert_eq!(driver(&loaded, "kata"), "vm /usr/bin/kata-runtime - -");
    assert_eq!(
        unusable(&loaded, "kata"),
        format!("handler \"kata\" {NOT_BUILT}")
    );
    assert_eq!(origin(&loaded, "kata", "type"), "built in");
}

#[test]
fn one_runtime_each() {
    let loaded = containerd(
        r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
  runtime_type = "io.containerd.runsc.v1"
"#,
    );
    assert_eq!(driver(&loaded, "runsc"), "runsc $runsc - -");
    assert_eq!(
        origin(&loaded, "runsc", "handler"),
        format!("{CONTAINERD}:1")
    );
    let loaded = containerd(
        r#"[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-fc]
  runtime_type = "io.containerd.kata.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata-fc.options]
    ConfigPath = "/opt/kata/share/defaults/kata-containers/configuration-fc.toml"
"#,
    );
    assert_eq!(
        driver(&loaded, "kata-fc"),
        "vm $containerd-shim-kata-v2 - /opt/kata/share/defaults/kata-containers/configuration-fc.toml"
    );
}

const GVISOR: &str = r#"# /etc/containerd/config.toml - add gVisor handler
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
runtime_type = "io.containerd.runsc.v1"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc.options]
TypeUrl = "io.containerd.runsc.v1.options"
ConfigPath = "/etc/containerd/runsc.toml"
"#;

#[test]
fn gvisor_with_its_own_file() {
    let runsc = r#"log_path = "/var/log/runsc/%ID%/shim.log"
log_level = "debug"
binary_name = "/opt/gvisor/runsc"
root = "/run/gvisor"
[runsc_config]
  platform = "systrap"
  directfs = "false"
  network = "sandbox"
  debug = true
  debug-log = "/var/log/runsc/%ID%/"
  num-network-channels = 2
  systemd-cgroup = "true"
"#;
    let loaded = machine(&[(CONTAINERD, GVISOR), ("/etc/containerd/runsc.toml", runsc)]);
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(warnings(&loaded).len(), 1, "{:?}", warnings(&loaded));
    assert_eq!(
        driver(&loaded, "runsc"),
        "runsc /opt/gvisor/runsc /run/gvisor /etc/containerd/runsc.toml"
    );
    assert_eq!(
        oci(&loaded, "runsc").flag_args(),
        [
            "--debug=true",
            "--debug-log=/var/log/runsc/%ID%/",
            "--directfs=false",
            "--network=sandbox",
            "--num-network-channels=2",
            "--platform=systrap"
        ]
    );
    assert_eq!(
        origin(&loaded, "runsc", "args.directfs"),
        "/etc/containerd/runsc.toml:7"
    );
    assert_eq!(
        origin(&loaded, "runsc", "binary"),
        "/etc/containerd/runsc.toml:3"
    );
    assert_eq!(handler(&loaded, "runsc").unusable, None);
    let places: Vec<_> = loaded
        .table
        .warnings
        .iter()
        .filter(|w| w.level == Level::Info)
        .map(|w| w.place.as_ref().unwrap().line)
        .collect();
    assert_eq!(places, [1, 2, 12]);
}

#[test]
fn gvisor_without_its_file_does_not_start_without_its_flags() {
    let loaded = containerd(GVISOR);
    assert_eq!(
        unusable(&loaded, "runsc"),
        "its configuration \"/etc/containerd/runsc.toml\" is not there"
    );
    let loaded = machine(&[
        (CONTAINERD, GVISOR),
        (
            "/etc/containerd/runsc.toml",
            "[runsc_config]\ndirectfs = [1]",
        ),
    ]);
    assert_eq!(
        unusable(&loaded, "runsc"),
        "its configuration \"/etc/containerd/runsc.toml\" has an error"
    );
    assert_eq!(
        errors(&loaded),
        [
            "/etc/containerd/runsc.toml:2:12: runsc_config.directfs must be a string, a boolean or an integer, and this is an array"
        ]
    );
    let loaded = machine(&[
        (CONTAINERD, GVISOR),
        (
            "/etc/containerd/runsc.toml",
            "directfs = true\nnetwrk = 1\nbinary_name = '/usr/bin/crun'",
        ),
    ]);
    assert_eq!(
        unusable(&loaded, "runsc"),
        "binary_name = '/usr/bin/crun' (/etc/containerd/runsc.toml:3) is not gVisor's runsc"
    );
}

#[test]
fn kata_without_host_devices() {
    let loaded = containerd(
        r#"# /etc/containerd/config.toml - add Kata handler
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
privileged_without_host_devices = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata.options]
ConfigPath = "/opt/kata/share/defaults/kata-containers/configuration.toml"
"#,
    );
    let kata = handler(&loaded, "kata");
    assert!(kata.privileged_without_host_devices);
    assert_eq!(
        origin(&loaded, "kata", "privileged_without_host_devices"),
        format!("{CONTAINERD}:4")
    );
    let config_file = Some(path(
        "/opt/kata/share/defaults/kata-containers/configuration.toml",
    ));
    let binary = Some(Binary::Search("containerd-shim-kata-v2".to_owned()));
    assert_eq!(
        kata.driver,
        Driver::Vm(VmHandler {
            binary,
            root: None,
            config_file
        })
    );
}

/// The enhancement proposal shows version 1, and a handler outside `runtimes`.
#[test]
fn the_first_proposal() {
    let body = "    runtime_type = \"io.containerd.runtime.v1.linux\"\n    runtime_engine = \"/opt/kata/bin/kata-runtime\"\n    runtime_root = \"\"\n";
    for header in [
        "[plugins.cri.containerd.kata-runtime]",
        "[plugins.cri.containerd.runtimes.kata-runtime]",
    ] {
        let loaded = containerd(&format!("{header}\n{body}"));
        assert_eq!(errors(&loaded), [""; 0]);
        assert_eq!(
            driver(&loaded, "kata-runtime"),
            "vm /opt/kata/bin/kata-runtime - -"
        );
        assert_eq!(
            unusable(&loaded, "kata-runtime"),
            format!("handler \"kata-runtime\" {NOT_BUILT}")
        );
        assert_eq!(
            origin(&loaded, "kata-runtime", "binary"),
            format!("{CONTAINERD}:3")
        );
        assert_eq!(
            warnings(&loaded).len(),
            usize::from(!header.contains("runtimes")),
            "{:?}",
            warnings(&loaded)
        );
    }
    // Without a header at all, each key is refused by name and place.
    let loaded = containerd(body);
    let expected = |line, key| {
        format!(
            "{CONTAINERD}:{line}: the key \"{key}\" is not known and is not read; it belongs in the table of a handler, such as […containerd.runtimes.NAME]"
        )
    };
    let mut got = warnings(&loaded);
    got.sort();
    assert_eq!(
        got,
        [
            expected(1, "runtime_type"),
            expected(2, "runtime_engine"),
            expected(3, "runtime_root")
        ]
    );
}

#[test]
fn a_machine_without_files() {
    let loaded = machine(&[]);
    assert_eq!(
        loaded
            .table
            .handlers
            .keys()
            .map(|name| name.as_str())
            .collect::<Vec<_>>(),
        ["crun", "runc", "runsc", "youki"]
    );
    assert_eq!(oci(&loaded, "runsc").flavor, Flavor::Runsc);
    assert_eq!(default_of(&loaded), "runc built in");
    assert_eq!(untrusted_of(&loaded), "none");
    assert!(loaded.watch.len() == 5, "{:?}", loaded.watch);
}
