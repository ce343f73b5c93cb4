//! The faults put in on purpose: each is what somebody could get wrong, and each must be found.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The lock is given away when the command was asked to end, not when nothing of it is left.
    ReleasesEarly,
    /// The deadlines count from when the answer came, not from when the renewal was sent.
    CountsFromReply,
    /// The handover does not compare the holder key.
    HandOverWithoutHolder,
    /// The handover does not compare that no marker stands.
    HandOverBesideMarker,
    /// The handover does not compare that nobody of another kind has come before the next one of ours.
    HandOverPastOthers,
    /// A leader obeys what another holder was asked for.
    ObeysRequestsToOthers,
    /// A leader obeys whoever asks, whether or not it stands in the queue.
    ObeysWithoutEntry,
    /// Joining writes the holder key whether or not it stands.
    JoinOverwrites,
    /// Renewals go on feeding while somebody asks for the lead.
    FeedsWhileRequested,
    /// Renewals read what one member knows, without its asking the others.
    RenewsBySerializableReads,
}
