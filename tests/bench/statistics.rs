//! Medians with spread, and ratios run by run.

/// Where a set of figures lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The first and the third quartile: half of all are between them.
    pub(crate) quartiles: (f64, f64),
    pub(crate) p90: f64,
    pub(crate) count: usize,
}

impl Summary {
    /// Returns `None` for no figures.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5),
            quartiles: (quantile(&sorted, 0.25), quantile(&sorted, 0.75)),
            p90: quantile(&sorted, 0.9),
            count: sorted.len(),
        })
    }
}

/// Between the two nearest, in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let place = part * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * place.fract()
}

/// Of the pairs in which both have a figure.
pub(crate) fn ratios(ours: &[f64], other: &[f64]) -> Vec<f64> {
    ours.iter().zip(other).map(|(ours, other)| ours / other).filter(|ratio| ratio.is_finite()).collect()
}
