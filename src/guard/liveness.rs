//! Decides when the gatekeeper takes over from a guard that does not answer. It reads no clock, so the model of the election uses
//! it, too.
//!
//! The guard kills the process tree at `kill_at` unless it was fed. A guard that has not reported later deadlines by then is
//! frozen or dead.

use super::protocol::{Order, Reason, Report};
use crate::core::{
    clock::{Instant, Shift},
    limits::{SILENT_GUARD, SILENT_GUARD_SLACK},
    timing::Deadlines,
};

/// The last reports of the guard about the running command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Liveness {
    term: Option<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Term {
    /// The kill deadline that the guard acknowledged last, or that of the start.
    kill_at: Instant,
    /// When the guard last reported that it is killing the process tree, if it is.
    killing: Option<Instant>,
    /// When this process noticed that it had been frozen past the deadline. Most likely the guard was frozen, too.
    thawed: Option<Instant>,
}

impl Term {
    fn due(&self) -> Instant {
        let deadline = self.thawed.map_or(self.kill_at, |thawed| self.kill_at.max(thawed)) + SILENT_GUARD_SLACK;
        self.killing.map_or(deadline, |heard| deadline.max(heard + SILENT_GUARD))
    }
}

impl Liveness {
    /// Notes an order that is sent to the guard.
    pub const fn ordered(&mut self, order: &Order) {
        if let Order::Start { deadlines, .. } = order {
            // The guard may start the command and be frozen before it reports that.
            self.term = Some(Term { kill_at: deadlines.kill_at, killing: None, thawed: None });
        }
    }

    /// Notes a report of the guard.
    pub fn heard(&mut self, report: &Report, now: Instant) {
        if let Report::TreeExited(_) = report {
            self.term = None;
        }
        let Some(term) = &mut self.term else { return };
        match report {
            Report::Fed(Deadlines { kill_at, .. }) => term.kill_at = *kill_at,
            Report::Ending(Reason::KillDeadline | Reason::StopGrace | Reason::OnStoppedLimit) => {
                term.killing = Some(now)
            }
            // The process tree that was killed has exited. The next one must be dead by the deadline.
            Report::Starting(_) => term.killing = None,
            _ => {}
        }
        if term.killing.is_some() {
            term.killing = Some(now);
        }
    }

    /// Returns when the guard is overdue unless another report comes; `None` if no command runs.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.term.map(|term| term.due())
    }

    /// Moves all instants. Decisions depend on their differences only.
    pub fn shift(&mut self, shift: Shift) {
        if let Some(Term { kill_at, killing, thawed }) = &mut self.term {
            [Some(kill_at), killing.as_mut(), thawed.as_mut()].into_iter().flatten().for_each(|at| shift.instant(at));
        }
    }

    /// Returns whether the gatekeeper must take over. All reports that have arrived must have been noted before.
    #[must_use]
    pub fn is_overdue(&mut self, now: Instant) -> bool {
        let Some(term) = &mut self.term else { return false };
        if now < term.due() {
            return false;
        }
        if term.thawed.is_none() && now >= term.due() + SILENT_GUARD_SLACK {
            // The timer of this process is late, so it was frozen. The guard may continue now and kill the process tree.
            term.thawed = Some(now);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        core::names::LeaseId,
        guard::{CommandEnd, protocol::Program},
    };

    fn at(milliseconds: u64) -> Instant {
        Instant::from_boot(Duration::from_millis(milliseconds))
    }

    fn started() -> Liveness {
        let mut liveness = Liveness::default();
        let deadlines = Deadlines { stop_at: at(10_000), kill_at: at(14_000) };
        liveness.ordered(&Order::Start { deadlines, token: 1, lease: LeaseId(1) });
        liveness
    }

    #[test]
    fn a_guard_is_overdue_after_its_last_deadline() {
        let mut liveness = started();
        assert!(!liveness.is_overdue(at(14_099)) && liveness.is_overdue(at(14_100)));
        liveness.heard(&Report::Fed(Deadlines { stop_at: at(12_000), kill_at: at(16_000) }), at(2_000));
        assert_eq!(liveness.due(), Some(at(16_100)));
        liveness.heard(&Report::TreeExited(CommandEnd::Exited(0)), at(3_000));
        assert!(liveness.due().is_none() && !liveness.is_overdue(at(99_000)));
    }

    #[test]
    fn a_guard_that_kills_has_three_beats() {
        let mut liveness = started();
        liveness.heard(&Report::Ending(Reason::KillDeadline), at(14_001));
        assert!(!liveness.is_overdue(at(17_000)) && liveness.is_overdue(at(17_001)));
        liveness.heard(&Report::Ending(Reason::StopGrace), at(17_000));
        assert_eq!(liveness.due(), Some(at(20_000)));
    }

    #[test]
    fn the_next_program_of_a_term_has_its_deadline_only() {
        let mut liveness = started();
        liveness.heard(&Report::Ending(Reason::StopGrace), at(13_000));
        assert_eq!(liveness.due(), Some(at(16_000)));
        liveness.heard(&Report::Starting(Program::OnStopped), at(13_500));
        assert_eq!(liveness.due(), Some(at(14_100)));
        liveness.heard(&Report::Ending(Reason::OnStoppedLimit), at(14_000));
        assert_eq!(liveness.due(), Some(at(17_000)));
    }

    #[test]
    fn a_gatekeeper_that_was_frozen_gives_the_guard_one_more_slack() {
        let mut liveness = started();
        assert!(
            !liveness.is_overdue(at(30_000)) && !liveness.is_overdue(at(30_099)) && liveness.is_overdue(at(30_100))
        );
    }
}
