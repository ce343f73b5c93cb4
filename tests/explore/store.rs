//! What the exploration needs of the store beyond what the random model needs.

use std::time::Duration;

use etcd_await_election::{
    core::{
        kv::{Change, Get, Snapshot},
        names::{LeaseId, LockName},
    },
    election::protocol::Reading,
};

use crate::explore::{
    etcd::Etcd,
    instance::Watch,
    sim::{STORE_NOW, Time},
};

/// Reads as the etcd client does.
pub(crate) fn read(etcd: &Etcd, lock: &LockName, reading: &Reading) -> Snapshot {
    match reading {
        Reading::Keys(gets) => etcd.read(gets),
        Reading::Lock(also) => {
            let gets = [&lock.first_reads(), also.as_slice()].concat();
            let mut snapshot = etcd.read(&gets);
            // The few keys that can be entries or markers are read again, with their leases.
            let again = snapshot.names.iter().filter(|name| lock.needs_lease(&name.key));
            let again: Vec<_> = again.map(|name| Get::key(name.key.clone())).collect();
            snapshot.keys.extend(etcd.read(&again).keys);
            snapshot
        }
    }
}

/// Lets time pass for the leases.
pub(crate) fn pass(etcd: &mut Etcd, time: Duration) {
    let time = micros(time);
    for lease in etcd.leases.values_mut().filter(|lease| lease.expires < Time::MAX) {
        lease.expires = lease.expires.saturating_sub(time).max(STORE_NOW);
    }
}

/// Returns the times until leases may expire.
pub(crate) fn expiries(etcd: &Etcd) -> impl Iterator<Item = Duration> {
    etcd.leases.values().filter_map(|lease| {
        let left = lease.expires.saturating_sub(STORE_NOW);
        (left > 0 && lease.expires < Time::MAX).then_some(Duration::from_micros(left))
    })
}

/// Forgets the changes before a revision, which no watch needs.
pub(crate) fn forget(etcd: &mut Etcd, before: i64) {
    etcd.history.retain(|(revision, _)| *revision >= before);
}

/// Makes a lease that never expires, of a peer without faults.
pub(crate) fn keep(etcd: &mut Etcd, lease: LeaseId) {
    etcd.leases.entry(lease).and_modify(|lease| lease.expires = Time::MAX);
}

pub(crate) fn micros(duration: Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(Time::MAX)
}

/// Returns the changes that a watch has to deliver, in the order of their revisions.
pub(crate) fn changes(etcd: &Etcd, watch: &Watch) -> Vec<Change> {
    let new = etcd.history.iter().filter(|(revision, _)| *revision >= watch.next);
    let matching = new.filter(|(_, change)| watch.ranges.iter().any(|range| range.contains(change.key())));
    matching.map(|(_, change)| change.clone()).collect()
}

/// Returns whether there are any.
pub(crate) fn has_changes(etcd: &Etcd, watch: &Watch) -> bool {
    let mut new = etcd.history.iter().filter(|(revision, _)| *revision >= watch.next);
    new.any(|(_, change)| watch.ranges.iter().any(|range| range.contains(change.key())))
}

pub(crate) fn revision(change: &Change) -> i64 {
    match change {
        Change::Put(kv) => kv.mod_revision,
        Change::Deleted(_, revision) => *revision,
    }
}
