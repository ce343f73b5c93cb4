//! How many faults, and other events that need not happen, a run may have: of each kind, and in all.

/// A kind of fault or event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A gatekeeper is killed.
    CrashGatekeeper,
    /// A guard is killed.
    CrashGuard,
    /// A gatekeeper freezes for any time.
    FreezeGatekeeper,
    /// A guard freezes for any time.
    FreezeGuard,
    /// A request, an answer or a watch is delayed for any time.
    Delay,
    /// A request or its answer is lost.
    Lose,
    /// A watch breaks.
    Break,
    /// A transaction is applied twice.
    Twice,
    /// A request is applied although it was cancelled or its sender has died.
    Late,
    /// An instance is cut off from etcd for any time.
    Cut,
    /// A serializable read shows an earlier state.
    Stale,
    /// A command or a hook does not react to SIGTERM, and a hook hangs.
    Stubborn,
    /// A command exits by itself, or a hook fails.
    Exit,
    /// An instance receives SIGTERM.
    Terminate,
    /// An operator makes a handover request for a standby.
    Resign,
    /// An operator pauses the lock. The pause ends at any time, by its lease or by hand.
    Pause,
    /// Somebody writes a handover request that does not count.
    Stray,
    /// An instance that has ended is started again.
    Restart,
    /// The Go tool takes the free lock.
    Go,
    /// The Go tool deletes the holder key, and takes the lock.
    GoForce,
    /// Another etcd client joins the queue.
    Foreign,
    /// The check of a running command begins to fail.
    Sick,
    /// A host is not eligible any more.
    Ineligible,
}

impl Kind {
    pub(crate) const ALL: [Self; 23] = [
        Self::CrashGatekeeper,
        Self::CrashGuard,
        Self::FreezeGatekeeper,
        Self::FreezeGuard,
        Self::Delay,
        Self::Lose,
        Self::Break,
        Self::Twice,
        Self::Late,
        Self::Cut,
        Self::Stale,
        Self::Stubborn,
        Self::Exit,
        Self::Terminate,
        Self::Resign,
        Self::Pause,
        Self::Stray,
        Self::Restart,
        Self::Go,
        Self::GoForce,
        Self::Foreign,
        Self::Sick,
        Self::Ineligible,
    ];
}

/// What is left of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    total: u8,
    of: [u8; Kind::ALL.len()],
}

impl Budget {
    /// Returns a budget of so many faults, each of any of these kinds.
    pub(crate) fn of(total: u8, kinds: &[Kind]) -> Self {
        let mut budget = Self { total, of: [0; Kind::ALL.len()] };
        kinds.iter().for_each(|kind| budget.of[*kind as usize] = total);
        budget
    }

    /// Allows only these kinds.
    pub(crate) fn only(mut self, kinds: &[Kind]) -> Self {
        for kind in Kind::ALL.into_iter().filter(|kind| !kinds.contains(kind)) {
            self.of[kind as usize] = 0;
        }
        self
    }

    /// Limits the faults of one kind.
    pub(crate) fn at_most(mut self, kind: Kind, limit: u8) -> Self {
        self.of[kind as usize] = self.of[kind as usize].min(limit);
        self
    }

    pub(crate) const fn has(&self, kind: Kind) -> bool {
        self.of[kind as usize] > 0
    }

    pub(crate) fn spend(&mut self, kind: Kind) {
        self.total -= 1;
        self.of[kind as usize] -= 1;
        self.of.iter_mut().for_each(|left| *left = (*left).min(self.total));
    }
}
