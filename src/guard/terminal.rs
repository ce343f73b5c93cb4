//! The terminal's foreground: lent to the command, so that it reads and Ctrl-C reaches it as if we were not there.

use std::io::stdin;

use nix::unistd::{Pid, getpgrp, isatty, tcgetpgrp, tcsetpgrp};

/// The terminal on stdin, if there is one, and whose foreground it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    home: Pid,
}

impl Terminal {
    /// Remembers the process group that this process is in: the one a shell put into the foreground.
    pub(super) fn of_this_group() -> Self {
        Self { home: getpgrp() }
    }

    /// Whether our own group is in the foreground now, so that we may lend it.
    pub(super) fn is_ours(self) -> bool {
        isatty(stdin()).unwrap_or(false) && tcgetpgrp(stdin()) == Ok(self.home)
    }

    /// Puts `group` into the foreground. SIGTTOU must be blocked. Async-signal-safe.
    pub(super) fn give_to(group: Pid) {
        // SAFETY: stdin is borrowed for this call only; if it is closed the call fails.
        let stdin = unsafe { std::os::fd::BorrowedFd::borrow_raw(0) };
        let _ = tcsetpgrp(stdin, group);
    }

    /// Takes the foreground back from `group`, unless somebody else has it by now.
    pub(super) fn take_back_from(self, group: Pid) {
        if tcgetpgrp(stdin()) == Ok(group) {
            Self::give_to(self.home);
        }
    }
}
