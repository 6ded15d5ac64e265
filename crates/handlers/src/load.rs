//! Texts in, one table out.

use crate::crio::replaced;
use crate::driver::beside;
use crate::place::{ConfigError, Level, Origin, Place, Warning, shown};
use crate::schema::Report;
use crate::table::{Handler, HandlerTable};
use crate::tree::{self, Node, Table};
use crate::{MAX_FILES, MAX_IMPORT_DEPTH, containerd, crio, own};
use cofferdam_model::HandlerName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// What the caller found on the machine.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Files by path.
    pub texts: BTreeMap<PathBuf, Text>,
    /// Names of the files in a folder; empty when there is no such folder.
    pub folders: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Folders of [`Files::folders`] that cannot be listed, and why: what is in them is an error, as
    /// that of a file which cannot be read.
    pub unlistable: BTreeMap<PathBuf, String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Its text.
    Found(String),
    /// There is none.
    Absent,
    /// It cannot be read, or is not UTF-8; why.
    Unreadable(String),
}

/// Something that the table depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The text of a file, for [`Files::texts`].
    File(PathBuf),
    /// The names of the files in a folder, for [`Files::folders`].
    Folder(PathBuf),
}

/// Where configuration is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Our own file. With `import` in it, or in a drop-in, only what that lists is read beside it.
    pub own: PathBuf,
    /// Folder of our own drop-ins, `*.toml`, in order of name.
    pub own_drop_ins: PathBuf,
    /// containerd's file. What it imports is found in it.
    pub containerd: Option<PathBuf>,
    /// CRI-O's file.
    pub crio: Option<PathBuf>,
    /// Folder of CRI-O's drop-ins: every file, as CRI-O itself takes them, in order of name.
    pub crio_drop_ins: Option<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            own: "/etc/cofferdam/config.toml".into(),
            own_drop_ins: "/etc/cofferdam/conf.d".into(),
            containerd: Some("/etc/containerd/config.toml".into()),
            crio: Some("/etc/crio/crio.conf".into()),
            crio_drop_ins: Some("/etc/crio/crio.conf.d".into()),
        }
    }
}

/// What comes out of [`load()`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The table. A file with an error contributes nothing to it.
    pub table: HandlerTable,
    /// The errors. The caller decides: a start should refuse, as the missing file may have made a
    /// handler or the default stronger; a reload should keep the old table.
    pub errors: Vec<ConfigError>,
    /// What is still to be supplied; the table is not final before this is empty.
    pub wanted: BTreeSet<Wanted>,
    /// Everything that the table depends on, there or not: what to watch.
    pub watch: BTreeSet<Wanted>,
}

/// Reads and merges everything. Never fails as a whole, and terminates when called again and again
/// with what it wants: imports are bounded in depth and number.
pub fn load(files: &Files, roots: &Roots) -> Loaded {
    let mut sources = Sources {
        files,
        wanted: BTreeSet::new(),
        watch: BTreeSet::new(),
    };
    let mut report = Report::default();
    let own = own_tree(roots, &mut sources, &mut report);
    let places = match own.get("import") {
        Some(imports) => explicit(imports, &mut sources, &mut report),
        None => usual(roots, &mut sources, &mut report),
    };
    let cri = containerd_tree(places.containerd, &mut sources, &mut report);
    let runtime = crio_tree(places.crio, &mut sources, &mut report);
    report.begin_file();
    // Lowest priority first.
    let families = [
        containerd::family(&cri, &mut sources, &mut report),
        crio::family(&runtime, &mut report),
        own::family(&own, &mut sources, &mut report),
    ];
    let mut table = HandlerTable::built_in();
    for family in families {
        family.lay_over(&mut table, &mut report);
    }
    table.settings = own::settings(&own);
    check_choices(&table, &mut report);
    table.warnings = once(report.warnings);
    Loaded {
        table,
        errors: once(report.errors),
        wanted: sources.wanted,
        watch: sources.watch,
    }
}

/// Each item once: a file that two handlers name is read, and spoken of, for both.
fn once<T: ToString>(mut items: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(item.to_string()));
    items
}

/// The handlers of one family of files.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) default: Option<(HandlerName, Origin)>,
    pub(crate) untrusted: Option<(HandlerName, Origin)>,
    pub(crate) handlers: BTreeMap<HandlerName, Handler>,
}

impl Family {
    /// Lays this family over those before it; each handler is replaced whole.
    fn lay_over(self, table: &mut HandlerTable, report: &mut Report) {
        for (name, handler) in self.handlers {
            let (origin, first) = (handler.origin(), table.handlers.get(&name));
            if let (Some(place), Some(first)) = (
                &origin.place,
                first.filter(|first| first.origin().place.is_some() && !first.runs_like(&handler)),
            ) {
                report.warn(
                    place,
                    format!(
                        "the handler {:?} is defined at {} and again here, and this one is used",
                        name.as_str(),
                        first.origin()
                    ),
                );
            }
            table.handlers.insert(name, handler);
        }
        choose("default", &mut table.default, self.default, report);
        choose("untrusted", &mut table.untrusted, self.untrusted, report);
    }
}

fn choose(
    what: &str,
    old: &mut Option<(HandlerName, Origin)>,
    new: Option<(HandlerName, Origin)>,
    report: &mut Report,
) {
    let Some((name, origin)) = new else { return };
    if let (Some(place), Some((first, at))) = (&origin.place, old.as_ref())
        && at.place.is_some()
        && *first != name
    {
        report.warn(
            place,
            format!(
                "the {what} handler is {:?} at {at} and {:?} here, and this one is used",
                first.as_str(),
                name.as_str()
            ),
        );
    }
    *old = Some((name, origin));
}

/// A chosen handler that does not exist stays chosen: the pods that need it do not start.
fn check_choices(table: &HandlerTable, report: &mut Report) {
    for (what, choice) in [
        ("a pod without a handler", &table.default),
        ("an untrusted pod", &table.untrusted),
    ] {
        let Some((name, origin)) = choice else {
            continue;
        };
        if !table.handlers.contains_key(name) {
            let text = format!(
                "the handler {:?} is defined nowhere, so {what} does not start",
                name.as_str()
            );
            report.warnings.push(Warning {
                level: Level::Warning,
                place: origin.place.clone(),
                text,
            });
        }
    }
}

/// The files at hand, and what is missed in them.
pub(crate) struct Sources<'a> {
    files: &'a Files,
    wanted: BTreeSet<Wanted>,
    watch: BTreeSet<Wanted>,
}

/// A file that was looked for.
pub(crate) enum Found {
    /// It is there and is TOML.
    Tree(Table),
    /// There is none.
    Absent,
    /// It has not been supplied.
    NotYet,
    /// It cannot be read, or is not TOML; the report says so.
    Broken,
}

impl Sources<'_> {
    /// The tree of the file at `path`.
    pub(crate) fn tree(&mut self, path: &Path, report: &mut Report) -> Found {
        let wanted = Wanted::File(path.to_owned());
        self.watch.insert(wanted.clone());
        let Some(text) = self.files.texts.get(path) else {
            self.wanted.insert(wanted);
            return Found::NotYet;
        };
        let text = match text {
            Text::Found(text) => text,
            Text::Absent => return Found::Absent,
            Text::Unreadable(message) => {
                report.errors.push(ConfigError::Unreadable {
                    file: path.to_owned(),
                    message: message.clone(),
                });
                return Found::Broken;
            }
        };
        report.begin_file();
        match tree::parse(path, text) {
            Ok(tree) => Found::Tree(tree),
            Err(error) => {
                if !report.errors.contains(&error) {
                    report.errors.push(error);
                }
                Found::Broken
            }
        }
    }

    /// The files of `folder` whose names match `pattern`, in order of name.
    fn list(&mut self, folder: &Path, pattern: &str, report: &mut Report) -> Vec<PathBuf> {
        let wanted = Wanted::Folder(folder.to_owned());
        self.watch.insert(wanted.clone());
        let Some(names) = self.files.folders.get(folder) else {
            self.wanted.insert(wanted);
            return Vec::new();
        };
        if let Some(message) = self.files.unlistable.get(folder) {
            report.errors.push(ConfigError::Unreadable {
                file: folder.to_owned(),
                message: message.clone(),
            });
        }
        let fits =
            |name: &&String| !name.contains('/') && matches(pattern.as_bytes(), name.as_bytes());
        names
            .iter()
            .filter(fits)
            .take(MAX_FILES)
            .map(|name| folder.join(name))
            .collect()
    }

    /// The paths that an import means, with the place of the import.
    fn resolve(
        &mut self,
        by: &Place,
        import: &str,
        node: &Node,
        report: &mut Report,
    ) -> Vec<Import> {
        let path = beside(&by.file, import);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new("/"));
        let is_pattern = |text: &str| text.contains(['*', '?', '[']);
        let Some(name) = name
            .filter(|name| !is_pattern(&folder.to_string_lossy()) && !name.contains(['[', '\\']))
        else {
            report.bad_value(
                node,
                "import",
                format!("{import:?} cannot be read; use * and ? in the last part of a path only"),
            );
            return Vec::new();
        };
        match is_pattern(&name) {
            false => vec![Import {
                path,
                by: Some(by.clone()),
            }],
            true => self
                .list(folder, &name, report)
                .into_iter()
                .map(|path| Import { path, by: None })
                .collect(),
        }
    }
}

/// A file to read; `by` says who asked for it by name, so that its absence is an error.
#[derive(Debug, Clone)]
struct Import {
    path: PathBuf,
    by: Option<Place>,
}

/// Which files of others to read.
#[derive(Default)]
struct Places {
    containerd: Vec<Import>,
    crio: Vec<Import>,
}

fn usual(roots: &Roots, sources: &mut Sources<'_>, report: &mut Report) -> Places {
    let root = |path: &Option<PathBuf>| {
        path.iter()
            .map(|path| Import {
                path: path.clone(),
                by: None,
            })
            .collect::<Vec<_>>()
    };
    let mut places = Places {
        containerd: root(&roots.containerd),
        crio: root(&roots.crio),
    };
    if let Some(folder) = &roots.crio_drop_ins {
        places.crio.extend(
            sources
                .list(folder, "*", report)
                .into_iter()
                .map(|path| Import { path, by: None }),
        );
    }
    places
}

/// The files that our own `import` lists. A file is CRI-O's if it has a table `crio`.
fn explicit(imports: &Node, sources: &mut Sources<'_>, report: &mut Report) -> Places {
    let mut places = Places::default();
    for (node, import) in imports.texts().take(MAX_FILES) {
        for import in sources.resolve(&node.at, import, node, report) {
            // Errors are reported when the file is read for good.
            let is_crio = match sources.tree(&import.path, &mut Report::default()) {
                Found::Tree(tree) => tree.contains_key("crio"),
                _ => false,
            };
            if is_crio {
                places.crio.push(import)
            } else {
                places.containerd.push(import)
            }
        }
    }
    places
}

fn read(import: &Import, sources: &mut Sources<'_>, report: &mut Report) -> Option<Table> {
    match sources.tree(&import.path, report) {
        Found::Tree(tree) => Some(tree),
        Found::Absent => {
            if let Some(by) = &import.by {
                report.errors.push(ConfigError::Missing {
                    file: import.path.clone(),
                    by: by.clone(),
                });
            }
            None
        }
        Found::NotYet | Found::Broken => None,
    }
}

fn own_tree(roots: &Roots, sources: &mut Sources<'_>, report: &mut Report) -> Table {
    let mut paths = vec![roots.own.clone()];
    paths.extend(sources.list(&roots.own_drop_ins, "*.toml", report));
    let mut merged = Table::new();
    for path in paths {
        let Some(tree) = read(&Import { path, by: None }, sources, report) else {
            continue;
        };
        let Some(table) = own::check_file(tree, report) else {
            continue;
        };
        tree::merge(&mut merged, table, &mut |key, old, new| {
            report.info(
                &new.key,
                format!(
                    "{key} = {} is used in place of {} at {}",
                    new.raw, old.raw, old.key
                ),
            );
        });
    }
    merged
}

/// Merges the files in the order in which containerd loads them: a file, and after all that wait the
/// ones it imports (`LoadConfig`).
fn containerd_tree(first: Vec<Import>, sources: &mut Sources<'_>, report: &mut Report) -> Table {
    let mut pending: VecDeque<(Import, usize)> =
        first.into_iter().map(|import| (import, 0)).collect();
    let mut seen = BTreeSet::new();
    let mut merged = Table::new();
    while let Some((import, depth)) = pending.pop_front() {
        if !seen.insert(import.path.clone()) {
            continue;
        }
        let Some(tree) = read(&import, sources, report) else {
            continue;
        };
        let Some(file) = containerd::check_file(tree, report) else {
            continue;
        };
        tree::merge(&mut merged, file.cri, &mut |key, old, new| {
            replaced(report, key, old, new)
        });
        let Some(imports) = file.imports else {
            continue;
        };
        if depth >= MAX_IMPORT_DEPTH || seen.len() + pending.len() > MAX_FILES {
            report.bad_value(
                &imports,
                "imports",
                format!(
                    "of {} go too far; import at most {MAX_FILES} files, {MAX_IMPORT_DEPTH} deep",
                    shown(&import.path)
                ),
            );
            continue;
        }
        for (node, text) in imports.texts().take(MAX_FILES) {
            let found = sources.resolve(&node.at, text, node, report);
            pending.extend(found.into_iter().map(|import| (import, depth + 1)));
        }
    }
    merged
}

fn crio_tree(imports: Vec<Import>, sources: &mut Sources<'_>, report: &mut Report) -> Table {
    let mut merged = Table::new();
    for import in imports {
        let Some(tree) = read(&import, sources, report) else {
            continue;
        };
        let Some(runtime) = crio::check_file(tree, report) else {
            continue;
        };
        crio::merge(&mut merged, runtime, report);
    }
    merged
}

/// Whether `name` matches `pattern`, in which `*` is any text and `?` any byte.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || name.get(n) == Some(&c) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|&c| c == b'*')
}
