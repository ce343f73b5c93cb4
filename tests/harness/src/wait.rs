//! Waiting for a condition, always with a limit.

use std::{
    env,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The interval between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);
/// The interval in [`throughout`]. It may be longer, as the journal keeps everything that happens in between.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until `probe` succeeds and returns its value. Its error is the last value seen, for the message.
///
/// # Panics
/// When `limit`, times `TEST_SLACK`, has passed: with the limit and the last value.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let limit = scaled(limit);
    let begun = Instant::now();
    loop {
        // The clock is read before the probe, so that a slow probe that succeeds still counts.
        let late = begun.elapsed() >= limit;
        match probe() {
            Ok(value) => return value,
            Err(last) => assert!(!late, "{what}: not within {limit:?}; last seen: {last}"),
        }
        thread::sleep(LOOK);
    }
}

/// Checks that `probe` succeeds throughout `span`: for events that must *not* happen.
///
/// # Panics
/// As soon as the probe fails.
#[track_caller]
pub fn throughout(span: Duration, what: &str, mut probe: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Err(seen) = probe() {
            panic!("{what}: broken after {:?} of {span:?}; seen: {seen}", begun.elapsed());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Returns a limit times `TEST_SLACK`.
#[must_use]
pub fn scaled(limit: Duration) -> Duration {
    static SLACK: LazyLock<f64> = LazyLock::new(|| match env::var("TEST_SLACK") {
        Err(_) => 1.0,
        Ok(text) => match text.parse() {
            Ok(slack) if (1.0..1000.0).contains(&slack) => slack,
            _ => panic!("TEST_SLACK ({text}) must be a number from 1 up"),
        },
    });
    limit.mul_f64(*SLACK)
}

/// Locks a mutex, also if a failed test has poisoned it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits how much runs at once, whatever the number of test threads.
pub(crate) struct Semaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Semaphore {
    pub(crate) const fn new(permits: usize) -> Self {
        Self { free: Mutex::new(permits), freed: Condvar::new() }
    }

    /// Waits for this many places; they are released when the permit is dropped.
    pub(crate) fn acquire(&'static self, places: usize) -> Permit {
        let mut free = lock(&self.free);
        while *free < places {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= places;
        Permit { semaphore: self, places }
    }
}

/// Places of a [`Semaphore`].
pub(crate) struct Permit {
    semaphore: &'static Semaphore,
    places: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.semaphore.free) += self.places;
        // All are notified, as a waiter that needs fewer places may continue where another cannot.
        self.semaphore.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_value_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let seen = eventually(Duration::from_secs(5), "three looks", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks.to_string()) }
        });
        assert_eq!(seen, 3);
    }

    #[test]
    #[should_panic(expected = "the impossible: not within 20ms; last seen: 42")]
    fn a_wait_that_times_out_reports_its_limit_and_the_last_value() {
        eventually::<()>(Duration::from_millis(20), "the impossible", || Err("42".into()));
    }

    #[test]
    #[should_panic(expected = "quiet: broken after")]
    fn throughout_fails_as_soon_as_its_condition_is_violated() {
        let mut looks = 0;
        throughout(Duration::from_secs(5), "quiet", || {
            looks += 1;
            if looks == 3 { Err("noise".into()) } else { Ok(()) }
        });
    }
}
