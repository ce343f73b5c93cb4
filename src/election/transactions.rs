//! The transactions of the protocol. Each compares all that it depends on, so it does no harm if it is applied late or twice.

use super::{
    keys::Request,
    term::Term,
    view::{Entry, Successor},
};
use crate::core::{
    kv::{Compare, KeyValue, Op, Range, Txn},
    names::{LeaseId, LockName},
};

/// Joins the queue: creates the queue entry and the priority, and the holder key as well if the lock is free. It never overwrites a
/// key.
///
/// If `then` was applied, the command may start without a read: nobody else was in the queue, and there was no marker. If it is
/// applied late, it creates at worst a second entry of this lease, or takes a free lock.
pub(super) fn join(lock: &LockName, identity: &str, lease: LeaseId, priority: i32) -> Txn {
    let (holder, entry) = (lock.holder(), lock.entry(lease));
    let nobody_else = [lock.own_entries(), lock.foreign_entries(), lock.markers()].map(Compare::Absent);
    let mut enter = Txn { when: vec![absent(&entry)], then: vec![put(&entry, identity, lease)], otherwise: None };
    if priority != 0 {
        enter.then.push(put(&lock.priority(lease), &priority.to_string(), lease));
    }
    let lead = Txn {
        when: [absent(&holder)].into_iter().chain(nobody_else).collect(),
        then: enter.then.clone(),
        otherwise: Some(Box::new(enter)),
    };
    become_leader(lock, identity, lease, lead)
}

/// Takes the free lock as the head of the queue, and withdraws the own handover requests.
///
/// If `then` was applied, the command may start without a read: it compares that no other entry is older, that there is no marker, no
/// request to this candidate and no priority of another. A key of an application may look like an entry of another client, so
/// `otherwise` takes the lock without these compares, and a read shows the rest.
pub(super) fn claim(lock: &LockName, identity: &str, entry: &Entry, own_requests: &[Request]) -> Txn {
    let free = vec![unchanged(&entry.kv), absent(&lock.holder())];
    let then: Vec<_> = own_requests.iter().map(|request| Op::Delete(lock.request(*request))).collect();
    let mut when = free.clone();
    when.push(Compare::NotOlder(lock.own_entries(), entry.kv.create_revision));
    when.extend([lock.foreign_entries(), lock.markers()].map(Compare::Absent));
    when.extend(lock.requests_to(entry.lease).map(Compare::Absent));
    if entry.priority < 0 {
        // Instances with priority 0 have no key. Its own one fails this compare.
        when.push(Compare::Absent(lock.priorities()));
    } else {
        when.extend(lock.priorities_beside(entry.lease).map(Compare::Absent));
    }
    let lead = |txn| become_leader(lock, identity, entry.lease, txn);
    let by_read = lead(Txn { when: free, then: then.clone(), otherwise: None });
    lead(Txn { when, then, otherwise: Some(Box::new(by_read)) })
}

/// Makes a handover request.
pub(super) fn request(lock: &LockName, identity: &str, entry: &Entry, request: Request) -> Txn {
    let key = lock.request(request);
    let when = vec![unchanged(&entry.kv), absent(&key)];
    Txn { when, then: vec![put(&key, identity, entry.lease)], otherwise: None }
}

/// Withdraws a handover request.
pub(super) fn withdraw(lock: &LockName, request: Request, mod_revision: i64) -> Txn {
    let key = lock.request(request);
    Txn { when: vec![Compare::Unchanged(key.clone(), mod_revision)], then: vec![Op::Delete(key)], otherwise: None }
}

/// Deletes the holder key of a holder that does not react to requests, and creates the eviction marker on its lease. Makes a request
/// as well, so that the next leader hands over to the candidate that evicted the holder. Not during a pause, as a running command
/// would be stopped, and no other could start.
pub(super) fn evict(lock: &LockName, identity: &str, entry: &Entry, holder: &KeyValue) -> Txn {
    let request = Request { to: None, lease: entry.lease };
    let mut then = vec![put(&lock.request(request), identity, entry.lease), Op::Delete(holder.key.clone())];
    then.extend(holder.lease.map(|lease| Op::Put(lock.marker(lease), holder.value.clone(), lease)));
    Txn { when: vec![unchanged(&entry.kv), unchanged(holder), absent(&lock.pause())], then, otherwise: None }
}

/// Makes the successor the leader: attaches the leader's entry and the holder key to its lease, and deletes its own entry and
/// requests.
///
/// Compares the own entry, the holder key (a Go instance may have rewritten it), the successor's entry and its request, and that
/// there is no marker: the successor may start its command without another read. For a successor without a request it compares that
/// there is no request, either, and that no instance with a priority has joined after `revision`, at which the successor was chosen.
/// If this fails, the revocation of the lease frees the lock.
pub(super) fn hand_over(lock: &LockName, term: &Term, successor: &Successor<'_>, revision: i64) -> Txn {
    let mut txn = hand_over_to(lock, term, successor);
    if successor.request.is_none() {
        // Instances with priority 0 have no key.
        let chosen_from = if successor.entry.priority < 0 { lock.own_entries() } else { lock.priorities() };
        txn.when.push(Compare::Older(chosen_from, revision + 1));
    }
    txn
}

/// Does the same for the next entry of this program that a renewal has seen: compares as well that there is no entry of another
/// client before it, and no priority of another instance.
pub(super) fn hand_over_to_next(lock: &LockName, term: &Term, next: &Entry) -> Txn {
    let mut txn = hand_over_to(lock, term, &Successor { entry: next, request: None });
    txn.when.push(Compare::Older(lock.foreign_entries(), term.entry.create_revision));
    txn.when.extend(lock.priorities_beside(term.lease).map(Compare::Absent));
    txn
}

fn hand_over_to(lock: &LockName, term: &Term, successor: &Successor<'_>) -> Txn {
    let (own, next) = (&term.entry, successor.entry);
    let mut when = vec![
        unchanged(own),
        Compare::Unchanged(lock.holder(), term.token),
        unchanged(&next.kv),
        Compare::Absent(lock.markers()),
    ];
    match successor.request {
        Some(request) => when.push(Compare::Unchanged(request.key.clone(), request.mod_revision)),
        None => when.extend(lock.requests_to(term.lease).map(Compare::Absent)),
    }
    let mut then = vec![Op::Put(own.key.clone(), next.kv.value.clone(), next.lease), Op::Delete(next.kv.key.clone())];
    let requests = [None, Some(term.lease)].map(|to| lock.request(Request { to, lease: next.lease }));
    then.extend(requests.map(Op::Delete));
    become_leader(lock, next.kv.value.clone(), next.lease, Txn { when, then, otherwise: None })
}

/// Adds to a transaction that the owner of this lease becomes leader: writes the holder key, and compares that there is no pause.
/// Nothing else writes the holder key.
fn become_leader(lock: &LockName, identity: impl Into<Vec<u8>>, lease: LeaseId, mut txn: Txn) -> Txn {
    txn.when.push(absent(&lock.pause()));
    txn.then.push(Op::Put(lock.holder(), identity.into(), lease));
    txn
}

pub(super) fn unchanged(kv: &KeyValue) -> Compare {
    Compare::Unchanged(kv.key.clone(), kv.mod_revision)
}

pub(super) fn absent(key: &[u8]) -> Compare {
    Compare::Absent(Range::Key(key.to_vec()))
}

fn put(key: &[u8], identity: &str, lease: LeaseId) -> Op {
    Op::Put(key.to_vec(), identity.into(), lease)
}

#[cfg(test)]
mod tests;
