//! `cofferdam install --now` and `uninstall --now` on a machine whose files and systemctl are the test's own: in a
//! mount namespace, so that nothing of the real machine changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// What `script` prints and leaves: code, standard output, standard error, and what systemctl was asked.
#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
    calls: Vec<String>,
}

/// Makes a bare machine around `$@`: `/etc` without runtimes, empty `/run` and `/var/lib`.
const MACHINE: &str = r#"
set -e
mount -t tmpfs tmpfs "$T/etc" && mkdir "$T/etc/up" "$T/etc/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$T/etc/up,workdir=$T/etc/work" /etc
rm -rf /etc/cofferdam /etc/crictl.yaml /etc/containerd /etc/crio /etc/systemd/system
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/kubelet && echo 'kind: KubeletConfiguration' >/var/lib/kubelet/config.yaml
set +e
eval "$SCRIPT"
"#;

/// A systemctl that notes what it is asked, and fails where it is told to, or where the unit is not written yet.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>"$T/calls"
case "$*" in
  "$FAILS") echo "Job for cofferdam.service failed because the control process exited." >&2; exit 1;;
  "restart cofferdam") [ -e /etc/systemd/system/cofferdam.service ] || exit 9;;
esac
"#;

/// Runs a script on such a machine; `C` is the binary.
fn on_machine(script: &str, fails: &str) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("etc")).unwrap();
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/systemctl"), SYSTEMCTL).unwrap();
    fs::set_permissions(at("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", MACHINE]);
    command
        .env("T", dir.path())
        .env("SCRIPT", script)
        .env("FAILS", fails)
        .env("PATH", path);
    let output = command.env("C", env!("CARGO_BIN_EXE_cofferdam")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let calls = fs::read_to_string(at("calls")).unwrap_or_default();
    Answer {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
        calls: calls.lines().map(str::to_owned).collect(),
    }
}

const BOOTED: &str = "mkdir -p /run/systemd/system; ";
/// Prints what an install would have written.
const WRITTEN: &str = "; code=$?; ls /etc/cofferdam /etc/crictl.yaml 2>/dev/null; exit $code";

#[test]
fn the_service_is_enabled_and_started_and_then_the_kubelet() {
    let answer = on_machine(&format!("{BOOTED} $C install --kubelet --now"), "none");
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    let wanted = [
        "--version",
        "daemon-reload",
        "enable cofferdam",
        "restart cofferdam",
        "restart kubelet",
    ];
    assert_eq!(answer.calls, wanted);
    assert!(answer.out.contains("The service is enabled and runs."), "{answer:#?}");
    assert!(!answer.out.contains("systemctl"), "nothing of it is left to do: {answer:#?}");
    let alone = on_machine(&format!("{BOOTED} $C install --now"), "none");
    assert_eq!(alone.calls, wanted[..4], "a kubelet that was not told is left alone");
    let dry = on_machine(&format!("{BOOTED} $C install --now --dry-run"), "none");
    assert_eq!((dry.code, dry.calls.len()), (Some(0), 0));
    assert!(
        dry.out.contains("systemctl daemon-reload && systemctl enable --now cofferdam"),
        "{dry:#?}"
    );
}

#[test]
fn what_cannot_be_started_is_refused_before_anything_is_written() {
    for (script, saying) in [
        (format!("$C install --now{WRITTEN}"), "--now: systemd does not run here"),
        (
            format!("{BOOTED} mkdir /run/none; PATH=/run/none $C install --now{WRITTEN}"),
            "--now: systemctl cannot be run",
        ),
        (format!("{BOOTED} $C install --now --root-dir /run{WRITTEN}"), "cannot be used with"),
    ] {
        let answer = on_machine(&script, "none");
        assert_ne!(answer.code, Some(0), "{answer:#?}");
        assert!(answer.err.contains(saying), "{saying}: {answer:#?}");
        assert_eq!(answer.out, "", "{script}");
    }
}

#[test]
fn a_service_that_does_not_start_is_told_with_systemds_words() {
    let answer = on_machine(&format!("{BOOTED} $C install --now --kubelet"), "restart cofferdam");
    assert_eq!(answer.code, Some(120), "{answer:#?}");
    for said in [
        "all is written",
        "`systemctl restart cofferdam` failed",
        "Job for cofferdam.service failed",
        "journalctl -u cofferdam",
    ] {
        assert!(answer.err.contains(said), "{said}: {answer:#?}");
    }
    assert!(!answer.calls.contains(&"restart kubelet".to_owned()), "{answer:#?}");
}

#[test]
fn a_configuration_with_an_error_is_told_by_its_place_and_starts_nothing() {
    let broken = "mkdir -p /etc/cofferdam/conf.d; printf '[cri]\\nsocket = 5\\n' >/etc/cofferdam/conf.d/x.toml; ";
    let answer = on_machine(&format!("{BOOTED}{broken} $C install --now"), "none");
    assert_eq!((answer.code, answer.calls.len()), (Some(120), 1), "{answer:#?}");
    assert!(answer.err.contains("/etc/cofferdam/conf.d/x.toml:2:10: cri.socket must be a string"), "{answer:#?}");
}

#[test]
fn a_kubelet_is_not_moved_while_containerd_keeps_its_pods() {
    let kept = "mkdir -p /run/containerd/io.containerd.runtime.v2.task/k8s.io/abc; ";
    let answer = on_machine(&format!("{BOOTED}{kept} $C install --kubelet --now{WRITTEN}"), "none");
    assert_eq!(answer.code, Some(120), "{answer:#?}");
    assert!(
        answer.err.contains("containerd still keeps 1 containers") && answer.err.contains("rmp --all --force"),
        "{answer:#?}"
    );
    assert_eq!(answer.out, "", "nothing is written");
    let forced = on_machine(&format!("{BOOTED}{kept} $C install --kubelet --now --force"), "none");
    assert_eq!(forced.code, Some(0), "{forced:#?}");
    let by_hand = on_machine(&format!("{BOOTED}{kept} $C install --kubelet"), "none");
    assert_eq!((by_hand.code, by_hand.calls.len()), (Some(0), 0));
    assert!(by_hand.out.contains("containerd still keeps 1 containers"), "{by_hand:#?}");
}

#[test]
fn an_uninstall_stops_and_disables_first() {
    let script = format!("{BOOTED} $C install >/dev/null; $C uninstall --now --dry-run >/dev/null; $C uninstall --now{WRITTEN}");
    let answer = on_machine(&script, "none");
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    assert_eq!(answer.calls, ["--version", "disable --now cofferdam", "daemon-reload"]);
    assert!(
        answer.out.contains("removed") && !answer.out.contains("/etc/crictl.yaml\n"),
        "{answer:#?}"
    );
    let script = format!("{BOOTED} $C install >/dev/null; echo >>/etc/crictl.yaml; $C uninstall --now");
    let changed = on_machine(&script, "none");
    assert!(changed.err.contains("changed since"), "{changed:#?}");
    assert_eq!(
        changed.calls,
        ["--version"],
        "a service is not stopped for an uninstall that is refused"
    );
}
