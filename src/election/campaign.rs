//! Join, wait, claim, verify: from nothing to a [`Term`].

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
    /// Takes part in the election until this candidate leads: the lock is held by a lease that was renewed of late,
    /// nobody asks for the lead, and no evicted holder may still run. However long that takes.
    ///
    /// Dropped half-way, it leaves a lease behind: [`give_back`](Self::give_back) revokes it.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn campaign(&self, guard: &impl Guard) -> Result<Term, StoreError> {
        let mut pauses = Pauses::default();
        self.etcd.set_urgent(false);
        loop {
            self.tell(Progress::Joining);
            self.leave_cluster().await;
            let lease = self.etcd.new_lease();
            // Before it is granted: whatever happens to us, it can be given back.
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
            self.tell(Progress::Renewed { sent, ttl: granted.ttl });
            let candidacy = tokio::select! {
                biased;
                () = self.etcd.membership().is_lost() => Candidacy::Over,
                candidacy = self.candidacy(granted, sent) => candidacy?,
            };
            let pause = match candidacy {
                Candidacy::Elected(term) => return Ok(*term),
                Candidacy::NotJoined => self.etcd.pause_after_failure(&mut pauses, false),
                Candidacy::InVain => self.timing.retry_period(),
                Candidacy::Over => {
                    pauses = Pauses::default();
                    Duration::ZERO
                }
            };
            self.give_back(guard).await;
            self.clock().sleep(pause).await;
        }
    }

    /// Forgets which cluster is ours. If the endpoints belong to another one by now, whose lock says nothing about the leader of
    /// this one, not before that leader's lease would have run out: wherever this candidate was when it learned that.
    async fn leave_cluster(&self) {
        let led = self.led_the_lost.take();
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

    /// With one lease from joining to leading, or to the end of that lease.
    ///
    /// `renewed` is when the latest confirmed renewal of the lease was sent, or the request for it.
    async fn candidacy(&self, granted: Granted, mut renewed: Instant) -> Result<Candidacy, StoreError> {
        let lease = granted.lease;
        if !self.join(lease).await? {
            return Ok(Candidacy::NotJoined);
        }
        let mut told = None;
        let mut failed = String::new();
        let mut pauses = Pauses::default();
        loop {
            let looked = if self.is_fresh(granted, renewed) {
                Some(self.etcd.hedged(async |store| self.view(store, lease).await).await?)
            } else {
                None
            };
            let view = match looked {
                // To start with it, the renewal must still be fresh after the look.
                Some(view) if self.is_fresh(granted, renewed) || !view.is_led_by(lease) => view,
                _ => {
                    let look = async |store: &S| self.view(store, lease).await;
                    let Some((sent, view)) = self.renew_in_time(granted, renewed, look).await? else {
                        return Ok(Candidacy::Over);
                    };
                    renewed = sent;
                    view
                }
            };
            let Some((place, entry)) = view.entry_of(lease) else {
                if told.is_none() {
                    return Ok(Candidacy::NotJoined);
                }
                tracing::warn!("the queue entry was deleted: joining again with a new lease");
                return Ok(Candidacy::Over);
            };
            if view.markers.iter().any(|marker| marker.lease == Some(lease)) {
                // A copy of our join led unseen, and somebody waits until this lease is gone.
                tracing::warn!("lease {lease} was evicted before this instance led: joining again with a new lease");
                return Ok(Candidacy::Over);
            }
            self.tell_place(&view, place, entry, &mut told);
            if view.is_led_by(lease) {
                let term = Term::new(granted, renewed, &view, entry);
                if let Some(asking) = view.asking(lease) {
                    let whose = asking.entry.kv.identity();
                    tracing::info!("{whose:?} made a handover request: handing over before the command is started");
                    // We had the lead; to ask for it again would pass it round for ever among several who force.
                    self.demand.set(Demand::None);
                    // If that failed, the owner of the request may have lost its entry and not yet its lease.
                    let taken = self.hand_over_term(&term).await;
                    return Ok(if taken { Candidacy::Over } else { Candidacy::InVain });
                }
                if view.markers.is_empty() {
                    return Ok(Candidacy::Elected(Box::new(term)));
                }
                self.tell(Progress::Evicting);
            } else if let Some((step, txn)) = self.next_step(&view, place, entry) {
                match self.etcd.commit(&txn).await {
                    Ok(outcome) => {
                        tracing::debug!(?step, ?outcome, "transaction");
                        failed.clear();
                        if let Outcome::Then(_) = outcome {
                            self.took(step);
                        }
                        pauses = Pauses::default();
                        if outcome == Outcome::Nothing {
                            // Something changed under us, as the next look shows. If it does not, that is no reason to hurry.
                            self.clock().sleep(RECONSIDER).await;
                        }
                    }
                    Err(failure @ StoreError::AccessDenied(_)) => return Err(failure),
                    // Applied or not: the next look tells. Not at once, since whatever broke it may break the next.
                    Err(failure) => {
                        if failed != failure.to_string() {
                            failed = failure.to_string();
                            tracing::warn!("could not {step}: {failed}; retrying");
                        }
                        self.clock().sleep(self.etcd.pause_after_failure(&mut pauses, false)).await;
                    }
                }
                continue;
            }
            match self.wait_for_change(granted, &mut renewed, &view, place, entry).await? {
                Waited::Change => {}
                Waited::HandedOver(term) => return Ok(Candidacy::Elected(term)),
                Waited::LeaseGone => return Ok(Candidacy::Over),
            }
        }
    }

    /// Whether a renewal that was sent then is good enough to start the command with: none is due, at least half of the renew
    /// deadline is left, and the leader's first renewal follows at once.
    fn is_fresh(&self, granted: Granted, renewed: Instant) -> bool {
        self.clock().now() < renewed + Timing::waiting_period(granted.ttl).min(self.timing.renew_deadline() / 2)
    }

    /// Renews the lease of a candidate that waits. `None` if it is gone, or was not renewed for its whole TTL: such a lease is
    /// not used any further, whatever etcd says. Old servers call one alive that they are about to revoke, and the next
    /// candidate would start beside a command that we start with it.
    async fn renew_in_time<T>(
        &self,
        granted: Granted,
        before: Instant,
        read: impl AsyncFn(&S) -> Result<T, StoreError>,
    ) -> Result<Option<(Instant, T)>, StoreError> {
        let deadline = self.timing.deadlines(before, granted.ttl).kill_at;
        // Judged by when the answer came: a lease that has run out meanwhile may be called alive, too.
        let renewed = self.renew(granted.lease, read).await?.filter(|_| self.clock().now() < deadline);
        match &renewed {
            Some((sent, _)) => self.tell(Progress::Renewed { sent: *sent, ttl: granted.ttl }),
            None => tracing::warn!(
                "lease {} expired or was revoked while waiting: joining again with a new lease",
                granted.lease
            ),
        }
        Ok(renewed)
    }

    /// Creates the entry, and the holder key with it if the lock is free. Creates, never overwrites: `false` if nobody knows
    /// whether that was done; such a lease is not used any further.
    ///
    /// A copy of it that is applied late does no harm: at worst it makes a second entry of this lease, at the end of the queue, or
    /// takes the lock for it when it is free.
    async fn join(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let absent = |key: &Vec<u8>| Compare::Absent(Range::Key(key.clone()));
        let put = |key: &Vec<u8>| Op::Put(key.clone(), self.identity.clone().into(), lease);
        let (holder, entry) = (self.lock.holder(), self.lock.entry(lease));
        let nobody = [self.lock.own_entries(), self.lock.foreign_entries()].map(Compare::Absent);
        let join = Txn { when: vec![absent(&entry)], then: vec![put(&entry)], otherwise: None };
        let lead = Txn {
            when: [absent(&holder)].into_iter().chain(nobody).collect(),
            then: vec![put(&entry), put(&holder)],
            otherwise: Some(Box::new(join)),
        };
        match self.etcd.commit(&lead).await {
            // If nothing was changed, another copy of it may have been applied before: the look tells.
            Ok(_) => Ok(true),
            Err(failure @ StoreError::AccessDenied(_)) => Err(failure),
            Err(failure) => {
                tracing::warn!("could not join the queue: {failure}; joining again with a new lease");
                Ok(false)
            }
        }
    }

    /// What this candidate can do about its waiting, if anything.
    fn next_step(&self, view: &View, place: usize, entry: &Entry) -> Option<(Step, Txn)> {
        let mine = unchanged(&entry.kv);
        let put = |key, lease| Op::Put(key, self.identity.clone().into(), lease);
        let then = |step, when, then| Some((step, Txn { when, then, otherwise: None }));
        let demand = self.demand.get();
        let asked = view.holder.as_ref().filter(|holder| demand.is_for(holder));
        if let (Some(holder), Some(_)) = (asked, view.holder_without_entry()) {
            // The next leader has to obey this request: this candidate is the one that evicted the holder.
            let request = Request { to: None, lease: entry.lease };
            let mut evict = vec![put(self.lock.request(request), entry.lease), Op::Delete(holder.key.clone())];
            evict.extend(holder.lease.map(|lease| Op::Put(self.lock.marker(lease), holder.value.clone(), lease)));
            return then(Step::Evict, vec![mine, unchanged(holder)], evict);
        }
        let request = demand.request(entry.lease);
        let key = request.map(|request| self.lock.request(request));
        if place == 0 && view.holder.is_none() {
            let absent = Compare::Absent(Range::Key(self.lock.holder()));
            let mut take = vec![put(self.lock.holder(), entry.lease)];
            take.extend(key.map(Op::Delete));
            return then(Step::Claim, vec![mine, absent], take);
        }
        let stands = request.and_then(|request| view.request(request));
        let waits_for_another = asked.is_none() && demand != Demand::OfEveryLeader;
        match (stands, key) {
            (Some(stands), Some(key)) if waits_for_another => {
                let stands = Compare::Unchanged(key.clone(), stands.mod_revision);
                then(Step::Withdraw, vec![stands], vec![Op::Delete(key)])
            }
            (None, Some(key)) if !waits_for_another => {
                let absent = Compare::Absent(Range::Key(key.clone()));
                then(Step::Request, vec![mine, absent], vec![put(key, entry.lease)])
            }
            (None, _) if waits_for_another => {
                self.demand.set(Demand::None);
                None
            }
            _ => None,
        }
    }

    /// Updates the claim after a step that was applied.
    fn took(&self, step: Step) {
        match step {
            Step::Evict => self.demand.set(Demand::OfEveryLeader),
            Step::Withdraw => self.demand.set(Demand::None),
            Step::Claim | Step::Request => {}
        }
    }

    /// Waits until something this candidate waits for has changed, and renews its lease meanwhile: a few times per TTL, no
    /// more.
    ///
    /// Whoever is further back watches only its own entry and the one ahead, or each hand-over would wake the whole queue; that
    /// somebody else leads it sees with its next renewal.
    async fn wait_for_change(
        &self,
        granted: Granted,
        renewed: &mut Instant,
        view: &View,
        place: usize,
        entry: &Entry,
    ) -> Result<Waited, StoreError> {
        let ahead = place.checked_sub(1).map(|ahead| &view.entries[ahead].kv);
        let keys = [Some(&entry.kv.key), ahead.map(|kv| &kv.key)].into_iter().flatten();
        let mut watched: Vec<_> = keys.cloned().map(Range::Key).collect();
        let mut rests_on: Vec<_> =
            [Some(&entry.kv), ahead, view.holder.as_ref()].into_iter().flatten().cloned().map(KeyOnly::from).collect();
        let holder = Range::Key(self.lock.holder());
        let mut gets: Vec<_> = watched.iter().chain([&holder]).cloned().map(Get::names).collect();
        if place < 2 || self.demand.get() == Demand::OfEveryLeader {
            watched.push(holder);
        }
        if view.is_led_by(entry.lease) {
            for range in self.lock.requests_to(entry.lease).into_iter().chain([self.lock.markers()]) {
                rests_on.extend(view.names.iter().filter(|name| range.contains(&name.key)).cloned());
                gets.push(Get::names(range.clone()));
                watched.push(range);
            }
        }
        let rests_on = versions(rests_on);
        let mut opening = pin!(self.etcd.watch(&watched, view.revision + 1));
        let mut watch = None;
        loop {
            let changes = async {
                if watch.is_none() {
                    watch = Some(opening.as_mut().await?);
                }
                match &mut watch {
                    // What one endpoint refuses is not final.
                    Some(watch) => watch.next().await.map_err(|failure| StoreError::Unavailable(failure.to_string())),
                    None => pending().await,
                }
            };
            tokio::select! {
                // The lease first: no stream of changes may keep us from it.
                biased;
                () = self.clock().sleep_until(*renewed + Timing::waiting_period(granted.ttl)) => {
                    let read = async |store: &S| store.read(&gets).await;
                    let Some((sent, snapshot)) = self.renew_in_time(granted, *renewed, read).await? else {
                        return Ok(Waited::LeaseGone);
                    };
                    *renewed = sent;
                    // A change that the watch has not shown yet, or never will.
                    if versions(snapshot.names) != rests_on {
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
                    // A watch that breaks says nothing: look. Not at once, as the next one may break at once.
                    Err(_) => {
                        self.clock().sleep(RECONSIDER).await;
                        return Ok(Waited::Change);
                    }
                },
            }
        }
    }

    /// Our term, if the leader's place and the holder key were written for our lease in one transaction: it compared that
    /// nobody asks for the lead and no evicted holder may run, so there is nothing left to look for.
    ///
    /// Not for a candidate that asks itself: it is served before others who ask.
    fn handed_over(&self, granted: Granted, renewed: Instant, ahead: &KeyValue, changes: &[Change]) -> Option<Term> {
        let written = |key: &[u8]| match changes.iter().rfind(|change| change.key() == key) {
            Some(Change::Put(kv)) if kv.lease == Some(granted.lease) => Some(kv),
            _ => None,
        };
        let (place, holder) = (written(&ahead.key)?, written(&self.lock.holder())?);
        if place.mod_revision != holder.mod_revision
            || !self.is_fresh(granted, renewed)
            || self.demand.get() != Demand::None
        {
            return None;
        }
        self.tell_leader(Some(holder));
        Some(Term {
            lease: granted.lease,
            ttl: granted.ttl,
            token: holder.mod_revision,
            renewed_at: renewed,
            entry: place.clone(),
            revision: holder.mod_revision,
            next: RefCell::default(),
        })
    }

    /// Says where this candidate stands, when that changed.
    fn tell_place(&self, view: &View, place: usize, entry: &Entry, told: &mut Option<usize>) {
        if told.is_none() {
            // The line about joining says who leads.
            self.told_leader.replace(view.holder.as_ref().map(KeyValue::identity).unwrap_or_default());
        }
        self.tell_leader(view.holder.as_ref());
        // The head of the queue takes a free lock at once.
        let waits = place > 0 || view.holder.is_some();
        if self.demand.get() == Demand::OfSameIdentity {
            let twin = view.holder.as_ref().filter(|holder| holder.lease != Some(entry.lease));
            let twin = twin.filter(|holder| holder.value == self.identity.as_bytes());
            self.demand.set(twin.map_or(Demand::None, |twin| Demand::OfHolder(twin.lease)));
            if twin.is_some() {
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
        let behind = place.checked_sub(1).map(|ahead| view.entries[ahead].name());
        let number = view.number(place);
        if waits {
            self.tell(Progress::Waiting { number, behind: behind.clone() });
        }
        if told.is_none() {
            let behind = behind.map_or_else(|| "at the head".to_owned(), |behind| format!("behind {behind:?}"));
            let leader = view
                .holder
                .as_ref()
                .map_or_else(|| "there is no leader".to_owned(), |holder| format!("{:?} leads", holder.identity()));
            tracing::info!(lease = %entry.lease, "joined as number {number} in the queue, {behind}; {leader}");
            if let Some(holder) = view.holder_without_entry() {
                self.tell_holder_without_entry(holder);
            } else if self.demand.get() == Demand::OfEveryLeader && view.entries.first().is_some_and(|head| !head.ours)
            {
                let head = view.entries[0].name();
                tracing::warn!(
                    "the head of the queue, {head:?}, was created by another etcd client and cannot be preempted; waiting"
                );
            }
        }
        *told = Some(place);
    }

    fn tell_holder_without_entry(&self, holder: &KeyValue) {
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

    /// Says who leads, when that changed.
    fn tell_leader(&self, holder: Option<&KeyValue>) {
        let is_self = holder.is_some_and(|holder| holder.value == self.identity.as_bytes());
        let leader = holder.map(KeyValue::identity);
        self.tell(Progress::LeaderSeen(leader.clone()));
        let Some(leader) = leader else { return };
        let known = self.told_leader.replace(leader.clone());
        if !known.is_empty() && known != leader && !is_self {
            tracing::info!("{leader:?} leads now");
        }
    }
}

impl Term {
    fn new(granted: Granted, renewed: Instant, view: &View, entry: &Entry) -> Self {
        // Where somebody asks for the lead it is not the next one's turn.
        let next = view.next_of(granted.lease).filter(|next| next.ours && view.asking(granted.lease).is_none());
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

/// The pause after a transaction that found its compares wrong, and after a watch that broke.
const RECONSIDER: Duration = Duration::from_millis(50);

/// What a candidacy with one lease came to.
enum Candidacy {
    /// This candidate leads.
    Elected(Box<Term>),
    /// Nobody knows of a place with this lease: join again with a new lease.
    NotJoined,
    /// Lease or place were lost, or the lead was given away at once: join again with a new lease.
    Over,
    /// The same, for a reason that may still be there: not at once.
    InVain,
}

/// What the waiting came to.
enum Waited {
    /// Something may have changed: look.
    Change,
    /// The leader gave us the lead.
    HandedOver(Box<Term>),
    /// The lease is gone, or not to be used any further.
    LeaseGone,
}

/// What a waiting candidate can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Take the free lock.
    Claim,
    /// Put a request for the lead.
    Request,
    /// Delete the request to a holder that no longer holds the lock.
    Withdraw,
    /// Delete a holder that knows no requests, and mark its lease.
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

/// The keys with the revisions that changed them last.
fn versions(names: Vec<KeyOnly>) -> BTreeSet<(Vec<u8>, i64)> {
    names.into_iter().map(|name| (name.key, name.mod_revision)).collect()
}

fn unchanged(kv: &KeyValue) -> Compare {
    Compare::Unchanged(kv.key.clone(), kv.mod_revision)
}
