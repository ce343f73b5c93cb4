//! What follows a phase.

use std::time::Duration;

use super::{
    candidacy::Candidacy,
    context::{Context, Shift},
    loss::Loss,
    position,
    protocol::{Event, RequestId},
    step::Step,
    term::Term,
    view::{Entry, View},
};
use crate::{
    core::{
        clock::Instant,
        exit_code::Exit,
        kv::{KeyValue, StoreError, Txn},
    },
    guard::CommandEnd,
};

/// The next phase, with the data that it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Join the queue after this time.
    Join(Duration),
    /// Read all keys of the lock at this instant, or now.
    Verify(Candidacy, Option<Instant>),
    /// Commit a transaction of the candidate with this queue entry.
    Claim(Candidacy, KeyValue, Step, Txn),
    /// Wait for a change of the keys that were read; the position of this candidate is an index of the queue.
    Wait(Candidacy, View, usize),
    /// Lead.
    Lead(Elected),
    /// Stop the command, as leadership is lost.
    Stop(Lost),
    /// Hand over leadership, if possible to this entry.
    HandOver {
        /// The term that ends.
        term: Term,
        /// The entry of the next instance in the queue, if a renewal has seen one.
        next: Option<Entry>,
        then: Then,
        /// What follows if that fails.
        otherwise: Then,
    },
    /// Revoke the lease; if set, before this limit.
    Release(Then, Option<Instant>),
    /// Exit after the restart pause.
    Rest(Exit),
    /// Exit.
    Exit(Exit),
}

/// A phase. It handles events until another phase follows.
pub(super) trait Handle {
    /// Handles an event. Returns the next phase; `None` to stay in this one.
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next>;

    /// Returns when to handle [`Event::Woken`] at the latest.
    fn next_wake(&self) -> Option<Instant>;

    /// Returns the requests whose answers it waits for. All others are cancelled.
    fn requests(&self) -> Vec<RequestId>;

    /// Moves all instants and request numbers.
    fn shift(&mut self, shift: Shift<'_>);
}

/// A term that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elected {
    pub(super) term: Term,
    /// When the latest renewal was sent.
    pub(super) renewed: Instant,
    /// The keys of the lock, if they were read.
    pub(super) queue: Option<View>,
}

/// A term whose leadership is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lost {
    pub(super) term: Term,
    pub(super) loss: Loss,
    pub(super) renewals: RequestId,
    /// How the main process of the command ended before the loss.
    pub(super) ended: Option<CommandEnd>,
}

/// What follows after the lease was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// It joins again after this time, in the same campaign.
    Join(Duration),
    /// It campaigns again after this time.
    Campaign(Duration),
    /// The program exits.
    Exit(Exit),
}

impl Next {
    /// Leads, as a transaction of this candidate wrote the holder key at this revision, and compared all that the start depends on.
    pub(super) fn lead_at(candidacy: &Candidacy, entry: KeyValue, token: i64, context: &mut Context<'_>) -> Self {
        let lease = candidacy.lease;
        let holder = KeyValue { key: context.shared.lock().holder(), mod_revision: token, ..entry.clone() };
        position::report_leader(Some(&holder), context);
        Self::lead(candidacy, Term { lease, ttl: candidacy.ttl, token, entry }, None)
    }

    /// Leads.
    pub(super) fn lead(candidacy: &Candidacy, term: Term, queue: Option<View>) -> Self {
        Self::Lead(Elected { term, renewed: candidacy.renewed, queue })
    }

    /// Leaves the queue, and joins again with a new lease.
    pub(super) const fn join_again() -> Self {
        Self::Release(Then::Join(Duration::ZERO), None)
    }

    /// Leaves the queue and exits.
    pub(super) const fn leave(exit: Exit) -> Self {
        Self::Release(Then::Exit(exit), None)
    }

    /// Leaves the queue and exits, as an operator has to correct this.
    pub(super) fn leave_denied(failure: &StoreError) -> Self {
        match failure {
            StoreError::AccessDenied(why) => {
                tracing::error!(
                    "etcd denied access: {why}; check ETCD_AWAIT_ELECTION_USER, PASSWORD or PASSWORD_FILE, and the user's permission \
                     to read and write the lock's key and the keys below it"
                );
            }
            StoreError::Untrusted(why) => {
                tracing::error!(
                    "TLS verification failed for every endpoint: {why}; check ETCD_AWAIT_ELECTION_CACERT, CERT, KEY and \
                     TLS_SERVER_NAME"
                );
            }
            StoreError::NoLeader(why) | StoreError::Unavailable(why) => tracing::error!("{why}"),
        }
        Self::leave(Exit::NoPermission)
    }
}
