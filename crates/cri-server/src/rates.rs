//! How fast CPU time is used: the difference of two measurements.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The shortest time between two measurements that a rate is taken from, nanoseconds: over less it jumps.
const SHORTEST: i64 = 500_000_000;

/// The last measurement of each pod and container.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: i64,
    nanos: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Takes a measurement of `id` (`nanos` of CPU time used at `at`); nanoseconds a second, once there are
    /// two far enough apart.
    pub(crate) fn take(&self, id: &str, at: i64, nanos: u64) -> Option<u64> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = samples.get_mut(id) else {
            samples.insert(id.to_owned(), Sample { at, nanos, rate: None });
            return None;
        };
        let passed = at - last.at;
        if passed >= SHORTEST {
            let used = u128::from(nanos.saturating_sub(last.nanos));
            let rate = used * 1_000_000_000 / u128::from(passed.unsigned_abs());
            *last = Sample {
                at,
                nanos,
                rate: u64::try_from(rate).ok(),
            };
        }
        last.rate
    }

    /// It is gone.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_two_measurements_that_are_apart() {
        let rates = Rates::default();
        let second = 1_000_000_000;
        for (at, nanos, rate) in [
            (0, 100, None),
            (second / 10, 900, None),
            (second, 500_000_100, Some(500_000_000)),
            // Too soon: the last one stands.
            (second + 1, 900_000_000, Some(500_000_000)),
            // A counter that begins anew is no negative rate.
            (2 * second, 0, Some(0)),
        ] {
            assert_eq!(rates.take("x", at, nanos), rate);
        }
        rates.forget("x");
        assert_eq!(rates.take("x", 9 * second, 1), None);
    }
}
