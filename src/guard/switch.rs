//! The decisions of the dead man's switch, as a pure function: (state, event, now) → actions.
//!
//! With each event the deadlines are compared with `now` before anything else is decided. Only a feed moves them first, as it
//! says how long the lock is held; after `kill_at` it is too late for that, and the command is killed.
//!
//! A term has up to three [`Program`]s. One rule applies to all: the next begins, and the term ends, only when the process tree of
//! the present one has exited. So leadership is not given up before, as [`Report::TreeExited`] and [`Action::Release`] follow then.

use std::time::Duration;

use nix::libc::{SIGCONT, SIGTERM};

use super::protocol::{CommandEnd, Order, Program, Reason, Report};
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
    /// The program was executed with this process id.
    Started(i32),
    /// The main process of the program was reaped or could not be started.
    MainEnded(CommandEnd),
    /// The process tree has exited.
    TreeExited,
}

/// What the guard has to do, in this order: the command is stopped before that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Set the environment of the programs that run in this term.
    Begin {
        /// The fencing token.
        token: i64,
        /// The lease.
        lease: LeaseId,
    },
    /// Fork and execute this program. [`Event::Started`] follows if that succeeds, and [`Event::MainEnded`] in any case.
    Run(Program),
    /// Send this signal to the main process of the program.
    Signal(i32),
    /// Send SIGTERM and SIGCONT to every process that the program left behind.
    StopTree,
    /// Send SIGKILL to every process of the tree.
    KillTree,
    /// Send a report to the gatekeeper.
    Report(Report),
    /// Log that a hook failed.
    WarnFailed(Program, CommandEnd),
    /// Log that the process tree has not exited this long after SIGKILL.
    WarnNotExited(Duration),
    /// Prepare to revoke the lease, but do not revoke it. The cluster that has it is `None` if the gatekeeper did not report it.
    PrepareRelease(Option<u64>),
    /// Revoke the lease, as the gatekeeper cannot. The process tree has exited.
    Release(LeaseId),
    /// Exit.
    Exit,
}

/// Which hooks run in each term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hooks {
    /// Whether there is a [`Program::OnElected`].
    pub on_elected: bool,
    /// Whether there is a [`Program::OnStopped`].
    pub on_stopped: bool,
}

/// The state of the guard: whether a command runs, its deadlines, and how far a stop has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Switch {
    stop_signal: i32,
    stop_grace: Duration,
    hooks: Hooks,
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

/// One term: from the start of its first program until the process tree of its last one has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Term {
    deadlines: Deadlines,
    program: Program,
    /// How the main process of the program ended, if it has.
    main: Option<CommandEnd>,
    /// When the program is killed, unless `kill_at` is earlier: the stop grace after its stop began.
    grace_until: Option<Instant>,
    killing: Option<Killing>,
    /// Whether the command must not be started any more.
    is_ending: bool,
    /// Whether the lock is held, as far as is known.
    has_lease: bool,
    /// How the command ended, or why it is not started.
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
    pub const fn new(stop_signal: i32, stop_grace: Duration, hooks: Hooks) -> Self {
        Self { stop_signal, stop_grace, hooks, lease: None, cluster: None, duty: Duty::Serving, term: None }
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
            Event::TreeExited => self.tree_exited(now, &mut actions),
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
            let of_hook = term.program == Program::OnStopped;
            term.kill(if of_hook { Reason::OnStoppedLimit } else { Reason::StopGrace }, now, actions);
        } else if now >= term.deadlines.stop_at && term.grace_until.is_none() {
            self.stop(now, actions);
            actions.push(Action::Report(Report::Ending(Reason::RenewDeadline)));
        }
    }

    fn obey(&mut self, order: Order, now: Instant, actions: &mut Vec<Action>) {
        match order {
            Order::Lease(lease) => {
                (self.lease, self.cluster) = (lease, None);
                self.term.iter_mut().for_each(|term| term.has_lease = lease.is_some());
            }
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
        let first = if self.hooks.on_elected { Program::OnElected } else { Program::Command };
        let term = self.term.insert(Term {
            deadlines,
            program: first,
            main: None,
            grace_until: None,
            killing: None,
            is_ending: false,
            has_lease: true,
            end: None,
        });
        actions.push(Action::Begin { token, lease });
        term.run(first, actions);
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
        term.is_ending = true;
        if term.grace_until.is_some() || term.killing.is_some() {
            return false;
        }
        term.grace_until = Some(now + self.stop_grace);
        // The stop signal is that of the command only.
        let signal = if term.program == Program::Command { self.stop_signal } else { SIGTERM };
        // A command that was stopped by SIGSTOP does not act on the signal before SIGCONT.
        actions.extend([Action::Signal(signal), Action::Signal(SIGCONT)]);
        true
    }

    fn forward(&self, signal: i32, actions: &mut Vec<Action>) {
        if self.term.is_some_and(|term| term.program == Program::Command && term.main.is_none()) {
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
            if term.program == Program::Command {
                actions.push(Action::Report(Report::Started(pid)));
            }
            actions.push(Action::Report(Report::Fed(term.deadlines)));
        }
    }

    fn main_ended(&mut self, end: CommandEnd, now: Instant, actions: &mut Vec<Action>) {
        let Some(term) = &mut self.term else { return };
        if term.main.is_some() {
            return;
        }
        term.main = Some(end);
        if term.killing.is_none() {
            actions.push(Action::StopTree);
            // If a stop had begun, the rest of the process tree has the rest of the grace.
            let until = now + self.stop_grace;
            term.grace_until = Some(term.grace_until.map_or(until, |earlier| earlier.min(until)));
        }
        let has_failed = end != CommandEnd::Exited(0);
        match term.program {
            Program::Command => term.end(end, actions),
            Program::OnElected if has_failed && !term.is_ending => {
                actions.push(Action::WarnFailed(Program::OnElected, end));
                term.end(CommandEnd::OnElectedFailed, actions);
            }
            Program::OnStopped if has_failed => actions.push(Action::WarnFailed(Program::OnStopped, end)),
            Program::OnElected | Program::OnStopped => {}
        }
    }

    fn tree_exited(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(term) = &mut self.term else { return };
        // If the main process has not ended, this event is from before the start.
        if term.main.is_none() {
            return;
        }
        if let Some(next) = term.next_program(self.hooks, now) {
            return term.run(next, actions);
        }
        let end = term.end.unwrap_or(CommandEnd::NotStarted);
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
    /// Returns the program that follows when the process tree of the present one has exited; `None` if the term ends. After `kill_at`
    /// none does, as a feed does not move it any more, and none without a lease, as another instance may lead.
    fn next_program(&self, hooks: Hooks, now: Instant) -> Option<Program> {
        if now >= self.deadlines.kill_at || !self.has_lease {
            return None;
        }
        let may_start = !self.is_ending && self.main == Some(CommandEnd::Exited(0)) && now < self.deadlines.stop_at;
        match self.program {
            Program::OnElected if may_start => Some(Program::Command),
            Program::OnElected | Program::Command => hooks.on_stopped.then_some(Program::OnStopped),
            Program::OnStopped => None,
        }
    }

    /// Begins a program. No process of the term is left.
    fn run(&mut self, program: Program, actions: &mut Vec<Action>) {
        // A feed does not prolong ON_STOPPED: it has what is left until `kill_at` now.
        let grace_until = (program == Program::OnStopped).then_some(self.deadlines.kill_at);
        let has_hook = program != Program::Command || self.program == Program::OnElected;
        *self = Self { program, main: None, grace_until, killing: None, ..*self };
        // Before the start, as the gatekeeper takes over from a silent guard at the deadline of what runs.
        actions.extend(has_hook.then_some(Action::Report(Report::Starting(program))));
        actions.push(Action::Run(program));
    }

    /// Notes how the command ended, or why it is not started.
    fn end(&mut self, end: CommandEnd, actions: &mut Vec<Action>) {
        (self.is_ending, self.end) = (true, Some(end));
        actions.push(Action::Report(Report::Ended(end)));
    }

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
