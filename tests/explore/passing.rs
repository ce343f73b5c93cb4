//! How time passes: to the next instant at which something is due.

use std::{sync::Arc, time::Duration};

use etcd_await_election::{
    core::clock::{Instant, Shift},
    election::protocol::Answer,
    guard::{Order, Report},
};

use crate::explore::{
    instance::{GuardState, Instance, Stage},
    shared::Shared,
    sim,
    state::State,
    steps::Explorer,
    store,
};

impl Explorer {
    /// Returns how long it takes until something is due.
    pub(crate) fn next_instant(&self, state: &State) -> Option<Duration> {
        let instants = state.instances().flat_map(|(_, instance)| due(instance)).flatten().filter_map(sim::until);
        instants.chain(store::expiries(&state.etcd)).min()
    }

    pub(crate) fn pass(&self, state: &mut State) {
        let Some(time) = self.next_instant(state) else { return };
        state.etcd.change(|etcd| store::pass(etcd, time));
        for n in 0..state.instances.len() {
            if let Some(instance) = &mut state.instances[n] {
                instance.change(|instance| instance.pass(time));
                self.turn(state, n, |_| {});
            }
        }
    }
}

/// Returns when something is due in this instance.
fn due(instance: &Instance) -> [Option<Instant>; 4] {
    let gatekeeper = instance.gatekeeper.as_ref().filter(|gatekeeper| !gatekeeper.frozen);
    let guard = instance.guard.as_ref().filter(|guard| !guard.frozen);
    [
        gatekeeper.and_then(|gatekeeper| gatekeeper.candidate.next_wake()),
        gatekeeper.filter(|it| it.guard == GuardState::Guarding).and_then(|gatekeeper| gatekeeper.liveness.due()),
        gatekeeper.and_then(|gatekeeper| gatekeeper.renewals.as_ref()).map(|renewals| renewals.due),
        guard.and_then(|guard| guard.switch.next_wake()),
    ]
}

impl Instance {
    fn pass(&mut self, time: Duration) {
        let shift = sim::passing(time);
        if let Some(gatekeeper) = &mut self.gatekeeper {
            let mut candidate = (*gatekeeper.candidate).clone();
            let _ = candidate.shift(shift);
            gatekeeper.candidate = Shared::new(candidate);
            gatekeeper.liveness.shift(shift);
            gatekeeper.renewals.iter_mut().for_each(|renewals| shift.instant(&mut renewals.due));
        }
        if let Some(guard) = &mut self.guard {
            guard.switch.shift(shift);
            for order in guard.inbox.iter_mut().flatten() {
                shift_order(order, shift);
            }
        }
        self.orders.iter_mut().for_each(|order| shift_order(order, shift));
        self.reports.iter_mut().for_each(|report| {
            if let Report::Fed(deadlines) = report {
                deadlines.shift(shift);
            }
        });
        for flight in &mut self.flights {
            shift.instant(&mut flight.sent);
            if let Stage::Answered(answer) = &mut flight.stage {
                shift_answer(Arc::make_mut(answer), shift);
            }
        }
    }
}

fn shift_order(order: &mut Order, shift: Shift) {
    if let Order::Start { deadlines, .. } | Order::Feed(deadlines) = order {
        deadlines.shift(shift);
    }
}

fn shift_answer(answer: &mut Answer, shift: Shift) {
    match answer {
        Answer::Granted { sent, .. } | Answer::Renewed { sent, .. } | Answer::KeptAlive { sent } => shift.instant(sent),
        Answer::Failed { retry_at, .. } => shift.instant(retry_at),
        _ => {}
    }
}
