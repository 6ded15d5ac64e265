//! How long a container that ended waits before it is started again: client-go's
//! `util/flowcontrol/backoff.go` with the kubelet's figures.

use std::time::Duration;

/// First wait (the kubelet's `backOffPeriod`).
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest wait (the kubelet's `MaxContainerBackOff`).
pub const MAX: Duration = Duration::from_secs(300);
/// A container that ran longer than this since its last restart begins anew: twice [`MAX`].
pub const RESET: Duration = Duration::from_secs(600);

/// Back-off of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The wait, and when it was last made longer (at the last restart).
    entry: Option<(Duration, Duration)>,
}

impl Backoff {
    /// When a container that ended at `ended` may be started again. The first restart is at once.
    pub fn due(&self, ended: Duration) -> Duration {
        match self.entry {
            Some((wait, updated)) if !expired(ended, updated) => ended + wait,
            _ => ended,
        }
    }

    /// Takes note that the container that ended at `ended` is started again at `now`.
    pub fn restarted(&mut self, ended: Duration, now: Duration) {
        let wait = match self.entry {
            Some((wait, updated)) if !expired(ended, updated) => (wait * 2).min(MAX),
            _ => INITIAL,
        };
        self.entry = Some((wait, now));
    }

    /// The wait that now holds.
    pub fn wait(&self) -> Duration {
        self.entry.map(|(wait, _)| wait).unwrap_or_default()
    }
}

fn expired(ended: Duration, updated: Duration) -> bool {
    ended.saturating_sub(updated) > RESET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let due = backoff.due(now);
            waits.push((due - now).as_secs());
            backoff.restarted(now, due);
            now = due + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_reset_it() {
        for (ran, wait) in [(600, 20), (601, 0)] {
            let mut backoff = Backoff::default();
            backoff.restarted(Duration::ZERO, Duration::ZERO);
            backoff.restarted(Duration::ZERO, Duration::ZERO);
            let ended = Duration::from_secs(ran);
            assert_eq!((backoff.due(ended) - ended).as_secs(), wait, "ran {ran} s");
        }
    }
}
