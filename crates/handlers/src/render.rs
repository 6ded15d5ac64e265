//! The merged table as a configuration file of our own form, for `cofferdam config`.

use crate::place::{Origin, one_line};
use crate::table::{Driver, Handler, HandlerTable};
use std::fmt::Write;

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
    let path = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let rows = [
        (
            "network",
            "bridge",
            settings
                .bridge
                .as_ref()
                .map(|s| (s.value.clone(), &s.origin)),
        ),
        (
            "network",
            "subnet",
            settings
                .subnet
                .as_ref()
                .map(|s| (s.value.clone(), &s.origin)),
        ),
        (
            "paths",
            "root",
            settings.root.as_ref().map(|s| (path(&s.value), &s.origin)),
        ),
        (
            "paths",
            "state",
            settings.state.as_ref().map(|s| (path(&s.value), &s.origin)),
        ),
    ];
    let mut last = "";
    for (section, key, row) in rows {
        let Some((value, origin)) = row else { continue };
        if section != last {
            out.plain(&format!("\n[{section}]"));
            last = section;
        }
        out.value(key, &quote(&value), origin);
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
