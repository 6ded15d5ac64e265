//! `cofferdam doctor`: what is wrong with this machine or with one pod, named, with its remedy.
//!
//! - [`here`]: this machine, and what keeps its records from being opened
//! - [`story`]: what is known of one of our pods
//! - [`logs`]: the end of what its containers printed
//! - [`remote`]: a pod of a real cluster

mod here;
mod logs;
mod remote;
mod story;

use crate::account::Account;
use crate::args::{DoctorArgs, Global, Output};
use crate::commands::pods::{is_meant, text};
use crate::show::{self, Colour, paint};
use crate::world::Manifests;
use anyhow::Result;
use cofferdam_doctor::{Facts, Finding, Heard, Severity, diagnose_pod, diagnose_text, merge, report};
use cofferdam_engine::Engine;
use here::Here;
use serde::Serialize;

/// Exit code where something was found that stops pods.
const EXIT_FOUND: u8 = 1;

/// Names what is wrong, and how to put it right.
pub(crate) fn doctor(global: &Global, args: &DoctorArgs) -> Result<u8> {
    let answer = if args.kubeconfig.is_some() || args.context.is_some() {
        remote::ask(args)?
    } else {
        let manifests = Manifests::decode(&Manifests::texts(&args.files)?)?;
        let here = Here::look(global);
        match (&args.pod, &here.engine) {
            (Some(wanted), Some(engine)) => of_pod(&here, engine, wanted, &manifests)?,
            (Some(wanted), None) => Answer {
                note: Some(format!(
                    "Nothing can be told of pod {wanted}, as what is known of pods could not be read; the machine:"
                )),
                ..of_machine(&here, &manifests)
            },
            (None, _) => of_machine(&here, &manifests),
        }
    };
    match args.output {
        Output::Json => show::json(&answer)?,
        Output::Table => answer.print(),
    }
    let stops = answer.findings.iter().any(|f| f.severity == Severity::StopsPods);
    Ok(if stops { EXIT_FOUND } else { 0 })
}

/// What is answered.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// The pod that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Subject>,
    /// What is to be said before everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts>,
    /// What could not be looked at and why, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
    /// What is wrong, the worst first.
    findings: Vec<Finding>,
}

/// A pod.
#[derive(Debug, Default, Serialize)]
struct Subject {
    namespace: String,
    name: String,
    /// Its phase, and one word on it; empty where it was not admitted.
    phase: String,
    reason: String,
}

fn of_machine(here: &Here, manifests: &Manifests) -> Answer {
    let seen = here.examine();
    let findings = merge(seen.findings, here.heard().chain(here.refused(manifests, |_, _| true)).collect());
    Answer {
        facts: Some(seen.facts),
        findings,
        ..Answer::default()
    }
}

fn of_pod(here: &Here, engine: &Engine, wanted: &str, manifests: &Manifests) -> Result<Answer> {
    let account = match Account::of(engine, wanted) {
        Ok(account) => account,
        Err(absent) => return of_refused(here, wanted, manifests).ok_or(absent),
    };
    let story = story::of(here, engine, &account, manifests);
    let findings = diagnose_pod(&story);
    let stops = findings.iter().any(|f| f.severity == Severity::StopsPods);
    let findings = if stops {
        merge(here.causes(&story.handler), findings)
    } else {
        findings
    };
    let pod = Subject {
        namespace: story.namespace,
        name: story.name,
        phase: story.phase,
        reason: story.reason,
    };
    Ok(Answer {
        pod: Some(pod),
        findings,
        ..Answer::default()
    })
}

/// A pod that is not here because it is not admitted, as the manifests have it.
fn of_refused(here: &Here, wanted: &str, manifests: &Manifests) -> Option<Answer> {
    let findings: Vec<_> = here
        .refused(manifests, |namespace, name| is_meant(wanted, namespace, name, ""))
        .collect();
    let (namespace, name) = crate::commands::pods::split(wanted);
    let pod = Subject {
        namespace: namespace.into(),
        name: name.into(),
        ..Subject::default()
    };
    (!findings.is_empty()).then(|| Answer {
        pod: Some(pod),
        findings,
        ..Answer::default()
    })
}

impl Answer {
    fn print(&self) {
        if let Some(pod) = &self.pod {
            let state = [pod.phase.as_str(), pod.reason.as_str()]
                .into_iter()
                .filter(|s| !s.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
            let state = if state.is_empty() { String::new() } else { format!(": {state}") };
            show::say(format_args!("Pod {}/{}{state}\n", pod.namespace, pod.name));
        }
        if let Some(note) = &self.note {
            show::say(format_args!("{note}\n"));
        }
        if let Some(facts) = &self.facts {
            report::fact_lines(facts).iter().for_each(|line| show::say(fact(line)));
            show::say("");
        }
        for why in &self.unknown {
            show::say(format_args!("not known: {why}"));
        }
        if self.findings.is_empty() {
            report::finding_lines(&[]).iter().for_each(show::say);
        }
        for (n, finding) in self.findings.iter().enumerate() {
            if n > 0 {
                show::say("");
            }
            self::finding(finding).iter().for_each(show::say);
        }
    }
}

/// A line of facts: its name is faint.
fn fact(line: &str) -> String {
    match line.split_once(' ') {
        Some((name, rest)) => format!("{} {rest}", paint(name, Colour::Faint)),
        None => line.to_owned(),
    }
}

/// The lines of a finding: the first in the colour of what it means.
fn finding(finding: &Finding) -> Vec<String> {
    let colour = match finding.severity {
        Severity::StopsPods => Colour::Bad,
        Severity::Degrades => Colour::Busy,
        Severity::Note => Colour::Faint,
    };
    let mut lines = report::finding_lines(std::slice::from_ref(finding));
    if let Some(first) = lines.first_mut() {
        *first = paint(first, colour);
    }
    lines
}

/// What a text of ours about `subject` says.
fn hear(text: &str, subject: &str) -> Vec<Finding> {
    diagnose_text(&Heard {
        text,
        subject,
        ..Heard::default()
    })
}
