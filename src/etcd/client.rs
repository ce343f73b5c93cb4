//! One cluster through all its endpoints: rotation, hedging, and the line in the log when etcd falls silent.
//!
//! Every endpoint has its own client. A request goes to the preferred endpoint; if that has not answered soon, the next
//! one gets it too, and the first answer wins and makes its endpoint the preferred one. So a dead, frozen or black-holed
//! member costs a [hedge delay](Patience::hedge_delay), once. Nothing is given up for that: an answer that is late counts, too.

mod attempts;
mod endpoints;
mod pauses;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, LocalBoxFuture},
    stream::FuturesUnordered,
};
use tokio::sync::{Notify, watch};

pub(crate) use self::attempts::Attempts;
pub(crate) use self::pauses::Pauses;
use self::{
    attempts::Answer,
    endpoints::{Endpoints, Id},
    pauses::Jitter,
};
use super::{
    membership::{self, Membership},
    store::{Granted, Outcome, Range, Store, StoreError, Txn, Watch as _},
};
use crate::core::names::LeaseId;
use crate::core::{
    clock::{Clock, Instant},
    timing::{Timing, show},
};

/// Later than anything.
pub(crate) const NEVER: Instant = Instant::from_boot(Duration::MAX);

/// Who was asked for its cluster, and whether it answered.
type Vote<S> = (Rc<S>, Result<(), StoreError>);

/// How long to wait for whom.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When the next endpoint gets the request too.
    pub hedge_delay: Duration,
    /// When an attempt is given up: its answer would be of no use any more.
    pub attempt_limit: Duration,
    /// The longest pause after all endpoints failed; the first ones are shorter.
    pub pause: Duration,
}

impl Patience {
    /// What fits between the renewals of this timing: several hedges before the renew deadline, which is when a renewal that was
    /// sent before is worth nothing any more.
    #[must_use]
    pub fn of(timing: &Timing) -> Self {
        let spare = timing.outage_survived();
        Self {
            hedge_delay: (spare / 8).clamp(Duration::from_millis(50), Duration::from_millis(500)),
            attempt_limit: timing.renew_deadline().max(Duration::from_secs(1)),
            pause: timing.retry_period().min(spare),
        }
    }
}

impl Default for Patience {
    /// For a question or an errand outside of an election.
    fn default() -> Self {
        Self {
            hedge_delay: Duration::from_millis(500),
            attempt_limit: Duration::from_secs(8),
            pause: Duration::from_secs(1),
        }
    }
}

/// All endpoints of one etcd cluster; never empty.
#[derive(Debug)]
pub struct Cluster<S, C> {
    endpoints: Endpoints<S>,
    membership: Rc<Membership>,
    clock: C,
    patience: Patience,
    preferred: watch::Sender<Id>,
    /// An attempt has failed, or is slow.
    trouble: Notify,
    /// Some endpoints are other ones than before.
    others: Notify,
    jitter: Jitter,
    /// Whether any endpoint ever answered: certificates that once were right will be right again.
    known: Cell<bool>,
    silent: Cell<bool>,
    /// How long the latest answer took.
    latency: Cell<Duration>,
    /// The reasons that were told since etcd fell silent.
    told: RefCell<BTreeSet<String>>,
    /// The votes that were told to be too few; `None` if nothing was.
    undecided: RefCell<Option<String>>,
}

impl<S: Store, C: Clock> Cluster<S, C> {
    /// Whatever answers with nonsense has a new reason for ever.
    const MOST_REASONS: usize = 30;
    /// From one question to all endpoints which cluster they belong to, to the next.
    const ASK_AGAIN: Duration = Duration::from_secs(60);
    /// The same while they contradict each other, which has to be noticed when it gets worse.
    const ASK_AGAIN_IN_CONFLICT: Duration = Duration::from_secs(5);
    /// So many connections to the only endpoint are asked, as there may be several servers behind it.
    const CONNECTIONS: usize = 3;

    /// All `endpoints`, which vote by their names in `membership`; the first is preferred until another one answers faster.
    ///
    /// # Panics
    /// Without an endpoint.
    #[must_use]
    pub fn new(endpoints: Vec<S>, membership: Rc<Membership>, clock: C, patience: Patience) -> Self {
        assert!(!endpoints.is_empty(), "a cluster has endpoints");
        Self {
            endpoints: Endpoints::new(endpoints),
            membership,
            jitter: Jitter::new(clock.now()),
            clock,
            patience,
            preferred: watch::Sender::new(0),
            trouble: Notify::new(),
            others: Notify::new(),
            known: Cell::new(false),
            silent: Cell::new(false),
            latency: Cell::default(),
            told: RefCell::default(),
            undecided: RefCell::default(),
        }
    }

    /// The clock that all limits are measured with.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// The endpoints of the present, in the order of their names.
    pub fn endpoints(&self) -> Vec<Rc<S>> {
        self.endpoints.all().into_iter().map(|(_, store)| store).collect()
    }

    /// Which cluster is ours.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Forgets which cluster is ours: nothing of ours is there. It is decided anew by the next request.
    pub fn forget_cluster(&self) {
        self.membership.forget();
    }

    /// Decides which cluster is ours, however long that takes. Returns at once if it is decided.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn decide(&self) -> Result<(), StoreError> {
        match self.membership.ours() {
            Some(_) => Ok(()),
            // Boxed, as it is part of every request's future and seldom needed.
            None => Box::pin(self.decide_by_vote()).await,
        }
    }

    async fn decide_by_vote(&self) -> Result<(), StoreError> {
        // The last answers of all endpoints are as good as new ones.
        self.membership.decide();
        let mut pauses = Pauses::default();
        while self.membership.ours().is_none() {
            self.resolve().await;
            let failures = self.vote().await;
            self.membership.decide();
            if self.membership.ours().is_none() {
                self.undecided_finally(&failures)?;
                self.clock.sleep(pauses.next(self.clock.now(), false, self)).await;
            }
        }
        self.undecided.take();
        // What was asked last may still be silent, or of another cluster.
        let preferred = self.endpoints.after(*self.preferred.borrow(), 0).1;
        if !self.membership.includes(preferred.name()) {
            let endpoints = self.endpoints.all();
            let ours = endpoints.iter().find(|(_, store)| self.membership.includes(store.name()));
            ours.inspect(|(id, _)| self.prefer(*id));
        }
        Ok(())
    }

    /// Looks all names up again, and asks all endpoints which cluster they belong to: once a minute; the former also when
    /// attempts fail, the latter when there are other endpoints, and every few seconds while there is a conflict.
    pub async fn keep_asking(&self) -> ! {
        // Who does not answer must not keep new addresses from being found.
        let (never, _) = future::join(self.keep_resolving(), self.keep_voting()).await;
        never
    }

    async fn keep_resolving(&self) -> ! {
        let mut resolve_at = self.clock.now() + Duration::from_secs(1);
        loop {
            tokio::select! {
                biased;
                () = self.clock.sleep_until(resolve_at) => {}
                () = self.trouble.notified() => {}
            }
            // Until then whoever decides does it.
            if self.membership.ours().is_some() {
                if self.resolve().await {
                    self.others.notify_one();
                }
                if self.clock.now() >= resolve_at {
                    resolve_at = self.clock.now() + Self::ASK_AGAIN;
                }
            } else {
                resolve_at = resolve_at.max(self.clock.now() + Duration::from_secs(1));
            }
            self.clock.sleep(self.patience.pause).await;
        }
    }

    async fn keep_voting(&self) -> ! {
        let mut ask_at = self.clock.now() + Duration::from_secs(1);
        loop {
            let in_conflict_at = self.clock.now() + Self::ASK_AGAIN_IN_CONFLICT;
            let others = tokio::select! {
                biased;
                () = self.others.notified() => true,
                () = self.clock.sleep_until(ask_at.min(in_conflict_at)) => false,
            };
            // Until then whoever decides does it.
            if self.membership.ours().is_none() {
                ask_at = ask_at.max(self.clock.now() + Duration::from_secs(1));
            } else if others || self.membership.in_conflict() || self.clock.now() >= ask_at {
                self.ask_again().await;
                ask_at = self.clock.now() + Self::ASK_AGAIN;
            }
        }
    }

    /// Asks all endpoints which cluster they belong to. If that decides without those that have left DNS, only those of them
    /// are kept that are still of our cluster.
    async fn ask_again(&self) {
        let mut answered = BTreeSet::new();
        let mut asked = self.ask_all();
        while let Some((store, answer)) = asked.next().await {
            answer.is_ok().then(|| answered.insert(store.name().to_owned()));
        }
        let is_ours = |store: &S| answered.contains(store.name()) && self.membership.includes(store.name());
        let present = self.endpoints.present();
        if 2 * present.iter().filter(|store| is_ours(store)).count() > present.len() {
            self.endpoints.retain_left(is_ours);
            self.set_voters();
        }
    }

    /// Looks all names up. What a name stood for before is kept while it cannot be looked up. Returns whether other endpoints
    /// vote now.
    async fn resolve(&self) -> bool {
        let limit = self.clock.now() + 4 * self.patience.hedge_delay;
        let names = self.endpoints.names().iter().enumerate();
        let mut lookups: FuturesUnordered<_> =
            names.map(async |(n, name)| (n, self.clock.before(limit, name.resolve()).await)).collect();
        let before = self.endpoints.present();
        while let Some((name, found)) = lookups.next().await {
            match found {
                Some(Ok(found)) => self.endpoints.resolved(name, found),
                Some(Err(failure)) => tracing::debug!("{failure}"),
                None => {}
            }
        }
        self.endpoints.retain_left(|store| self.membership.keeps(store.name()));
        self.set_voters();
        let present = self.endpoints.present();
        let names = |stores: &[Rc<S>]| stores.iter().map(|store| store.name().to_owned()).collect::<BTreeSet<_>>();
        names(&before) != names(&present)
    }

    fn set_voters(&self) {
        let way = |store: &Rc<S>| Some((store.name().to_owned(), store.way()?));
        self.membership.set_ways(self.endpoints().iter().filter_map(way));
        self.membership.set_endpoints(self.endpoints().iter().map(|store| store.name()));
        let preferred = *self.preferred.borrow();
        self.prefer(self.endpoints.after(preferred, 0).0);
    }

    /// Asks all endpoints until no answer that is missing can change the result.
    async fn vote(&self) -> Vec<StoreError> {
        let endpoints = self.endpoints();
        let mut missing: BTreeSet<&str> = endpoints.iter().map(|store| store.name()).collect();
        let mut failures = Vec::new();
        let mut asked = self.ask_all();
        if self.membership.rests_on_one() {
            let more = (1..Self::CONNECTIONS).flat_map(|_| self.endpoints.all());
            asked.extend(more.map(|(id, store)| self.ask_within_limit(id, Rc::new(store.again())).boxed_local()));
        }
        let mut slow = pin!(self.clock.sleep(self.silence()));
        let mut told = false;
        loop {
            let (store, answer) = tokio::select! {
                biased;
                next = asked.next() => match next {
                    Some(answer) => answer,
                    None => break,
                },
                () = slow.as_mut(), if !told => {
                    told = true;
                    let silent = missing.iter().map(|name| format!("{name}: no answer within {}", show(self.silence())));
                    self.tell_undecided(&failures.iter().map(ToString::to_string).chain(silent).collect::<Vec<_>>());
                    continue;
                }
            };
            missing.remove(store.name());
            failures.extend(answer.err());
            if self.membership.is_certain(&missing) {
                break;
            }
        }
        failures
    }

    /// Asks all endpoints at once which cluster they belong to.
    fn ask_all(&self) -> FuturesUnordered<LocalBoxFuture<'_, Vote<S>>> {
        self.endpoints.all().into_iter().map(|(id, store)| self.ask_within_limit(id, store).boxed_local()).collect()
    }

    async fn ask_within_limit(&self, id: Id, store: Rc<S>) -> Vote<S> {
        let limit = self.clock.now() + self.patience.attempt_limit;
        let answer = self.clock.before(limit, self.ask_one(id, &store)).await;
        let answer = answer.unwrap_or_else(|| {
            self.give_up_connection(id, &store);
            let limit = show(self.patience.attempt_limit);
            Err(StoreError::Unavailable(format!("{}: no answer within {limit}", store.name())))
        });
        let answer = answer.map(|cluster| self.membership.heard(store.name(), cluster));
        (store, answer)
    }

    /// Asks one endpoint for its cluster; over new connections as well if there is no answer, since behind one address there may
    /// be several members.
    async fn ask_one(&self, id: Id, store: &Rc<S>) -> Result<u64, StoreError> {
        let ask = async |store: Rc<S>| (store.cluster_id().await, store);
        let mut asked: FuturesUnordered<_> = [ask(Rc::clone(store))].into_iter().collect();
        let mut patience = self.patience.hedge_delay;
        loop {
            tokio::select! {
                biased;
                Some((answer, store)) = asked.next() => match answer {
                    Ok(cluster) => {
                        self.keep(id, &store);
                        return Ok(cluster);
                    }
                    Err(failure) => {
                        tracing::debug!(endpoint = store.name(), "{failure}");
                        self.give_up_connection(id, &store);
                        if asked.is_empty() {
                            return Err(failure);
                        }
                    }
                },
                () = self.clock.sleep(patience) => {
                    patience *= 2;
                    asked.push(ask(Rc::new(store.again())));
                }
            }
        }
    }

    /// Whether it makes sense to go on after all endpoints have answered or failed.
    fn undecided_finally(&self, failures: &[StoreError]) -> Result<(), StoreError> {
        if self.membership.summary().is_empty() {
            return self.all_failed(failures.to_vec());
        }
        self.known.set(true);
        self.tell_undecided(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }

    /// One line when the votes do not suffice, and when they have changed; not one per try.
    fn tell_undecided(&self, reasons: &[String]) {
        let summary = self.membership.summary();
        if summary.is_empty() {
            return self.tell_silence(reasons);
        }
        if self.undecided.borrow().as_ref() != Some(&summary) {
            let colon = if reasons.is_empty() { "" } else { ": " };
            tracing::warn!(
                "could not decide which etcd cluster to use: {summary}, and more than half of {} must report the same cluster, \
                 the only one over several connections; list all members in ETCD_AWAIT_ELECTION_ENDPOINTS or set \
                 ETCD_AWAIT_ELECTION_CLUSTER_ID; retrying at least every {}{colon}{}",
                membership::endpoints(self.len()),
                show(self.patience.pause),
                reasons.join("; ")
            );
            self.undecided.replace(Some(summary));
        }
    }

    /// Grants a lease, however long that takes, and says when the first request for it was sent.
    ///
    /// The id is ours, so that the same lease can be asked for at several endpoints, and can be revoked whether or not an answer
    /// came.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<(Instant, Granted), StoreError> {
        self.decide().await?;
        let sent = self.clock.now();
        let granted = self.hedged(async |store| store.grant(lease, ttl).await).await?;
        Ok((sent, granted))
    }

    /// Whether this instance leads.
    pub(crate) fn set_urgent(&self, urgent: bool) {
        self.endpoints.names()[0].set_urgent(urgent);
    }

    /// An id for a lease that nobody else has.
    pub fn new_lease(&self) -> LeaseId {
        self.endpoints.names()[0].new_lease()
    }

    /// Revokes a lease, however long that takes; `false` if there is no such lease any more.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn revoke(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.hedged(async |store| store.revoke(lease).await).await
    }

    /// Sends a transaction to one endpoint after the other until one has answered or all have failed. Several copies may be
    /// applied, each finding its compares as they are then: all but the first one have to find them wrong, or must do no harm.
    ///
    /// # Errors
    /// Its outcome is unknown then.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        // Meanwhile nothing else is done, and the lease has to be renewed.
        let limit = self.patience.attempt_limit / 2;
        let mut attempts = Attempts::one_pass(self, async |store: &S| store.commit(txn).await);
        match self.clock.before(self.clock.now() + limit, attempts.next()).await {
            Some(committed) => committed.map(|(_, outcome)| outcome),
            None => Err(StoreError::Unavailable(format!("no endpoint has answered within {}", show(limit)))),
        }
    }

    /// Asks one endpoint after the other until one has answered, however long that takes. `ask` may run several times, and
    /// at several endpoints at once: it must be idempotent.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn hedged<'a, T: 'a>(
        &'a self,
        ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a,
    ) -> Result<T, StoreError>
    where
        S: 'a,
    {
        self.decide().await?;
        Attempts::once(self, ask).next().await.map(|(_, answer)| answer)
    }

    /// Asks every `period` from `begin` on, whether or not the answers before have come; see [`Attempts`].
    pub(crate) fn asked_every<'a, T: 'a>(
        &'a self,
        period: Duration,
        begin: Instant,
        ask: impl AsyncFn(&S) -> Result<T, StoreError> + 'a,
    ) -> Attempts<'a, S, C, T>
    where
        S: 'a,
    {
        Attempts::every(self, period, begin, ask)
    }

    /// Opens a watch, however long that takes. It ends when another endpoint is preferred than the one that it was opened at:
    /// what does not answer there does not report changes either.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn watch(&self, ranges: &[Range], from: i64) -> Result<Watch<'_, S, C>, StoreError> {
        self.decide().await?;
        let preferred = self.preferred.subscribe();
        let opened = Attempts::once(self, async |store: &S| store.watch(ranges, from).await).next_answer().await?;
        let Answer { value: watch, index, store, .. } = opened;
        Ok(Watch { cluster: self, watch, store, index, preferred })
    }

    fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// This connection has answered.
    fn keep(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |_| Some(Rc::clone(store)));
    }

    /// This connection has failed: whoever uses it still may, and nobody else will.
    fn give_up_connection(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |standing| Rc::ptr_eq(standing, store).then(|| Rc::new(store.again())));
        self.trouble.notify_one();
    }

    fn preferred_index(&self) -> Id {
        *self.preferred.borrow()
    }

    fn prefer(&self, index: Id) {
        self.preferred.send_if_modified(|preferred| std::mem::replace(preferred, index) != index);
    }

    /// How long an answer is waited for before etcd is said to be silent: half of what an attempt is given, or more where answers
    /// have been slow before.
    fn silence(&self) -> Duration {
        (self.patience.attempt_limit / 2).max(2 * self.latency.get())
    }

    /// One line when etcd answers again.
    fn answered(&self, latency: Duration) {
        self.known.set(true);
        self.latency.set(latency);
        if self.silent.replace(false) {
            tracing::info!("etcd answers again");
        }
        self.told.borrow_mut().clear();
    }

    /// One line when no endpoint answers, and when there is a new reason; not one per try.
    fn tell_silence(&self, reasons: &[String]) {
        let mut told = self.told.borrow_mut();
        let news = told.len() < Self::MOST_REASONS && reasons.iter().any(|reason| !told.contains(reason));
        if !self.silent.replace(true) || news {
            let pause = show(self.patience.pause);
            tracing::warn!("etcd does not answer, trying again at least every {pause}: {}", reasons.join("; "));
        }
        if news {
            told.extend(reasons.iter().cloned());
        }
    }

    /// What most of the endpoints refuse is final, and what they all do not trust unless they did before. One of them may be
    /// behind the others, or be set up otherwise.
    fn all_failed(&self, failures: Vec<StoreError>) -> Result<(), StoreError> {
        let is_refused = |failure: &&StoreError| matches!(failure, StoreError::Refused(_));
        let all_untrusted = failures.iter().all(|failure| matches!(failure, StoreError::Untrusted(_)));
        let final_failure = if 2 * failures.iter().filter(is_refused).count() > self.len() {
            failures.iter().find(is_refused)
        } else {
            failures.first().filter(|_| all_untrusted && !self.known.get())
        };
        if let Some(failure) = final_failure {
            return Err(failure.clone());
        }
        self.tell_silence(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }
}

/// A watch at the endpoint that was preferred when it was opened.
pub struct Watch<'a, S: Store, C> {
    cluster: &'a Cluster<S, C>,
    watch: S::Watch,
    store: Rc<S>,
    index: Id,
    preferred: watch::Receiver<Id>,
}

impl<S: Store, C: Clock> Watch<'_, S, C> {
    /// The next changes.
    ///
    /// # Errors
    /// The watch is of no more use then: read again, and watch from there.
    pub async fn next(&mut self) -> Result<Vec<super::store::Change>, StoreError> {
        let moved = async {
            // The sender lives in the cluster, longer than this borrow of it.
            let _ = self.preferred.wait_for(|preferred| *preferred != self.index).await;
        };
        tokio::select! {
            biased;
            changes = self.watch.next() => changes.inspect_err(|failure| {
                tracing::debug!(endpoint = self.store.name(), "watch: {failure}");
                self.cluster.give_up_connection(self.index, &self.store);
            }),
            () = moved => Err(StoreError::Unavailable(format!("{}: another endpoint answers faster", self.store.name()))),
        }
    }
}

#[cfg(test)]
mod tests;
