//! How much of each quota is used.

use super::{matches, usage};
use crate::resources::add;
use cofferdam_model::objects::ResourceQuota;
use cofferdam_model::pod::Pod;
use cofferdam_model::{Quantity, ResourceList};
use std::collections::{BTreeMap, BTreeSet};

/// Namespace and name of a quota.
type Key = (String, String);

/// How much of each quota is used, by namespace and name. Of a quota that nothing was said about,
/// nothing is used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Used {
    amounts: BTreeMap<Key, ResourceList>,
    /// The quotas whose usage a cluster stated.
    stated: BTreeSet<Key>,
}

impl Used {
    /// The usage of these pods. Leave out those that have ended: they hold nothing.
    pub fn of(quotas: &[ResourceQuota], pods: &[Pod]) -> Self {
        let mut used = Self::default();
        for pod in pods {
            used.charge(quotas, pod);
        }
        used
    }

    /// Takes over what a cluster says of a quota, `status.used`. While it does not say all that pods
    /// can take, none is let in.
    pub fn state(&mut self, quota: &ResourceQuota, used: ResourceList) {
        self.stated.insert(key(quota));
        self.amounts.insert(key(quota), used);
    }

    /// Adds the usage of a pod that was admitted.
    pub fn charge(&mut self, quotas: &[ResourceQuota], pod: &Pod) {
        let matching: Vec<&ResourceQuota> = quotas.iter().filter(|q| matches(q, pod)).collect();
        if matching.is_empty() {
            return;
        }
        let usage = usage(pod);
        for quota in matching {
            let hard = &quota.spec.hard;
            let counted = usage.iter().filter(|(name, _)| hard.contains_key(*name));
            let counted = counted.map(|(n, q)| (n.clone(), q.clone())).collect();
            add(self.amounts.entry(key(quota)).or_default(), &counted);
        }
    }

    /// What is used of one resource of a quota.
    pub fn get(&self, quota: &ResourceQuota, resource: &str) -> Quantity {
        self.amounts
            .get(&key(quota))
            .and_then(|used| used.get(resource))
            .cloned()
            .unwrap_or_default()
    }

    /// Whether a cluster has not said of all these resources how much is used.
    pub(super) fn lacks(&self, quota: &ResourceQuota, resources: &[&str]) -> bool {
        let key = key(quota);
        let said = |name: &&str| self.amounts.get(&key).is_some_and(|used| used.contains_key(*name));
        self.stated.contains(&key) && !resources.iter().all(said)
    }
}

fn key(quota: &ResourceQuota) -> Key {
    (quota.metadata.namespace_or_default().to_string(), quota.metadata.name.clone())
}
