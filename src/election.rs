//! The election: one lock, one candidate, as a pure function: (state, event, now) → actions. No IO, no clock, no runtime.
//!
//! A candidate leads while the head of the queue *and* the holder key are attached to its lease and no eviction marker exists
//! ([`view`]). Leadership is never taken from a live instance: another one makes a handover request, or waits until the lease has
//! expired; by then the guard has killed the command. Every transaction compares all that it depends on, so it does no harm
//! if it is applied late or twice.
//!
//! ```text
//!             ┌────────────────────────────────────────────────────────────────┐
//!             ▼                                                                │
//! ──▶ Joining ──▶ Verifying ◀──▶ Waiting ──▶ Leading ──▶ Stopping ──▶ HandingOver ──▶ Releasing ──▶ Resting, exit
//!                  ▲     │                     ▲                         ▲
//!                  ▼     └─────────────────────┴─────────────────────────┘
//!               Claiming
//! ```
//!
//! | phase | answer of etcd | report of the guard | signal | cluster lost | woken |
//! | --- | --- | --- | --- | --- | --- |
//! | joining | granted → create the entry; created → verifying | lost → exit | shutdown → releasing | joining again | after a pause: grant |
//! | verifying | read → claiming, waiting, leading or handing over; lease gone → joining again | lost → exit | shutdown → releasing | joining again | after a pause: read |
//! | claiming | any outcome → verifying | lost → exit | shutdown → releasing | joining again | |
//! | waiting | handed over → leading; other changes → verifying; lease gone → joining again | lost → exit | shutdown → releasing | joining again | renewal is due |
//! | leading | renewal → feed; loss or request → stopping | tree exited, or lost → handing over; deadline passed → stopping | forwarded | stopping | renewal is late; open the watch |
//! | stopping | | tree exited, or lost → handing over | forwarded | | |
//! | handing over | applied → releasing after 50 ms; failed → try the next one found, then releasing | lost → exit | no further term | releasing | limit → releasing |
//! | releasing | revoked → joining or exit | lost → exit | no further term | | limit → joining or exit |
//! | resting | | | exit | | exit |
//!
//! While the check of the command fails, a leader steps down as soon as a standby can take over. An instance whose host is not eligible
//! leaves the queue in the first four phases, and joins again when it is; a leader is not asked.
//!
//! In the first four phases ACQUIRE_TIMEOUT and a denied access lead to releasing, too. A phase that is left cancels its requests;
//! an answer that comes later is ignored.
//!
//! Each event also lets a phase act on a deadline that has passed. The phases write the log lines; no decision depends on them.

mod absence;
mod candidacy;
mod candidate;
mod context;
mod demand;
mod end;
pub mod keys;
mod loss;
mod next;
pub mod operator;
pub mod pause;
mod paused;
mod phases;
mod position;
pub mod progress;
pub mod protocol;
mod step;
mod term;
mod transactions;
pub mod view;

pub use self::candidate::Candidate;
