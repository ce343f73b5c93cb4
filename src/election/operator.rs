//! The transactions of an operator. Each compares all that it depends on, like those of an instance.

use super::{
    keys::Request,
    transactions::{absent, unchanged},
    view::Entry,
};
use crate::core::{
    kv::{Compare, KeyValue, Op, Txn},
    names::{LeaseId, LockName},
};

/// Pauses the lock, or replaces this pause.
#[must_use]
pub fn pause(lock: &LockName, previous: Option<&KeyValue>, value: Vec<u8>, lease: LeaseId) -> Txn {
    let key = lock.pause();
    let when = vec![previous.map_or_else(|| absent(&key), unchanged)];
    Txn { when, then: vec![Op::Put(key, value, lease)], otherwise: None }
}

/// Deletes a key that has not changed: ends a pause, or withdraws a handover request.
#[must_use]
pub fn delete(key: &[u8], mod_revision: i64) -> Txn {
    let when = vec![Compare::Unchanged(key.to_vec(), mod_revision)];
    Txn { when, then: vec![Op::Delete(key.to_vec())], otherwise: None }
}

/// Makes a handover request to this holder on behalf of a standby, attached to the lease of the standby. Not during a pause.
#[must_use]
pub fn request(lock: &LockName, holder: &KeyValue, standby: &Entry, request: Request) -> Txn {
    let key = lock.request(request);
    let when = vec![unchanged(holder), unchanged(&standby.kv), absent(&key), absent(&lock.pause())];
    Txn { when, then: vec![Op::Put(key, standby.kv.value.clone(), standby.lease)], otherwise: None }
}
