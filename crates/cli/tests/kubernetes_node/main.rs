//! A real node: what Kubernetes' documents promise of classes, with kubelet, API server, scheduler and
//! controllers of upstream, driven by kubectl. Only `make test-kubernetes` runs these; they need what
//! scripts/kubernetes/node.sh starts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounting;
mod classes;
mod cluster;
mod documents;
mod recovery;
mod streams;
mod workloads;
