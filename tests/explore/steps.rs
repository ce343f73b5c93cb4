//! The steps from one state to the next: what is urgent, and what may happen at any time.
//!
//! Time passes only when nothing is left to do at the present instant, and to the next instant at which something is due. So whatever
//! takes time is a fault, which costs budget.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use etcd_await_election::{
    core::names::{LeaseId, LockName},
    election::protocol::Request,
    guard::CommandEnd,
};

use crate::explore::{
    budget::Kind,
    faults::Fault,
    instance::{GuardState, Instance, Stage, Tree, When},
    liveness::Known,
    network::Part,
    peers::Peer,
    sim::{NOW, STORE_NOW},
    state::{Setup, State},
    store,
};

pub(crate) const LOCK: &str = "l";

/// The model.
#[derive(Debug)]
pub(crate) struct Explorer {
    pub(crate) setup: Setup,
    pub(crate) alive: Known,
    found: AtomicBool,
    /// The number of starts beside another command that faults beyond the guarantee have caused.
    pub(crate) beyond: AtomicUsize,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// etcd handles this request of this instance, and the gatekeeper receives the answer unless it is frozen or cut off.
    Apply(usize, usize),
    /// The gatekeeper receives an answer that has waited.
    Answer(usize, usize),
    /// The gatekeeper does not wait any longer for the outcome of a transaction.
    GiveUp(usize, usize),
    /// The gatekeeper receives changes: those of one revision, or all.
    Changes(usize, usize, bool),
    /// The gatekeeper takes over from a guard that has died or is overdue.
    LoseGuard(usize),
    /// The main process of the command or the hook, or the rest of the process tree, exits.
    Exits(usize),
    /// etcd applies a request whose sender does not wait for it.
    Orphan(usize),
    /// A lease expires.
    Expire(LeaseId),
    Thaw(usize),
    Heal(usize),
    Peer(Peer),
    Fault(Fault),
    /// Time passes.
    Pass,
}

impl Explorer {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, alive: Known::default(), found: AtomicBool::new(false), beyond: AtomicUsize::new(0) }
    }

    /// Returns whether something wrong was found before.
    pub(crate) fn has_found(&self) -> bool {
        self.found.load(Ordering::Relaxed)
    }

    /// Returns whether what was found now is the first.
    pub(crate) fn is_first(&self) -> bool {
        !self.found.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn beyond(&self) -> usize {
        self.beyond.load(Ordering::Relaxed)
    }

    pub(crate) fn lock(&self) -> &LockName {
        &self.setup.configs[0].lock
    }

    /// Changes an instance from outside.
    pub(crate) fn update(&self, state: &mut State, n: usize, change: impl FnOnce(&mut Instance)) {
        if let Some(instance) = &mut state.instances[n] {
            instance.change(change);
        }
    }

    /// Adds the steps that happen before time passes.
    pub(crate) fn urgent(&self, state: &State, steps: &mut Vec<Step>) {
        for (n, instance) in state.instances() {
            let awake = instance.is_awake();
            for (k, flight) in instance.flights.iter().enumerate() {
                if flight.delayed || instance.cut {
                    continue;
                }
                match flight.stage {
                    Stage::Sent | Stage::HasRead(_) => steps.push(Step::Apply(n, k)),
                    Stage::Answered(_) if awake => steps.push(Step::Answer(n, k)),
                    Stage::Answered(_) => {}
                }
            }
            for (k, watch) in instance.watches.iter().enumerate().filter(|_| awake) {
                if watch.broken || (!instance.cut && !watch.lags) {
                    changes(state, n, k, steps);
                }
            }
            if can_lose_guard(instance) {
                steps.push(Step::LoseGuard(n));
            }
            let command = &instance.command;
            let finishes = command.is_hook() && command.tree == Tree::Main;
            if command.runs() && (command.stopping || finishes) && !command.stubborn {
                steps.push(Step::Exits(n));
            }
        }
        for (k, orphan) in state.orphans.iter().enumerate() {
            if orphan.when == When::AtOnce {
                steps.push(Step::Orphan(k));
            }
        }
    }

    /// Adds the steps that may happen at any time, or never, and are no faults.
    pub(crate) fn optional(&self, state: &State, steps: &mut Vec<Step>) {
        for (n, instance) in state.instances() {
            if instance.gatekeeper.as_ref().is_some_and(|it| it.frozen)
                || instance.guard.as_ref().is_some_and(|it| it.frozen)
            {
                steps.push(Step::Thaw(n));
            }
            if instance.cut {
                steps.push(Step::Heal(n));
            }
            for (k, flight) in instance.flights.iter().enumerate() {
                let is_commit = matches!(*flight.request, Request::Commit(_));
                if (flight.delayed || instance.cut) && is_commit && instance.is_awake() {
                    steps.push(Step::GiveUp(n, k));
                }
                match flight.stage {
                    // The network may be cut for answers only.
                    Stage::Sent if instance.cut && !matches!(*flight.request, Request::Read(..)) => {
                        steps.push(Step::Apply(n, k));
                    }
                    Stage::Sent | Stage::HasRead(_) if flight.delayed && !instance.cut => steps.push(Step::Apply(n, k)),
                    Stage::Answered(_) if flight.delayed && !instance.cut && instance.is_awake() => {
                        steps.push(Step::Answer(n, k));
                    }
                    _ => {}
                }
            }
            for (k, watch) in instance.watches.iter().enumerate() {
                if instance.is_awake() && !watch.broken && !instance.cut && watch.lags {
                    changes(state, n, k, steps);
                }
            }
        }
        for (k, orphan) in state.orphans.iter().enumerate() {
            match orphan.when {
                When::Late if state.budget.has(Kind::Late) => steps.push(Step::Orphan(k)),
                When::AnyTime => steps.push(Step::Orphan(k)),
                When::Late | When::AtOnce => {}
            }
        }
        steps.extend(state.etcd.expired(STORE_NOW).into_iter().map(Step::Expire));
        steps.extend(self.peer_steps(state).map(Step::Peer));
    }

    /// Takes a step.
    pub(crate) fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Apply(n, k) => self.apply(state, n, k, Part::All),
            Step::Answer(n, k) => self.turn(state, n, |turn| turn.answer(k)),
            Step::GiveUp(n, k) => self.turn(state, n, |turn| turn.fail(k)),
            Step::Changes(n, k, all) => self.turn(state, n, |turn| turn.change(k, all)),
            Step::LoseGuard(n) => self.turn(state, n, |turn| {
                turn.lose_guard();
            }),
            Step::Exits(n) => self.turn(state, n, |turn| {
                let end = if turn.instance.command.stopping { CommandEnd::Signaled(15) } else { CommandEnd::Exited(0) };
                turn.instance.command.end(end);
            }),
            Step::Orphan(k) => {
                if state.orphans[k].when == When::Late {
                    state.budget.spend(Kind::Late);
                }
                self.apply_orphan(state, k);
            }
            Step::Expire(lease) => drop(self.revoke(state, lease)),
            Step::Thaw(n) => self.turn(state, n, |turn| turn.instance.thaw()),
            Step::Heal(n) => self.turn(state, n, |turn| turn.instance.heal()),
            Step::Peer(step) => self.peer_step(state, step),
            Step::Fault(fault) => self.fault(state, fault),
            Step::Pass => self.pass(state),
        }
        self.tidy(state);
    }
}

/// Adds the deliveries of a watch.
fn changes(state: &State, n: usize, k: usize, steps: &mut Vec<Step>) {
    let watch = &state.instance(n).watches[k];
    if watch.broken {
        return steps.push(Step::Changes(n, k, false));
    }
    let mut revisions: Vec<_> = store::changes(&state.etcd, watch).iter().map(store::revision).collect();
    revisions.dedup();
    match revisions.len() {
        0 => {}
        1 => steps.push(Step::Changes(n, k, false)),
        _ => steps.extend([Step::Changes(n, k, false), Step::Changes(n, k, true)]),
    }
}

/// Returns whether the guard has died or is overdue, and the gatekeeper can notice that.
fn can_lose_guard(instance: &Instance) -> bool {
    let Some(gatekeeper) = instance.gatekeeper.as_ref().filter(|gatekeeper| !gatekeeper.frozen) else { return false };
    let is_overdue = gatekeeper.liveness.due().is_some_and(|due| due <= NOW);
    gatekeeper.guard == GuardState::Guarding && instance.reports.is_empty() && (instance.guard.is_none() || is_overdue)
}
