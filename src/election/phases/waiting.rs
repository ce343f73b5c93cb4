//! Waiting: watches the keys that this candidate depends on, and renews its lease a few times per TTL.
//!
//! A standby further back only keeps its lease alive, and reads when its own entry or the one ahead has changed. A change of the leader
//! or of the pause it only reports, so that a handover does not make the whole queue read.

use std::collections::BTreeSet;

use crate::core::{
    clock::Instant,
    kv::{Change, Get, KeyOnly, KeyValue, Range, StoreError},
    timing::Timing,
};
use crate::election::{
    candidacy::{Candidacy, Failback, REREAD_PAUSE},
    context::{Context, Shift},
    demand::Demand,
    keys,
    next::{Handle, Next},
    paused, position,
    protocol::{Answer, Event, Reading, Request, RequestId},
    step::Step,
    term::Term,
    transactions,
    view::{Entry, View},
};

/// A candidate that waits until a key changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiting {
    candidacy: Candidacy,
    entry: Entry,
    /// The entry just ahead in the queue; `None` for the head.
    ahead: Option<KeyValue>,
    /// The keys that this candidate depends on, as they were read.
    expected: BTreeSet<Version>,
    /// The reads of these keys.
    gets: Vec<Get>,
    /// Whether a handover would be to this candidate. Only then it reads in each renewal, so that it can start without another read.
    is_next: bool,
    watch: RequestId,
    /// The renewal that is not answered yet.
    renewal: Option<RequestId>,
}

/// A key and its mod revision.
type Version = (Vec<u8>, i64);

impl Waiting {
    pub(crate) fn begin(candidacy: Candidacy, view: &View, position: usize, context: &mut Context<'_>) -> Self {
        let lock = context.shared.lock();
        let entry = &view.entries[position];
        let ahead = position.checked_sub(1).map(|ahead| &view.entries[ahead].kv);
        let keys = [Some(&entry.kv.key), ahead.map(|kv| &kv.key)].into_iter().flatten();
        let mut ranges: Vec<_> = keys.cloned().map(Range::Key).collect();
        let mut expected: Vec<_> =
            [Some(&entry.kv), ahead, view.holder.as_ref()].into_iter().flatten().cloned().map(KeyOnly::from).collect();
        let holder = Range::Key(lock.holder());
        let mut gets: Vec<_> = ranges.iter().chain([&holder]).cloned().map(Get::names).collect();
        let pause = Range::Key(lock.pause());
        expected.extend(view.pause.clone().map(KeyOnly::from));
        gets.push(Get::names(pause.clone()));
        ranges.extend([pause, holder]);
        let is_next = position < 2;
        if candidacy.failback == Failback::Due {
            // The standby with the highest priority makes the request.
            expected.extend(view.priorities.iter().cloned().map(KeyOnly::from));
            gets.push(Get::names(lock.priorities()));
            ranges.push(lock.priorities());
        }
        if view.is_led_by(entry.lease) {
            for range in lock.requests_to(entry.lease).into_iter().chain([lock.markers()]) {
                expected.extend(view.names.iter().filter(|name| range.contains(&name.key)).cloned());
                gets.push(Get::names(range.clone()));
                ranges.push(range);
            }
        }
        let (expected, ahead, entry) = (versions(expected), ahead.cloned(), entry.clone());
        let watch = context.request(Request::Watch { ranges, from: view.revision + 1 });
        let mut waiting = Self { candidacy, entry, ahead, expected, gets, is_next, watch, renewal: None };
        waiting.renew_if_due(context);
        waiting
    }

    fn renewal_due(&self) -> Instant {
        let Candidacy { renewed, kept_alive, ttl, .. } = self.candidacy;
        if self.is_next { renewed + Timing::waiting_period(ttl) } else { kept_alive + Timing::keepalive_period(ttl) }
    }

    fn renew_if_due(&mut self, context: &mut Context<'_>) {
        if self.renewal.is_some() || context.now < self.renewal_due() {
            return;
        }
        let Candidacy { lease, renewed, ttl, .. } = self.candidacy;
        let reads = self.is_next || context.now >= renewed + Timing::reread_period(ttl);
        self.renewal = Some(context.request(if reads {
            Request::Renew { lease, reading: Reading::Keys(self.gets.clone()) }
        } else {
            Request::KeepAlive(lease)
        }));
    }

    fn kept_alive(&mut self, sent: Instant, context: &mut Context<'_>) -> Option<Next> {
        self.renewal = None;
        (!self.candidacy.keep_alive(sent, context)).then(Next::join_again)
    }

    fn renewed(&mut self, sent: Instant, names: Vec<KeyOnly>, context: &mut Context<'_>) -> Option<Next> {
        self.renewal = None;
        if !self.candidacy.renew(sent, context) {
            return Some(Next::join_again());
        }
        // The watch may not have shown this change yet, or may have missed it.
        (versions(names) != self.expected).then(|| Next::Verify(self.candidacy.clone(), None))
    }

    /// Handles changes. Only the leader and the pause may change without a read, for a candidate further back that requests nothing.
    fn changed(&mut self, changes: &[Change], context: &mut Context<'_>) -> Option<Next> {
        paused::changed(changes, context);
        let (holder, pause) = (context.shared.lock().holder(), context.shared.lock().pause());
        let reads = self.is_next || context.shared.demand != Demand::None || self.candidacy.failback == Failback::Due;
        if reads || changes.iter().any(|change| ![&holder[..], &pause[..]].contains(&change.key())) {
            return Some(self.after(changes, context));
        }
        for change in changes {
            self.expected.retain(|(key, _)| key != change.key());
            let put = if let Change::Put(kv) = change { Some(kv) } else { None };
            self.expected.extend(put.map(|kv| (kv.key.clone(), kv.mod_revision)));
            if change.key() == holder {
                position::report_leader(put, context);
            }
        }
        None
    }

    fn after(&self, changes: &[Change], context: &mut Context<'_>) -> Next {
        // With a request of its own, it first reads the requests of others that come before it.
        if self.candidacy.is_fresh(context) && context.shared.demand == Demand::None {
            if let Some(term) = self.handed_over(changes, context) {
                return Next::lead(&self.candidacy, term, None);
            }
            if self.is_freed(changes, context) {
                let config = &context.shared.config;
                // An operator may have made a request to the leader for this candidate.
                let to = self.ahead.as_ref().and_then(|ahead| ahead.lease);
                let request = to.map(|to| keys::Request { to: Some(to), lease: self.candidacy.lease });
                let txn = transactions::claim(&config.lock, &config.identity, &self.entry, request.as_slice());
                return Next::Claim(self.candidacy.clone(), self.entry.kv.clone(), Step::Claim, txn);
            }
        }
        Next::Verify(self.candidacy.clone(), None)
    }

    /// Returns whether the lease of the leader just ahead has expired or was revoked: then this candidate is the head of the queue,
    /// and the lock is free.
    fn is_freed(&self, changes: &[Change], context: &Context<'_>) -> bool {
        let is_deleted =
            |key: &[u8]| matches!(changes.iter().rfind(|change| change.key() == key), Some(Change::Deleted(..)));
        let ahead = self.ahead.as_ref().filter(|_| self.is_next);
        let is_free = ahead.is_some_and(|ahead| is_deleted(&ahead.key)) && is_deleted(&context.shared.lock().holder());
        is_free && context.shared.paused.pause.is_none()
    }

    /// Returns the term of this candidate if one transaction wrote the leader's entry and the holder key for its lease. That
    /// transaction compared that there is no marker, so no other read is needed. A request that is made meanwhile is obeyed as by any
    /// leader.
    fn handed_over(&self, changes: &[Change], context: &mut Context<'_>) -> Option<Term> {
        let lease = self.candidacy.lease;
        let written = |key: &[u8]| match changes.iter().rfind(|change| change.key() == key) {
            Some(Change::Put(kv)) if kv.lease == Some(lease) => Some(kv),
            _ => None,
        };
        let entry = written(&self.ahead.as_ref()?.key)?;
        let holder = written(&context.shared.lock().holder())?;
        if entry.mod_revision != holder.mod_revision {
            return None;
        }
        position::report_leader(Some(holder), context);
        Some(Term::new(&self.candidacy, entry, holder))
    }
}

impl Handle for Waiting {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::ClusterLost => Some(Next::join_again()),
            Event::Woken if self.candidacy.failback.becomes_due(context.now) => {
                Some(Next::Verify(self.candidacy.clone(), None))
            }
            Event::Woken => {
                self.renew_if_due(context);
                None
            }
            Event::Answer(_, Answer::Renewed { sent, read }) => self.renewed(sent, read.names, context),
            Event::Answer(_, Answer::KeptAlive { sent }) => self.kept_alive(sent, context),
            Event::Answer(_, Answer::LeaseGone) => {
                self.candidacy.log_expired();
                Some(Next::join_again())
            }
            Event::Answer(_, Answer::Changes(changes)) if !changes.is_empty() => self.changed(&changes, context),
            Event::Answer(id, Answer::Failed { failure, .. })
                if self.renewal == Some(id) || matches!(failure, StoreError::AccessDenied(_)) =>
            {
                Some(Next::leave_denied(&failure))
            }
            // The pause is for watches that break at once.
            Event::Answer(_, Answer::Failed { .. }) => {
                Some(Next::Verify(self.candidacy.clone(), Some(context.now + REREAD_PAUSE)))
            }
            _ => None,
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let renewal = self.renewal.is_none().then(|| self.renewal_due());
        [renewal, self.candidacy.failback.next_wake()].into_iter().flatten().min()
    }

    fn requests(&self) -> Vec<RequestId> {
        [Some(self.watch), self.renewal].into_iter().flatten().collect()
    }

    fn shift(&mut self, shift: Shift<'_>) {
        self.candidacy.shift(shift);
        [Some(&mut self.watch), self.renewal.as_mut()].into_iter().flatten().for_each(|request| shift.request(request));
    }
}

/// Returns the keys with their mod revisions.
fn versions(names: Vec<KeyOnly>) -> BTreeSet<Version> {
    names.into_iter().map(|name| (name.key, name.mod_revision)).collect()
}
