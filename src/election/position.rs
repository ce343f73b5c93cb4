//! Reports and logs the position of a candidate in the queue, and the leader.

use super::{
    candidacy::Candidacy,
    context::Context,
    demand::Demand,
    progress::Progress,
    view::{Entry, View},
};
use crate::core::kv::KeyValue;

/// Returns whether a candidate at this position has to wait: the head of the queue takes a free lock at once, unless it is paused.
pub(super) const fn waits(view: &View, position: usize) -> bool {
    position > 0 || view.holder.is_some() || view.pause.is_some()
}

/// Reports and logs what a read shows. Updates the demand.
pub(super) fn report(
    candidacy: &mut Candidacy,
    view: &View,
    position: usize,
    entry: &Entry,
    context: &mut Context<'_>,
) {
    let first = !std::mem::replace(&mut candidacy.has_joined, true);
    if first {
        // The line about joining names the leader.
        context.shared.logged_leader = view.holder.as_ref().map(KeyValue::identity).unwrap_or_default();
    }
    report_leader(view.holder.as_ref(), context);
    update_demand(view, entry, context);
    if view.is_led_by(entry.lease) {
        if let Some(lease) = view.markers.first().and_then(|marker| marker.lease) {
            tracing::info!("holding the lock; waiting until lease {lease} of the evicted holder has expired");
        }
        return;
    }
    let behind = position.checked_sub(1).map(|ahead| view.entries[ahead].name());
    let number = view.number(position);
    if waits(view, position) {
        context.report(Progress::Waiting { number, behind: behind.clone() });
    }
    if first {
        let behind = behind.map_or_else(|| "at the head".to_owned(), |behind| format!("behind {behind:?}"));
        let leader = view
            .holder
            .as_ref()
            .map_or_else(|| "there is no leader".to_owned(), |holder| format!("{:?} leads", holder.identity()));
        tracing::info!(lease = %entry.lease, "joined as number {number} in the queue, {behind}; {leader}");
        log_obstacle(view, context);
    }
}

/// Reports the leader, and logs it if it has changed.
pub(super) fn report_leader(holder: Option<&KeyValue>, context: &mut Context<'_>) {
    let leader = holder.map(KeyValue::identity);
    context.report(Progress::LeaderSeen(leader.clone()));
    let (Some(leader), Some(holder)) = (leader, holder) else { return };
    let previous = std::mem::replace(&mut context.shared.logged_leader, leader.clone());
    if !previous.is_empty() && previous != leader && !context.shared.is_own_identity(holder) {
        tracing::info!("{leader:?} leads now");
    }
}

fn update_demand(view: &View, entry: &Entry, context: &mut Context<'_>) {
    let before = context.shared.demand;
    context.shared.demand = before.after(view, entry.lease, |holder| context.shared.is_own_identity(holder));
    if let (Demand::OfSameIdentity, Demand::OfHolder(_)) = (before, context.shared.demand) {
        tracing::warn!(
            "the leader has the identity of this instance, {:?}: requesting a handover",
            context.shared.config.identity
        );
    }
}

/// Logs what stands in the way of a candidate beyond the instances ahead of it.
fn log_obstacle(view: &View, context: &Context<'_>) {
    if let Some(holder) = view.holder_without_entry() {
        log_holder_without_entry(holder, view.pause.is_some(), context);
    } else if context.shared.demand == Demand::OfEveryLeader
        && let Some(head) = view.entries.first().filter(|head| !head.ours)
    {
        let head = head.name();
        tracing::warn!(
            "the head of the queue, {head:?}, was created by another etcd client and cannot be preempted; waiting"
        );
    }
}

fn log_holder_without_entry(holder: &KeyValue, paused: bool, context: &Context<'_>) {
    let whose = holder.identity();
    let when = if paused { " when the pause ends" } else { "" };
    match (holder.lease, context.shared.demand.is_for(holder)) {
        (None, true) => {
            tracing::warn!("the holder key of {whose:?} has no lease: deleting it{when}, as FORCE_ACQUIRE is set");
        }
        (None, false) => tracing::warn!(
            "the holder key {} of {whose:?} has no lease and never expires: it was written by hand; delete it or set \
             ETCD_AWAIT_ELECTION_FORCE_ACQUIRE",
            context.shared.lock()
        ),
        (Some(_), true) => tracing::info!(
            "holder {whose:?} is an older version that cannot be asked to hand over: evicting it{when}, as FORCE_ACQUIRE is set"
        ),
        (Some(_), false) => {}
    }
}
