//! Revokes the lease after the gatekeeper has died, so that the next instance need not wait until the lease expires.
//!
//! The guard has no etcd client. It executes the program once more for this, with the arguments and the environment of the
//! gatekeeper, and waits for it at most [`RELEASE_PROCESS`].

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
use crate::core::{clock::Instant, limits::RELEASE_PROCESS, names::LeaseId};

/// The program, arguments and signal dispositions for the process that revokes the lease.
#[derive(Debug)]
pub(super) struct Release {
    program: PathBuf,
    arguments: Vec<OsString>,
    original: Original,
}

impl Release {
    /// The flag that makes the program revoke a lease. Its value is the lease id in hexadecimal.
    pub(super) const FLAG: &str = "--release-lease=";

    /// `program` is this program if it is `None`; tests use another one.
    pub(super) fn new(program: Option<PathBuf>, original: Original) -> Self {
        // An update may have replaced the file, so it is not executed by its name.
        let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        Self { program, arguments: env::args_os().collect(), original }
    }

    /// Revokes `lease` and returns whether that succeeded.
    pub(super) fn revoke(&self, lease: LeaseId, signals: &Signals) -> io::Result<bool> {
        let mut arguments = self.arguments.clone();
        arguments.insert(1.min(arguments.len()), OsString::from(format!("{}{lease}", Self::FLAG)));
        let environment =
            env::vars_os().filter_map(|(name, value)| super::spawn::variable(&name, &value).ok()).collect();
        let child = start_image(&Image::new(Path::new(&self.program), &arguments, environment)?, &self.original)?.pid;
        let until = Instant::now() + RELEASE_PROCESS;
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
            // SIGCHLD ends the poll. At most one second at a time, as its clock stands still during suspend.
            let step = PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], step);
            while signals.read().is_some() {}
        }
    }
}
