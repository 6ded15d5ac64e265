//! Our own `config.toml` and `conf.d`.
//!
//! ```toml
//! version = 1
//! default_handler = "runc"
//! untrusted_handler = "gvisor"
//! import = ["/etc/containerd/config.toml"]  # instead of looking in the usual places
//!
//! [handlers.gvisor]
//! type = "oci"                       # oci (default), vm or shim
//! binary = "/usr/local/bin/runsc"    # or a name, for $PATH; the handler's name if left out
//! root = "/run/runsc"
//! config = "/etc/containerd/runsc.toml"
//! args = ["--platform=systrap"]
//! privileged_without_host_devices = true
//! default_capabilities = ["CHOWN", "KILL"] # what containers have before their own add and drop
//! pids_limit = 1024
//! seccomp_profile = "/etc/cofferdam/seccomp.json" # in place of the built-in RuntimeDefault
//! unset_seccomp_profile = "runtime/default"       # of containers that name none
//! apparmor_profile = "mine"                       # what RuntimeDefault means
//! disable_apparmor = false
//! default_sysctls = ["net.ipv4.ip_unprivileged_port_start=0"]
//! default_ulimits = ["nofile=1024:4096"]
//! device_ownership_from_security_context = true
//! snapshotter = "erofs"              # or overlay, the default
//! unusable = "not before the audit"  # a reason turns the handler off
//!
//! [network]
//! bridge = "cofferdam0"
//! subnet = "10.89.0.0/16"
//! subnet6 = "auto"                   # auto (default), off, or a network
//! mode = "auto"                      # auto (default): CNI where it is configured; bridge; cni
//! cni_conf = "/etc/cni/net.d"
//! cni_plugins = ["/opt/cni/bin", "/usr/lib/cni"]
//!
//! [images]
//! hosts = ["/etc/cofferdam/certs.d", "/etc/containerd/certs.d"]  # folders of hosts.toml
//! auth_files = ["/root/.docker/config.json"]
//! keep_content = true                # compressed layers stay, to be saved and mended from
//!
//! [pods]
//! seccomp_root = "/var/lib/kubelet/seccomp"
//! cdi_dirs = ["/etc/cdi", "/run/cdi"]
//!
//! [paths]
//! root = "/var/lib/cofferdam"
//! state = "/run/cofferdam"
//! ```
//!
//! `[cri]` is told of in [`crate::cri`].

use crate::containerd::name_at;
use crate::{cri, defaults, driver};
use crate::load::{Family, Sources};
use crate::place::{Origin, one_line};
use crate::runsc::{RESERVED, check_flag};
use crate::schema::Effect::Used;
use crate::schema::Kind::{Bool, Int, Named, Text, Texts};
use crate::schema::{Key, Kind, Report, check, key};
use crate::table::{Binary, Driver, Flavor, Handler, Setting, Settings, ShimHandler, VmHandler};
use crate::tree::{self, Node, Table, is_true, text};
use cofferdam_model::HandlerName;
use std::path::PathBuf;

const KEYS: &[Key] = &[
    key("version", Int, Used),
    key("default_handler", Text, Used),
    key("untrusted_handler", Text, Used),
    key("import", Texts, Used),
    key("handlers", Named(HANDLER), Used),
    key(
        "network",
        Kind::Table(&[
            key("bridge", Text, Used),
            key("subnet", Text, Used),
            key("subnet6", Text, Used),
            key("mode", Text, Used),
            key("cni_conf", Text, Used),
            key("cni_plugins", Texts, Used),
        ]),
        Used,
    ),
    key(
        "images",
        Kind::Table(&[key("hosts", Texts, Used), key("auth_files", Texts, Used), key("keep_content", Bool, Used)]),
        Used,
    ),
    key(
        "pods",
        Kind::Table(&[key("seccomp_root", Text, Used), key("cdi_dirs", Texts, Used)]),
        Used,
    ),
    key(
        "paths",
        Kind::Table(&[key("root", Text, Used), key("state", Text, Used)]),
        Used,
    ),
    key("cri", Kind::Table(cri::CRI), Used),
];

/// `unknown` is what [`crate::render()`] writes for a handler that cannot be run.
const TYPES: [&str; 4] = ["oci", "vm", "shim", "unknown"];

const HANDLER: &[Key] = &[
    key("type", Text, Used),
    key("binary", Text, Used),
    key("root", Text, Used),
    key("config", Text, Used),
    key("args", Texts, Used),
    key("privileged_without_host_devices", Bool, Used),
    key("default_capabilities", Texts, Used),
    key("pids_limit", Int, Used),
    key("seccomp_profile", Text, Used),
    key("unset_seccomp_profile", Text, Used),
    key("apparmor_profile", Text, Used),
    key("disable_apparmor", Bool, Used),
    key("default_sysctls", Texts, Used),
    key("default_ulimits", Texts, Used),
    key("device_ownership_from_security_context", Bool, Used),
    key("snapshotter", Text, Used),
    key("unusable", Text, Used),
];

/// Checks one file. `None` and an error in the report where it contributes nothing.
pub(crate) fn check_file(root: Table, report: &mut Report) -> Option<Table> {
    report.clean(|report| {
        let table = check(root, KEYS, "", report);
        if let Some(node) = table.get("version").filter(|node| node.int() != Some(1)) {
            report.bad_value(
                node,
                "version",
                format!("= {} is not known; write 1", node.raw),
            );
        }
        for (name, node) in tree::table(&table, "handlers").into_iter().flatten() {
            if let Some((node, kind)) = node
                .table()
                .and_then(|table| text(table, "type"))
                .filter(|(_, kind)| !TYPES.contains(kind))
            {
                report.bad_value(
                    node,
                    format!("handlers.{name}.type"),
                    format!("= {kind:?} is none of \"oci\", \"vm\" and \"shim\""),
                );
            }
        }
        let paths = [("paths", "root"), ("paths", "state"), ("network", "cni_conf"), ("pods", "seccomp_root")];
        if let Some((node, mode)) = tree::table(&table, "network").and_then(|table| text(table, "mode"))
            && !["auto", "bridge", "cni"].contains(&mode)
        {
            report.bad_value(node, "network.mode", format!("= {mode:?} is none of \"auto\", \"bridge\" and \"cni\""));
        }
        for (section, name) in [("network", "cni_plugins"), ("images", "hosts"), ("images", "auth_files"), ("pods", "cdi_dirs")] {
            let list = tree::table(&table, section).and_then(|table| table.get(name));
            for (node, path) in list.into_iter().flat_map(Node::texts) {
                if let Err(reason) = driver::absolute(path) {
                    report.bad_value(node, format!("{section}.{name}"), format!("has {reason}"));
                }
            }
        }
        for (section, name) in paths {
            if let Some((node, path)) =
                tree::table(&table, section).and_then(|table| text(table, name))
                && let Err(reason) = driver::absolute(path)
            {
                report.bad_value(node, format!("{section}.{name}"), format!("= {reason}"));
            }
        }
        cri::check(&table, report);
        for name in ["default_handler", "untrusted_handler"] {
            if let Some((node, value)) = text(&table, name) {
                name_at(node, value, name, report);
            }
        }
        table
    })
}

/// Makes the handlers of all files of the family, merged.
pub(crate) fn family(table: &Table, sources: &mut Sources<'_>, report: &mut Report) -> Family {
    let mut family = Family {
        default: text(table, "default_handler")
            .and_then(|(node, name)| name_at(node, name, "default_handler", report)),
        untrusted: text(table, "untrusted_handler")
            .and_then(|(node, name)| name_at(node, name, "untrusted_handler", report)),
        ..Family::default()
    };
    for (name, node) in tree::table(table, "handlers").into_iter().flatten() {
        let (Ok(name), Some(table)) = (HandlerName::new(name.clone()), node.table()) else {
            continue;
        };
        family
            .handlers
            .insert(name.clone(), handler(name, node, table, sources, report));
    }
    family
}

/// The settings that are not about handlers.
pub(crate) fn settings(table: &Table) -> Settings {
    let setting = |section, key| {
        let (node, value) = text(tree::table(table, section)?, key)?;
        Some(Setting {
            value: value.to_owned(),
            origin: node.origin(),
        })
    };
    let path = |section, key| {
        setting(section, key).map(|s| Setting {
            value: PathBuf::from(s.value),
            origin: s.origin,
        })
    };
    let paths = |section, key: &str| {
        let node = tree::table(table, section)?.get(key)?;
        let value = node.texts().map(|(_, path)| PathBuf::from(path)).collect();
        Some(Setting { value, origin: node.origin() })
    };
    let keep = tree::table(table, "images").and_then(|images| images.get("keep_content"));
    Settings {
        bridge: setting("network", "bridge"),
        subnet: setting("network", "subnet"),
        subnet6: setting("network", "subnet6"),
        network_mode: setting("network", "mode"),
        cni_conf: path("network", "cni_conf"),
        cni_plugins: paths("network", "cni_plugins"),
        registry_hosts: paths("images", "hosts"),
        auth_files: paths("images", "auth_files"),
        keep_content: keep.and_then(|node| Some(Setting { value: node.flag()?, origin: node.origin() })),
        seccomp_root: path("pods", "seccomp_root"),
        cdi_dirs: paths("pods", "cdi_dirs"),
        root: path("paths", "root"),
        state: path("paths", "state"),
        cri: cri::settings(table),
    }
}

fn handler(
    name: HandlerName,
    node: &Node,
    table: &Table,
    sources: &mut Sources<'_>,
    report: &mut Report,
) -> Handler {
    let origin = Origin {
        place: Some(node.key.clone()),
        value: name.to_string(),
    };
    let mut reasons = Vec::new();
    let mut path = |key: &str| {
        let (node, value) = text(table, key)?;
        driver::absolute(value)
            .map_err(|reason| reasons.push(format!("{key} = {reason} ({})", node.key)))
            .ok()
    };
    let (root, config) = (path("root"), path("config"));
    let named = text(table, "binary").map(|(node, name)| (node, driver::binary(name)));
    let binary = match &named {
        Some((_, Ok(binary))) => Some(binary.clone()),
        Some((node, Err(reason))) => {
            reasons.push(format!("{reason} ({})", node.key));
            None
        }
        None => None,
    };
    let kind = text(table, "type").map_or("oci", |(_, kind)| kind);
    let or_name =
        |binary: Option<Binary>| binary.unwrap_or_else(|| Binary::Search(name.to_string()));
    let (driver, warning) = match kind {
        "vm" => (
            Driver::Vm(VmHandler {
                binary,
                root,
                config_file: config.clone(),
            }),
            None,
        ),
        "shim" => (
            Driver::Shim(ShimHandler {
                binary: or_name(binary),
                config_file: config.clone(),
            }),
            None,
        ),
        "unknown" => (Driver::Unknown, None),
        _ => driver::oci(or_name(binary), root, Flavor::Runc),
    };
    if let Some(warning) = warning {
        report.warn(named.map_or(&node.key, |(node, _)| &node.key), warning);
    }
    let mut handler = Handler::new(name, driver, origin);
    reasons
        .into_iter()
        .for_each(|reason| handler.refuse(reason));
    for key in HANDLER {
        if let Some(node) = table.get(key.name).filter(|_| key.name != "args") {
            handler.origins.insert(key.name.to_owned(), node.origin());
        }
    }
    handler.privileged_without_host_devices = is_true(table, "privileged_without_host_devices");
    defaults::apply(&mut handler, table);
    defaults::snapshotter(&mut handler, table);
    if let Some(path) = config.filter(|_| kind == "oci") {
        crate::runsc::apply(&mut handler, path, sources, report);
    }
    for (node, arg) in table.get("args").into_iter().flat_map(Node::texts) {
        if let Err(reason) = take_arg(&mut handler, node, arg) {
            handler.refuse(format!("{reason} ({})", node.at));
        }
    }
    if let Some((_, reason)) = text(table, "unusable") {
        handler.refuse(one_line(reason));
    }
    driver::refuse_unbuilt(&mut handler);
    handler
}

/// Takes `--NAME` or `--NAME=VALUE`, over a flag of the same name from the handler's own file.
fn take_arg(handler: &mut Handler, node: &Node, arg: &str) -> Result<(), String> {
    let flag = arg.strip_prefix("--").ok_or_else(|| {
        format!("the argument {arg:?} is not a flag; write --NAME or --NAME=VALUE")
    })?;
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    check_flag(name, value.unwrap_or_default())?;
    if name == "root" {
        return Err("the argument --root is a key of its own; write root = \"…\"".to_owned());
    }
    // The last of two equal flags counts, so this one would replace the driver's. Beside runsc's, crun
    // has one for the cgroups.
    let mut reserved = RESERVED.iter().map(|(name, _)| *name).chain(["cgroup-manager"]);
    if reserved.any(|reserved| reserved == name) {
        return Err(format!(
            "the argument --{name} is set by Cofferdam itself; leave it out"
        ));
    }
    match &mut handler.driver {
        Driver::Oci(oci) => oci.flags.insert(name.to_owned(), value.map(str::to_owned)),
        _ => return Err("args go only with type = \"oci\"".to_owned()),
    };
    handler
        .origins
        .insert(format!("args.{name}"), node.origin());
    Ok(())
}
