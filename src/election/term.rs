//! One leadership.

use std::time::Duration;

use super::{candidacy::Candidacy, loss::Loss};
use crate::core::{
    kv::{Change, Get, KeyValue},
    names::{LeaseId, LockName},
};

/// One leadership: the keys and the lease that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Term {
    /// The lease that all its keys are attached to.
    pub(super) lease: LeaseId,
    /// Its time to live, as granted.
    pub(super) ttl: Duration,
    /// The fencing token: the mod revision of the holder key.
    pub(super) token: i64,
    /// Its queue entry, the head, as it was last written.
    pub(super) entry: KeyValue,
}

impl Term {
    /// Returns the term of a candidate with this entry and holder key.
    pub(super) fn new(candidacy: &Candidacy, entry: &KeyValue, holder: &KeyValue) -> Self {
        Self { lease: candidacy.lease, ttl: candidacy.ttl, token: holder.mod_revision, entry: entry.clone() }
    }

    /// Returns the reads of the holder key, the own entry, the pause and the requests.
    pub(super) fn gets(&self, lock: &LockName) -> Vec<Get> {
        let mut gets = vec![Get::key(lock.holder()), Get::key(self.entry.key.clone()), Get::key(lock.pause())];
        gets.extend(lock.requests_to(self.lease).map(Get::names));
        gets
    }

    /// Returns the same reads, and those of the next entry of an instance of this program and of the priorities.
    pub(super) fn gets_with_next(&self, lock: &LockName) -> Vec<Get> {
        let next = Get::next_after(lock.own_entries(), self.entry.create_revision);
        [self.gets(lock), vec![next, Get::page(lock.priorities(), true)]].concat()
    }

    /// Checks that the keys that were read still confirm the term.
    pub(super) fn check(&self, keys: &[KeyValue], lock: &LockName) -> Result<(), Loss> {
        let find = |key: &[u8]| keys.iter().find(|kv| kv.key == key);
        match find(&lock.holder()) {
            None => return Err(Loss::HolderChanged(None)),
            Some(holder) if holder.mod_revision != self.token => {
                return Err(Loss::HolderChanged(Some(holder.identity())));
            }
            Some(_) => {}
        }
        let entry = find(&self.entry.key).filter(|entry| entry.mod_revision == self.entry.mod_revision);
        entry.map(|_| ()).ok_or(Loss::EntryChanged)
    }

    /// Does the same for one change after the revision of the term.
    pub(super) fn check_change(&self, change: &Change, lock: &LockName) -> Result<(), Loss> {
        match change {
            Change::Put(kv) if kv.key == lock.holder() && kv.mod_revision != self.token => {
                Err(Loss::HolderChanged(Some(kv.identity())))
            }
            Change::Put(kv) if kv.key == self.entry.key && kv.mod_revision != self.entry.mod_revision => {
                Err(Loss::EntryChanged)
            }
            Change::Deleted(key, _) if *key == lock.holder() => Err(Loss::HolderChanged(None)),
            Change::Deleted(key, _) if *key == self.entry.key => Err(Loss::EntryChanged),
            Change::Put(_) | Change::Deleted(..) => Ok(()),
        }
    }
}
