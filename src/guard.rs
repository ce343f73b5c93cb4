//! The guard: the dead man's switch, a process of its own between the gatekeeper and the command.
//!
//! It starts, stops and reaps the command, and it ends the command's whole tree by itself when nobody feeds it. Nothing
//! else can end or prolong a term: [`Order`]s come in, [`Report`]s go out, and [`switch`] decides.
//!
//! ```text
//! gatekeeper                       guard                                    command
//! handle  ── Order ──▶  feed ──▶  switch ──▶ process ──▶ spawn, tree  ──▶  main process, and all it forks
//!         ◀── Report ──           (decides)  (waits, reaps, acts)
//! ```
//!
//! Whichever of the two processes dies, the other one still owns every descendant: both are subreapers, the guard ends
//! the tree when the line breaks ([`feed`]), and so does the gatekeeper when the guard is lost ([`handle`]).

pub mod feed;
pub mod handle;
pub mod signals;
pub mod switch;

mod cgroup;
mod farewell;
mod process;
mod spawn;
mod terminal;
mod tree;
mod wait;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use nix::{
    sys::prctl,
    unistd::{ForkResult, fork, setpgid},
};

pub use self::{
    handle::{Guarded, Handle, Reaper},
    spawn::{exec, exit_of, resolve},
};
use self::{process::Equipment, signals::Original, switch::Switch};
use crate::{
    core::{
        names::{LeaseId, LockName},
        timing::Deadlines,
    },
    log::Style,
};

/// What the guard has to know, once for all terms.
#[derive(Debug)]
pub struct GuardSetup {
    /// The file to execute, as [`resolve`] found it.
    pub program: PathBuf,
    /// The command as it was given: its first element is what the program finds as its own name.
    pub command: Vec<OsString>,
    /// The lock, for the command's environment.
    pub lock: LockName,
    /// The signal that asks the command to stop.
    pub stop_signal: i32,
    /// How long it may take then.
    pub stop_grace: Duration,
    /// The signal mask and dispositions to give to the command.
    pub original: Original,
    /// How the guard writes its few lines.
    pub log: Style,
    /// The command's stderr, if it is not that of this process.
    pub stderr: Option<OwnedFd>,
    /// What to run with `--release-lease=…` when the gatekeeper is gone; `None` for this program itself.
    pub release_program: Option<PathBuf>,
}

/// Forks the guard. To be called from `main` before the runtime or any thread exists; the signals of this thread are
/// blocked from then on, if they are not yet.
///
/// # Errors
/// If `/proc` does not show the processes of this PID namespace, the machine has no room for another process, or the command or
/// the lock contains a NUL.
pub fn start(setup: GuardSetup) -> io::Result<Guarded> {
    tree::check_proc()?;
    let (ours, theirs) = feed::pair()?;
    let equipment = Equipment {
        switch: Switch::new(setup.stop_signal, setup.stop_grace),
        command: spawn::Command::new(
            &setup.program,
            &setup.command,
            setup.lock.to_string(),
            setup.original,
            setup.stderr,
        )?,
        farewell: farewell::Farewell::new(setup.release_program, setup.original),
        terminal: terminal::Terminal::of_this_group(),
        log: setup.log,
    };
    let cgroup = cgroup::Cgroup::of_command();
    // If the guard is lost, all that it owned must fall to us. Before the fork: it could be lost right after it.
    prctl::set_child_subreaper(true)?;
    signals::block();
    // SAFETY: there is no other thread that could hold a lock in this moment.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // The guard does it as well, see there. Until then a signal to our whole group would reach it.
            let _ = setpgid(child, child);
            Ok(Guarded { pid: child, socket: ours, cgroup })
        }
        ForkResult::Child => {
            // Else the line would never break: this process would hold the gatekeeper's end.
            drop(ours);
            process::run(equipment, theirs, cgroup)
        }
    }
}

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
