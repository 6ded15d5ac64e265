//! gVisor's `runsc.toml`, the file that `ConfigPath` names (gvisor, `pkg/shim/v1/runsc/options.go`;
//! `runsc_config` becomes `--KEY=VALUE`, `pkg/shim/v1/runsccmd/runsc.go`).

use crate::driver;
use crate::load::{Found, Sources};
use crate::place::Origin;
use crate::schema::Effect::{Info, NotYet, Used};
use crate::schema::Kind::{Bool, Count, Flags, Text};
use crate::schema::{Key, Report, check, effects, key};
use crate::table::{Driver, Flavor, Handler, OciHandler};
use crate::tree::{Node, Value, text};
use std::path::PathBuf;

const KEYS: &[Key] = &[
    key("binary_name", Text, Used),
    key("root", Text, Used),
    key("runsc_config", Flags, Used),
    key(
        "log_path",
        Text,
        Info("is of gVisor's shim, whose place Cofferdam takes itself"),
    ),
    key(
        "log_level",
        Text,
        Info("is of gVisor's shim, whose place Cofferdam takes itself"),
    ),
    key("shim_cgroup", Text, NotYet),
    key("io_uid", Count, NotYet),
    key("io_gid", Count, NotYet),
    key("grouping", Bool, NotYet),
    key("enable_hibernate_server", Bool, NotYet),
    key("restore_background", Bool, NotYet),
];

/// Flags that are the driver's own, and what to do instead of setting them.
pub(crate) const RESERVED: &[(&str, &str)] = &[
    (
        "systemd-cgroup",
        "is honoured in our own way: the cgroups are Cofferdam's own and never go through systemd",
    ),
    ("log", "is set for each container by Cofferdam"),
    ("log-fd", "is set for each container by Cofferdam"),
    ("log-format", "is set for each container by Cofferdam"),
    ("panic-log", "is set for each container by Cofferdam"),
    ("panic-log-fd", "is set for each container by Cofferdam"),
    ("debug-log-fd", "is set for each container by Cofferdam"),
];

/// Reads the file at `path` into `handler`. What cannot be read makes it unusable: a runsc without
/// the flags that were asked for is another enclosure.
pub(crate) fn apply(
    handler: &mut Handler,
    path: PathBuf,
    sources: &mut Sources<'_>,
    report: &mut Report,
) {
    let shown = crate::place::shown(&path);
    match &mut handler.driver {
        Driver::Oci(oci) if oci.flavor == Flavor::Runsc => oci.config_file = Some(path.clone()),
        _ => {
            return handler.refuse(format!(
                "the configuration {shown:?} is runsc's, and this handler runs something else"
            ));
        }
    }
    let tree = match sources.tree(&path, report) {
        Found::Tree(tree) => tree,
        Found::Absent => {
            return handler.refuse(format!("its configuration {shown:?} is not there"));
        }
        Found::NotYet => {
            return handler.refuse(format!("its configuration {shown:?} has not been read yet"));
        }
        Found::Broken => {
            return handler.refuse(format!("its configuration {shown:?} cannot be read"));
        }
    };
    let Some(tree) = report.clean(|report| check(tree, KEYS, "", report)) else {
        return handler.refuse(format!("its configuration {shown:?} has an error"));
    };
    for reason in effects(&tree, KEYS, report) {
        handler.refuse(reason);
    }
    for result in [
        take_binary(handler, text(&tree, "binary_name")),
        take_root(handler, text(&tree, "root")),
    ] {
        if let Err(reason) = result {
            handler.refuse(reason);
        }
    }
    for (name, node) in tree
        .get("runsc_config")
        .and_then(Node::table)
        .into_iter()
        .flatten()
    {
        if let Err(reason) = take_flag(handler, name, node, report) {
            handler.refuse(format!("{reason} ({})", node.key));
        }
    }
}

fn oci(handler: &mut Handler) -> Result<&mut OciHandler, String> {
    match &mut handler.driver {
        Driver::Oci(oci) => Ok(oci),
        _ => Err("this configuration is runsc's".to_owned()),
    }
}

fn take_binary(handler: &mut Handler, found: Option<(&Node, &str)>) -> Result<(), String> {
    let Some((node, name)) = found else {
        return Ok(());
    };
    let (driver, _) = driver::oci(driver::binary(name)?, None, Flavor::Runsc);
    let Driver::Oci(OciHandler {
        flavor: Flavor::Runsc,
        binary,
        ..
    }) = driver
    else {
        return Err(format!(
            "binary_name = {} ({}) is not gVisor's runsc",
            node.raw, node.key
        ));
    };
    let first = handler.origins.insert("binary".to_owned(), node.origin());
    let oci = oci(handler)?;
    // A binary named in two places is one binary, or nothing is run.
    if let Some(first) = first.filter(|_| oci.binary != binary) {
        return Err(format!(
            "it names two binaries, {} ({first}) and {} ({})",
            first.value, node.raw, node.key
        ));
    }
    oci.binary = binary;
    Ok(())
}

fn take_root(handler: &mut Handler, root: Option<(&Node, &str)>) -> Result<(), String> {
    let Some((node, path)) = root else {
        return Ok(());
    };
    oci(handler)?.root =
        Some(driver::absolute(path).map_err(|reason| format!("root {reason} ({})", node.key))?);
    handler.origins.insert("root".to_owned(), node.origin());
    Ok(())
}

fn take_flag(
    handler: &mut Handler,
    name: &str,
    node: &Node,
    report: &mut Report,
) -> Result<(), String> {
    if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        report.info(&node.key, format!("{name} = {} {instead}", node.raw));
        return Ok(());
    }
    let value = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        _ => return Err(format!("the flag {name:?} has no value that can be given")),
    };
    check_flag(name, &value)?;
    if name == "root" {
        return take_root(handler, Some((node, &value)));
    }
    oci(handler)?.flags.insert(name.to_owned(), Some(value));
    handler.origins.insert(
        format!("args.{name}"),
        Origin {
            place: Some(node.key.clone()),
            value: node.raw.clone(),
        },
    );
    Ok(())
}

/// Whether a flag can stand on a command line as itself.
pub(crate) fn check_flag(name: &str, value: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 128 || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(format!(
            "{name:?} is not the name of a flag; write it without dashes in front"
        ));
    }
    if value.len() > 4096 || value.chars().any(char::is_control) {
        return Err(format!(
            "the value of the flag {name:?} cannot be given on a command line"
        ));
    }
    Ok(())
}
