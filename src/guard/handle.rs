//! The guard as the gatekeeper has it: orders out, reports in, and an eye on whether it still does its work.
//!
//! When the guard is [overdue](super::liveness), the gatekeeper does its work: it kills the guard, everything below then falls to
//! the gatekeeper (a subreaper too), and it ends that.

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
    /// Reaps for the gatekeeper what is not the guard.
    #[must_use]
    pub const fn reaper(&self) -> Reaper {
        Reaper { guard: self.pid }
    }

    /// The guard, in the asynchronous world.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_handle(self) -> io::Result<Handle> {
        self.into_handle_on(BootClock)
    }

    /// The same, on another clock.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_handle_on<C: Clock>(self, clock: C) -> io::Result<Handle<C>> {
        // SAFETY: a line keeps its one socket open, unchanged, as long as it lives.
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

/// Reaps orphans that fall to the gatekeeper: as PID 1 of a container, also those that are none of ours.
#[derive(Clone, Copy, Debug)]
pub struct Reaper {
    guard: Pid,
}

impl Reaper {
    /// To be called whenever SIGCHLD comes. In the thread in which the handle is used, as it is what the handle relies on
    /// that no process is reaped while it signals.
    pub fn reap_orphans(&self) {
        // Looks before it takes: the guard's end is the handle's to find. And once that has ended the handle reaps everything.
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
    /// The guard does its work, as far as can be seen.
    Guarding,
    /// It does not: everything below the gatekeeper is being ended.
    TakingOver,
    /// That is done.
    Lost,
}

impl<C: Clock> Guard for Handle<C> {
    fn order(&self, order: Order) {
        let mut liveness = self.liveness.get();
        liveness.ordered(&order);
        self.liveness.set(liveness);
        // Whether the guard is gone is seen when its end of the line is read.
        self.line.get_ref().send(order);
    }

    async fn report(&self) -> Report {
        loop {
            match self.state.get() {
                // What it said before is believed first: it may be that we were frozen, and it was not.
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
                    if self.end_everything_below() {
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
    /// From one round of SIGKILL to the next, at first.
    const ROUND: Duration = Duration::from_millis(1);
    const SLOWEST_ROUND: Duration = Duration::from_millis(200);

    /// One round: SIGKILL to everything below this process, the guard first, as a child of ours. True if nothing is left.
    fn end_everything_below(&self) -> bool {
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

    /// Waits until the socket has something for us, takes something of ours, or the guard is overdue.
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
            // On either the loop looks again: at the socket first, then at the clock.
            ready = self.line.ready(interest) => if let Ok(mut ready) = ready {
                if ready.ready().is_writable() {
                    self.line.get_ref().flush();
                }
                // Level to edge: what has come in the meantime sets it again, or is found by the next look.
                ready.clear_ready();
            },
            () = overdue => {}
        }
    }
}
