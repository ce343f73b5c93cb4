//! The watch of a leader: it shows a loss sooner than the next renewal does.

use crate::core::{
    clock::Instant,
    kv::{Change, Range, Snapshot},
};
use crate::election::{
    context::{Context, Shift},
    loss::Loss,
    protocol::{Answer, Consistency, Reading, Request, RequestId},
    term::Term,
};

/// The watch of the keys of a term. After it breaks, the keys are read again, and watched from that revision on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Observation {
    /// The watch is opened at this instant, from this revision on.
    Opening(Instant, i64),
    Watching(RequestId),
    /// The keys are read at this instant, as they were not read before, or the watch has broken.
    Broken(Instant),
    Reading(RequestId),
}

/// What an observation has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    Nothing,
    Loss(Loss),
    /// These keys have changed.
    Changed(Vec<Change>),
    /// The keys were read after the watch had broken.
    Read(Snapshot),
}

impl Observation {
    /// Begins at this instant: with a read, or after a read at this revision.
    pub(super) fn at(instant: Instant, revision: Option<i64>) -> Self {
        revision.map_or(Self::Broken(instant), |revision| Self::Opening(instant, revision))
    }

    pub(super) fn woken(&mut self, term: &Term, context: &mut Context<'_>) {
        match *self {
            Self::Opening(due, revision) if context.now >= due => *self = Self::watch(term, revision, context),
            Self::Broken(due) if context.now >= due => {
                let reading = Reading::Keys(term.gets_with_next(context.shared.lock()));
                *self = Self::Reading(context.request(Request::Read(reading, Consistency::Linearizable)));
            }
            _ => {}
        }
    }

    fn watch(term: &Term, revision: i64, context: &mut Context<'_>) -> Self {
        let lock = context.shared.lock();
        // The own entry is among them.
        let mut ranges = vec![Range::Key(lock.holder()), Range::Key(lock.pause()), lock.own_entries()];
        ranges.extend(lock.requests_to(term.lease));
        Self::Watching(context.request(Request::Watch { ranges, from: revision + 1 }))
    }

    pub(super) fn answered(&mut self, answer: Answer, term: &Term, context: &mut Context<'_>) -> Observed {
        match answer {
            Answer::Changes(changes) => {
                let lock = context.shared.lock();
                if let Some(loss) = changes.iter().find_map(|change| term.check_change(change, lock).err()) {
                    return Observed::Loss(loss);
                }
                Observed::Changed(changes)
            }
            Answer::Read(read) => {
                if let Err(loss) = term.check(&read.keys, context.shared.lock()) {
                    return Observed::Loss(loss);
                }
                *self = Self::watch(term, read.revision, context);
                Observed::Read(read)
            }
            Answer::Failed { failure, retry_at } => {
                tracing::debug!("watch: {failure}");
                *self = Self::Broken(retry_at);
                Observed::Nothing
            }
            _ => Observed::Nothing,
        }
    }

    pub(super) const fn next_wake(&self) -> Option<Instant> {
        match self {
            Self::Opening(due, _) | Self::Broken(due) => Some(*due),
            Self::Watching(_) | Self::Reading(_) => None,
        }
    }

    pub(super) const fn request(&self) -> Option<RequestId> {
        match self {
            Self::Watching(request) | Self::Reading(request) => Some(*request),
            Self::Opening(..) | Self::Broken(_) => None,
        }
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        match self {
            Self::Opening(due, _) | Self::Broken(due) => shift.instant(due),
            Self::Watching(request) | Self::Reading(request) => shift.request(request),
        }
    }
}
