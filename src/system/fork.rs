//! Forks a process that is not part of the process tree of the command.

use std::io;

use nix::{
    errno::Errno,
    libc,
    unistd::{ForkResult, Pid},
};

/// Forks a child without an exit signal, so that `waitpid` does not report it (`__WCLONE`, `wait(2)`).
///
/// # Errors
/// If a limit of the system prevents another process.
///
/// # Safety
/// There must be no other thread, as it could hold a lock at this moment. The child must end by `_exit`.
pub unsafe fn fork_unreported() -> io::Result<ForkResult> {
    let none: libc::c_long = 0;
    // SAFETY: without flags this is `fork` without an exit signal; the caller guarantees the rest.
    match Errno::result(unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) })? {
        0 => Ok(ForkResult::Child),
        child => i32::try_from(child)
            .map(|child| ForkResult::Parent { child: Pid::from_raw(child) })
            .map_err(io::Error::other),
    }
}
