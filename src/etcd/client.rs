//! The client of a cluster with all its endpoints: it rotates and hedges, and logs when etcd does not answer.
//!
//! A request is sent to the preferred endpoint. If there is no response within the [hedge delay](RequestTimeouts::hedge_delay), it
//! is sent to the next endpoint as well. The first response counts, even a late one, and makes its endpoint the preferred one. So a
//! member that is dead, frozen or cut off delays one request by one hedge delay.

mod attempts;
mod endpoints;
mod pauses;
mod requests;
mod state;
mod timeouts;
mod vote;

pub(crate) use self::pauses::Pauses;
pub use self::{requests::Watch, state::EtcdClient, timeouts::RequestTimeouts};

#[cfg(test)]
mod tests;
