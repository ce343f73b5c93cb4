//! The events that a candidate handles, and the actions that it returns.

use std::{fmt, time::Duration};

use nix::sys::signal;

use super::progress::Progress;
use crate::{
    core::{
        clock::Instant,
        exit_code::Exit,
        kv::{Change, Get, Outcome, Range, Snapshot, StoreError, Txn},
        names::LeaseId,
    },
    guard::{Order, Report},
};

/// The number of a request. Its answers carry it, so that a late one is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time has passed.
    Woken,
    /// The ID for the next lease, after [`Action::NewLease`].
    NewLease(LeaseId),
    /// An answer to a request. [`Request::RenewEvery`] and [`Request::Watch`] have several.
    Answer(RequestId, Answer),
    /// The guard has sent a report.
    Report(Report),
    /// This process received a signal.
    Signal(Signal),
    /// The check of the command fails or, after that, succeeds. No decision about a renewal or a stop waits for it.
    Healthy(bool),
    /// This host may lead, or it may not. It is not asked while this instance leads.
    Eligible(bool),
    /// Most endpoints belong to another etcd cluster by now. What was read before says nothing about that one.
    ClusterLost,
}

/// A signal to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Whether it is a shutdown request, or only for the command.
    pub meaning: Meaning,
}

impl Signal {
    /// Returns the exit code of a program that this signal ended.
    pub(super) fn exit(self) -> Exit {
        Exit::Signal(u8::try_from(self.number).unwrap_or(0))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal::Signal::try_from(self.number) {
            Ok(signal) => signal.fmt(f),
            Err(_) => write!(f, "signal {}", self.number),
        }
    }
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// A shutdown of this program.
    Shutdown,
    /// What the command makes of it; while no command runs, or while it is being stopped anyway, a shutdown.
    Interrupt,
    /// To suspend this program; if a command runs, only what the command makes of it.
    Suspend,
    /// What the command makes of it.
    Other,
}

/// A request to etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Grant this lease for at least `ttl`: [`Answer::Granted`].
    Grant {
        /// The lease.
        lease: LeaseId,
        /// The requested time to live.
        ttl: Duration,
    },
    /// Read at one revision: [`Answer::Read`].
    Read(Reading, Consistency),
    /// Read, and then keep the lease alive, at one endpoint: [`Answer::Renewed`] or [`Answer::LeaseGone`].
    ///
    /// The read comes first: before etcd 3.4.31 and 3.5.13, a raft leader that was frozen may confirm a keepalive although another
    /// member leads by now, but it cannot answer a linearizable read.
    Renew {
        /// The lease.
        lease: LeaseId,
        /// The keys to read.
        reading: Reading,
    },
    /// Keep the lease alive: [`Answer::KeptAlive`] or [`Answer::LeaseGone`].
    KeepAlive(LeaseId),
    /// Renew every `period` from `begin` on, whether or not answers are outstanding. It ends only with [`Action::Cancel`].
    RenewEvery {
        /// The lease.
        lease: LeaseId,
        /// The keys to read.
        gets: Vec<Get>,
        /// The period.
        period: Duration,
        /// When the first request is due.
        begin: Instant,
    },
    /// Apply a transaction: [`Answer::Committed`]. After [`Answer::Failed`] its outcome is unknown: it may have been applied, or may be
    /// applied later.
    Commit(Txn),
    /// Watch these ranges from a revision on: [`Answer::Changes`], until [`Answer::Failed`].
    Watch {
        /// The ranges.
        ranges: Vec<Range>,
        /// The revision.
        from: i64,
    },
    /// Revoke a lease, which deletes its keys: [`Answer::Revoked`].
    Revoke(LeaseId),
}

/// Which keys to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// These ranges.
    Keys(Vec<Get>),
    /// The holder key, the markers, the whole queue, and these ranges.
    Lock(Vec<Get>),
}

/// Whether a read may be out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// It shows every transaction that was applied before the read was sent.
    Linearizable,
    /// It may be out of date: for keys that a transaction compares afterwards.
    Serializable,
}

/// An answer of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The lease was granted.
    Granted {
        /// The instant just before the first request was sent.
        sent: Instant,
        /// The time to live: the requested one, or etcd's minimum.
        ttl: Duration,
    },
    /// What was read.
    Read(Snapshot),
    /// What was read, and then the lease was kept alive.
    Renewed {
        /// The instant just before both.
        sent: Instant,
        /// What was read.
        read: Snapshot,
    },
    /// The lease was kept alive.
    KeptAlive {
        /// The instant just before the request was sent.
        sent: Instant,
    },
    /// The lease does not exist any more.
    LeaseGone,
    /// The outcome of a transaction.
    Committed(Outcome),
    /// Changes, in the order of their revisions.
    Changes(Vec<Change>),
    /// The lease was revoked; `false` if it did not exist any more.
    Revoked(bool),
    /// The request failed, and the watch has ended.
    Failed {
        /// Why.
        failure: StoreError,
        /// When to try again.
        retry_at: Instant,
    },
}

/// What the gatekeeper has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send a request to etcd.
    Request(RequestId, Request),
    /// Drop a request. It may have been applied, or may be applied later. Its answers are not needed any more.
    Cancel(RequestId),
    /// Choose a random ID for a lease, and handle [`Event::NewLease`] with it next.
    NewLease,
    /// Forget which etcd cluster is used, so that it is decided again.
    ForgetCluster,
    /// Send an order to the guard.
    Order(Order),
    /// The lifecycle of this instance changes.
    Progress(Progress),
    /// Suspend this process, as a job of a shell.
    Suspend,
    /// Exit.
    Exit(Exit),
}
