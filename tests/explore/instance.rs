//! One instance: its two processes, its command, and its requests to etcd.

use std::{sync::Arc, time::Duration};

use etcd_await_election::{
    core::{
        clock::Instant,
        kv::{Get, Range, Snapshot},
        names::LeaseId,
    },
    election::{
        Candidate,
        protocol::{Answer, Request, RequestId},
    },
    guard::{CommandEnd, Order, Program, Report, liveness::Liveness, switch::Switch},
};

use crate::explore::shared::Shared;

/// One instance. After it has ended it may be started again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    /// `None` after its exit or its death.
    pub(crate) gatekeeper: Option<Gatekeeper>,
    /// `None` after its exit or its death.
    pub(crate) guard: Option<Guard>,
    pub(crate) command: Command,
    /// Whether its guard does not kill ON_STOPPED, as a mutant does not.
    pub(crate) spares_on_stopped: bool,
    /// The requests without an end, in the order of their numbers.
    pub(crate) flights: Vec<Flight>,
    pub(crate) watches: Vec<Watch>,
    /// Whether nothing passes between it and etcd.
    pub(crate) cut: bool,
    /// The orders that the guard has not read.
    pub(crate) orders: Vec<Order>,
    /// The reports that the gatekeeper has not read.
    pub(crate) reports: Vec<Report>,
    /// The number of leases that it has asked for.
    pub(crate) leases: u8,
    /// The lease whose revocation was confirmed last.
    pub(crate) revoked: Option<LeaseId>,
    /// What has happened to the present term from outside.
    pub(crate) fate: Fate,
    /// Whether its host is eligible.
    pub(crate) eligible: bool,
    /// What its candidate was told about that since its latest term.
    pub(crate) told: Option<bool>,
}

/// What has happened to the present term from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fate {
    /// There was a reason to step down.
    pub(crate) reason: bool,
    /// The check of the command fails.
    pub(crate) sick: bool,
    /// Its keys were deleted by somebody else, so others may lead.
    pub(crate) deposed: bool,
    /// Both of its processes had a fault at once.
    pub(crate) beyond: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gatekeeper {
    pub(crate) candidate: Shared<Candidate>,
    pub(crate) liveness: Liveness,
    pub(crate) guard: GuardState,
    pub(crate) frozen: bool,
    pub(crate) renewals: Option<Renewals>,
    /// The revision that a leader opens its watch from.
    pub(crate) opens_from: Option<i64>,
}

/// The guard as the gatekeeper knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GuardState {
    Guarding,
    Lost,
}

/// The repeated renewal of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Renewals {
    pub(crate) id: RequestId,
    pub(crate) lease: LeaseId,
    pub(crate) gets: Arc<Vec<Get>>,
    pub(crate) period: Duration,
    pub(crate) due: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Guard {
    pub(crate) switch: Switch,
    /// The orders that were received and not carried out; `None` is the end of the gatekeeper.
    pub(crate) inbox: Vec<Option<Order>>,
    pub(crate) closed: bool,
    pub(crate) frozen: bool,
}

/// The command or a hook: a main process, and descendants that exit after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Command {
    pub(crate) program: Program,
    pub(crate) tree: Tree,
    /// Whether its living processes have received SIGTERM.
    pub(crate) stopping: bool,
    /// Whether they do not react to it. A hook does not exit by itself either.
    pub(crate) stubborn: bool,
    /// Whether the guard has not noticed the execution.
    pub(crate) executed: bool,
    /// The end of the main process, which the guard has not reaped.
    pub(crate) ended: Option<CommandEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tree {
    Exited,
    Descendants,
    Main,
}

impl Command {
    pub(crate) const NONE: Self = Self {
        program: Program::Command,
        tree: Tree::Exited,
        stopping: false,
        stubborn: false,
        executed: false,
        ended: None,
    };

    pub(crate) fn is_hook(&self) -> bool {
        self.program != Program::Command
    }

    pub(crate) fn runs(&self) -> bool {
        self.tree != Tree::Exited
    }
}

/// A request to etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) id: RequestId,
    pub(crate) sent: Instant,
    pub(crate) request: Arc<Request>,
    pub(crate) stage: Stage,
    /// Whether it may take any time.
    pub(crate) delayed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Sent,
    /// The first half of a renewal.
    HasRead(Arc<Snapshot>),
    Answered(Arc<Answer>),
}

/// An open watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    pub(crate) id: RequestId,
    pub(crate) ranges: Arc<Vec<Range>>,
    /// The next revision to deliver.
    pub(crate) next: i64,
    /// Whether changes may take any time.
    pub(crate) lags: bool,
    /// Whether it has broken, and the gatekeeper does not know that.
    pub(crate) broken: bool,
}

/// A request whose sender does not wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Orphan {
    pub(crate) author: usize,
    pub(crate) request: Arc<Request>,
    pub(crate) when: When,
}

/// When a request without a waiting sender is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum When {
    AtOnce,
    /// At any time, or never.
    AnyTime,
    /// The same, and it costs budget.
    Late,
}

impl Instance {
    pub(crate) fn candidate(&self) -> Option<&Candidate> {
        self.gatekeeper.as_ref().map(|gatekeeper| &*gatekeeper.candidate)
    }

    /// Returns whether its gatekeeper lives and is not frozen.
    pub(crate) fn is_awake(&self) -> bool {
        self.gatekeeper.as_ref().is_some_and(|gatekeeper| !gatekeeper.frozen)
    }

    /// Returns whether both processes have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.gatekeeper.is_none() && self.guard.is_none()
    }

    pub(crate) fn lease(&self) -> Option<LeaseId> {
        self.candidate().and_then(Candidate::lease)
    }

    /// Returns whether the gatekeeper may have a fault without the guarantee being left: the guard works, or nothing is left to guard.
    pub(crate) fn can_spare_gatekeeper(&self) -> bool {
        match &self.guard {
            Some(guard) => !guard.frozen,
            None => !self.command.runs(),
        }
    }
}
