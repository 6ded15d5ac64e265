//! containerd's `config.toml`: versions, keys, imports.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Binary, Driver, Flavor, ShimHandler};
use common::*;

/// A file of version 3 with one runtime, whose table begins on line 3.
fn runtime(body: &str) -> String {
    format!(
        "version = 3\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.h]\n{body}\n"
    )
}

#[test]
fn each_version_has_its_plugin_id() {
    for (version, id) in [
        ("version = 3", "'io.containerd.cri.v1.runtime'"),
        ("version = 4", "'io.containerd.cri.v1.runtime'"),
        ("version = 2", "'io.containerd.grpc.v1.cri'"),
        ("version = 1", "cri"),
        ("", "cri"),
    ] {
        let loaded = containerd(&format!(
            "{version}\n[plugins.{id}.containerd]\ndefault_runtime_name = 'c'\n[plugins.{id}.containerd.runtimes.c]\nruntime_type = 'io.containerd.runc.v2'\n[plugins.{id}.containerd.runtimes.c.options]\nBinaryName = '/usr/bin/crun'\nRoot = '/run/c'"
        ));
        assert_eq!(
            (errors(&loaded), warnings(&loaded)),
            (vec![], vec![]),
            "{version}"
        );
        let c = oci(&loaded, "c");
        assert_eq!(
            (c.flavor, &c.binary, &c.root),
            (
                Flavor::Crun,
                &Binary::Path("/usr/bin/crun".into()),
                &Some("/run/c".into())
            ),
            "{version}"
        );
        assert_eq!(default_of(&loaded), format!("c {CONTAINERD}:3"));
        assert_eq!(origin(&loaded, "c", "binary"), format!("{CONTAINERD}:7"));
    }
}

#[test]
fn an_id_of_another_version_is_read_and_told() {
    let table = |id: &str| {
        format!("[plugins.{id}.containerd.runtimes.x]\nruntime_type = 'io.containerd.runsc.v1'\n")
    };
    for (version, id, said) in [
        (
            "",
            "'io.containerd.cri.v1.runtime'",
            "read as version 3; containerd before 2.3 would ignore it, as the file has no version",
        ),
        (
            "version = 3\n",
            "'io.containerd.grpc.v1.cri'",
            "read as version 2; containerd itself would ignore it, as the file is of version 3",
        ),
        (
            "version = 2\n",
            "cri",
            "read as version 1; containerd itself would ignore it, as the file is of version 2",
        ),
    ] {
        let loaded = containerd(&format!("{version}{}", table(id)));
        assert_eq!(oci(&loaded, "x").flavor, Flavor::Runsc);
        assert_eq!(warnings(&loaded).len(), 1);
        assert!(
            warnings(&loaded)[0].contains(said),
            "{:?}",
            warnings(&loaded)
        );
    }
    // Beside the file's own, another id is not read.
    let both = format!(
        "version = 3\n{}[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.y]\nruntime_type = 'io.containerd.runc.v2'",
        table("'io.containerd.cri.v1.runtime'")
    );
    let loaded = containerd(&both);
    assert!(
        !loaded
            .table
            .handlers
            .keys()
            .any(|name| name.as_str() == "y")
    );
    assert!(
        warnings(&loaded)[0].contains("is not read beside"),
        "{:?}",
        warnings(&loaded)
    );
    // In version 3 the old id is that of the streaming server.
    let loaded = containerd(&format!(
        "version = 3\n{}[plugins.'io.containerd.grpc.v1.cri']\nstream_server_port = '0'",
        table("'io.containerd.cri.v1.runtime'")
    ));
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn version_1_with_its_old_tables() {
    let loaded = containerd(
        "[plugins.cri]
systemd_cgroup = true
[plugins.cri.containerd.default_runtime]
runtime_type = 'io.containerd.runtime.v1.linux'
runtime_engine = '/usr/local/sbin/crun'
runtime_root = '/run/crun'
[plugins.cri.containerd.untrusted_workload_runtime]
runtime_type = 'io.containerd.runtime.v1.linux'
runtime_engine = '/usr/bin/kata-runtime'
",
    );
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(default_of(&loaded), format!("default {CONTAINERD}:3"));
    assert_eq!(untrusted_of(&loaded), format!("untrusted {CONTAINERD}:7"));
    let default = oci(&loaded, "default");
    assert_eq!(
        (default.flavor, &default.binary, &default.root),
        (
            Flavor::Crun,
            &Binary::Path("/usr/local/sbin/crun".into()),
            &Some("/run/crun".into())
        )
    );
    assert_eq!(
        unusable(&loaded, "untrusted"),
        "handler \"untrusted\" needs the VM driver, which is not built yet"
    );
    assert_eq!(infos(&loaded).len(), 1);
    // Any version: a runtime of this name is the untrusted one.
    let loaded = containerd(
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.untrusted]\nruntime_type = 'io.containerd.runsc.v1'",
    );
    assert_eq!(untrusted_of(&loaded), format!("untrusted {CONTAINERD}:2"));
}

#[test]
fn runtime_types_choose_the_driver() {
    let shim = |name: &str| {
        Driver::Shim(ShimHandler {
            binary: Binary::Search(name.to_owned()),
            config_file: None,
        })
    };
    let loaded = containerd(&runtime("runtime_type = 'io.containerd.wasmtime.v1'"));
    assert_eq!(
        handler(&loaded, "h").driver,
        shim("containerd-shim-wasmtime-v1")
    );
    assert_eq!(
        unusable(&loaded, "h"),
        "handler \"h\" needs the shim driver, which is not built yet"
    );
    // A shim named on purpose is what must run, so runc does not run in its place.
    let loaded = containerd(&runtime(
        "runtime_type = 'io.containerd.runc.v2'\nruntime_path = '/opt/containerd-shim-mine-v2'",
    ));
    assert!(
        matches!(&handler(&loaded, "h").driver, Driver::Shim(shim) if shim.binary == Binary::Path("/opt/containerd-shim-mine-v2".into()))
    );
    let loaded = containerd(&runtime(
        "runtime_type = 'io.containerd.runc.v2'\nruntime_path = '/usr/bin/containerd-shim-runc-v2'",
    ));
    assert_eq!(oci(&loaded, "h").flavor, Flavor::Runc);
    assert_eq!(handler(&loaded, "h").unusable, None);
}

#[test]
fn what_cannot_be_honoured_makes_the_handler_unusable() {
    let runc = "runtime_type = 'io.containerd.runc.v2'\n";
    for (body, reason) in [
        ("", "runtime_type is missing; write io.containerd.runc.v2 or the like".to_owned()),
        ("runtime_type = 'oci'", "runtime_type \"oci\" is not one of containerd's; write io.containerd.runc.v2 or the like".to_owned()),
        (&format!("{runc}base_runtime_spec = '/etc/containerd/base.json'"), format!("base_runtime_spec ({CONTAINERD}:5) cannot be honoured yet")),
        (&format!("{runc}cni_conf_dir = '/etc/cni/other'"), format!("cni_conf_dir = \"/etc/cni/other\" ({CONTAINERD}:5) asks for a network of its own, which cannot be honoured yet")),
        (&format!("{runc}snapshotter = 'devmapper'"), format!("snapshotter = \"devmapper\" ({CONTAINERD}:5) is not one that there is here; write overlay or erofs, in containerd's file overlayfs")),
        (&format!("{runc}sandboxer = 'shim'"), format!("sandboxer = \"shim\" ({CONTAINERD}:5) needs a sandbox made by a shim, which is not built yet")),
        (&format!("{runc}runtime_engine = '/usr/bin/crun'"), format!("runtime_engine ({CONTAINERD}:5) goes only with runtime_type \"io.containerd.runtime.v1.linux\"; use BinaryName or Root under options")),
        (&format!("{runc}options = {{ BinaryName = './runc' }}"), format!("\"./runc\" must be an absolute path ({CONTAINERD}:5)")),
        (&format!("{runc}options = {{ Root = 'run/runc' }}"), format!("\"run/runc\" must be an absolute path ({CONTAINERD}:5)")),
        ("runtime_type = 'io.containerd.runsc.v1'\noptions = { BinaryName = 'crun' }", format!("BinaryName = 'crun' ({CONTAINERD}:5) is not gVisor's runsc, which runtime_type asks for")),
    ] {
        let loaded = containerd(&runtime(body));
        assert_eq!(errors(&loaded), [""; 0], "{body}");
        assert_eq!(unusable(&loaded, "h"), reason, "{body}");
    }
    let loaded = containerd(&runtime(&format!(
        "{runc}[plugins.'io.containerd.cri.v1.runtime']\nenable_selinux = true"
    )));
    assert_eq!(
        unusable(&loaded, "h"),
        format!("enable_selinux ({CONTAINERD}:6) cannot be honoured yet")
    );
    assert_eq!(
        unusable(&loaded, "crun"),
        "",
        "what another file's handlers ask is not theirs"
    );
}

#[test]
fn the_rest_is_told() {
    let runc = "runtime_type = 'io.containerd.runc.v2'\n";
    for (body, said) in [
        (
            "pod_annotations = ['a.*']",
            "pod_annotations = ['a.*'] is read but has no effect yet",
        ),
        (
            "cgroup_writable = true",
            "cgroup_writable = true is read but has no effect yet",
        ),
        (
            "options = { IoUid = 5 }",
            "IoUid = 5 is read but has no effect yet",
        ),
        (
            "options = { ConfigPath = '/x' }",
            "ConfigPath = '/x' is read but has no effect on runc",
        ),
        (
            "options = { CriuPath = '/x' }",
            "CriuPath = '/x' is read but has no effect yet",
        ),
        (
            "runtime_typ = 'x'",
            "the key \"runtime_typ\" is not known in plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.h and is not read; did you mean runtime_type?",
        ),
        (
            "options = { systemd_cgroup = true }",
            "the key \"systemd_cgroup\" is not known in plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.h.options and is not read; did you mean SystemdCgroup?",
        ),
        (
            "options = { BinaryName = '/usr/bin/nvidia-container-runtime' }",
            "the program \"nvidia-container-runtime\" is not one that is known, and is driven like runc",
        ),
    ] {
        let loaded = containerd(&runtime(&format!("{runc}{body}")));
        assert_eq!(
            warnings(&loaded),
            [format!("{CONTAINERD}:5: {said}")],
            "{body}"
        );
        assert_eq!(handler(&loaded, "h").unusable, None, "{body}");
    }
}

/// `containerd config default` spells out every key; its zeros ask for nothing.
#[test]
fn a_generated_file_is_quiet() {
    let loaded = containerd(
        r#"version = 2
root = "/var/lib/containerd"
disabled_plugins = []
imports = []
oom_score = 0
[cgroup]
  path = ""
[plugins]
  [plugins."io.containerd.gc.v1.scheduler"]
    pause_threshold = 0.02
  [plugins."io.containerd.grpc.v1.cri"]
    disable_apparmor = false
    enable_selinux = false
    sandbox_image = "registry.k8s.io/pause:3.8"
    unset_seccomp_profile = ""
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/opt/cni/bin"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      no_pivot = false
      snapshotter = "overlayfs"
      [plugins."io.containerd.grpc.v1.cri".containerd.default_runtime]
        base_runtime_spec = ""
        runtime_type = ""
        [plugins."io.containerd.grpc.v1.cri".containerd.default_runtime.options]
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          base_runtime_spec = ""
          cni_conf_dir = ""
          cni_max_conf_num = 0
          container_annotations = []
          pod_annotations = []
          privileged_without_host_devices = false
          runtime_engine = ""
          runtime_path = ""
          runtime_root = ""
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = ""
            CriuImagePath = ""
            CriuPath = ""
            CriuWorkPath = ""
            IoGid = 0
            IoUid = 0
            NoNewKeyring = false
            NoPivotRoot = false
            Root = ""
            ShimCgroup = ""
            SystemdCgroup = false
      [plugins."io.containerd.grpc.v1.cri".containerd.untrusted_workload_runtime]
        runtime_type = ""
        [plugins."io.containerd.grpc.v1.cri".containerd.untrusted_workload_runtime.options]
"#,
    );
    assert_eq!(
        (errors(&loaded), warnings(&loaded), infos(&loaded)),
        (vec![], vec![], vec![])
    );
    assert_eq!(handler(&loaded, "runc").unusable, None);
    assert_eq!(default_of(&loaded), format!("runc {CONTAINERD}:19"));
    assert_eq!(untrusted_of(&loaded), "none");
    assert_eq!(loaded.table.handlers.len(), 4);
}

#[test]
fn keys_match_without_case_as_in_go() {
    let loaded = containerd(&runtime(
        "Runtime_Type = 'io.containerd.runc.v2'\noptions = { binaryname = '/usr/bin/crun' }",
    ));
    assert_eq!(oci(&loaded, "h").flavor, Flavor::Crun);
    let loaded = containerd(&runtime(
        "runtime_type = 'io.containerd.runc.v2'\nRuntime_Type = 'io.containerd.runsc.v1'",
    ));
    assert_eq!(errors(&loaded).len(), 1);
    assert!(
        errors(&loaded)[0].contains("runtime_type is given twice"),
        "{:?}",
        errors(&loaded)
    );
}

#[test]
fn imports_merge_key_by_key() {
    let main = "version = 2\nimports = ['conf.d/*.toml', '/opt/one.toml']\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.h]\nruntime_type = 'io.containerd.runc.v2'\n";
    let drop_in = "version = 3\nimports = ['../config.toml', './a.toml']\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.h.options]\nBinaryName = '/usr/bin/crun'\n";
    let last = "[plugins.cri.containerd.runtimes.h]\nruntime_type = 'io.containerd.runc.v1'\n";
    let loaded = machine(&[
        (CONTAINERD, main),
        ("/etc/containerd/conf.d/a.toml", drop_in),
        ("/etc/containerd/conf.d/b.conf", "not = ["),
        ("/opt/one.toml", last),
    ]);
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(oci(&loaded, "h").flavor, Flavor::Crun);
    assert_eq!(
        origin(&loaded, "h", "binary"),
        "/etc/containerd/conf.d/a.toml:4"
    );
    assert_eq!(origin(&loaded, "h", "type"), "/opt/one.toml:2");
    assert_eq!(
        warnings(&loaded),
        [
            "/opt/one.toml:2: runtime_type = 'io.containerd.runc.v1' is used in place of 'io.containerd.runc.v2' at /etc/containerd/config.toml:4"
        ]
    );

    let loaded = machine(&[(CONTAINERD, "imports = ['gone.toml']")]);
    assert_eq!(
        errors(&loaded),
        [
            "/etc/containerd/gone.toml: the file that /etc/containerd/config.toml:1 imports is not there; create it or remove the import"
        ]
    );
    let loaded = machine(&[(CONTAINERD, "imports = ['/e*/x.toml']")]);
    assert!(
        errors(&loaded)[0].contains("use * and ? in the last part"),
        "{:?}",
        errors(&loaded)
    );
}

#[test]
fn imports_are_bounded() {
    let names: Vec<String> = (0..40)
        .map(|n| format!("/etc/containerd/{n}.toml"))
        .collect();
    let mut texts: Vec<(String, String)> = names
        .iter()
        .zip(names.iter().skip(1))
        .map(|(a, b)| (a.clone(), format!("imports = ['{b}']")))
        .collect();
    texts.push((CONTAINERD.to_owned(), format!("imports = ['{}']", names[0])));
    let loaded = machine(
        &texts
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect::<Vec<_>>(),
    );
    assert!(
        errors(&loaded)[0].contains("import at most 256 files, 8 deep"),
        "{:?}",
        errors(&loaded)
    );
}
