//! Which names are taken: no two sandboxes with the same name, namespace, UID and attempt, and no two
//! containers of a pod with the same name and attempt.
//!
//! Nobody can know whether an answer reached its caller: he may leave after it was sent, and the server may be
//! killed before. So who asks for the very same once more is given what was made, for as long as nobody has done
//! anything with it; CRI-O does so for callers whom it saw leave (`internal/resourcestore`). Any other request
//! for the name is refused in containerd's words (`pkg/registrar`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often one who waits for what another is making looks whether his own caller is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Set when a caller has gone without its answer.
pub(crate) type Left = Arc<AtomicBool>;

/// What a request was, to know the same again; `None` is like no other.
pub(crate) type Asked = Option<u64>;

/// The names that are taken.
#[derive(Debug, Default)]
pub(crate) struct Names {
    slots: Mutex<HashMap<String, Slot>>,
    changed: Condvar,
    hasher: RandomState,
}

#[derive(Debug)]
struct Slot {
    /// `None` while it is being made.
    id: Option<String>,
    asked: Asked,
}

/// How it stands with what has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is gone: others than this server may have removed it.
    Gone,
    /// Nothing was done with it since it was made: its id may have reached nobody.
    Untouched,
    /// Somebody has its id.
    Used,
}

/// Outcome of asking for a name.
#[derive(Debug)]
pub(crate) enum Claim<'a> {
    /// It is the caller's to make; free again when dropped without [`Reservation::keep`].
    Make(Reservation<'a>),
    /// It was made already, for the same request.
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

    /// What tells a request from others for the same name; `json` is all that it says.
    pub(crate) fn asked(&self, json: serde_json::Result<Vec<u8>>) -> Asked {
        json.ok().map(|json| self.hasher.hash_one(json))
    }

    /// A name that something has already, found when the server starts.
    pub(crate) fn insert(&self, name: String, asked: Asked, id: String) {
        self.lock().insert(name, Slot { id: Some(id), asked });
    }

    /// Takes `name`. `standing` tells of what has it by its id. The error is containerd's sentence.
    pub(crate) fn claim(&self, name: &str, asked: Asked, left: &Left, standing: impl Fn(&str) -> Standing) -> Result<Claim<'_>, String> {
        let mut slots = self.lock();
        while let Some(slot) = slots.get(name) {
            let same = asked.is_some() && slot.asked == asked;
            match slot.id.as_deref() {
                Some(id) => match standing(id) {
                    Standing::Gone => {
                        // Who removed it may not have come to forget it, and is to find it then.
                        let aside = format!("{name} of {id}");
                        let gone = slots.remove(name);
                        slots.extend(gone.map(|slot| (aside, slot)));
                        break;
                    }
                    Standing::Untouched if same => return Ok(Claim::Made(id.to_owned())),
                    Standing::Untouched | Standing::Used => return Err(format!("name {name:?} is reserved for {id:?}")),
                },
                None if !same => return Err(format!("name {name:?} is reserved for \"a request that is under way\"")),
                None if left.load(Ordering::Acquire) => return Err(format!("who asked for name {name:?} has left")),
                None => {
                    let waited = self.changed.wait_timeout(slots, LOOK);
                    slots = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        slots.insert(name.to_owned(), Slot { id: None, asked });
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

    #[test]
    fn what_is_gone_is_forgotten_once_though_its_name_was_taken_again() {
        let names = Names::default();
        make(&names, "q").keep("first");
        let second = make(&names, "q");
        assert!(names.is_being_made("n"));
        assert!(names.forget("first"), "its end is to be told");
        assert!(!names.forget("first"), "and once");
        second.keep("second");
        assert!(names.forget("second"));
    }

    fn claim<'a>(names: &'a Names, asked: &str, standing: Standing) -> Result<Claim<'a>, String> {
        let asked = names.asked(Ok(asked.into()));
        names.claim("n", asked, &Left::default(), |_| standing)
    }

    fn make<'a>(names: &'a Names, asked: &str) -> Reservation<'a> {
        match claim(names, asked, Standing::Gone).unwrap() {
            Claim::Make(reservation) => reservation,
            Claim::Made(id) => panic!("{id}"),
        }
    }

    #[test]
    fn a_name_is_one_things_until_that_is_gone() {
        let names = Names::default();
        let first = make(&names, "a");
        let why = claim(&names, "b", Standing::Used).unwrap_err();
        assert_eq!(why, "name \"n\" is reserved for \"a request that is under way\"");
        drop(first);
        make(&names, "a").keep("id1");
        let why = claim(&names, "b", Standing::Used).unwrap_err();
        assert_eq!(why, "name \"n\" is reserved for \"id1\"");
        assert!(names.forget("id1") && !names.forget("id1"));
        make(&names, "a").keep("id2");
        // Removed by somebody else.
        assert!(matches!(claim(&names, "b", Standing::Gone), Ok(Claim::Make(_))));
    }

    #[test]
    fn the_same_request_is_given_what_nobody_has_touched() {
        for (asked, standing, given) in [
            ("a", Standing::Untouched, true),
            ("a", Standing::Used, false),
            ("b", Standing::Untouched, false),
            ("b", Standing::Used, false),
        ] {
            let names = Names::default();
            make(&names, "a").keep("id");
            // As often as it is asked for: any answer may be lost.
            for _ in 0..2 {
                let claimed = claim(&names, asked, standing);
                assert_eq!(matches!(&claimed, Ok(Claim::Made(id)) if id == "id"), given, "{asked} {standing:?}");
                assert_eq!(claimed.is_err(), !given, "{asked} {standing:?}");
            }
        }
        // What cannot be told from others is like none.
        let names = Names::default();
        names.insert("n".into(), None, "id".into());
        assert!(names.claim("n", None, &Left::default(), |_| Standing::Untouched).is_err());
    }

    #[test]
    fn the_same_request_waits_for_what_is_being_made() {
        let names = Names::default();
        let first = make(&names, "a");
        let next = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(claim(&names, "a", Standing::Untouched), Ok(Claim::Made(id)) if id == "id"));
            first.keep("id");
            waiting.join().unwrap()
        });
        assert!(next);
        // One that fails is the next one's to make.
        names.forget("id");
        let first = make(&names, "a");
        let next = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(claim(&names, "a", Standing::Untouched), Ok(Claim::Make(_))));
            drop(first);
            waiting.join().unwrap()
        });
        assert!(next);
        // Who leaves waits no longer.
        let _first = make(&names, "a");
        let left: Left = Arc::new(AtomicBool::new(true));
        let asked = names.asked(Ok("a".into()));
        assert!(
            names
                .claim("n", asked, &left, |_| Standing::Untouched)
                .unwrap_err()
                .contains("has left")
        );
    }
}
