//! Which standby is next, as far as the leader knows: with it, a handover needs no read.

use crate::core::{
    kv::Change,
    names::{LeaseId, LockName},
};
use crate::election::{
    keys::Kind,
    view::{Entry, View},
};

/// The next queue entry of an instance of this program, if no other instance has a priority: then a read chooses. It may be out of
/// date, as the handover compares all that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Successor {
    /// The latest read says nothing about it, or its entry was deleted.
    Unknown,
    /// There was none.
    None,
    /// This one.
    Next(Entry),
    /// There is one, and others have priorities.
    Unchosen,
}

impl Successor {
    /// Returns what a read of the next entry and of the priorities shows.
    pub(super) fn read(view: &View, lease: LeaseId, lock: &LockName) -> Self {
        let next = view.next_of(lease).filter(|next| next.ours);
        match (next, view.has_priorities_beside(lease, lock)) {
            (Some(_), true) => Self::Unchosen,
            (None, true) => Self::Unknown,
            (next, false) => next.cloned().map_or(Self::None, Self::Next),
        }
    }

    /// Notes changes of the queue entries of this program. An entry that is created is the youngest one, so it is next only if there
    /// was none.
    pub(super) fn observed(&mut self, changes: &[Change], leader: LeaseId, lock: &LockName) {
        for change in changes {
            match (&*self, change) {
                (Self::None, Change::Put(kv)) => {
                    if let Some(Kind::Entry { lease, ours: true }) = lock.kind(&kv.key, kv.lease)
                        && lease != leader
                    {
                        *self = Self::Next(Entry { kv: kv.clone(), lease, ours: true, priority: 0 });
                    }
                }
                (Self::Next(next), change) if change.key() == next.kv.key => *self = Self::Unknown,
                (Self::Unchosen, Change::Deleted(..)) => *self = Self::Unknown,
                _ => {}
            }
        }
    }

    /// Returns whether there is a standby, as far as is known.
    pub(super) const fn exists(&self) -> bool {
        matches!(self, Self::Next(_) | Self::Unchosen)
    }

    /// Returns the entry of the next standby, if it is known.
    pub(super) fn entry(&self) -> Option<Entry> {
        match self {
            Self::Next(entry) => Some(entry.clone()),
            Self::Unknown | Self::None | Self::Unchosen => None,
        }
    }
}
