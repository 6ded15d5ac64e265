//! gVisor.

use crate::diagnose::{Case, Diagnosis, Enclosure::Gvisor, prints, row, says, told};
use crate::facts::{Facts, Handler, Runtime};
use crate::finding::Severity::{Degrades, Note, StopsPods};
use crate::version::Version;

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "gvisor-unsupported-call",
        "\"operation not supported\" inside gVisor",
        StopsPods,
        "gVisor implements most, not all, of Linux, and this program uses a call that it lacks (io_uring, some ioctls, kernel modules, raw devices). Look for a setting that avoids the call, or run this one program in another class: a VM where isolation is needed, runc where it is trusted.",
        &["cofferdam try -f MANIFEST", "cofferdam logs <namespace>/<pod>"],
    )
    .in_cluster(&["kubectl logs <pod> --namespace=<namespace>", "runsc --debug --debug-log=/tmp/runsc/ --strace do true"])
    .heard(&[
        prints("operation not supported").inside(Gvisor),
        prints("EOPNOTSUPP").inside(Gvisor).unless(&["operation not supported"]),
        prints("ENOTSUP").inside(Gvisor).unless(&["operation not supported"]),
        prints("function not implemented").inside(Gvisor),
        prints("ENOSYS").inside(Gvisor).unless(&["function not implemented"]),
        told("Unsupported syscall <call>"),
        prints("io_uring_queue_init").inside(Gvisor).unless(&["function not implemented", "operation not supported"]),
    ]),
    row(
        "gvisor-slow-files",
        "slow file access in gVisor (directfs is off)",
        Degrades,
        "Handler <handler> makes every file operation a message to another process: <why>. directfs lets the sandbox use file descriptors that it was given, behind the same seccomp filter, and is gVisor's default; remove the flag, or give work that lives on its files an emptyDir in memory or a VM class.",
        &["cofferdam config", "grep -n -e directfs -e file-access -e overlay2 /etc/containerd/runsc.toml /etc/cofferdam/config.toml"],
    )
    .seen(slow_files),
    row(
        "gvisor-too-old",
        "this gVisor is from before systrap and directfs",
        Degrades,
        "<binary> was made from sources of <date>: its platforms are ptrace and KVM only, and its files go through the gofer, so system calls and file access are many times slower, and newer kernels break its ptrace. Debian 12 has such a version; take a release of gVisor's own.",
        &["<binary> --version", "cofferdam handlers"],
    )
    .seen(too_old),
    row(
        "gvisor-panics-on-fork",
        "this gVisor panics when a pod forks",
        StopsPods,
        "gVisor's kernel process itself crashed: sources from before July 2026 built with Go 1.26 do so in pods whose processes fork, and survive a mere sleep. Build newer sources, or older ones with Go 1.25, or take a release.",
        &["runsc --version", "cofferdam handlers"],
    )
    .heard(&[
        told("gvisor.dev/gvisor/pkg/sentry/<_>.go:").unless(&["unable to initialize systrap"]),
        told("sentry panic"),
        says("its canary pod failed: <_>panic:"),
    ])
    .seen(panicking),
    row(
        "gvisor-ptrace-forbidden",
        "the kernel forbids ptrace, which gVisor needs",
        StopsPods,
        "kernel.yama.ptrace_scope is 3, which lets no process trace another one, and gVisor's systrap and ptrace platforms start by tracing their own. Set it to 1 or 2 and restart, as 3 cannot be lowered, or use --platform=kvm.",
        &["sysctl kernel.yama.ptrace_scope", "echo 'kernel.yama.ptrace_scope = 1' > /etc/sysctl.d/60-ptrace.conf"],
    )
    .heard(&[told("unable to initialize systrap source"), told("unable to attach: operation not permitted").unless(&["unable to initialize systrap"])])
    .seen(ptrace_forbidden),
    row(
        "gvisor-did-not-start",
        "gVisor's sandbox ended before it started",
        StopsPods,
        "The sandbox process ended before it said why, and its own debug log has the reason: a platform that this kernel does not allow, no user namespaces, or too little memory. Turn that log on in the handler's flags and look at the file that ends in .boot.",
        &["runsc --debug --debug-log=/tmp/runsc/ --platform=systrap do true", "tail -n 30 /tmp/runsc/*.boot*"],
    )
    .heard(&[says("waiting for sandbox to start: EOF").unless(&["unable to initialize"]), says("cannot read client sync file").unless(&["waiting for sandbox to start"])]),
    row(
        "gvisor-cannot-honour",
        "gVisor cannot give the pod what it asks for",
        StopsPods,
        "The pod asks for something of the machine's that gVisor's own kernel does not share: host namespaces, a shared process id namespace, or a kernel setting. gVisor would ignore it in silence, so it is refused: remove the field, or use another class.",
        &["cofferdam check -f MANIFEST"],
    )
    .heard(&[says("gVisor cannot give a pod"), says("gVisor has no sysctl <name> that")]),
];

fn gvisors(facts: &Facts) -> impl Iterator<Item = &Runtime> {
    facts.runtimes.iter().filter(|r| r.kind == "runsc")
}

fn slow_files(facts: &Facts) -> Vec<Case> {
    let why = |handler: &Handler| {
        let is = |flag: &str, value: &str| handler.flags.get(flag).is_some_and(|v| v.as_deref() == Some(value));
        match () {
            () if is("directfs", "false") => Some("--directfs=false is set"),
            () if is("file-access", "shared") => Some("--file-access=shared is set, so nothing of the root is cached"),
            () => None,
        }
    };
    let slow = facts
        .handlers
        .iter()
        .filter(|h| h.flavor == "runsc")
        .filter_map(|h| Some((h, why(h)?)));
    slow.map(|(h, why)| {
        Case::new(why)
            .with("handler", &h.name)
            .with("why", why)
            .about(format!("handler {}", h.name))
    })
    .collect()
}

/// systrap became the default, and directfs was added, in the middle of 2023.
const SYSTRAP: u32 = 20_230_601;

fn too_old(facts: &Facts) -> Vec<Case> {
    let old = gvisors(facts).filter_map(|r| Some((r, r.gvisor_date.filter(|d| *d < SYSTRAP)?)));
    old.map(|(r, date)| of_binary(r, date)).collect()
}

fn of_binary(runtime: &Runtime, date: u32) -> Case {
    let date = format!("{}-{:02}-{:02}", date / 10_000, date / 100 % 100, date % 100);
    let built = runtime.go.as_deref().map_or_else(String::new, |go| format!(", built with {go}"));
    Case::new(format!("{}: sources of {date}{built}", runtime.path.display()))
        .with("binary", runtime.path.display())
        .with("date", date)
        .about(format!("runtime {}", runtime.path.display()))
}

fn panicking(facts: &Facts) -> Vec<Case> {
    const MENDED: u32 = 20_260_701;
    let new_go = |r: &Runtime| {
        let go = r.go.as_deref().and_then(|go| Version::find(go.strip_prefix("go").unwrap_or(go)));
        go.is_some_and(|go| go >= Version::new(1, 26, 0))
    };
    let bad = gvisors(facts)
        .filter(|r| new_go(r))
        .filter_map(|r| Some((r, r.gvisor_date.filter(|d| *d < MENDED)?)));
    bad.map(|(r, date)| of_binary(r, date)).collect()
}

fn ptrace_forbidden(facts: &Facts) -> Vec<Case> {
    if facts.kernel.ptrace_scope != Some(3) || gvisors(facts).next().is_none() {
        return Vec::new();
    }
    let case = Case::new("kernel.yama.ptrace_scope = 3");
    let used = facts.handlers.iter().any(|h| h.flavor == "runsc" && h.configured);
    vec![if used { case } else { case.severe(Note) }]
}
