//! The lifecycle of this instance: the state that the status is derived from.

use tokio::sync::watch;

use crate::{
    core::{
        clock::{Clock, Instant},
        timing::Deadlines,
    },
    election::progress::Progress,
    settings::ElectionConfig,
    status::{Phase, Status},
};

/// The state of this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It is not in the queue: connecting, or joining again.
    Joining,
    /// It is a standby.
    Waiting {
        /// The number in the queue; the first standby is number 1.
        number: usize,
        /// The identity just ahead of it in the queue, if there is one.
        behind: Option<String>,
    },
    /// It holds the lock, and waits until the lease of an evicted holder has expired.
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
    /// The deadlines that the guard confirmed; `None` before that, and when the process tree has exited.
    deadlines: Option<Deadlines>,
    command: Command,
}

/// What the checks ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Whether this host may lead.
    Host,
    /// Whether the command of the term with this token works.
    Command(i64),
}

/// The state of the command of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Starting,
    Running,
    Stopping,
    /// The process tree has exited.
    Exited,
}

impl Lifecycle {
    /// Returns whether it neither joins nor starts a command, so that work which is not urgent delays neither.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        !matches!(self, Self::Joining | Self::Evicting | Self::Leading(Leadership { command: Command::Starting, .. }))
    }

    /// Returns what the checks ask about; `None` while the command starts or stops.
    pub(super) const fn subject(&self) -> Option<Subject> {
        match self {
            Self::Joining | Self::Waiting { .. } | Self::Released => Some(Subject::Host),
            Self::Leading(Leadership { command: Command::Running, token, .. }) => Some(Subject::Command(*token)),
            Self::Evicting | Self::Leading(_) => None,
        }
    }

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
            // Only from here: it may have been stopped before it was running.
            (Progress::Started, Command::Starting) => Self { command: Command::Running, ..self },
            (Progress::Fed(deadlines), _) => Self { deadlines: Some(*deadlines), ..self },
            (Progress::Exited, _) => Self { deadlines: None, command: Command::Exited, ..self },
            (Progress::Lost | Progress::Ended { .. } | Progress::Ending, _) => self.stopping(),
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

/// Records the parts of the status that do not depend on the state.
fn record(status: &mut Status, progress: &Progress, now: Instant) {
    match progress {
        Progress::Renewed { sent, ttl } => {
            status.ttl = *ttl;
            status.renewed_at = Some(*sent);
        }
        Progress::RenewalConfirmed { sent } => {
            // A renewal beside a handover request may be confirmed later than the next one.
            status.renewed_at = status.renewed_at.max(Some(*sent));
            status.counters.renewals.add(now.saturating_since(*sent));
        }
        Progress::RenewalLate => status.counters.late_renewals += 1,
        Progress::LeaderSeen(leader) => {
            if status.leader_since.is_none() || status.leader != *leader {
                status.leader.clone_from(leader);
                status.leader_since = Some(now);
            }
        }
        Progress::Paused(pause) => status.pause.clone_from(pause),
        Progress::Elected { .. } => {
            status.counters.elections += 1;
            (status.command_healthy, status.stranded) = (None, false);
        }
        Progress::Started => status.started = true,
        Progress::Lost => status.counters.losses += 1,
        Progress::Ended { again } => status.ending |= !again,
        Progress::Ending => status.ending = true,
        Progress::Released => {
            // It may have been this instance. The next read shows the present leader.
            status.leader = None;
            status.leader_since = None;
            status.renewed_at = None;
        }
        Progress::Healthy(healthy) => (status.command_healthy, status.stranded) = (Some(*healthy), false),
        Progress::Stranded => status.stranded = true,
        Progress::Eligible(eligible) => status.eligible = Some(*eligible),
        Progress::StaysOut(pause) => {
            status.stays_out = Some(*pause);
            status.counters.sick_terms += 1;
        }
        Progress::Joining => status.stays_out = None,
        Progress::Waiting { .. } | Progress::Evicting | Progress::Fed(_) | Progress::Exited => {}
    }
}

/// This instance: its lifecycle, and the status, which is published with every change.
#[derive(Debug)]
pub struct Instance<C> {
    clock: C,
    lifecycle: watch::Sender<Lifecycle>,
    status: watch::Sender<Status>,
}

impl<C: Clock> Instance<C> {
    /// Creates an instance that has not joined yet.
    #[must_use]
    pub fn new(config: &ElectionConfig, clock: C) -> Self {
        let status = Status {
            priority: config.priority,
            ..Status::new(config.lock.to_string(), config.identity.clone(), config.timing.lease())
        };
        Self { clock, lifecycle: watch::Sender::new(Lifecycle::Joining), status: watch::Sender::new(status) }
    }

    /// Returns the status; the channel closes when the instance is dropped.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Returns the lifecycle; the channel closes when the instance is dropped.
    #[must_use]
    pub fn lifecycle(&self) -> watch::Receiver<Lifecycle> {
        self.lifecycle.subscribe()
    }

    /// Records that the election still makes progress.
    pub(super) fn record_heartbeat(&self) {
        self.publish(|_, _, _| {});
    }

    /// Records a change.
    pub(super) fn on(&self, progress: &Progress) {
        self.publish(|lifecycle, status, now| {
            *lifecycle = std::mem::replace(lifecycle, Lifecycle::Joining).after(progress, now);
            record(status, progress, now);
        });
    }

    /// Changes the state and publishes the status, which counts as a heartbeat.
    fn publish(&self, change: impl FnOnce(&mut Lifecycle, &mut Status, Instant)) {
        let now = self.clock.now();
        self.status.send_modify(|status| {
            self.lifecycle.send_modify(|lifecycle| change(lifecycle, status, now));
            derive(status, &self.lifecycle.borrow());
            status.beat = Some(now);
        });
    }
}

/// Derives the parts of the status that depend on the state. They are for display only; decisions depend on the lifecycle.
fn derive(status: &mut Status, lifecycle: &Lifecycle) {
    let leading = match lifecycle {
        Lifecycle::Leading(leading) => Some(leading),
        _ => None,
    };
    status.phase = match lifecycle {
        Lifecycle::Joining => Phase::Joining,
        Lifecycle::Waiting { number, behind } => Phase::Waiting { number: *number, behind: behind.clone() },
        Lifecycle::Evicting | Lifecycle::Leading(Leadership { command: Command::Starting, .. }) => Phase::Elected,
        Lifecycle::Leading(Leadership { command: Command::Running, .. }) => Phase::Running,
        Lifecycle::Leading(_) => Phase::Stopping,
        Lifecycle::Released => Phase::Released,
    };
    status.token = leading.map(|leading| leading.token);
    status.deadlines = leading.and_then(|leading| leading.deadlines);
    status.elected_at = leading.map(|leading| leading.since);
    if leading.is_none() {
        (status.command_healthy, status.stranded) = (None, false);
    }
    status.exited = leading.is_some_and(|leading| leading.command == Command::Exited);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    fn is_stopping(state: &Lifecycle) -> bool {
        matches!(state, Lifecycle::Leading(Leadership { command: Command::Stopping | Command::Exited, .. }))
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
        assert!(!state.is_settled() && !is_stopping(&state));
        let state = after(state, &[Progress::Started, Progress::Fed(deadlines)]);
        assert!(state.is_settled() && !is_stopping(&state));
        let running = Leadership { token: 7, since: at(9), deadlines: Some(deadlines), command: Command::Running };
        assert_eq!(state, Lifecycle::Leading(running));
        let state = after(state, &[Progress::Ended { again: false }]);
        assert!(is_stopping(&state));
        let state = after(state, &[Progress::Exited, Progress::Lost]);
        let exited = Leadership { token: 7, since: at(9), deadlines: None, command: Command::Exited };
        assert_eq!(state, Lifecycle::Leading(exited));
        assert_eq!(after(state, &[Progress::Released]), Lifecycle::Released);
    }

    #[test]
    fn the_leader_is_recorded_with_the_instant_at_which_it_was_first_seen() {
        let mut status = Status::new("db".into(), "me".into(), Duration::from_secs(15));
        let mut seen = |progress: Progress, seconds| {
            record(&mut status, &progress, at(seconds));
            (status.leader.clone(), status.leader_since)
        };
        let leader = |identity: &str| Progress::LeaderSeen(Some(identity.into()));
        assert_eq!(seen(Progress::Joining, 1), (None, None));
        assert_eq!(seen(Progress::LeaderSeen(None), 2), (None, Some(at(2))));
        assert_eq!(seen(leader("a"), 3), (Some("a".into()), Some(at(3))));
        assert_eq!(seen(leader("a"), 4), (Some("a".into()), Some(at(3))));
        assert_eq!(seen(leader("b"), 5), (Some("b".into()), Some(at(5))));
        assert_eq!(seen(Progress::LeaderSeen(None), 6), (None, Some(at(6))));
        assert_eq!(seen(Progress::Released, 7), (None, None));
    }

    #[test]
    fn a_renewal_takes_from_its_request_to_its_confirmation() {
        let mut status = Status::new("db".into(), "me".into(), Duration::from_secs(15));
        record(&mut status, &Progress::RenewalConfirmed { sent: at(3) }, at(5));
        assert_eq!((status.counters.renewals.count(), status.counters.renewals.sum()), (1, 2.0));
    }

    #[test]
    fn a_command_that_is_stopped_before_it_runs_counts_as_stopping() {
        let state = after(Lifecycle::Joining, &[Progress::Elected { token: 7 }, Progress::Lost, Progress::Started]);
        assert!(is_stopping(&state));
    }

    #[test]
    fn progress_of_a_term_changes_nothing_outside_of_a_term() {
        let waiting = Lifecycle::Waiting { number: 1, behind: None };
        let late = [Progress::Started, Progress::Lost, Progress::Exited, Progress::RenewalLate];
        assert_eq!(after(waiting.clone(), &late), waiting);
    }
}
