//! The store of etcd as its documentation and source describe it: revisions, leases, transactions, history. All members
//! share one state, as requests are linearizable; the behavior of single members is in `net`.

use std::collections::BTreeMap;

use etcd_await_election::core::{
    kv::{Change, Compare, Get, KeyOnly, KeyValue, Op, Outcome, Range, Snapshot, StoreError, Txn},
    names::LeaseId,
};

use super::sim::{SECOND, Time};

/// The replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Etcd {
    pub(crate) revision: i64,
    /// The history up to this revision has been compacted.
    pub(crate) compacted: i64,
    pub(crate) keys: BTreeMap<Vec<u8>, KeyValue>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    pub(crate) history: Vec<(i64, Change)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) ttl: Time,
    pub(crate) expires: Time,
}

impl Etcd {
    /// The extension of every lease by a raft election.
    pub(crate) const ELECTION: Time = SECOND;

    pub(crate) fn new() -> Self {
        Self { revision: 1, compacted: 0, keys: BTreeMap::new(), leases: BTreeMap::new(), history: Vec::new() }
    }

    /// The same id is not granted again while its lease exists.
    pub(crate) fn grant(&mut self, lease: LeaseId, ttl: Time, now: Time) {
        self.leases.entry(lease).or_insert(Lease { ttl, expires: now + ttl });
    }

    /// An expired lease is not renewed, although its keys may still exist.
    pub(crate) fn keep_alive(&mut self, lease: LeaseId, now: Time) -> bool {
        match self.leases.get_mut(&lease).filter(|lease| lease.expires > now) {
            Some(lease) => {
                lease.expires = now + lease.ttl;
                true
            }
            None => false,
        }
    }

    /// Deletes the lease and its keys, in one revision.
    pub(crate) fn revoke(&mut self, lease: LeaseId) -> bool {
        if self.leases.remove(&lease).is_none() {
            return false;
        }
        let keys: Vec<_> = self.keys.values().filter(|kv| kv.lease == Some(lease)).map(|kv| kv.key.clone()).collect();
        self.apply(&keys.into_iter().map(Op::Delete).collect::<Vec<_>>());
        true
    }

    /// Returns the leases that have expired by `now`.
    pub(crate) fn expired(&self, now: Time) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, _)| *id).collect()
    }

    /// A new raft leader does not know when the leases were renewed: it restarts and extends them all.
    pub(crate) fn leader_changed(&mut self, now: Time) {
        for lease in self.leases.values_mut() {
            lease.expires = now + lease.ttl + Self::ELECTION;
        }
    }

    pub(crate) fn leases(&self) -> usize {
        self.leases.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub(crate) fn everything(&self) -> Snapshot {
        let keys: Vec<_> = self.keys.values().cloned().collect();
        let names = keys.iter().cloned().map(KeyOnly::from).collect();
        Snapshot { revision: self.revision, keys, names, ..Snapshot::default() }
    }

    pub(crate) fn read(&self, gets: &[Get]) -> Snapshot {
        let mut snapshot = Snapshot { revision: self.revision, ..Snapshot::default() };
        for get in gets {
            let after = |kv: &&KeyValue| get.next_after.is_none_or(|revision| kv.create_revision > revision);
            let mut found: Vec<_> =
                self.keys.values().filter(|kv| get.range.contains(&kv.key)).filter(after).cloned().collect();
            if get.next_after.is_some() {
                found.sort_by_key(|kv| kv.create_revision);
            }
            // The model has no further pages, as nothing here fills one, and no reads at older revisions.
            assert!(get.next_after.is_some() || found.len() <= get.limit.into(), "{get:?}");
            found.truncate(get.limit.into());
            if get.values {
                snapshot.keys.extend(found);
            } else {
                snapshot.names.extend(found.into_iter().map(KeyOnly::from));
            }
        }
        snapshot
    }

    pub(crate) fn commit(&mut self, txn: &Txn) -> Result<Outcome, StoreError> {
        if txn.when.iter().all(|compare| self.holds(compare)) {
            self.check(&txn.then)?;
            self.apply(&txn.then);
            return Ok(Outcome::Then(self.revision));
        }
        match &txn.otherwise {
            Some(otherwise) => Ok(match self.commit(otherwise)? {
                Outcome::Then(revision) => Outcome::Otherwise(revision),
                Outcome::Otherwise(_) | Outcome::Nothing => Outcome::Nothing,
            }),
            None => Ok(Outcome::Nothing),
        }
    }

    /// Returns the changes to `range` from a revision on.
    pub(crate) fn changes(&self, range: &Range, from: i64) -> Vec<Change> {
        let start = self.history.partition_point(|(revision, _)| *revision < from);
        let matching = self.history[start..].iter().filter(|(_, change)| range.contains(change.key()));
        matching.map(|(_, change)| change.clone()).collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(range) => !self.keys.keys().any(|key| range.contains(key)),
            Compare::Older(range, revision) => self.created(range).all(|created| created < *revision),
            Compare::NotOlder(range, revision) => {
                self.created(range).next().is_some() && self.created(range).all(|created| created >= *revision)
            }
            Compare::Unchanged(key, revision) => self.keys.get(key).map_or(0, |kv| kv.mod_revision) == *revision,
        }
    }

    /// Returns the create revisions of the keys of a range.
    fn created(&self, range: &Range) -> impl Iterator<Item = i64> {
        self.keys.values().filter(|kv| range.contains(&kv.key)).map(|kv| kv.create_revision)
    }

    /// The checks that etcd makes before it applies a transaction.
    fn check(&self, ops: &[Op]) -> Result<(), StoreError> {
        for (n, op) in ops.iter().enumerate() {
            let (key, lease) = match op {
                Op::Put(key, _, lease) => (key, Some(lease)),
                Op::Delete(key) => (key, None),
            };
            let again = |other: &Op| matches!(other, Op::Put(put, ..) if put == key);
            assert!(!ops[..n].iter().any(again), "etcd: duplicate key given in txn request");
            if lease.is_some_and(|lease| !self.leases.contains_key(lease)) {
                return Err(StoreError::Unavailable("etcd: requested lease not found".into()));
            }
        }
        Ok(())
    }

    fn apply(&mut self, ops: &[Op]) {
        let revision = self.revision + 1;
        for op in ops {
            let change = match op {
                Op::Put(key, value, lease) => {
                    let create_revision = self.keys.get(key).map_or(revision, |kv| kv.create_revision);
                    let (key, value, lease) = (key.clone(), value.clone(), (lease.0 != 0).then_some(*lease));
                    let kv = KeyValue { key, value, create_revision, mod_revision: revision, lease };
                    self.keys.insert(kv.key.clone(), kv.clone());
                    Change::Put(kv)
                }
                Op::Delete(key) => {
                    if self.keys.remove(key).is_none() {
                        continue;
                    }
                    Change::Deleted(key.clone(), revision)
                }
            };
            self.history.push((revision, change));
            self.revision = revision;
        }
    }
}
