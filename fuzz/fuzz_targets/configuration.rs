//! Any text as a configuration of each family, as an import and as runsc's own file: a table or
//! errors of one printable line, and an end to what is wanted. A table that was read without an error
//! can be written down, and what was written gives the same handlers.
#![no_main]

use cofferdam_fuzz::one_line;
use cofferdam_handlers::{Beyond, Files, Loaded, Roots, Text, Wanted, load, render};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

/// No file asks for more rounds than imports may be deep.
const MOST_ROUNDS: usize = 64;

/// Every file that is wanted has the text `other`, but for `main`; folders hold one file.
fn settled(main: &Path, text: &str, other: &str) -> Loaded {
    let mut files = Files::default();
    for _ in 0..MOST_ROUNDS {
        let loaded = load(&files, &Roots::default());
        if loaded.wanted.is_empty() {
            return loaded;
        }
        for wanted in &loaded.wanted {
            match wanted {
                Wanted::File(path) if path == main => files.texts.insert(path.clone(), Text::Found(text.to_owned())).map(drop),
                Wanted::File(path) if usual(path) => files.texts.insert(path.clone(), Text::Absent).map(drop),
                Wanted::File(path) => files.texts.insert(path.clone(), Text::Found(other.to_owned())).map(drop),
                Wanted::Folder(path) => {
                    let names = if usual(path) { vec![] } else { vec!["a.toml".to_owned()] };
                    files.folders.insert(path.clone(), names.into_iter().collect()).map(drop)
                }
            };
        }
    }
    panic!("still wanted after {MOST_ROUNDS} rounds");
}

fn usual(path: &Path) -> bool {
    let roots = Roots::default();
    let others = [roots.containerd, roots.crio, roots.crio_drop_ins].into_iter().flatten();
    others.chain([roots.own, roots.own_drop_ins]).any(|known| known == path)
}

fn check(loaded: &Loaded) {
    let told = loaded.errors.iter().map(ToString::to_string).chain(loaded.table.warnings.iter().map(ToString::to_string));
    for line in told {
        assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?}");
    }
}

fuzz_target!(|text: &str| {
    // A line of its own parts the file from what its imports hold.
    let (text, other) = text.split_once("\n####\n").unwrap_or((text, text));
    let roots = Roots::default();
    let mains: [Option<PathBuf>; 3] = [roots.containerd, roots.crio, Some(roots.own.clone())];
    for main in mains.into_iter().flatten() {
        // What an install takes over beside handlers.
        let mut beyond = Beyond::default();
        match beyond.read(&main, text) {
            Ok(()) => beyond.lost.iter().for_each(one_line),
            Err(error) => one_line(error),
        }
        assert!(beyond.registry_hosts.iter().chain(&beyond.cni_conf).chain(&beyond.cni_plugins).all(|path| path.is_absolute()));
        let loaded = settled(&main, text, other);
        check(&loaded);
        if loaded.errors.is_empty() {
            let written = render(&loaded.table);
            let again = settled(&roots.own, &written, "");
            assert!(again.errors.is_empty(), "{:?}\n{written}", again.errors);
            let names = |l: &Loaded| l.table.handlers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&again), names(&loaded), "{written}");
        }
    }
});
