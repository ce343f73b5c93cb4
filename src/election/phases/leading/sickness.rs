//! A leader whose check fails: it hands over only if a standby can take over, which a read shows.

use crate::election::{
    context::{Context, Shift},
    protocol::{Consistency, Reading, Request, RequestId},
    term::Term,
};

/// Whether a read shows who can take over. Later changes are observed like those of any leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sickness {
    Reading(RequestId),
    /// Nobody could take over.
    Alone,
}

impl Sickness {
    /// Reads the next queue entry. What is known about it may be out of date, and its owner cannot take over while etcd does not answer.
    pub(super) fn begin(term: &Term, context: &mut Context<'_>) -> Self {
        let reading = Reading::Keys(term.gets_with_next(context.shared.lock()));
        Self::Reading(context.request(Request::Read(reading, Consistency::Linearizable)))
    }

    /// Returns whether this is the answer to the read. If it failed, the next renewal shows who can take over.
    pub(super) fn is_answered(&mut self, id: RequestId) -> bool {
        let is_answered = *self == Self::Reading(id);
        if is_answered {
            *self = Self::Alone;
        }
        is_answered
    }

    pub(super) const fn request(&self) -> Option<RequestId> {
        match self {
            Self::Reading(request) => Some(*request),
            Self::Alone => None,
        }
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        if let Self::Reading(request) = self {
            shift.request(request);
        }
    }
}
