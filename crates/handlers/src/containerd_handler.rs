//! One runtime of containerd's configuration as a handler.

use crate::containerd_keys::RUNTIME;
use crate::driver::{self, RuntimeType};
use crate::load::Sources;
use crate::place::Origin;
use crate::schema::{Report, effects};
use crate::table::{Binary, Driver, Flavor, Handler, ShimHandler, VmHandler};
use crate::tree::{self, Node, Table, is_true, text};
use cofferdam_model::HandlerName;
use std::path::PathBuf;

/// Where containerd's CNI configuration is when nothing else is said.
const CNI_DIR: &str = "/etc/cni/net.d";

/// Makes the handler of one runtime. What cannot be honoured makes it unusable, with every reason.
pub(crate) fn handler(
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
    // A runtime named runc without a type keeps the type of containerd's built-in configuration.
    let default_type = if name.as_str() == "runc" {
        "io.containerd.runc.v2"
    } else {
        ""
    };
    let (type_origin, type_text) = match text(table, "runtime_type") {
        Some((node, text)) => (node.origin(), text),
        None => (Origin::built_in(default_type), default_type),
    };
    let runtime_type = match type_text {
        "" => Err("runtime_type is missing; write io.containerd.runc.v2 or the like".to_owned()),
        text => driver::runtime_type(text),
    };
    let mut draft = Draft {
        handler: Handler::new(name, Driver::Unknown, origin),
        table,
        report,
    };
    draft.origin("type", type_origin);
    match runtime_type {
        Ok(RuntimeType::LinuxV1) => draft.linux_v1(),
        Ok(RuntimeType::Runc) => draft.runc(),
        Ok(RuntimeType::Runsc) => draft.runsc(sources),
        Ok(RuntimeType::Kata(shim)) => draft.vm(shim),
        Ok(RuntimeType::Shim(shim)) => draft.shim(shim),
        Err(reason) => {
            draft.handler.refuse(reason);
            return draft.handler;
        }
    }
    if type_text != "io.containerd.runtime.v1.linux" {
        draft.refuse_old_keys();
    }
    draft.common();
    driver::refuse_unbuilt(&mut draft.handler);
    draft.handler
}

struct Draft<'a> {
    handler: Handler,
    table: &'a Table,
    report: &'a mut Report,
}

impl<'a> Draft<'a> {
    fn origin(&mut self, key: &str, origin: Origin) {
        self.handler.origins.insert(key.to_owned(), origin);
    }

    fn own(&self, key: &str) -> Option<(&'a Node, &'a str)> {
        text(self.table, key)
    }

    fn option(&self, key: &str) -> Option<(&'a Node, &'a str)> {
        text(tree::table(self.table, "options")?, key)
    }

    /// What `read` makes of a value, whose origin is kept under `key`; a bad one makes the handler
    /// unusable.
    fn take<T>(
        &mut self,
        found: Option<(&Node, &str)>,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (node, text) = found?;
        self.origin(key, node.origin());
        read(text)
            .map_err(|reason| self.handler.refuse(format!("{reason} ({})", node.key)))
            .ok()
    }

    fn linux_v1(&mut self) {
        self.oci(
            self.own("runtime_engine"),
            self.own("runtime_root"),
            Flavor::Runc,
        );
        self.runtime_path(&["containerd-shim"]);
    }

    fn runc(&mut self) {
        self.oci(self.option("BinaryName"), self.option("Root"), Flavor::Runc);
        self.runtime_path(&["containerd-shim-runc-v1", "containerd-shim-runc-v2"]);
        for key in ["ConfigPath", "TypeUrl"] {
            if let Some((node, _)) = self.option(key) {
                self.report.warn(
                    &node.key,
                    format!("{key} = {} is read but has no effect on runc", node.raw),
                );
            }
        }
    }

    fn runsc(&mut self, sources: &mut Sources<'_>) {
        let named = self.option("BinaryName");
        self.oci(named, self.option("Root"), Flavor::Runsc);
        if let Some((node, _)) = named {
            if !matches!(&self.handler.driver, Driver::Oci(oci) if oci.flavor == Flavor::Runsc) {
                self.handler.refuse(format!(
                    "BinaryName = {} ({}) is not gVisor's runsc, which runtime_type asks for",
                    node.raw, node.key
                ));
            }
            self.report.warn(&node.key, "BinaryName is honoured; under containerd, gVisor's shim takes its binary from binary_name in the file of ConfigPath");
        }
        self.runtime_path(&["containerd-shim-runsc-v1"]);
        if let Some((node, url)) = self.option("TypeUrl")
            && url != "io.containerd.runsc.v1.options"
        {
            self.report.warn(
                &node.key,
                format!(
                    "TypeUrl = {} is not gVisor's; write \"io.containerd.runsc.v1.options\"",
                    node.raw
                ),
            );
        }
        if let Some(path) = self.config_path() {
            crate::runsc::apply(&mut self.handler, path, sources, self.report);
        }
    }

    fn oci(&mut self, binary: Option<(&Node, &str)>, root: Option<(&Node, &str)>, flavor: Flavor) {
        let named = self.take(binary, "binary", driver::binary);
        let root = self.take(root, "root", driver::absolute);
        let (driver, warning) = driver::oci(
            named.unwrap_or_else(|| Binary::Search(flavor.to_string())),
            root,
            flavor,
        );
        if let (Some(warning), Some((node, _))) = (warning, binary) {
            self.report.warn(&node.key, warning);
        }
        self.handler.driver = driver;
    }

    fn vm(&mut self, shim: Binary) {
        let binary = self
            .take(self.own("runtime_path"), "binary", driver::binary)
            .unwrap_or(shim);
        self.handler.driver = Driver::Vm(VmHandler {
            binary: Some(binary),
            root: None,
            config_file: self.config_path(),
        });
    }

    fn shim(&mut self, shim: Binary) {
        let binary = self
            .take(self.own("runtime_path"), "binary", driver::binary)
            .unwrap_or(shim);
        self.handler.driver = Driver::Shim(ShimHandler {
            binary,
            config_file: self.config_path(),
        });
    }

    fn config_path(&mut self) -> Option<PathBuf> {
        self.take(self.option("ConfigPath"), "config", driver::absolute)
    }

    /// `runtime_path` names a shim. The usual one does nothing that Cofferdam does not do itself; any
    /// other was named on purpose and is what must run.
    fn runtime_path(&mut self, usual: &[&str]) {
        let Some((node, path)) = self.own("runtime_path") else {
            return;
        };
        match driver::binary(path) {
            Ok(binary) if usual.contains(&binary.file_name().as_str()) => {
                self.report.info(
                    &node.key,
                    "runtime_path names containerd's shim, whose place Cofferdam takes itself",
                );
            }
            Ok(binary) => {
                self.origin("binary", node.origin());
                self.handler.driver = Driver::Shim(ShimHandler {
                    binary,
                    config_file: None,
                });
            }
            Err(reason) => self.handler.refuse(format!("{reason} ({})", node.key)),
        }
    }

    /// containerd refuses these two beside any other type (`ValidatePluginConfig`, 1.6), and so the
    /// binary that was asked for would not run.
    fn refuse_old_keys(&mut self) {
        for key in ["runtime_engine", "runtime_root"] {
            if let Some((node, _)) = self.own(key) {
                self.handler.refuse(format!("{key} ({}) goes only with runtime_type \"io.containerd.runtime.v1.linux\"; use BinaryName or Root under options", node.key));
            }
        }
    }

    fn common(&mut self) {
        for reason in effects(self.table, RUNTIME, self.report) {
            self.handler.refuse(reason);
        }
        if let Some(node) = self.table.get("privileged_without_host_devices") {
            self.origin("privileged_without_host_devices", node.origin());
            self.handler.privileged_without_host_devices =
                is_true(self.table, "privileged_without_host_devices");
        }
        for key in ["sandboxer", "sandbox_mode"] {
            // A shim that is the sandbox itself is another enclosure than the one we would make.
            if let Some((node, value)) = self.own(key).filter(|(_, value)| {
                *value != "podsandbox" && matches!(self.handler.driver, Driver::Oci(_))
            }) {
                self.handler.refuse(format!(
                    "{key} = {value:?} ({}) needs a sandbox made by a shim, which is not built yet",
                    node.key
                ));
            }
        }
        if let Some((node, value)) = self
            .own("cni_conf_dir")
            .filter(|(_, value)| value.trim_end_matches('/') != CNI_DIR)
        {
            self.handler.refuse(format!("cni_conf_dir = {value:?} ({}) asks for a network of its own, which cannot be honoured yet", node.key));
        }
        if let Some((node, _)) = self.own("io_type").filter(|(_, value)| *value != "fifo") {
            self.report.warn(
                &node.key,
                format!("io_type = {} is read but has no effect yet", node.raw),
            );
        }
    }
}
