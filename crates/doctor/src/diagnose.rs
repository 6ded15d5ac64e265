//! The named diagnoses: one table, in which each row says what it is called, how it is recognised,
//! what it means and what to do. Pure: texts and facts in, findings out.

use crate::facts::Facts;
use crate::finding::{Finding, Severity, World};
use crate::names::{Names, shown};
use crate::pattern::Text;
use crate::table;

/// Longest text that is looked at, bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// Longest evidence that is shown, characters.
const MAX_EVIDENCE: usize = 400;

/// Who said a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Voice {
    /// The kubelet, a runtime, the API server, Cofferdam: an event, a status message, an error.
    #[default]
    System,
    /// The container itself, on its standard output or error.
    Container,
}

/// What encloses the pod that a text is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Enclosure {
    /// Not known.
    #[default]
    Unknown,
    /// The machine's kernel: runc, crun, youki.
    Shared,
    /// gVisor.
    Gvisor,
    /// A virtual machine.
    Vm,
}

impl Enclosure {
    /// What a handler or the file name of a runtime most likely means.
    pub fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|w| name.contains(w));
        match () {
            () if has(&["runsc", "gvisor"]) => Self::Gvisor,
            () if has(&["kata", "firecracker", "qemu", "cloud-hypervisor"]) => Self::Vm,
            () if has(&["runc", "crun", "youki"]) => Self::Shared,
            () => Self::Unknown,
        }
    }
}

/// A text with where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard<'a> {
    /// The text.
    pub text: &'a str,
    /// Who said it.
    pub voice: Voice,
    /// What encloses the pod.
    pub enclosure: Enclosure,
    /// Where the pod is.
    pub world: World,
    /// What it is about: `pod default/web`.
    pub subject: &'a str,
}

/// A named diagnosis.
#[derive(Debug, Clone, Copy)]
pub struct Diagnosis {
    /// Name, for programs.
    pub id: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it means for pods, unless the case says otherwise.
    pub severity: Severity,
    /// Two sentences, with `<placeholders>`.
    pub explanation: &'static str,
    /// Commands for a pod of ours, with `<placeholders>`.
    pub remedy: &'static [&'static str],
    /// Commands for a pod of a cluster; the same where empty.
    pub cluster_remedy: &'static [&'static str],
    /// Whether it only speaks where no other diagnosis claims the same text.
    pub generic: bool,
    pub(crate) says: &'static [Says],
    pub(crate) machine: Option<fn(&Facts) -> Vec<Case>>,
}

/// A text by which a diagnosis is recognised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Says {
    pattern: &'static str,
    unless: &'static [&'static str],
    voice: Option<Voice>,
    enclosure: Option<Enclosure>,
}

/// What the system says.
pub(crate) const fn says(pattern: &'static str) -> Says {
    Says {
        pattern,
        unless: &[],
        voice: Some(Voice::System),
        enclosure: None,
    }
}

/// What the container itself says.
pub(crate) const fn prints(pattern: &'static str) -> Says {
    Says {
        pattern,
        unless: &[],
        voice: Some(Voice::Container),
        enclosure: None,
    }
}

/// What either says.
pub(crate) const fn told(pattern: &'static str) -> Says {
    Says {
        pattern,
        unless: &[],
        voice: None,
        enclosure: None,
    }
}

impl Says {
    /// Not where one of these phrases is in the text as well.
    pub(crate) const fn unless(mut self, phrases: &'static [&'static str]) -> Self {
        self.unless = phrases;
        self
    }

    /// Only in this enclosure.
    pub(crate) const fn inside(mut self, enclosure: Enclosure) -> Self {
        self.enclosure = Some(enclosure);
        self
    }

    fn take(&self, text: &Text, heard: &Heard<'_>) -> Option<Names> {
        let fits = self.voice.is_none_or(|v| v == heard.voice) && self.enclosure.is_none_or(|e| e == heard.enclosure);
        if !fits || self.unless.iter().any(|phrase| text.has(phrase)) {
            return None;
        }
        text.take(self.pattern).map(Names::of)
    }
}

/// One case of a diagnosis that facts show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    /// Names for its placeholders.
    pub(crate) names: Names,
    /// What it is about; empty for the machine.
    pub(crate) subject: String,
    /// The facts, for a person.
    pub(crate) evidence: String,
    /// In place of the diagnosis's own.
    pub(crate) severity: Option<Severity>,
}

impl Case {
    /// A case about the machine.
    pub(crate) fn new(evidence: impl Into<String>) -> Self {
        Self {
            evidence: evidence.into(),
            ..Self::default()
        }
    }

    /// With a name.
    pub(crate) fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.names.set(key, value.to_string());
        self
    }

    /// About something other than the machine.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// With a severity of its own.
    pub(crate) fn severe(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }
}

/// Begins a row: id, title, severity, explanation, remedy.
pub(crate) const fn row(
    id: &'static str,
    title: &'static str,
    severity: Severity,
    explanation: &'static str,
    remedy: &'static [&'static str],
) -> Diagnosis {
    Diagnosis {
        id,
        title,
        severity,
        explanation,
        remedy,
        cluster_remedy: &[],
        generic: false,
        says: &[],
        machine: None,
    }
}

impl Diagnosis {
    pub(crate) const fn in_cluster(mut self, remedy: &'static [&'static str]) -> Self {
        self.cluster_remedy = remedy;
        self
    }

    pub(crate) const fn heard(mut self, says: &'static [Says]) -> Self {
        self.says = says;
        self
    }

    pub(crate) const fn seen(mut self, rule: fn(&Facts) -> Vec<Case>) -> Self {
        self.machine = Some(rule);
        self
    }

    pub(crate) const fn generic(mut self) -> Self {
        self.generic = true;
        self
    }

    /// The finding of one case.
    pub(crate) fn finding(&self, case: Case, world: World) -> Finding {
        let commands = match world {
            World::Cluster if !self.cluster_remedy.is_empty() => self.cluster_remedy,
            _ => self.remedy,
        };
        Finding {
            id: self.id,
            title: self.title,
            severity: case.severity.unwrap_or(self.severity),
            subject: if case.subject.is_empty() {
                "this machine".into()
            } else {
                shown(&case.subject, MAX_EVIDENCE)
            },
            evidence: shown(&case.evidence, MAX_EVIDENCE),
            explanation: case.names.prose(self.explanation),
            remedy: commands.iter().map(|c| case.names.command(c)).collect(),
        }
    }
}

/// All diagnoses.
pub fn diagnoses() -> impl Iterator<Item = &'static Diagnosis> {
    table::ALL.iter().flat_map(|rows| rows.iter())
}

/// The row of an id of the table.
pub(crate) fn by_id(id: &str) -> Option<&'static Diagnosis> {
    diagnoses().find(|d| d.id == id)
}

/// A finding by the id of its row; none for an id that is in no row.
pub(crate) fn found(id: &str, case: Case, world: World) -> Option<Finding> {
    by_id(id).map(|d| d.finding(case, world))
}

/// What a text says: the diagnoses that claim it, or else the generic ones that do.
pub fn diagnose_text(heard: &Heard<'_>) -> Vec<Finding> {
    diagnose_named(heard, &Names::default())
}

/// As [`diagnose_text`], with names that the text itself does not give.
pub(crate) fn diagnose_named(heard: &Heard<'_>, context: &Names) -> Vec<Finding> {
    let text = Text::new(heard.text, MAX_TEXT);
    let claims = |generic: bool| {
        let rows = diagnoses().filter(move |d| d.generic == generic);
        rows.filter_map(|d| Some((d, d.says.iter().find_map(|s| s.take(&text, heard))?)))
            .collect::<Vec<_>>()
    };
    let mut claimed = claims(false);
    if claimed.is_empty() {
        claimed = claims(true);
    }
    let finding = |(diagnosis, names): (&Diagnosis, Names)| {
        let case = Case {
            names: names.or(context),
            subject: heard.subject.into(),
            evidence: text.as_str().into(),
            severity: None,
        };
        diagnosis.finding(case, heard.world)
    };
    claimed.into_iter().map(finding).collect()
}

/// Generic findings go where a cause is known that matters.
pub(crate) fn without_generic(mut findings: Vec<Finding>) -> Vec<Finding> {
    let generic = |f: &Finding| by_id(f.id).is_some_and(|d| d.generic);
    if findings.iter().any(|f| !generic(f) && f.severity != Severity::Note) {
        findings.retain(|f| !generic(f));
    }
    findings
}

/// What facts say.
pub fn diagnose_facts(facts: &Facts) -> Vec<Finding> {
    let cases = diagnoses().filter_map(|d| Some((d, d.machine?)));
    let shown = cases.flat_map(|(d, rule)| rule(facts).into_iter().map(move |case| d.finding(case, World::Machine)));
    let heard = facts.handlers.iter().flat_map(handler_trouble);
    crate::finding::merge(shown.collect(), heard.collect())
}

/// Why a handler cannot be used is a text like any other. One that nobody configured and that is no
/// default may well be missing.
fn handler_trouble(handler: &crate::facts::Handler) -> Vec<Finding> {
    let Some(text) = &handler.trouble else { return Vec::new() };
    let subject = format!("handler {}", handler.name);
    let enclosure = Enclosure::of(if handler.flavor.is_empty() {
        &handler.name
    } else {
        &handler.flavor
    });
    let heard = Heard {
        text,
        enclosure,
        subject: &subject,
        ..Heard::default()
    };
    let mut names = Names::of([("handler", handler.name.as_str())]);
    if let Some(binary) = &handler.binary {
        names.set("binary", binary.display().to_string());
    }
    let mut findings = diagnose_named(&heard, &names);
    if findings.is_empty() {
        let case = Case {
            names,
            ..Case::new(text.as_str()).about(subject.as_str())
        };
        findings.extend(found("handler-unusable", case, World::Machine));
    }
    if !handler.configured && !handler.default {
        findings
            .iter_mut()
            .filter(|f| f.id == "handler-binary-missing")
            .for_each(|f| f.severity = Severity::Note);
    }
    findings
}

#[cfg(test)]
#[path = "diagnose_tests/mod.rs"]
mod tests;
