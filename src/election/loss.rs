//! Why a leader steps down.

use std::fmt;

use crate::core::names::shown;

/// Why a leader steps down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Loss {
    /// No renewal was confirmed before the renew deadline.
    NotRenewed,
    /// The lease expired or was revoked.
    LeaseGone,
    /// The holder key was deleted, or rewritten with this identity.
    HolderChanged(Option<String>),
    /// The queue entry was deleted or rewritten.
    EntryChanged,
    /// The instance with this identity made a handover request. The exit code depends on all bytes of the identity.
    Requested(Vec<u8>),
    /// The check of the command fails, and a standby can take over.
    Sick,
    /// Most endpoints report another etcd cluster than the one with the lock.
    AnotherCluster,
}

impl Loss {
    /// Returns whether another instance may lead already.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::LeaseGone | Self::HolderChanged(_) | Self::AnotherCluster)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRenewed => f.write_str("no renewal was confirmed within RENEW_DEADLINE"),
            Self::LeaseGone => f.write_str("the lease expired or was revoked"),
            Self::HolderChanged(None) => f.write_str("the holder key was deleted"),
            Self::HolderChanged(Some(by)) => write!(f, "the holder key was rewritten by {by:?}"),
            Self::EntryChanged => f.write_str("the queue entry was deleted or rewritten"),
            Self::Requested(by) => write!(f, "{:?} made a handover request", shown(by)),
            Self::Sick => f.write_str("the check of the command fails, and a standby can take over"),
            Self::AnotherCluster => f.write_str("most endpoints belong to another etcd cluster"),
        }
    }
}
