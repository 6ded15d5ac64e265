//! Series of values, and what is said of them.

/// Values of one thing, mostly milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// What it was.
    pub name: String,
    values: Vec<f64>,
}

impl Series {
    /// Nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
        }
    }

    /// One more.
    pub fn push(&mut self, millis: f64) {
        self.values.push(millis);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value below which this share of the values lies (nearest rank); not a number where there is none.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// The median; not a number where there is no value.
    pub fn p50(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// The median of each stage over rounds that have the same stages.
pub fn medians(rounds: &[Vec<(String, f64)>]) -> Vec<(String, f64)> {
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
        assert_eq!(series.quantile(0.0), 1.0);
        assert!(Series::new("nothing").p50().is_nan());
    }

    #[test]
    fn a_median_is_of_each_stage() {
        let round = |a: f64, b: f64| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        let medians = medians(&[round(1.0, 30.0), round(3.0, 10.0), round(2.0, 20.0)]);
        assert_eq!(medians, [("a".to_owned(), 2.0), ("b".to_owned(), 20.0)]);
    }
}
