//! Pulls of a node: each image once at a time, whoever asks, and not too many side by side.

use crate::clock::{Clock, lock};
use crate::control::{Control, Message};
use crate::node::Shared;
use crate::pool::Pool;
use cofferdam_model::cri::{Error, PullRequest};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Most pulls at once. Layers of one image are fetched side by side already.
const MOST: usize = 4;

/// A pull that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Pulled {
    pub(crate) image: String,
    pub(crate) result: Result<String, Error>,
    /// How long it took, without the wait for its turn.
    pub(crate) took: Duration,
}

struct Flight {
    request: PullRequest,
    waiting: Vec<Arc<Control>>,
}

/// The pulls that are under way.
pub(crate) struct Pulls {
    flights: Mutex<Vec<Flight>>,
    pool: Arc<Pool>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            flights: Mutex::default(),
            pool: Pool::new("pull", MOST),
        }
    }
}

impl Pulls {
    /// Pulls an image, and tells `control` when that has ended. One that the same is being pulled for
    /// already shares in it; other credentials are another pull.
    pub(crate) fn ask(&self, shared: &Arc<Shared>, request: PullRequest, control: &Arc<Control>) {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.iter_mut().find(|f| f.request == request) {
            return flight.waiting.push(control.clone());
        }
        flights.push(Flight {
            request: request.clone(),
            waiting: vec![control.clone()],
        });
        drop(flights);
        let landing = Landing {
            shared: shared.clone(),
            request,
            pulled: None,
        };
        // Without a thread the landing is dropped, and says so.
        let _ = self.pool.run(move || landing.fly());
    }
}

/// Ends its flight when dropped, so that nobody waits for one that came to grief.
struct Landing {
    shared: Arc<Shared>,
    request: PullRequest,
    pulled: Option<(Result<String, Error>, Duration)>,
}

impl Landing {
    fn fly(mut self) {
        let clock: &dyn Clock = &*self.shared.clock;
        let began = clock.now();
        let result = self.shared.runtime.pull_image(&self.request);
        self.pulled = Some((result, clock.now().saturating_sub(began)));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = lock(&self.shared.pulls.flights);
        let Some(at) = flights.iter().position(|f| f.request == self.request) else {
            return;
        };
        let flight = flights.swap_remove(at);
        drop(flights);
        let lost = || {
            (
                Err(Error::Failed(
                    "the machine has no thread for its pull, or a fault in Cofferdam ended it".into(),
                )),
                Duration::ZERO,
            )
        };
        let (result, took) = self.pulled.take().unwrap_or_else(lost);
        for control in flight.waiting {
            control.send(Message::Pulled(Pulled {
                image: self.request.image.clone(),
                result: result.clone(),
                took,
            }));
        }
    }
}
