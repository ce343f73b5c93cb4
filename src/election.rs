//! The election: one lock, one candidate, over any [`Store`](crate::etcd::store::Store).
//!
//! A candidate leads while the head of the queue *and* the holder key are attached to its lease and no eviction marker exists
//! ([`view`]). It [campaigns](Election::campaign) until then, [leads](Election::lead) while the guard runs the command, and
//! [hands over](Election::hand_over) when the process tree has exited. Leadership is never taken from a live instance:
//! another one makes a handover request, or waits until the lease has expired; by then the guard has killed the command.
//!
//! Every transaction compares all that it depends on, so that it is harmless if it is applied late or twice.

mod campaign;
mod candidate;
mod hand_over;
pub mod keys;
pub mod lead;
pub mod progress;
pub mod view;

pub use self::candidate::{Election, Term};
