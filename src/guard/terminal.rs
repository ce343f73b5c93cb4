//! Puts the command into the foreground of the terminal, so that it can read, and Ctrl-C reaches it.

use std::io::stdin;

use nix::unistd::{Pid, getpgrp, isatty, tcgetpgrp, tcsetpgrp};

/// The terminal on stdin, if there is one, and the process group that a shell put into its foreground.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    home: Pid,
}

impl Terminal {
    /// Keeps the process group of this process.
    pub(super) fn of_this_group() -> Self {
        Self { home: getpgrp() }
    }

    /// Returns whether the process group of this program is in the foreground.
    pub(super) fn is_ours(self) -> bool {
        isatty(stdin()).unwrap_or(false) && tcgetpgrp(stdin()) == Ok(self.home)
    }

    /// Puts `group` into the foreground. SIGTTOU must be blocked. Async-signal-safe.
    pub(super) fn give_to(group: Pid) {
        // SAFETY: stdin is borrowed for this call only; if it is closed the call fails.
        let stdin = unsafe { std::os::fd::BorrowedFd::borrow_raw(0) };
        let _ = tcsetpgrp(stdin, group);
    }

    /// Takes the foreground back from `group`, unless another group is in the foreground.
    pub(super) fn take_back_from(self, group: Pid) {
        if tcgetpgrp(stdin()) == Ok(group) {
            Self::give_to(self.home);
        }
    }
}
