//! Our own files, the merging of the families, rendering and reload.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{Binary, Driver, Flavor, Loaded, diff, render};
use common::*;

const FULL: &str = r#"version = 1
default_handler = "gvisor"
untrusted_handler = "kata"

[handlers.gvisor]
binary = "/usr/local/bin/runsc"
root = "/run/runsc"
config = "/etc/runsc.toml"
args = ["--platform=kvm", "--debug"]

[handlers.kata]
type = "vm"
config = "/etc/kata.toml"
privileged_without_host_devices = true

[handlers.wasm]
type = "shim"
binary = "containerd-shim-wasmtime-v1"

[handlers.off]
binary = "crun"
unusable = "not before the audit"

[network]
bridge = "coff0"
subnet = "10.88.0.0/16"

[paths]
root = "/srv/cofferdam"
state = "/run/coff"
"#;

fn full() -> Loaded {
    machine(&[
        (OWN, FULL),
        (
            "/etc/runsc.toml",
            "[runsc_config]\nplatform = 'systrap'\ndirectfs = false",
        ),
    ])
}

#[test]
fn settings_of_network_images_and_pods_are_read_and_rendered_again() {
    let text = r#"
[network]
subnet6 = "off"
mode = "cni"
cni_conf = "/etc/cni/other"
cni_plugins = ["/opt/a", "/opt/b"]
[images]
hosts = ["/etc/hosts.d"]
auth_files = ["/root/auth.json"]
keep_content = false
[pods]
seccomp_root = "/etc/seccomp"
cdi_dirs = ["/etc/cdi"]
"#;
    let own = |text: &str| machine(&[(OWN, text)]);
    let loaded = own(text);
    assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
    let again = own(&render(&loaded.table));
    for settings in [&loaded.table.settings, &again.table.settings] {
        let paths = |s: &Option<cofferdam_handlers::table::Setting<Vec<std::path::PathBuf>>>| s.as_ref().unwrap().value.clone();
        assert_eq!(settings.subnet6.as_ref().unwrap().value, "off");
        assert_eq!(settings.network_mode.as_ref().unwrap().value, "cni");
        assert_eq!(settings.cni_conf.as_ref().unwrap().value.to_str(), Some("/etc/cni/other"));
        assert_eq!(paths(&settings.cni_plugins), ["/opt/a", "/opt/b"].map(std::path::PathBuf::from));
        assert_eq!(paths(&settings.registry_hosts), ["/etc/hosts.d"].map(std::path::PathBuf::from));
        assert_eq!(paths(&settings.auth_files), ["/root/auth.json"].map(std::path::PathBuf::from));
        assert_eq!(settings.keep_content.as_ref().map(|s| s.value), Some(false));
        assert_eq!(settings.seccomp_root.as_ref().unwrap().value.to_str(), Some("/etc/seccomp"));
        assert_eq!(paths(&settings.cdi_dirs), ["/etc/cdi"].map(std::path::PathBuf::from));
    }
    for (text, wrong) in [
        ("[network]\nmode = \"flannel\"", "network.mode"),
        ("[images]\nhosts = [\"relative\"]", "images.hosts"),
        ("[pods]\nseccomp_root = \"x\"", "pods.seccomp_root"),
    ] {
        let errors: Vec<String> = own(text).errors.iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|e| e.contains(wrong)), "{text}: {errors:?}");
    }
}

#[test]
fn every_key() {
    let loaded = full();
    assert_eq!((errors(&loaded), warnings(&loaded)), (vec![], vec![]));
    assert_eq!(default_of(&loaded), format!("gvisor {OWN}:2"));
    assert_eq!(untrusted_of(&loaded), format!("kata {OWN}:3"));
    let gvisor = oci(&loaded, "gvisor");
    assert_eq!(
        (gvisor.flavor, &gvisor.root),
        (Flavor::Runsc, &Some("/run/runsc".into()))
    );
    assert_eq!(
        gvisor.flag_args(),
        ["--debug", "--directfs=false", "--platform=kvm"]
    );
    assert_eq!(
        origin(&loaded, "gvisor", "args.platform"),
        format!("{OWN}:9")
    );
    assert_eq!(
        origin(&loaded, "gvisor", "args.directfs"),
        "/etc/runsc.toml:3"
    );
    assert!(handler(&loaded, "kata").privileged_without_host_devices);
    assert!(
        matches!(&handler(&loaded, "wasm").driver, Driver::Shim(shim) if shim.binary == Binary::Search("containerd-shim-wasmtime-v1".into()))
    );
    assert_eq!(unusable(&loaded, "off"), "not before the audit");
    let settings = &loaded.table.settings;
    assert_eq!(settings.bridge.as_ref().unwrap().value, "coff0");
    assert_eq!(
        settings.subnet.as_ref().unwrap().origin.to_string(),
        format!("{OWN}:26")
    );
    assert_eq!(
        settings.root.as_ref().unwrap().value,
        path("/srv/cofferdam")
    );
    assert_eq!(settings.state.as_ref().unwrap().value, path("/run/coff"));
}

#[test]
fn drop_ins_merge_key_by_key() {
    let loaded = machine(&[
        (
            OWN,
            "[handlers.h]\nbinary = '/usr/bin/runc'\nroot = '/run/h'",
        ),
        (
            "/etc/cofferdam/conf.d/10.toml",
            "[handlers.h]\nbinary = '/usr/bin/crun'",
        ),
        (
            "/etc/cofferdam/conf.d/20.toml",
            "[handlers.h]\nbinary = '/usr/bin/youki'",
        ),
        ("/etc/cofferdam/conf.d/30.txt", "["),
    ]);
    assert_eq!(
        (oci(&loaded, "h").flavor, &oci(&loaded, "h").root),
        (Flavor::Youki, &Some("/run/h".into()))
    );
    assert_eq!(
        origin(&loaded, "h", "binary"),
        "/etc/cofferdam/conf.d/20.toml:2"
    );
    assert_eq!(origin(&loaded, "h", "root"), format!("{OWN}:3"));
    assert_eq!(infos(&loaded).len(), 2);
    assert_eq!(errors(&loaded), [""; 0]);
}

#[test]
fn later_families_win_and_say_so() {
    let texts = [
        (
            CONTAINERD,
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'h'\nruntimes.h.runtime_type = 'io.containerd.runc.v2'\nruntimes.only.runtime_type = 'io.containerd.runsc.v1'",
        ),
        (
            CRIO,
            "[crio.runtime]\ndefault_runtime = 'h'\n[crio.runtime.runtimes.h]\nruntime_path = '/usr/bin/crun'",
        ),
        (
            OWN,
            "default_handler = 'only'\n[handlers.h]\nbinary = '/usr/bin/youki'",
        ),
    ];
    let loaded = machine(&texts);
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(oci(&loaded, "h").flavor, Flavor::Youki);
    assert_eq!(oci(&loaded, "only").flavor, Flavor::Runsc);
    assert_eq!(default_of(&loaded), format!("only {OWN}:1"));
    let said = |place: &str, first: &str| {
        format!(
            "{place}: the handler \"h\" is defined at {first} and again here, and this one is used"
        )
    };
    let warned = warnings(&loaded);
    for expected in [
        said(&format!("{CRIO}:3"), &format!("{CONTAINERD}:4")),
        said(&format!("{OWN}:2"), &format!("{CRIO}:3")),
        format!(
            "{OWN}:1: the default handler is \"h\" at {CRIO}:2 and \"only\" here, and this one is used"
        ),
    ] {
        assert!(warned.contains(&expected), "{expected}\n{warned:#?}");
    }
    assert_eq!(warned.len(), 3, "{warned:#?}");
    // The same handler in two files is no conflict.
    let loaded = machine(&[
        (
            CRIO,
            "[crio.runtime.runtimes.h]\nruntime_path = '/usr/bin/crun'",
        ),
        (OWN, "[handlers.h]\nbinary = '/usr/bin/crun'"),
    ]);
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn import_replaces_the_usual_places() {
    let crio_file = "[crio.runtime.runtimes.c]\nruntime_path = '/usr/bin/crun'";
    let texts = [
        (OWN, "import = ['/opt/a.toml', 'b.conf']"),
        (CONTAINERD, "not toml"),
        (
            "/opt/a.toml",
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.a]\nruntime_type = 'io.containerd.runsc.v1'",
        ),
        ("/etc/cofferdam/b.conf", crio_file),
    ];
    let loaded = machine(&texts);
    assert_eq!(errors(&loaded), [""; 0]);
    assert_eq!(oci(&loaded, "a").flavor, Flavor::Runsc);
    assert_eq!(oci(&loaded, "c").flavor, Flavor::Crun);
    let loaded = machine(&[(OWN, "import = []"), (CRIO, crio_file)]);
    assert_eq!(loaded.table.handlers.len(), 4);
    let loaded = machine(&[(OWN, "import = ['/gone']")]);
    assert_eq!(
        errors(&loaded),
        [format!(
            "/gone: the file that {OWN}:1 imports is not there; create it or remove the import"
        )]
    );
}

#[test]
fn bad_values_are_errors_or_reasons() {
    for (text, error) in [
        ("version = 2", "1:11: version = 2 is not known; write 1"),
        (
            "[handlers.h]\ntype = 'docker'",
            "2:8: handlers.h.type = \"docker\" is none of \"oci\", \"vm\" and \"shim\"",
        ),
        (
            "[handlers.'a/b']",
            "1:11: handlers.\"a/b\" is not a usable handler: handler name \"a/b\" is not valid: use 1 to 253 letters, digits, '-', '_' or '.'",
        ),
        (
            "[paths]\nroot = 'x'",
            "2:8: paths.root = \"x\" must be an absolute path",
        ),
        (
            "default_handler = 'a b'",
            "1:19: default_handler does not name a handler: handler name \"a b\" is not valid: use 1 to 253 letters, digits, '-', '_' or '.'",
        ),
    ] {
        let loaded = machine(&[(OWN, text)]);
        assert_eq!(errors(&loaded), [format!("{OWN}:{error}")]);
    }
    for (body, reason) in [
        (
            "args = ['run']",
            "the argument \"run\" is not a flag; write --NAME or --NAME=VALUE",
        ),
        (
            "args = ['--']",
            "\"\" is not the name of a flag; write it without dashes in front",
        ),
        (
            "args = ['--root=/x']",
            "the argument --root is a key of its own; write root = \"…\"",
        ),
        (
            "args = ['--cgroup-manager=systemd']",
            "the argument --cgroup-manager is set by Cofferdam itself; leave it out",
        ),
        (
            "args = ['--systemd-cgroup']",
            "the argument --systemd-cgroup is set by Cofferdam itself; leave it out",
        ),
        (
            "args = ['--log=/dev/null']",
            "the argument --log is set by Cofferdam itself; leave it out",
        ),
        (
            "type = 'vm'\nargs = ['--x']",
            "args go only with type = \"oci\"",
        ),
        (
            "binary = '/usr/bin/crun'\nconfig = '/x'",
            "the configuration \"/x\" is runsc's, and this handler runs something else",
        ),
        ("binary = 'a/b'", "\"a/b\" must be an absolute path"),
    ] {
        let loaded = machine(&[(OWN, &format!("[handlers.h]\n{body}"))]);
        assert!(
            unusable(&loaded, "h").starts_with(reason),
            "{body}: {}",
            unusable(&loaded, "h")
        );
    }
    let loaded = machine(&[(OWN, "default_handler = 'gone'")]);
    assert_eq!(
        warnings(&loaded),
        [format!(
            "{OWN}:1: the handler \"gone\" is defined nowhere, so a pod without a handler does not start"
        )]
    );
    assert_eq!(default_of(&loaded), format!("gone {OWN}:1"));
}

/// What is rendered makes the same handlers when it is read again, refusals included.
#[test]
fn rendering_goes_around() {
    let strict = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.'a.b']\nruntime_type = 'io.containerd.runc.v2'\nbase_runtime_spec = '/etc/base \"x\".json'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.k]\nruntime_type = 'io.containerd.kata.v2'";
    let runsc = (
        "/etc/runsc.toml",
        "[runsc_config]\nplatform = 'systrap'\ndirectfs = false",
    );
    let first = machine(&[(OWN, FULL), (CONTAINERD, strict), runsc]);
    let text = render(&first.table);
    let again = machine(&[(OWN, &text), (CONTAINERD, "not read"), runsc]);
    assert_eq!(errors(&again), [""; 0], "{text}");
    assert_eq!(
        diff(&first.table, &again.table),
        Default::default(),
        "{text}"
    );
    assert_eq!(
        again.table.settings.state.as_ref().unwrap().value,
        path("/run/coff")
    );
}

#[test]
fn rendering_says_where_each_value_came_from() {
    let runsc = ("/etc/runsc.toml", "[runsc_config]\ndirectfs = false");
    let own = "[handlers.gvisor]\nbinary = '/usr/local/bin/runsc'\nconfig = '/etc/runsc.toml'\n[handlers.kata]\ntype = 'vm'\n[network]\nbridge = 'b0'";
    let text = render(&machine(&[(OWN, own), runsc]).table);
    assert_eq!(
        text,
        r#"version = 1
default_handler = "runc" # built in
import = [] # everything that was found is below

[handlers.crun] # built in
type = "oci" # built in
binary = "crun" # built in

[handlers.gvisor] # from /etc/cofferdam/config.toml:1
type = "oci" # built in
binary = "/usr/local/bin/runsc" # from /etc/cofferdam/config.toml:2
config = "/etc/runsc.toml" # from /etc/cofferdam/config.toml:3
args = [
    "--directfs=false", # from /etc/runsc.toml:2
]

[handlers.kata] # from /etc/cofferdam/config.toml:4
type = "vm" # from /etc/cofferdam/config.toml:5
unusable = 'handler "kata" needs the VM driver, which is not built yet' # built in

[handlers.runc] # built in
type = "oci" # built in
binary = "runc" # built in

[handlers.runsc] # built in
type = "oci" # built in
binary = "runsc" # built in

[handlers.youki] # built in
type = "oci" # built in
binary = "youki" # built in

[network]
bridge = "b0" # from /etc/cofferdam/config.toml:7
"#
    );
}

#[test]
fn json_has_the_same() {
    let json = serde_json::to_value(&full().table).unwrap();
    assert_eq!(
        json["handlers"]["gvisor"]["driver"]["oci"]["flavor"],
        "runsc"
    );
    assert_eq!(
        json["handlers"]["gvisor"]["origins"]["binary"]["place"]["line"],
        6
    );
    assert_eq!(json["default"][0], "gvisor");
    assert_eq!(json["settings"]["bridge"]["value"], "coff0");
}

#[test]
fn reload() {
    let old = machine(&[(OWN, "[handlers.a]\nbinary = 'runc'\n[handlers.b]\nbinary = 'crun'\n[handlers.c]\nbinary = 'crun'")]).table;
    let new = machine(&[(OWN, "default_handler = 'b'\n[handlers.b]\n\nbinary = 'crun'\n[handlers.c]\nbinary = 'crun'\nargs = ['--debug']\n[handlers.d]\nbinary = 'runc'")]).table;
    let diff = diff(&old, &new);
    let names = |names: &[cofferdam_model::HandlerName]| {
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        (
            names(&diff.added),
            names(&diff.removed),
            names(&diff.changed),
            diff.selection
        ),
        (vec!["d".into()], vec!["a".into()], vec!["c".into()], true)
    );
}
