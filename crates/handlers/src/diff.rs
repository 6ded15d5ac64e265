//! What a reload changes.

use crate::table::{Handler, HandlerTable};
use cofferdam_model::HandlerName;
use serde::Serialize;

/// The difference between two tables. A value that merely moved to another place is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Handlers that are new.
    pub added: Vec<HandlerName>,
    /// Handlers that are gone; pods under them stay as they are.
    pub removed: Vec<HandlerName>,
    /// Handlers that would run pods in another way, and must be proved again.
    pub changed: Vec<HandlerName>,
    /// The default or the untrusted handler is another.
    pub selection: bool,
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares `old` with `new`. Settings are not compared: they take effect at the next start.
pub fn diff(old: &HandlerTable, new: &HandlerTable) -> Diff {
    let absent = |table: &HandlerTable, name: &HandlerName| !table.handlers.contains_key(name);
    let changed = |(name, handler): (&HandlerName, &Handler)| {
        let other = old.handlers.get(name)?;
        (!handler.runs_like(other)).then(|| name.clone())
    };
    let name = |choice: &Option<(HandlerName, _)>| choice.as_ref().map(|(name, _)| name.clone());
    Diff {
        added: new
            .handlers
            .keys()
            .filter(|name| absent(old, name))
            .cloned()
            .collect(),
        removed: old
            .handlers
            .keys()
            .filter(|name| absent(new, name))
            .cloned()
            .collect(),
        changed: new.handlers.iter().filter_map(changed).collect(),
        selection: name(&old.default) != name(&new.default)
            || name(&old.untrusted) != name(&new.untrusted),
    }
}
