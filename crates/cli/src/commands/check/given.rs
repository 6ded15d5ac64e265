//! The cluster that pods are placed on: from files as kubectl prints them, or from its API.

use super::CheckArgs;
use crate::world;
use anyhow::{Context, Result, bail};
use cofferdam_cluster::{Cluster as Api, Error, Listing};
use cofferdam_decide::check::Namespaces;
use cofferdam_decide::defaults;
use cofferdam_manifest::cluster::{self, Cluster};
use cofferdam_model::objects::RuntimeClass;
use cofferdam_model::pod::Pod;
use std::path::PathBuf;

/// What is known of a cluster.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) cluster: Cluster,
    /// Whether all its namespaces are known.
    pub(super) namespaces: Namespaces,
    /// Where pods go that name no namespace, where a kubeconfig says so.
    pub(super) default_namespace: Option<String>,
    /// Whether it comes from an API, whose quotas all have a status.
    pub(super) is_live: bool,
    /// What could not be asked for.
    pub(super) notes: Vec<String>,
}

impl Given {
    /// The cluster of the command line; `None` where it names none.
    pub(super) fn read(args: &CheckArgs) -> Result<Option<Self>> {
        if !args.nodes.is_empty() {
            return from_files(&args.nodes).map(Some);
        }
        if args.kubeconfig.is_some() || args.context.is_some() {
            let api = Api::open(args.kubeconfig.as_deref(), args.context.as_deref())?;
            return from_api(&api).map(Some);
        }
        Ok(None)
    }
}

fn from_files(paths: &[PathBuf]) -> Result<Given> {
    let mut all = Cluster::default();
    for path in paths {
        let text = world::text(path, cluster::MAX_TEXT)?;
        all.extend(cluster::decode(&path.display().to_string(), &text)?);
    }
    if all.nodes.is_empty() {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        bail!(
            "{} has no Node in it; print the nodes with kubectl get nodes -o json",
            names.join(", ")
        );
    }
    let classes = std::mem::take(&mut all.classes);
    all.pods.iter_mut().for_each(|pod| complete(&mut pod.pod, &classes));
    all.classes = classes;
    Ok(Given {
        namespaces: if all.namespaces.is_empty() {
            Namespaces::Implicit
        } else {
            Namespaces::Listed
        },
        cluster: all,
        default_namespace: None,
        is_live: false,
        notes: Vec::new(),
    })
}

/// Fills in what a pod that somebody wrote leaves to the API server, and one of a cluster has already.
fn complete(pod: &mut Pod, classes: &[RuntimeClass]) {
    defaults::apply(pod);
    if let (None, Some(name)) = (&pod.spec.overhead, &pod.spec.runtime_class_name) {
        let class = classes.iter().find(|c| c.metadata.name == *name);
        pod.spec.overhead = class.and_then(|c| c.overhead.as_ref()?.pod_fixed.clone());
    }
}

/// Nodes, pods and classes must be known. What a user may not list beside them is told.
fn from_api(api: &Api) -> Result<Given> {
    let mut all = Cluster::default();
    for (listing, kind) in [
        (Listing::Nodes, "Node"),
        (Listing::Pods { namespace: None }, "Pod"),
        (Listing::RuntimeClasses, "RuntimeClass"),
    ] {
        list(api, &listing, kind, &mut all)??;
    }
    let mut notes = Vec::new();
    let mut known = |listing: Listing<'_>, kind: &str, without: &str, all: &mut Cluster| -> Result<bool> {
        match list(api, &listing, kind, all)? {
            Ok(()) => Ok(true),
            Err(refused @ Error::Forbidden { .. }) => {
                notes.push(format!("{refused}; {without}"));
                Ok(false)
            }
            Err(other) => Err(other.into()),
        }
    };
    let listed = known(Listing::Namespaces, "Namespace", "no pod is refused for its namespace", &mut all)?;
    let ranges = Listing::LimitRanges { namespace: None };
    known(ranges, "LimitRange", "only the limit ranges of the manifests count", &mut all)?;
    let quotas = Listing::ResourceQuotas { namespace: None };
    known(quotas, "ResourceQuota", "only the quotas of the manifests count", &mut all)?;
    Ok(Given {
        cluster: all,
        namespaces: if listed { Namespaces::Listed } else { Namespaces::Implicit },
        default_namespace: Some(api.default_namespace().to_owned()),
        is_live: true,
        notes,
    })
}

/// Decodes each object as it comes: as JSON they would take several times as much memory. The outer
/// error is of what the API gave, the inner one the API's own.
fn list(api: &Api, listing: &Listing<'_>, kind: &str, all: &mut Cluster) -> Result<std::result::Result<(), Error>> {
    let mut wrong = None;
    let listed = api.each(listing, |object| {
        if wrong.is_none() {
            match cluster::from_values(api.server(), kind, vec![object]) {
                Ok(one) => all.extend(one),
                Err(error) => wrong = Some(error),
            }
        }
    });
    match wrong {
        Some(error) => Err(error).context("the cluster gave something that cannot be read"),
        None => Ok(listed),
    }
}
