//! What was seen and found, as lines for a person; no colours.

use crate::facts::{Facts, Kvm, Storage};
use crate::finding::Finding;
use serde::Serialize;

/// Facts and findings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was seen.
    pub facts: Facts,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The facts in short, then the findings.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = fact_lines(&self.facts);
        lines.push(String::new());
        lines.extend(finding_lines(&self.findings));
        lines
    }
}

/// Facts in short: a line a subject.
pub fn fact_lines(facts: &Facts) -> Vec<String> {
    let line = |name: &str, text: String| format!("{name:<12} {text}");
    let mut lines = vec![
        line(
            "kernel",
            format!(
                "Linux {} {}, {} CPUs, {} of {} MiB available",
                facts.kernel.release,
                facts.kernel.architecture,
                facts.cpus,
                facts.memory_available >> 20,
                facts.memory_total >> 20
            ),
        ),
        line("cgroups", cgroups(facts)),
        line("kvm", kvm(facts)),
        line("network", network(facts)),
    ];
    lines.extend(facts.storage.iter().map(|s| line(s.role, storage(s))));
    lines.extend(facts.handlers.iter().map(|h| {
        let binary = h.binary.as_ref().map_or_else(|| h.driver.clone(), |b| b.display().to_string());
        let state = match (&h.trouble, h.proved) {
            (Some(_), _) => "not usable",
            (None, Some(true)) => "proved",
            (None, _) => "not tried",
        };
        line(
            "handler",
            format!("{}{}: {binary}, {state}", h.name, if h.default { " (default)" } else { "" }),
        )
    }));
    lines.extend(facts.runtimes.iter().map(|r| {
        let says = r.version.as_deref().or(r.error.as_deref()).unwrap_or("not asked");
        line("runtime", format!("{}: {says}", r.path.display()))
    }));
    lines.extend(facts.unknown.iter().map(|why| line("not known", why.clone())));
    lines
}

fn cgroups(facts: &Facts) -> String {
    let Some(cgroups) = &facts.cgroups else { return "none".into() };
    let list = |set: &std::collections::BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let on_v2 = if cgroups.on_v2.is_empty() {
        String::new()
    } else {
        format!("; on v2: {}", list(&cgroups.on_v2))
    };
    format!("{}: {}{on_v2}", cgroups.mode, list(&cgroups.controllers))
}

fn kvm(facts: &Facts) -> String {
    match &facts.virtualization.kvm {
        Kvm::Unknown => "not looked for".into(),
        Kvm::Absent => "no /dev/kvm".into(),
        Kvm::Unusable(why) => format!("/dev/kvm cannot be opened: {why}"),
        Kvm::Opens => "/dev/kvm opens; whether a virtual machine runs is known only after one was tried".into(),
    }
}

fn network(facts: &Facts) -> String {
    let network = &facts.network;
    let bridge = if network.bridge_there { "up" } else { "not made yet" };
    let docker = if facts.docker.is_some() { ", Docker is here" } else { "" };
    let firewall = match network.forward_drops.as_deref() {
        None => ", firewall not known",
        Some([]) => "",
        Some(_) => ", forwarding dropped",
    };
    format!("bridge {} {bridge}, pods {}{docker}{firewall}", network.bridge, network.subnet)
}

fn storage(s: &Storage) -> String {
    let flags = [(s.read_only, ", read-only"), (s.noexec, ", noexec")]
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, f)| f);
    format!(
        "{}: {}, {} of {} MiB free{}",
        s.path.display(),
        s.fstype,
        s.free_bytes >> 20,
        s.total_bytes >> 20,
        flags.collect::<String>()
    )
}

/// Findings: title and what it is about, evidence, explanation, commands.
pub fn finding_lines(findings: &[Finding]) -> Vec<String> {
    if findings.is_empty() {
        return vec!["Nothing is wrong that is known here.".into()];
    }
    findings.iter().flat_map(lines_of).collect()
}

fn lines_of(finding: &Finding) -> Vec<String> {
    let mut lines = vec![
        format!("{} ({}; {}; {})", finding.title, finding.severity, finding.subject, finding.id),
        format!("  seen: {}", finding.evidence),
        format!("  {}", finding.explanation),
    ];
    // A command of several lines stays one, so that it can be copied.
    lines.extend(
        finding
            .remedy
            .iter()
            .flat_map(|c| c.lines().enumerate())
            .map(|(n, l)| format!("  {} {l}", if n == 0 { "$" } else { ">" })),
    );
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn a_report_is_lines_and_json() {
        let finding = Finding {
            id: "a-b",
            title: "it is so",
            severity: Severity::StopsPods,
            subject: "pod default/web".into(),
            evidence: "text".into(),
            explanation: "One. Two.".into(),
            remedy: vec!["first".into(), "cat <<'EOF'\nx\nEOF".into()],
        };
        let report = Report {
            facts: Facts::default(),
            findings: vec![finding],
        };
        let lines = report.lines();
        let tail: Vec<_> = lines.iter().skip_while(|l| !l.is_empty()).skip(1).map(String::as_str).collect();
        assert_eq!(
            tail,
            [
                "it is so (stops pods; pod default/web; a-b)",
                "  seen: text",
                "  One. Two.",
                "  $ first",
                "  $ cat <<'EOF'",
                "  > x",
                "  > EOF"
            ]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][0]["severity"], "stops-pods");
        assert_eq!(json["facts"]["virtualization"]["kvm"], "unknown");
        assert_eq!(finding_lines(&[]), ["Nothing is wrong that is known here."]);
    }
}
