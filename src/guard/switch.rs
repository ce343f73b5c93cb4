//! The decision of the dead man's switch: (state, event, now) → actions. It reads no clock and touches no process.
//!
//! Whatever the event says, the deadlines are compared with `now` before it is believed. A feed moves them first, as it says
//! until when the lock is held; but not once `kill_at` has passed: then it finds the command being killed.

use std::time::Duration;

use nix::libc::{SIGCONT, SIGTERM};

use super::protocol::{CommandEnd, Order, Reason, Report};
use crate::core::{clock::Instant, limits::GUARD_BEAT, names::LeaseId, timing::Deadlines};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time.
    Woken,
    /// The gatekeeper says.
    Order(Order),
    /// The gatekeeper's end of the socket is closed, or nonsense came out of it.
    GatekeeperGone,
    /// The command was executed, as this process.
    Started(i32),
    /// The command's main process was reaped, or could not be started.
    MainEnded(CommandEnd),
    /// `waitpid` says that there are no children, so no descendants.
    TreeGone,
}

/// What is to be done, in this order: what ends the command comes before what tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fork and execute the command; answered by [`Event::Started`], and by [`Event::MainEnded`] sooner or later.
    Start {
        /// The fencing token, for the command's environment.
        token: i64,
        /// The lease, for the command's environment.
        lease: LeaseId,
    },
    /// This signal to the command's main process.
    Signal(i32),
    /// SIGTERM and SIGCONT to every process that the command left behind.
    StopTree,
    /// SIGKILL to every process below the guard.
    KillTree,
    /// Tell the gatekeeper.
    Report(Report),
    /// Say that the tree withstands SIGKILL for this long.
    Complain(Duration),
    /// Give the lease back in the gatekeeper's stead.
    Release(LeaseId),
    /// End the guard.
    Exit,
}

/// The switch: whether a command runs, until when, and how far its end has come.
#[derive(Clone, Debug)]
pub struct Switch {
    stop_signal: i32,
    stop_grace: Duration,
    lease: Option<LeaseId>,
    duty: Duty,
    term: Option<Term>,
}

/// What the guard is there for, once the tree is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// The next term.
    Serving,
    /// Nothing: the gatekeeper needs no guard any more.
    Dismissed,
    /// To give the lease back, as nobody else is left to do it.
    Orphaned,
    /// It has ended.
    Done,
}

/// One command, from its start to the end of its last descendant.
#[derive(Clone, Copy, Debug)]
struct Term {
    deadlines: Deadlines,
    /// When the stop grace runs out. Set once, by whatever first began to end the command.
    grace_until: Option<Instant>,
    killing: Option<Killing>,
    /// How the main process ended, once it has.
    end: Option<CommandEnd>,
}

/// SIGKILL has been sent, and is sent again until nothing is left.
#[derive(Clone, Copy, Debug)]
struct Killing {
    since: Instant,
    next_round: Instant,
    next_beat: Instant,
    next_complaint: Instant,
}

impl Switch {
    /// Between two rounds of SIGKILL, at first. SIGCHLD wakes the guard too, so this only matters when nothing dies.
    const ROUND: Duration = Duration::from_millis(5);
    /// Between two rounds when they have not helped for [`Self::PATIENCE`].
    const SLOW_ROUND: Duration = Duration::from_millis(200);
    /// How long a killed tree may take before it is worth a line in the log.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// From one such line to the next.
    const COMPLAINT: Duration = Duration::from_secs(60);

    /// A switch without a command.
    #[must_use]
    pub const fn new(stop_signal: i32, stop_grace: Duration) -> Self {
        Self { stop_signal, stop_grace, lease: None, duty: Duty::Serving, term: None }
    }

    /// Takes note of `event` and says what to do about it, and about the deadlines that have passed by `now`.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.duty == Duty::Done {
            return actions;
        }
        if let Event::MainEnded(end) = event {
            // The one thing to be believed first: that number may be another process's now, and must get no signal.
            self.main_ended(end, now, &mut actions);
        }
        if let Event::Order(Order::Feed(fed)) = event {
            self.take_in(fed, now);
        }
        self.keep_deadlines(now, &mut actions);
        match event {
            Event::Woken | Event::MainEnded(_) => {}
            Event::Order(order) => self.obey(order, now, &mut actions),
            Event::GatekeeperGone => self.gatekeeper_gone(now, &mut actions),
            Event::Started(pid) => self.started(pid, &mut actions),
            Event::TreeGone => self.tree_gone(&mut actions),
        }
        actions
    }

    /// When [`on`](Self::on) must be called at the latest, with [`Event::Woken`] if nothing else happened.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let term = self.term.as_ref()?;
        if let Some(killing) = &term.killing {
            return Some(killing.next_round);
        }
        let Deadlines { stop_at, kill_at } = term.deadlines;
        // Once a stop has begun there is nothing left to do at `stop_at`.
        Some(kill_at.min(term.grace_until.unwrap_or(stop_at)))
    }

    /// Whether there is a command, or something left of one.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.term.is_some()
    }

    /// Whether the gatekeeper is gone.
    #[must_use]
    pub const fn is_orphaned(&self) -> bool {
        matches!(self.duty, Duty::Orphaned | Duty::Done)
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
            Order::Lease(lease) => self.lease = lease,
            Order::Start { deadlines, token, lease } => self.start(deadlines, token, lease, now, actions),
            Order::Feed(_) => self.acknowledge_feed(actions),
            Order::Signal(signal) if signal == SIGTERM || signal == self.stop_signal => {
                if !self.stop(now, actions) {
                    // Asked twice. The command may take that for impatience, as it would without us; its grace goes on.
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
                self.leave_if_idle(actions);
            }
        }
    }

    fn start(&mut self, deadlines: Deadlines, token: i64, lease: LeaseId, now: Instant, actions: &mut Vec<Action>) {
        if self.term.is_some() {
            // Two commands at once: whoever asks for that is not the gatekeeper that was agreed on.
            return self.gatekeeper_gone(now, actions);
        }
        if self.duty != Duty::Serving {
            return;
        }
        if now >= deadlines.stop_at || now >= deadlines.kill_at {
            return actions.push(Action::Report(Report::Gone(CommandEnd::NotStarted)));
        }
        self.term = Some(Term { deadlines, grace_until: None, killing: None, end: None });
        actions.push(Action::Start { token, lease });
    }

    /// Moves the deadlines. A feed says until when the lock is held, whenever it is read: one that waited while this process was
    /// frozen keeps the command from being stopped. At `kill_at` it is too late, as the gatekeeper takes over then.
    fn take_in(&mut self, fed: Deadlines, now: Instant) {
        let Some(term) = &mut self.term else { return };
        if now < term.deadlines.kill_at {
            // A stop that has begun, or a kill, is not taken back: `grace_until` and `killing` stay.
            term.deadlines = term.deadlines.later(fed);
        }
    }

    fn acknowledge_feed(&self, actions: &mut Vec<Action>) {
        if let Some(term) = &self.term {
            actions.push(Action::Report(Report::Fed(term.deadlines)));
        }
    }

    /// Asks the command to end and starts the grace; false if it was being ended already.
    fn stop(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Some(term) = &mut self.term else { return false };
        if term.grace_until.is_some() || term.killing.is_some() {
            return false;
        }
        term.grace_until = Some(now + self.stop_grace);
        // A command that somebody stopped with SIGSTOP could not see the signal without SIGCONT.
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
        if self.term.is_some() {
            actions.push(Action::Report(Report::Ending(Reason::GatekeeperGone)));
        }
        self.leave_if_idle(actions);
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
            // What is left of a command that was being stopped has the rest of its grace; else one of its own.
            term.grace_until.get_or_insert(now + self.stop_grace);
        }
        actions.push(Action::Report(Report::Ended(end)));
    }

    fn tree_gone(&mut self, actions: &mut Vec<Action>) {
        // Without an end of the main process this is news from before the start.
        let Some(end) = self.term.and_then(|term| term.end) else { return };
        self.term = None;
        actions.push(Action::Report(Report::Gone(end)));
        self.leave_if_idle(actions);
    }

    /// Nothing runs: is anything left to do?
    fn leave_if_idle(&mut self, actions: &mut Vec<Action>) {
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
        // Kill first, tell then: telling may take time.
        actions.extend([Action::KillTree, Action::Report(Report::Ending(reason))]);
        self.killing = Some(Killing {
            since: now,
            next_round: now + Switch::ROUND,
            next_beat: now + GUARD_BEAT,
            next_complaint: now + Switch::PATIENCE,
        });
    }
}

impl Killing {
    fn go_on(&mut self, now: Instant, deadlines: Deadlines, actions: &mut Vec<Action>) {
        let tried = now.saturating_since(self.since);
        self.next_round = now + if tried < Switch::PATIENCE { Switch::ROUND } else { Switch::SLOW_ROUND };
        if now >= self.next_beat {
            actions.push(Action::Report(Report::Fed(deadlines)));
            self.next_beat = now + GUARD_BEAT;
        }
        if now >= self.next_complaint {
            actions.push(Action::Complain(tried));
            self.next_complaint = now + Switch::COMPLAINT;
        }
    }
}

#[cfg(test)]
mod tests;
