//! The last thing that a guard without a gatekeeper does: give the lease back, so that the next instance need not wait
//! for it to run out.
//!
//! That takes a client for etcd, and the guard has none. So it runs the program once more, in that one short role, with
//! the arguments and the environment that the gatekeeper had; and does not wait for it longer than [`ERRAND`].

use std::{
    env,
    ffi::OsString,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    libc::SIGKILL,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    protocol::CommandEnd,
    signals::{Original, Signals},
    spawn::{Image, start_image},
    tree,
    wait::{self, Waited},
};
use crate::core::{clock::Instant, limits::ERRAND, names::LeaseId};

/// What is needed to run the program once more.
#[derive(Debug)]
pub(super) struct Release {
    program: PathBuf,
    arguments: Vec<OsString>,
    original: Original,
}

impl Release {
    /// The flag of that role. Its value is the lease, in hexadecimal.
    pub(super) const FLAG: &str = "--release-lease=";

    /// `program` is what to execute: this one, unless a test stands in for it.
    pub(super) fn new(program: Option<PathBuf>, original: Original) -> Self {
        // Not the file by its name: an update may have put another version there.
        let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        Self { program, arguments: env::args_os().collect(), original }
    }

    /// Gives `lease` back; says whether it was.
    pub(super) fn revoke(&self, lease: LeaseId, signals: &Signals) -> io::Result<bool> {
        let mut arguments = self.arguments.clone();
        arguments.insert(1.min(arguments.len()), OsString::from(format!("{}{lease}", Self::FLAG)));
        let environment =
            env::vars_os().filter_map(|(name, value)| super::spawn::variable(&name, &value).ok()).collect();
        let child = start_image(&Image::new(Path::new(&self.program), &arguments, environment)?, &self.original)?.pid;
        let until = Instant::now() + ERRAND;
        loop {
            match wait::reap(Some(child)) {
                Waited::Ended(_, end) => return Ok(end == CommandEnd::Exited(0)),
                Waited::NoChildren => return Ok(false),
                Waited::Nothing | Waited::Stopped(..) => {}
            }
            let left = until.saturating_since(Instant::now());
            if left.is_zero() {
                tree::signal_child(child, SIGKILL);
                return Ok(false);
            }
            // SIGCHLD wakes; a second at a time because poll's clock stands still during suspend.
            let step = PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], step);
            while signals.read().is_some() {}
        }
    }
}
