//! The messages between gatekeeper and guard, and how a command ends.

use crate::core::{names::LeaseId, timing::Deadlines};

/// A message from the gatekeeper to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The lease to revoke if the gatekeeper dies; `None` once it has been revoked or does not hold the lock any more. Without a lease
    /// no further program of the term starts.
    Lease(Option<LeaseId>),
    /// The etcd cluster that has this lease.
    Cluster(u64),
    /// Start the command, with its first deadlines.
    Start {
        /// When the command is stopped and killed unless the guard is fed.
        deadlines: Deadlines,
        /// The fencing token: the mod revision of the holder key.
        token: i64,
        /// The lease that holds the lock, for the command's environment.
        lease: LeaseId,
    },
    /// A renewal was confirmed: move the deadlines, but never to an earlier time.
    Feed(Deadlines),
    /// Forward a signal to the command. SIGTERM and the stop signal begin a stop.
    Signal(i32),
    /// Send the stop signal now, and SIGKILL after the stop grace or at `kill_at`, whichever comes first.
    Stop,
    /// Stop the command, if it runs, and exit.
    Dismiss,
}

/// The programs that the guard runs in a term, one after the other: each starts when the process tree of the one before has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// The hook before the command.
    OnElected,
    /// The command.
    Command,
    /// The hook after the command.
    OnStopped,
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OnElected => "ON_ELECTED",
            Self::Command => "the command",
            Self::OnStopped => "ON_STOPPED",
        })
    }
}

/// A message from the guard to the gatekeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// This program is about to be started. Not sent for a command without [`Program::OnElected`].
    Starting(Program),
    /// The command runs with this process id.
    Started(i32),
    /// The present deadlines, after a start or a feed.
    Fed(Deadlines),
    /// The guard has sent the stop signal or SIGKILL for this reason, without an order.
    Ending(Reason),
    /// The main process of the command has ended, or the command is not started. The rest of the process tree is being stopped.
    Ended(CommandEnd),
    /// The process trees of all programs of the term have exited, and no other program follows.
    TreeExited(CommandEnd),
    /// The guard was lost, and the gatekeeper has ended the process tree.
    GuardLost,
}

/// Why the guard ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The renew deadline passed without a feed.
    RenewDeadline,
    /// The kill deadline passed without a feed.
    KillDeadline,
    /// The stop grace passed before the process tree had exited.
    StopGrace,
    /// The time for [`Program::OnStopped`] passed before its process tree had exited.
    OnStoppedLimit,
    /// The gatekeeper has died.
    GatekeeperGone,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandEnd {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
    /// It was not started: the file was not found.
    NotFound,
    /// It was not started: the file cannot be executed.
    NotExecutable,
    /// It was not started: its deadlines had already passed, a stop began before, or a limit of the system prevented the fork.
    NotStarted,
    /// It was not started: [`Program::OnElected`] failed.
    OnElectedFailed,
}

impl CommandEnd {
    /// Returns whether the command did not run, for a reason that may have passed by the next term.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::NotStarted | Self::OnElectedFailed)
    }
}

impl std::fmt::Display for CommandEnd {
    /// Writes the predicate of a sentence about the command.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Signaled(signal) => write!(f, "was ended by signal {signal}"),
            Self::NotFound => f.write_str("was not found"),
            Self::NotExecutable => f.write_str("cannot be executed"),
            Self::NotStarted => f.write_str("could not be started"),
            Self::OnElectedFailed => f.write_str("was not started, as ON_ELECTED failed"),
        }
    }
}

/// The guard from the point of view of the gatekeeper.
pub trait Guard {
    /// Sends an order. If the guard is lost, the order is dropped, and [`Report::GuardLost`] follows.
    fn order(&self, order: Order);

    /// Waits for the next report. The future can be dropped without losing a report.
    fn report(&self) -> impl Future<Output = Report>;
}
