//! A pseudo-terminal whose user is the test.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{libc, pty::openpty};

use crate::{timing::Timing, wait::eventually};

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
        // SAFETY: a flag of a descriptor that is open, so that a read does not wait without end.
        unsafe { libc::fcntl(pty.master.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) };
        Self { master: pty.master.into(), slave: pty.slave }
    }

    /// Sends these keys.
    ///
    /// # Panics
    /// If the terminal has been closed.
    pub fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Returns what the terminal shows until there is this text.
    ///
    /// # Panics
    /// If it is not shown in time.
    #[must_use]
    #[track_caller]
    pub fn read_until(&self, text: &str) -> String {
        let mut shown = Vec::new();
        let mut bytes = [0; 1024];
        eventually(Timing::START, &format!("the terminal shows {text:?}"), || {
            while let Ok(count) = (&self.master).read(&mut bytes) {
                shown.extend_from_slice(&bytes[..count]);
                let screen = String::from_utf8_lossy(&shown);
                if screen.contains(text) {
                    return Ok(screen.into_owned());
                }
            }
            Err(String::from_utf8_lossy(&shown).into_owned())
        })
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
