//! The decisions of the dead man's switch, as a pure function: (state, event, now) → actions.
//!
//! With each event the deadlines are compared with `now` before anything else is decided. Only a feed moves them first, as it
//! says how long the lock is held; after `kill_at` it is too late for that, and the command is killed.

use std::time::Duration;

use nix::libc::{SIGCONT, SIGTERM};

use super::protocol::{CommandEnd, Order, Reason, Report};
use crate::core::{
    clock::{Instant, Shift},
    limits::GUARD_BEAT,
    names::LeaseId,
    timing::Deadlines,
};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The guard woke up, for a deadline or for another reason.
    Woken,
    /// The gatekeeper has sent an order.
    Order(Order),
    /// The gatekeeper has closed its end of the socket or sent an invalid message.
    GatekeeperGone,
    /// The command was executed with this process id.
    Started(i32),
    /// The main process of the command was reaped or could not be started.
    MainEnded(CommandEnd),
    /// The process tree has exited.
    TreeExited,
}

/// What the guard has to do, in this order: the command is stopped before that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Fork and execute the command. [`Event::Started`] follows if that succeeds, and [`Event::MainEnded`] in any case.
    Start {
        /// The fencing token, for the command's environment.
        token: i64,
        /// The lease, for the command's environment.
        lease: LeaseId,
    },
    /// Send this signal to the main process of the command.
    Signal(i32),
    /// Send SIGTERM and SIGCONT to every process that the command left behind.
    StopTree,
    /// Send SIGKILL to every process of the tree.
    KillTree,
    /// Send a report to the gatekeeper.
    Report(Report),
    /// Log that the process tree has not exited this long after SIGKILL.
    WarnNotExited(Duration),
    /// Prepare to revoke the lease, but do not revoke it. The cluster that has it is `None` if the gatekeeper did not report it.
    PrepareRelease(Option<u64>),
    /// Revoke the lease, as the gatekeeper cannot. The process tree has exited.
    Release(LeaseId),
    /// Exit.
    Exit,
}

/// The state of the guard: whether a command runs, its deadlines, and how far a stop has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Switch {
    stop_signal: i32,
    stop_grace: Duration,
    lease: Option<LeaseId>,
    cluster: Option<u64>,
    duty: Duty,
    term: Option<Term>,
}

/// What the guard does after the process tree has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Duty {
    /// It waits for the next term.
    Serving,
    /// It exits: the gatekeeper has dismissed it.
    Dismissed,
    /// It revokes the lease and exits: the gatekeeper has died.
    Orphaned,
    /// It has exited.
    Done,
}

/// One term: from the start of the command until its process tree has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Term {
    deadlines: Deadlines,
    /// When the stop grace ends. It is set once, when the stop begins.
    grace_until: Option<Instant>,
    killing: Option<Killing>,
    /// How the main process ended, if it has.
    end: Option<CommandEnd>,
}

/// SIGKILL has been sent, and is sent again until the process tree has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Killing {
    since: Instant,
    next_round: Instant,
    next_beat: Instant,
    next_warning: Instant,
}

impl Switch {
    /// The time between the first rounds of SIGKILL. SIGCHLD also wakes the guard and starts a round.
    const ROUND: Duration = Duration::from_millis(5);
    /// The time between two rounds after [`Self::KILL_TIME`].
    const SLOW_ROUND: Duration = Duration::from_millis(200);
    /// How long the process tree may take to exit after SIGKILL before a warning is logged.
    const KILL_TIME: Duration = Duration::from_secs(5);
    /// The time between two such warnings.
    const WARNING_INTERVAL: Duration = Duration::from_secs(60);

    /// A switch without a command.
    #[must_use]
    pub const fn new(stop_signal: i32, stop_grace: Duration) -> Self {
        Self { stop_signal, stop_grace, lease: None, cluster: None, duty: Duty::Serving, term: None }
    }

    /// Handles `event` and the deadlines that have passed by `now`, and returns what to do.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.duty == Duty::Done {
            return actions;
        }
        if let Event::MainEnded(end) = event {
            // Before the deadlines: the process was reaped, so its number must not be signaled any more.
            self.main_ended(end, now, &mut actions);
        }
        if let Event::Order(Order::Feed(fed)) = event {
            self.feed(fed, now);
        }
        self.keep_deadlines(now, &mut actions);
        match event {
            Event::Woken | Event::MainEnded(_) => {}
            Event::Order(order) => self.obey(order, now, &mut actions),
            Event::GatekeeperGone => self.gatekeeper_gone(now, &mut actions),
            Event::Started(pid) => self.started(pid, &mut actions),
            Event::TreeExited => self.tree_exited(&mut actions),
        }
        actions
    }

    /// Returns when [`on`](Self::on) must be called at the latest, with [`Event::Woken`] if there is no other event.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let term = self.term.as_ref()?;
        if let Some(killing) = &term.killing {
            return Some(killing.next_round);
        }
        let Deadlines { stop_at, kill_at } = term.deadlines;
        // After a stop has begun, `stop_at` has no meaning.
        Some(kill_at.min(term.grace_until.unwrap_or(stop_at)))
    }

    /// Returns whether there is a command whose process tree has not exited.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.term.is_some()
    }

    /// Returns whether the gatekeeper has died.
    #[must_use]
    pub const fn is_orphaned(&self) -> bool {
        matches!(self.duty, Duty::Orphaned | Duty::Done)
    }

    /// Moves all instants. Decisions depend on their differences only.
    pub fn shift(&mut self, shift: Shift) {
        let Some(term) = &mut self.term else { return };
        term.deadlines.shift(shift);
        term.grace_until.iter_mut().for_each(|until| shift.instant(until));
        if let Some(killing) = &mut term.killing {
            let Killing { since, next_round, next_beat, next_warning } = killing;
            [since, next_round, next_beat, next_warning].into_iter().for_each(|instant| shift.instant(instant));
        }
    }

    fn keep_deadlines(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(term) = &mut self.term else { return };
        if let Some(killing) = &mut term.killing {
            actions.push(Action::KillTree);
            killing.go_on(now, term.deadlines, actions);
        } else if now >= term.deadlines.kill_at {
            term.kill(Reason::KillDeadline, now, actions);
        } else if term.grace_until.is_some_and(|until| now >= until) {
            term.kill(Reason::StopGrace, now, actions);
        } else if now >= term.deadlines.stop_at && term.grace_until.is_none() {
            self.stop(now, actions);
            actions.push(Action::Report(Report::Ending(Reason::RenewDeadline)));
        }
    }

    fn obey(&mut self, order: Order, now: Instant, actions: &mut Vec<Action>) {
        match order {
            Order::Lease(lease) => (self.lease, self.cluster) = (lease, None),
            Order::Cluster(cluster) => self.cluster = Some(cluster),
            Order::Start { deadlines, token, lease } => self.start(deadlines, token, lease, now, actions),
            Order::Feed(_) => self.acknowledge_feed(actions),
            Order::Signal(signal) if signal == SIGTERM || signal == self.stop_signal => {
                if !self.stop(now, actions) {
                    // The second request is forwarded, too: many programs then stop at once. The grace does not start again.
                    self.forward(self.stop_signal, actions);
                }
            }
            Order::Signal(signal) => self.forward(signal, actions),
            Order::Stop => {
                self.stop(now, actions);
            }
            Order::Dismiss => {
                self.duty = Duty::Dismissed;
                self.stop(now, actions);
                self.exit_if_idle(actions);
            }
        }
    }

    fn start(&mut self, deadlines: Deadlines, token: i64, lease: LeaseId, now: Instant, actions: &mut Vec<Action>) {
        if self.term.is_some() {
            // A gatekeeper never starts a second command, so the other end of the socket is broken.
            return self.gatekeeper_gone(now, actions);
        }
        if self.duty != Duty::Serving {
            return;
        }
        if now >= deadlines.stop_at || now >= deadlines.kill_at {
            return actions.push(Action::Report(Report::TreeExited(CommandEnd::NotStarted)));
        }
        self.term = Some(Term { deadlines, grace_until: None, killing: None, end: None });
        actions.push(Action::Start { token, lease });
    }

    /// Moves the deadlines. A feed that waited in the socket while this process was frozen is still valid, as it says how long the
    /// lock is held. At `kill_at` it is too late, as the gatekeeper takes over then.
    fn feed(&mut self, fed: Deadlines, now: Instant) {
        let Some(term) = &mut self.term else { return };
        if now < term.deadlines.kill_at {
            // A stop or a kill that has begun is not cancelled: `grace_until` and `killing` stay.
            term.deadlines = term.deadlines.later(fed);
        }
    }

    fn acknowledge_feed(&self, actions: &mut Vec<Action>) {
        if let Some(term) = &self.term {
            actions.push(Action::Report(Report::Fed(term.deadlines)));
        }
    }

    /// Sends the stop signal and starts the stop grace; returns false if a stop had begun before.
    fn stop(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Some(term) = &mut self.term else { return false };
        if term.grace_until.is_some() || term.killing.is_some() {
            return false;
        }
        term.grace_until = Some(now + self.stop_grace);
        // A command that was stopped by SIGSTOP does not act on the signal before SIGCONT.
        actions.extend([Action::Signal(self.stop_signal), Action::Signal(SIGCONT)]);
        true
    }

    fn forward(&self, signal: i32, actions: &mut Vec<Action>) {
        if self.term.is_some_and(|term| term.end.is_none()) {
            actions.push(Action::Signal(signal));
        }
    }

    fn gatekeeper_gone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.duty == Duty::Orphaned {
            return;
        }
        self.duty = Duty::Orphaned;
        self.stop(now, actions);
        if self.lease.is_some() {
            actions.push(Action::PrepareRelease(self.cluster));
        }
        if self.term.is_some() {
            actions.push(Action::Report(Report::Ending(Reason::GatekeeperGone)));
        }
        self.exit_if_idle(actions);
    }

    fn started(&self, pid: i32, actions: &mut Vec<Action>) {
        if let Some(term) = &self.term {
            actions.extend([Action::Report(Report::Started(pid)), Action::Report(Report::Fed(term.deadlines))]);
        }
    }

    fn main_ended(&mut self, end: CommandEnd, now: Instant, actions: &mut Vec<Action>) {
        let Some(term) = &mut self.term else { return };
        if term.end.is_some() {
            return;
        }
        term.end = Some(end);
        if term.killing.is_none() {
            actions.push(Action::StopTree);
            // If a stop had begun, the rest of the process tree has the rest of the grace.
            term.grace_until.get_or_insert(now + self.stop_grace);
        }
        actions.push(Action::Report(Report::Ended(end)));
    }

    fn tree_exited(&mut self, actions: &mut Vec<Action>) {
        // If the main process has not ended, this event is from before the start.
        let Some(end) = self.term.and_then(|term| term.end) else { return };
        self.term = None;
        actions.push(Action::Report(Report::TreeExited(end)));
        self.exit_if_idle(actions);
    }

    /// Exits if no command runs and no further term follows. Revokes the lease before if the gatekeeper has died.
    fn exit_if_idle(&mut self, actions: &mut Vec<Action>) {
        if self.term.is_some() || self.duty == Duty::Serving {
            return;
        }
        if self.duty == Duty::Orphaned {
            actions.extend(self.lease.take().map(Action::Release));
        }
        actions.push(Action::Exit);
        self.duty = Duty::Done;
    }
}

impl Term {
    fn kill(&mut self, reason: Reason, now: Instant, actions: &mut Vec<Action>) {
        // The report comes second, as it may take time.
        actions.extend([Action::KillTree, Action::Report(Report::Ending(reason))]);
        self.killing = Some(Killing {
            since: now,
            next_round: now + Switch::ROUND,
            next_beat: now + GUARD_BEAT,
            next_warning: now + Switch::KILL_TIME,
        });
    }
}

impl Killing {
    fn go_on(&mut self, now: Instant, deadlines: Deadlines, actions: &mut Vec<Action>) {
        let tried = now.saturating_since(self.since);
        self.next_round = now + if tried < Switch::KILL_TIME { Switch::ROUND } else { Switch::SLOW_ROUND };
        if now >= self.next_beat {
            actions.push(Action::Report(Report::Fed(deadlines)));
            self.next_beat = now + GUARD_BEAT;
        }
        if now >= self.next_warning {
            actions.push(Action::WarnNotExited(tried));
            self.next_warning = now + Switch::WARNING_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests;
