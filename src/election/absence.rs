//! How long an instance stays out of the queue after terms that its host or its command could not serve.

use std::time::Duration;

use crate::core::limits::LONGEST_ABSENCE;

/// Doubles the time with each failure in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Absence {
    /// The shortest time after the next failure; zero without a failure.
    next: Duration,
}

impl Absence {
    /// Returns how long it stays out after one more failure: `first` at first.
    pub(super) fn after_failure(&mut self, first: Duration) -> Duration {
        let time = self.next.max(first);
        self.next = time.saturating_mul(2).min(LONGEST_ABSENCE.max(first));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_a_failed_preparation_doubles_up_to_half_an_hour() {
        let s = Duration::from_secs;
        let mut absence = Absence::default();
        let all: Vec<_> = (0..=255).map(|_| absence.after_failure(s(2))).collect();
        let pauses = [0, 1, 2, 5, 9, 10, 31, 32, 255].map(|failures| all[failures]);
        assert_eq!(pauses, [s(2), s(4), s(8), s(64), s(1024), s(1800), s(1800), s(1800), s(1800)]);
        let mut absence = Absence::default();
        assert_eq!([(); 4].map(|()| absence.after_failure(s(3600)))[3], s(3600));
    }
}
