//! Each pod admitted and placed, one after another, in the order of the manifests.

use super::input::{File, Input, count, key, name_of};
use super::near::Near;
use super::place::{Landing, Placer};
use super::progress::Progress;
use super::report::{Explained, Finding, Kind, One, Outcome, Row, Spot};
use anyhow::{Result, bail};
use cofferdam_decide::chain::World;
use cofferdam_decide::check::{Namespaces, PodReport, report};
use cofferdam_decide::quota::Used;
use cofferdam_manifest::{Object, ObjectKind, Places, nearest, pods_of};
use crate::enclosure;
use cofferdam_decide::enclosure::admit;
use cofferdam_handlers::HandlerTable;
use cofferdam_model::HandlerName;
use cofferdam_model::pod::Pod;
use std::iter;

/// How pods are judged.
pub(super) struct Judge<'a> {
    pub(super) input: &'a Input,
    pub(super) namespaces: Namespaces,
    pub(super) used: Used,
    pub(super) untrusted: Option<&'a str>,
    /// The handlers of this machine, where the pods are to run on it.
    pub(super) handlers: Option<&'a HandlerTable>,
    /// The nodes, where there are any.
    pub(super) placer: Option<Placer>,
    /// The pod to explain.
    pub(super) explain: Option<&'a str>,
    pub(super) progress: &'a Progress,
}

/// What came out.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) rows: Vec<Row>,
    pub(super) explained: Option<Explained>,
    pub(super) notes: Vec<String>,
}

impl Judge<'_> {
    /// Judges every pod.
    pub(super) fn all(&mut self) -> Result<Judged> {
        let input = self.input;
        let world = World {
            classes: &input.classes,
            namespaces: &input.namespaces,
            limit_ranges: &input.limit_ranges,
            quotas: &input.quotas,
            untrusted_handler: self.untrusted,
        };
        let mut near = Near::new(input);
        let mut places: Vec<Places<'_>> = input.files.iter().map(|f| Places::new(&f.text)).collect();
        let origins = origins(&input.files);
        let all = input.files.iter().flat_map(|f| &f.objects).flat_map(pods);
        let reports = report(all, world, self.namespaces, std::mem::take(&mut self.used));
        let mut judged = Judged::default();
        for (number, (origin, mut report)) in origins.zip(reports).enumerate() {
            if number % 64 == 0 {
                self.progress.about(|| format!("{number} pods checked"));
            }
            if report.denial.is_none()
                && let Some(kind) = self.handlers.and_then(|table| enclosure::of(table, report.handler.as_ref().map_or("", HandlerName::as_str)))
            {
                report.denial = admit(&report.pod, kind).err();
            }
            let object = &input.files[origin.0].objects[origin.1];
            let mut at = |field: &str| Spot::from(places[origin.0].of_pod(object, field));
            let errors = errors(&report, &mut at, &mut near);
            let mut warnings: Vec<Finding> = report.warnings.iter().map(|w| finding(&mut at, &w.field, &w.text)).collect();
            let mut landing = self.land(&report, object, &mut judged)?;
            warnings.extend(landing.warnings.drain(..).map(|(field, text)| finding(&mut at, field, &text)));
            let (kind, one) = split(report, object, landing, self.placer.is_some(), errors);
            push(&mut judged.rows, origin, kind, one, warnings);
        }
        if let Some(wanted) = self.explain.filter(|_| judged.explained.is_none()) {
            judged.notes.push(self.unexplained(wanted, &judged.rows)?);
        }
        Ok(judged)
    }

    /// Places a pod, where it is admitted and there are nodes; explained before, where that was asked for.
    fn land(&mut self, report: &PodReport, object: &Object, judged: &mut Judged) -> Result<Landing> {
        let Some(placer) = self.placer.as_mut().filter(|_| report.denial.is_none()) else {
            return Ok(Landing::default());
        };
        let handler = report.handler.as_ref().map_or("", HandlerName::as_str);
        let selector = match &object.kind {
            ObjectKind::Deployment(deployment) => deployment.spec.selector.as_ref(),
            _ => None,
        };
        let replaced = placer.make_room(&report.pod);
        let name = name_of(&report.pod.metadata);
        if judged.explained.is_none() && self.explain.is_some_and(|wanted| is_meant(wanted, object, &name)) {
            judged.explained = Some(placer.explain(&report.pod, name, handler, selector));
        }
        let mut landing = placer.land(&report.pod, handler, selector)?;
        if let Some(node) = replaced {
            let text = format!("the cluster has a pod of this name already, on node {node:?}; this one is taken to replace it");
            landing.warnings.insert(0, ("metadata.name", text));
        }
        Ok(landing)
    }

    /// Why there is nothing to explain of a pod that was asked about.
    fn unexplained(&self, wanted: &str, rows: &[Row]) -> Result<String> {
        let mut objects = self.input.files.iter().flat_map(|f| &f.objects).filter(|o| count(&o.kind) > 0);
        let refused = rows.iter().any(|row| {
            let object = &self.input.files[row.origin.0].objects[row.origin.1];
            row.pods.iter().any(|pod| is_meant(wanted, object, &pod.name))
        });
        if refused {
            return Ok(format!("--explain {wanted}: the pod is not admitted, so that no node is asked"));
        }
        let name = wanted.split_once('/').map_or(wanted, |(_, name)| name);
        let near = nearest(name, objects.by_ref().map(|o| o.kind.metadata().name.as_str()));
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        bail!("--explain {wanted}: there is no such pod in the manifests{near}")
    }
}

/// Where each pod is from: the text, and the object in it.
fn origins(files: &[File]) -> impl Iterator<Item = (usize, usize)> {
    files.iter().enumerate().flat_map(|(file, f)| {
        let of_object = move |(at, object): (usize, &Object)| iter::repeat_n((file, at), count(&object.kind));
        f.objects.iter().enumerate().flat_map(of_object)
    })
}

/// The pods of an object, as many as [`count`] says.
fn pods(object: &Object) -> Vec<Pod> {
    match &object.kind {
        ObjectKind::Pod(pod) => vec![(**pod).clone()],
        ObjectKind::Deployment(deployment) => pods_of(deployment),
        _ => Vec::new(),
    }
}

fn finding(at: &mut impl FnMut(&str) -> Spot, field: &str, text: &str) -> Finding {
    Finding {
        spot: at(field),
        field: Some(field.to_owned()),
        message: text.to_owned(),
        hint: None,
    }
}

fn errors(report: &PodReport, at: &mut impl FnMut(&str) -> Spot, near: &mut Near<'_>) -> Vec<Finding> {
    let causes = report.denial.iter().flat_map(cofferdam_decide::Denied::causes);
    causes
        .map(|cause| Finding {
            hint: near.hint(&cause.text),
            ..finding(at, &cause.field, &cause.text)
        })
        .collect()
}

/// Whether a pod is the one that was asked about, by its name or its Deployment's, which means its
/// first.
fn is_meant(wanted: &str, object: &Object, pod: &str) -> bool {
    let meta = object.kind.metadata();
    let name = match wanted.split_once('/') {
        Some((namespace, _)) if namespace != meta.namespace_or_default() => return false,
        Some((_, name)) => name,
        None => wanted,
    };
    name == pod || name == meta.name
}

/// What a pod shares with its like, and what is its own.
fn split(report: PodReport, object: &Object, landing: Landing, has_nodes: bool, errors: Vec<Finding>) -> (Kind, One) {
    let result = match (&report.denial, has_nodes) {
        (Some(_), _) => Outcome::Refused,
        (None, false) => Outcome::Admitted,
        (None, true) if landing.gated => Outcome::Gated,
        (None, true) if landing.node.is_some() => Outcome::Placed,
        (None, true) => Outcome::NoNode,
    };
    let (namespace, _) = key(&report.pod.metadata);
    let one = One {
        name: name_of(&report.pod.metadata),
        node: landing.node,
        score: landing.score,
        denial: report.denial.as_ref().map(ToString::to_string),
        quotas: report.quotas,
    };
    let spec = report.pod.spec;
    let kind = Kind {
        namespace,
        owner: matches!(object.kind, ObjectKind::Deployment(_)).then(|| format!("Deployment/{}", object.kind.metadata().name)),
        spot: object.place.clone().into(),
        result,
        message: landing.message,
        hint: landing.hint,
        preempts: landing.preempts,
        class: report.class,
        handler: report.handler.map(|h| h.to_string()),
        overhead: spec.overhead.unwrap_or_default(),
        node_selector: spec.node_selector,
        tolerations: spec.tolerations,
        qos: report.qos,
        requests: report.requests,
        limits: report.limits,
        errors,
    };
    (kind, one)
}

/// Adds a pod to the row of its like, where its Deployment has one.
fn push(rows: &mut Vec<Row>, origin: (usize, usize), kind: Kind, one: One, warnings: Vec<Finding>) {
    let mut siblings = rows.iter_mut().rev().take_while(|row| row.origin == origin);
    match siblings.find(|row| row.kind == kind) {
        Some(row) => {
            row.pods.push(one);
            let new = warnings.into_iter().filter(|w| !row.warnings.contains(w)).collect::<Vec<_>>();
            row.warnings.extend(new);
        }
        None => rows.push(Row {
            origin,
            kind,
            warnings,
            pods: vec![one],
        }),
    }
}
