//! The campaign: join the queue, wait, claim the lock, and verify that the command may start.

use std::{cell::RefCell, collections::BTreeSet, future::pending, pin::pin, time::Duration};

use super::{
    candidate::{Demand, Election, Term},
    keys::Request,
    progress::Progress,
    view::{Entry, View},
};
use crate::{
    core::names::LeaseId,
    etcd::{
        client::Pauses,
        store::{Change, Compare, Get, Granted, KeyOnly, KeyValue, Op, Outcome, Range, Store, StoreError, Txn},
    },
};
use crate::{
    core::{
        clock::{Clock, Instant},
        timing::Timing,
    },
    guard::{Guard, Order},
};

impl<S: Store, C: Clock> Election<S, C> {
    /// Campaigns until this candidate leads, without a time limit: its freshly renewed lease holds the lock, there is no handover
    /// request, and the command of an evicted holder cannot run any more.
    ///
    /// If the future is dropped, [`release`](Self::release) revokes the lease.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
    pub async fn campaign(&self, guard: &impl Guard) -> Result<Term, StoreError> {
        let mut pauses = Pauses::default();
        self.etcd.set_urgent(false);
        loop {
            self.report(Progress::Joining);
            self.leave_cluster().await;
            let lease = self.etcd.new_lease();
            // Before it is granted, so that it can be revoked even if this process is killed.
            self.lease.set(Some(lease));
            self.granted.set(false);
            guard.order(Order::Lease(Some(lease)));
            let (sent, granted) = tokio::select! {
                biased;
                () = self.etcd.membership().is_lost() => continue,
                granted = self.etcd.grant(lease, self.timing.lease()) => granted?,
            };
            self.granted.set(true);
            self.ttl.set(granted.ttl);
            self.report(Progress::Renewed { sent, ttl: granted.ttl });
            let candidacy = tokio::select! {
                biased;
                () = self.etcd.membership().is_lost() => Candidacy::Over,
                candidacy = self.candidacy(granted, sent) => candidacy?,
            };
            let pause = match candidacy {
                Candidacy::Elected(term) => return Ok(*term),
                Candidacy::NotJoined => self.etcd.pause_after_failure(&mut pauses, false),
                Candidacy::HandoverFailed => self.timing.retry_period(),
                Candidacy::Over => {
                    pauses = Pauses::default();
                    Duration::ZERO
                }
            };
            self.release(guard).await;
            self.clock().sleep(pause).await;
        }
    }

    /// Forgets which cluster to use. If the endpoints belong to another one by now, waits first until the lease of the leader in the
    /// previous cluster must have expired: the lock of the other cluster says nothing about that leader.
    async fn leave_cluster(&self) {
        let led = self.led_lost_cluster.take();
        if self.etcd.membership().lost() && !led {
            let lease = self.ttl.get();
            let delay = crate::core::timing::show(lease);
            tracing::warn!(
                "joining the other etcd cluster in {delay}: the leader of the previous cluster may run until then"
            );
            self.clock().sleep(lease).await;
        }
        self.etcd.forget_cluster();
    }

    /// Joins with one lease, and campaigns until it leads or that lease is not used any more.
    ///
    /// `renewed` is when the latest confirmed renewal of the lease was sent; at first, when its grant was.
    async fn candidacy(&self, granted: Granted, mut renewed: Instant) -> Result<Candidacy, StoreError> {
        let lease = granted.lease;
        if !self.join(lease).await? {
            return Ok(Candidacy::NotJoined);
        }
        let mut has_joined = false;
        let mut logged_failure = String::new();
        let mut pauses = Pauses::default();
        loop {
            let read = if self.is_fresh(granted, renewed) {
                Some(self.etcd.hedged(async |store| self.view(store, lease).await).await?)
            } else {
                None
            };
            let view = match read {
                // To start the command, the renewal must still be fresh after the read.
                Some(view) if self.is_fresh(granted, renewed) || !view.is_led_by(lease) => view,
                _ => {
                    let read = async |store: &S| self.view(store, lease).await;
                    let Some((sent, view)) = self.renew_in_time(granted, renewed, read).await? else {
                        return Ok(Candidacy::Over);
                    };
                    renewed = sent;
                    view
                }
            };
            let Some((position, entry)) = view.entry_of(lease) else {
                if !has_joined {
                    return Ok(Candidacy::NotJoined);
                }
                tracing::warn!("the queue entry was deleted: joining again with a new lease");
                return Ok(Candidacy::Over);
            };
            if view.markers.iter().any(|marker| marker.lease == Some(lease)) {
                // A join that was applied late made this instance the holder, and another instance evicted it.
                tracing::warn!("lease {lease} was evicted before this instance led: joining again with a new lease");
                return Ok(Candidacy::Over);
            }
            self.log_position(&view, position, entry, &mut has_joined);
            if view.is_led_by(lease) {
                let term = Term::new(granted, renewed, &view, entry);
                if let Some(requester) = view.requester(lease) {
                    let whose = requester.entry.kv.identity();
                    tracing::info!("{whose:?} made a handover request: handing over before the command is started");
                    // Otherwise several instances with FORCE_ACQUIRE would request leadership from each other for ever.
                    self.demand.set(Demand::None);
                    // If this fails, the owner of the request may have lost its entry but not yet its lease.
                    let handed_over = self.hand_over_term(&term).await;
                    return Ok(if handed_over { Candidacy::Over } else { Candidacy::HandoverFailed });
                }
                if view.markers.is_empty() {
                    return Ok(Candidacy::Elected(Box::new(term)));
                }
                self.report(Progress::Evicting);
            } else if let Some((step, txn)) = self.next_step(&view, position, entry) {
                match self.etcd.commit(&txn).await {
                    Ok(outcome) => {
                        tracing::debug!(?step, ?outcome, "transaction");
                        logged_failure.clear();
                        if let Outcome::Then(_) = outcome {
                            self.update_demand(step);
                        }
                        pauses = Pauses::default();
                        if outcome == Outcome::Nothing {
                            // A key has changed since the read. The next read shows it.
                            self.clock().sleep(REREAD_PAUSE).await;
                        }
                    }
                    Err(failure @ StoreError::AccessDenied(_)) => return Err(failure),
                    // The next read shows whether it was applied.
                    Err(failure) => {
                        if logged_failure != failure.to_string() {
                            logged_failure = failure.to_string();
                            tracing::warn!("could not {step}: {logged_failure}; retrying");
                        }
                        self.clock().sleep(self.etcd.pause_after_failure(&mut pauses, false)).await;
                    }
                }
                continue;
            }
            match self.wait_for_change(granted, &mut renewed, &view, position, entry).await? {
                Waited::Change => {}
                Waited::HandedOver(term) => return Ok(Candidacy::Elected(term)),
                Waited::LeaseGone => return Ok(Candidacy::Over),
            }
        }
    }

    /// Returns whether the command may start after a renewal that was sent at `renewed`: no other is due, and at least half of the
    /// renew deadline is left for the first renewal of the leader.
    fn is_fresh(&self, granted: Granted, renewed: Instant) -> bool {
        self.clock().now() < renewed + Timing::waiting_period(granted.ttl).min(self.timing.renew_deadline() / 2)
    }

    /// Renews the lease of a waiting candidate. Returns `None` if the lease does not exist, or was not renewed within its TTL: old
    /// versions of etcd confirm a lease that they are about to revoke, and then two commands would run.
    async fn renew_in_time<T>(
        &self,
        granted: Granted,
        before: Instant,
        read: impl AsyncFn(&S) -> Result<T, StoreError>,
    ) -> Result<Option<(Instant, T)>, StoreError> {
        let deadline = self.timing.deadlines(before, granted.ttl).kill_at;
        // The time of the response decides: a lease that has expired meanwhile may be confirmed, too.
        let renewed = self.renew(granted.lease, read).await?.filter(|_| self.clock().now() < deadline);
        match &renewed {
            Some((sent, _)) => self.report(Progress::Renewed { sent: *sent, ttl: granted.ttl }),
            None => tracing::warn!(
                "lease {} expired or was revoked while waiting: joining again with a new lease",
                granted.lease
            ),
        }
        Ok(renewed)
    }

    /// Creates the queue entry, and the holder key as well if the lock is free; never overwrites a key. Returns `false` if the
    /// outcome is unknown: then this lease is not used any more.
    ///
    /// If it is applied late, it creates at worst a second entry of this lease, or takes a free lock.
    async fn join(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let absent = |key: &Vec<u8>| Compare::Absent(Range::Key(key.clone()));
        let put = |key: &Vec<u8>| Op::Put(key.clone(), self.identity.clone().into(), lease);
        let (holder, entry) = (self.lock.holder(), self.lock.entry(lease));
        let queue_is_empty = [self.lock.own_entries(), self.lock.foreign_entries()].map(Compare::Absent);
        let join = Txn { when: vec![absent(&entry)], then: vec![put(&entry)], otherwise: None };
        let lead = Txn {
            when: [absent(&holder)].into_iter().chain(queue_is_empty).collect(),
            then: vec![put(&entry), put(&holder)],
            otherwise: Some(Box::new(join)),
        };
        match self.etcd.commit(&lead).await {
            // If nothing was changed, it may have been applied before, over another connection. The next read shows that.
            Ok(_) => Ok(true),
            Err(failure @ StoreError::AccessDenied(_)) => Err(failure),
            Err(failure) => {
                tracing::warn!("could not join the queue: {failure}; joining again with a new lease");
                Ok(false)
            }
        }
    }

    /// Returns the transaction by which this candidate can come closer to leadership; `None` if it has to wait.
    fn next_step(&self, view: &View, position: usize, entry: &Entry) -> Option<(Step, Txn)> {
        let own_entry = unchanged(&entry.kv);
        let put = |key, lease| Op::Put(key, self.identity.clone().into(), lease);
        let then = |step, when, then| Some((step, Txn { when, then, otherwise: None }));
        let demand = self.demand.get();
        let wanted_from = view.holder.as_ref().filter(|holder| demand.is_for(holder));
        if let (Some(holder), Some(_)) = (wanted_from, view.holder_without_entry()) {
            // With a request, so that the next leader hands over to the candidate that evicted the holder.
            let request = Request { to: None, lease: entry.lease };
            let mut evict = vec![put(self.lock.request(request), entry.lease), Op::Delete(holder.key.clone())];
            evict.extend(holder.lease.map(|lease| Op::Put(self.lock.marker(lease), holder.value.clone(), lease)));
            return then(Step::Evict, vec![own_entry, unchanged(holder)], evict);
        }
        let request = demand.request(entry.lease);
        let key = request.map(|request| self.lock.request(request));
        if position == 0 && view.holder.is_none() {
            let absent = Compare::Absent(Range::Key(self.lock.holder()));
            let mut claim = vec![put(self.lock.holder(), entry.lease)];
            claim.extend(key.map(Op::Delete));
            return then(Step::Claim, vec![own_entry, absent], claim);
        }
        let existing = request.and_then(|request| view.request(request));
        let is_obsolete = wanted_from.is_none() && demand != Demand::OfEveryLeader;
        match (existing, key) {
            (Some(existing), Some(key)) if is_obsolete => {
                let existing = Compare::Unchanged(key.clone(), existing.mod_revision);
                then(Step::Withdraw, vec![existing], vec![Op::Delete(key)])
            }
            (None, Some(key)) if !is_obsolete => {
                let absent = Compare::Absent(Range::Key(key.clone()));
                then(Step::Request, vec![own_entry, absent], vec![put(key, entry.lease)])
            }
            (None, _) if is_obsolete => {
                self.demand.set(Demand::None);
                None
            }
            _ => None,
        }
    }

    fn update_demand(&self, step: Step) {
        match step {
            Step::Evict => self.demand.set(Demand::OfEveryLeader),
            Step::Withdraw => self.demand.set(Demand::None),
            Step::Claim | Step::Request => {}
        }
    }

    /// Waits until one of the keys that this candidate depends on has changed, and renews its lease a few times per TTL.
    ///
    /// A standby further back watches only its own entry and the one ahead, so that a handover does not wake the whole queue.
    async fn wait_for_change(
        &self,
        granted: Granted,
        renewed: &mut Instant,
        view: &View,
        position: usize,
        entry: &Entry,
    ) -> Result<Waited, StoreError> {
        let ahead = position.checked_sub(1).map(|ahead| &view.entries[ahead].kv);
        let keys = [Some(&entry.kv.key), ahead.map(|kv| &kv.key)].into_iter().flatten();
        let mut watched: Vec<_> = keys.cloned().map(Range::Key).collect();
        let mut expected: Vec<_> =
            [Some(&entry.kv), ahead, view.holder.as_ref()].into_iter().flatten().cloned().map(KeyOnly::from).collect();
        let holder = Range::Key(self.lock.holder());
        let mut gets: Vec<_> = watched.iter().chain([&holder]).cloned().map(Get::names).collect();
        if position < 2 || self.demand.get() == Demand::OfEveryLeader {
            watched.push(holder);
        }
        if view.is_led_by(entry.lease) {
            for range in self.lock.requests_to(entry.lease).into_iter().chain([self.lock.markers()]) {
                expected.extend(view.names.iter().filter(|name| range.contains(&name.key)).cloned());
                gets.push(Get::names(range.clone()));
                watched.push(range);
            }
        }
        let expected = versions(expected);
        let mut opening = pin!(self.etcd.watch(&watched, view.revision + 1));
        let mut watch = None;
        loop {
            let changes = async {
                if watch.is_none() {
                    watch = Some(opening.as_mut().await?);
                }
                match &mut watch {
                    // Another endpoint may allow what this one denies.
                    Some(watch) => watch.next().await.map_err(|failure| StoreError::Unavailable(failure.to_string())),
                    None => pending().await,
                }
            };
            tokio::select! {
                // The lease first: a stream of changes must not delay its renewal.
                biased;
                () = self.clock().sleep_until(*renewed + Timing::waiting_period(granted.ttl)) => {
                    let read = async |store: &S| store.read(&gets).await;
                    let Some((sent, snapshot)) = self.renew_in_time(granted, *renewed, read).await? else {
                        return Ok(Waited::LeaseGone);
                    };
                    *renewed = sent;
                    // The watch may not have shown this change yet, or may have missed it.
                    if versions(snapshot.names) != expected {
                        return Ok(Waited::Change);
                    }
                }
                changes = changes => match changes {
                    Ok(changes) if changes.is_empty() => {}
                    Ok(changes) => {
                        let term = ahead.and_then(|ahead| self.handed_over(granted, *renewed, ahead, &changes));
                        return Ok(term.map_or(Waited::Change, |term| Waited::HandedOver(Box::new(term))));
                    }
                    Err(failure @ StoreError::AccessDenied(_)) => return Err(failure),
                    // The pause is for watches that break at once.
                    Err(_) => {
                        self.clock().sleep(REREAD_PAUSE).await;
                        return Ok(Waited::Change);
                    }
                },
            }
        }
    }

    /// Returns the term of this candidate if one transaction wrote the leader's entry and the holder key for its lease. That
    /// transaction compared that there is neither a request nor a marker, so no other read is needed.
    ///
    /// Returns `None` for a candidate with a request of its own, which comes before those of others.
    fn handed_over(&self, granted: Granted, renewed: Instant, ahead: &KeyValue, changes: &[Change]) -> Option<Term> {
        let written = |key: &[u8]| match changes.iter().rfind(|change| change.key() == key) {
            Some(Change::Put(kv)) if kv.lease == Some(granted.lease) => Some(kv),
            _ => None,
        };
        let (entry, holder) = (written(&ahead.key)?, written(&self.lock.holder())?);
        if entry.mod_revision != holder.mod_revision
            || !self.is_fresh(granted, renewed)
            || self.demand.get() != Demand::None
        {
            return None;
        }
        self.log_leader(Some(holder));
        Some(Term {
            lease: granted.lease,
            ttl: granted.ttl,
            token: holder.mod_revision,
            renewed_at: renewed,
            entry: entry.clone(),
            revision: holder.mod_revision,
            next: RefCell::default(),
        })
    }

    /// Reports and logs the position of this candidate in the queue, and the leader.
    fn log_position(&self, view: &View, position: usize, entry: &Entry, has_joined: &mut bool) {
        if !*has_joined {
            // The line about joining names the leader.
            self.logged_leader.replace(view.holder.as_ref().map(KeyValue::identity).unwrap_or_default());
        }
        self.log_leader(view.holder.as_ref());
        // The head of the queue takes a free lock at once.
        let waits = position > 0 || view.holder.is_some();
        if self.demand.get() == Demand::OfSameIdentity {
            let same = view.holder.as_ref().filter(|holder| holder.lease != Some(entry.lease));
            let same = same.filter(|holder| holder.value == self.identity.as_bytes());
            self.demand.set(same.map_or(Demand::None, |holder| Demand::OfHolder(holder.lease)));
            if same.is_some() {
                tracing::warn!(
                    "the leader has the identity of this instance, {:?}: requesting a handover",
                    self.identity
                );
            }
        }
        if view.is_led_by(entry.lease) {
            if let Some(lease) = view.markers.first().and_then(|marker| marker.lease) {
                tracing::info!("holding the lock; waiting until lease {lease} of the evicted holder has expired");
            }
            return;
        }
        let behind = position.checked_sub(1).map(|ahead| view.entries[ahead].name());
        let number = view.number(position);
        if waits {
            self.report(Progress::Waiting { number, behind: behind.clone() });
        }
        if !*has_joined {
            let behind = behind.map_or_else(|| "at the head".to_owned(), |behind| format!("behind {behind:?}"));
            let leader = view
                .holder
                .as_ref()
                .map_or_else(|| "there is no leader".to_owned(), |holder| format!("{:?} leads", holder.identity()));
            tracing::info!(lease = %entry.lease, "joined as number {number} in the queue, {behind}; {leader}");
            if let Some(holder) = view.holder_without_entry() {
                self.log_holder_without_entry(holder);
            } else if self.demand.get() == Demand::OfEveryLeader && view.entries.first().is_some_and(|head| !head.ours)
            {
                let head = view.entries[0].name();
                tracing::warn!(
                    "the head of the queue, {head:?}, was created by another etcd client and cannot be preempted; waiting"
                );
            }
        }
        *has_joined = true;
    }

    fn log_holder_without_entry(&self, holder: &KeyValue) {
        let whose = holder.identity();
        match (holder.lease, self.demand.get().is_for(holder)) {
            (None, true) => {
                tracing::warn!("the holder key of {whose:?} has no lease: deleting it, as FORCE_ACQUIRE is set")
            }
            (None, false) => tracing::warn!(
                "the holder key {} of {whose:?} has no lease and never expires: it was written by hand; delete it or set \
                 ETCD_AWAIT_ELECTION_FORCE_ACQUIRE",
                self.lock
            ),
            (Some(_), true) => tracing::info!(
                "holder {whose:?} is an older version that cannot be asked to hand over: evicting it, as FORCE_ACQUIRE is set"
            ),
            (Some(_), false) => {}
        }
    }

    /// Reports the leader, and logs it if it has changed.
    fn log_leader(&self, holder: Option<&KeyValue>) {
        let is_self = holder.is_some_and(|holder| holder.value == self.identity.as_bytes());
        let leader = holder.map(KeyValue::identity);
        self.report(Progress::LeaderSeen(leader.clone()));
        let Some(leader) = leader else { return };
        let previous = self.logged_leader.replace(leader.clone());
        if !previous.is_empty() && previous != leader && !is_self {
            tracing::info!("{leader:?} leads now");
        }
    }
}

impl Term {
    fn new(granted: Granted, renewed: Instant, view: &View, entry: &Entry) -> Self {
        // A handover request comes before the next entry.
        let next = view.next_of(granted.lease).filter(|next| next.ours && view.requester(granted.lease).is_none());
        Self {
            lease: granted.lease,
            ttl: granted.ttl,
            token: view.holder.as_ref().map_or(0, |holder| holder.mod_revision),
            renewed_at: renewed,
            entry: entry.kv.clone(),
            revision: view.revision,
            next: RefCell::new(next.cloned()),
        }
    }
}

/// The pause before another read after a transaction whose compares failed, and after a watch that broke.
const REREAD_PAUSE: Duration = Duration::from_millis(50);

/// How the candidacy with one lease ended. All cases but the first one need a new lease.
enum Candidacy {
    /// This candidate leads.
    Elected(Box<Term>),
    /// It is not known whether the lease has a queue entry.
    NotJoined,
    /// The lease or the queue entry was lost, or leadership was handed over before the command was started.
    Over,
    /// Leadership could not be handed over to the owner of a request.
    HandoverFailed,
}

/// Why the waiting ended.
enum Waited {
    /// A key may have changed: read again.
    Change,
    /// The leader handed over to this candidate.
    HandedOver(Box<Term>),
    /// The lease does not exist, or must not be used any more.
    LeaseGone,
}

/// A transaction of a waiting candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Take the free lock.
    Claim,
    /// Make a handover request.
    Request,
    /// Delete the request to an earlier holder.
    Withdraw,
    /// Delete the holder key of a holder that does not react to requests, and create the eviction marker on its lease.
    Evict,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Claim => "take the lock",
            Self::Request => "request a handover",
            Self::Withdraw => "withdraw the handover request to an earlier holder",
            Self::Evict => "evict the holder",
        })
    }
}

/// Returns the keys with their mod revisions.
fn versions(names: Vec<KeyOnly>) -> BTreeSet<(Vec<u8>, i64)> {
    names.into_iter().map(|name| (name.key, name.mod_revision)).collect()
}

fn unchanged(kv: &KeyValue) -> Compare {
    Compare::Unchanged(kv.key.clone(), kv.mod_revision)
}
