//! What recovery does with what it finds.
//!
//! Assumptions: a record is written before anything it names; a maker holds the pod's lock from
//! before the record until its result is written; the boot id changes with every boot.

/// What was found of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The record can be read.
    pub record: Record,
    /// Whether the result was written, and what it says.
    pub result: Option<ResultState>,
    /// Whether the record is of this boot.
    pub same_boot: bool,
    /// Whether the monitor answers.
    pub monitor_alive: bool,
    /// Whether it is a canary that nobody waits for.
    pub orphan: bool,
}

/// State of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It can be read.
    Readable,
    /// The directory is there, the record is not: killed before the intent.
    Absent,
    /// It is there and cannot be read.
    Unreadable,
}

/// What a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultState {
    /// The pod was up.
    Ready,
    /// It was stopped, had died, or could not be cleaned up.
    NotReady,
    /// Its removal had begun.
    Removing,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Keep,
    /// Undo all steps and remove the record.
    Undo,
    /// Kill what is left, keep the record as NotReady with this reason.
    Fail(&'static str),
    /// Undo what derives from the id, and put the record aside.
    PutAside,
}

/// Decides for one pod whose lock nobody else holds.
pub fn decide(found: Found) -> Action {
    match (found.record, found.result) {
        (Record::Unreadable, _) => Action::PutAside,
        _ if found.orphan => Action::Undo,
        (Record::Absent, _) | (_, None) | (_, Some(ResultState::Removing)) => Action::Undo,
        (Record::Readable, Some(ResultState::NotReady)) => Action::Keep,
        (Record::Readable, Some(ResultState::Ready)) => {
            if !found.same_boot {
                Action::Fail("the machine was restarted")
            } else if !found.monitor_alive {
                Action::Fail("its monitor died")
            } else {
                Action::Keep
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_one_answer() {
        let ok = Found {
            record: Record::Readable,
            result: Some(ResultState::Ready),
            same_boot: true,
            monitor_alive: true,
            orphan: false,
        };
        let rows = [
            (ok, Action::Keep),
            (Found { record: Record::Absent, result: None, ..ok }, Action::Undo),
            (Found { result: None, ..ok }, Action::Undo),
            (Found { orphan: true, ..ok }, Action::Undo),
            (Found { result: Some(ResultState::Removing), ..ok }, Action::Undo),
            (Found { record: Record::Unreadable, ..ok }, Action::PutAside),
            (Found { same_boot: false, monitor_alive: false, ..ok }, Action::Fail("the machine was restarted")),
            (Found { monitor_alive: false, ..ok }, Action::Fail("its monitor died")),
            (Found { result: Some(ResultState::NotReady), monitor_alive: false, ..ok }, Action::Keep),
        ];
        for (found, action) in rows {
            assert_eq!(decide(found), action, "{found:?}");
        }
    }
}
