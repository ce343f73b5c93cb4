//! Deliberate faults, each a plausible programming error, and each must be found.

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The lock is released when the command receives its stop signal, not when its process tree has exited.
    ReleasesEarly,
    /// The deadlines count from the response, not from when the renewal was sent.
    CountsFromReply,
    /// The handover does not compare the holder key.
    HandOverWithoutHolder,
    /// It neither reads nor compares eviction markers.
    IgnoresMarkers,
    /// The handover does not compare that no other etcd client is before the next standby.
    HandOverPastOthers,
    /// A leader obeys requests for another holder.
    ObeysRequestsToOthers,
    /// A leader obeys requests whose owner has no queue entry.
    ObeysWithoutEntry,
    /// Nothing compares that there is no pause.
    IgnoresPause,
    /// Joining writes the holder key even if it exists.
    JoinOverwrites,
    /// Renewals feed the guard while a handover request exists.
    FeedsWhileRequested,
    /// Renewals use serializable reads of one member.
    RenewsBySerializableReads,
}
