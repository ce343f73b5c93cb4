//! The gatekeeper's end of the guard: sends orders, receives reports, and takes over if the guard is lost.
//!
//! When the guard is [overdue](super::liveness), the gatekeeper kills it together with the process tree. Orphans become children
//! of the gatekeeper, as it is a subreaper, too.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    time::Duration,
};

use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use super::{
    cgroup::Cgroup,
    liveness::Liveness,
    protocol::{Guard, Order, Report},
    tree::Tree,
    wait::{self, Waited},
    wire::{Line, Received},
};
use crate::core::clock::Clock;
use crate::system::clock::BootClock;

/// A guard that has just been started.
#[derive(Debug)]
pub struct Guarded {
    pub(super) pid: Pid,
    pub(super) socket: OwnedFd,
    pub(super) cgroup: Option<Cgroup>,
}

impl Guarded {
    /// Returns the reaper for all other children of the gatekeeper.
    #[must_use]
    pub const fn reaper(&self) -> Reaper {
        Reaper { guard: self.pid }
    }

    /// Registers the socket with the runtime.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_handle(self) -> io::Result<Handle> {
        self.into_handle_on(BootClock)
    }

    /// Does the same with another clock.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_handle_on<C: Clock>(self, clock: C) -> io::Result<Handle<C>> {
        // SAFETY: a line keeps its socket open and unchanged as long as it lives.
        let line = unsafe { AsyncFd::register(Line::new(self.socket)) }?;
        Ok(Handle {
            clock,
            line,
            liveness: Cell::default(),
            state: Cell::new(State::Guarding),
            pause: Cell::new(Handle::<C>::ROUND),
            logged_denied: Cell::new(false),
            tree: RefCell::new(Tree::new(self.cgroup)),
        })
    }
}

/// Reaps orphans that become children of the gatekeeper. As PID 1 of a container it receives all orphans there.
#[derive(Clone, Copy, Debug)]
pub struct Reaper {
    guard: Pid,
}

impl Reaper {
    /// Must be called whenever SIGCHLD arrives, in the thread that uses the handle: no process may be reaped while the handle
    /// sends signals.
    pub fn reap_orphans(&self) {
        // The guard itself is left to the handle, which reaps everything after the guard has ended.
        while let Some(orphan) = wait::peek().filter(|child| *child != self.guard) {
            wait::reap(Some(orphan));
        }
    }
}

/// The running guard.
#[derive(Debug)]
pub struct Handle<C = BootClock> {
    clock: C,
    line: AsyncFd<Line<Order>>,
    liveness: Cell<Liveness>,
    state: Cell<State>,
    pause: Cell<Duration>,
    logged_denied: Cell<bool>,
    tree: RefCell<Tree>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The guard works.
    Guarding,
    /// The guard is lost: the gatekeeper kills everything below itself.
    TakingOver,
    /// The guard and the process tree have exited.
    Lost,
}

impl<C: Clock> Guard for Handle<C> {
    fn order(&self, order: Order) {
        let mut liveness = self.liveness.get();
        liveness.ordered(&order);
        self.liveness.set(liveness);
        // A failure is noticed when the next report is received.
        self.line.get_ref().send(order);
    }

    async fn report(&self) -> Report {
        loop {
            match self.state.get() {
                // Reports that wait in the socket count first: this process may have been frozen, and the guard not.
                State::Guarding => match self.line.get_ref().receive() {
                    Received::Message(report) => {
                        let mut liveness = self.liveness.get();
                        liveness.heard(&report, self.clock.now());
                        self.liveness.set(liveness);
                        return report;
                    }
                    Received::Gone => self.state.set(State::TakingOver),
                    Received::Nothing => self.wait().await,
                },
                State::TakingOver => {
                    if self.kill_everything_below() {
                        self.tree.borrow().remove_cgroup();
                        self.state.set(State::Lost);
                    } else {
                        self.clock.sleep(self.pause.get()).await;
                        self.pause.set((self.pause.get() * 2).min(Self::SLOWEST_ROUND));
                    }
                }
                State::Lost => return Report::GuardLost,
            }
        }
    }
}

impl<C: Clock> Handle<C> {
    /// The time between the first rounds of SIGKILL.
    const ROUND: Duration = Duration::from_millis(1);
    const SLOWEST_ROUND: Duration = Duration::from_millis(200);

    /// Sends SIGKILL to the guard and the process tree, and returns whether all have exited.
    fn kill_everything_below(&self) -> bool {
        let mut tree = self.tree.borrow_mut();
        if let Some(denied) = tree.kill(None)
            && !self.logged_denied.replace(true)
        {
            tracing::warn!("{denied}");
        }
        loop {
            match wait::reap(None) {
                Waited::Ended(..) | Waited::Stopped(..) => {}
                Waited::Nothing => return false,
                Waited::NoChildren => return tree.has_exited(),
            }
        }
    }

    /// Waits until a report arrives, unsent orders can be sent, or the guard is overdue.
    async fn wait(&self) {
        let mut liveness = self.liveness.get();
        let overdue = liveness.is_overdue(self.clock.now());
        self.liveness.set(liveness);
        if overdue {
            self.state.set(State::TakingOver);
            return;
        }
        let due = liveness.due();
        let overdue = async {
            match due {
                Some(due) => self.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let interest = if self.line.get_ref().has_unsent() {
            tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE
        } else {
            tokio::io::Interest::READABLE
        };
        tokio::select! {
            biased;
            // In both cases the loop reads the socket first, and then the clock.
            ready = self.line.ready(interest) => if let Ok(mut ready) = ready {
                if ready.ready().is_writable() {
                    self.line.get_ref().flush();
                }
                // A report that arrives in between makes the socket ready again or is found by the next receive.
                ready.clear_ready();
            },
            () = overdue => {}
        }
    }
}
