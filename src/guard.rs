//! The guard: the dead man's switch, a process of its own between the gatekeeper and the command.
//!
//! It starts, stops and reaps the command, and it ends the command's whole tree by itself when nobody feeds it. Nothing
//! else can end or prolong a term: [`Order`]s come in, [`Report`]s go out, and [`switch`] decides.
//!
//! ```text
//! gatekeeper                       guard                                    command
//! handle  ── Order ──▶  wire ──▶  switch ──▶ process ──▶ spawn, tree  ──▶  main process, and all it forks
//!         ◀── Report ──           (decides)  (waits, reaps, acts)
//! ```
//!
//! Whichever of the two processes dies, the other one still owns every descendant: both are subreapers, the guard ends
//! the tree when the line breaks ([`wire`]), and so does the gatekeeper when the guard is lost ([`handle`]).

pub mod handle;
pub mod liveness;
mod protocol;
pub mod signals;
pub mod switch;
pub mod wire;

mod cgroup;
mod process;
mod release;
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
    protocol::{CommandEnd, Guard, Order, Reason, Report},
    spawn::{exec, not_executed, resolve},
};
use self::{process::Equipment, signals::Original, switch::Switch};
use crate::{core::names::LockName, log::Style};

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
    let (ours, theirs) = wire::pair()?;
    let equipment = Equipment {
        switch: Switch::new(setup.stop_signal, setup.stop_grace),
        command: spawn::Command::new(
            &setup.program,
            &setup.command,
            setup.lock.to_string(),
            setup.original,
            setup.stderr,
        )?,
        release: release::Release::new(setup.release_program, setup.original),
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
