//! What a shell sees: help, exit codes of its own mistakes, completion, manual pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn cofferdam(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(args).output().unwrap()
}

#[test]
fn a_wrong_command_line_has_a_code_that_no_container_is_taken_for() {
    for args in [
        &["rnu"][..],
        &["run"],
        &["stop"],
        &["stop", "--all", "web"],
        &["logs", "web", "--tail", "x"],
        &[],
    ] {
        let output = cofferdam(args);
        assert_eq!(output.status.code(), Some(120), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
    let text = String::from_utf8(cofferdam(&["hanlders"]).stderr).unwrap();
    assert!(text.contains("a similar subcommand exists: 'handlers'"), "{text}");
}

#[test]
fn help_and_version_are_no_mistakes() {
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "image"]] {
        let output = cofferdam(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn each_shell_completes_the_commands_and_not_what_is_internal() {
    for shell in ["bash", "zsh", "fish"] {
        let output = cofferdam(&["completion", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && ["run", "stop", "detach", "handlers"].iter().all(|w| text.contains(w)),
            "{shell}"
        );
        assert!(!text.contains("supervise"), "{shell}");
    }
    let script = cofferdam(&["completion", "bash"]).stdout;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash is missing");
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(cofferdam(&["man", pages.to_str().unwrap()]).status.success());
    for page in ["cofferdam", "cofferdam-run", "cofferdam-image-load", "cofferdam-stop"] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains("Examples:"), "{page}");
    }
    assert!(!pages.join("cofferdam-supervise.1").exists());
    let nowhere = cofferdam(&["man", "/proc/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(120));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("/proc/nowhere"));
}
