//! CRI-O's `crio.conf` and `crio.conf.d`.

use crate::containerd::name_at;
use crate::crio_keys::{HANDLER, RUNTIME, TOP};
use crate::{defaults, driver};
use crate::load::Family;
use crate::place::Origin;
use crate::schema::{Report, check, effects};
use crate::table::{Binary, Driver, Flavor, Handler, ShimHandler, VmHandler};
use crate::tree::{self, Node, Table, Value, is_true, text};
use cofferdam_model::HandlerName;
use std::path::PathBuf;

/// The handlers of the old `runtime` and `runtime_untrusted_workload`.
const DEFAULT: &str = "default";
const UNTRUSTED: &str = "untrusted";

/// Checks one file and returns its `[crio.runtime]`. `None` and an error in the report where it
/// contributes nothing.
pub(crate) fn check_file(root: Table, report: &mut Report) -> Option<Table> {
    report.clean(|report| {
        let mut top = check(root, TOP, "", report);
        let Some(Value::Table(mut crio)) = top.remove("crio").map(|node| node.value) else {
            return Table::new();
        };
        let Some(Value::Table(runtime)) = crio.remove("runtime").map(|node| node.value) else {
            return Table::new();
        };
        if let Some((node, name)) = text(&runtime, "default_runtime") {
            name_at(node, name, "default_runtime", report);
        }
        runtime
    })
}

/// Merges a later file: key by key, but a handler is replaced whole, as CRI-O's decoder does it
/// (a map's element is decoded into a new value).
pub(crate) fn merge(into: &mut Table, mut later: Table, report: &mut Report) {
    if let (Some(Value::Table(old)), Some(Value::Table(new))) = (
        into.get_mut("runtimes").map(|node| &mut node.value),
        later.get_mut("runtimes").map(|node| &mut node.value),
    ) {
        for (name, node) in new.iter() {
            if let Some(first) = old.remove(name) {
                report.warn(&node.key, format!("the handler {name:?} is defined at {} and again here, and this one is used", first.key));
            }
        }
    }
    tree::merge(into, later, &mut |key, old, new| {
        replaced(report, key, old, new)
    });
}

/// Tells that a later file's value is used.
pub(crate) fn replaced(report: &mut Report, key: &str, old: &Node, new: &Node) {
    report.warn(
        &new.key,
        format!(
            "{key} = {} is used in place of {} at {}",
            new.raw, old.raw, old.key
        ),
    );
}

/// Makes the handlers of all files of the family, merged into one `[crio.runtime]`.
pub(crate) fn family(runtime: &Table, report: &mut Report) -> Family {
    let mut family = Family::default();
    let reasons = effects(runtime, RUNTIME, report);
    let empty = Table::new();
    let runtimes = tree::table(runtime, "runtimes").unwrap_or(&empty);
    let default = text(runtime, "default_runtime");
    for (name, node) in runtimes {
        let (Ok(name), Some(table)) = (HandlerName::new(name.clone()), node.table()) else {
            continue;
        };
        let from = if is_true(table, "inherit_default_runtime") {
            default.map(|(_, name)| name).or(Some(""))
        } else {
            None
        };
        let mut handler = handler(name.clone(), node, table, from, runtimes, report);
        defaults::apply(&mut handler, runtime);
        defaults::apply(&mut handler, table);
        for reason in &reasons {
            handler.refuse(reason);
        }
        family.handlers.insert(name, handler);
    }
    family.default =
        default.and_then(|(node, name)| name_at(node, name, "default_runtime", report));
    for (key, name) in [
        ("runtime", DEFAULT),
        ("runtime_untrusted_workload", UNTRUSTED),
    ] {
        let (Some(found), Ok(name)) = (text(runtime, key), HandlerName::new(name)) else {
            continue;
        };
        report.warn(
            &found.0.key,
            format!("{key} is of old versions; write [crio.runtime.runtimes.{name}]"),
        );
        let mut handler = old_handler(name.clone(), found, &reasons, report);
        defaults::apply(&mut handler, runtime);
        family.handlers.entry(name).or_insert(handler);
    }
    choose_old(runtime, &mut family);
    family
}

/// What the old keys say of the default and the untrusted handler.
fn choose_old(runtime: &Table, family: &mut Family) {
    let old = |key: &str, name: &str| {
        Some((HandlerName::new(name).ok()?, text(runtime, key)?.0.origin()))
    };
    family.untrusted = HandlerName::new(UNTRUSTED).ok().and_then(|name| {
        let origin = family.handlers.get(&name)?.origin();
        Some((name, origin))
    });
    if family.default.is_none() {
        family.default = old("runtime", DEFAULT);
    }
    // Every pod was untrusted that said nothing else.
    if text(runtime, "default_workload_trust").is_some_and(|(_, trust)| trust == UNTRUSTED) {
        family.default = old("default_workload_trust", UNTRUSTED);
    }
}

/// The handler of a key that holds nothing but the path of a program.
fn old_handler(
    name: HandlerName,
    found: (&Node, &str),
    reasons: &[String],
    report: &mut Report,
) -> Handler {
    let mut draft = Draft {
        handler: blank(name, found.0),
        report,
    };
    draft.take(found, "binary", driver::binary, |draft, binary| {
        draft.oci(found.0, binary, None)
    });
    for reason in reasons {
        draft.handler.refuse(reason);
    }
    driver::refuse_unbuilt(&mut draft.handler);
    draft.handler
}

fn blank(name: HandlerName, node: &Node) -> Handler {
    let origin = Origin {
        place: Some(node.key.clone()),
        value: name.to_string(),
    };
    Handler::new(name, Driver::Unknown, origin)
}

/// `inherit` is the name of the runtime whose path, type, configuration and root are taken instead,
/// as CRI-O's `ValidateRuntimes` does it.
fn handler(
    name: HandlerName,
    node: &Node,
    table: &Table,
    inherit: Option<&str>,
    runtimes: &Table,
    report: &mut Report,
) -> Handler {
    let mut draft = Draft {
        handler: blank(name.clone(), node),
        report,
    };
    let searched = inherit.unwrap_or(name.as_str()).to_owned();
    let source = match inherit {
        None => Some(table),
        Some(default) => tree::table(runtimes, default),
    };
    match source {
        Some(source) => draft.program(node, source, &searched),
        None => draft.handler.refuse(format!(
            "inherit_default_runtime ({}) needs a default_runtime that is defined in CRI-O's files",
            node.key
        )),
    }
    for reason in effects(table, HANDLER, draft.report) {
        draft.handler.refuse(reason);
    }
    if let Some(node) = table.get("privileged_without_host_devices") {
        draft
            .handler
            .origins
            .insert("privileged_without_host_devices".to_owned(), node.origin());
        draft.handler.privileged_without_host_devices =
            is_true(table, "privileged_without_host_devices");
    }
    driver::refuse_unbuilt(&mut draft.handler);
    draft.handler
}

struct Draft<'a> {
    handler: Handler,
    report: &'a mut Report,
}

impl Draft<'_> {
    fn take<T>(
        &mut self,
        (node, text): (&Node, &str),
        key: &str,
        read: fn(&str) -> Result<T, String>,
        set: impl FnOnce(&mut Self, T),
    ) {
        self.handler.origins.insert(key.to_owned(), node.origin());
        match read(text) {
            Ok(value) => set(self, value),
            Err(reason) => self.handler.refuse(format!("{reason} ({})", node.key)),
        }
    }

    /// Type, binary, root and configuration.
    fn program(&mut self, node: &Node, table: &Table, name: &str) {
        let (mut root, mut config_file): (Option<PathBuf>, Option<PathBuf>) = (None, None);
        if let Some(found) = text(table, "runtime_root") {
            self.take(found, "root", driver::absolute, |_, path| root = Some(path));
        }
        if let Some(found) = text(table, "runtime_config_path") {
            self.take(found, "config", driver::absolute, |_, path| {
                config_file = Some(path)
            });
        }
        let kind = text(table, "runtime_type");
        self.handler.origins.insert(
            "type".to_owned(),
            kind.map_or(Origin::built_in("oci"), |(node, _)| node.origin()),
        );
        let mut binary = None;
        match text(table, "runtime_path") {
            Some((node, path)) => self.take((node, path), "binary", driver::binary, |draft, found| match found {
                Binary::Path(_) => binary = Some(found),
                Binary::Search(_) => draft.handler.refuse(format!("runtime_path = {path:?} ({}) must be an absolute path; leave it out to search $PATH", node.key)),
            }),
            // CRI-O looks for the handler's own name in $PATH.
            None => binary = driver::binary(name).map_err(|reason| self.handler.refuse(format!("{reason} ({})", node.key))).ok(),
        }
        match kind.map(|(_, kind)| kind).unwrap_or("oci") {
            "vm" => self.vm(binary, root, config_file),
            kind @ ("oci" | "pod") => {
                if let Some((node, _)) = text(table, "runtime_type").filter(|_| kind == "pod") {
                    self.report.info(&node.key, "runtime_type = \"pod\" means conmon-rs, whose place Cofferdam's own monitor takes");
                }
                if let Some((node, _)) = text(table, "runtime_config_path") {
                    self.handler.refuse(format!(
                        "runtime_config_path ({}) goes only with runtime_type \"vm\"",
                        node.key
                    ));
                }
                if let Some(binary) = binary {
                    self.oci(table.get("runtime_path").unwrap_or(node), binary, root);
                }
            }
            other => self.handler.refuse(format!(
                "runtime_type = {other:?} ({}) is none of \"oci\", \"vm\" and \"pod\"",
                kind.map_or(&node.key, |(node, _)| &node.key)
            )),
        }
    }

    /// CRI-O's type vm is a containerd shim: Kata's, or another (gVisor's), which is no machine.
    fn vm(&mut self, binary: Option<Binary>, root: Option<PathBuf>, config_file: Option<PathBuf>) {
        let driver = binary
            .clone()
            .map(|binary| driver::oci(binary, None, Flavor::Runc).0);
        self.handler.driver = match driver {
            Some(Driver::Shim(shim)) => Driver::Shim(ShimHandler {
                config_file,
                ..shim
            }),
            _ => Driver::Vm(VmHandler {
                binary,
                root,
                config_file,
            }),
        };
    }

    fn oci(&mut self, node: &Node, binary: Binary, root: Option<PathBuf>) {
        let (driver, warning) = driver::oci(binary, root, Flavor::Runc);
        if let Some(warning) = warning {
            self.report.warn(&node.key, warning);
        }
        self.handler.driver = driver;
    }
}
