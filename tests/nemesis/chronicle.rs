//! What happened in a run, on the journal's clock: for the picture and the report.

use std::collections::BTreeMap;

/// Everything that was done, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) presences: Vec<Presence>,
    pub(crate) calms: Vec<Calm>,
    /// Planned, but there was nothing to do it to.
    pub(crate) skipped: u64,
    /// How often instances ended in which way.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// One fault that was done.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) from: u64,
    /// When it was healed; the same as `from` for what cannot be.
    pub(crate) to: u64,
    pub(crate) lane: Lane,
    pub(crate) name: &'static str,
    /// Whatever else there is to say.
    pub(crate) detail: String,
}

/// To whom it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Instance(usize),
    Member(usize),
    Keys,
}

/// From the start of a gatekeeper to its end.
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
    /// When somebody led.
    pub(crate) led: Option<u64>,
    pub(crate) to: u64,
}

impl Chronicle {
    /// Notes a fault that begins now; gives its number, to note its end.
    pub(crate) fn note(&mut self, at: u64, lane: Lane, name: &'static str, detail: impl Into<String>) -> usize {
        self.events.push(Event { from: at, to: at, lane, name, detail: detail.into() });
        self.events.len() - 1
    }

    /// How many instances reached etcd in which way.
    pub(crate) fn ways(&self) -> BTreeMap<&'static str, u64> {
        let mut ways = BTreeMap::new();
        for presence in &self.presences {
            *ways.entry(presence.way).or_default() += 1;
        }
        ways
    }

    /// How often each kind was done.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.name).or_default() += 1;
        }
        counts
    }
}
