//! Hand over and give back: only ever after the guard reported that nothing of the command is left, or before anything
//! was started.

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
    /// From a hand-over to the revocation of the lease: for the successor's start on a machine that has few processors, and less
    /// than anybody notices who waits for this program to end.
    const ROOM_FOR_THE_SUCCESSOR: Duration = Duration::from_millis(50);

    /// Gives the lead to whoever asked for it, else to the next in the queue, and the lease back in any case.
    ///
    /// Not in a cluster that is not ours any more: whoever waits there has yet to learn that.
    pub async fn hand_over(&self, term: &Term, guard: &impl Guard) {
        // One limit for both, or a program that cannot reach etcd would need it twice to end.
        let limit = self.clock().now() + self.timing.end_limit();
        if !self.etcd.membership().lost() {
            self.hand_over_term(term).await;
        }
        self.give_back_before(limit, guard).await;
    }

    /// Gives the lease back, if there is one. If etcd cannot be told, it runs out.
    pub async fn give_back(&self, guard: &impl Guard) {
        let limit = if self.granted.get() { self.timing.end_limit() } else { UNCONFIRMED };
        self.give_back_before(self.clock().now() + limit, guard).await;
    }

    async fn give_back_before(&self, limit: Instant, guard: &impl Guard) {
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
                // Nothing hangs on it, if there is such a lease at all.
                None if !self.granted.get() => {}
                None => {
                    let limit = show(self.timing.end_limit());
                    tracing::warn!("could not revoke lease {lease} within {limit}; it will expire");
                }
            }
            // Only now: a campaign can be dropped meanwhile, and then this is asked for once more.
            self.lease.set(None);
        }
        guard.order(Order::Lease(None));
        self.tell(Progress::Released);
    }

    /// One transaction that makes the successor the leader: its lease takes over our place and the holder key. Whether that is
    /// known to have been done; whatever is in doubt is left to the revocation of the lease.
    ///
    /// Whoever the latest renewal saw to be next is tried at once; if that has changed, a serializable_read finds the successor. Neither
    /// has to be the present state, as the transaction compares all that it rests on.
    pub(super) async fn hand_over_term(&self, term: &Term) -> bool {
        // The rest is for the revocation of the lease.
        let limit = self.clock().now() + self.timing.handover_limit();
        self.clock().before(limit, self.hand_over_to_successor(term)).await.unwrap_or(false)
    }

    async fn hand_over_to_successor(&self, term: &Term) -> bool {
        if let Some(entry) = &term.next.take() {
            let mut txn = self.hand_over_txn(term, &Successor { entry, request: None });
            // No entry of another client is between the two.
            txn.when.push(Compare::Older(self.lock.foreign_entries(), term.entry.create_revision));
            if self.hand_over_to(entry, &txn).await {
                return true;
            }
        }
        let serializable_read = self.etcd.hedged(async |store| {
            let requests = self.requests(term.lease);
            View::read(&self.lock, requests, async |gets: &[Get]| store.serializable_read(gets).await).await
        });
        let Ok(view) = serializable_read.await else { return false };
        match view.successor_of(term.lease).filter(|_| view.is_led_by(term.lease)) {
            Some(successor) => self.hand_over_to(successor.entry, &self.hand_over_txn(term, &successor)).await,
            None => false,
        }
    }

    /// Hedged, as a member that is dead or cut off must not keep the successor waiting.
    async fn hand_over_to(&self, successor: &Entry, txn: &Txn) -> bool {
        let outcome = self.etcd.commit(txn).await;
        let Ok(Outcome::Then(token)) = outcome else {
            tracing::debug!(?outcome, "not handed over, as far as is known");
            return false;
        };
        let to = successor.kv.identity();
        tracing::info!(token, "handed over to {to:?}");
        // Nothing hangs on our lease any more, so its revocation is in no hurry.
        self.clock().sleep(Self::ROOM_FOR_THE_SUCCESSOR).await;
        true
    }

    /// It rests on our place, on `L` at our token (so that it loses against a Go peer's force), and on the successor's place
    /// and request as they were read; or on that nobody asks, as the next one in the queue then starts without a look. A key that
    /// somebody wrote there by hand stands in the way of that, too: then the revocation of the lease gives the lead away.
    fn hand_over_txn(&self, term: &Term, successor: &Successor<'_>) -> Txn {
        let (place, heir) = (&term.entry, successor.entry);
        let mut when = vec![
            Compare::Unchanged(place.key.clone(), place.mod_revision),
            Compare::Unchanged(self.lock.holder(), term.token),
            Compare::Unchanged(heir.kv.key.clone(), heir.kv.mod_revision),
        ];
        match successor.request {
            Some(request) => when.push(Compare::Unchanged(request.key.clone(), request.mod_revision)),
            None => {
                when.extend(self.lock.requests_to(term.lease).map(Compare::Absent));
                when.push(Compare::Absent(self.lock.markers()));
            }
        }
        let mut then = vec![
            Op::Put(place.key.clone(), heir.kv.value.clone(), heir.lease),
            Op::Put(self.lock.holder(), heir.kv.value.clone(), heir.lease),
            Op::Delete(heir.kv.key.clone()),
        ];
        let requests = [None, Some(term.lease)].map(|to| self.lock.request(Request { to, lease: heir.lease }));
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

    /// The leader of the cluster that was lost may run for a lease; also where a candidate had not even joined.
    #[tokio::test]
    async fn another_cluster_is_not_joined_at_once_by_whoever_waits_for_a_lease() {
        let store = Double::named("slow");
        let election = election(store.clone());
        let campaign = election.campaign(&Idle);
        let changes = async {
            let membership = election.etcd().membership();
            while membership.ours().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // It waits for the lease, and the endpoint is another cluster by now.
            (0..3).for_each(|_| membership.record("slow", 2));
            assert!(membership.lost());
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        tokio::select! {
            _ = campaign => panic!("nobody grants anything"),
            () = changes => {}
        }
        assert_eq!(store.leases.get(), 1, "a second lease is one in the other cluster");
    }

    /// A signal drops the campaign wherever it is; also where it gives back one lease to join with another.
    #[tokio::test]
    async fn a_lease_that_was_being_given_back_is_not_forgotten() {
        let election = election(Double::named("slow"));
        election.lease.set(Some(LeaseId(7)));
        tokio::select! {
            biased;
            () = election.give_back(&Idle) => panic!("nobody answered"),
            () = tokio::task::yield_now() => {}
        }
        election.give_back(&Idle).await;
        assert_eq!(election.etcd().endpoints()[0].revoked.get(), 2);
        assert_eq!(election.lease.get(), None);
    }
}
