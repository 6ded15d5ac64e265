//! Which names are taken: no two sandboxes with the same name, namespace, UID and attempt, and no two
//! containers of a pod with the same name and attempt. What was made for a caller who left before the
//! answer came is given to the next who asks for the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Set when a caller has gone without its answer.
pub(crate) type Left = Arc<AtomicBool>;

/// The names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    slots: Mutex<HashMap<String, Slot>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Slot {
    /// `None` while it is being made.
    id: Option<String>,
    left: Left,
}

/// Outcome of asking for a name.
#[derive(Debug)]
pub(crate) enum Claim<'a> {
    /// It is the caller's to make; free again when dropped without [`Reservation::keep`].
    Make(Reservation<'a>),
    /// It was made already, for a caller who left.
    Made(String),
}

/// A name that is being made something of.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    names: &'a Names,
    name: String,
    kept: bool,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name that something has already, found when the server starts.
    pub(crate) fn insert(&self, name: String, id: String) {
        self.lock().insert(
            name,
            Slot {
                id: Some(id),
                left: Left::default(),
            },
        );
    }

    /// Takes `name`. `alive` says whether what has it is still there: others than this server may have
    /// removed it. The error is containerd's sentence.
    pub(crate) fn claim(&self, name: &str, left: &Left, alive: impl Fn(&str) -> bool) -> Result<Claim<'_>, String> {
        let mut slots = self.lock();
        loop {
            match slots.get_mut(name) {
                None => break,
                Some(Slot { id: Some(id), .. }) if !alive(id) => break,
                Some(slot) if !slot.left.load(Ordering::Acquire) => {
                    let by = slot.id.as_deref().unwrap_or("a request that is under way");
                    return Err(format!("name {name:?} is reserved for {by:?}"));
                }
                Some(slot) => {
                    if let Some(id) = slot.id.clone() {
                        slot.left = left.clone();
                        return Ok(Claim::Made(id));
                    }
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        slots.insert(
            name.to_owned(),
            Slot {
                id: None,
                left: left.clone(),
            },
        );
        Ok(Claim::Make(Reservation {
            names: self,
            name: name.to_owned(),
            kept: false,
        }))
    }

    /// Whether something of this name is being made: nobody is told of it before it is whole.
    pub(crate) fn is_being_made(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|slot| slot.id.is_none())
    }

    /// What has `id` is gone. Whether anybody is told so for the first time.
    pub(crate) fn forget(&self, id: &str) -> bool {
        let mut slots = self.lock();
        let before = slots.len();
        slots.retain(|_, slot| slot.id.as_deref() != Some(id));
        slots.len() < before
    }
}

impl Reservation<'_> {
    /// The name is `id`'s from now on.
    pub(crate) fn keep(mut self, id: &str) {
        self.kept = true;
        if let Some(slot) = self.names.lock().get_mut(&self.name) {
            slot.id = Some(id.to_owned());
        }
        self.names.changed.notify_all();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.names.lock().remove(&self.name);
            self.names.changed.notify_all();
        }
    }
}

/// A sandbox's name, in containerd's form (`MakeSandboxName`).
pub(crate) fn sandbox(config: &cofferdam_model::cri::SandboxConfig) -> String {
    format!("{}_{}_{}_{}", config.name, config.namespace, config.uid, config.attempt)
}

/// A container's name, in containerd's form (`makeContainerName`); with the sandbox's id, as a name is free
/// again in a pod's next sandbox.
pub(crate) fn container(name: &str, attempt: u32, pod: &cofferdam_model::PodId, config: &cofferdam_model::cri::SandboxConfig) -> String {
    format!("{name}_{}_{}_{}_{attempt} in {pod}", config.name, config.namespace, config.uid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn make(names: &Names) -> Reservation<'_> {
        match names.claim("n", &Left::default(), |_| true).unwrap() {
            Claim::Make(reservation) => reservation,
            Claim::Made(id) => panic!("{id}"),
        }
    }

    #[test]
    fn a_name_is_one_things_until_that_is_gone() {
        let names = Names::default();
        let first = make(&names);
        assert_eq!(
            names.claim("n", &Left::default(), |_| true).unwrap_err(),
            "name \"n\" is reserved for \"a request that is under way\""
        );
        drop(first);
        make(&names).keep("id1");
        assert_eq!(
            names.claim("n", &Left::default(), |_| true).unwrap_err(),
            "name \"n\" is reserved for \"id1\""
        );
        names.forget("id1");
        make(&names).keep("id2");
        // Removed by somebody else.
        assert!(matches!(names.claim("n", &Left::default(), |_| false), Ok(Claim::Make(_))));
    }

    #[test]
    fn what_was_made_for_a_caller_who_left_goes_to_the_next() {
        let names = Names::default();
        let left = Left::default();
        let Ok(Claim::Make(first)) = names.claim("n", &left, |_| true) else {
            panic!("it is free")
        };
        left.store(true, Ordering::Release);
        let next = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(names.claim("n", &Left::default(), |_| true), Ok(Claim::Made(id)) if id == "id"));
            first.keep("id");
            waiting.join().unwrap()
        });
        assert!(next);
        assert!(names.claim("n", &Left::default(), |_| true).is_err(), "it was handed over once");
    }
}
