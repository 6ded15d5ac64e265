//! Reading configuration files: what the handlers' loader wants, until it wants no more.

use crate::args::{CONFIG, Global};
use crate::settings::places;
use cofferdam_handlers::{Files, Loaded, MAX_TEXT, Roots, Text, Wanted, load};
use cofferdam_host::files;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Where configuration is looked for.
pub(crate) fn roots(global: &Global) -> Roots {
    let own = places::absolute(&global.config);
    let own_drop_ins = own.parent().unwrap_or(Path::new("/")).join("conf.d");
    Roots {
        own,
        own_drop_ins,
        ..Roots::default()
    }
}

/// Supplies what is wanted until nothing is; ends, as imports are bounded.
pub(crate) fn read_all(roots: &Roots) -> Loaded {
    read_with(roots, None)
}

/// As [`read_all`], with one more drop-in, after all others, that is in no file.
pub(crate) fn read_with(roots: &Roots, drop_in: Option<&str>) -> Loaded {
    const NAME: &str = "zzzz-built-in.toml";
    let mut found = Files::default();
    loop {
        if let (Some(text), Some(names)) = (drop_in, found.folders.get_mut(&roots.own_drop_ins)) {
            names.insert(NAME.into());
            found.texts.insert(roots.own_drop_ins.join(NAME), Text::Found(text.to_owned()));
        }
        let loaded = load(&found, roots);
        if loaded.wanted.is_empty() {
            return loaded;
        }
        for wanted in &loaded.wanted {
            match wanted {
                Wanted::File(path) => {
                    let text = match text(path) {
                        // The default place may be empty; one that somebody named may not.
                        Text::Absent if *path == roots.own && *path != Path::new(CONFIG) => Text::Unreadable("it is not there".into()),
                        text => text,
                    };
                    found.texts.insert(path.clone(), text);
                }
                Wanted::Folder(path) => {
                    let names = names(path).unwrap_or_else(|why| {
                        found.unlistable.insert(path.clone(), why);
                        BTreeSet::new()
                    });
                    found.folders.insert(path.clone(), names);
                }
            }
        }
    }
}

fn text(path: &Path) -> Text {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        // A link to it is how a drop-in is switched off.
        Ok(meta) if meta.file_type().is_char_device() && meta.rdev() == NULL => return Text::Found(String::new()),
        Ok(_) => return Text::Unreadable("it is no regular file".into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Text::Unreadable("it is a link to something that is not there".into()),
                Err(_) => Text::Absent,
            };
        }
        Err(e) => return Text::Unreadable(e.to_string()),
    }
    match files::read_text(path, MAX_TEXT as u64) {
        Ok(text) => Text::Found(text),
        Err(e) if e.is_absent() => Text::Absent,
        Err(e) => Text::Unreadable(e.to_string()),
    }
}

/// Device number of `/dev/null`: 1:3 (`Documentation/admin-guide/devices.txt`).
const NULL: u64 = 1 << 8 | 3;

/// The names of all in a folder but of folders; none where it is not there. What is no file is an
/// error where its text is wanted, so a link to nothing counts here.
fn names(path: &Path) -> Result<BTreeSet<String>, String> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => return Ok(BTreeSet::new()),
        entries => entries.map_err(|e| e.to_string())?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|e| e.to_string())?;
        if !entry.path().is_dir() {
            let name = entry.file_name().into_string();
            names.insert(name.map_err(|name| format!("the name {name:?} in it is not UTF-8"))?);
        }
    }
    Ok(names)
}
