//! Handing over leadership and revoking the lease: only after the guard reported that the process tree has exited, or before the
//! command was started.

use std::time::Duration;

use super::{
    candidate::{Election, Term},
    keys::Request,
    progress::Progress,
    view::{Entry, Successor, View},
};
use crate::etcd::store::{Compare, Get, Op, Outcome, Store, Txn};
use crate::{
    core::{
        clock::{Clock, Instant},
        limits::UNCONFIRMED,
        timing::show,
    },
    guard::{Guard, Order},
};

impl<S: Store, C: Clock> Election<S, C> {
    /// The delay from a handover to the revocation of the lease, so that etcd serves the successor first.
    const DELAY_AFTER_HANDOVER: Duration = Duration::from_millis(50);

    /// Hands over to the owner of the oldest request, else to the next in the queue, and then revokes the lease in any case.
    ///
    /// Hands nothing over in a cluster that most endpoints have left: the standbys there have yet to learn that.
    pub async fn hand_over(&self, term: &Term, guard: &impl Guard) {
        // One limit for both, or the exit would take twice as long if etcd cannot be reached.
        let limit = self.clock().now() + self.timing.end_limit();
        if !self.etcd.membership().lost() {
            self.hand_over_term(term).await;
        }
        self.release_before(limit, guard).await;
    }

    /// Revokes the lease, if there is one. If etcd cannot be reached in time, the lease will expire.
    pub async fn release(&self, guard: &impl Guard) {
        let limit = if self.granted.get() { self.timing.end_limit() } else { UNCONFIRMED };
        self.release_before(self.clock().now() + limit, guard).await;
    }

    async fn release_before(&self, limit: Instant, guard: &impl Guard) {
        if let Some(lease) = self.lease.get().filter(|_| self.etcd.membership().lost()) {
            tracing::warn!(
                "not revoking lease {lease}, which will expire: most endpoints belong to another etcd cluster by now"
            );
            self.lease.set(None);
        }
        if let Some(lease) = self.lease.get() {
            match self.clock().before(limit, self.etcd.revoke(lease)).await {
                Some(Ok(true)) => tracing::info!("revoked lease {lease}"),
                Some(Ok(false)) => tracing::info!("lease {lease} had already expired"),
                Some(Err(refused)) => tracing::warn!("could not revoke lease {lease}: {refused}; it will expire"),
                // It has no keys, if it exists at all.
                None if !self.granted.get() => {}
                None => {
                    let limit = show(self.timing.end_limit());
                    tracing::warn!("could not revoke lease {lease} within {limit}; it will expire");
                }
            }
            // Only now: if this future is dropped before, the next call revokes the lease.
            self.lease.set(None);
        }
        guard.order(Order::Lease(None));
        self.report(Progress::Released);
    }

    /// Makes the successor the leader in one transaction, which attaches the leader's entry and the holder key to its lease. Returns
    /// whether that is known to have been applied; otherwise the revocation of the lease frees the lock.
    ///
    /// Tries the successor that the latest renewal saw, and then the one that a serializable read finds. Both may be out of date, as
    /// the transaction compares all that it depends on.
    pub(super) async fn hand_over_term(&self, term: &Term) -> bool {
        // The time after this limit is for the revocation of the lease.
        let limit = self.clock().now() + self.timing.handover_limit();
        self.clock().before(limit, self.hand_over_to_successor(term)).await.unwrap_or(false)
    }

    async fn hand_over_to_successor(&self, term: &Term) -> bool {
        if let Some(entry) = &term.next.take() {
            let mut txn = self.hand_over_txn(term, &Successor { entry, request: None });
            // There is no entry of another client between the two.
            txn.when.push(Compare::Older(self.lock.foreign_entries(), term.entry.create_revision));
            if self.hand_over_to(entry, &txn).await {
                return true;
            }
        }
        let view = self.etcd.hedged(async |store| {
            let requests = self.requests(term.lease);
            View::read(&self.lock, requests, async |gets: &[Get]| store.serializable_read(gets).await).await
        });
        let Ok(view) = view.await else { return false };
        match view.successor_of(term.lease).filter(|_| view.is_led_by(term.lease)) {
            Some(successor) => self.hand_over_to(successor.entry, &self.hand_over_txn(term, &successor)).await,
            None => false,
        }
    }

    async fn hand_over_to(&self, successor: &Entry, txn: &Txn) -> bool {
        let outcome = self.etcd.commit(txn).await;
        let Ok(Outcome::Then(token)) = outcome else {
            tracing::debug!(?outcome, "the handover failed or its outcome is unknown");
            return false;
        };
        let to = successor.kv.identity();
        tracing::info!(token, "handed over to {to:?}");
        // The lease has no keys any more, so its revocation is not urgent.
        self.clock().sleep(Self::DELAY_AFTER_HANDOVER).await;
        true
    }

    /// Compares the own entry, the holder key (a Go instance may have rewritten it), and the successor's entry and request. For a
    /// successor without a request it compares that there is no request and no marker, because that one starts without reading
    /// them; if there is one, even written by hand, the revocation of the lease frees the lock.
    fn hand_over_txn(&self, term: &Term, successor: &Successor<'_>) -> Txn {
        let (own, next) = (&term.entry, successor.entry);
        let mut when = vec![
            Compare::Unchanged(own.key.clone(), own.mod_revision),
            Compare::Unchanged(self.lock.holder(), term.token),
            Compare::Unchanged(next.kv.key.clone(), next.kv.mod_revision),
        ];
        match successor.request {
            Some(request) => when.push(Compare::Unchanged(request.key.clone(), request.mod_revision)),
            None => {
                when.extend(self.lock.requests_to(term.lease).map(Compare::Absent));
                when.push(Compare::Absent(self.lock.markers()));
            }
        }
        let mut then = vec![
            Op::Put(own.key.clone(), next.kv.value.clone(), next.lease),
            Op::Put(self.lock.holder(), next.kv.value.clone(), next.lease),
            Op::Delete(next.kv.key.clone()),
        ];
        let requests = [None, Some(term.lease)].map(|to| self.lock.request(Request { to, lease: next.lease }));
        then.extend(requests.map(Op::Delete));
        Txn { when, then, otherwise: None }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, rc::Rc};

    use super::*;
    use crate::system::clock::BootClock;
    use crate::{
        core::{names::LeaseId, timing::Timing},
        etcd::{
            client::{EtcdClient, RequestTimeouts},
            double::Double,
            membership::Membership,
        },
        guard::Report,
        settings::{ElectionConfig, OnLoss},
    };

    struct Idle;

    impl Guard for Idle {
        fn order(&self, _: Order) {}

        async fn report(&self) -> Report {
            pending().await
        }
    }

    fn election(store: Double) -> Election<Double, BootClock> {
        let s = Duration::from_secs;
        let config = ElectionConfig {
            lock: "a".parse().expect("a name"),
            identity: "me".into(),
            identity_is_explicit: false,
            timing: Timing::new(s(15), s(10), s(2), s(10)).expect("the defaults"),
            force: false,
            acquire_timeout: None,
            on_loss: OnLoss::Exit,
        };
        let membership = Membership::of(["slow".to_owned()], None).into();
        let cluster = EtcdClient::new(vec![store], membership, BootClock, RequestTimeouts::default());
        Election::new(&config, cluster, Rc::new(|_| {}))
    }

    /// The leader in the cluster that was lost may run for one lease more.
    #[tokio::test]
    async fn a_candidate_without_a_lease_does_not_join_another_cluster_at_once() {
        let store = Double::named("slow");
        let election = election(store.clone());
        let campaign = election.campaign(&Idle);
        let changes = async {
            let membership = election.etcd().membership();
            while membership.ours().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The candidate waits for its lease, and the endpoint reports another cluster.
            (0..3).for_each(|_| membership.record("slow", 2));
            assert!(membership.lost());
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        tokio::select! {
            _ = campaign => panic!("no lease is granted"),
            () = changes => {}
        }
        assert_eq!(store.leases.get(), 1, "a second lease would be in the other cluster");
    }

    /// A signal drops the campaign at any point, also while it revokes a lease.
    #[tokio::test]
    async fn a_dropped_revocation_is_repeated() {
        let election = election(Double::named("slow"));
        election.lease.set(Some(LeaseId(7)));
        tokio::select! {
            biased;
            () = election.release(&Idle) => panic!("there was no response"),
            () = tokio::task::yield_now() => {}
        }
        election.release(&Idle).await;
        assert_eq!(election.etcd().endpoints()[0].revoked.get(), 2);
        assert_eq!(election.lease.get(), None);
    }
}
