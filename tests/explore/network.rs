//! What etcd does with requests, one step at a time.

use std::sync::Arc;

use etcd_await_election::{
    core::{
        kv::{Outcome, Snapshot, Txn},
        names::LeaseId,
    },
    election::protocol::{Answer, Reading, Request},
};

use crate::explore::{
    gatekeeper::failed,
    instance::{Flight, Stage},
    sim::STORE_NOW,
    state::State,
    steps::Explorer,
    store, story,
};

/// How far a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It does not reach etcd.
    None,
    /// etcd has handled the first half of a renewal.
    First,
    /// etcd has handled it.
    Handled,
    /// The answer has arrived.
    All,
}

impl Explorer {
    /// etcd handles a request up to this part, and the gatekeeper receives the answer.
    pub(crate) fn apply(&self, state: &mut State, n: usize, k: usize, part: Part) {
        let flight = state.instance(n).flights[k].clone();
        let mut stage = flight.stage.clone();
        if stage == Stage::Sent {
            stage = self.begin(state, n, &flight);
        }
        if let (Stage::HasRead(read), Request::Renew { lease, .. }) = (&stage, &*flight.request)
            && part != Part::First
        {
            let is_alive = self.keep_alive(state, n, *lease);
            let read = (**read).clone();
            let answer = if is_alive { Answer::Renewed { sent: flight.sent, read } } else { Answer::LeaseGone };
            stage = Stage::Answered(Arc::new(answer));
        }
        story::tell(|| match &stage {
            Stage::Answered(answer) => format!("etcd answers {}", story::answer(answer)),
            _ => "etcd has read, and has yet to renew the lease".to_owned(),
        });
        let arrives = part == Part::All && state.instance(n).is_awake() && !state.instance(n).cut;
        self.update(state, n, |instance| {
            let flight = &mut instance.flights[k];
            flight.stage = stage;
            flight.delayed = part != Part::All;
        });
        if arrives {
            self.turn(state, n, |turn| turn.answer(k));
        }
    }

    fn begin(&self, state: &mut State, n: usize, flight: &Flight) -> Stage {
        let answer = match &*flight.request {
            Request::Grant { lease, ttl } => {
                state.etcd.change(|etcd| etcd.grant(*lease, store::micros(*ttl), STORE_NOW));
                Answer::Granted { sent: flight.sent, ttl: *ttl }
            }
            Request::Read(reading, _) => Answer::Read(self.read(state, n, reading)),
            Request::Renew { reading, .. } => return Stage::HasRead(Arc::new(self.read(state, n, reading))),
            Request::KeepAlive(lease) => match self.keep_alive(state, n, *lease) {
                true => Answer::KeptAlive { sent: flight.sent },
                false => Answer::LeaseGone,
            },
            Request::Commit(txn) => self.commit(state, n, txn),
            Request::Revoke(lease) => Answer::Revoked(self.revoke(state, *lease)),
            Request::RenewEvery { .. } | Request::Watch { .. } => unreachable!("the gatekeeper splits it"),
        };
        Stage::Answered(Arc::new(answer))
    }

    fn keep_alive(&self, state: &mut State, n: usize, lease: LeaseId) -> bool {
        let is_alive = state.etcd.change(|etcd| etcd.keep_alive(lease, STORE_NOW));
        if !is_alive {
            self.update(state, n, |instance| instance.fate.reason = true);
        }
        is_alive
    }

    /// A serializable read shows the state before the last change.
    pub(crate) fn read_stale(&self, state: &mut State, n: usize, k: usize) {
        let Some(previous) = state.previous.clone() else { return };
        let flight = state.instance(n).flights[k].clone();
        let Request::Read(reading, _) = &*flight.request else { return };
        let read = store::read(&previous, self.lock(), reading);
        self.update(state, n, |instance| instance.flights[k].stage = Stage::Answered(Arc::new(Answer::Read(read))));
    }

    /// etcd applies a request whose sender does not wait for it.
    pub(crate) fn apply_orphan(&self, state: &mut State, k: usize) {
        let orphan = state.orphans.change(|orphans| orphans.remove(k));
        match &*orphan.request {
            Request::Grant { lease, ttl } => {
                state.etcd.change(|etcd| etcd.grant(*lease, store::micros(*ttl), STORE_NOW));
            }
            Request::Commit(txn) => drop(self.commit(state, orphan.author, txn)),
            Request::Revoke(lease) => drop(self.revoke(state, *lease)),
            _ => {}
        }
    }

    fn read(&self, state: &State, n: usize, reading: &Reading) -> Snapshot {
        let reading = self.mutant_reading(state, n, reading);
        let mut snapshot = store::read(&state.etcd, self.lock(), &reading);
        self.mutate_snapshot(state, n, &reading, &mut snapshot);
        snapshot
    }

    fn commit(&self, state: &mut State, author: usize, txn: &Txn) -> Answer {
        let before = state.etcd.clone();
        match state.etcd.change(|etcd| etcd.commit(txn)) {
            Ok(outcome) => {
                if outcome != Outcome::Nothing {
                    self.judge_commit(state, author, txn, &before);
                    self.changed(state);
                }
                Answer::Committed(outcome)
            }
            Err(_) => failed(),
        }
    }

    /// Revokes a lease, or lets it expire.
    pub(crate) fn revoke(&self, state: &mut State, lease: LeaseId) -> bool {
        let existed = state.etcd.change(|etcd| etcd.revoke(lease));
        if existed {
            self.changed(state);
        }
        existed
    }
}
