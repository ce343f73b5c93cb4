//! The guard: a dead man's switch that runs as its own process, between the gatekeeper and the command.
//!
//! It starts, stops and reaps the command. If the gatekeeper does not feed it in time, it ends the process tree by itself.
//! It receives [`Order`]s and sends [`Report`]s, and [`switch`] decides.
//!
//! ```text
//! gatekeeper                       guard                                    command
//! handle  ── Order ──▶  wire ──▶  switch ──▶ process ──▶ spawn, tree  ──▶  main process and its descendants
//!         ◀── Report ──           (decides)  (waits, reaps, acts)
//! ```
//!
//! [`checker`] is another process, which runs check commands in a process tree of its own.
//!
//! Both processes are subreapers, so if one dies, the descendants belong to the other, which ends them: the guard when its
//! socket is closed ([`wire`]), the gatekeeper when the guard is lost ([`handle`]).

pub mod checker;
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
    protocol::{CommandEnd, Guard, Order, Program, Reason, Report},
    release::{Awaited, Revoke},
    spawn::{exec, not_executed, resolve},
};
use self::{
    process::Equipment,
    signals::Original,
    switch::{Hooks, Switch},
};
use crate::{core::names::LockName, log::Style};

/// The settings of the guard, which are the same in all terms.
pub struct GuardSetup {
    /// The command.
    pub command: Executable,
    /// The hook before the command.
    pub on_elected: Option<Executable>,
    /// The hook after the command.
    pub on_stopped: Option<Executable>,
    /// The lock, for the command's environment.
    pub lock: LockName,
    /// The signal that asks the command to stop.
    pub stop_signal: i32,
    /// How long the command may take to stop before it is killed.
    pub stop_grace: Duration,
    /// The signal mask and dispositions to give to the command.
    pub original: Original,
    /// The format of the log lines of the guard.
    pub log: Style,
    /// The command's stderr, if it is not that of this process.
    pub stderr: Option<OwnedFd>,
    /// Revokes the lease when the gatekeeper has died.
    pub revoke: Revoke,
}

/// A program to execute.
#[derive(Clone, Debug)]
pub struct Executable {
    /// The file to execute, as [`resolve`] found it.
    pub file: PathBuf,
    /// The program and its arguments as they were given. The first element becomes `argv[0]`.
    pub words: Vec<OsString>,
}

/// Forks the guard. Must be called before the runtime or any thread exists. The signals of this thread are blocked
/// afterwards.
///
/// # Errors
/// If `/proc` does not show the processes of this PID namespace, a limit of the system prevents the fork, or the command or the
/// lock name contains a NUL byte.
pub fn start(setup: GuardSetup) -> io::Result<Guarded> {
    tree::check_proc()?;
    let (ours, theirs) = wire::pair()?;
    let hooks = Hooks { on_elected: setup.on_elected.is_some(), on_stopped: setup.on_stopped.is_some() };
    let equipment = Equipment {
        switch: Switch::new(setup.stop_signal, setup.stop_grace, hooks),
        programs: spawn::Programs::new(
            setup.command,
            [setup.on_elected, setup.on_stopped],
            setup.lock.to_string(),
            setup.original,
            setup.stderr,
        )?,
        release: release::Release::new(setup.revoke),
        terminal: terminal::Terminal::of_this_group(),
        log: setup.log,
    };
    let cgroup = cgroup::Cgroup::of_command();
    // If the guard is lost, its descendants must become children of this process. It can be lost right after the fork.
    prctl::set_child_subreaper(true)?;
    signals::block();
    // SAFETY: there is no other thread that could hold a lock at this moment.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // The guard does this, too. Until then a signal to the whole process group would reach it.
            let _ = setpgid(child, child);
            Ok(Guarded { pid: child, socket: ours, cgroup })
        }
        ForkResult::Child => {
            // Otherwise the guard would hold the gatekeeper's end open and never see it closed.
            drop(ours);
            process::run(equipment, theirs, cgroup)
        }
    }
}
