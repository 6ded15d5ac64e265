//! Resource quantities.
use serde::{Deserialize, Serialize};
/// placeholder
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(String);
