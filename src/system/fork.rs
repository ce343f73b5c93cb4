//! Forks a process that is not part of the process tree of the command.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{errno::Errno, libc};

/// Forks a process that runs `child` and exits. It has no exit signal, so that `waitpid` does not report it (`__WCLONE`, `wait(2)`).
///
/// # Errors
/// If a limit of the system prevents another process.
///
/// # Safety
/// There must be no other thread, as it could hold a lock at this moment.
pub unsafe fn fork_unreported(child: impl FnOnce()) -> io::Result<()> {
    let none: libc::c_long = 0;
    // SAFETY: without flags this is `fork` without an exit signal; the caller guarantees the rest.
    if Errno::result(unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) })? > 0 {
        return Ok(());
    }
    // A panic must not unwind into the code of the parent, of which this process is a copy.
    let _ = catch_unwind(AssertUnwindSafe(child));
    // SAFETY: ends this process without running what the parent registered to run at its own exit.
    unsafe { libc::_exit(0) }
}
