//! What must hold in every run: no two commands at once, and tokens that grow.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use etcd_await_election::core::{
    kv::{Change, KeyValue, Op},
    names::LeaseId,
};

use crate::sim::Sim;

/// The owner of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An instance of the program.
    Ours,
    /// The Go tool.
    Go,
    /// Another etcd client.
    Foreign,
}

#[derive(Clone, Copy)]
struct Running {
    kind: Kind,
    /// An operator deleted a key of its leadership. Other clients do not wait for the process tree, so they may start
    /// beside it.
    deposed: bool,
}

/// The running commands, and the first violation.
pub(crate) struct Oracle {
    sim: Sim,
    running: RefCell<BTreeMap<String, Running>>,
    token: Cell<i64>,
    /// Terms with a token up to this one have lost leadership, also those that have not started their command yet.
    deposed: Cell<i64>,
    /// The priorities that an operator has deleted, by the end of their keys: a handover may have been decided before.
    deleted_priorities: RefCell<BTreeMap<String, i32>>,
    terms: Cell<u64>,
    /// The number of stop signals to commands.
    stops: Cell<u64>,
    /// The instances whose command was ever started.
    started: RefCell<BTreeSet<String>>,
    violation: RefCell<Option<String>>,
}

impl Oracle {
    pub(crate) fn new(sim: &Sim) -> Self {
        Self {
            sim: sim.clone(),
            running: RefCell::default(),
            token: Cell::new(0),
            deposed: Cell::new(0),
            deleted_priorities: RefCell::default(),
            terms: Cell::new(0),
            stops: Cell::new(0),
            started: RefCell::default(),
            violation: RefCell::default(),
        }
    }

    /// The command of an instance starts.
    pub(crate) fn start(&self, name: &str, token: i64) {
        self.sim.log(|| format!("{name} COMMAND STARTS, token {token}"));
        self.terms.set(self.terms.get() + 1);
        self.started.borrow_mut().insert(name.to_owned());
        if token <= self.token.get() {
            self.violate(format!("{name} starts with token {token} after token {}", self.token.get()));
        }
        self.token.set(token.max(self.token.get()));
        self.add(name, Running { kind: Kind::Ours, deposed: token <= self.deposed.get() });
    }

    /// Another program of the same term starts.
    pub(crate) fn go_on(&self, name: &str, token: i64) {
        self.sim.log(|| format!("{name} NEXT PROGRAM STARTS"));
        self.add(name, Running { kind: Kind::Ours, deposed: token <= self.deposed.get() });
    }

    /// The command of a peer starts.
    pub(crate) fn begin(&self, name: &str, kind: Kind) {
        self.add(name, Running { kind, deposed: false });
    }

    fn add(&self, name: &str, new: Running) {
        for (other, running) in self.running.borrow().iter() {
            let ours = new.kind == Kind::Ours && running.kind == Kind::Ours;
            // Overlaps of peers with each other do not count.
            let peers = new.kind != Kind::Ours && running.kind != Kind::Ours;
            if ours || !(peers || running.deposed || new.deposed) {
                self.violate(format!("{name} starts while the command of {other} runs"));
            }
        }
        self.running.borrow_mut().insert(name.to_owned(), new);
    }

    /// Its process tree has exited.
    pub(crate) fn stop(&self, name: &str) {
        self.sim.log(|| format!("{name} COMMAND EXITED"));
        self.running.borrow_mut().remove(name);
    }

    /// An operator deletes a key, on which the present leadership may depend.
    pub(crate) fn depose(&self, deleted: Option<&KeyValue>, revision: i64) {
        if let Some((kv, at)) = deleted.and_then(|kv| Some((kv, name_of(kv).find("/~priority/")?))) {
            self.deleted_priorities.borrow_mut().insert(name_of(kv).split_off(at), number_in(kv));
        }
        self.deposed.set(revision);
        self.running.borrow_mut().values_mut().for_each(|running| running.deposed = true);
    }

    /// Checks a handover with these writes: to the next in the queue, or to the owner of a request to this or any
    /// holder. Key names are parsed here independently of the election's own code.
    pub(crate) fn handed_over(&self, before: &[KeyValue], then: &[Op]) {
        let put = |kv: &&KeyValue| then.iter().any(|op| matches!(op, Op::Put(key, ..) if *key == kv.key));
        let heir = then.iter().find_map(|op| if let Op::Put(_, _, lease) = op { Some(*lease) } else { None });
        let is_entry = |kv: &&KeyValue| {
            let (name, lease) = (name_of(kv), kv.lease.map(|lease| lease.to_string()).unwrap_or_default());
            kv.lease.is_some()
                && (name.contains("/~entry/")
                    || name.rsplit_once('/').is_some_and(|(_, hex)| hex == lease && !name.contains('~')))
        };
        let mut queue: Vec<_> = before.iter().filter(is_entry).collect();
        queue.sort_by_key(|kv| kv.create_revision);
        let Some((heir, place)) = heir.zip(queue.iter().position(put)) else {
            return self.violate("a handover writes no queue entry".to_owned());
        };
        let old: Option<LeaseId> = queue[place].lease;
        // It may be a late copy of its own join.
        let others = queue[place..].iter().filter(|entry| entry.lease != old);
        let deleted = self.deleted_priorities.borrow();
        let priority = |entry: &KeyValue, before_deletion: bool| {
            let key = format!("/~priority/{}", entry.lease.map(|lease| lease.to_string()).unwrap_or_default());
            let present = before.iter().find(|kv| name_of(kv).ends_with(&key)).map(number_in);
            present.or_else(|| deleted.get(&key).copied().filter(|_| before_deletion)).unwrap_or(0)
        };
        // The highest priority before any other etcd client, and of these the oldest.
        let standbys: Vec<_> = others.take_while(|entry| name_of(entry).contains("/~entry/")).collect();
        let is_next = [false, true].into_iter().any(|before_deletion| {
            let next = standbys.iter().rev().max_by_key(|entry| priority(entry, before_deletion));
            next.is_some_and(|next| next.lease == Some(heir))
        });
        let asks = |kv: &KeyValue| {
            let (name, old) = (name_of(kv), old.map(|old| old.to_string()).unwrap_or_default());
            name.ends_with(&format!("/~force/{heir}")) || name.ends_with(&format!("/~resign/{old}/{heir}"))
        };
        if !is_next && !before.iter().any(asks) {
            let queue: Vec<_> = queue.into_iter().map(show_key).collect();
            self.violate(format!("leadership is handed over to {heir} out of turn: {queue:#?}"));
        }
    }

    /// Returns the instance whose command runs.
    pub(crate) fn leader(&self) -> Option<String> {
        self.running.borrow().iter().find(|(_, running)| running.kind == Kind::Ours).map(|(name, _)| name.clone())
    }

    /// Returns whether this instance's command was started, even if another request followed soon.
    pub(crate) fn has_started(&self, name: &str) -> bool {
        self.started.borrow().contains(name)
    }

    /// A command receives a stop signal.
    pub(crate) fn stopping(&self) {
        self.stops.set(self.stops.get() + 1);
    }

    pub(crate) fn stops(&self) -> u64 {
        self.stops.get()
    }

    pub(crate) fn terms(&self) -> u64 {
        self.terms.get()
    }

    pub(crate) fn violate(&self, what: String) {
        self.sim.log(|| format!("VIOLATION: {what}"));
        self.violation.borrow_mut().get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }
}

fn name_of(kv: &KeyValue) -> String {
    String::from_utf8_lossy(&kv.key).into_owned()
}

fn number_in(kv: &KeyValue) -> i32 {
    String::from_utf8_lossy(&kv.value).parse().expect("a number")
}

/// Formats a change in etcd.
pub(crate) fn show(change: &Change) -> String {
    match change {
        Change::Put(kv) => format!("put {}", show_key(kv)),
        Change::Deleted(key, revision) => format!("delete {} at {revision}", String::from_utf8_lossy(key)),
    }
}

/// Formats a key.
pub(crate) fn show_key(kv: &KeyValue) -> String {
    let lease = kv.lease.map_or_else(|| "none".to_owned(), |lease| lease.to_string());
    format!("{} = {} on {lease} at {}", String::from_utf8_lossy(&kv.key), kv.identity(), kv.mod_revision)
}
