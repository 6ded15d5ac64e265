//! What makes two pods alike to the scheduler, and what is made once for all that are.

use super::numbers::Needs;
use super::ports::HostPort;
use super::selector::Labels;
use cofferdam_model::affinity::{Affinity, PodAffinity, TopologySpreadConstraint};
use cofferdam_model::objects::LabelSelector;
use cofferdam_model::pod::Toleration;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// What makes a load.
#[derive(Debug, PartialEq, Hash)]
pub(super) struct LoadView<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a Labels,
    pub(super) needs: &'a Needs,
    pub(super) ports: &'a [HostPort],
    pub(super) priority: i32,
    pub(super) near: Option<&'a PodAffinity>,
    pub(super) far: Option<&'a PodAffinity>,
}

#[derive(Debug)]
pub(super) struct LoadKey {
    namespace: String,
    labels: Labels,
    needs: Needs,
    ports: Vec<HostPort>,
    priority: i32,
    near: Option<PodAffinity>,
    far: Option<PodAffinity>,
}

impl LoadView<'_> {
    pub(super) fn to_key(&self) -> LoadKey {
        LoadKey {
            namespace: self.namespace.to_owned(),
            labels: self.labels.clone(),
            needs: self.needs.clone(),
            ports: self.ports.to_vec(),
            priority: self.priority,
            near: self.near.cloned(),
            far: self.far.cloned(),
        }
    }
}

impl LoadKey {
    pub(super) fn view(&self) -> LoadView<'_> {
        LoadView {
            namespace: &self.namespace,
            labels: &self.labels,
            needs: &self.needs,
            ports: &self.ports,
            priority: self.priority,
            near: self.near.as_ref(),
            far: self.far.as_ref(),
        }
    }
}

/// What makes an ask, beside its load.
#[derive(Debug, PartialEq, Hash)]
pub(super) struct AskView<'a> {
    pub(super) load: u32,
    pub(super) handler: &'a str,
    pub(super) node_name: Option<&'a str>,
    pub(super) selector: &'a BTreeMap<String, String>,
    pub(super) tolerations: &'a [Toleration],
    pub(super) affinity: Option<&'a Affinity>,
    pub(super) spread: &'a [TopologySpreadConstraint],
    pub(super) spread_selector: Option<&'a LabelSelector>,
    pub(super) never_preempts: bool,
}

#[derive(Debug)]
pub(super) struct AskKey {
    load: u32,
    handler: String,
    node_name: Option<String>,
    selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
    affinity: Option<Affinity>,
    spread: Vec<TopologySpreadConstraint>,
    spread_selector: Option<LabelSelector>,
    never_preempts: bool,
}

impl AskView<'_> {
    pub(super) fn to_key(&self) -> AskKey {
        AskKey {
            load: self.load,
            handler: self.handler.to_owned(),
            node_name: self.node_name.map(str::to_owned),
            selector: self.selector.clone(),
            tolerations: self.tolerations.to_vec(),
            affinity: self.affinity.cloned(),
            spread: self.spread.to_vec(),
            spread_selector: self.spread_selector.cloned(),
            never_preempts: self.never_preempts,
        }
    }
}

impl AskKey {
    pub(super) fn view(&self) -> AskView<'_> {
        AskView {
            load: self.load,
            handler: &self.handler,
            node_name: self.node_name.as_deref(),
            selector: &self.selector,
            tolerations: &self.tolerations,
            affinity: self.affinity.as_ref(),
            spread: &self.spread,
            spread_selector: self.spread_selector.as_ref(),
            never_preempts: self.never_preempts,
        }
    }
}

/// Things that are made once for each key, found by a borrowed view of it.
#[derive(Debug)]
pub(super) struct Once<K, T> {
    hasher: RandomState,
    by_hash: HashMap<u64, Vec<u32>>,
    all: Vec<(K, Arc<T>)>,
}

impl<K, T> Once<K, T> {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            by_hash: HashMap::new(),
            all: Vec::new(),
        }
    }

    /// What a view is found by.
    pub(super) fn hash(&self, view: &impl Hash) -> u64 {
        self.hasher.hash_one(view)
    }

    pub(super) fn find(&self, hash: u64, is: impl Fn(&K) -> bool) -> Option<u32> {
        self.by_hash.get(&hash)?.iter().copied().find(|id| is(&self.all[*id as usize].0))
    }

    pub(super) fn get(&self, id: u32) -> Arc<T> {
        self.all[id as usize].1.clone()
    }

    pub(super) fn add(&mut self, hash: u64, key: K, made: T) -> u32 {
        let id = self.all.len() as u32;
        self.all.push((key, Arc::new(made)));
        self.by_hash.entry(hash).or_default().push(id);
        id
    }
}
