//! The state of the whole system.

use std::{fmt, sync::Arc, time::Duration};

use etcd_await_election::{
    core::{names::LeaseId, timing::Timing},
    election::Candidate,
    guard::{
        liveness::Liveness,
        switch::{Hooks, Switch},
    },
    settings::ElectionConfig,
};
use nix::libc::SIGTERM;

use crate::explore::{
    budget::Budget,
    etcd::Etcd,
    instance::{Command, Fate, Gatekeeper, Guard, GuardState, Instance, Orphan},
    mutant::Mutant,
    peers::Peers,
    shared::Shared,
    sim::NOW,
};

/// The most instances.
pub(crate) const MOST: usize = 3;

/// The state of the whole system. Parts that did not change are shared with the previous state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) etcd: Shared<Etcd>,
    /// What a serializable read may show, as long as there is budget for that.
    pub(crate) previous: Option<Shared<Etcd>>,
    pub(crate) instances: [Option<Shared<Instance>>; MOST],
    pub(crate) orphans: Shared<Vec<Orphan>>,
    pub(crate) peers: Peers,
    pub(crate) budget: Budget,
    /// The token of the command that was started last.
    pub(crate) token: i64,
    /// Leadership from before this revision was ended by somebody else, so others may lead.
    pub(crate) deposed: i64,
    pub(crate) violation: Option<Violation>,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    Overlap,
    Token,
    Stolen,
    HandedOverEarly,
    OutOfTurn,
    PassedPriority,
    StoppedWithoutReason,
    ChangedWhilePaused,
    IneligibleInQueue,
    KeysLeft,
    Busy,
    Duel,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlap => "two commands run at once",
            Self::Token => "a command starts with a token that is not larger than the previous one",
            Self::Stolen => "a transaction takes leadership from a live instance",
            Self::HandedOverEarly => "leadership is handed over before the process tree has exited",
            Self::OutOfTurn => "leadership is handed over out of turn",
            Self::PassedPriority => {
                "a command starts although an instance with a higher priority waited for the free lock"
            }
            Self::StoppedWithoutReason => "a leader steps down without a reason",
            Self::ChangedWhilePaused => "the holder changes while the lock is paused",
            Self::IneligibleInQueue => "an instance whose host is not eligible is in the queue",
            Self::Busy => "an instance is busy for ever",
            Self::Duel => "instances take leadership from each other for ever",
            Self::KeysLeft => "an instance has ended, and its keys are left",
        })
    }
}

/// What is explored.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) configs: Vec<Arc<ElectionConfig>>,
    pub(crate) budget: Budget,
    pub(crate) hooks: Hooks,
    /// Whether faults begin only when a command runs and all other instances wait.
    pub(crate) warm: bool,
    /// Whether faults beyond the limits of the guarantee happen as well.
    pub(crate) beyond: bool,
    pub(crate) mutant: Option<Mutant>,
}

impl State {
    /// Returns the state before the first step: all instances have just been started.
    pub(crate) fn new(setup: &Setup) -> Self {
        let instances = std::array::from_fn(|n| Instance::start(setup, n, 0).map(Shared::new));
        Self {
            etcd: Shared::new(Etcd::new()),
            previous: None,
            instances,
            orphans: Shared::new(Vec::new()),
            peers: Peers::default(),
            budget: setup.budget,
            token: 0,
            deposed: 0,
            violation: None,
        }
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = (usize, &Instance)> {
        self.instances.iter().enumerate().filter_map(|(n, instance)| Some((n, &**instance.as_ref()?)))
    }

    pub(crate) fn instance(&self, n: usize) -> &Instance {
        self.instances[n].as_ref().expect("an instance")
    }

    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }
}

impl Instance {
    /// Starts both processes. `leases` is the number of leases of earlier runs.
    pub(crate) fn start(setup: &Setup, n: usize, leases: u8) -> Option<Self> {
        let config = setup.configs.get(n)?;
        let timing: &Timing = &config.timing;
        let candidate = Candidate::new(Arc::clone(config), Duration::ZERO, NOW);
        Some(Self {
            gatekeeper: Some(Gatekeeper {
                candidate: Shared::new(candidate),
                liveness: Liveness::default(),
                guard: GuardState::Guarding,
                frozen: false,
                renewals: None,
                opens_from: None,
            }),
            guard: Some(Guard::new(Switch::new(SIGTERM, timing.stop_grace(), setup.hooks))),
            command: Command::NONE,
            spares_on_stopped: setup.mutant == Some(Mutant::SparesOnStopped),
            flights: Vec::new(),
            watches: Vec::new(),
            cut: false,
            orders: Vec::new(),
            reports: Vec::new(),
            leases,
            revoked: None,
            fate: Fate::default(),
            eligible: true,
            told: None,
        })
    }
}

/// Returns the ID of a lease of an instance; the first digit is the number of the instance.
pub(crate) fn lease_id(instance: usize, number: u8) -> LeaseId {
    LeaseId(0x100 * (instance as i64 + 1) + i64::from(number))
}

/// Returns the instance that a lease belongs to.
pub(crate) fn owner(lease: LeaseId) -> Option<usize> {
    usize::try_from(lease.0 / 0x100 - 1).ok().filter(|n| *n < MOST)
}
