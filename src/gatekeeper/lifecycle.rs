//! The lifecycle of this instance: the one state that the gatekeeper decides by, and what the status is derived from.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::sync::watch;

use crate::{
    core::{
        clock::{Clock, Instant},
        timing::Deadlines,
    },
    election::progress::{Observer, Progress},
    settings::ElectionConfig,
    status::{Counters, Phase, Status},
};

/// Where this instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It is not in the queue: connecting, or joining again.
    Joining,
    /// It is a standby.
    Waiting {
        /// The number in the queue; the first standby is number 1.
        number: usize,
        /// The identity just ahead, if there is one.
        behind: Option<String>,
    },
    /// It holds the lock, and waits until an evicted holder has ended.
    Evicting,
    /// It leads.
    Leading(Leadership),
    /// It is not in the queue any more.
    Released,
}

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    token: i64,
    since: Instant,
    /// What the guard confirmed; `None` before that, and when the process tree has exited.
    deadlines: Option<Deadlines>,
    command: Command,
}

/// How far the command of a term is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Starting,
    Running,
    Stopping,
    /// The process tree has exited.
    Exited,
}

impl Lifecycle {
    /// Returns whether it is in the queue behind another instance.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// Returns whether it leads and its command has to stop, or has ended.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        matches!(self, Self::Leading(Leadership { command: Command::Stopping | Command::Exited, .. }))
    }

    /// Returns whether etcd and this machine have time for what is not urgent: it does not join, and starts no command.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        !matches!(self, Self::Joining | Self::Evicting | Self::Leading(Leadership { command: Command::Starting, .. }))
    }

    /// The state after `progress`.
    fn after(self, progress: &Progress, now: Instant) -> Self {
        match (progress, self) {
            (Progress::Joining, _) => Self::Joining,
            (Progress::Waiting { number, behind }, _) => Self::Waiting { number: *number, behind: behind.clone() },
            (Progress::Evicting, _) => Self::Evicting,
            (Progress::Elected { token }, _) => {
                Self::Leading(Leadership { token: *token, since: now, deadlines: None, command: Command::Starting })
            }
            (Progress::Released, _) => Self::Released,
            (progress, Self::Leading(leading)) => Self::Leading(leading.after(progress)),
            (_, state) => state,
        }
    }
}

impl Leadership {
    const fn after(self, progress: &Progress) -> Self {
        match (progress, self.command) {
            // It may have been asked to stop before it was running.
            (Progress::Started, Command::Starting) => Self { command: Command::Running, ..self },
            (Progress::Fed(deadlines), _) => Self { deadlines: Some(*deadlines), ..self },
            (Progress::Exited, _) => Self { deadlines: None, command: Command::Exited, ..self },
            (Progress::Lost | Progress::Ended { .. }, _) => self.stopping(),
            _ => self,
        }
    }

    const fn stopping(self) -> Self {
        match self.command {
            Command::Exited => self,
            _ => Self { command: Command::Stopping, ..self },
        }
    }
}

/// What else is known, whatever the state.
#[derive(Clone, Debug)]
struct Facts {
    lock: String,
    identity: String,
    leader: Option<String>,
    ttl: Duration,
    renewed_at: Option<Instant>,
    beat: Option<Instant>,
    ending: bool,
    started: bool,
    counters: Counters,
}

impl Facts {
    fn note(&mut self, progress: &Progress) {
        match progress {
            Progress::Renewed { sent, ttl } => {
                self.ttl = *ttl;
                self.renewed_at = Some(*sent);
            }
            Progress::RenewalConfirmed { sent } => {
                self.renewed_at = Some(*sent);
                self.counters.renewals += 1;
            }
            Progress::RenewalLate => self.counters.late_renewals += 1,
            Progress::LeaderSeen(leader) => self.leader.clone_from(leader),
            Progress::Elected { .. } => self.counters.elections += 1,
            Progress::Started => self.started = true,
            Progress::Lost => self.counters.losses += 1,
            Progress::Ended { again } => self.ending |= !again,
            Progress::Released => {
                // It may have been this instance, and the leader of now is seen with the next read, however late that is.
                self.leader = None;
                self.renewed_at = None;
            }
            Progress::Joining | Progress::Waiting { .. } | Progress::Evicting | Progress::Fed(_) | Progress::Exited => {
            }
        }
    }
}

/// This instance: its lifecycle, and the status that is published with every change of it.
#[derive(Debug)]
pub struct Instance<C> {
    clock: C,
    lifecycle: watch::Sender<Lifecycle>,
    facts: RefCell<Facts>,
    status: watch::Sender<Status>,
}

impl<C: Clock> Instance<C> {
    /// An instance that has not joined yet.
    #[must_use]
    pub fn new(config: &ElectionConfig, clock: C) -> Self {
        let facts = Facts {
            lock: config.lock.to_string(),
            identity: config.identity.clone(),
            leader: None,
            ttl: config.timing.lease(),
            renewed_at: None,
            beat: None,
            ending: false,
            started: false,
            counters: Counters::default(),
        };
        let status = watch::Sender::new(status_of(&Lifecycle::Joining, &facts));
        Self { clock, lifecycle: watch::Sender::new(Lifecycle::Joining), facts: RefCell::new(facts), status }
    }

    /// The status; it ends with the instance.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The lifecycle; it ends with the instance.
    #[must_use]
    pub fn lifecycle(&self) -> watch::Receiver<Lifecycle> {
        self.lifecycle.subscribe()
    }

    /// What an election is to tell of its progress.
    #[must_use]
    pub fn observer(self: &Rc<Self>) -> Observer
    where
        C: 'static,
    {
        let instance = Rc::clone(self);
        Rc::new(move |progress| instance.on(&progress))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lifecycle.borrow().is_stopping()
    }

    /// The election loop turns.
    pub(super) fn beat(&self) {
        self.publish(|_, _| {});
    }

    /// The program ends; no other term follows.
    pub(super) fn ending(&self) {
        self.publish(|_, facts| facts.ending = true);
    }

    /// A shutdown request: the command stops, and no other term follows.
    pub(super) fn shut_down(&self) {
        self.publish(|lifecycle, facts| {
            facts.ending = true;
            if let Lifecycle::Leading(leading) = lifecycle {
                *leading = leading.clone().stopping();
            }
        });
    }

    fn on(&self, progress: &Progress) {
        let now = self.clock.now();
        self.publish(|lifecycle, facts| {
            *lifecycle = std::mem::replace(lifecycle, Lifecycle::Joining).after(progress, now);
            facts.note(progress);
        });
    }

    /// Changes the state, and publishes what follows from it. An instance that does so is alive.
    fn publish(&self, change: impl FnOnce(&mut Lifecycle, &mut Facts)) {
        let mut facts = self.facts.borrow_mut();
        self.lifecycle.send_modify(|lifecycle| change(lifecycle, &mut facts));
        facts.beat = Some(self.clock.now());
        self.status.send_replace(status_of(&self.lifecycle.borrow(), &facts));
    }
}

/// Derives the status. Nothing decides by it: it is shown.
fn status_of(lifecycle: &Lifecycle, facts: &Facts) -> Status {
    let leading = match lifecycle {
        Lifecycle::Leading(leading) => Some(leading),
        _ => None,
    };
    let phase = match lifecycle {
        Lifecycle::Joining => Phase::Joining,
        Lifecycle::Waiting { number, behind } => Phase::Waiting { number: *number, behind: behind.clone() },
        Lifecycle::Evicting | Lifecycle::Leading(Leadership { command: Command::Starting, .. }) => Phase::Elected,
        Lifecycle::Leading(Leadership { command: Command::Running, .. }) => Phase::Running,
        Lifecycle::Leading(_) => Phase::Stopping,
        Lifecycle::Released => Phase::Released,
    };
    Status {
        phase,
        leader: facts.leader.clone(),
        token: leading.map(|leading| leading.token),
        ttl: facts.ttl,
        renewed_at: facts.renewed_at,
        deadlines: leading.and_then(|leading| leading.deadlines),
        elected_at: leading.map(|leading| leading.since),
        beat: facts.beat,
        ending: facts.ending,
        started: facts.started,
        exited: leading.is_some_and(|leading| leading.command == Command::Exited),
        counters: facts.counters,
        lock: facts.lock.clone(),
        identity: facts.identity.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    fn after(state: Lifecycle, progress: &[Progress]) -> Lifecycle {
        progress.iter().fold(state, |state, progress| state.after(progress, at(9)))
    }

    #[test]
    fn a_term_from_its_start_to_its_release() {
        let deadlines = Deadlines { stop_at: at(20), kill_at: at(24) };
        let state = after(Lifecycle::Joining, &[Progress::Evicting]);
        assert!(!state.is_settled());
        let state = after(state, &[Progress::Elected { token: 7 }]);
        assert!(!state.is_settled() && !state.is_stopping());
        let state = after(state, &[Progress::Started, Progress::Fed(deadlines)]);
        assert!(state.is_settled() && !state.is_stopping());
        let running = Leadership { token: 7, since: at(9), deadlines: Some(deadlines), command: Command::Running };
        assert_eq!(state, Lifecycle::Leading(running));
        let state = after(state, &[Progress::Ended { again: false }]);
        assert!(state.is_stopping());
        let state = after(state, &[Progress::Exited, Progress::Lost]);
        let exited = Leadership { token: 7, since: at(9), deadlines: None, command: Command::Exited };
        assert_eq!(state, Lifecycle::Leading(exited));
        assert_eq!(after(state, &[Progress::Released]), Lifecycle::Released);
    }

    #[test]
    fn a_command_that_was_asked_to_stop_first_does_not_run_again() {
        let state = after(Lifecycle::Joining, &[Progress::Elected { token: 7 }, Progress::Lost, Progress::Started]);
        assert!(state.is_stopping());
    }

    #[test]
    fn what_belongs_to_a_term_changes_nothing_without_one() {
        let waiting = Lifecycle::Waiting { number: 1, behind: None };
        let late = [Progress::Started, Progress::Lost, Progress::Exited, Progress::RenewalLate];
        assert_eq!(after(waiting.clone(), &late), waiting);
    }
}
