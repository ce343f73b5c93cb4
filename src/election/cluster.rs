//! One cluster through all its endpoints: rotation, hedging, and the line in the log when etcd falls silent.
//!
//! Every endpoint has its own client. A request goes to the preferred endpoint; if that has not answered soon, the next
//! one gets it too, and the first answer wins and makes its endpoint the preferred one. So a dead, frozen or black-holed
//! member costs a [hedge delay](Patience::hedge_delay), once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    keys::LeaseId,
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
    clock: C,
    patience: Patience,
    preferred: watch::Sender<usize>,
    /// Whether any endpoint ever answered: certificates that once were right will be right again.
    known: Cell<bool>,
    silent: Cell<bool>,
    /// The reasons that were told since etcd fell silent.
    told: RefCell<BTreeSet<String>>,
}

impl<S: Store, C: Clock> Cluster<S, C> {
    /// Whatever answers with nonsense has a new reason for ever.
    const MOST_REASONS: usize = 30;

    /// All `endpoints` of a cluster; the first is preferred until another one answers faster.
    ///
    /// # Panics
    /// Without an endpoint.
    #[must_use]
    pub fn new(endpoints: Vec<S>, clock: C, patience: Patience) -> Self {
        assert!(!endpoints.is_empty(), "a cluster has endpoints");
        Self {
            endpoints,
            clock,
            patience,
            preferred: watch::Sender::new(0),
            known: Cell::new(false),
            silent: Cell::new(false),
            told: RefCell::default(),
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

    /// Grants a lease, however long that takes, and says when the request for it was sent. A grant whose answer is lost leaves
    /// a lease that nobody uses; it runs out.
    ///
    /// # Errors
    /// What only a person can mend.
    pub async fn grant(&self, ttl: Duration) -> Result<(Instant, Granted), StoreError> {
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

    /// Forgets which cluster the endpoints belonged to.
    pub fn forget_cluster(&self) {
        self.endpoints.iter().for_each(Store::forget_cluster);
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
