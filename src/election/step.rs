//! The transactions by which a waiting candidate comes closer to leadership, and which of them is next.

use std::fmt;

use super::{
    context::Shared,
    demand::Demand,
    transactions,
    view::{Entry, View},
};
use crate::core::kv::Txn;

/// A transaction of a waiting candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Take the free lock.
    Claim,
    /// Make a handover request.
    Request,
    /// Delete the request to an earlier holder.
    Withdraw,
    /// Delete the holder key of a holder that does not react to requests, and create the eviction marker on its lease.
    Evict,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claim => "take the lock",
            Self::Request => "request a handover",
            Self::Withdraw => "withdraw the handover request to an earlier holder",
            Self::Evict => "evict the holder",
        })
    }
}

/// Returns the transaction by which this candidate can come closer to leadership; `None` if it has to wait.
pub(super) fn next(view: &View, position: usize, entry: &Entry, shared: &Shared) -> Option<(Step, Txn)> {
    let (lock, identity, demand) = (&shared.config.lock, &shared.config.identity, shared.demand);
    let wanted_from = view.holder.as_ref().filter(|holder| demand.is_for(holder));
    if let (Some(holder), Some(_), None) = (wanted_from, view.holder_without_entry(), &view.pause) {
        return Some((Step::Evict, transactions::evict(lock, identity, entry, holder)));
    }
    let request = demand.request(entry.lease);
    if position == 0 && view.holder.is_none() && view.pause.is_none() {
        let made = view.requests.iter().map(|made| made.request).filter(|made| made.lease == entry.lease);
        let own: Vec<_> = made.filter(|made| Some(*made) != request).chain(request).collect();
        return Some((Step::Claim, transactions::claim(lock, identity, entry, &own)));
    }
    let is_wanted = wanted_from.is_some() || demand == Demand::OfEveryLeader;
    match (view.request(request?), request?) {
        (Some(made), request) if !is_wanted => {
            Some((Step::Withdraw, transactions::withdraw(lock, request, made.mod_revision)))
        }
        (None, request) if is_wanted => Some((Step::Request, transactions::request(lock, identity, entry, request))),
        _ => None,
    }
}
