//! What must hold in every state. The names of keys are written here independently of the election's own code.

use std::sync::{Arc, atomic::Ordering};

use etcd_await_election::{
    core::{
        kv::{KeyValue, Op, Txn},
        names::LeaseId,
    },
    election::{Candidate, protocol::Request},
};

use crate::explore::{
    etcd::Etcd,
    guard::Deed,
    instance::{Instance, Orphan, When},
    shared::Shared,
    state::{State, Violation, owner},
    steps::{Explorer, LOCK},
};

/// More leases than an instance needs with the faults of the small setups.
const MOST_LEASES: u8 = 12;

impl Explorer {
    /// Judges what a guard has done.
    pub(crate) fn judge(&self, state: &mut State, n: usize, deed: Deed) {
        match deed {
            Deed::Started(token) => {
                if token <= state.token {
                    state.violate(Violation::Token);
                }
                state.token = token;
                let deposed = token <= state.deposed;
                self.update(state, n, |instance| instance.fate.deposed = deposed);
                self.judge(state, n, Deed::WentOn);
            }
            Deed::WentOn => {
                let deposed = state.instance(n).fate.deposed;
                let is_beyond = state.instance(n).fate.beyond;
                let others = || state.instances().filter(|(other, it)| *other != n && it.command.runs());
                if others().any(|(_, other)| !is_beyond && !other.fate.beyond) {
                    state.violate(Violation::Overlap);
                } else if others().next().is_some() {
                    self.beyond.fetch_add(1, Ordering::Relaxed);
                } else if state.peers.has_command() && !deposed && !is_beyond {
                    state.violate(Violation::Overlap);
                }
            }
            Deed::Releases(lease) => {
                let request = Arc::new(Request::Revoke(lease));
                state.orphans.change(|orphans| orphans.push(Orphan { author: n, request, when: When::AtOnce }));
            }
        }
    }

    /// The command of a peer starts.
    pub(crate) fn judge_peer(&self, state: &mut State) {
        let overlaps = |(_, instance): (usize, &Instance)| {
            instance.command.runs() && !instance.fate.deposed && !instance.fate.beyond
        };
        if state.instances().any(overlaps) {
            state.violate(Violation::Overlap);
        }
    }

    /// Judges a transaction of an instance that has changed something: the keys before it, and after.
    pub(crate) fn judge_commit(&self, state: &mut State, author: usize, txn: &Txn, before: &Shared<Etcd>) {
        let holder = |etcd: &Etcd| etcd.get(LOCK.as_bytes()).cloned();
        if is_paused(before) && holder(before) != holder(&state.etcd) {
            state.violate(Violation::ChangedWhilePaused);
        }
        let (Some(old), new) = (holder(before), holder(&state.etcd)) else { return };
        if new.as_ref() == Some(&old) {
            return;
        }
        let Some(lease) = old.lease else { return };
        let Some(n) = owner(lease) else { return };
        let instance = state.instance(n);
        let leads = instance.lease() == Some(lease) && instance.candidate().is_some_and(Candidate::leads);
        if n != author && leads {
            state.violate(Violation::Stolen);
        } else if n == author && instance.command.runs() && instance.lease() == Some(lease) {
            state.violate(Violation::HandedOverEarly);
        } else if let Some(successor) = new.and_then(|kv| kv.lease).filter(|successor| *successor != lease)
            && n == author
            && txn.then.iter().any(|op| matches!(op, Op::Put(key, ..) if *key == LOCK.as_bytes()))
            && !is_turn_of(before, lease, successor)
        {
            state.violate(Violation::OutOfTurn);
        }
    }

    /// After a change in etcd, notes which leaders have a reason to step down.
    pub(crate) fn changed(&self, state: &mut State) {
        for n in 0..state.instances.len() {
            let Some(instance) = &state.instances[n] else { continue };
            if instance.fate.reason || !instance.candidate().is_some_and(Candidate::leads) {
                continue;
            }
            let Some(lease) = instance.lease() else { continue };
            let can_hand_over = instance.fate.sick && has_standby(&state.etcd, lease);
            if can_hand_over || has_reason(&state.etcd, lease) {
                self.update(state, n, |instance| instance.fate.reason = true);
            }
        }
    }

    /// Judges a whole state.
    pub(crate) fn judge_state(&self, state: &mut State) {
        // Each end of a term, each fault and each restart takes a lease; a duel takes any number.
        if state.instances().any(|(_, instance)| instance.leases > MOST_LEASES) {
            state.violate(Violation::Duel);
        }
        let left = |(_, instance): (usize, &Instance)| {
            instance.is_over()
                && instance.revoked.is_some_and(|lease| state.etcd.keys().any(|kv| kv.lease == Some(lease)))
        };
        if state.instances().any(left) {
            state.violate(Violation::KeysLeft);
        }
        // It may take the time of a request to leave.
        let stays = |(_, instance): (usize, &Instance)| {
            let is_settled = instance.is_awake() && !instance.cut && instance.flights.is_empty();
            let leads = instance.candidate().is_some_and(Candidate::leads);
            is_settled
                && !leads
                && instance.told == Some(false)
                && instance.lease().is_some_and(|lease| state.etcd.keys().any(|kv| kv.lease == Some(lease)))
        };
        if state.instances().any(stays) {
            state.violate(Violation::IneligibleInQueue);
        }
    }
}

pub(crate) fn pause_key() -> Vec<u8> {
    format!("{LOCK}/~pause").into_bytes()
}

pub(crate) fn is_paused(etcd: &Etcd) -> bool {
    etcd.get(&pause_key()).is_some()
}

/// Returns the queue: the leases of its entries, the head first.
fn queue(etcd: &Etcd) -> Vec<(LeaseId, &KeyValue)> {
    let mut entries: Vec<_> = etcd
        .keys()
        .filter_map(|kv| {
            let name = std::str::from_utf8(&kv.key).ok()?.strip_prefix(LOCK)?.strip_prefix('/')?;
            let lease = kv.lease?;
            let is_entry = name.starts_with("~entry/") || name == lease.to_string();
            is_entry.then_some((lease, kv))
        })
        .collect();
    entries.sort_by_key(|(_, kv)| kv.create_revision);
    entries
}

/// Returns whether the owner of a lease has a reason not to lead.
pub(crate) fn has_reason(etcd: &Etcd, lease: LeaseId) -> bool {
    !holds(etcd, lease) || has_request(etcd, lease)
}

/// Returns whether the owner of a lease is the leader: its entry is the head, and it has the holder key.
fn holds(etcd: &Etcd, lease: LeaseId) -> bool {
    let has_key = etcd.get(LOCK.as_bytes()).is_some_and(|kv| kv.lease == Some(lease));
    has_key && queue(etcd).iter().any(|(owner, _)| *owner == lease)
}

/// Returns whether a request to this holder exists whose owner has an entry, and there is no pause.
pub(crate) fn has_request(etcd: &Etcd, holder: LeaseId) -> bool {
    let queue = queue(etcd);
    !is_paused(etcd)
        && requests(etcd, holder).any(|lease| lease != holder && queue.iter().any(|(entry, _)| *entry == lease))
}

/// Returns whether another instance waits that the owner of this lease can hand over to.
pub(crate) fn has_standby(etcd: &Etcd, holder: LeaseId) -> bool {
    let prefix = format!("{LOCK}/~entry/");
    etcd.keys().any(|kv| kv.key.starts_with(prefix.as_bytes()) && kv.lease != Some(holder))
}

/// Returns the owners of the requests to this holder, whether or not they count.
fn requests(etcd: &Etcd, holder: LeaseId) -> impl Iterator<Item = LeaseId> {
    let [force, resign] = [format!("{LOCK}/~force/"), format!("{LOCK}/~resign/{holder}/")];
    etcd.keys().filter_map(move |kv| {
        let name = std::str::from_utf8(&kv.key).ok()?;
        let hex = name.strip_prefix(&force).or_else(|| name.strip_prefix(&resign))?;
        i64::from_str_radix(hex, 16).ok().map(LeaseId)
    })
}

/// Returns whether leadership may be handed over to this successor: it has the highest priority and is the oldest of these, or has made
/// a request.
fn is_turn_of(etcd: &Etcd, holder: LeaseId, successor: LeaseId) -> bool {
    let standbys = standbys(etcd, holder);
    let highest = standbys.iter().map(|(_, priority)| *priority).max();
    let next = standbys.iter().find(|(_, priority)| Some(*priority) == highest);
    next.is_some_and(|(lease, _)| *lease == successor) || requests(etcd, holder).any(|lease| lease == successor)
}

/// Returns the instances behind this one and before any other etcd client, with their priorities.
fn standbys(etcd: &Etcd, holder: LeaseId) -> Vec<(LeaseId, i32)> {
    let queue = queue(etcd);
    let place = queue.iter().position(|(lease, _)| *lease == holder).unwrap_or(0);
    let others = queue[place..].iter().filter(|(lease, _)| *lease != holder);
    let ours = others.take_while(|(_, kv)| kv.key.starts_with(format!("{LOCK}/~entry/").as_bytes()));
    ours.map(|(lease, _)| (*lease, priority(etcd, *lease))).collect()
}

fn priority(etcd: &Etcd, lease: LeaseId) -> i32 {
    let kv = etcd.get(format!("{LOCK}/~priority/{lease}").as_bytes());
    kv.map_or(0, |kv| String::from_utf8_lossy(&kv.value).parse().expect("a number"))
}

/// Returns whether the owner of this lease has taken a free lock although an instance with a higher priority waited already.
pub(crate) fn passes_a_priority(etcd: &Etcd, lease: LeaseId, token: i64) -> bool {
    let queue = queue(etcd);
    let Some((_, own)) = queue.iter().find(|(owner, _)| *owner == lease) else { return false };
    let waited = |lease| queue.iter().any(|(owner, kv)| *owner == lease && kv.create_revision < token);
    let is_higher = |&(other, of_other): &(LeaseId, i32)| of_other > priority(etcd, lease) && waited(other);
    holds(etcd, lease) && own.mod_revision != token && standbys(etcd, lease).iter().any(is_higher)
}
