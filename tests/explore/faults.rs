//! The faults, and other events that need not happen.

use etcd_await_election::{
    core::{
        kv::{Op, Txn},
        names::LeaseId,
    },
    election::protocol::{Consistency, Event, Meaning, Request, Signal},
    guard::CommandEnd,
};
use nix::libc::SIGTERM;

use crate::explore::{
    budget::Kind,
    instance::{Instance, Orphan, Stage, Tree, When},
    network::Part,
    peers::{Foreign, Go},
    properties::{has_standby, is_paused, pause_key},
    shared::Shared,
    sim::{NOW, STORE_NOW},
    state::{State, owner},
    steps::{Explorer, LOCK, Step},
    store,
};

/// A fault of a kind, at an instance and one of its requests or watches, if it concerns one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// How far that request comes before.
    pub(crate) part: Part,
}

impl Explorer {
    /// Adds the faults that are possible now.
    pub(crate) fn faults(&self, state: &State, steps: &mut Vec<Step>) {
        let mut add_part = |kind: Kind, n: usize, k: usize, part: Part| {
            if state.budget.has(kind) {
                steps.push(Step::Fault(Fault { kind, n, k, part }));
            }
        };
        for (n, instance) in state.instances() {
            request_faults(state, instance, &mut |kind, k, part| add_part(kind, n, k, part));
        }
        let mut add = |kind: Kind, n: usize, k: usize| add_part(kind, n, k, Part::None);
        for (n, instance) in state.instances() {
            self.process_faults(instance, &mut |kind| add(kind, n, 0));
            let lease = instance.lease().filter(|lease| is_holder(state, *lease));
            if let Some(lease) = lease.filter(|_| state.budget.has(Kind::Resign) || state.budget.has(Kind::Stray)) {
                for (successor, other) in state.instances().filter(|(successor, _)| *successor != n) {
                    let key = other.lease().map(|successor| request_key(lease, successor));
                    let is_new = key.is_some_and(|key| state.etcd.get(&key).is_none());
                    let is_in_queue = other.lease().is_some_and(|lease| has_entry(state, lease));
                    if is_new && is_in_queue {
                        add(Kind::Resign, n, successor);
                        add(Kind::Stray, n, successor);
                    }
                }
                add(Kind::Stray, n, n);
            }
        }
        let is_free = state.etcd.get(LOCK.as_bytes()).is_none();
        if state.peers.go == Go::Away {
            add(if is_free { Kind::Go } else { Kind::GoForce }, 0, 0);
        }
        if !is_paused(&state.etcd) {
            add(Kind::Pause, 0, 0);
        }
        if state.peers.foreign == Foreign::Away {
            add(Kind::Foreign, 0, 0);
        }
    }

    fn process_faults(&self, instance: &Instance, add: &mut impl FnMut(Kind)) {
        let awake = instance.is_awake();
        if awake && (instance.can_spare_gatekeeper() || self.setup.beyond) {
            add(Kind::CrashGatekeeper);
            add(Kind::FreezeGatekeeper);
        }
        if let Some(guard) = &instance.guard
            && (awake || self.setup.beyond)
        {
            add(Kind::CrashGuard);
            if !guard.frozen {
                add(Kind::FreezeGuard);
            }
        }
        if awake {
            add(Kind::Terminate);
            if !instance.cut {
                add(Kind::Cut);
            }
        }
        if instance.command.tree == Tree::Main && !instance.command.stopping {
            add(Kind::Exit);
        }
        let command = &instance.command;
        if command.runs() && (command.stopping || command.is_hook()) && !command.stubborn {
            add(Kind::Stubborn);
        }
        if awake && instance.command.tree == Tree::Main && !instance.command.stopping && !instance.fate.sick {
            add(Kind::Sick);
        }
        if awake && instance.eligible && instance.told.is_some() {
            add(Kind::Ineligible);
        }
        if instance.is_over() {
            add(Kind::Restart);
        }
    }

    pub(crate) fn fault(&self, state: &mut State, fault: Fault) {
        let Fault { kind, n, k, part } = fault;
        state.budget.spend(kind);
        match kind {
            Kind::CrashGatekeeper => self.turn(state, n, |turn| {
                turn.instance.fate.beyond |= !turn.instance.can_spare_gatekeeper();
                turn.end_gatekeeper();
            }),
            Kind::CrashGuard => self.update(state, n, |instance| {
                instance.fate.beyond |= !instance.is_awake();
                instance.guard_dies();
            }),
            Kind::FreezeGatekeeper => self.update(state, n, |instance| {
                instance.fate.beyond |= !instance.can_spare_gatekeeper();
                instance.gatekeeper.iter_mut().for_each(|it| it.frozen = true);
            }),
            Kind::FreezeGuard => self.update(state, n, |instance| {
                instance.fate.beyond |= !instance.is_awake();
                instance.guard.iter_mut().for_each(|it| it.frozen = true);
            }),
            Kind::Delay => self.delay(state, n, k, part),
            Kind::Lose => self.lose(state, n, k, part),
            Kind::Break => self.update(state, n, |instance| instance.watches[k].broken = true),
            Kind::Twice => {
                let request = std::sync::Arc::clone(&state.instance(n).flights[k].request);
                state.orphans.change(|orphans| orphans.push(Orphan { author: n, request, when: When::AnyTime }));
            }
            Kind::Late => {}
            Kind::Cut => self.update(state, n, |instance| instance.cut = true),
            Kind::Stale => self.read_stale(state, n, k),
            Kind::Stubborn => self.update(state, n, |instance| instance.command.stubborn = true),
            Kind::Exit => self.turn(state, n, |turn| {
                let code = u8::from(turn.instance.command.is_hook());
                turn.instance.command.end(CommandEnd::Exited(code));
            }),
            Kind::Terminate => {
                let signal = Signal { number: SIGTERM, meaning: Meaning::Shutdown };
                self.turn(state, n, |turn| turn.handle(Event::Signal(signal)));
            }
            Kind::Resign => self.resign(state, n, k),
            Kind::Pause => self.pause(state),
            Kind::Stray => self.stray(state, n, k),
            Kind::Restart => {
                let leases = state.instance(n).leases;
                state.instances[n] = Instance::start(&self.setup, n, leases).map(Shared::new);
                self.turn(state, n, |_| {});
            }
            Kind::Sick => self.turn(state, n, |turn| {
                turn.instance.fate.sick = true;
                let lease = turn.instance.lease();
                turn.instance.fate.reason |= lease.is_some_and(|lease| has_standby(&turn.state.etcd, lease));
                turn.handle(Event::Healthy(false));
            }),
            Kind::Ineligible => self.turn(state, n, |turn| turn.instance.eligible = false),
            Kind::Go => self.go_starts(state, false),
            Kind::GoForce => self.go_starts(state, true),
            Kind::Foreign => self.foreign_joins(state),
        }
    }

    /// A request, its second half, its answer or a change takes any time.
    fn delay(&self, state: &mut State, n: usize, k: usize, part: Part) {
        if part != Part::None {
            return self.apply(state, n, k, part);
        }
        self.update(state, n, |instance| match instance.flights.get_mut(k) {
            Some(flight) => flight.delayed = true,
            None => {
                let k = k - instance.flights.len();
                instance.watches[k].lags = true;
            }
        });
    }

    /// A request or its answer is lost. The outcome of a transaction is unknown then; reads are repeated by the etcd client.
    fn lose(&self, state: &mut State, n: usize, k: usize, part: Part) {
        if part != Part::None {
            self.apply(state, n, k, part);
        }
        if matches!(*state.instance(n).flights[k].request, Request::Commit(_)) {
            return self.turn(state, n, |turn| turn.fail(k));
        }
        self.update(state, n, |instance| drop(instance.flights.remove(k)));
    }

    /// An operator makes a handover request for a standby, comparing that its entry exists.
    fn resign(&self, state: &mut State, n: usize, successor: usize) {
        let leases = (state.instance(n).lease(), state.instance(successor).lease());
        let (Some(holder), Some(successor)) = leases else { return };
        self.write(state, request_key(holder, successor), successor);
    }

    /// Somebody writes a request without an owner in the queue, or to an instance that does not lead.
    fn stray(&self, state: &mut State, n: usize, k: usize) {
        let Some(holder) = state.instance(n).lease() else { return };
        match state.instance(k).lease().filter(|_| k != n) {
            Some(successor) => self.write(state, request_key(LeaseId(0xabc), successor), successor),
            None => self.write(state, request_key(holder, LeaseId(0xabc)), holder),
        }
    }

    /// An operator pauses the lock. The lease may expire at once, so the pause ends at any time.
    fn pause(&self, state: &mut State) {
        let lease = LeaseId(0xa00);
        state.etcd.change(|etcd| etcd.grant(lease, 0, STORE_NOW));
        self.write(state, pause_key(), lease);
    }

    fn write(&self, state: &mut State, key: Vec<u8>, lease: LeaseId) {
        let put = Txn { when: vec![], then: vec![Op::Put(key, "operator".into(), lease)], otherwise: None };
        let _ = state.etcd.change(|etcd| etcd.commit(&put));
        self.changed(state);
    }
}

impl Instance {
    pub(crate) fn thaw(&mut self) {
        self.gatekeeper.iter_mut().for_each(|gatekeeper| gatekeeper.frozen = false);
        self.guard.iter_mut().for_each(|guard| guard.frozen = false);
    }

    /// The network works again. The etcd client repeats reads and renewals by itself.
    pub(crate) fn heal(&mut self) {
        self.cut = false;
        for flight in &mut self.flights {
            let repeats = matches!(
                *flight.request,
                Request::Read(..) | Request::Renew { .. } | Request::KeepAlive(_) | Request::Grant { .. }
            );
            if repeats && flight.stage == Stage::Sent {
                flight.sent = NOW;
            }
        }
    }
}

fn request_faults(state: &State, instance: &Instance, add: &mut impl FnMut(Kind, usize, Part)) {
    let leads = instance.gatekeeper.as_ref().and_then(|gatekeeper| gatekeeper.renewals.as_ref()).map(|it| it.id);
    let open = instance
        .flights
        .iter()
        .enumerate()
        .filter(|(_, flight)| flight.stage == Stage::Sent && !flight.delayed && !instance.cut);
    for (k, flight) in open {
        add(Kind::Delay, k, Part::None);
        add(Kind::Delay, k, Part::Handled);
        match &*flight.request {
            Request::Commit(_) => {
                add(Kind::Lose, k, Part::None);
                add(Kind::Lose, k, Part::Handled);
                add(Kind::Twice, k, Part::None);
            }
            Request::Revoke(_) => {
                add(Kind::Lose, k, Part::None);
                add(Kind::Lose, k, Part::Handled);
            }
            Request::Renew { .. } => {
                add(Kind::Delay, k, Part::First);
                if leads == Some(flight.id) {
                    add(Kind::Lose, k, Part::None);
                    add(Kind::Lose, k, Part::Handled);
                }
            }
            Request::Read(_, Consistency::Serializable) if state.previous.is_some() => add(Kind::Stale, k, Part::None),
            _ => {}
        }
    }
    for (k, watch) in instance.watches.iter().enumerate().filter(|(_, watch)| !watch.broken) {
        add(Kind::Break, k, Part::None);
        if !watch.lags && !instance.cut && store::has_changes(&state.etcd, watch) {
            add(Kind::Delay, instance.flights.len() + k, Part::None);
        }
    }
}

fn request_key(holder: LeaseId, successor: LeaseId) -> Vec<u8> {
    format!("{LOCK}/~resign/{holder}/{successor}").into_bytes()
}

fn is_holder(state: &State, lease: LeaseId) -> bool {
    state.etcd.get(LOCK.as_bytes()).is_some_and(|kv| kv.lease == Some(lease))
}

fn has_entry(state: &State, lease: LeaseId) -> bool {
    let prefix = format!("{LOCK}/~entry/");
    owner(lease).is_some()
        && state.etcd.keys().any(|kv| kv.lease == Some(lease) && kv.key.starts_with(prefix.as_bytes()))
}
