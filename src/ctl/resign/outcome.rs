//! What has become of a handover request.

use super::choice::Choice;
use crate::election::view::View;

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Another instance leads.
    Led {
        identity: String,
        token: i64,
        /// Whether it is the standby that the request was for.
        by_standby: bool,
    },
    /// Nobody leads.
    Free,
    /// The lock was paused, so the leader does not obey the request.
    Paused,
    /// The standby has left the queue.
    Gone,
    /// The request was deleted.
    Withdrawn,
    /// The leader leads as before.
    Leads,
    /// etcd does not answer.
    Unknown,
}

/// Judges by one read; returns `None` as long as the handover can still happen.
pub(super) fn judge(view: &View, choice: &Choice) -> Option<Outcome> {
    let Some(holder) = &view.holder else { return view.pause.as_ref().map(|_| Outcome::Free) };
    if holder.mod_revision != choice.holder.mod_revision {
        let by_standby = holder.lease == Some(choice.standby.lease);
        return Some(Outcome::Led { identity: holder.identity(), token: holder.mod_revision, by_standby });
    }
    if view.pause.is_some() {
        return Some(Outcome::Paused);
    }
    if view.entry_of(choice.standby.lease).is_none() {
        return Some(Outcome::Gone);
    }
    view.request(choice.request).is_none().then_some(Outcome::Withdrawn)
}

/// Judges by one read after the request was withdrawn.
pub(super) fn after_withdrawal(view: &View, choice: &Choice) -> Outcome {
    match judge(view, choice) {
        _ if view.holder.is_none() => Outcome::Free,
        Some(Outcome::Withdrawn) | None => Outcome::Leads,
        Some(outcome) => outcome,
    }
}
