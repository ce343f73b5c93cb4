//! One cluster through all its endpoints: rotation, hedging, and the line in the log when etcd falls silent.
//!
//! Every endpoint has its own client. A request goes to the preferred endpoint; if that has not answered soon, the next
//! one gets it too, and the first answer wins and makes its endpoint the preferred one. So a dead, frozen or black-holed
//! member costs a [hedge delay](RequestTimeouts::hedge_delay), once. Nothing is given up for that: an answer that is late counts, too.

mod attempts;
mod endpoints;
mod pauses;
mod requests;
mod state;
mod timeouts;
mod vote;

pub(crate) use self::{attempts::Attempts, pauses::Pauses, timeouts::NEVER};
pub use self::{requests::Watch, state::EtcdClient, timeouts::RequestTimeouts};

#[cfg(test)]
mod tests;
