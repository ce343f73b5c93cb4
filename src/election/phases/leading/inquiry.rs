//! Whether a handover request counts: only while its owner has a queue entry, and not during a pause, as leadership cannot be handed
//! over to it otherwise.

use crate::{
    core::{
        clock::Instant,
        kv::{Get, KeyOnly, Snapshot},
        names::{LeaseId, LockName},
    },
    election::{
        context::{Context, Shift},
        protocol::{Consistency, Reading, Request, RequestId},
        view::View,
    },
};

/// A read of the queue entries of the owners of requests. It is not begun again before it is answered: otherwise it would never end
/// where requests are made or renewals are answered faster than etcd answers one read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inquiry {
    pub(super) request: RequestId,
    /// The lease of this leader.
    holder: LeaseId,
    /// When the renewal was sent that is confirmed if no request counts.
    pub(super) confirms: Option<Instant>,
    /// What the next read is about.
    waiting: Option<(Vec<Made>, Option<Instant>)>,
}

/// A request that was made: the revision that created it, and the lease of its owner.
pub(super) type Made = (i64, LeaseId);

impl Inquiry {
    /// Returns the requests among these keys that the holder with this lease must obey if they count.
    pub(super) fn requests_for(holder: LeaseId, names: &[KeyOnly], lock: &LockName) -> Vec<Made> {
        let requests = names.iter().filter_map(|name| {
            let request = lock.request_of(&name.key).filter(|request| request.is_for(holder))?;
            Some((name.create_revision, request.lease))
        });
        requests.collect()
    }

    /// Reads the entries of the owners of these requests.
    pub(super) fn begin(
        holder: LeaseId,
        mut requests: Vec<Made>,
        confirms: Option<Instant>,
        context: &mut Context<'_>,
    ) -> Self {
        requests.sort_unstable();
        requests.truncate(Get::FEW);
        let lock = context.shared.lock();
        let entries = requests.iter().map(|(_, lease)| Get::key(lock.entry(*lease)));
        // One that was withdrawn meanwhile does not count.
        let made = lock.requests_to(holder).map(Get::names);
        let gets = entries.chain(made).chain([Get::key(lock.pause())]).collect();
        let request = context.request(Request::Read(Reading::Keys(gets), Consistency::Linearizable));
        Self { request, holder, confirms, waiting: None }
    }

    /// Reads these after the present read.
    pub(super) fn add(&mut self, requests: Vec<Made>, confirms: Option<Instant>) {
        let (all, unconfirmed) = self.waiting.get_or_insert_default();
        all.extend(requests);
        all.sort_unstable();
        all.dedup();
        all.truncate(Get::FEW);
        *unconfirmed = confirms.max(*unconfirmed);
    }

    /// Begins the next read, if there is one.
    pub(super) fn next(self, context: &mut Context<'_>) -> Option<Self> {
        let holder = self.holder;
        self.waiting.map(|(requests, confirms)| Self::begin(holder, requests, confirms, context))
    }

    /// Returns the identity of the owner of the oldest request that counts.
    pub(super) fn owner(&self, read: Snapshot, lock: &LockName) -> Option<Vec<u8>> {
        let view = View::new(lock, read);
        view.requester(self.holder).map(|requester| requester.entry.kv.value.clone())
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        shift.request(&mut self.request);
        let waiting = self.waiting.iter_mut().filter_map(|(_, confirms)| confirms.as_mut());
        self.confirms.iter_mut().chain(waiting).for_each(|sent| shift.instant(sent));
    }
}
