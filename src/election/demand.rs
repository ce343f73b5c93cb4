//! Which holders a candidate requests a handover from.

use super::{keys::Request, view::View};
use crate::{
    core::{kv::KeyValue, names::LeaseId},
    settings::ElectionConfig,
};

/// Which holders a candidate requests a handover from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Demand {
    /// From none: it waits for its turn.
    None,
    /// From a holder with the same identity, if there is one when it joins; not decided before.
    OfSameIdentity,
    /// From the holder with this lease, which it found when it joined or which has a lower priority; not from a standby that is elected
    /// later.
    OfHolder(Option<LeaseId>),
    /// From every leader until it has led itself.
    OfEveryLeader,
}

impl Demand {
    pub(super) const fn at_start(config: &ElectionConfig) -> Self {
        match (config.force, config.identity_is_explicit) {
            (true, _) => Self::OfEveryLeader,
            (false, true) => Self::OfSameIdentity,
            (false, false) => Self::None,
        }
    }

    /// Returns the demand of the candidate with this lease after it has read the lock.
    pub(super) fn after(self, view: &View, lease: LeaseId, is_own_identity: impl Fn(&KeyValue) -> bool) -> Self {
        let holder = view.holder.as_ref();
        match self {
            Self::OfSameIdentity => holder
                .filter(|holder| holder.lease != Some(lease) && is_own_identity(holder))
                .map_or(Self::None, |holder| Self::OfHolder(holder.lease)),
            // An eviction made this request. Its outcome may be unknown, so only a read shows that.
            Self::OfHolder(_) if view.request(Request { to: None, lease }).is_some() => Self::OfEveryLeader,
            Self::OfHolder(_) if !holder.is_some_and(|holder| self.is_for(holder)) => {
                // A request that was made is withdrawn first.
                let made = self.request(lease).and_then(|request| view.request(request));
                made.map_or(Self::None, |_| self)
            }
            same => same,
        }
    }

    /// Returns whether it requests a handover from this holder.
    pub(super) fn is_for(self, holder: &KeyValue) -> bool {
        match self {
            Self::None | Self::OfSameIdentity => false,
            Self::OfHolder(lease) => holder.lease == lease,
            Self::OfEveryLeader => true,
        }
    }

    /// Returns the handover request of a candidate with this lease. A holder without a lease cannot be asked.
    pub(super) fn request(self, lease: LeaseId) -> Option<Request> {
        match self {
            Self::None | Self::OfSameIdentity | Self::OfHolder(None) => None,
            Self::OfHolder(to) => Some(Request { to, lease }),
            Self::OfEveryLeader => Some(Request { to: None, lease }),
        }
    }
}
