//! The model as the checker sees it.

use stateright::{Model, Property};

use crate::explore::{
    budget::Kind,
    state::State,
    steps::{Explorer, Step},
};

impl Model for Explorer {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.violation.is_some() {
            return;
        }
        self.urgent(state, steps);
        let is_quiet = steps.is_empty();
        self.optional(state, steps);
        self.faults(state, steps);
        if is_quiet && self.next_instant(state).is_some() {
            steps.push(Step::Pass);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        if !next.budget.has(Kind::Stale) {
            next.previous = None;
        } else if next.etcd.revision != state.etcd.revision {
            next.previous = Some(state.etcd.clone());
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // The checker would report the last state of a block in which a property does not hold, and not the first.
        let is_safe = |explorer: &Self, state: &State| state.violation.is_none() || !explorer.is_first();
        let is_live = |explorer: &Self, state: &State| {
            !explorer.is_quiet(state)
                || explorer.has_found()
                || explorer.leads_to_command(state)
                || !explorer.is_first()
        };
        vec![Property::always("safety", is_safe), Property::always("liveness", is_live)]
    }
}

impl Explorer {
    /// Returns whether nothing is urgent. Every way from another state leads through such a state.
    pub(crate) fn is_quiet(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.urgent(state, &mut steps);
        steps.is_empty()
    }
}
