//! The merged table as a configuration file of our own form, for `cofferdam config`.

use crate::place::{Origin, one_line};
use crate::table::{Driver, Handler, HandlerTable, Setting};
use std::fmt::Write;
use std::path::PathBuf;

/// Renders `table`. Each value has a comment that says where it came from. The text is itself a
/// configuration file that makes the same handlers, without anything else having to be read but the
/// files that `config` names.
pub fn render(table: &HandlerTable) -> String {
    let mut out = Lines::default();
    out.plain("version = 1");
    for (key, choice) in [
        ("default_handler", &table.default),
        ("untrusted_handler", &table.untrusted),
    ] {
        if let Some((name, origin)) = choice {
            out.value(key, &quote(name.as_str()), origin);
        }
    }
    out.plain("import = [] # everything that was found is below");
    for handler in table.handlers.values() {
        render_handler(handler, &mut out);
    }
    let settings = &table.settings;
    let text = |s: &Option<Setting<String>>| s.as_ref().map(|s| (quote(&s.value), s.origin.clone()));
    let quoted = |path: &PathBuf| quote(&path.to_string_lossy());
    let path = |s: &Option<Setting<PathBuf>>| s.as_ref().map(|s| (quoted(&s.value), s.origin.clone()));
    let list = |s: &Option<Setting<Vec<PathBuf>>>| {
        let value = |s: &Setting<Vec<PathBuf>>| format!("[{}]", s.value.iter().map(quoted).collect::<Vec<_>>().join(", "));
        s.as_ref().map(|s| (value(s), s.origin.clone()))
    };
    let number = |s: &Option<Setting<u64>>| s.as_ref().map(|s| (s.value.to_string(), s.origin.clone()));
    let flag = |s: &Option<Setting<bool>>| s.as_ref().map(|s| (s.value.to_string(), s.origin.clone()));
    let words = |s: &Option<Setting<Vec<String>>>| {
        let value = |s: &Setting<Vec<String>>| format!("[{}]", s.value.iter().map(|w| quote(w)).collect::<Vec<_>>().join(", "));
        s.as_ref().map(|s| (value(s), s.origin.clone()))
    };
    let (cri, nri) = (&settings.cri, &settings.cri.nri);
    let rows = [
        ("network", "bridge", text(&settings.bridge)),
        ("network", "subnet", text(&settings.subnet)),
        ("network", "subnet6", text(&settings.subnet6)),
        ("network", "mode", text(&settings.network_mode)),
        ("network", "cni_conf", path(&settings.cni_conf)),
        ("network", "cni_plugins", list(&settings.cni_plugins)),
        ("images", "hosts", list(&settings.registry_hosts)),
        ("images", "auth_files", list(&settings.auth_files)),
        ("images", "keep_content", flag(&settings.keep_content)),
        ("pods", "seccomp_root", path(&settings.seccomp_root)),
        ("pods", "cdi_dirs", list(&settings.cdi_dirs)),
        ("paths", "root", path(&settings.root)),
        ("paths", "state", path(&settings.state)),
        ("cri", "socket", path(&cri.socket)),
        ("cri", "streaming_address", text(&cri.streaming_address)),
        ("cri", "cgroup_driver", text(&cri.cgroup_driver)),
        ("cri", "metrics_address", text(&cri.metrics_address)),
        ("cri", "otlp_endpoint", text(&cri.otlp_endpoint)),
        ("cri", "otlp_protocol", text(&cri.otlp_protocol)),
        ("cri", "log_format", text(&cri.log_format)),
        ("cri", "log_level", text(&cri.log_level)),
        ("cri", "pinned_images", words(&cri.pinned_images)),
        ("cri", "spare_networks", number(&cri.spare_networks)),
        ("cri", "max_exec_output", number(&cri.max_exec_output)),
        ("cri.nri", "enabled", flag(&nri.enabled)),
        ("cri.nri", "socket", path(&nri.socket)),
        ("cri.nri", "plugin_dir", path(&nri.plugin_dir)),
        ("cri.nri", "conf_dir", path(&nri.conf_dir)),
        ("cri.nri", "required", words(&nri.required)),
        ("cri.nri", "registration_timeout_ms", number(&nri.registration_timeout_ms)),
        ("cri.nri", "request_timeout_ms", number(&nri.request_timeout_ms)),
    ];
    let mut last = "";
    for (section, key, row) in rows {
        let Some((value, origin)) = row else { continue };
        if section != last {
            out.plain(&format!("\n[{section}]"));
            last = section;
        }
        out.value(key, &value, &origin);
    }
    out.0
}

fn render_handler(handler: &Handler, out: &mut Lines) {
    let origin = |key: &str| {
        handler
            .origins
            .get(key)
            .cloned()
            .unwrap_or_else(|| Origin::built_in(""))
    };
    out.plain("");
    out.value_of(
        &format!("[handlers.{}]", key(handler.name.as_str())),
        &handler.origin(),
    );
    let (kind, binary, root, config) = match &handler.driver {
        Driver::Oci(oci) => (
            "oci",
            Some(&oci.binary),
            oci.root.as_ref(),
            oci.config_file.as_ref(),
        ),
        Driver::Vm(vm) => (
            "vm",
            vm.binary.as_ref(),
            vm.root.as_ref(),
            vm.config_file.as_ref(),
        ),
        Driver::Shim(shim) => ("shim", Some(&shim.binary), None, shim.config_file.as_ref()),
        Driver::Unknown => ("unknown", None, None, None),
    };
    out.value("type", &quote(kind), &origin("type"));
    let paths = [
        ("binary", binary.map(|binary| binary.as_path())),
        ("root", root.map(|p| p.as_path())),
        ("config", config.map(|p| p.as_path())),
    ];
    for (key, path) in paths {
        if let Some(path) = path {
            out.value(key, &quote(&path.to_string_lossy()), &origin(key));
        }
    }
    if let Driver::Oci(oci) = &handler.driver
        && !oci.flags.is_empty()
    {
        out.plain("args = [");
        for (name, arg) in oci.flags.keys().zip(oci.flag_args()) {
            out.value_of(
                &format!("    {},", quote(&arg)),
                &origin(&format!("args.{name}")),
            );
        }
        out.plain("]");
    }
    if handler.privileged_without_host_devices {
        out.value(
            "privileged_without_host_devices",
            "true",
            &origin("privileged_without_host_devices"),
        );
    }
    for (key, value) in handler.defaults.rows() {
        out.value(key, &value, &origin(key));
    }
    if let Some(reason) = &handler.unusable {
        out.value("unusable", &quote(reason), &origin("unusable"));
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn plain(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn value(&mut self, key: &str, value: &str, origin: &Origin) {
        self.value_of(&format!("{key} = {value}"), origin);
    }

    fn value_of(&mut self, line: &str, origin: &Origin) {
        let from = match &origin.place {
            Some(_) => format!("from {origin}"),
            None => "built in".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line} # {}", one_line(&from));
    }
}

fn quote(text: &str) -> String {
    toml_edit::Value::from(one_line(text)).to_string()
}

fn key(name: &str) -> String {
    toml_edit::Key::new(name).display_repr().into_owned()
}
