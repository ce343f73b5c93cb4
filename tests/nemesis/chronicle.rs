//! The events of a run, on the journal's clock, for the picture and the report.

use std::collections::BTreeMap;

/// All events of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) presences: Vec<Presence>,
    pub(crate) calms: Vec<Calm>,
    /// The number of planned faults without a target.
    pub(crate) skipped: u64,
    /// The number of instances that ended in each way.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// One fault that was caused.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) from: u64,
    /// When it was healed; the same as `from` for a fault that cannot be healed.
    pub(crate) to: u64,
    pub(crate) lane: Lane,
    pub(crate) name: &'static str,
    /// Further details.
    pub(crate) detail: String,
}

/// The target of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Instance(usize),
    Member(usize),
    Keys,
}

/// The lifetime of a gatekeeper.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    pub(crate) instance: usize,
    pub(crate) name: String,
    /// How it reached etcd.
    pub(crate) way: &'static str,
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// A time without faults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calm {
    pub(crate) from: u64,
    /// When an instance led.
    pub(crate) led: Option<u64>,
    pub(crate) to: u64,
}

impl Chronicle {
    /// Adds a fault that begins now; returns its index, to add its end.
    pub(crate) fn note(&mut self, at: u64, lane: Lane, name: &'static str, detail: impl Into<String>) -> usize {
        self.events.push(Event { from: at, to: at, lane, name, detail: detail.into() });
        self.events.len() - 1
    }

    /// Returns the number of instances that reached etcd in each way.
    pub(crate) fn ways(&self) -> BTreeMap<&'static str, u64> {
        let mut ways = BTreeMap::new();
        for presence in &self.presences {
            *ways.entry(presence.way).or_default() += 1;
        }
        ways
    }

    /// Returns the number of faults of each kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.name).or_default() += 1;
        }
        counts
    }
}
