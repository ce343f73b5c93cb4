//! A terminal with a person at it.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{libc, pty::openpty};

/// A terminal; whoever is started [on](crate::Setup::on) it belongs to its session.
#[derive(Debug)]
pub struct Terminal {
    /// The person's side.
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    /// One that nobody has yet.
    ///
    /// # Panics
    /// If the system has none.
    #[must_use]
    pub fn open() -> Self {
        let pty = openpty(None, None).expect("a terminal");
        for fd in [&pty.master, &pty.slave] {
            // SAFETY: a flag of a descriptor that is open. Other processes of this test run must not inherit it.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        Self { master: pty.master.into(), slave: pty.slave }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits for more to appear on the screen.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[must_use]
    pub fn read(&self) -> String {
        let mut bytes = [0; 1024];
        let count = (&self.master).read(&mut bytes).expect("the terminal shows something");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// The side that a program is given.
    ///
    /// # Panics
    /// If there are too many open files.
    #[must_use]
    pub fn slave(&self) -> OwnedFd {
        self.slave.try_clone().expect("another handle")
    }
}
