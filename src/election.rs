//! The election: one lock, one candidate, over any [`Store`](crate::etcd::store::Store).
//!
//! A candidate leads while the head of the queue *and* the holder key hang on its lease and no marker stands
//! ([`view`]). It [campaigns](Election::campaign) until it does, [leads](Election::lead) while the guard runs the command,
//! and [gives the lead away](Election::hand_over) when nothing of the command is left. Nothing is ever taken from a living
//! instance: whoever wants the lead asks for it, or waits until the lease has run out, and by then the guard has killed
//! the command.
//!
//! Every transaction compares what it rests on. So one whose answer was lost does no harm when it is applied later.

mod campaign;
mod candidate;
mod hand_over;
pub mod keys;
pub mod lead;
pub mod progress;
pub mod view;

pub use self::candidate::{Election, Term};
