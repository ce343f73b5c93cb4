//! Chance that can be had again: everything random comes from the seed.

use std::time::Duration;

use harness::Random;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Random);

impl Dice {
    /// The stream for one purpose. Purposes do not disturb each other: how often one of them throws changes no other.
    pub(crate) fn new(seed: u64, purpose: &[u64]) -> Self {
        let mix = |seed, word: &u64| Random::new(seed).draw() ^ word.wrapping_mul(0xd134_2543_de82_ef95);
        Self(Random::new(purpose.iter().fold(seed, mix)))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.draw() % limit
    }

    /// An index into something of this length.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    /// Yes, in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between two, in milliseconds.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}
