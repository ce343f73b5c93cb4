//! What the gatekeeper and the guard say to each other, and how a command ends.

use crate::core::{names::LeaseId, timing::Deadlines};

/// What the gatekeeper tells the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The lease to give back if the gatekeeper dies; `None` once it has been given back.
    Lease(Option<LeaseId>),
    /// Start the command, with its first deadlines.
    Start {
        /// Until when the command may run unless fed.
        deadlines: Deadlines,
        /// The fencing token: the mod revision of the holder key.
        token: i64,
        /// The lease that holds the lock, for the command's environment.
        lease: LeaseId,
    },
    /// A renewal was confirmed: the deadlines move, never backwards.
    Feed(Deadlines),
    /// Forward a signal to the command. SIGTERM, and the stop signal itself, begin a stop.
    Signal(i32),
    /// Stop: the stop signal now, SIGKILL after the stop grace or at `kill_at`, whichever is first.
    Stop,
    /// Nothing is left to guard: end.
    Dismiss,
}

/// What the guard tells the gatekeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The command runs, under this process id.
    Started(i32),
    /// The deadlines that the switch holds now, after a start or a feed.
    Fed(Deadlines),
    /// The switch acted by itself: the command gets the stop signal or SIGKILL for this reason.
    Ending(Reason),
    /// The command's main process ended; what it left behind is being ended.
    Ended(CommandEnd),
    /// The whole tree is gone: no process of the command is left.
    Gone(CommandEnd),
    /// The guard itself is gone, and the gatekeeper has ended what was left of the tree.
    GuardLost,
}

/// Why the guard ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The renew deadline passed without a feed.
    RenewDeadline,
    /// The kill deadline passed without a feed.
    KillDeadline,
    /// The stop grace passed and processes were left.
    StopGrace,
    /// The gatekeeper is gone.
    GatekeeperGone,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Signalled(u8),
    /// It was not started: the file was not found.
    NotFound,
    /// It was not started: the file cannot be executed.
    NotExecutable,
    /// It was not started: its deadlines had passed already, or the machine has no room for another process.
    NotStarted,
}

impl std::fmt::Display for CommandEnd {
    /// What happened to "the command".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Self::NotFound => f.write_str("was not found"),
            Self::NotExecutable => f.write_str("cannot be executed"),
            Self::NotStarted => f.write_str("could not be started"),
        }
    }
}

/// The guard as the gatekeeper sees it.
pub trait Guard {
    /// Sends an order. An order to a guard that is gone is dropped: [`Report::GuardLost`] tells.
    fn order(&self, order: Order);

    /// The next report. Can be dropped and called again without losing one.
    fn report(&self) -> impl Future<Output = Report>;
}
