//! The driver, with endpoints that answer at once.

use std::{cell::Cell, future::pending, rc::Rc};

use futures_util::stream;

use super::*;
use crate::{
    core::{
        kv::{Change, Get, Granted, KeyValue, Outcome, Range, Snapshot, StoreError, Txn},
        names::LeaseId,
    },
    etcd::{client::RequestTimeouts, membership::Membership, store},
    guard::Order,
    settings::OnLoss,
    system::clock::BootClock,
};

struct Idle;

impl Guard for Idle {
    fn order(&self, _: Order) {}

    async fn report(&self) -> Report {
        pending().await
    }
}

/// One of three endpoints. Two of them belong to another cluster by the time that the first lease is revoked.
#[derive(Clone)]
struct Endpoint {
    name: &'static str,
    leases: Rc<Cell<i64>>,
    membership: Rc<Membership>,
}

struct NoWatch;

impl store::Watch for NoWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        pending().await
    }
}

impl Store for Endpoint {
    type Watch = NoWatch;

    fn name(&self) -> &str {
        self.name
    }

    fn new_connection(&self) -> Self {
        self.clone()
    }

    fn new_lease(&self) -> LeaseId {
        self.leases.set(self.leases.get() + 1);
        LeaseId(self.leases.get())
    }

    async fn cluster_id(&self) -> Result<u64, StoreError> {
        Ok(1)
    }

    async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<Granted, StoreError> {
        if self.leases.get() > 1 { pending().await } else { Ok(Granted { lease, ttl }) }
    }

    async fn keep_alive(&self, _: LeaseId) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn revoke(&self, _: LeaseId) -> Result<bool, StoreError> {
        if self.name == "c" {
            return Ok(true);
        }
        // As an endpoint does that receives a response of another cluster.
        self.membership.record(self.name, 2);
        Err(StoreError::Unavailable(format!("{}: belongs to another etcd cluster", self.name)))
    }

    /// The lease was evicted before, so the candidate joins again at once.
    async fn read(&self, _: &[Get]) -> Result<Snapshot, StoreError> {
        let kv = |key: &str| KeyValue {
            key: key.into(),
            value: b"me".into(),
            create_revision: 5,
            mod_revision: 5,
            lease: Some(LeaseId(1)),
        };
        Ok(Snapshot { revision: 5, keys: vec![kv("L/~entry/1"), kv("L/~ousted/1")], ..Snapshot::default() })
    }

    async fn commit(&self, _: &Txn) -> Result<Outcome, StoreError> {
        Ok(Outcome::Then(5))
    }

    async fn watch(&self, _: &[Range], _: i64) -> Result<NoWatch, StoreError> {
        pending().await
    }
}

/// The leader of the lost cluster may run for one lease more, also if the response that shows the loss comes together with the one
/// that this candidate waits for: a process that was frozen finds all of them at once.
#[tokio::test]
async fn another_cluster_is_not_joined_at_once_if_the_loss_is_seen_together_with_an_answer() {
    let s = Duration::from_secs;
    let config = ElectionConfig {
        lock: "L".parse().expect("a name"),
        identity: "me".into(),
        identity_is_explicit: false,
        timing: Timing::new(s(15), s(10), s(2), s(10)).expect("the defaults"),
        force: false,
        acquire_timeout: None,
        on_loss: OnLoss::Exit,
        priority: 0,
        failback: None,
        asks_eligibility: false,
        sick_pause: Duration::from_secs(60),
    };
    let names = ["a", "b", "c"];
    let membership = Rc::new(Membership::of(names.map(str::to_owned), None));
    let leases = Rc::<Cell<i64>>::default();
    let endpoints = names.map(|name| Endpoint { name, leases: Rc::clone(&leases), membership: Rc::clone(&membership) });
    let etcd = EtcdClient::new(endpoints.to_vec(), membership, BootClock, RequestTimeouts::of(&config.timing));
    let instance = Instance::new(&config, BootClock);
    let settings = RunSettings { stop_signal: 15, restart_pause: Duration::ZERO };
    tokio::select! {
        exit = run(&etcd, &config, settings, &Idle, stream::pending(), None, &instance) => panic!("it exited: {exit:?}"),
        () = BootClock.sleep(Duration::from_millis(500)) => {}
    }
    assert_eq!(leases.get(), 1, "the second lease would be in the other cluster");
}
