//! The requests of the election and of the operator commands.

use std::{rc::Rc, time::Duration};

use tokio::sync::watch;

use super::{
    super::store::{Store, Watch as _},
    attempts::{Answer, Attempts},
    endpoints::Id,
    state::EtcdClient,
};
use crate::core::{
    clock::{Clock, Instant},
    kv::{Change, Granted, Outcome, Range, StoreError, Txn},
    names::LeaseId,
    timing::show,
};

impl<S: Store, C: Clock> EtcdClient<S, C> {
    /// Grants a lease, without a time limit. Returns when the first request was about to be sent, and the lease.
    ///
    /// The caller chooses the ID, so that several endpoints can be asked for the same lease, and it can be revoked without a
    /// response.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
    pub async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<(Instant, Granted), StoreError> {
        self.decide().await?;
        let sent = self.clock.now();
        let granted = self.hedged(async |store| store.grant(lease, ttl).await).await?;
        Ok((sent, granted))
    }

    /// Revokes a lease, without a time limit. Returns `false` if it does not exist any more.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
    pub async fn revoke(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.hedged(async |store| store.revoke(lease).await).await
    }

    /// Sends a transaction to the endpoints until one has answered or all have failed. It may be applied several times: the compares
    /// must fail after the first time, or the transaction must be harmless.
    ///
    /// # Errors
    /// After an error the outcome is unknown.
    pub async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        // Half of it, as the caller cannot renew the lease meanwhile.
        let limit = self.timeouts.attempt_limit / 2;
        let mut attempts = Attempts::one_pass(self, async |store: &S| store.commit(txn).await);
        match self.clock.before(self.clock.now() + limit, attempts.next()).await {
            Some(committed) => committed.map(|(_, outcome)| outcome),
            None => Err(StoreError::Unavailable(format!("no endpoint has answered within {}", show(limit)))),
        }
    }

    /// Sends a request to the endpoints until one has answered, without a time limit. `ask` must be idempotent, as it may run several
    /// times, at several endpoints at once.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
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

    /// Sends a request every `period` from `begin` on, whether or not responses are outstanding; see [`Attempts`].
    pub(crate) fn repeat_every<'a, T: 'a>(
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

    /// Opens a watch, without a time limit. The watch ends when another endpoint becomes the preferred one, because an endpoint that
    /// does not answer does not report changes either.
    ///
    /// # Errors
    /// If etcd denies access, or TLS verification fails for every endpoint.
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
    /// Waits for the next changes.
    ///
    /// # Errors
    /// If the watch has ended. Read again, and watch from that revision.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let moved = async {
            // The sender lives as long as the client.
            let _ = self.preferred.wait_for(|preferred| *preferred != self.index).await;
        };
        tokio::select! {
            biased;
            changes = self.watch.next() => changes.inspect_err(|failure| {
                tracing::debug!(endpoint = self.store.name(), "watch: {failure}");
                self.client.replace_connection(self.index, &self.store);
            }),
            () = moved => Err(StoreError::Unavailable(format!("{}: another endpoint answers faster", self.store.name()))),
        }
    }
}
