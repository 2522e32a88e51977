//! Statistics of many values.

use std::fmt;

/// Values in order, in whatever unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    sorted: Vec<u64>,
}

impl Distribution {
    /// Of these values.
    pub fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self { sorted: values }
    }

    /// The values, the least first.
    pub fn values(&self) -> &[u64] {
        &self.sorted
    }

    /// The least value that so many percent (0 to 100) of all do not exceed (nearest rank); `None`
    /// if there are no values.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied()
    }

    /// The middle one; `None` if there are no values.
    pub fn median(&self) -> Option<u64> {
        self.percentile(50.0)
    }

    /// The greatest; `None` if there are no values.
    pub fn maximum(&self) -> Option<u64> {
        self.sorted.last().copied()
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(median), Some(high), Some(maximum)) =
            (self.median(), self.percentile(99.0), self.maximum())
        else {
            return formatter.write_str("no values");
        };
        write!(
            formatter,
            "median {median}, 99 % up to {high}, maximum {maximum} ({} values)",
            self.sorted.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let distribution = Distribution::new((1..=200).rev().collect());
        assert_eq!(distribution.median(), Some(100));
        assert_eq!(distribution.percentile(99.0), Some(198));
        assert_eq!(distribution.percentile(0.0), Some(1));
        assert_eq!(distribution.percentile(100.0), distribution.maximum());
        assert_eq!(distribution.maximum(), Some(200));
        let one = Distribution::new(vec![7]);
        assert_eq!((one.median(), one.percentile(99.0)), (Some(7), Some(7)));
        let none = Distribution::default();
        assert_eq!((none.median(), none.maximum()), (None, None));
        assert_eq!(none.to_string(), "no values");
        assert_eq!(
            one.to_string(),
            "median 7, 99 % up to 7, maximum 7 (1 values)"
        );
    }
}
