//! One member of etcd as one machine sees it; and the same with a fault on purpose in what the election asks or sees.

use std::{cell::Cell, future::pending, rc::Rc, time::Duration};

use etcd_await_election::election::{
    keys::{LeaseId, LockName},
    store::{self, Change, Compare, Granted, Op, Outcome, Range, Snapshot, Store, StoreError, Txn},
};
use tokio::sync::oneshot;

use crate::{
    mutant::Mutant,
    net::{Alone, Net},
    sim::Time,
    watch::{Stream, Watch},
};

/// One member through one machine's link.
pub(crate) struct Endpoint {
    net: Net,
    machine: usize,
    member: usize,
    name: String,
}

impl Endpoint {
    pub(crate) fn new(net: &Net, machine: usize, member: usize) -> Self {
        Self { net: net.clone(), machine, member, name: format!("m{member}") }
    }

    /// Asks what a member answers with the others, and waits: for ever, if request or answer is lost.
    async fn call<T: 'static>(
        &self,
        apply: impl FnOnce(&Net) -> Result<T, StoreError> + 'static,
    ) -> Result<T, StoreError> {
        let member = self.member;
        let apply = move |net: &Net| {
            net.is_told(member);
            apply(net)
        };
        self.call_alone(|_, _| false, apply).await
    }

    /// The same of what a member may answer alone.
    async fn call_alone<T: 'static>(
        &self,
        alone: Alone,
        apply: impl FnOnce(&Net) -> Result<T, StoreError> + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let (machine, member) = (self.machine, self.member);
        let request = move |net: &Net, served: Result<(), StoreError>| {
            let result = served.and_then(|()| apply(net));
            net.answer(machine, member, move || drop(answer.send(result)));
        };
        self.net.send(machine, member, alone, Box::new(request));
        match answered.await {
            Ok(result) => result,
            Err(_) => pending().await,
        }
    }
}

impl Store for Endpoint {
    type Watch = Watch;

    fn name(&self) -> &str {
        &self.name
    }

    fn again(&self) -> Self {
        Self::new(&self.net, self.machine, self.member)
    }

    async fn cluster_id(&self) -> Result<u64, StoreError> {
        self.call_alone(|_, _| true, |_| Ok(1)).await
    }

    fn new_lease(&self) -> LeaseId {
        self.net.new_lease()
    }

    async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<Granted, StoreError> {
        let granted = Granted { lease, ttl };
        self.call(move |net| {
            let (ttl, now) = (Time::try_from(ttl.as_micros()).expect("a short lease"), net.sim().now());
            net.change(|etcd| etcd.grant(granted.lease, ttl, now));
            Ok(granted)
        })
        .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let member = self.member;
        self.call_alone(Net::answers_stale, move |net| {
            let now = net.sim().now();
            Ok(net.is_unaware(member) || net.change(|etcd| etcd.keep_alive(lease, now)) || net.answers_stale(member))
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(move |net| {
            net.change(|etcd| etcd.revoke(lease));
            Ok(())
        })
        .await
    }

    async fn read(&self, ranges: &[Range]) -> Result<Snapshot, StoreError> {
        let ranges = ranges.to_vec();
        self.call(move |net| Ok(net.etcd().read(&ranges))).await
    }

    /// Not with what it was a while ago, which the model does not keep.
    async fn glance(&self, ranges: &[Range]) -> Result<Snapshot, StoreError> {
        let ranges = ranges.to_vec();
        self.call_alone(|_, _| true, move |net| Ok(net.etcd().read(&ranges))).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let txn = txn.clone();
        self.call(move |net| net.change(|etcd| etcd.commit(&txn))).await
    }

    async fn watch(&self, ranges: &[Range], from: i64) -> Result<Watch, StoreError> {
        let (ranges, machine, member) = (ranges.to_vec(), self.machine, self.member);
        self.call(move |net| Ok(Watch(Stream::open(net, machine, member, &ranges, from)))).await
    }
}

/// An endpoint that leaves out what a mutant forgets.
pub(crate) struct Mutated {
    pub(crate) endpoint: Endpoint,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) lock: LockName,
    /// The lease of this candidate: its own request is never hidden from it.
    pub(crate) own: Rc<Cell<Option<LeaseId>>>,
}

impl Mutated {
    /// Whether this key is another candidate's request, and to be hidden.
    fn hides(&self, key: &[u8]) -> bool {
        self.mutant == Some(Mutant::FeedsWhileRequested)
            && key.starts_with(&self.lock.requests())
            && self.own.get().is_none_or(|own| key != self.lock.request(own))
    }

    fn mutate(&self, txn: &Txn) -> Txn {
        let mut txn = txn.clone();
        let holder = self.lock.holder();
        let hand_over = txn.then.iter().filter(|op| matches!(op, Op::Put(..))).count() == 2 && txn.otherwise.is_none();
        match self.mutant {
            Some(Mutant::HandOverWithoutHolder) if hand_over => {
                txn.when.retain(|compare| !matches!(compare, Compare::Unchanged(key, _) if *key == holder));
            }
            Some(Mutant::HandOverBesideMarker) if hand_over => {
                let markers = Compare::Absent(Range::Prefix(self.lock.markers()));
                txn.when.retain(|compare| *compare != markers);
            }
            Some(Mutant::JoinOverwrites) if txn.otherwise.is_some() => txn.when.clear(),
            _ => {}
        }
        txn
    }
}

impl Store for Mutated {
    type Watch = MutatedWatch;

    fn name(&self) -> &str {
        self.endpoint.name()
    }

    fn again(&self) -> Self {
        Self { endpoint: self.endpoint.again(), lock: self.lock.clone(), own: Rc::clone(&self.own), ..*self }
    }

    async fn cluster_id(&self) -> Result<u64, StoreError> {
        self.endpoint.cluster_id().await
    }

    fn new_lease(&self) -> LeaseId {
        let lease = self.endpoint.new_lease();
        self.own.set(Some(lease));
        lease
    }

    async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<Granted, StoreError> {
        self.endpoint.grant(lease, ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.endpoint.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.endpoint.revoke(lease).await
    }

    async fn read(&self, ranges: &[Range]) -> Result<Snapshot, StoreError> {
        let read = if self.mutant == Some(Mutant::GlancesToRenew) {
            self.endpoint.glance(ranges).await
        } else {
            self.endpoint.read(ranges).await
        };
        let mut snapshot = read?;
        snapshot.keys.retain(|kv| !self.hides(&kv.key));
        Ok(snapshot)
    }

    async fn glance(&self, ranges: &[Range]) -> Result<Snapshot, StoreError> {
        self.endpoint.glance(ranges).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.endpoint.commit(&self.mutate(txn)).await
    }

    async fn watch(&self, ranges: &[Range], from: i64) -> Result<MutatedWatch, StoreError> {
        let hides = self.mutant == Some(Mutant::FeedsWhileRequested);
        Ok(MutatedWatch {
            watch: self.endpoint.watch(ranges, from).await?,
            hidden: hides.then(|| self.lock.requests()),
        })
    }
}

/// A watch that does not see what the mutant does not see.
pub(crate) struct MutatedWatch {
    watch: Watch,
    hidden: Option<Vec<u8>>,
}

impl store::Watch for MutatedWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = self.watch.next().await?;
        if let Some(hidden) = &self.hidden {
            changes.retain(|change| !change.key().starts_with(hidden));
        }
        Ok(changes)
    }
}
