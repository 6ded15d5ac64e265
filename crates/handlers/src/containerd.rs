//! containerd's `config.toml`, versions 1 to 4.

use crate::containerd_handler::handler;
use crate::containerd_keys::{CRI, TOP};
use crate::defaults;
use crate::load::{Family, Sources};
use crate::place::Origin;
use crate::schema::{Report, check, effects, join, near};
use crate::tree::{self, Node, Table, Value, text};
use cofferdam_model::HandlerName;

/// Ids of the plugin that holds the runtimes, by the version of the file.
const IDS: [(i64, &str); 3] = [
    (1, "cri"),
    (2, "io.containerd.grpc.v1.cri"),
    (3, "io.containerd.cri.v1.runtime"),
];
/// Newest version that is known. Version 4 (2.4) moves sockets and logs, not runtimes.
const NEWEST: i64 = 4;
/// What containerd calls the handler of the old `default_runtime` and `untrusted_workload_runtime`.
const DEFAULT: &str = "default";
const UNTRUSTED: &str = "untrusted";

/// One file, checked: the CRI plugin's table and what the file imports.
pub(crate) struct File {
    pub(crate) cri: Table,
    pub(crate) imports: Option<Node>,
}

/// Checks one file. `None` and an error in the report where it contributes nothing.
pub(crate) fn check_file(mut root: Table, report: &mut Report) -> Option<File> {
    report.clean(|report| {
        let plugins = root
            .get_mut("plugins")
            .map(|node| std::mem::replace(&mut node.value, Value::Table(Table::new())));
        let mut top = check(root, TOP, "", report);
        let version = top.get("version").and_then(|node| {
            let version = node.int().filter(|n| (1..=NEWEST).contains(n));
            if version.is_none() {
                report.bad_value(
                    node,
                    "version",
                    format!("= {} is not known; write 1 to {NEWEST}", node.raw),
                );
            }
            version
        });
        let cri = match plugins {
            Some(Value::Table(plugins)) => cri_table(plugins, version, report),
            _ => Table::new(),
        };
        File {
            cri,
            imports: top.remove("imports"),
        }
    })
}

/// Finds the CRI plugin's table. The file's version says under which id it is; containerd ignores the
/// other ids, and a file without a version is of version 1 to it. A file that has only another
/// version's id was plainly meant to be read, so it is read, and the difference told.
fn cri_table(mut plugins: Table, version: Option<i64>, report: &mut Report) -> Table {
    let own = IDS[usize::try_from(version.unwrap_or(1).clamp(1, 3) - 1).unwrap_or(0)];
    for (name, node) in &plugins {
        let misspelt = node
            .table()
            .is_some_and(|table| table.contains_key("containerd"))
            && !IDS.iter().any(|(_, id)| id == name);
        if let Some(meant) = near(name, IDS.iter().map(|(_, id)| *id)).filter(|_| misspelt) {
            report.warn(
                &node.key,
                format!(
                    "the plugin {name:?} is not known and is not read; did you mean {meant:?}?"
                ),
            );
        }
    }
    let mut found: Option<(i64, &str, Node)> = None;
    let order = std::iter::once(own).chain(IDS.into_iter().filter(|id| *id != own));
    for (id_version, id) in order {
        let Some(node) = plugins.remove(id) else {
            continue;
        };
        let holds_runtimes = node
            .table()
            .is_none_or(|table| table.contains_key("containerd"));
        match &found {
            // In version 3 the id of version 2 still is a plugin's (of the streaming server).
            _ if !holds_runtimes && (id_version, id) != own => {}
            Some((_, used, _)) => report.warn(
                &node.key,
                format!("plugins.{id:?} is not read beside plugins.{used:?}"),
            ),
            None => found = Some((id_version, id, node)),
        }
    }
    let Some((id_version, id, node)) = found else {
        return Table::new();
    };
    if (id_version, id) != own {
        // 1.6, 1.7 and 2.2 look for nothing else then; 2.3 tries the ids of newer versions too.
        let says = version.map_or(
            "containerd before 2.3 would ignore it, as the file has no version, which it takes for version 1".to_owned(),
            |v| format!("containerd itself would ignore it, as the file is of version {v}"),
        );
        report.warn(&node.key, format!("plugins.{id:?} is read as version {id_version}; {says}"));
    }
    let path = join("plugins", id);
    let Value::Table(mut table) = node.value else {
        report.bad_value(&node, path, "must be a table");
        return Table::new();
    };
    if id_version == 1 {
        adopt_proposal(&mut table, report);
    }
    let table = check(table, CRI, &path, report);
    if let Some((node, name)) =
        tree::table(&table, "containerd").and_then(|table| text(table, "default_runtime_name"))
    {
        name_at(node, name, "default_runtime_name", report);
    }
    table
}

/// The first proposal of RuntimeClass showed handlers right under `plugins.cri.containerd`, without
/// `runtimes`; they are moved to where containerd has them.
fn adopt_proposal(cri: &mut Table, report: &mut Report) {
    let Some(Node {
        value: Value::Table(containerd),
        ..
    }) = cri.get_mut("containerd")
    else {
        return;
    };
    let is_handler = |name: &str, node: &Node| {
        let table = node.table();
        !["default_runtime", "untrusted_workload_runtime", "runtimes"].contains(&name)
            && table.is_some_and(|table| {
                table.contains_key("runtime_type") || table.contains_key("runtime_engine")
            })
    };
    let names: Vec<String> = containerd
        .iter()
        .filter(|(name, node)| is_handler(name, node))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        let Some(node) = containerd.remove(&name) else {
            continue;
        };
        report.warn(&node.key, format!("the handler {name:?} is read, but containerd itself reads handlers only under plugins.cri.containerd.runtimes"));
        let runtimes = containerd
            .entry("runtimes".to_owned())
            .or_insert_with(|| Node {
                value: Value::Table(Table::new()),
                ..node.clone()
            });
        if let Value::Table(runtimes) = &mut runtimes.value {
            runtimes.entry(name).or_insert(node);
        }
    }
}

/// Makes the handlers of all files of the family, merged into one CRI table.
pub(crate) fn family(cri: &Table, sources: &mut Sources<'_>, report: &mut Report) -> Family {
    let mut family = Family::default();
    let reasons = effects(cri, CRI, report);
    let Some(containerd) = tree::table(cri, "containerd") else {
        return family;
    };
    let runtimes = tree::table(containerd, "runtimes")
        .into_iter()
        .flatten()
        .map(|(name, node)| (name.as_str(), node));
    let old = [
        (DEFAULT, "default_runtime"),
        (UNTRUSTED, "untrusted_workload_runtime"),
    ];
    let old: Vec<(&str, &Node)> = old
        .into_iter()
        .filter_map(|(name, key)| Some((name, containerd.get(key)?)))
        .filter(|(_, node)| !node.is_zero())
        .collect();
    // The old tables come last: containerd puts them over a runtime of the same name.
    for (name, node) in runtimes.chain(old.iter().copied()) {
        let (Ok(name), Some(table)) = (HandlerName::new(name), node.table()) else {
            continue;
        };
        let mut handler = handler(name.clone(), node, table, sources, report);
        if text(table, "snapshotter").is_some() {
            defaults::snapshotter(&mut handler, table);
        } else if text(containerd, "snapshotter").is_some_and(|(_, name)| name == "erofs") {
            // The other forms that containerd has are ways to store the same.
            defaults::snapshotter(&mut handler, containerd);
        }
        for reason in &reasons {
            handler.refuse(reason);
        }
        defaults::apply(&mut handler, cri);
        if let Some(first) = family.handlers.insert(name.clone(), handler) {
            report.warn(
                &node.key,
                format!(
                    "the handler {:?} is defined at {} and again here, and this one is used",
                    name.as_str(),
                    first.origin()
                ),
            );
        }
    }
    if let Some((node, name)) = text(containerd, "default_runtime_name") {
        family.default = name_at(node, name, "default_runtime_name", report);
    }
    if let Some((_, node)) = old.iter().find(|(name, _)| *name == DEFAULT) {
        family.default = HandlerName::new(DEFAULT)
            .ok()
            .map(|name| (name, node.origin()));
        report.warn(&node.key, "default_runtime is deprecated; write the runtime under runtimes and its name as default_runtime_name");
    }
    if let Ok(name) = HandlerName::new(UNTRUSTED) {
        family.untrusted = family
            .handlers
            .get(&name)
            .map(|handler| (name, handler.origin()));
    }
    family
}

/// A handler's name given as the value of `key`.
pub(crate) fn name_at(
    node: &Node,
    name: &str,
    key: &str,
    report: &mut Report,
) -> Option<(HandlerName, Origin)> {
    match HandlerName::new(name) {
        Ok(name) => Some((name, node.origin())),
        Err(error) => {
            report.bad_value(node, key, format!("does not name a handler: {error}"));
            None
        }
    }
}
