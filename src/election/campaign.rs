//! Join, wait, claim, verify: from nothing to a [`Term`].

use std::time::Duration;

use super::{
    Claim, Election, Term,
    keys::LeaseId,
    store::{Change, Compare, Granted, KeyValue, Op, Outcome, Range, Store, StoreError, Txn},
    view::{Entry, View},
};
use crate::{
    clock::{Clock, Instant},
    guard::{Guard, Order},
    status::Phase,
    timing::{Timing, show},
};

impl<S: Store, C: Clock> Election<S, C> {
    /// Takes part in the election until this candidate leads: the lock is held, a renewal sent after that is confirmed,
    /// nobody asks for the lead, and no ousted holder may still run. However long that takes.
    ///
    /// Dropped half-way, it leaves a lease behind: [`give_back`](Self::give_back) revokes it.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn campaign(&self, guard: &impl Guard) -> Result<Term, StoreError> {
        loop {
            self.publish(|status| status.phase = Phase::Joining);
            self.cluster.forget_cluster();
            let (sent, granted) = self.cluster.grant(self.timing.lease()).await?;
            self.lease.set(Some(granted.lease));
            self.publish(|status| {
                status.lease = Some(granted.lease.to_string());
                status.ttl = granted.ttl;
            });
            // Before the lease holds anything: whatever happens to us, the guard can give it back.
            guard.order(Order::Lease(self.lease.get()));
            if let Some(term) = self.candidacy(granted, sent).await? {
                return Ok(term);
            }
            self.give_back(guard).await;
        }
    }

    /// With one lease from joining to leading. `None` if lease or place were lost, or the lead was given away at once: join
    /// again with a new lease.
    ///
    /// `renewed` is when the latest confirmed renewal of the lease was sent, or the request for it. A lease that was not renewed
    /// for its whole TTL is not used any further, whatever etcd says: old servers call one alive that they are about to
    /// revoke, and the next candidate would start beside a command that we start with it.
    async fn candidacy(&self, granted: Granted, mut renewed: Instant) -> Result<Option<Term>, StoreError> {
        let lease = granted.lease;
        if !self.join(lease).await? {
            return Ok(None);
        }
        let mut told = None;
        let mut failed = String::new();
        loop {
            let Some((sent, view)) =
                self.look(granted).await?.filter(|(sent, _)| self.in_time(granted, renewed, *sent))
            else {
                tracing::warn!("the lease {lease} is gone while waiting: joining again with a new one");
                return Ok(None);
            };
            renewed = sent;
            let Some((place, entry)) = view.entry_of(lease) else {
                tracing::warn!("the entry was deleted while waiting: joining again");
                return Ok(None);
            };
            self.tell_place(&view, place, entry, &mut told);
            if view.is_led_by(lease) {
                let term = Term::new(granted, sent, &view, entry);
                if let Some(request) = view.request_to(lease) {
                    let whose = request.identity();
                    tracing::info!("{whose:?} asks for the lead: handing over before anything is started");
                    // We had the lead; to ask for it again would pass it round for ever among several who force.
                    self.claim.set(Claim::Waits);
                    self.hand_over_term(&term).await;
                    return Ok(None);
                }
                if view.markers.is_empty() {
                    return Ok(Some(term));
                }
                self.publish(|status| status.phase = Phase::Elected);
            } else if let Some((step, txn)) = self.next_step(&view, place, entry) {
                match self.cluster.commit(&txn).await {
                    Ok(outcome) => {
                        tracing::debug!(?step, ?outcome, "transaction");
                        failed.clear();
                        if outcome == Outcome::Nothing {
                            // Something changed under us, as the next look shows. If it does not, that is no reason to hurry.
                            self.clock().sleep(RECONSIDER).await;
                        }
                    }
                    Err(failure @ StoreError::Refused(_)) => return Err(failure),
                    // Applied or not: the next look tells. Not at once, since whatever broke it may break the next.
                    Err(failure) => {
                        if failed != failure.to_string() {
                            failed = failure.to_string();
                            let retry = show(self.timing.retry_period());
                            tracing::warn!("to {step} did not succeed, trying again every {retry}: {failed}");
                        }
                        self.clock().sleep(self.timing.retry_period()).await;
                    }
                }
                continue;
            }
            match self.wait_for_change(granted, sent, &view, place, entry).await? {
                Some(sent) => renewed = sent,
                None => return Ok(None),
            }
        }
    }

    /// Whether a renewal sent at `sent` is soon enough after the one before.
    fn in_time(&self, granted: Granted, before: Instant, sent: Instant) -> bool {
        sent < self.timing.deadlines(before, granted.ttl).kill_at
    }

    /// Creates the entry, and the holder key with it if the lock is free. Creates, never overwrites: `false` if that could
    /// not be done, or nobody knows whether it was; such a lease is not used any further.
    async fn join(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let absent = |key: &Vec<u8>| Compare::Absent(Range::Key(key.clone()));
        let put = |key: &Vec<u8>| Op::Put(key.clone(), self.identity.clone().into(), lease);
        let (holder, entry, (from, to)) = (self.lock.holder(), self.lock.entry(lease), self.lock.entries());
        let join = Txn { when: vec![absent(&entry)], then: vec![put(&entry)], otherwise: None };
        let lead = Txn {
            when: vec![absent(&holder), Compare::Absent(Range::Between(from, to))],
            then: vec![put(&entry), put(&holder)],
            otherwise: Some(Box::new(join)),
        };
        match self.cluster.commit(&lead).await {
            Ok(Outcome::Then(_) | Outcome::Otherwise(_)) => Ok(true),
            Ok(Outcome::Nothing) => Ok(false),
            Err(failure @ StoreError::Refused(_)) => Err(failure),
            Err(failure) => {
                tracing::warn!("joining has an unknown outcome, joining again with a new lease: {failure}");
                self.clock().sleep(self.timing.retry_period()).await;
                Ok(false)
            }
        }
    }

    /// What this candidate can do about its waiting, if anything.
    fn next_step(&self, view: &View, place: usize, entry: &Entry) -> Option<(Step, Txn)> {
        let mine = Compare::Unchanged(entry.kv.key.clone(), entry.kv.mod_revision);
        let request = (self.lock.request(entry.lease), view.request_of(entry.lease));
        let then = |step, when, then| Some((step, Txn { when, then, otherwise: None }));
        match (self.claim.get(), &request, view.holder_without_entry()) {
            (Claim::Asks, (key, None), _) if view.holder.is_some() || place > 0 => {
                let absent = Compare::Absent(Range::Key(key.clone()));
                let put = Op::Put(key.clone(), self.identity.clone().into(), entry.lease);
                return then(Step::Ask, vec![mine, absent], vec![put]);
            }
            (Claim::Asks, (_, Some(asked)), Some(holder)) => {
                let when = vec![unchanged(holder), unchanged(asked)];
                let mut oust = vec![Op::Delete(holder.key.clone())];
                if let Some(lease) = holder.lease {
                    oust.push(Op::Put(self.lock.marker(lease), holder.value.clone(), lease));
                }
                return then(Step::Oust, when, oust);
            }
            _ => {}
        }
        if place == 0 && view.holder.is_none() {
            let absent = Compare::Absent(Range::Key(self.lock.holder()));
            let claim = Op::Put(self.lock.holder(), self.identity.clone().into(), entry.lease);
            return then(Step::Claim, vec![mine, absent], vec![claim, Op::Delete(request.0)]);
        }
        None
    }

    /// Waits until something this candidate waits for may have happened, and keeps the lease alive meanwhile: a few times
    /// per TTL, no more. Says when the latest renewal was sent; `None` if the lease is gone.
    async fn wait_for_change(
        &self,
        granted: Granted,
        mut sent: Instant,
        view: &View,
        place: usize,
        entry: &Entry,
    ) -> Result<Option<Instant>, StoreError> {
        let holder = self.lock.holder();
        let ahead = place.checked_sub(1).map(|ahead| view.entries[ahead].kv.key.clone());
        let mut ranges = vec![Range::Key(holder.clone()), Range::Key(entry.kv.key.clone())];
        ranges.extend(ahead.map(Range::Key));
        if view.is_led_by(entry.lease) {
            ranges.extend([Range::Prefix(self.lock.markers()), Range::Prefix(self.lock.requests())]);
        }
        // Whoever is neither at the head nor asks only wants to know who leads.
        let acts_on_holder = place == 0 || self.claim.get() == Claim::Asks;
        let matters = |change: &Change| match change {
            Change::Put(kv) if kv.key == holder => acts_on_holder || kv.lease == Some(entry.lease),
            _ => change.key() != holder || acts_on_holder,
        };
        let mut watch = match self.cluster.watch(&ranges, view.revision + 1).await {
            Ok(watch) => watch,
            Err(failure @ StoreError::Refused(_)) => return Err(failure),
            Err(_) => {
                self.clock().sleep(self.timing.retry_period()).await;
                return Ok(Some(sent));
            }
        };
        loop {
            tokio::select! {
                // The lease first: no stream of changes may keep us from it.
                biased;
                () = self.clock().sleep_until(sent + Timing::waiting_period(granted.ttl)) => {
                    let (renewed, alive) = self
                        .cluster
                        .hedged(async |store| {
                            let sent = self.clock().now();
                            Ok((sent, store.keep_alive(granted.lease).await?))
                        })
                        .await?;
                    if !alive || !self.in_time(granted, sent, renewed) {
                        tracing::warn!("the lease {} is gone while waiting: joining again with a new one", granted.lease);
                        return Ok(None);
                    }
                    sent = renewed;
                    self.publish(|status| status.renewed_at = Some(sent));
                }
                changes = watch.next() => {
                    let Ok(changes) = changes else { return Ok(Some(sent)) };
                    if changes.iter().any(matters) {
                        return Ok(Some(sent));
                    }
                    for change in &changes {
                        self.tell_leader(match change {
                            Change::Put(kv) => Some(kv),
                            Change::Deleted(..) => None,
                        });
                    }
                }
            }
        }
    }

    /// Says where this candidate stands, when that changed.
    fn tell_place(&self, view: &View, place: usize, entry: &Entry, told: &mut Option<usize>) {
        if told.is_none() {
            // The line about joining says who leads.
            self.told_leader.replace(view.holder.as_ref().map(KeyValue::identity).unwrap_or_default());
        }
        self.tell_leader(view.holder.as_ref());
        if self.claim.get() == Claim::AsksItsTwin {
            let twin = view.holder.as_ref().filter(|holder| holder.lease != Some(entry.lease));
            let twin = twin.filter(|holder| holder.value == self.identity.as_bytes());
            self.claim.set(if twin.is_some() { Claim::Asks } else { Claim::Waits });
            if twin.is_some() {
                tracing::warn!("our own identity {:?} leads already: asking it for the lead", self.identity);
            }
        }
        if view.is_led_by(entry.lease) {
            if let Some(marker) = view.markers.first() {
                let whose = marker.identity();
                tracing::info!("the lock is held; waiting until the ousted holder {whose:?} has given its lease back");
            }
            return;
        }
        let behind = place.checked_sub(1).map(|ahead| view.entries[ahead].name());
        self.publish(|status| status.phase = Phase::Waiting { number: place + 1, behind: behind.clone() });
        if told.is_none() {
            let behind = behind.map_or_else(|| "at the head".to_owned(), |behind| format!("behind {behind:?}"));
            let leader = view
                .holder
                .as_ref()
                .map_or_else(|| "nobody leads".to_owned(), |holder| format!("{:?} leads", holder.identity()));
            tracing::info!(lease = %entry.lease, "joined as number {} in the queue, {behind}; {leader}", place + 1);
            if let Some(holder) = view.holder_without_entry() {
                self.tell_holder_without_entry(holder);
            } else if self.claim.get() == Claim::Asks && view.entries.first().is_some_and(|head| !head.ours) {
                let head = view.entries[0].name();
                tracing::warn!(
                    "the head of the queue, {head:?}, is another kind of client: it cannot be forced, waiting for it"
                );
            }
        }
        *told = Some(place);
    }

    fn tell_holder_without_entry(&self, holder: &KeyValue) {
        let whose = holder.identity();
        match (holder.lease, self.claim.get()) {
            (None, Claim::Asks) => tracing::warn!("the holder key of {whose:?} has no lease: deleting it, as forced"),
            (None, _) => tracing::warn!(
                "the holder key {} of {whose:?} has no lease, so it was written by hand and never runs out: delete it, or \
                 set ETCD_AWAIT_ELECTION_FORCE_ACQUIRE",
                self.lock
            ),
            (Some(_), Claim::Asks) => {
                tracing::info!("{whose:?} leads with a version that knows no requests: ousting it")
            }
            (Some(_), _) => {}
        }
    }

    /// Says who leads, when that changed.
    fn tell_leader(&self, holder: Option<&KeyValue>) {
        let leader = holder.map(KeyValue::identity);
        if self.status.borrow().leader != leader {
            self.publish(|status| status.leader.clone_from(&leader));
        }
        let Some(leader) = leader else { return };
        let known = self.told_leader.replace(leader.clone());
        if !known.is_empty() && known != leader && leader != self.identity {
            tracing::info!("{leader:?} leads now");
        }
    }
}

impl Term {
    fn new(granted: Granted, sent: Instant, view: &View, entry: &Entry) -> Self {
        Self {
            lease: granted.lease,
            ttl: granted.ttl,
            token: view.holder.as_ref().map_or(0, |holder| holder.mod_revision),
            renewed_at: sent,
            entry: (entry.kv.key.clone(), entry.kv.mod_revision),
            revision: view.revision,
        }
    }
}

/// The pause after a transaction that found its compares wrong.
const RECONSIDER: Duration = Duration::from_millis(50);

/// What a waiting candidate can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Take the free lock.
    Claim,
    /// Put a request for the lead.
    Ask,
    /// Delete a holder that knows no requests, and mark its lease.
    Oust,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Claim => "take the free lock",
            Self::Ask => "ask for the lead",
            Self::Oust => "delete the holder that knows no requests",
        })
    }
}

fn unchanged(kv: &KeyValue) -> Compare {
    Compare::Unchanged(kv.key.clone(), kv.mod_revision)
}
