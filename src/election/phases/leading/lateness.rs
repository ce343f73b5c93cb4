//! Whether the renewals of a leader are late.

use std::time::Duration;

use crate::core::{clock::Instant, timing::show};
use crate::election::{
    context::{Context, Shift},
    progress::Progress,
};

/// Logs when renewals begin to be late, and when they are in time again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lateness {
    /// When the latest renewal with an answer was sent.
    last: Instant,
    /// When the next one is late; `None` after that was reported.
    late_at: Option<Instant>,
    /// The longest time without a renewal since renewals began to be slow; `None` if they are not slow.
    slowest: Option<Duration>,
}

impl Lateness {
    pub(super) fn new(last: Instant, retry: Duration) -> Self {
        Self { last, late_at: Some(last + 2 * retry), slowest: None }
    }

    pub(super) fn answered(&mut self, sent: Instant, context: &Context<'_>) {
        let gap = context.now.saturating_since(self.last);
        let was_late = self.late_at.is_none();
        *self = Self { slowest: self.slowest, ..Self::new(sent, context.shared.config.timing.retry_period()) };
        if was_late {
            self.slowest = self.slowest.max(Some(gap));
        } else if let Some(slowest) = self.slowest.take() {
            let deadline = show(context.shared.config.timing.renew_deadline());
            tracing::info!("renewals are confirmed in time again; the longest gap was {slowest:.1?} of {deadline}");
        }
    }

    pub(super) fn woken(&mut self, context: &mut Context<'_>) {
        if self.late_at.take_if(|due| context.now >= *due).is_none() {
            return;
        }
        let retry = context.shared.config.timing.retry_period();
        context.report(Progress::RenewalLate);
        if self.slowest.is_none() {
            self.slowest = Some(Duration::ZERO);
            tracing::warn!("renewals are slow: none was confirmed within {} after it was due", show(retry));
        }
    }

    pub(super) const fn next_wake(&self) -> Option<Instant> {
        self.late_at
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        shift.instant(&mut self.last);
        self.late_at.iter_mut().for_each(|due| shift.instant(due));
    }
}
