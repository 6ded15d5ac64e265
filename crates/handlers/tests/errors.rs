//! Wrong types, broken texts, and texts that are meant to break.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
use cofferdam_handlers::{ConfigError, Files, MAX_TEXT, Roots, Text, Wanted, diff, load, render};
use common::*;
use proptest::prelude::*;

#[test]
fn wrong_types_have_file_line_column_and_what_was_expected() {
    const V2: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.h]\n";
    const KEY: &str = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.h";
    for (file, text, error) in [
        (CONTAINERD, format!("{V2}runtime_type = 2"), format!("3:16: {KEY}.runtime_type must be a string, and this is an integer")),
        (CONTAINERD, format!("{V2}privileged_without_host_devices = 'true'"), format!("3:35: {KEY}.privileged_without_host_devices must be a boolean, and this is a string")),
        (CONTAINERD, format!("{V2}options = {{ IoUid = -1 }}"), format!("3:21: {KEY}.options.IoUid must be an integer from 0 to 4294967295, and this is an integer")),
        (CONTAINERD, format!("{V2}pod_annotations = ['a', 1]"), format!("3:25: {KEY}.pod_annotations must be an array of strings, and this is an integer")),
        (CONTAINERD, format!("{V2}options = 1.5"), format!("3:11: {KEY}.options must be a table, and this is a float")),
        (CONTAINERD, "version = '2'".to_owned(), "1:11: version must be an integer, and this is a string".to_owned()),
        (CONTAINERD, "version = 9".to_owned(), "1:11: version = 9 is not known; write 1 to 4".to_owned()),
        (CONTAINERD, "[plugins]\ncri = 1".to_owned(), "2:7: plugins.cri must be a table".to_owned()),
        (CRIO, "crio = []".to_owned(), "1:8: crio must be a table, and this is an array".to_owned()),
        (CRIO, "[crio.runtime.runtimes]\nx = 'y'".to_owned(), "2:5: crio.runtime.runtimes.x must be a table, and this is a string".to_owned()),
        (CRIO, "[crio.runtime.runtimes.x]\ndefault_annotations = { a = 1 }".to_owned(), "2:29: crio.runtime.runtimes.x.default_annotations.a must be a string, and this is an integer".to_owned()),
        (OWN, "[[handlers]]".to_owned(), "1:1: handlers must be a table of tables, and this is an array".to_owned()),
        (OWN, "[handlers.h]\nargs = '--x'".to_owned(), "2:8: handlers.h.args must be an array of strings, and this is a string".to_owned()),
    ] {
        let loaded = machine(&[(file, &text)]);
        assert_eq!(errors(&loaded), [format!("{file}:{error}")]);
        assert_eq!(loaded.table.handlers.len(), 4, "the file contributes nothing: {text}");
    }
}

#[test]
fn broken_toml_has_its_place_and_takes_down_nobody_else() {
    let good = "[crio.runtime.runtimes.good]\nruntime_path = '/usr/bin/crun'";
    let loaded = machine(&[
        (CRIO, good),
        (
            "/etc/crio/crio.conf.d/1",
            "[crio.runtime]\ndefault_runtime = = 'x'",
        ),
        (CONTAINERD, "a = 1\na = 2"),
    ]);
    let errors = errors(&loaded);
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].starts_with(&format!("{CONTAINERD}:2:1: this is not valid TOML: ")),
        "{errors:?}"
    );
    assert!(
        errors[1].starts_with("/etc/crio/crio.conf.d/1:2:19: this is not valid TOML: "),
        "{errors:?}"
    );
    assert!(errors.iter().all(|error| !error.contains('\n')));
    assert_eq!(handler(&loaded, "good").unusable, None);
    assert_eq!(loaded.errors[0].file(), path(CONTAINERD));
}

#[test]
fn unreadable_and_too_large_files() {
    let mut files = Files::default();
    files.texts.insert(
        CRIO.into(),
        Text::Unreadable("permission denied".to_owned()),
    );
    files
        .texts
        .insert(CONTAINERD.into(), Text::Found(" ".repeat(MAX_TEXT + 1)));
    let loaded = load(&files, &Roots::default());
    assert_eq!(
        errors(&loaded),
        [
            format!(
                "{CONTAINERD}: the file has 1048577 bytes and 1048576 are the most that are read; make it smaller"
            ),
            format!("{CRIO}: it cannot be read: permission denied")
        ]
    );
    assert!(matches!(loaded.errors[0], ConfigError::TooLarge { .. }));
}

/// What is in such a folder may have made a handler stronger.
#[test]
fn folders_that_cannot_be_listed_are_errors() {
    for folder in ["/etc/cofferdam/conf.d", "/etc/crio/crio.conf.d"] {
        let mut files = Files::default();
        files.unlistable.insert(path(folder), "permission denied".to_owned());
        let loaded = loop {
            let loaded = load(&files, &Roots::default());
            if loaded.wanted.is_empty() {
                break loaded;
            }
            for wanted in loaded.wanted {
                match wanted {
                    Wanted::File(path) => drop(files.texts.insert(path, Text::Absent)),
                    Wanted::Folder(path) => drop(files.folders.insert(path, Default::default())),
                }
            }
        };
        assert_eq!(errors(&loaded), [format!("{folder}: it cannot be read: permission denied")]);
    }
}

#[test]
fn warnings_are_bounded_and_stay_on_their_line() {
    let many: String = (0..50_000).map(|n| format!("k{n} = 1\n")).collect();
    let loaded = machine(&[(OWN, &many)]);
    assert_eq!(warnings(&loaded).len(), 100);
    let loaded = machine(&[(
        OWN,
        "\"a\\nb\" = 1\n[handlers.h]\nunusable = \"x\\n[handlers.evil]\"",
    )]);
    assert!(
        warnings(&loaded)
            .iter()
            .all(|warning| !warning.contains('\n'))
    );
    assert!(!render(&loaded.table).contains("\n[handlers.evil]"));
}

/// Brackets and dotted keys multiply; without a bound on both, 13 kB overflow a stack.
#[test]
fn no_text_overflows_a_small_stack() {
    for parts in [12, 79] {
        let text = format!(
            "x = {}1{}",
            format!("{{ {} = ", vec!["a"; parts].join(".")).repeat(79),
            " }".repeat(79)
        );
        let loaded = std::thread::Builder::new()
            .stack_size(512 << 10)
            .spawn(move || machine(&[(OWN, &text)]))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(
            errors(&loaded),
            [format!(
                "{OWN}: keys or tables are nested too deep to be read; make them flatter"
            )],
            "{parts}"
        );
    }
}

/// Texts made of the files' own words: as they come, or as lines that are mostly valid.
fn text() -> impl Strategy<Value = String> {
    let marks = [
        "[", "]", "{", "}", ".", "=", ",", "\n", " ", "1", "true", "\"", "'", "'''", "#", "é",
        "\\", "-1.5", "h", "runtime", "'*'",
    ];
    let tables = [
        "handlers.h",
        "handlers.x",
        "crio.runtime",
        "crio.runtime.runtimes.h",
        "crio.runtime.runtimes.x",
        "plugins.cri.containerd",
        "plugins.cri.containerd.runtimes.h",
        "plugins.cri.containerd.runtimes.h.options",
        "plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.h",
        "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x",
        "plugins.cri.containerd.untrusted_workload_runtime",
        "runsc_config",
        "paths",
    ];
    let keys = [
        "runtime_type",
        "runtime_path",
        "runtime_engine",
        "runtime_root",
        "base_runtime_spec",
        "inherit_default_runtime",
        "default_runtime",
        "default_runtime_name",
        "default_handler",
        "type",
        "binary",
        "root",
        "config",
        "args",
        "unusable",
        "BinaryName",
        "ConfigPath",
        "binary_name",
        "directfs",
        "sandboxer",
        "privileged_without_host_devices",
        "import",
        "imports",
        "version",
        "options",
        "default_capabilities",
        "pids_limit",
        "seccomp_profile",
        "unset_seccomp_profile",
        "apparmor_profile",
        "disable_apparmor",
        "default_sysctls",
        "default_ulimits",
        "enable_unprivileged_ports",
        "snapshotter",
    ];
    let values = [
        "'h'",
        "'x'",
        "'/etc/runsc.toml'",
        "'/usr/bin/runsc'",
        "'crun'",
        "'/usr/bin/kata-runtime'",
        "true",
        "false",
        "1",
        "2",
        "3",
        "'io.containerd.runc.v2'",
        "'io.containerd.runsc.v1'",
        "'io.containerd.kata.v2'",
        "'io.containerd.x.v1'",
        "'vm'",
        "'shim'",
        "['--debug']",
        "['/etc/crio/crio.conf']",
        "\"a\\nb\"",
        "{ BinaryName = 'runsc', ConfigPath = '/etc/runsc.toml' }",
        "''",
        "-1",
        "[]",
        "['KILL']",
        "['nofile=1:2', 'core=-1']",
        "['net.x=1=2', 'y']",
        "'runtime/default'",
        "'localhost//a b'",
        "'erofs'",
    ];
    let pick = |words: &[&'static str]| proptest::sample::select(words.to_vec());
    let line = prop_oneof![
        1 => pick(&tables).prop_map(|table| format!("[{table}]\n")),
        2 => (pick(&keys), pick(&values)).prop_map(|(key, value)| format!("{key} = {value}\n")),
    ];
    prop_oneof![
        4 => proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat()),
        1 => proptest::collection::vec(pick(&marks), 0..60).prop_map(|words| words.concat()),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn no_text_panics_and_what_is_rendered_is_read_again(own in text(), containerd in text(), crio in text(), runsc in text()) {
        let texts = [(OWN, own.as_str()), (CONTAINERD, &containerd), (CRIO, &crio), ("/etc/crio/crio.conf.d/x", &runsc), ("/etc/runsc.toml", &runsc)];
        let loaded = machine(&texts);
        let rendered = render(&loaded.table);
        let again = machine(&[(OWN, rendered.as_str()), ("/etc/runsc.toml", &runsc)]);
        prop_assert!(errors(&again).iter().all(|error| error.starts_with("/etc/runsc.toml")), "{:?}\n{}", again.errors, rendered);
        prop_assert!(diff(&loaded.table, &again.table).is_empty(), "{:?}\n{}", diff(&loaded.table, &again.table), rendered);
    }
}
