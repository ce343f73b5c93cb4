//! From every state a way without faults leads to a running command, if an instance is there.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Mutex,
};

use crate::explore::{
    budget::Budget,
    instance::{Instance, Tree, When},
    properties::{has_request, has_standby},
    sim::STORE_NOW,
    state::State,
    steps::{Explorer, Step},
};

/// The most steps of a way, if it neither ends nor returns to a state.
const BOUND: usize = 5000;

/// The states from which a command is known to run some time.
#[derive(Debug, Default)]
pub(crate) struct Known([Mutex<HashSet<u64>>; 16]);

impl Known {
    fn part(&self, state: u64) -> &Mutex<HashSet<u64>> {
        &self.0[state as usize % 16]
    }

    fn has(&self, state: u64) -> bool {
        self.part(state).lock().expect("no panic").contains(&state)
    }

    fn add(&self, state: u64) {
        self.part(state).lock().expect("no panic").insert(state);
    }
}

impl Explorer {
    /// Returns whether the way without faults from here leads to a running command. Each handover request that counts is obeyed on it,
    /// and a sick leader hands over if it can.
    pub(crate) fn leads_to_command(&self, state: &State) -> bool {
        if is_reached(state) {
            return true;
        }
        let mut state = state.clone();
        self.calm(&mut state);
        let mut passed = Vec::new();
        while passed.len() < BOUND {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let hash = hasher.finish();
            if is_reached(&state) || self.alive.has(hash) {
                passed.into_iter().for_each(|hash| self.alive.add(hash));
                return true;
            }
            if passed.contains(&hash) {
                return false;
            }
            passed.push(hash);
            let Some(step) = self.fair_step(&state) else { return false };
            self.take(&mut state, step);
            state.violation = None;
            state.token = 0;
        }
        false
    }

    /// Returns the state that the exploration begins with.
    pub(crate) fn first_state(&self) -> State {
        let mut state = State::new(&self.setup);
        for n in 0..self.setup.configs.len() {
            self.turn(&mut state, n, |_| {});
        }
        while self.setup.warm && !(is_reached(&state) && self.is_quiet(&state)) {
            let Some(step) = self.fair_step(&state) else { break };
            self.take(&mut state, step);
        }
        state
    }

    /// Ends all faults.
    fn calm(&self, state: &mut State) {
        state.budget = Budget::of(0, &[]);
        state.previous = None;
        state.token = 0;
        for n in 0..state.instances.len() {
            let Some(instance) = &state.instances[n] else { continue };
            if !instance.has_fault() {
                continue;
            }
            self.turn(state, n, |turn| {
                let instance = &mut turn.instance;
                instance.thaw();
                instance.heal();
                instance.command.stubborn = false;
                instance.eligible = true;
                instance.flights.iter_mut().for_each(|flight| flight.delayed = false);
                instance.watches.iter_mut().for_each(|watch| watch.lags = false);
            });
        }
        if state.orphans.iter().any(|orphan| orphan.when != When::AtOnce) {
            state.orphans.change(|orphans| orphans.retain(|orphan| orphan.when == When::AtOnce));
        }
    }

    fn fair_step(&self, state: &State) -> Option<Step> {
        let mut steps = Vec::new();
        self.urgent(state, &mut steps);
        steps.extend(state.etcd.expired(STORE_NOW).into_iter().map(Step::Expire));
        steps.extend(self.peer_steps(state).map(Step::Peer));
        steps.into_iter().next().or_else(|| self.next_instant(state).map(|_| Step::Pass))
    }
}

fn is_reached(state: &State) -> bool {
    let runs = |(_, instance): (usize, &Instance)| {
        instance.command.tree == Tree::Main
            && !instance.command.is_hook()
            && !instance.command.stopping
            && instance.lease().is_none_or(|lease| {
                !(has_request(&state.etcd, lease) || instance.fate.sick && has_standby(&state.etcd, lease))
            })
    };
    state.instances().any(runs) || state.instances().all(|(_, instance)| instance.gatekeeper.is_none())
}

impl Instance {
    fn has_fault(&self) -> bool {
        self.cut
            || self.gatekeeper.as_ref().is_some_and(|it| it.frozen)
            || self.guard.as_ref().is_some_and(|it| it.frozen)
            || self.command.stubborn
            || !self.eligible
            || self.flights.iter().any(|flight| flight.delayed)
            || self.watches.iter().any(|watch| watch.lags)
    }
}
