//! What must hold in every run: no two commands at once, and tokens that grow.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use etcd_await_election::election::store::{Change, KeyValue};

use crate::sim::Sim;

/// Whose command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of our instances.
    Ours,
    /// The Go tool.
    Go,
    /// A client of etcd's own elections.
    Foreign,
}

#[derive(Clone, Copy)]
struct Running {
    kind: Kind,
    /// An operator deleted a key of its leadership. Peers that know nothing of our way to end may start beside it, and it
    /// may be one of them.
    deposed: bool,
}

/// Who runs now, and what went wrong first.
pub(crate) struct Oracle {
    sim: Sim,
    running: RefCell<BTreeMap<String, Running>>,
    token: Cell<i64>,
    /// Terms with a token up to this one are deposed, also those that have not started their command yet.
    deposed: Cell<i64>,
    terms: Cell<u64>,
    /// Whose command was ever started.
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
            terms: Cell::new(0),
            started: RefCell::default(),
            violation: RefCell::default(),
        }
    }

    /// A command of ours begins.
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

    /// The command of a peer begins.
    pub(crate) fn begin(&self, name: &str, kind: Kind) {
        self.add(name, Running { kind, deposed: false });
    }

    fn add(&self, name: &str, new: Running) {
        for (other, running) in self.running.borrow().iter() {
            let ours = new.kind == Kind::Ours && running.kind == Kind::Ours;
            // What peers do to each other is theirs.
            let peers = new.kind != Kind::Ours && running.kind != Kind::Ours;
            if ours || !(peers || running.deposed || new.deposed) {
                self.violate(format!("{name} starts while the command of {other} runs"));
            }
        }
        self.running.borrow_mut().insert(name.to_owned(), new);
    }

    /// Nothing is left of it.
    pub(crate) fn stop(&self, name: &str) {
        self.sim.log(|| format!("{name} COMMAND GONE"));
        self.running.borrow_mut().remove(name);
    }

    /// An operator deletes a key that those who lead now lead by.
    pub(crate) fn depose(&self, revision: i64) {
        self.deposed.set(revision);
        self.running.borrow_mut().values_mut().for_each(|running| running.deposed = true);
    }

    /// Whose command of ours runs.
    pub(crate) fn leader(&self) -> Option<String> {
        self.running.borrow().iter().find(|(_, running)| running.kind == Kind::Ours).map(|(name, _)| name.clone())
    }

    /// Whether this instance's command was started, however soon somebody else may have asked for the lead.
    pub(crate) fn has_started(&self, name: &str) -> bool {
        self.started.borrow().contains(name)
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

/// A change in etcd, to read.
pub(crate) fn show(change: &Change) -> String {
    match change {
        Change::Put(kv) => format!("put {}", show_key(kv)),
        Change::Deleted(key, revision) => format!("delete {} at {revision}", String::from_utf8_lossy(key)),
    }
}

/// A key, to read.
pub(crate) fn show_key(kv: &KeyValue) -> String {
    let lease = kv.lease.map_or_else(|| "none".to_owned(), |lease| lease.to_string());
    format!("{} = {} on {lease} at {}", String::from_utf8_lossy(&kv.key), kv.identity(), kv.mod_revision)
}
