//! The requests that the election and the operator's commands make.

use std::{rc::Rc, time::Duration};

use tokio::sync::watch;

use super::{
    super::store::{Change, Granted, Outcome, Range, Store, StoreError, Txn, Watch as _},
    attempts::{Answer, Attempts},
    endpoints::Id,
    state::EtcdClient,
};
use crate::core::{
    clock::{Clock, Instant},
    names::LeaseId,
    timing::show,
};

impl<S: Store, C: Clock> EtcdClient<S, C> {
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
        let limit = self.timeouts.attempt_limit / 2;
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
        Ok(Watch { client: self, watch, store, index, preferred })
    }
}

/// A watch at the endpoint that was preferred when it was opened.
pub struct Watch<'a, S: Store, C> {
    client: &'a EtcdClient<S, C>,
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
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let moved = async {
            // The sender lives in the cluster, longer than this borrow of it.
            let _ = self.preferred.wait_for(|preferred| *preferred != self.index).await;
        };
        tokio::select! {
            biased;
            changes = self.watch.next() => changes.inspect_err(|failure| {
                tracing::debug!(endpoint = self.store.name(), "watch: {failure}");
                self.client.give_up_connection(self.index, &self.store);
            }),
            () = moved => Err(StoreError::Unavailable(format!("{}: another endpoint answers faster", self.store.name()))),
        }
    }
}
