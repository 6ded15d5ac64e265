//! When a probe is due, and what its results mean (`pkg/kubelet/prober/worker.go`): a pure state machine.

use cofferdam_model::pod::{Container, Probe};
use std::time::Duration;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As events begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The probe of this kind.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// One probe of one run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) kind: Kind,
    period: Duration,
    /// Good and bad tries in a row that count.
    good: u32,
    bad: u32,
    /// When the next try is due.
    due: Duration,
    /// A try is being made.
    asked: bool,
    /// The last try, and how many before it came to the same.
    last: Option<(bool, u32)>,
    /// What holds; `None` as long as no threshold was reached.
    result: Option<bool>,
}

/// A number of a probe; less than 1 is as good as absent, as upstream's defaults have it.
pub(crate) fn at_least(number: Option<i32>, default: u32) -> u64 {
    number
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(default)
        .into()
}

impl Watch {
    /// The probes of a container that has started at `started`.
    pub(crate) fn all(container: &Container, started: Duration) -> Vec<Self> {
        let kinds = [Kind::Startup, Kind::Readiness, Kind::Liveness].into_iter();
        kinds
            .filter_map(|kind| Some(Self::new(kind, kind.of(container)?, started)))
            .collect()
    }

    fn new(kind: Kind, probe: &Probe, started: Duration) -> Self {
        let count = |number, default| u32::try_from(at_least(number, default)).unwrap_or(default);
        let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        Self {
            kind,
            period: Duration::from_secs(at_least(probe.period_seconds, 10)),
            good: count(probe.success_threshold, 1),
            bad: count(probe.failure_threshold, 3),
            due: started + Duration::from_secs(delay),
            asked: false,
            last: None,
            result: None,
        }
    }

    /// When the next try is due. Nothing but the startup probe is tried before the container has
    /// `started`, and that one not any more after.
    pub(crate) fn due(&self, started: bool) -> Option<Duration> {
        let over = self.kind != Kind::Readiness && self.result == Some(false);
        let turn = (self.kind == Kind::Startup) != started;
        (turn && !over && !self.asked).then_some(self.due)
    }

    /// A try begins. Ticks that were missed are left out.
    pub(crate) fn begin(&mut self, now: Duration) {
        let missed = now.saturating_sub(self.due).as_secs() / self.period.as_secs().max(1);
        self.due += self.period * u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        self.asked = true;
    }

    /// A try ended; `None` where it came to nothing. Returns whether what holds has changed.
    pub(crate) fn tried(&mut self, good: Option<bool>) -> bool {
        self.asked = false;
        let Some(good) = good else { return false };
        let run = match self.last {
            Some((last, run)) if last == good => run.saturating_add(1),
            _ => 1,
        };
        self.last = Some((good, run));
        if run < if good { self.good } else { self.bad } || self.result == Some(good) {
            return false;
        }
        self.result = Some(good);
        true
    }

    /// The container could not be ended: it is tried again.
    pub(crate) fn again(&mut self) {
        (self.result, self.last) = (None, None);
    }

    pub(crate) fn result(&self) -> Option<bool> {
        self.result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const T: Duration = Duration::from_secs(100);

    fn watch(kind: Kind, probe: serde_json::Value) -> Watch {
        Watch::new(kind, &serde_json::from_value(probe).unwrap(), T)
    }

    /// Tries at the moments at which they are due, each over at once: `+`, `-`, and `?` for nothing.
    fn play(mut watch: Watch, tries: &str) -> (Vec<u64>, String) {
        let (mut times, mut told) = (Vec::new(), String::new());
        for try_ in tries.chars() {
            let Some(due) = watch.due(watch.kind != Kind::Startup) else { break };
            times.push((due - T).as_secs());
            watch.begin(due);
            assert_eq!(watch.due(true).or(watch.due(false)), None, "one try at a time");
            let changed = watch.tried(match try_ {
                '+' => Some(true),
                '-' => Some(false),
                _ => None,
            });
            told.push(match (changed, watch.result()) {
                (true, Some(true)) => '+',
                (true, _) => '-',
                (false, _) => '.',
            });
        }
        (times, told)
    }

    #[test]
    fn delays_periods_and_thresholds() {
        use Kind::*;
        for (what, kind, probe, tries, times, told) in [
            ("defaults", Readiness, json!({}), "---", vec![0, 10, 20], "..-"),
            (
                "zero is absent",
                Readiness,
                json!({"periodSeconds": 0, "failureThreshold": 0}),
                "---",
                vec![0, 10, 20],
                "..-",
            ),
            (
                "a delay",
                Readiness,
                json!({"initialDelaySeconds": 7, "periodSeconds": 3}),
                "++",
                vec![7, 10],
                "+.",
            ),
            (
                "good tries in a row",
                Readiness,
                json!({"periodSeconds": 1, "successThreshold": 2}),
                "+-++",
                vec![0, 1, 2, 3],
                "...+",
            ),
            (
                "bad tries in a row",
                Readiness,
                json!({"periodSeconds": 1, "failureThreshold": 2}),
                "+-+--+",
                vec![0, 1, 2, 3, 4, 5],
                "+...-+",
            ),
            (
                "what comes to nothing breaks no row",
                Readiness,
                json!({"periodSeconds": 1, "failureThreshold": 2}),
                "-?-",
                vec![0, 1, 2],
                "..-",
            ),
            (
                "one that failed for good is over",
                Liveness,
                json!({"periodSeconds": 1, "failureThreshold": 2}),
                "+--+",
                vec![0, 1, 2],
                "+.-",
            ),
            (
                "startup too",
                Startup,
                json!({"periodSeconds": 1, "failureThreshold": 1}),
                "-+",
                vec![0],
                "-",
            ),
        ] {
            assert_eq!(play(watch(kind, probe), tries), (times, told.to_owned()), "{what}");
        }
    }

    #[test]
    fn the_startup_probe_stands_before_the_others() {
        let startup = watch(Kind::Startup, json!({}));
        let liveness = watch(Kind::Liveness, json!({}));
        assert_eq!((startup.due(false), startup.due(true)), (Some(T), None));
        assert_eq!((liveness.due(false), liveness.due(true)), (None, Some(T)));
    }

    #[test]
    fn missed_ticks_are_left_out() {
        let mut watch = watch(Kind::Liveness, json!({"periodSeconds": 10}));
        watch.begin(T + Duration::from_secs(25));
        watch.tried(Some(true));
        assert_eq!(watch.due(true), Some(T + Duration::from_secs(30)));
    }
}
