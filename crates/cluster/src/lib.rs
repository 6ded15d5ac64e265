//! The one place that talks to a Kubernetes API as a client.
//!
//! Callers block: a [`Cluster`] keeps a private, single-threaded runtime inside. What the API holds
//! comes back as JSON, as the API server gave it (but for two things, see [`Cluster::each`]); decoding
//! it to the model is the manifest crate's. Every request has a time limit, every list a size limit.
//!
//! - `config`: a kubeconfig, a context or a pod's service account becomes a client
//! - `listing`: what can be listed, and where the API has it
//! - `fetch`: one bounded request
//! - `page`: one page of a list

mod config;
mod error;
mod fetch;
mod listing;
mod page;

pub use error::Error;
pub use listing::Listing;

use std::path::Path;
use std::time::Duration;

use fetch::{Answer, Asked};
use serde_json::Value;
use tokio::runtime::Runtime;

/// Objects asked for at once; kubectl's own figure.
pub const PAGE: u32 = 500;
/// Most pages of one list: two million objects, more than twice what a cluster of the greatest supported size has.
pub const MAX_PAGES: u32 = 4000;

/// How long and how big an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest time of one request, its body read.
    pub request: Duration,
    /// Greatest size of one list, bytes of JSON over all its pages, and of one object.
    pub list_bytes: u64,
}

impl Default for Limits {
    /// Ten seconds and 512 MiB: 5,000 nodes are about 100 MiB, 10,000 pods about 120 MiB.
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            list_bytes: 512 * 1024 * 1024,
        }
    }
}

/// A Kubernetes cluster, seen through its API server.
///
/// The functions block, and must not be called from within an asynchronous runtime.
pub struct Cluster {
    client: kube::Client,
    asked: Asked,
    /// Always there; taken only when the cluster is dropped.
    runtime: Option<Runtime>,
}

impl Cluster {
    /// The cluster of `context` (else of the current context) in `kubeconfig`.
    ///
    /// With no `kubeconfig`, `$KUBECONFIG` and `~/.kube/config` are read as kubectl reads them; where
    /// there is none and this runs in a pod, the pod's service account is used. Tokens, token files,
    /// client certificates and credential plugins (`exec`) work as in kubectl; a plugin is run here, and
    /// has no time limit, because it may ask the user. No connection is made yet.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`], [`Error::NoKubeconfig`] and [`Error::Credentials`].
    pub fn open(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        Self::open_within(kubeconfig, context, Limits::default())
    }

    /// As [`Cluster::open`], within limits other than the usual ones.
    ///
    /// # Errors
    /// Those of [`Cluster::open`].
    pub fn open_within(kubeconfig: Option<&Path>, context: Option<&str>, limits: Limits) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let (client, server) = runtime.block_on(config::client(kubeconfig, context, limits.request))?;
        Ok(Self {
            client,
            asked: Asked { server, limits },
            runtime: Some(runtime),
        })
    }

    /// The API server's address, as the kubeconfig has it.
    pub fn server(&self) -> &str {
        &self.asked.server
    }

    /// The namespace of the context, `default` where it names none.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Every node.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn nodes(&self) -> Result<Vec<Value>, Error> {
        self.list(&Listing::Nodes)
    }

    /// The pods of `namespace`, or of all.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn pods(&self, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
        self.list(&Listing::Pods { namespace })
    }

    /// Every runtime class.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn runtime_classes(&self) -> Result<Vec<Value>, Error> {
        self.list(&Listing::RuntimeClasses)
    }

    /// Every namespace.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn namespaces(&self) -> Result<Vec<Value>, Error> {
        self.list(&Listing::Namespaces)
    }

    /// The limit ranges of `namespace`, or of all.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn limit_ranges(&self, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
        self.list(&Listing::LimitRanges { namespace })
    }

    /// The resource quotas of `namespace`, or of all.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn resource_quotas(&self, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
        self.list(&Listing::ResourceQuotas { namespace })
    }

    /// The events (core/v1) about the pods that have or had this name. An older pod of the same name is
    /// told apart by `involvedObject.uid`.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn events_of(&self, namespace: &str, pod: &str) -> Result<Vec<Value>, Error> {
        self.list(&Listing::EventsOf { namespace, pod })
    }

    /// One pod.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, and those of [`Cluster::each`].
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Value, Error> {
        let (path, what) = listing::pod(namespace, name)?;
        let limit = self.asked.limits.list_bytes;
        let answer = self.get(&path, &what, limit)?;
        page::object(&answer.body, "Pod").map_err(|why| self.asked.garbled(&what, why))
    }

    /// All that is listed, at once in memory.
    ///
    /// # Errors
    /// Those of [`Cluster::each`].
    pub fn list(&self, listing: &Listing<'_>) -> Result<Vec<Value>, Error> {
        let mut objects = Vec::new();
        self.each(listing, |object| objects.push(object))?;
        Ok(objects)
    }

    /// Hands over all that is listed, one after another, with a page of [`PAGE`] objects in memory at most.
    ///
    /// Each has `apiVersion` and `kind`, which a list leaves out of its items, and no
    /// `metadata.managedFields`, which are half of an object and say only who wrote the other half.
    ///
    /// # Errors
    /// All but those of [`Cluster::open`]. What was handed over before an error is not the whole list.
    pub fn each(&self, listing: &Listing<'_>, mut take: impl FnMut(Value)) -> Result<(), Error> {
        let what = listing.what();
        let mut left = self.asked.limits.list_bytes;
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let answer = self.get(&listing.path(token.as_deref())?, &what, left)?;
            left = left.saturating_sub(answer.body.len() as u64);
            let page = page::read(&answer.body, listing).map_err(|why| self.asked.garbled(&what, why))?;
            page.items.into_iter().for_each(&mut take);
            match page.next {
                None => return Ok(()),
                Some(next) if token.as_ref() == Some(&next) => {
                    return Err(self.asked.garbled(&what, "it gave the same page twice".to_owned()));
                }
                next => token = next,
            }
        }
        Err(self.asked.garbled(&what, format!("the list has no end after {MAX_PAGES} pages")))
    }

    fn get(&self, path: &str, what: &str, max_bytes: u64) -> Result<Answer, Error> {
        let request = fetch::get(&self.client, &self.asked, path, what, max_bytes);
        match &self.runtime {
            Some(runtime) => runtime.block_on(request),
            None => Err(Error::Runtime(std::io::Error::other("it has ended"))),
        }
    }
}

impl Drop for Cluster {
    /// Does not wait for a name that is still being looked up.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
