//! A pseudo-terminal whose user is the test.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{libc, pty::openpty};

/// A terminal. A program that is started [on](crate::Setup::on) it belongs to its session.
#[derive(Debug)]
pub struct Terminal {
    /// The side of the user.
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens a terminal that is in no session yet.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn open() -> Self {
        let pty = openpty(None, None).expect("a terminal");
        for fd in [&pty.master, &pty.slave] {
            // SAFETY: a flag of a descriptor that is open. Other processes of this test run must not inherit it.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        Self { master: pty.master.into(), slave: pty.slave }
    }

    /// Sends these keys.
    ///
    /// # Panics
    /// If the terminal has been closed.
    pub fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits for more output and returns it.
    ///
    /// # Panics
    /// If the terminal has been closed.
    #[must_use]
    pub fn read(&self) -> String {
        let mut bytes = [0; 1024];
        let count = (&self.master).read(&mut bytes).expect("the terminal shows something");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Returns the side of the program.
    ///
    /// # Panics
    /// If there are too many open files.
    #[must_use]
    pub fn slave(&self) -> OwnedFd {
        self.slave.try_clone().expect("another handle")
    }
}
