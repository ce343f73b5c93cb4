//! Reaps children with `waitpid`.
//!
//! The `nix` crate is not used for this: when a real-time signal ended a child, it reaps the child and returns an error, which
//! would be mistaken for "there are no children".

use nix::{errno::Errno, libc, unistd::Pid};

use super::protocol::CommandEnd;

/// The result of `waitpid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// A child ended and has been reaped.
    Ended(Pid, CommandEnd),
    /// A child was stopped by this signal.
    Stopped(Pid, i32),
    /// There are children, but none has ended or stopped.
    Nothing,
    /// There are no children.
    NoChildren,
}

/// Reaps one child that has ended: `child`, or any. Does not wait.
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
                Waited::Ended(Pid::from_raw(pid), CommandEnd::Signaled(libc::WTERMSIG(status) as u8))
            }
            (pid, _) => Waited::Stopped(Pid::from_raw(pid), libc::WSTOPSIG(status)),
        };
    }
}

/// Returns a child that has ended, without reaping it.
pub(super) fn peek() -> Option<Pid> {
    look(libc::P_ALL, 0).ok().flatten()
}

/// Returns whether there are children, ended or not.
pub(super) fn has_children() -> bool {
    look(libc::P_ALL, 0) != Err(Errno::ECHILD)
}

/// Returns whether this is a child that [`reap`] reports. The log writer is not, as it was cloned with another signal.
pub(super) fn is_child(pid: i32) -> bool {
    look(libc::P_PID, pid.cast_unsigned()) != Err(Errno::ECHILD)
}

/// Returns a child that has ended, of all children or of one; ECHILD if there is no such child.
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
