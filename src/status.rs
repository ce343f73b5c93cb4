//! What is known about the election, published once as one value; the HTTP endpoint, the metrics, `sd_notify` and
//! `--healthcheck` are views of it. Nobody here asks etcd.

use std::time::Duration;

use crate::{clock::Instant, timing::Deadlines};

/// Where this instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not in the queue: connecting, or joining again.
    Joining,
    /// In the queue.
    Waiting {
        /// The place in the queue; 1 is next.
        number: usize,
        /// The identity just ahead, if anybody is.
        behind: Option<String>,
    },
    /// The lock is held; the command is not started yet (a first renewal, or a marker is waited for).
    Elected,
    /// The command runs.
    Running,
    /// The command is being ended.
    Stopping,
    /// The lock was given back.
    Released,
}

/// The published value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The lock's name.
    pub lock: String,
    /// This instance's identity.
    pub identity: String,
    /// Where this instance stands.
    pub phase: Phase,
    /// The identity on the holder key when last seen, this instance's own included.
    pub leader: Option<String>,
    /// The fencing token, while the lock is held.
    pub token: Option<i64>,
    /// The lease in hexadecimal, while there is one.
    pub lease: Option<String>,
    /// The TTL that etcd granted.
    pub ttl: Duration,
    /// When the latest confirmed renewal (leader) or keepalive (waiting) was sent.
    pub renewed_at: Option<Instant>,
    /// The deadlines that the guard confirmed, while the command may run.
    pub deadlines: Option<Deadlines>,
    /// Since when this instance leads.
    pub elected_at: Option<Instant>,
    /// What happened so far.
    pub counters: Counters,
    /// When the election published last: it is alive.
    pub beat: Instant,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Terms begun: this instance was elected.
    pub elections: u64,
    /// Terms that ended by loss.
    pub losses: u64,
    /// Renewals confirmed.
    pub renewals: u64,
    /// Renewals that were not confirmed within a retry period.
    pub late_renewals: u64,
}

impl Status {
    /// The value before anything happened.
    #[must_use]
    pub fn new(lock: String, identity: String, ttl: Duration) -> Self {
        Self {
            lock,
            identity,
            phase: Phase::Joining,
            leader: None,
            token: None,
            lease: None,
            ttl,
            renewed_at: None,
            deadlines: None,
            elected_at: None,
            counters: Counters::default(),
            beat: Instant::now(),
        }
    }
}
