//! Whether a handover request counts: only while its owner has a queue entry, as leadership cannot be handed over to it otherwise.

use crate::core::{
    clock::Instant,
    kv::{Get, KeyOnly, Snapshot},
    names::{LeaseId, LockName},
};
use crate::election::{
    context::{Context, Shift},
    protocol::{Consistency, Reading, Request, RequestId},
    view::View,
};

/// A read of the queue entries of the owners of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inquiry {
    pub(super) request: RequestId,
    /// The requests, the oldest first: the revision that created it, and the lease of its owner.
    requests: Vec<(i64, LeaseId)>,
    /// When the renewal was sent that is confirmed if no request counts.
    pub(super) confirms: Option<Instant>,
}

impl Inquiry {
    /// Returns the requests among these keys that the holder with this lease must obey if they count.
    pub(super) fn requests_for(holder: LeaseId, names: &[KeyOnly], lock: &LockName) -> Vec<(i64, LeaseId)> {
        let requests = names.iter().filter_map(|name| {
            let request = lock.request_of(&name.key).filter(|request| request.is_for(holder))?;
            Some((name.create_revision, request.lease))
        });
        requests.collect()
    }

    /// Reads the entries of the owners of these requests, and of those of an earlier inquiry that was not answered.
    pub(super) fn begin(
        earlier: Option<Self>,
        requests: Vec<(i64, LeaseId)>,
        confirms: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Self {
        let (mut all, unconfirmed) = earlier.map(|earlier| (earlier.requests, earlier.confirms)).unwrap_or_default();
        all.extend(requests);
        all.sort_unstable();
        all.dedup();
        all.truncate(Get::FEW);
        let entries = all.iter().map(|(_, lease)| Get::key(context.shared.lock().entry(*lease))).collect();
        let request = context.request(Request::Read(Reading::Keys(entries), Consistency::Linearizable));
        Self { request, requests: all, confirms: confirms.max(unconfirmed) }
    }

    /// Returns the identity of the owner of the oldest request that counts.
    pub(super) fn owner(&self, read: Snapshot, lock: &LockName) -> Option<Vec<u8>> {
        let view = View::new(lock, read);
        let owner = self.requests.iter().find_map(|(_, lease)| view.entry_of(*lease));
        owner.map(|(_, entry)| entry.kv.value.clone())
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        shift.request(&mut self.request);
        self.confirms.iter_mut().for_each(|sent| shift.instant(sent));
    }
}
