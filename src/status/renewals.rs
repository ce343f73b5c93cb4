//! The histogram of renewals.

use std::time::Duration;

/// The upper bounds of the buckets. They include the defaults of `RETRY_PERIOD` (2 s), after which a renewal is late, and of
/// `RENEW_DEADLINE` (10 s), after which the command is stopped; a quick etcd answers within the first three.
const BOUNDS: [Duration; 12] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How long the confirmed renewals took, from sending the request to the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewals {
    /// The renewals in each bucket; the last one has no upper bound.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Renewals {
    /// Adds a renewal.
    pub fn add(&mut self, took: Duration) {
        let bucket = BOUNDS.iter().take_while(|bound| took > **bound).count();
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// Returns the number of renewals.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations in seconds.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// Returns the upper bound of each bucket in seconds, with the number of renewals in this bucket alone.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_bound() {
        let mut renewals = Renewals::default();
        for millis in [0, 5, 6, 2000, 30_001, 90_000] {
            renewals.add(Duration::from_millis(millis));
        }
        let filled: Vec<_> = renewals.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.005, 2), (0.01, 1), (2.0, 1), (f64::INFINITY, 2)]);
        assert_eq!(renewals.count(), 6);
        assert!((renewals.sum() - 122.012).abs() < 1e-9);
    }

    #[test]
    fn the_bounds_grow() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
