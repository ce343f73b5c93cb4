//! Revokes the lease after the gatekeeper has died, so that the next instance need not wait until the lease expires.
//!
//! The guard has no etcd client. It forks a process for this, the revoker, which connects to etcd while the command is being stopped.
//! The revoker learns which lease to revoke only after the process tree has exited, so it cannot revoke the lease of a running
//! command. The guard waits for it only then, and at most [`REVOCATION`].

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::Signal,
        socket::{MsgFlags, recv, send},
    },
    unistd::{Pid, getpid},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::wire;
use crate::{
    core::{clock::Instant, limits::REVOCATION, names::LeaseId},
    system::fork::fork_unreported,
};

/// The code of the revoker: connects to etcd, waits for the lease, revokes it, and returns whether that succeeded. The first argument
/// is the cluster that the gatekeeper used, if the guard knows it.
pub type Revoke = Box<dyn Fn(Option<u64>, Awaited<'_>) -> bool>;

/// The lease that the revoker will have to revoke.
#[derive(Debug)]
pub struct Awaited<'a>(BorrowedFd<'a>);

impl Awaited<'_> {
    /// Waits until the process tree has exited, and returns the lease to revoke; `None` if there is none.
    pub async fn lease(self) -> Option<LeaseId> {
        // SAFETY: the descriptor is borrowed, so it stays open and unchanged.
        let socket = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }.ok()?;
        loop {
            let mut ready = socket.readable().await.ok()?;
            let mut lease = [0; size_of::<i64>()];
            match recv(self.0.as_raw_fd(), &mut lease, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return (length == lease.len()).then(|| LeaseId(i64::from_ne_bytes(lease))),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// The guard's end of the revoker.
pub(super) struct Release {
    revoke: Revoke,
    cluster: Option<u64>,
    /// The socket to the revoker, which closes it when it ends.
    revoker: Option<OwnedFd>,
}

impl Release {
    pub(super) const fn new(revoke: Revoke) -> Self {
        Self { revoke, cluster: None, revoker: None }
    }

    /// Forks the revoker, which connects to this cluster.
    pub(super) fn prepare(&mut self, cluster: Option<u64>) {
        self.cluster = cluster;
        // If a limit prevents it, `revoke` tries again: by then the command has exited.
        self.revoker = self.fork().ok();
    }

    /// Revokes `lease` and returns whether that succeeded. Must only be called when the process tree has exited.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> io::Result<bool> {
        let until = Instant::now() + REVOCATION;
        if let Some(answer) = self.revoker.take().and_then(|prepared| ask(&prepared, lease, until).ok()) {
            return Ok(answer);
        }
        // The prepared revoker has died, for example because memory was short while the command was being stopped.
        ask(&self.fork()?, lease, until)
    }

    fn fork(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        let guard = getpid();
        let revoke = || {
            // SAFETY: the revoker does not use the guard's end, and ends by `_exit`.
            unsafe { libc::close(ours.as_raw_fd()) };
            self.run(guard, &theirs);
        };
        // SAFETY: the guard has one thread.
        unsafe { fork_unreported(revoke) }?;
        Ok(ours)
    }

    /// Runs the revoker in this process.
    fn run(&self, guard: Pid, socket: &OwnedFd) {
        let _ = prctl::set_name(c"await-revoker");
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        // The guard may have died before the line above.
        if Pid::parent() == guard {
            let answer = u8::from((self.revoke)(self.cluster, Awaited(socket.as_fd())));
            let _ = send(socket.as_raw_fd(), &[answer], MsgFlags::MSG_NOSIGNAL);
        }
    }
}

/// Has the revoker revoke `lease`, and returns whether that succeeded by `until`; an error if the revoker died without an answer.
fn ask(revoker: &OwnedFd, lease: LeaseId, until: Instant) -> io::Result<bool> {
    send(revoker.as_raw_fd(), &lease.0.to_ne_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
    loop {
        let mut answer = [0];
        match recv(revoker.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(answer == [1]),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let left = until.saturating_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // At most one second at a time, as the clock of `poll` stands still during suspend.
        let step = PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(revoker.as_fd(), PollFlags::POLLIN)], step);
    }
}
