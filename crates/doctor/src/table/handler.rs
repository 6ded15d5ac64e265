//! Handlers: missing, unproved, changed.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::facts::{Facts, Runtime};
use crate::finding::Severity::{Degrades, Note, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "handler-not-found",
        "handler not found",
        StopsPods,
        "The class names the handler <handler>, and the container runtime of <node> has none of that name. Add it to the runtime's configuration, restart the runtime so that it is read, or correct the class's handler.",
        &["cofferdam handlers", "cofferdam config"],
    )
    .in_cluster(&[
        "kubectl get node <node> -o jsonpath='{.status.runtimeHandlers}'",
        "crictl info | jq '.config.containerd.runtimes | keys'",
        "systemctl restart containerd",
    ])
    .heard(&[
        says("no runtime for \"<handler>\" is configured"),
        says("failed to find runtime handler <handler> from runtime list"),
        says("runtime handler \"<handler>\" not found"),
        says("handler \"<handler>\" not found"),
        says("unknown or invalid runtime name: <handler>"),
        says("the handler \"<handler>\" is not known"),
    ]),
    row(
        "handler-binary-missing",
        "the runtime's binary is not installed",
        StopsPods,
        "Handler <handler> runs <binary>, which is not on this machine; no other binary is run in its place. Install it, or give its path in the configuration.",
        &["command -v <binary>", "cofferdam handlers"],
    )
    .in_cluster(&["ls -l /usr/bin /usr/local/bin /opt/kata/bin | grep -e runsc -e kata -e crun -e runc", "systemctl restart containerd"])
    .heard(&[
        says("handler \"<handler>\" needs <binary>, which is not installed"),
        says("handler \"<handler>\" needs <binary>, which does not exist"),
        says("binary not installed \"<binary>\""),
        says("failed to find runtime path for \"<binary>\""),
        says("exec: \"runsc\": executable file not found"),
        says("exec: \"runc\": executable file not found"),
        says("exec: \"crun\": executable file not found"),
        says("exec: \"kata-runtime\": executable file not found"),
    ]),
    row(
        "handler-binary-not-executable",
        "the runtime's binary cannot be executed",
        StopsPods,
        "Handler <handler> runs <binary>, which is there but is no executable file. Install it anew, or set its mode.",
        &["ls -l <binary>", "chmod 0755 <binary>", "cofferdam handlers"],
    )
    .heard(&[says("handler \"<handler>\" needs <binary>, which is not an executable file")]),
    row(
        "handler-not-built",
        "the handler needs a driver that Cofferdam does not have yet",
        StopsPods,
        "Handler <handler> needs a virtual machine or a shim, which this build of Cofferdam reads and lists but cannot run. Its pods are refused rather than run in anything weaker; give them another class, or run them under containerd.",
        &["cofferdam handlers"],
    )
    .heard(&[
        says("handler \"<handler>\" needs a driver that is not built yet"),
        says("handler \"<handler>\" needs the <_> driver, which is not built yet"),
    ]),
    row(
        "handler-unusable",
        "the handler's configuration cannot be honoured",
        StopsPods,
        "Handler <handler> is configured with something that Cofferdam does not take, so its pods do not start, and nothing weaker is used in its place. The message names the file and the key.",
        &["cofferdam config", "cofferdam handlers"],
    ),
    row(
        "handler-canary-failed",
        "the handler's canary pod failed",
        StopsPods,
        "The binary of handler <handler> answers, but a pod that forks, pipes and waits does not end in it as it should. Pods would fail in the same way, so none is started; try another version of the runtime.",
        &["cofferdam handlers", "cofferdam config"],
    )
    .heard(&[says("its canary pod failed: it").unless(&["panic"])]),
    row(
        "handler-unproved",
        "the handler is not proved",
        StopsPods,
        "Handler <handler> was tried and does not work on this machine. Pods of it do not start, and nothing weaker is used in its place.",
        &["cofferdam handlers"],
    )
    .heard(&[says("handler \"<handler>\" is not proved")])
    .generic(),
    row(
        "runtime-does-not-answer",
        "the runtime's binary does not answer",
        StopsPods,
        "<binary> was started with --version and gave no good answer, so it is not trusted with pods. It may be damaged, miss libraries, or be a wrapper that fails.",
        &["<binary> --version", "ldd <binary>"],
    )
    .heard(&[
        says("is not proved: <binary> --version ended with"),
        says("is not proved: <binary> --version printed nothing"),
        says("is not proved: <binary> cannot be run:").unless(&["exec format error"]),
    ])
    .seen(|facts| silent(facts, false)),
    row(
        "runtime-wrong-architecture",
        "the runtime's binary is for another architecture",
        StopsPods,
        "<binary> is a program for other CPUs than this machine's, or no program at all. Install the build for this architecture.",
        &["file <binary>", "uname -m"],
    )
    .heard(&[says("is not proved: <binary> cannot be run: Exec format error")])
    .seen(|facts| silent(facts, true)),
    row(
        "handler-removed",
        "the handler was removed while pods ran",
        Note,
        "Handler <handler> is no longer configured, and this pod goes on with the definition that it was started with. New pods of the class do not start; put the handler back, or move the class to another one.",
        &["cofferdam config", "cofferdam handlers"],
    ),
    row(
        "handler-changed",
        "the handler was changed while pods ran",
        Note,
        "Handler <handler> now runs <binary>, and this pod goes on in <other>. Make the pod anew to move it.",
        &["cofferdam stop <namespace>/<pod>", "cofferdam run -f MANIFEST --detach"],
    ),
    row(
        "configuration-error",
        "a configuration file has an error",
        StopsPods,
        "A file with an error contributes nothing, and no pod is started while one has, as what it says may be stronger. The message has its line and column.",
        &["cofferdam config"],
    )
    .seen(|facts| facts.config_errors.iter().map(Case::new).collect()),
    row(
        "configuration-not-honoured",
        "something in a configuration file is not honoured",
        Note,
        "A file says something that has no effect, or another one than its owner may expect. The message names the place; containerd ignores fragments without a version in the same way.",
        &["cofferdam config"],
    )
    .seen(|facts| facts.config_warnings.iter().map(Case::new).collect()),
    row(
        "daemon-not-restarted",
        "the container runtime has not read its configuration yet",
        Degrades,
        "<file> was changed after <daemon> was started, and it reads handlers only when it starts; CRI-O lists a reloaded handler and then rejects it. Pods of a new handler get `no runtime for … is configured` until it is restarted.",
        &["systemctl restart <daemon>"],
    )
    .seen(stale_daemons),
    row(
        "pod-not-honoured",
        "the pod asks for what cannot be honoured yet",
        StopsPods,
        "Something that the pod asks for is not built in Cofferdam, or not in this handler, and it is refused by name rather than dropped in silence. Remove the field that the message names, or use another class.",
        &["cofferdam check -f MANIFEST"],
    )
    .heard(&[says("Unsupported: "), says("is not supported: "), says("cannot run this pod:")])
    .generic(),
    row(
        "handler-no-user-namespaces",
        "the handler does not support user namespaces",
        StopsPods,
        "The pod sets hostUsers: false, and handler <handler> does not say that it supports user namespaces; only runc-type runtimes are asked by containerd. Remove hostUsers, or give the pod a class whose handler supports them.",
        &["cofferdam handlers"],
    )
    .in_cluster(&["kubectl get node <node> -o jsonpath='{.status.runtimeHandlers}'"])
    .heard(&[
        says("RuntimeClass handler \"<handler>\" does not support user namespaces").unless(&["is not known"]),
        says("does not support user namespaces").unless(&["is not known"]),
    ]),
];

/// Runtimes that did not answer, because they are for other CPUs or for another reason. Where that is
/// the trouble of a handler already, it is told there.
fn silent(facts: &Facts, foreign: bool) -> Vec<Case> {
    let told = |r: &Runtime| {
        facts
            .handlers
            .iter()
            .any(|h| h.trouble.is_some() && h.binary.as_ref() == Some(&r.path))
    };
    let silent = facts
        .runtimes
        .iter()
        .filter(|r| !told(r))
        .filter_map(|r| Some((r, r.error.as_ref()?)));
    let silent = silent.filter(|(_, error)| error.contains("Exec format error") == foreign);
    let case = |(runtime, error): (&Runtime, &String)| {
        let used = facts
            .handlers
            .iter()
            .any(|h| h.binary.as_ref() == Some(&runtime.path) && (h.configured || h.default));
        let case = Case::new(format!("{} --version: {error}", runtime.path.display())).with("binary", runtime.path.display());
        let case = case.about(format!("runtime {}", runtime.path.display()));
        if used { case } else { case.severe(Note) }
    };
    silent.map(case).collect()
}

fn stale_daemons(facts: &Facts) -> Vec<Case> {
    let stale = facts.daemons.iter().filter_map(|d| Some((d, d.newer_config.as_ref()?)));
    let case = |(daemon, file): (&crate::facts::Daemon, &std::path::PathBuf)| {
        Case::new(format!(
            "{} is newer than process {} of {}",
            file.display(),
            daemon.pid,
            daemon.name
        ))
        .with("daemon", &daemon.name)
        .with("file", file.display())
    };
    stale.map(case).collect()
}
