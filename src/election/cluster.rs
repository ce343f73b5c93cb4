//! One cluster through all its endpoints: rotation, hedging, and the line in the log when etcd falls silent.
//!
//! Every endpoint has its own client. A request goes to the preferred endpoint; if that has not answered soon, the next
//! one gets it too, and the first answer wins and makes its endpoint the preferred one. So a dead, frozen or black-holed
//! member costs a [hedge delay](Patience::hedge_delay), once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    keys::LeaseId,
    membership::{self, Membership, Verdict},
    store::{Granted, Outcome, Range, Store, StoreError, Txn, Watch as _},
};
use crate::{
    clock::{Clock, Instant},
    timing::Timing,
};

/// How long to wait for whom.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When the next endpoint gets the request too.
    pub hedge_delay: Duration,
    /// When an attempt at one endpoint is given up.
    pub attempt_limit: Duration,
    /// The pause after all endpoints failed.
    pub pause: Duration,
}

impl Patience {
    /// What fits between the renewals of this timing: several hedges and attempts before the renew deadline.
    #[must_use]
    pub fn of(timing: &Timing) -> Self {
        let spare = timing.outage_survived();
        Self {
            hedge_delay: (spare / 8).clamp(Duration::from_millis(50), Duration::from_millis(500)),
            attempt_limit: (timing.renew_deadline() / 2).max(Duration::from_millis(500)),
            pause: timing.retry_period().min(spare),
        }
    }
}

impl Default for Patience {
    /// For a question or an errand outside of an election.
    fn default() -> Self {
        Self {
            hedge_delay: Duration::from_millis(500),
            attempt_limit: Duration::from_secs(3),
            pause: Duration::from_secs(1),
        }
    }
}

/// All endpoints of one etcd cluster; never empty.
#[derive(Debug)]
pub struct Cluster<S, C> {
    endpoints: Vec<S>,
    membership: Rc<Membership>,
    clock: C,
    patience: Patience,
    preferred: watch::Sender<usize>,
    /// Whether any endpoint ever answered: certificates that once were right will be right again.
    known: Cell<bool>,
    silent: Cell<bool>,
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

    /// All `endpoints`, which vote by their names in `membership`; the first is preferred until another one answers faster.
    ///
    /// # Panics
    /// Without an endpoint.
    #[must_use]
    pub fn new(endpoints: Vec<S>, membership: Rc<Membership>, clock: C, patience: Patience) -> Self {
        assert!(!endpoints.is_empty(), "a cluster has endpoints");
        Self {
            endpoints,
            membership,
            clock,
            patience,
            preferred: watch::Sender::new(0),
            known: Cell::new(false),
            silent: Cell::new(false),
            told: RefCell::default(),
            undecided: RefCell::default(),
        }
    }

    /// The clock that all limits are measured with.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// The endpoints, in the order given.
    pub fn endpoints(&self) -> &[S] {
        &self.endpoints
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
        while self.membership.ours().is_none() {
            let failures = self.vote().await;
            self.membership.decide();
            if self.membership.ours().is_none() {
                self.tell_undecided(failures)?;
                self.clock.sleep(self.patience.pause).await;
            }
        }
        self.undecided.take();
        // What was asked last may still be silent, or of another cluster.
        let ours = |index: &usize| self.membership.includes(self.endpoints[*index].name());
        let preferred = *self.preferred.borrow();
        if !ours(&preferred) {
            (0..self.endpoints.len()).find(ours).inspect(|index| self.prefer(*index));
        }
        Ok(())
    }

    /// Asks all endpoints now and then which cluster they belong to, once it is decided which one is ours.
    pub async fn keep_asking(&self) -> ! {
        loop {
            self.clock.sleep(Duration::from_secs(1)).await;
            if self.membership.ours().is_none() {
                continue;
            }
            let mut asked = self.ask_all();
            while asked.next().await.is_some() {}
            self.clock.sleep(Self::ASK_AGAIN).await;
        }
    }

    /// Asks all endpoints until no answer that is missing can change the result, or is likely to.
    async fn vote(&self) -> Vec<StoreError> {
        let mut missing: BTreeSet<&str> = self.endpoints.iter().map(Store::name).collect();
        let mut failures = Vec::new();
        let mut asked = self.ask_all();
        let mut enough = pin!(self.clock.sleep_until(Instant::from_boot(Duration::MAX)));
        let mut likely = false;
        loop {
            let (name, answer) = tokio::select! {
                biased;
                next = asked.next() => match next {
                    Some(answer) => answer,
                    None => break,
                },
                () = enough.as_mut() => break,
            };
            missing.remove(name);
            failures.extend(answer.err());
            match self.membership.verdict(&missing) {
                Verdict::Decided => break,
                Verdict::Likely if !likely => {
                    likely = true;
                    enough.set(self.clock.sleep_until(self.clock.now() + 4 * self.patience.hedge_delay));
                }
                Verdict::Likely | Verdict::Open => {}
            }
        }
        failures
    }

    /// Asks all endpoints at once which cluster they belong to.
    fn ask_all(&self) -> FuturesUnordered<impl Future<Output = (&str, Result<(), StoreError>)>> {
        let ask = async |index: usize| {
            let name = self.endpoints[index].name();
            let answer = self.attempt(index, &async |store: &S| store.cluster_id().await).await;
            (name, answer.map(|id| self.membership.heard(name, id)))
        };
        (0..self.endpoints.len()).map(ask).collect()
    }

    /// One line when the votes do not suffice, and when they have changed; not one per try.
    fn tell_undecided(&self, failures: Vec<StoreError>) -> Result<(), StoreError> {
        let summary = self.membership.summary();
        if summary.is_empty() {
            return self.all_failed(failures);
        }
        self.known.set(true);
        if let Some(refused) = failures.iter().find(|failure| matches!(failure, StoreError::Refused(_))) {
            return Err(refused.clone());
        }
        if self.undecided.borrow().as_ref() != Some(&summary) {
            let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
            tracing::warn!(
                "could not decide which etcd cluster to use: {summary}, and at least half of {} must report the same cluster, \
                 more than any other; retrying every {}: {}",
                membership::endpoints(self.endpoints.len()),
                crate::timing::show(self.patience.pause),
                reasons.join("; ")
            );
            self.undecided.replace(Some(summary));
        }
        Ok(())
    }

    /// Grants a lease, however long that takes, and says when the request for it was sent. A grant whose answer is lost leaves
    /// a lease that nobody uses; it runs out.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn grant(&self, ttl: Duration) -> Result<(Instant, Granted), StoreError> {
        self.decide().await?;
        loop {
            let mut failures = Vec::new();
            for _ in &self.endpoints {
                let sent = self.clock.now();
                match self.once(async |store| store.grant(ttl).await).await {
                    Ok(granted) => {
                        self.answered();
                        return Ok((sent, granted));
                    }
                    Err(failure) => failures.push(failure),
                }
            }
            self.all_failed(failures)?;
            self.clock.sleep(self.patience.pause).await;
        }
    }

    /// Revokes a lease, however long that takes.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.hedged(async |store| store.revoke(lease).await).await
    }

    /// Sends a transaction to one endpoint, once.
    ///
    /// # Errors
    /// Its outcome is unknown then.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.once(async |store| store.commit(txn).await).await
    }

    /// Sends a transaction to each endpoint, once, hedged: one that finds its compares wrong when it has been applied already.
    /// `None` if no endpoint has answered; its outcome is unknown then.
    pub async fn commit_hedged(&self, txn: &Txn) -> Option<Outcome> {
        self.round(&async |store: &S| store.commit(txn).await).await.ok()
    }

    /// Asks one endpoint after the other until one has answered, however long that takes. `ask` may run several times, and
    /// at several endpoints at once: it must be idempotent.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn hedged<T>(&self, ask: impl AsyncFn(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.decide().await?;
        loop {
            match self.round(&ask).await {
                Ok(answer) => {
                    self.answered();
                    return Ok(answer);
                }
                Err(failures) => self.all_failed(failures)?,
            }
            self.clock.sleep(self.patience.pause).await;
        }
    }

    /// Watches at the preferred endpoint, and ends when another one is preferred: what does not answer there does not
    /// report changes either.
    ///
    /// # Errors
    /// If the watch cannot be opened, or breaks.
    pub async fn watch(&self, ranges: &[Range], from: i64) -> Result<Watch<'_, S>, StoreError> {
        let mut preferred = self.preferred.subscribe();
        let index = *preferred.borrow_and_update();
        let watch = self.once(async |store| store.watch(ranges, from).await).await?;
        Ok(Watch { watch, store: &self.endpoints[index], index, preferred })
    }

    /// One attempt at the preferred endpoint. If it fails the next endpoint is preferred.
    async fn once<T>(&self, ask: impl AsyncFn(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let index = *self.preferred.borrow();
        let result = self.attempt(index, &ask).await;
        if result.is_err() {
            self.prefer((index + 1) % self.endpoints.len());
        }
        result
    }

    /// Every endpoint once, hedged: the first answer, or the failure of each.
    async fn round<T>(&self, ask: &impl AsyncFn(&S) -> Result<T, StoreError>) -> Result<T, Vec<StoreError>> {
        let first = *self.preferred.borrow();
        let mut waiting = (0..self.endpoints.len()).map(|n| (first + n) % self.endpoints.len());
        let mut attempts = FuturesUnordered::new();
        let mut failures = Vec::new();
        let mut hedge_at = self.clock.now();
        loop {
            if self.clock.now() >= hedge_at {
                match waiting.next() {
                    Some(index) => {
                        attempts.push(async move { (index, self.attempt(index, ask).await) });
                        hedge_at = self.clock.now() + self.patience.hedge_delay;
                    }
                    None => hedge_at = Instant::from_boot(Duration::MAX),
                }
            }
            tokio::select! {
                biased;
                Some((index, result)) = attempts.next() => match result {
                    Ok(answer) => {
                        self.prefer(index);
                        return Ok(answer);
                    }
                    Err(failure) => {
                        failures.push(failure);
                        if failures.len() == self.endpoints.len() {
                            return Err(failures);
                        }
                        // Whoever is next need not wait for the hedge delay.
                        hedge_at = hedge_at.min(self.clock.now());
                    }
                },
                () = self.clock.sleep_until(hedge_at) => {}
            }
        }
    }

    async fn attempt<T>(&self, index: usize, ask: &impl AsyncFn(&S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let store = &self.endpoints[index];
        let limit = self.clock.now() + self.patience.attempt_limit;
        let result = self.clock.before(limit, ask(store)).await.unwrap_or_else(|| {
            let limit = crate::timing::show(self.patience.attempt_limit);
            Err(StoreError::Unavailable(format!("{}: no answer within {limit}", store.name())))
        });
        if let Err(failure) = &result {
            tracing::debug!(endpoint = store.name(), "{failure}");
            store.reset();
        }
        result
    }

    fn prefer(&self, index: usize) {
        self.preferred.send_if_modified(|preferred| std::mem::replace(preferred, index) != index);
    }

    /// One line when etcd answers again.
    fn answered(&self) {
        self.known.set(true);
        if self.silent.replace(false) {
            tracing::info!("etcd answers again");
        }
        self.told.borrow_mut().clear();
    }

    /// One line when all endpoints fail, and when there is a new reason; not one per try.
    fn all_failed(&self, failures: Vec<StoreError>) -> Result<(), StoreError> {
        let all_untrusted = failures.iter().all(|failure| matches!(failure, StoreError::Untrusted(_)));
        let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
        for failure in failures {
            match failure {
                StoreError::Refused(_) => return Err(failure),
                StoreError::Untrusted(_) if all_untrusted && !self.known.get() => return Err(failure),
                StoreError::Untrusted(_) | StoreError::Unavailable(_) => {}
            }
        }
        let mut told = self.told.borrow_mut();
        let news = told.len() < Self::MOST_REASONS && reasons.iter().any(|reason| !told.contains(reason));
        if !self.silent.replace(true) || news {
            let pause = crate::timing::show(self.patience.pause);
            tracing::warn!("etcd does not answer, trying again every {pause}: {}", reasons.join("; "));
        }
        if news {
            told.extend(reasons);
        }
        Ok(())
    }
}

/// A watch at the endpoint that was preferred when it was opened.
pub struct Watch<'a, S: Store> {
    watch: S::Watch,
    store: &'a S,
    index: usize,
    preferred: watch::Receiver<usize>,
}

impl<S: Store> Watch<'_, S> {
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
                self.store.reset();
            }),
            () = moved => Err(StoreError::Unavailable(format!("{}: another endpoint answers faster", self.store.name()))),
        }
    }
}
