//! Series of durations, and what is said of them.

/// Durations of one thing, milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) name: String,
    values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), values: Vec::new() }
    }

    pub(crate) fn push(&mut self, millis: f64) {
        self.values.push(millis);
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// The value below which this share of the values lies (nearest rank).
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn p50(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// The median of each stage over rounds that have the same stages.
pub(crate) fn medians(rounds: &[Vec<(String, f64)>]) -> Vec<(String, f64)> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let of = |name: &String| {
        let mut series = Series::default();
        for value in rounds.iter().filter_map(|r| r.iter().find(|(n, _)| n == name)) {
            series.push(value.1);
        }
        (name.clone(), series.p50())
    };
    first.iter().map(|(name, _)| of(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let mut series = Series::new("x");
        for value in [5.0, 1.0, 4.0, 2.0, 3.0] {
            series.push(value);
        }
        assert_eq!(series.p50(), 3.0);
        assert_eq!(series.quantile(0.95), 5.0);
    }
}
