//! CRI-O's `crio.conf` and its drop-ins.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Binary, Driver, Flavor, VmHandler};
use common::*;

#[test]
fn types() {
    let loaded = crio(
        "[crio.runtime]
default_runtime = 'crun'
[crio.runtime.runtimes.crun]
monitor_path = '/usr/libexec/crio/conmon'
monitor_env = ['PATH=/bin']
allowed_annotations = ['io.containers.trace-syscall']
[crio.runtime.runtimes.vm]
runtime_type = 'vm'
runtime_path = '/usr/bin/containerd-shim-kata-v2'
runtime_root = '/run/vc'
runtime_config_path = '/etc/kata/configuration.toml'
[crio.runtime.runtimes.pod]
runtime_type = 'pod'
runtime_path = '/usr/bin/youki'
",
    );
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(default_of(&loaded), format!("crun {CRIO}:2"));
    assert_eq!(
        (oci(&loaded, "crun").flavor, &oci(&loaded, "crun").binary),
        (Flavor::Crun, &Binary::Search("crun".to_owned()))
    );
    assert_eq!(oci(&loaded, "pod").flavor, Flavor::Youki);
    let binary = Some(Binary::Path("/usr/bin/containerd-shim-kata-v2".into()));
    let vm = VmHandler {
        binary,
        root: Some("/run/vc".into()),
        config_file: Some("/etc/kata/configuration.toml".into()),
    };
    assert_eq!(handler(&loaded, "vm").driver, Driver::Vm(vm));
    let shim = crio(
        "[crio.runtime.runtimes.h]\nruntime_type = 'vm'\nruntime_path = '/usr/bin/containerd-shim-runsc-v1'",
    );
    assert_eq!(
        unusable(&shim, "h"),
        "handler \"h\" needs the shim driver, which is not built yet"
    );
    assert_eq!(
        warnings(&loaded),
        [format!(
            "{CRIO}:6: allowed_annotations = ['io.containers.trace-syscall'] is read but has no effect yet"
        )]
    );
    assert_eq!(infos(&loaded).len(), 3, "{:?}", infos(&loaded));
}

#[test]
fn what_cannot_be_honoured_makes_the_handler_unusable() {
    for (body, reason) in [
        (
            "runtime_type = 'oc'",
            format!("runtime_type = \"oc\" ({CRIO}:2) is none of \"oci\", \"vm\" and \"pod\""),
        ),
        (
            "runtime_path = 'runc'",
            format!(
                "runtime_path = \"runc\" ({CRIO}:2) must be an absolute path; leave it out to search $PATH"
            ),
        ),
        (
            "runtime_config_path = '/x'",
            format!("runtime_config_path ({CRIO}:2) goes only with runtime_type \"vm\""),
        ),
        (
            "seccomp_profile = 'x.json'",
            format!("seccomp_profile = \"x.json\" must be an absolute path ({CRIO}:2)"),
        ),
        (
            "runtime_pull_image = true",
            format!("runtime_pull_image ({CRIO}:2) cannot be honoured yet"),
        ),
        (
            "platform_runtime_paths = { 'linux/arm64' = '/x' }",
            format!("platform_runtime_paths ({CRIO}:2) cannot be honoured yet"),
        ),
        (
            "runtime_root = 'x'",
            format!("\"x\" must be an absolute path ({CRIO}:2)"),
        ),
        (
            "inherit_default_runtime = true",
            format!(
                "inherit_default_runtime ({CRIO}:1) needs a default_runtime that is defined in CRI-O's files"
            ),
        ),
    ] {
        let loaded = crio(&format!("[crio.runtime.runtimes.h]\n{body}\n"));
        assert_eq!(errors(&loaded), [""; 0], "{body}");
        assert_eq!(unusable(&loaded, "h"), reason, "{body}");
    }
    let loaded = crio(
        "[crio.runtime]\nselinux = true\n[crio.runtime.runtimes.h]\nruntime_path = '/usr/bin/runc'",
    );
    assert_eq!(
        unusable(&loaded, "h"),
        format!("selinux ({CRIO}:2) cannot be honoured yet")
    );
}

#[test]
fn inheritance() {
    let loaded = crio(
        "[crio.runtime]
default_runtime = 'base'
[crio.runtime.runtimes.base]
runtime_path = '/usr/bin/crun'
runtime_root = '/run/crun'
[crio.runtime.runtimes.h]
runtime_path = '/usr/bin/other'
inherit_default_runtime = true
privileged_without_host_devices = true
",
    );
    let h = oci(&loaded, "h");
    assert_eq!(
        (h.flavor, &h.binary, &h.root),
        (
            Flavor::Crun,
            &Binary::Path("/usr/bin/crun".into()),
            &Some("/run/crun".into())
        )
    );
    assert!(handler(&loaded, "h").privileged_without_host_devices);
    assert_eq!(origin(&loaded, "h", "binary"), format!("{CRIO}:4"));
}

#[test]
fn a_drop_in_replaces_a_handler_whole() {
    let main = "[crio.runtime]\ndefault_runtime = 'a'\n[crio.runtime.runtimes.a]\nruntime_path = '/usr/bin/runc'\nruntime_root = '/run/a'\n[crio.runtime.runtimes.b]\nruntime_path = '/usr/bin/crun'";
    let late = "[crio.runtime]\ndefault_runtime = 'b'\n[crio.runtime.runtimes.a]\nruntime_path = '/usr/bin/youki'";
    let loaded = machine(&[
        (CRIO, main),
        ("/etc/crio/crio.conf.d/10-late", late),
        (
            "/etc/crio/crio.conf.d/05-early.conf",
            "[crio.runtime]\ndefault_runtime = 'c'",
        ),
    ]);
    assert_eq!(default_of(&loaded), "b /etc/crio/crio.conf.d/10-late:2");
    assert_eq!(
        (oci(&loaded, "a").flavor, &oci(&loaded, "a").root),
        (Flavor::Youki, &None)
    );
    assert_eq!(oci(&loaded, "b").flavor, Flavor::Crun);
    assert!(warnings(&loaded).contains(&format!("/etc/crio/crio.conf.d/10-late:3: the handler \"a\" is defined at {CRIO}:3 and again here, and this one is used")), "{:?}", warnings(&loaded));
}

#[test]
fn the_untrusted_handler() {
    let loaded = crio("[crio.runtime]\nruntime_untrusted_workload = '/usr/bin/runsc'");
    assert_eq!(untrusted_of(&loaded), format!("untrusted {CRIO}:2"));
    assert_eq!(oci(&loaded, "untrusted").flavor, Flavor::Runsc);
    let loaded = crio(
        "[crio.runtime]\nruntime = '/usr/bin/crun'\nruntime_untrusted_workload = '/usr/bin/runsc'",
    );
    assert_eq!(default_of(&loaded), format!("default {CRIO}:2"));
    assert_eq!(oci(&loaded, "default").flavor, Flavor::Crun);
    let loaded = crio(
        "[crio.runtime]\ndefault_runtime = 'runc'\ndefault_workload_trust = 'untrusted'\nruntime_untrusted_workload = '/usr/bin/runsc'",
    );
    assert_eq!(default_of(&loaded), format!("untrusted {CRIO}:3"));
    let loaded = crio("[crio.runtime.runtimes.untrusted]\nruntime_path = '/usr/bin/runsc'");
    assert_eq!(untrusted_of(&loaded), format!("untrusted {CRIO}:1"));
}
