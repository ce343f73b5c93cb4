//! Removes what cannot make a difference any more, so that fewer states differ.

use etcd_await_election::{core::kv::Change, election::protocol::Answer};

use crate::explore::{
    budget::Kind,
    instance::{Instance, Stage, Watch, When},
    state::State,
    steps::Explorer,
    store,
};

impl Explorer {
    /// Removes what cannot make a difference any more, so that fewer states differ.
    pub(crate) fn tidy(&self, state: &mut State) {
        for n in 0..state.instances.len() {
            let Some(instance) = &state.instances[n] else { continue };
            let etcd = &state.etcd;
            let is_behind = |watch: &Watch| watch.next <= etcd.revision && !store::has_changes(etcd, watch);
            let next = etcd.revision + 1;
            if instance.watches.iter().any(is_behind) {
                let behind: Vec<_> = instance.watches.iter().map(is_behind).collect();
                self.update(state, n, |instance| {
                    for (watch, _) in instance.watches.iter_mut().zip(behind).filter(|(_, behind)| *behind) {
                        watch.next = next;
                    }
                });
            }
        }
        let needed = state.instances().map(|(_, instance)| instance.needs_changes_from()).min().unwrap_or(i64::MAX);
        if state.etcd.history.iter().any(|(revision, _): &(i64, Change)| *revision < needed) {
            state.etcd.change(|etcd| store::forget(etcd, needed));
        }
        if !state.budget.has(Kind::Late) && state.orphans.iter().any(|orphan| orphan.when == When::Late) {
            state.orphans.change(|orphans| orphans.retain(|orphan| orphan.when != When::Late));
        }
        self.judge_state(state);
    }
}

impl Instance {
    /// Returns the oldest revision whose changes it may still need.
    fn needs_changes_from(&self) -> i64 {
        let watches = self.watches.iter().map(|watch| watch.next);
        let answers = self.flights.iter().filter_map(|flight| match &flight.stage {
            Stage::HasRead(read) => Some(read.revision + 1),
            Stage::Answered(answer) => match &**answer {
                Answer::Read(read) | Answer::Renewed { read, .. } => Some(read.revision + 1),
                _ => None,
            },
            Stage::Sent => None,
        });
        let opens = self.gatekeeper.as_ref().and_then(|gatekeeper| gatekeeper.opens_from).map(|revision| revision + 1);
        watches.chain(answers).chain(opens).min().unwrap_or(i64::MAX)
    }
}
