//! What was found.

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// What a diagnosis means for pods; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A pod does not start, or does not go on.
    StopsPods,
    /// Pods run, slower, weaker or with something missing.
    Degrades,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StopsPods => "stops pods",
            Self::Degrades => "degrades",
            Self::Note => "note",
        })
    }
}

/// Where the pod is, which decides what the remedy's commands are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum World {
    /// On this machine, run by Cofferdam.
    #[default]
    Machine,
    /// In a cluster, reached with kubectl.
    Cluster,
}

/// One cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the diagnosis, for programs: `runtimeclass-not-found`.
    pub id: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it means for pods.
    pub severity: Severity,
    /// What it is about: `pod default/web`, `container app`, `handler runsc`, `this machine`.
    pub subject: String,
    /// By what it was recognised: the text, or the facts, on one line.
    pub evidence: String,
    /// Two sentences.
    pub explanation: String,
    /// Commands, in order, with the real names in them.
    pub remedy: Vec<String>,
}

/// What facts show and what texts said, as one: facts of the machine have names that texts leave out,
/// and the kernel says `no space left on device` of inodes too.
pub fn merge(shown: Vec<Finding>, heard: Vec<Finding>) -> Vec<Finding> {
    // What is shown of one handler or runtime says nothing of another.
    let wide = |f: &Finding| !f.subject.starts_with("handler ") && !f.subject.starts_with("runtime ");
    let has = |id: &str| shown.iter().any(|f| f.id == id && wide(f));
    let only_inodes = has("inodes-full") && !has("disk-full");
    let more = heard.into_iter().filter(|f| !(has(f.id) || only_inodes && f.id == "disk-full"));
    let more: Vec<_> = more.collect();
    settle(shown.into_iter().chain(more).collect())
}

/// The worst first, each cause once: two texts that say the same of the same names are one finding.
pub(crate) fn settle(mut findings: Vec<Finding>) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    findings.retain(|f| seen.insert((f.id, f.explanation.clone())));
    findings.sort_by_key(|f| f.severity);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &'static str, evidence: &str) -> Finding {
        Finding {
            id,
            title: "",
            severity: Severity::StopsPods,
            subject: String::new(),
            evidence: evidence.into(),
            explanation: evidence.into(),
            remedy: Vec::new(),
        }
    }

    #[test]
    fn what_facts_show_stands_for_what_texts_say_of_it() {
        let ids = |shown: &[&'static str], heard: &[&'static str]| {
            let all = |ids: &[&'static str], by: &str| ids.iter().map(|id| finding(id, by)).collect();
            let merged = merge(all(shown, "shown"), all(heard, "heard"));
            merged.into_iter().map(|f| (f.id, f.evidence)).collect::<Vec<_>>()
        };
        let pair = |id: &'static str, by: &str| (id, by.to_owned());
        assert_eq!(ids(&["a"], &["a", "b"]), [pair("a", "shown"), pair("b", "heard")]);
        assert_eq!(ids(&[], &["disk-full"]), [pair("disk-full", "heard")]);
        assert_eq!(ids(&["inodes-full"], &["disk-full"]), [pair("inodes-full", "shown")]);
        assert_eq!(ids(&["inodes-full", "disk-full"], &["disk-full"]).len(), 2);
        let of_one = Finding {
            subject: "runtime /opt/crun".into(),
            ..finding("a", "shown")
        };
        assert_eq!(merge(vec![of_one], vec![finding("a", "heard")]).len(), 2);
    }
}
