//! How much of each quota is used.

use super::{matches, usage};
use crate::resources::add;
use cofferdam_model::objects::ResourceQuota;
use cofferdam_model::pod::Pod;
use cofferdam_model::{Quantity, ResourceList};
use std::collections::BTreeMap;

/// Namespace and name of a quota.
type Key = (String, String);

/// How much of each quota is used, by namespace and name. Of a quota that nothing was said about,
/// nothing is used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Used {
    amounts: BTreeMap<Key, ResourceList>,
    /// What is limited by the quotas whose status a cluster stated.
    stated: BTreeMap<Key, ResourceList>,
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

    /// Takes over what a cluster says of a quota, `status.hard` and `status.used`. From then on the
    /// former counts and not the specification: a quota that no controller has looked at yet, and so
    /// has no status, holds nothing back. While the latter leaves out any of what pods can take, no
    /// pod is let in.
    pub fn state(&mut self, quota: &ResourceQuota, hard: ResourceList, used: ResourceList) {
        self.stated.insert(key(quota), hard);
        self.amounts.insert(key(quota), used);
    }

    /// What a quota limits: as a cluster stated it, else as it is specified.
    pub(super) fn hard<'a>(&'a self, quota: &'a ResourceQuota) -> &'a ResourceList {
        self.stated.get(&key(quota)).unwrap_or(&quota.spec.hard)
    }

    /// Adds the usage of a pod that was admitted.
    pub fn charge(&mut self, quotas: &[ResourceQuota], pod: &Pod) {
        let matching: Vec<&ResourceQuota> = quotas.iter().filter(|q| matches(q, pod, self)).collect();
        if matching.is_empty() {
            return;
        }
        let usage = usage(pod);
        for quota in matching {
            let hard = self.hard(quota);
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
        self.stated.contains_key(&key) && !resources.iter().all(said)
    }
}

fn key(quota: &ResourceQuota) -> Key {
    (quota.metadata.namespace_or_default().to_string(), quota.metadata.name.clone())
}
