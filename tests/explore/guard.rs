//! The guard process with the real switch, and the command.

use etcd_await_election::{
    core::{names::LeaseId, timing::Deadlines},
    guard::{
        CommandEnd, Order, Program,
        switch::{Action, Event, Switch},
    },
};
use nix::libc::SIGTERM;

use crate::explore::{
    instance::{Command, Guard, Instance, Tree},
    sim::NOW,
    story,
};

/// What a guard has done that concerns others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// It has started the first program of a term with this token.
    Started(i64),
    /// It has started the next program of a term.
    WentOn,
    /// It revokes the lease of its dead gatekeeper.
    Releases(LeaseId),
}

impl Guard {
    pub(crate) const fn new(switch: Switch) -> Self {
        Self { switch, inbox: Vec::new(), closed: false, frozen: false }
    }
}

impl Instance {
    /// Lets the guard do all that it can do now. It is prompt unless it is frozen.
    pub(crate) fn settle_guard(&mut self, deeds: &mut Vec<Deed>) {
        while self.has_work_for_guard() {
            self.guard_round(deeds);
        }
    }

    fn has_work_for_guard(&self) -> bool {
        let Some(guard) = self.guard.as_ref().filter(|guard| !guard.frozen) else { return false };
        let Command { tree, executed, ended, .. } = self.command;
        let orders = !guard.switch.is_orphaned()
            && (!self.orders.is_empty() || !guard.inbox.is_empty() || (self.gatekeeper.is_none() && !guard.closed));
        let children = executed || ended.is_some() || (tree == Tree::Exited && guard.switch.is_busy());
        orders || children || guard.switch.next_wake().is_some_and(|wake| wake <= NOW)
    }

    /// One round of the loop in `guard::process`.
    fn guard_round(&mut self, deeds: &mut Vec<Deed>) {
        self.receive_orders(deeds);
        self.guard_handles(Event::Woken, deeds);
        if std::mem::take(&mut self.command.executed) {
            self.guard_handles(Event::Started(1), deeds);
        }
        self.reap(deeds);
        let next = self
            .guard
            .as_mut()
            .and_then(|guard| (!guard.switch.is_orphaned() && !guard.inbox.is_empty()).then(|| guard.inbox.remove(0)));
        match next {
            Some(Some(order)) => self.guard_handles(Event::Order(order), deeds),
            Some(None) => self.guard_handles(Event::GatekeeperGone, deeds),
            None => {}
        }
        self.reap(deeds);
    }

    /// Receives all orders. Feeds are applied before other orders.
    fn receive_orders(&mut self, deeds: &mut Vec<Deed>) {
        let Some(guard) = self.guard.as_mut().filter(|guard| !guard.switch.is_orphaned()) else { return };
        let mut fed: Option<Deadlines> = None;
        for order in self.orders.drain(..) {
            match order {
                Order::Feed(deadlines) if guard.switch.is_busy() => {
                    fed = Some(fed.map_or(deadlines, |earlier: etcd_await_election::core::timing::Deadlines| {
                        earlier.later(deadlines)
                    }));
                }
                order => guard.inbox.push(Some(order)),
            }
        }
        if self.gatekeeper.is_none() && !guard.closed {
            guard.closed = true;
            guard.inbox.push(None);
        }
        if let Some(deadlines) = fed {
            self.guard_handles(Event::Order(Order::Feed(deadlines)), deeds);
        }
    }

    fn reap(&mut self, deeds: &mut Vec<Deed>) {
        if let Some(end) = self.command.ended.take() {
            self.guard_handles(Event::MainEnded(end), deeds);
        }
        let is_busy = self.guard.as_ref().is_some_and(|guard| guard.switch.is_busy());
        if self.command.tree == Tree::Exited && self.command.ended.is_none() && is_busy {
            self.guard_handles(Event::TreeExited, deeds);
        }
    }

    fn guard_handles(&mut self, event: Event, deeds: &mut Vec<Deed>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Some(guard) = &mut self.guard else { return };
            let mut begins = None;
            for action in guard.switch.on(event, NOW) {
                match action {
                    Action::Begin { token, .. } => begins = Some(token),
                    Action::Run(program) => {
                        story::tell(|| format!("{}'s guard starts {program}", story::speaker()));
                        self.command = Command { program, tree: Tree::Main, executed: true, ..Command::NONE };
                        deeds.push(begins.take().map_or(Deed::WentOn, Deed::Started));
                    }
                    Action::Signal(SIGTERM) if self.command.tree == Tree::Main => {
                        let program = self.command.program;
                        story::tell(|| format!("{}'s guard sends SIGTERM to {program}", story::speaker()));
                        self.command.stopping = true;
                    }
                    Action::Signal(_)
                    | Action::WarnFailed(..)
                    | Action::WarnNotExited(_)
                    | Action::PrepareRelease(_) => {}
                    Action::StopTree => self.command.stopping = self.command.runs(),
                    Action::KillTree if self.spares_on_stopped && self.command.program == Program::OnStopped => {}
                    Action::KillTree => self.command.kill(),
                    Action::Report(report) => {
                        if self.gatekeeper.is_some() {
                            self.reports.push(report);
                        } else if !self.guard.as_ref().is_none_or(|guard| guard.switch.is_orphaned()) {
                            events.push(Event::GatekeeperGone);
                        }
                    }
                    Action::Release(lease) => deeds.push(Deed::Releases(lease)),
                    Action::Exit => self.guard = None,
                }
                if self.guard.is_none() {
                    return;
                }
            }
        }
    }

    /// The gatekeeper kills its guard, if it lives, and the process tree.
    pub(crate) fn take_over(&mut self) {
        self.guard = None;
        self.orders.clear();
        self.reports.clear();
        self.command.kill();
        self.command = Command::NONE;
    }

    /// The kernel kills the command together with the guard. Its descendants become children of the gatekeeper.
    pub(crate) fn guard_dies(&mut self) {
        self.guard = None;
        self.orders.clear();
        if self.command.tree == Tree::Main {
            self.command = Command { tree: Tree::Descendants, ..Command::NONE };
        }
    }
}

impl Command {
    /// SIGKILL to all processes.
    fn kill(&mut self) {
        if self.runs() {
            story::tell(|| format!("SIGKILL ends {}'s process tree", story::speaker()));
        }
        if self.tree == Tree::Main {
            self.ended = Some(CommandEnd::Signaled(9));
        }
        *self = Self { tree: Tree::Exited, stopping: false, stubborn: false, ..*self };
    }

    /// The main process or the rest ends after SIGTERM.
    pub(crate) fn end(&mut self, end: CommandEnd) {
        match self.tree {
            Tree::Main => {
                self.ended = Some(end);
                self.tree = Tree::Descendants;
            }
            Tree::Descendants | Tree::Exited => self.tree = Tree::Exited,
        }
        self.stopping = false;
    }
}
