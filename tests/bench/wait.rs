//! Waiting, for a run that may fail without ending the whole bench.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Why a run has no result.
pub(crate) type Failure = String;

/// The polling interval, which does not affect the measured timestamps.
const LOOK: Duration = Duration::from_millis(4);

/// Waits until `look` returns a value.
pub(crate) fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() >= limit;
        match look() {
            Some(found) => return Ok(found),
            None if late => return Err(format!("{what}: not within {limit:?}")),
            None => thread::sleep(LOOK),
        }
    }
}

/// Milliseconds from one moment of the journal's clock to another.
pub(crate) fn ms(from: u64, to: u64) -> f64 {
    // Less than 2^53 nanoseconds apart: the float holds them all.
    #[expect(clippy::cast_precision_loss, reason = "a hundred days at most")]
    let nanoseconds = to.abs_diff(from) as f64;
    if to >= from { nanoseconds / 1e6 } else { -nanoseconds / 1e6 }
}
