//! The guard process with the real switch, and the gatekeeper's handle of it.

use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    rc::Rc,
    time::Duration,
};

use etcd_await_election::{
    core::{
        clock::{Clock as _, Instant},
        names::LeaseId,
        timing::Timing,
    },
    guard::{
        Guard, Order, Report,
        liveness::Liveness,
        switch::{Action, Event, Hooks, Switch},
    },
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::{
    command::Tree,
    mutant::Mutant,
    sim::{MachineClock, Process},
};

/// The guard process, which performs the actions of the switch.
pub(crate) struct GuardProcess {
    pub(crate) clock: MachineClock,
    pub(crate) stop_grace: Duration,
    pub(crate) hooks: Hooks,
    pub(crate) tree: Rc<Tree>,
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) own: UnboundedSender<Event>,
    pub(crate) reports: UnboundedSender<Report>,
    pub(crate) name: String,
    /// Runs the release process.
    pub(crate) release: Box<dyn Fn(LeaseId)>,
}

impl GuardProcess {
    pub(crate) async fn run(mut self) {
        let mut switch = Switch::new(15, self.stop_grace, self.hooks);
        loop {
            let wake = switch.next_wake();
            let event = tokio::select! {
                biased;
                event = self.events.recv() => event.unwrap_or(Event::GatekeeperGone),
                () = at(&self.clock, wake) => Event::Woken,
            };
            if !matches!(event, Event::Woken | Event::Order(Order::Feed(_))) {
                self.clock.sim.log(|| format!("{} guard: {event:?}", self.name));
            }
            for action in switch.on(event, self.clock.now()) {
                match action {
                    Action::Begin { token, .. } => self.tree.begin(token),
                    Action::Run(program) => self.tree.start(program, &self.own),
                    Action::Signal(15) => self.tree.terminate(),
                    Action::Signal(_)
                    | Action::WarnFailed(..)
                    | Action::WarnNotExited(_)
                    | Action::PrepareRelease(_) => {}
                    Action::StopTree => self.tree.terminate_rest(),
                    Action::KillTree => self.tree.kill(),
                    // The gatekeeper may have ended.
                    Action::Report(report) => drop(self.reports.send(report)),
                    Action::Release(lease) => (self.release)(lease),
                    Action::Exit => return,
                }
            }
        }
    }
}

impl Drop for GuardProcess {
    fn drop(&mut self) {
        self.tree.orphaned();
    }
}

async fn at(clock: &MachineClock, deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => clock.sleep_until(deadline).await,
        None => pending().await,
    }
}

/// The guard as the gatekeeper sees it. Dropped with the gatekeeper, which notifies the guard of its end.
pub(crate) struct Handle {
    clock: MachineClock,
    guard: Process,
    tree: Rc<Tree>,
    orders: UnboundedSender<Event>,
    reports: RefCell<UnboundedReceiver<Report>>,
    liveness: Cell<Liveness>,
    lost: Cell<bool>,
    mutation: Mutation,
}

/// The data of the mutants.
pub(crate) struct Mutation {
    pub(crate) mutant: Option<Mutant>,
    pub(crate) timing: Timing,
    made_up: RefCell<Option<Report>>,
}

impl Mutation {
    pub(crate) const fn new(mutant: Option<Mutant>, timing: Timing) -> Self {
        Self { mutant, timing, made_up: RefCell::new(None) }
    }
}

impl Handle {
    /// The time between two rounds of SIGKILL.
    const ROUND: Duration = Duration::from_millis(5);

    pub(crate) fn new(
        clock: MachineClock,
        guard: Process,
        tree: Rc<Tree>,
        orders: UnboundedSender<Event>,
        reports: UnboundedReceiver<Report>,
        mutation: Mutation,
    ) -> Self {
        let (reports, liveness, lost) = (RefCell::new(reports), Cell::default(), Cell::default());
        Self { clock, guard, tree, orders, reports, liveness, lost, mutation }
    }

    /// Completes when the guard is overdue.
    async fn silent(&self) {
        loop {
            let mut liveness = self.liveness.get();
            let overdue = liveness.is_overdue(self.clock.now());
            self.liveness.set(liveness);
            if overdue {
                return;
            }
            at(&self.clock, liveness.due()).await;
        }
    }

    /// After the end of the guard the gatekeeper kills the process tree, however long it takes.
    async fn end_tree(&self) {
        while !self.tree.is_gone() {
            self.tree.kill();
            let round = self.clock.now() + Self::ROUND;
            let _ = self.clock.before(round, self.tree.gone()).await;
        }
    }

    fn heard(&self, report: Report) {
        let mut liveness = self.liveness.get();
        liveness.heard(&report, self.clock.now());
        self.liveness.set(liveness);
        match report {
            Report::Ended(end) if self.mutation.mutant == Some(Mutant::ReleasesEarly) => {
                *self.mutation.made_up.borrow_mut() = Some(Report::TreeExited(end));
            }
            _ => {}
        }
    }
}

impl Guard for Handle {
    fn order(&self, order: Order) {
        let order = match order {
            Order::Feed(_) | Order::Start { .. } if self.lost.get() => return,
            Order::Feed(deadlines) if self.mutation.mutant == Some(Mutant::CountsFromReply) => {
                let timing = self.mutation.timing;
                let counted = timing.deadlines(self.clock.now(), timing.lease());
                Order::Feed(if counted.kill_at > deadlines.kill_at { counted } else { deadlines })
            }
            order => order,
        };
        let mut liveness = self.liveness.get();
        liveness.ordered(&order);
        self.liveness.set(liveness);
        let _ = self.orders.send(Event::Order(order));
    }

    async fn report(&self) -> Report {
        loop {
            if let Some(report) = self.mutation.made_up.take() {
                return report;
            }
            if self.lost.get() {
                self.end_tree().await;
                self.clock.sleep(Self::ROUND).await;
                return Report::GuardLost;
            }
            tokio::select! {
                biased;
                report = poll_fn(|context| self.reports.borrow_mut().poll_recv(context)) => match report {
                    Some(report) => {
                        self.heard(report);
                        return report;
                    }
                    None => self.lost.set(true),
                },
                () = self.silent() => {
                    self.clock.sim.log(|| "       a gatekeeper kills its silent guard".to_owned());
                    self.clock.sim.kill(&self.guard);
                    self.lost.set(true);
                }
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.orders.send(Event::GatekeeperGone);
    }
}
