//! The answer as data, and its JSON, which is stable: fields are added, never renamed or removed.
//!
//! ```json
//! {
//!   "pods": [{
//!     "namespace": "default", "name": "web", "owner": null, "file": "pods.yaml", "line": 1, "column": 1,
//!     "result": "placed", "node": "node-1", "score": 512, "message": null, "hint": null, "preempts": null,
//!     "denial": null,
//!     "class": "gvisor", "handler": "runsc", "overhead": {"cpu": "250m"}, "qos": "Burstable",
//!     "nodeSelector": {}, "tolerations": [], "requests": {"cpu": "350m"}, "limits": {},
//!     "quotas": [{"name": "team", "left": {"pods": "9"}}], "errors": [], "warnings": []
//!   }],
//!   "objects": [{"kind": "RuntimeClass", "namespace": null, "name": "gvisor", "file": "pods.yaml", "line": 9,
//!     "column": 1, "errors": [], "warnings": []}],
//!   "nodes": [{"name": "node-1", "unschedulable": false, "drained": false, "pods": 4, "placed": 1,
//!     "allocatable": {"cpu": "4"}, "requested": {"cpu": "1350m"}, "handlers": ["runsc"]}],
//!   "drained": [{"namespace": "default", "name": "old", "from": "node-2", "node": "node-1", "message": null}],
//!   "explained": {"namespace": "default", "name": "web", "nodes": [{"name": "node-1", "scores": {"total": 512}, "reasons": []}]},
//!   "warnings": [], "notes": [], "exitCode": 0
//! }
//! ```
//!
//! - `pods`: every pod that could be read, a Deployment's one by one, in the order of the manifests.
//!   `result` is `admitted` (no nodes were given), `placed`, `noNode` (why is in `message`), `gated` (it
//!   has scheduling gates, and waits as it asks to) or `refused` (why is in `denial`, in the API server's
//!   words, and field by field in `errors`). `preempts` is `{"node", "victims": ["NAMESPACE/NAME"]}`
//!   where it would fit once those are gone. Amounts have the overhead in them, and quotas what is left
//!   after the pod.
//! - `objects`: everything else, and what could not be read; wrong where `errors` has any.
//! - `errors` and `warnings`: `{"file", "line", "column", "field", "message", "hint"}`.
//! - `nodes`: as they are in the end; empty where none were given. `placed` counts the pods of the
//!   manifests, `pods` all. `handlers` is `null` where the node does not list them.
//! - `drained`: the pods that drained nodes lost, and where they went.
//! - `explained`: only with `--explain`; scores are 0 to 100, `total` has the weights.

use cofferdam_decide::quota::QuotaLeft;
use cofferdam_decide::resources::Qos;
use cofferdam_manifest::Place;
use cofferdam_model::ResourceList;
use cofferdam_model::pod::Toleration;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Spot {
    #[serde(serialize_with = "text")]
    pub(super) file: Arc<str>,
    pub(super) line: usize,
    pub(super) column: usize,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl From<Place> for Spot {
    fn from(place: Place) -> Self {
        Self {
            file: place.source,
            line: place.line,
            column: place.column,
        }
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    #[serde(flatten)]
    pub(super) spot: Spot,
    /// Path of the field, where one is known.
    pub(super) field: Option<String>,
    /// The sentence, of errors of admission without the envelope that names the object.
    pub(super) message: String,
    /// What was meant, perhaps.
    pub(super) hint: Option<String>,
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    Admitted,
    Placed,
    NoNode,
    Gated,
    Refused,
}

/// A node where a pod fits once others are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Preempts {
    pub(super) node: String,
    /// `NAMESPACE/NAME`.
    pub(super) victims: Vec<String>,
}

/// Pods that become the same: one, or replicas of one Deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kind {
    pub(super) namespace: String,
    /// `Deployment/NAME`.
    pub(super) owner: Option<String>,
    #[serde(flatten)]
    pub(super) spot: Spot,
    pub(super) result: Outcome,
    pub(super) message: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) preempts: Option<Preempts>,
    pub(super) class: Option<String>,
    pub(super) handler: Option<String>,
    pub(super) overhead: ResourceList,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) qos: Qos,
    pub(super) requests: ResourceList,
    pub(super) limits: ResourceList,
    pub(super) errors: Vec<Finding>,
}

/// One pod of its kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct One {
    /// Ends with `*` where the rest is still to be generated.
    pub(super) name: String,
    pub(super) node: Option<String>,
    pub(super) score: Option<i64>,
    pub(super) denial: Option<String>,
    /// What quotas have left after it.
    pub(super) quotas: Vec<QuotaLeft>,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Which text it is from, and which object of that.
    pub(super) origin: (usize, usize),
    pub(super) kind: Kind,
    pub(super) warnings: Vec<Finding>,
    pub(super) pods: Vec<One>,
}

/// An object other than a pod, or one that could not be read.
#[derive(Debug, Serialize)]
pub(super) struct ObjectRow {
    /// Which text it is from.
    #[serde(skip)]
    pub(super) origin: usize,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    #[serde(flatten)]
    pub(super) spot: Spot,
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

/// A node in the end.
#[derive(Debug, Serialize)]
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) unschedulable: bool,
    pub(super) drained: bool,
    pub(super) pods: usize,
    pub(super) placed: usize,
    pub(super) allocatable: ResourceList,
    pub(super) requested: ResourceList,
    pub(super) handlers: Option<Vec<String>>,
}

/// A pod that a drained node lost.
#[derive(Debug, Serialize)]
pub(super) struct Move {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) from: String,
    pub(super) node: Option<String>,
    pub(super) message: Option<String>,
}

/// What the scheduler thinks of each node for one pod.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) nodes: Vec<Thought>,
}

/// What it thinks of one node.
#[derive(Debug, Serialize)]
pub(super) struct Thought {
    pub(super) name: String,
    /// `None` where the node is not feasible.
    pub(super) scores: Option<Points>,
    pub(super) reasons: Vec<String>,
}

/// Scores of a node.
#[derive(Debug, Serialize)]
pub(super) struct Points {
    pub(super) taints: i64,
    pub(super) affinity: i64,
    pub(super) room: i64,
    pub(super) balance: i64,
    pub(super) spread: i64,
    pub(super) pods: i64,
    pub(super) total: i64,
}

/// The whole answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The texts' names.
    #[serde(skip)]
    pub(super) files: Vec<String>,
    /// Whether pods were placed.
    #[serde(skip)]
    pub(super) has_nodes: bool,
    #[serde(rename = "pods", serialize_with = "one_by_one")]
    pub(super) rows: Vec<Row>,
    pub(super) objects: Vec<ObjectRow>,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) drained: Vec<Move>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explained: Option<Explained>,
    pub(super) warnings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    pub(super) exit_code: u8,
}

impl Report {
    /// How many pods there are, with this result.
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|r| r.kind.result == outcome).map(|r| r.pods.len()).sum()
    }

    /// How many objects are wrong.
    pub(super) fn invalid(&self) -> usize {
        self.objects.iter().filter(|o| !o.errors.is_empty()).count()
    }

    /// How many pods of drained nodes find no other.
    pub(super) fn stranded(&self) -> usize {
        self.drained.iter().filter(|m| m.node.is_none()).count()
    }
}

/// A pod with what it shares with its like.
#[derive(Serialize)]
struct Single<'a> {
    #[serde(flatten)]
    one: &'a One,
    #[serde(flatten)]
    kind: &'a Kind,
    warnings: &'a [Finding],
}

fn one_by_one<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for row in rows {
        for one in &row.pods {
            list.serialize_element(&Single {
                one,
                kind: &row.kind,
                warnings: &row.warnings,
            })?;
        }
    }
    list.end()
}
