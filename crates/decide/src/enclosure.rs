//! What each kind of enclosure cannot do. One table ([`features()`]) is behind the refusals of a run and
//! of a check, behind the documentation, and behind the tests that try every row under every handler.
//!
//! A field that an enclosure would ignore is refused before anything starts: nobody gets less than was
//! asked for without being told.

mod containers;
mod find;
mod machine;
mod security;
mod volumes;

use crate::{Denied, Reason};
use cofferdam_model::pod::Pod;
use serde::Serialize;

/// A kind of enclosure. Which kind a handler makes is the caller's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enclosure {
    /// Namespaces and control groups of the machine's own kernel: runc, crun, youki.
    SharedKernel,
    /// gVisor's kernel in user space.
    Gvisor,
    /// A virtual machine with a kernel of its own.
    Vm,
}

impl Enclosure {
    /// All kinds, the order of columns.
    pub const ALL: [Self; 3] = [Self::SharedKernel, Self::Gvisor, Self::Vm];
}

/// What becomes of a feature in an enclosure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is honoured.
    Works,
    /// A pod that asks for it does not start: why, and what to do, in one sentence.
    Refused(&'static str),
}

/// Something that a pod can ask for.
#[derive(Debug, Clone, Copy)]
pub struct Feature {
    /// Name, of letters, digits and `-`; unique.
    pub name: &'static str,
    /// What it is, for a table.
    pub description: &'static str,
    /// What the machine must have for it beside the handler; `None` where nothing.
    pub needs: Option<&'static str>,
    /// A pod that asks for it, and ends with 0 only where it is honoured.
    pub example: Example,
    shared_kernel: Verdict,
    gvisor: Verdict,
    vm: Verdict,
    find: fn(&Pod) -> Vec<String>,
}

/// The parts of a pod that asks for one feature; [`Feature::manifest`] puts them together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Example {
    /// Lines of `metadata`.
    pub metadata: &'static str,
    /// Lines of `spec`, without `containers`.
    pub spec: &'static str,
    /// Lines of the only container, without its name, image and command.
    pub container: &'static str,
    /// What its shell runs.
    pub script: &'static str,
}

/// Something that a pod asks for and its enclosure cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Name of the feature.
    pub feature: &'static str,
    /// Path of the field, `spec.hostPID`.
    pub field: String,
    /// Why, and what to do.
    pub sentence: String,
}

impl std::fmt::Display for Refusal {
    /// `field: sentence`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.sentence)
    }
}

/// Objects that the examples name, as a manifest.
pub const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {key: hunter2}
";

/// Image that the examples name; any with a shell and busybox' commands will do in its place.
pub const IMAGE: &str = "busybox";

/// Everything that a pod can ask for, in the order of the documentation.
pub fn features() -> impl Iterator<Item = &'static Feature> {
    [containers::FEATURES, volumes::FEATURES, machine::FEATURES, security::FEATURES]
        .into_iter()
        .flatten()
}

/// What `pod` asks for and `enclosure` cannot do, in the table's order; nothing where it may start.
pub fn refusals(pod: &Pod, enclosure: Enclosure) -> Vec<Refusal> {
    let of = |feature: &'static Feature| {
        let Verdict::Refused(sentence) = feature.verdict(enclosure) else {
            return Vec::new();
        };
        let refusal = |field: String| Refusal {
            feature: feature.name,
            field,
            sentence: sentence.to_string(),
        };
        feature.asked_for(pod).into_iter().map(refusal).collect()
    };
    features().flat_map(of).collect()
}

/// Admits a pod to an enclosure.
///
/// # Errors
/// [`Denied::Forbidden`] with each of [`refusals`], at its field.
pub fn admit(pod: &Pod, enclosure: Enclosure) -> Result<(), Denied> {
    let refusals = refusals(pod, enclosure);
    if refusals.is_empty() {
        return Ok(());
    }
    let reasons = refusals.into_iter().map(|r| Reason {
        field: r.field,
        text: r.sentence,
    });
    Err(Denied::pod(pod, reasons.collect()))
}

impl Feature {
    /// What becomes of it in an enclosure.
    pub fn verdict(&self, enclosure: Enclosure) -> Verdict {
        match enclosure {
            Enclosure::SharedKernel => self.shared_kernel,
            Enclosure::Gvisor => self.gvisor,
            Enclosure::Vm => self.vm,
        }
    }

    /// The fields by which a pod asks for it. What is asked for of a running pod only (a change of
    /// resources, an ephemeral container) has none.
    pub fn asked_for(&self, pod: &Pod) -> Vec<String> {
        (self.find)(pod)
    }

    /// A pod, in YAML, that asks for this and ends with 0 only where it is honoured. It needs [`OBJECTS`]
    /// beside it, and [`IMAGE`].
    pub fn manifest(&self) -> String {
        let lines = |text: &str, by: usize| {
            let indented = text.lines().map(|l| format!("{}{l}\n", " ".repeat(by)));
            indented.collect::<String>()
        };
        let Example {
            metadata,
            spec,
            container,
            script,
        } = self.example;
        let restart = if spec.lines().any(|l| l.starts_with("restartPolicy:")) {
            ""
        } else {
            "  restartPolicy: Never\n"
        };
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n{}spec:\n{restart}{}  containers:\n  - name: main\n    image: {IMAGE}\n{}    command: [sh, -ec]\n    args:\n    - |\n{}",
            self.name,
            lines(metadata, 2),
            lines(spec, 2),
            lines(container, 4),
            lines(script, 6),
        )
    }

    /// A feature that works everywhere; what follows takes it back.
    const fn works(name: &'static str, description: &'static str, find: fn(&Pod) -> Vec<String>) -> Self {
        Self {
            name,
            description,
            needs: None,
            example: Example {
                metadata: "",
                spec: "",
                container: "",
                script: "true",
            },
            shared_kernel: Verdict::Works,
            gvisor: Verdict::Works,
            vm: Verdict::Works,
            find,
        }
    }

    const fn not_in_gvisor(mut self, sentence: &'static str) -> Self {
        self.gvisor = Verdict::Refused(sentence);
        self
    }

    const fn not_in_vm(mut self, sentence: &'static str) -> Self {
        self.vm = Verdict::Refused(sentence);
        self
    }

    const fn needs(mut self, what: &'static str) -> Self {
        self.needs = Some(what);
        self
    }

    const fn metadata(mut self, lines: &'static str) -> Self {
        self.example.metadata = lines;
        self
    }

    const fn spec(mut self, lines: &'static str) -> Self {
        self.example.spec = lines;
        self
    }

    const fn container(mut self, lines: &'static str) -> Self {
        self.example.container = lines;
        self
    }

    const fn script(mut self, script: &'static str) -> Self {
        self.example.script = script;
        self
    }
}

#[cfg(test)]
mod tests;
