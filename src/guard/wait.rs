//! What became of the children, as the kernel tells it.
//!
//! Not by the `nix` crate: it reaps a child that a real-time signal ended and then reports an error, which here would
//! read as "no children are left".

use nix::{errno::Errno, libc, unistd::Pid};

use super::protocol::CommandEnd;

/// The answer of `waitpid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// A child ended and has been reaped.
    Ended(Pid, CommandEnd),
    /// A child was stopped by this signal.
    Stopped(Pid, i32),
    /// There are children, and nothing to say about them.
    Nothing,
    /// There are none.
    NoChildren,
}

/// Reaps one child, or `child`, if it has ended. Does not wait.
pub(super) fn reap(child: Option<Pid>) -> Waited {
    let mut status = 0;
    loop {
        // SAFETY: `status` is written for this call only.
        let answer =
            unsafe { libc::waitpid(child.map_or(-1, Pid::as_raw), &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
        return match (answer, Errno::last()) {
            (0, _) => Waited::Nothing,
            (-1, Errno::ECHILD) => Waited::NoChildren,
            (-1, _) => continue,
            (pid, _) if libc::WIFEXITED(status) => {
                Waited::Ended(Pid::from_raw(pid), CommandEnd::Exited(libc::WEXITSTATUS(status) as u8))
            }
            (pid, _) if libc::WIFSIGNALED(status) => {
                Waited::Ended(Pid::from_raw(pid), CommandEnd::Signalled(libc::WTERMSIG(status) as u8))
            }
            (pid, _) => Waited::Stopped(Pid::from_raw(pid), libc::WSTOPSIG(status)),
        };
    }
}

/// A child that has ended, left as it is.
pub(super) fn peek() -> Option<Pid> {
    look(libc::P_ALL, 0).ok().flatten()
}

/// Whether there are children, ended or not.
pub(super) fn has_children() -> bool {
    look(libc::P_ALL, 0) != Err(Errno::ECHILD)
}

/// Whether this is a child that [`reap`] would tell of. The log writer is not (see there).
pub(super) fn is_child(pid: i32) -> bool {
    look(libc::P_PID, pid.cast_unsigned()) != Err(Errno::ECHILD)
}

/// A child that has ended, if any, or that there are none at all: of all, or of one.
fn look(which: libc::idtype_t, id: libc::id_t) -> Result<Option<Pid>, Errno> {
    loop {
        // SAFETY: all zeros is a valid siginfo_t, and means that no child has ended.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is written for this call only, and holds a child's details afterwards, or zeros.
        let (answer, pid) = unsafe { (libc::waitid(which, id, &raw mut info, flags), info.si_pid()) };
        match (answer, Errno::last()) {
            (0, _) => return Ok((pid != 0).then(|| Pid::from_raw(pid))),
            (_, Errno::EINTR) => {}
            (_, errno) => return Err(errno),
        }
    }
}
