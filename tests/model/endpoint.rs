//! One member of etcd as one machine sees it, and a variant with a deliberate fault in requests or responses.

use std::{cell::Cell, future::pending, rc::Rc, time::Duration};

use etcd_await_election::{
    core::{
        kv::{Change, Compare, Get, Granted, KeyValue, Op, Outcome, Range, Snapshot, StoreError, Txn},
        names::{LeaseId, LockName},
    },
    election::keys::Request,
    etcd::store::{self, Store},
};
use tokio::sync::oneshot;

use crate::{
    mutant::Mutant,
    net::{Alone, Net},
    oracle::Oracle,
    sim::Time,
    watch::{Stream, Watch},
};

/// One member, reached through one machine's link.
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

    /// Applies a transaction. For a handover the oracle checks whether it was the new holder's turn.
    async fn commit_judged(&self, txn: Txn, oracle: Option<Rc<Oracle>>) -> Result<Outcome, StoreError> {
        self.call(move |net| {
            let before: Vec<_> = net.etcd().keys().cloned().collect();
            let outcome = net.change(|etcd| etcd.commit(&txn));
            if let (Some(oracle), Ok(Outcome::Then(_))) = (&oracle, &outcome) {
                oracle.handed_over(&before, &txn.then);
            }
            outcome
        })
        .await
    }

    /// Sends a linearizable request and waits: for ever, if request or response is lost.
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

    /// Sends a request that a member may answer alone.
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

    fn new_connection(&self) -> Self {
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

    async fn revoke(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.call(move |net| Ok(net.change(|etcd| etcd.revoke(lease)))).await
    }

    async fn read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        let gets = gets.to_vec();
        self.call(move |net| Ok(net.etcd().read(&gets))).await
    }

    /// Not with older data, which the model does not keep.
    async fn serializable_read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        let gets = gets.to_vec();
        self.call_alone(|_, _| true, move |net| Ok(net.etcd().read(&gets))).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        self.commit_judged(txn.clone(), None).await
    }

    async fn watch(&self, ranges: &[Range], from: i64) -> Result<Watch, StoreError> {
        let (ranges, machine, member) = (ranges.to_vec(), self.machine, self.member);
        self.call(move |net| Ok(Watch(Stream::open(net, machine, member, &ranges, from)))).await
    }
}

/// An endpoint with the fault of a mutant.
pub(crate) struct Mutated {
    pub(crate) endpoint: Endpoint,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) lock: LockName,
    pub(crate) oracle: Rc<Oracle>,
    /// The lease of this candidate, whose own request is never hidden.
    pub(crate) own: Rc<Cell<Option<LeaseId>>>,
}

impl Mutated {
    /// Returns whether this key is the request of another candidate, which is hidden.
    fn hides(&self, key: &[u8]) -> bool {
        let forced = |lease| self.lock.request(Request { to: None, lease });
        self.mutant == Some(Mutant::FeedsWhileRequested)
            && self.lock.requests().iter().any(|requests| requests.contains(key))
            && self.own.get().is_none_or(|own| key != forced(own))
    }

    /// Returns the range that is read instead.
    fn widened(&self, get: &Get) -> Get {
        let [_, to_one] = self.lock.requests();
        let own = self.own.get().map(|own| self.lock.requests_to(own)[1].clone());
        let others = self.mutant == Some(Mutant::ObeysRequestsToOthers) && own == Some(get.range.clone());
        Get { range: if others { to_one } else { get.range.clone() }, ..get.clone() }
    }

    /// Returns the response as this candidate sees it.
    fn mistaken(&self, gets: &[Get], snapshot: &mut Snapshot) {
        snapshot.names.retain(|name| !self.hides(&name.key));
        if self.mutant == Some(Mutant::IgnoresMarkers) {
            snapshot.keys.retain(|kv| !self.lock.markers().contains(&kv.key));
        }
        for name in &mut snapshot.names {
            if let (Some(Mutant::ObeysRequestsToOthers), Some(own), Some(request)) =
                (self.mutant, self.own.get(), self.lock.request_of(&name.key))
            {
                name.key = self.lock.request(Request { to: request.to.map(|_| own), ..request });
            }
        }
        if self.mutant != Some(Mutant::ObeysWithoutEntry) {
            return;
        }
        // The entry of the owner of a request always seems to exist.
        for get in gets {
            let Range::Key(key) = &get.range else { continue };
            let name = String::from_utf8_lossy(key);
            let hex = name.rsplit_once("/~entry/").and_then(|(_, hex)| i64::from_str_radix(hex, 16).ok());
            let Some(lease) = hex.map(LeaseId) else { continue };
            if Some(lease) != self.own.get() && !snapshot.keys.iter().any(|kv| kv.key == *key) {
                let (key, value, revision) = (key.clone(), b"made up".to_vec(), snapshot.revision);
                let made_up =
                    KeyValue { key, value, create_revision: revision, mod_revision: revision, lease: Some(lease) };
                snapshot.keys.push(made_up);
            }
        }
    }

    fn mutate(&self, txn: &Txn) -> Txn {
        let mut txn = txn.clone();
        let holder = self.lock.holder();
        match self.mutant {
            Some(Mutant::HandOverWithoutHolder) if is_hand_over(&self.lock, &txn) => {
                txn.when.retain(|compare| !matches!(compare, Compare::Unchanged(key, _) if *key == holder));
            }
            Some(Mutant::IgnoresMarkers) if is_hand_over(&self.lock, &txn) => {
                let markers = Compare::Absent(self.lock.markers());
                txn.when.retain(|compare| *compare != markers);
            }
            Some(Mutant::HandOverPastOthers) if is_hand_over(&self.lock, &txn) => {
                txn.when.retain(|compare| !matches!(compare, Compare::Older(..)));
            }
            Some(Mutant::IgnoresPause) => {
                let no_pause = Compare::Absent(Range::Key(self.lock.pause()));
                txn.when.retain(|compare| *compare != no_pause);
            }
            Some(Mutant::JoinOverwrites) if puts(&txn) == 2 && txn.otherwise.is_some() => txn.when.clear(),
            _ => {}
        }
        txn
    }
}

/// Returns whether a transaction is a handover: it writes two keys, one of which is the holder key.
fn is_hand_over(lock: &LockName, txn: &Txn) -> bool {
    let holder = lock.holder();
    let puts_holder = txn.then.iter().any(|op| matches!(op, Op::Put(key, ..) if *key == holder));
    puts(txn) == 2 && puts_holder && txn.otherwise.is_none()
}

fn puts(txn: &Txn) -> usize {
    txn.then.iter().filter(|op| matches!(op, Op::Put(..))).count()
}

impl Store for Mutated {
    type Watch = MutatedWatch;

    fn name(&self) -> &str {
        self.endpoint.name()
    }

    fn new_connection(&self) -> Self {
        let (lock, own, oracle) = (self.lock.clone(), Rc::clone(&self.own), Rc::clone(&self.oracle));
        Self { endpoint: self.endpoint.new_connection(), lock, own, oracle, ..*self }
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

    async fn revoke(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.endpoint.revoke(lease).await
    }

    async fn read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        let widened: Vec<_> = gets.iter().map(|get| self.widened(get)).collect();
        let read = if self.mutant == Some(Mutant::RenewsBySerializableReads) {
            self.endpoint.serializable_read(&widened).await
        } else {
            self.endpoint.read(&widened).await
        };
        let mut snapshot = read?;
        self.mistaken(gets, &mut snapshot);
        Ok(snapshot)
    }

    async fn serializable_read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        self.endpoint.serializable_read(gets).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let txn = self.mutate(txn);
        let hands_over = is_hand_over(&self.lock, &txn);
        self.endpoint.commit_judged(txn, hands_over.then(|| Rc::clone(&self.oracle))).await
    }

    async fn watch(&self, ranges: &[Range], from: i64) -> Result<MutatedWatch, StoreError> {
        let hides = self.mutant == Some(Mutant::FeedsWhileRequested);
        Ok(MutatedWatch {
            watch: self.endpoint.watch(ranges, from).await?,
            hidden: hides.then(|| self.lock.requests()),
        })
    }
}

/// A watch that hides what the mutant does not see.
pub(crate) struct MutatedWatch {
    watch: Watch,
    hidden: Option<[Range; 2]>,
}

impl store::Watch for MutatedWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = self.watch.next().await?;
        if let Some(hidden) = &self.hidden {
            changes.retain(|change| !hidden.iter().any(|range| range.contains(change.key())));
        }
        Ok(changes)
    }
}
