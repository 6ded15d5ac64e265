//! Places, warnings and errors.

use crate::path::Path;
use crate::yaml::Mark;
use crate::{Decoded, MAX_ERRORS, MAX_WARNINGS, Object, Purpose};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Name of the text, as the caller gave it.
    pub source: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// Something that was read, but that its author should know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub place: Place,
    /// One sentence, with the object it is about.
    pub text: String,
    /// The object in today's form as YAML, where it was written in an old one.
    pub today: Option<String>,
}

impl fmt::Display for Warning {
    /// `place: text`, and today's form in indented lines below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)?;
        for line in self.today.iter().flat_map(|t| t.lines()) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// Why a text was refused: one sentence with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {}{problem}", Prefix(.subject))]
pub struct Error {
    /// Where.
    pub place: Place,
    /// The object, for example `Pod "web"`; empty where it is not known.
    pub subject: String,
    /// What is wrong.
    pub problem: Problem,
}

impl Error {
    pub(crate) fn too_long(source: &Arc<str>, size: usize) -> Self {
        let place = Place {
            source: source.clone(),
            line: 1,
            column: 1,
        };
        Self {
            place,
            subject: String::new(),
            problem: Problem::TooLong { size },
        }
    }
}

struct Prefix<'a>(&'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// What is wrong at a place. Values are shown only where they cannot be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is longer than is read.
    #[error("the text has {size} bytes, but at most {limit} are read; split it into several files", limit = crate::MAX_TEXT)]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// Lists and mappings are nested too deeply.
    #[error("lists and mappings are nested more than {limit} deep; flatten them", limit = crate::MAX_DEPTH)]
    TooDeep,
    /// The text holds too much, most often by aliases of aliases.
    #[error(
        "the text holds more than {nodes} values or {bytes} bytes once its aliases are followed; split it",
        nodes = crate::MAX_NODES, bytes = crate::MAX_BYTES
    )]
    TooMuch,
    /// Not YAML.
    #[error("this is not valid YAML: {0}")]
    Syntax(String),
    /// A line was lost above this one, as web pages that lose markup do.
    #[error(
        "this line is indented below {above:?}, which already has a value; a line between them (such as `metadata:`) seems to be lost, or the indentation is wrong"
    )]
    LostLine {
        /// The line above.
        above: String,
    },
    /// The children of a field stand beside it.
    #[error("the indentation seems to be lost: `{field}:` is empty and `{child}` stands beside it; indent what belongs to `{field}`")]
    LostIndentation {
        /// Path of the empty field.
        field: String,
        /// The field that belongs into it.
        child: String,
    },
    /// A key stands twice in one mapping.
    #[error("the key {key} stands twice, first in line {line}; remove one")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line of the first.
        line: usize,
    },
    /// A key that YAML 1.1 does not read as the text that it shows.
    #[error("the key {key} is read as {kind} in YAML, not as text; put it in quotes")]
    KeyNotText {
        /// The key as written.
        key: String,
        /// What YAML reads.
        kind: &'static str,
    },
    /// YAML that no manifest needs.
    #[error("{what} cannot be used in a manifest; write the value out")]
    YamlFeature {
        /// What was used.
        what: String,
    },
    /// A document that is no object.
    #[error("a manifest must be a mapping with apiVersion and kind, but is {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A field has the wrong type.
    #[error("{path} must be {expected}, but is {found}")]
    WrongType {
        /// The field.
        path: String,
        /// What it must be.
        expected: &'static str,
        /// What it is, with what to do.
        found: &'static str,
    },
    /// A required field is absent.
    #[error("{path} is missing; add it")]
    Missing {
        /// The field.
        path: String,
    },
    /// A value breaks a rule.
    #[error("{path} {rule}")]
    Invalid {
        /// The field.
        path: String,
        /// The rule and what to do, beginning with a verb.
        rule: String,
    },
    /// Not one of the values that a field can have.
    #[error("{path} is {value}, but must be one of {allowed}{}", Near(.near))]
    NotOneOf {
        /// The field.
        path: String,
        /// Its value.
        value: String,
        /// The values.
        allowed: String,
        /// The one that was meant, perhaps.
        near: Option<String>,
    },
    /// Kubernetes has no such field.
    #[error("unknown field {path}{}", NearOrRemove(.near))]
    UnknownField {
        /// The field.
        path: String,
        /// The one that was meant, perhaps.
        near: Option<String>,
    },
    /// Kubernetes has this, Cofferdam not yet.
    #[error("{path} is not supported yet; remove it, or {instead}")]
    NotYet {
        /// The field, with its value where that decides.
        path: String,
        /// What else can be done.
        instead: &'static str,
    },
    /// Kubernetes has this, and it means nothing on one machine.
    #[error("{path} is not supported: {why}")]
    NotHere {
        /// The field.
        path: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A kind that Cofferdam does not read yet.
    #[error("kind {kind} ({api_version}) is not supported yet; remove this document, or keep it for a cluster")]
    KindNotYet {
        /// Its kind.
        kind: String,
        /// Its apiVersion.
        api_version: String,
    },
    /// A misspelt kind.
    #[error("unknown kind {kind}; did you mean {near}?")]
    UnknownKind {
        /// As written.
        kind: String,
        /// The one that was meant, perhaps.
        near: &'static str,
    },
    /// A kind under an apiVersion that never had it, or no longer has.
    #[error("kind {kind} has no apiVersion {found}; write `apiVersion: {today}`")]
    WrongVersion {
        /// The kind.
        kind: &'static str,
        /// As written.
        found: String,
        /// Today's.
        today: &'static str,
    },
    /// No apiVersion.
    #[error("apiVersion is missing; write `apiVersion: {today}`")]
    NoVersion {
        /// The one that the kind has today.
        today: &'static str,
    },
    /// The same object stands earlier in the text.
    #[error("the same object stands already in line {line}; remove one or rename it")]
    Twin {
        /// Line of the first.
        line: usize,
    },
}

struct Near<'a>(&'a Option<String>);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |near| write!(f, "; did you mean {near}?"))
    }
}

struct NearOrRemove<'a>(&'a Option<String>);

impl fmt::Display for NearOrRemove<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_none() {
            f.write_str("; remove it")
        } else {
            Near(self.0).fmt(f)
        }
    }
}

/// Gathers what is found in one text.
pub(crate) struct Log {
    source: Arc<str>,
    purpose: Purpose,
    /// What is not looked at and has been told, without the indexes in it.
    passed_over: BTreeSet<String>,
    subject: String,
    errors: Vec<Error>,
    warnings: Vec<Warning>,
}

impl Log {
    pub(crate) fn new(source: Arc<str>, purpose: Purpose) -> Self {
        Self {
            source,
            purpose,
            passed_over: BTreeSet::new(),
            subject: String::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Sets the object that what follows is about; gives the one before.
    pub(crate) fn about(&mut self, subject: String) -> String {
        std::mem::replace(&mut self.subject, subject)
    }

    pub(crate) fn place(&self, mark: Mark) -> Place {
        mark.place(&self.source)
    }

    pub(crate) fn error(&mut self, mark: Mark, problem: Problem) {
        self.error_at(self.place(mark), self.subject.clone(), problem);
    }

    pub(crate) fn error_at(&mut self, place: Place, subject: String, problem: Problem) {
        if !self.is_full() {
            self.errors.push(Error { place, subject, problem });
        }
    }

    /// An error about a rule that the value at `path` breaks.
    pub(crate) fn invalid(&mut self, mark: Mark, path: &Path, rule: impl Into<String>) {
        self.error(
            mark,
            Problem::Invalid {
                path: path.to_string(),
                rule: rule.into(),
            },
        );
    }

    /// `text` begins with the field or what else it is about.
    pub(crate) fn warn(&mut self, mark: Mark, text: &str, today: Option<String>) {
        if self.warnings.len() > MAX_WARNINGS {
            return;
        }
        let last = self.warnings.len() == MAX_WARNINGS;
        let text = if last {
            "there are more warnings, which are not shown".to_owned()
        } else {
            format!("{}{text}", Prefix(&self.subject))
        };
        self.warnings.push(Warning {
            place: self.place(mark),
            text,
            today: today.filter(|_| !last),
        });
    }

    /// What Kubernetes honours and Cofferdam does not yet, by its path or name: refused in a run.
    /// Where nothing is run it is passed over, and told where it stands first.
    pub(crate) fn not_yet(&mut self, mark: Mark, what: String, problem: impl FnOnce(String) -> Problem) {
        match self.purpose {
            Purpose::Run => self.error(mark, problem(what)),
            Purpose::Check => {
                let everywhere = what.split(['[', ']']).filter(|part| part.parse::<usize>().is_err()).collect();
                if self.passed_over.insert(everywhere) {
                    self.warn(
                        mark,
                        &format!("{what} is not looked at, here and wherever else it stands; a run refuses it"),
                        None,
                    );
                }
            }
        }
    }

    /// Whether fields that say where a pod is placed are honoured.
    pub(crate) fn is_placing(&self) -> bool {
        self.purpose == Purpose::Check
    }

    /// Whether no more errors are told, so that none need be looked for at any cost.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// How many errors there are by now; a mark for [`Log::narrow`].
    pub(crate) fn count(&self) -> usize {
        self.errors.len()
    }

    /// Lost indentation explains all the other errors of its object: keeps only that one.
    pub(crate) fn narrow(&mut self, since: usize) {
        let lost = |e: &Error| matches!(e.problem, Problem::LostIndentation { .. });
        if let Some(first) = self.errors[since.min(self.errors.len())..].iter().find(|e| lost(e)).cloned() {
            self.errors.truncate(since);
            self.errors.push(first);
        }
    }

    /// An error that ends the text: told however many there are.
    pub(crate) fn add(&mut self, error: Error) {
        self.errors.push(error);
    }

    pub(crate) fn finish(mut self, objects: Vec<Object>) -> (Decoded, Vec<Error>) {
        self.errors.sort_by_key(|e| (e.place.line, e.place.column));
        self.warnings.sort_by_key(|w| (w.place.line, w.place.column));
        let decoded = Decoded {
            objects,
            warnings: self.warnings,
        };
        (decoded, self.errors)
    }
}
