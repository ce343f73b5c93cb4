//! The gatekeeper process with the real candidate: performs its actions as `gatekeeper::run` does.

use std::{sync::Arc, time::Duration};

use etcd_await_election::{
    core::{
        clock::Shift,
        kv::{Change, StoreError},
    },
    election::{
        Candidate,
        protocol::{Action, Answer, Event, Reading, Request, RequestId},
    },
    guard::{Order, Reason, Report},
};

use crate::explore::{
    budget::{Budget, Kind},
    guard::Deed,
    instance::{Fate, Flight, GuardState, Instance, Orphan, Renewals, Stage, Watch, When},
    mutant,
    properties::{has_reason, passes_a_priority},
    shared::Shared,
    sim::NOW,
    state::{State, Violation, lease_id},
    steps::Explorer,
    store, story,
};

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(50);

/// More events than an instance ever handles at one instant by itself.
const MOST_EVENTS: usize = 50;

/// One instance while it takes a step.
pub(crate) struct Turn<'a> {
    pub(crate) explorer: &'a Explorer,
    pub(crate) state: &'a mut State,
    pub(crate) n: usize,
    pub(crate) instance: Instance,
    pub(crate) deeds: Vec<Deed>,
    orphans: Vec<Orphan>,
}

impl Explorer {
    /// Lets an instance take a step, and then its guard and its timers do all that they can do now.
    pub(crate) fn turn(&self, state: &mut State, n: usize, step: impl FnOnce(&mut Turn<'_>)) {
        let instance = state.instance(n).clone();
        story::is_about(n);
        let mut turn = Turn { explorer: self, state, n, instance, deeds: Vec::new(), orphans: Vec::new() };
        step(&mut turn);
        turn.settle();
        let Turn { instance, deeds, orphans, .. } = turn;
        state.instances[n] = Some(Shared::new(instance));
        if !orphans.is_empty() {
            state.orphans.change(|all| all.extend(orphans));
        }
        for deed in deeds {
            self.judge(state, n, deed);
        }
    }
}

impl Turn<'_> {
    /// Does all that the two processes can do now by themselves. What they tell each other arrives before anything from etcd does, as
    /// in the loop of `gatekeeper::run`.
    fn settle(&mut self) {
        for _ in 0..MOST_EVENTS {
            self.send_renewals();
            self.instance.settle_guard(&mut self.deeds);
            let Some(gatekeeper) = self.instance.gatekeeper.as_ref().filter(|gatekeeper| !gatekeeper.frozen) else {
                return;
            };
            if gatekeeper.guard == GuardState::Guarding && !self.instance.reports.is_empty() {
                self.report();
            } else if gatekeeper.candidate.next_wake().is_some_and(|wake| wake <= NOW) {
                self.handle(Event::Woken);
            } else if self.is_asked() {
                self.instance.told = Some(self.instance.eligible);
                self.handle(Event::Eligible(self.instance.eligible));
            } else {
                return;
            }
        }
        self.state.violate(Violation::Busy);
    }

    /// Returns whether the check of this host has something new to tell. It is not asked while this instance leads.
    fn is_asked(&self) -> bool {
        self.explorer.setup.configs[self.n].asks_eligibility
            && self.instance.told != Some(self.instance.eligible)
            && self.instance.candidate().is_some_and(|candidate| !candidate.leads())
    }

    /// Sends the renewals of a leader that are due, whether or not earlier ones are answered.
    fn send_renewals(&mut self) {
        let Some(gatekeeper) = self.instance.gatekeeper.as_mut().filter(|gatekeeper| !gatekeeper.frozen) else {
            return;
        };
        let Some(renewals) = gatekeeper.renewals.as_mut().filter(|renewals| renewals.due <= NOW) else { return };
        while renewals.due <= NOW {
            renewals.due = renewals.due + renewals.period;
        }
        let reading = Reading::Keys((*renewals.gets).clone());
        let (id, request) = (renewals.id, Request::Renew { lease: renewals.lease, reading });
        // While the network is cut, it is lost.
        if !self.instance.cut {
            self.instance.send(id, request);
        }
    }

    /// Lets the candidate handle an event, and performs its actions.
    pub(crate) fn handle(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let leads = self.instance.candidate().is_some_and(Candidate::leads);
            for event in mutant::events(self.explorer.setup.mutant, leads, event) {
                next = self.handle_one(event).or(next);
            }
        }
        if let Some(gatekeeper) = &mut self.instance.gatekeeper {
            let shift = Shift { from: NOW, to: NOW };
            let open = gatekeeper.candidate.change(|candidate| candidate.shift(shift));
            let number = |id: &mut RequestId| {
                id.0 = open.iter().position(|open| open == id).map_or(0, |place| place as u64 + 1);
            };
            self.instance.flights.iter_mut().for_each(|flight| number(&mut flight.id));
            self.instance.watches.iter_mut().for_each(|watch| number(&mut watch.id));
            gatekeeper.renewals.iter_mut().for_each(|renewals| number(&mut renewals.id));
            if !gatekeeper.candidate.leads() {
                gatekeeper.opens_from = None;
            }
        }
    }

    fn handle_one(&mut self, event: Event) -> Option<Event> {
        let gatekeeper = self.instance.gatekeeper.as_mut()?;
        let revision = revision_of(&event);
        let actions = gatekeeper.candidate.change(|candidate| candidate.on(event, NOW));
        let mut follows = None;
        for action in actions {
            match action {
                Action::Request(id, request) => self.request(id, request),
                Action::Cancel(id) => self.cancel(id),
                Action::NewLease => {
                    self.instance.leases += 1;
                    follows = Some(Event::NewLease(lease_id(self.n, self.instance.leases)));
                }
                Action::Order(order) => self.order(order, revision),
                Action::Exit(exit) => {
                    story::tell(|| format!("{}'s gatekeeper exits with code {}", story::speaker(), exit.code()));
                    self.end_gatekeeper();
                    return None;
                }
                Action::ForgetCluster | Action::Progress(_) | Action::Suspend => {}
            }
        }
        follows
    }

    fn request(&mut self, id: RequestId, request: Request) {
        let request = mutant::request(self.explorer.setup.mutant, self.explorer.lock(), request);
        match request {
            Request::RenewEvery { lease, gets, period, begin } => {
                let renewals = Renewals { id, lease, gets: Arc::new(gets), period, due: begin };
                self.instance.gatekeeper.iter_mut().for_each(|it| it.renewals = Some(renewals.clone()));
            }
            Request::Watch { ranges, from } => {
                let watch = Watch { id, ranges: Arc::new(ranges), next: from, lags: false, broken: false };
                self.instance.watches.push(watch);
                self.instance.gatekeeper.iter_mut().for_each(|it| it.opens_from = None);
            }
            request => self.instance.send(id, request),
        }
    }

    fn cancel(&mut self, id: RequestId) {
        if let Some(gatekeeper) = &mut self.instance.gatekeeper {
            gatekeeper.renewals.take_if(|renewals| renewals.id == id);
        }
        self.instance.watches.retain(|watch| watch.id != id);
        self.abandon(|flight| flight.id == id);
    }

    /// Drops requests. What changes something may still be applied.
    fn abandon(&mut self, which: impl Fn(&Flight) -> bool) {
        let (author, budget) = (self.n, self.state.budget);
        let flights = std::mem::take(&mut self.instance.flights);
        let (dropped, kept) = flights.into_iter().partition(|flight| which(flight));
        self.instance.flights = kept;
        self.orphans.extend(late(dropped, author, budget));
    }

    fn order(&mut self, order: Order, revision: Option<i64>) {
        let order = mutant::order(self.explorer.setup.mutant, &self.explorer.setup.configs[self.n].timing, order);
        let Some(gatekeeper) = &mut self.instance.gatekeeper else { return };
        match order {
            Order::Start { lease, token, .. } => {
                if passes_a_priority(&self.state.etcd, lease, token) && !self.explorer.setup.configs[self.n].force {
                    self.state.violate(Violation::PassedPriority);
                }
                gatekeeper.opens_from = revision;
                let reason = has_reason(&self.state.etcd, lease);
                self.instance.fate = Fate { reason, beyond: self.instance.fate.beyond, ..Fate::default() };
                if self.instance.told.take() == Some(false) {
                    self.state.violate(Violation::IneligibleInQueue);
                }
            }
            Order::Stop if !self.instance.fate.reason => self.state.violate(Violation::StoppedWithoutReason),
            _ => {}
        }
        gatekeeper.liveness.ordered(&order);
        if gatekeeper.guard == GuardState::Guarding && self.instance.guard.is_some() {
            self.instance.orders.push(order);
        }
    }

    /// The gatekeeper exits or dies.
    pub(crate) fn end_gatekeeper(&mut self) {
        self.instance.gatekeeper = None;
        self.instance.reports.clear();
        self.instance.watches.clear();
        self.instance.cut = false;
        self.abandon(|_| true);
    }

    /// The gatekeeper reads the next report.
    pub(crate) fn report(&mut self) {
        let report = self.instance.reports.remove(0);
        let Some(gatekeeper) = &mut self.instance.gatekeeper else { return };
        gatekeeper.liveness.heard(&report, NOW);
        if let Report::Ending(Reason::RenewDeadline | Reason::KillDeadline) = report {
            self.instance.fate.reason = true;
        }
        self.handle(Event::Report(report));
    }

    /// The guard has died, or is overdue: the gatekeeper kills it and the process tree.
    pub(crate) fn lose_guard(&mut self) {
        let Some(gatekeeper) = &mut self.instance.gatekeeper else { return };
        if self.instance.guard.is_some() && !gatekeeper.liveness.is_overdue(NOW) {
            // It was frozen itself, and waits a little longer.
            return;
        }
        gatekeeper.guard = GuardState::Lost;
        self.instance.take_over();
        self.handle(Event::Report(Report::GuardLost));
    }

    /// The candidate receives the answer of a request.
    pub(crate) fn answer(&mut self, k: usize) {
        let flight = self.instance.flights.remove(k);
        let Stage::Answered(answer) = flight.stage else { return };
        if let (Answer::Revoked(_), Request::Revoke(lease)) = (&*answer, &*flight.request) {
            self.instance.revoked = Some(*lease);
        }
        self.handle(Event::Answer(flight.id, (*answer).clone()));
    }

    /// The outcome of a request stays unknown.
    pub(crate) fn fail(&mut self, k: usize) {
        let flight = self.instance.flights.remove(k);
        let id = flight.id;
        self.orphans.extend(late(vec![flight], self.n, self.state.budget));
        self.handle(Event::Answer(id, failed()));
    }

    /// The candidate receives the changes of one revision, or all that there are.
    pub(crate) fn change(&mut self, k: usize, all: bool) {
        let watch = &mut self.instance.watches[k];
        let id = watch.id;
        if watch.broken {
            self.instance.watches.remove(k);
            return self.handle(Event::Answer(id, failed()));
        }
        let mut changes = store::changes(&self.state.etcd, watch);
        if !all {
            let first = changes.first().map(store::revision);
            changes.retain(|change| Some(store::revision(change)) == first);
        }
        watch.next = changes.last().map_or(watch.next, |last| store::revision(last) + 1);
        watch.lags = false;
        let changes = mutant::changes(self.explorer.setup.mutant, self.explorer.lock(), changes);
        self.handle(Event::Answer(id, Answer::Changes(changes)));
    }
}

impl Instance {
    fn send(&mut self, id: RequestId, request: Request) {
        self.flights.push(Flight { id, sent: NOW, request: Arc::new(request), stage: Stage::Sent, delayed: false });
    }
}

/// Returns the answer to a request whose outcome is unknown.
pub(crate) fn failed() -> Answer {
    Answer::Failed { failure: StoreError::Unavailable("no answer".to_owned()), retry_at: NOW + PAUSE }
}

/// Returns those requests that may be applied late.
pub(crate) fn late(flights: Vec<Flight>, author: usize, budget: Budget) -> Vec<Orphan> {
    let may_be_late = |flight: &Flight| {
        budget.has(Kind::Late)
            && flight.stage == Stage::Sent
            && matches!(*flight.request, Request::Grant { .. } | Request::Commit(_) | Request::Revoke(_))
    };
    flights
        .into_iter()
        .filter(may_be_late)
        .map(|flight| Orphan { author, request: flight.request, when: When::Late })
        .collect()
}

fn revision_of(event: &Event) -> Option<i64> {
    match event {
        Event::Answer(_, Answer::Read(read) | Answer::Renewed { read, .. }) => Some(read.revision),
        Event::Answer(_, Answer::Changes(changes)) => changes.first().map(|change| match change {
            Change::Put(kv) => kv.mod_revision,
            Change::Deleted(_, revision) => *revision,
        }),
        _ => None,
    }
}
