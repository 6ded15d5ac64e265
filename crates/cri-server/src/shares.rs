//! Places for what waits for others than the kernel: a grace that may have no end, a command, a port that
//! does not answer. There are so many in all, and so many for one pod, which so keeps no other from its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of one kind.
#[derive(Debug)]
pub(crate) struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    /// Of those who have a place or wait for one.
    owners: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _of_all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Shares {
    /// `all` places, of which an owner may have `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            each,
            owners: Mutex::default(),
        }
    }

    /// A place for `owner`, who waits for it. `None` never comes: the places are not closed.
    pub(crate) async fn take(&self, owner: &str) -> Option<Place> {
        // Its own first: while it waits for that, it is in nobody's way.
        let own = self.of(owner).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place {
            _of_all: of_all,
            _own: own,
        })
    }

    fn of(&self, owner: &str) -> Arc<Semaphore> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        // Each place, and each wait for one, counts as one more.
        owners.retain(|_, places| Arc::strong_count(places) > 1);
        let places = owners
            .entry(owner.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        places.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn at_once<'a>(shares: &'a Shares, owner: &'a str) -> Option<Place> {
        match std::pin::pin!(shares.take(owner)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        }
    }

    #[test]
    fn nobody_has_more_than_his_own_and_all_together_no_more_than_there_are() {
        let shares = Shares::new(5, 3);
        let of_a: Vec<_> = (0..4).map_while(|_| at_once(&shares, "a")).collect();
        assert_eq!(of_a.len(), 3);
        let of_b: Vec<_> = (0..4).map_while(|_| at_once(&shares, "b")).collect();
        assert_eq!(of_b.len(), 2);
        drop(of_a);
        assert!(at_once(&shares, "b").is_some() && at_once(&shares, "a").is_some());
        drop(of_b);
        let _last = at_once(&shares, "c").unwrap();
        assert_eq!(shares.owners.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
