//! Leading: feeds the guard while renewals confirm that this instance holds the lock.

mod inquiry;
mod lateness;
mod observation;
mod sickness;
mod successor;

use std::time::Duration;

use self::{
    inquiry::{Inquiry, Made},
    lateness::Lateness,
    observation::{Observation, Observed},
    sickness::Sickness,
    successor::Successor,
};
use crate::election::{
    absence::Absence,
    context::{Context, Shift},
    demand::Demand,
    end::{End, note, signaled},
    loss::Loss,
    next::{Elected, Handle, Lost, Next},
    paused,
    progress::Progress,
    protocol::{Answer, Event, Meaning, Request, RequestId},
    term::Term,
    view::View,
};
use crate::{
    core::{
        clock::Instant,
        kv::{Change, KeyOnly, Snapshot, StoreError},
    },
    guard::{CommandEnd, Order, Program, Reason, Report},
};

/// An instance that leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    term: Term,
    next: Successor,
    renewals: RequestId,
    lateness: Lateness,
    /// The denial of a renewal that was logged last.
    denial: Option<StoreError>,
    observation: Observation,
    inquiry: Option<Inquiry>,
    /// Whether the command, which could decide what an interrupt means, does not run yet.
    is_preparing: bool,
    /// What is known about a successor while the check of the command fails.
    sickness: Option<Sickness>,
    /// How the main process of the command ended.
    ended: Option<CommandEnd>,
}

/// The delay from the order to start the command to the first request of a term, so that requests do not delay the start on a
/// machine with few processors.
const DELAY_AFTER_START: Duration = Duration::from_millis(20);

impl Leading {
    /// Orders the guard to start the command.
    pub(crate) fn begin(Elected { term, renewed, queue }: Elected, context: &mut Context<'_>) -> Self {
        let config = &context.shared.config;
        let waited = context.now.saturating_since(context.shared.campaign_began);
        tracing::info!(token = term.token, lease = %term.lease, "elected: {:?} leads {} after {waited:.1?}", config.identity, config.lock);
        let deadlines = config.timing.deadlines(renewed, term.ttl);
        let period = config.timing.retry_period();
        (context.shared.demand, context.shared.in_term) = (Demand::None, true);
        context.shared.forget_eligibility();
        context.order(Order::Start { deadlines, token: term.token, lease: term.lease });
        context.report(Progress::Elected { token: term.token });
        let begin = context.now + DELAY_AFTER_START;
        let first = begin.max(renewed + period);
        let gets = term.gets_with_next(context.shared.lock());
        let renewals = context.request(Request::RenewEvery { lease: term.lease, gets, period, begin: first });
        Self {
            observation: Observation::at(begin, queue.as_ref().map(|view| view.revision)),
            lateness: Lateness::new(first - period, period),
            next: queue.map_or(Successor::Unknown, |view| Successor::read(&view, term.lease, context.shared.lock())),
            term,
            renewals,
            denial: None,
            inquiry: None,
            is_preparing: true,
            sickness: None,
            ended: None,
        }
    }

    /// Stops the command: leadership is lost.
    fn lose(&self, loss: Loss) -> Next {
        tracing::warn!("stepping down: {loss}");
        let Self { renewals, ended, .. } = *self;
        Next::Stop(Lost { term: self.term.clone(), loss, renewals, ended })
    }

    fn renewed(&mut self, sent: Instant, read: Snapshot, context: &mut Context<'_>) -> Option<Next> {
        self.lateness.answered(sent, context);
        if let Err(loss) = self.term.check(&read.keys, context.shared.lock()) {
            return Some(self.lose(loss));
        }
        let requests = Inquiry::requests_for(self.term.lease, &read.names, context.shared.lock());
        let is_paused = self.saw(read, context);
        if self.must_step_down(context) {
            return Some(self.lose(Loss::Sick));
        }
        if requests.is_empty() || is_paused {
            self.confirm(sent, context);
        } else {
            self.inquire(requests, Some(sent), context);
        }
        None
    }

    /// Notes what a read with the next entry shows, and returns whether the lock is paused.
    fn saw(&mut self, read: Snapshot, context: &mut Context<'_>) -> bool {
        let view = View::new(context.shared.lock(), read);
        self.next = Successor::read(&view, self.term.lease, context.shared.lock());
        paused::read(&view, context);
        view.pause.is_some()
    }

    fn inquire(&mut self, requests: Vec<Made>, confirms: Option<Instant>, context: &mut Context<'_>) {
        match &mut self.inquiry {
            Some(inquiry) => inquiry.add(requests, confirms),
            None => self.inquiry = Some(Inquiry::begin(self.term.lease, requests, confirms, context)),
        }
    }

    /// Feeds the guard.
    fn confirm(&self, sent: Instant, context: &mut Context<'_>) {
        let deadlines = context.shared.config.timing.deadlines(sent, self.term.ttl);
        context.order(Order::Feed(deadlines));
        context.report(Progress::RenewalConfirmed { sent });
    }

    fn denied(&mut self, denial: StoreError) {
        // An operator may correct it before the deadline.
        if self.denial.as_ref() != Some(&denial) {
            tracing::warn!("could not renew the lease: {denial}; retrying until RENEW_DEADLINE has passed");
            self.denial = Some(denial);
        }
    }

    fn observed(&mut self, observed: Observed, context: &mut Context<'_>) -> Option<Next> {
        match observed {
            // Nobody can take over while etcd does not answer.
            Observed::Nothing => return None,
            Observed::Loss(loss) => return Some(self.lose(loss)),
            Observed::Changed(changes) => {
                self.next.observed(&changes, self.term.lease, context.shared.lock());
                paused::changed(&changes, context);
                let puts = changes.into_iter().filter_map(|change| match change {
                    Change::Put(kv) => Some(KeyOnly::from(kv)),
                    Change::Deleted(..) => None,
                });
                self.requested(&puts.collect::<Vec<_>>(), context);
            }
            Observed::Read(read) => {
                self.requested(&read.names, context);
                self.saw(read, context);
            }
        }
        self.must_step_down(context).then(|| self.lose(Loss::Sick))
    }

    /// Notes whether the check of the command succeeds. While the command is being stopped, that changes nothing.
    fn checked(&mut self, healthy: bool, context: &mut Context<'_>) {
        context.report(Progress::Healthy(healthy));
        if healthy {
            self.sickness = None;
            context.shared.sick_terms = Absence::default();
        } else if self.sickness.is_none() && !self.is_stopping(context) {
            self.sickness = Some(Sickness::begin(&self.term, context));
        }
    }

    /// Returns whether the command is sick and a standby can take over, by the latest read or change. Only an answer of etcd leads to this:
    /// while etcd does not answer, nobody can take over, nor while the lock is paused.
    fn must_step_down(&self, context: &Context<'_>) -> bool {
        let is_paused = context.shared.paused.pause.is_some();
        self.sickness.is_some() && !is_paused && self.next.exists() && !self.is_stopping(context)
    }

    const fn is_stopping(&self, context: &Context<'_>) -> bool {
        self.ended.is_some() || context.shared.shutdown.is_some()
    }

    fn requested(&mut self, names: &[KeyOnly], context: &mut Context<'_>) {
        let requests = Inquiry::requests_for(self.term.lease, names, context.shared.lock());
        if !requests.is_empty() {
            self.inquire(requests, None, context);
        }
    }

    fn answered(&mut self, id: RequestId, answer: Answer, context: &mut Context<'_>) -> Option<Next> {
        if id == self.renewals {
            return match answer {
                Answer::Renewed { sent, read } => self.renewed(sent, read, context),
                Answer::LeaseGone => Some(self.lose(Loss::LeaseGone)),
                Answer::Failed { failure, .. } => {
                    self.denied(failure);
                    None
                }
                _ => None,
            };
        }
        if let Some(inquiry) = self.inquiry.take_if(|inquiry| inquiry.request == id) {
            let read = match answer {
                Answer::Read(read) => read,
                // The next renewal reads the requests again.
                Answer::Failed { failure, .. } => {
                    self.denied(failure);
                    return None;
                }
                _ => return None,
            };
            if let Some(requester) = inquiry.owner(read, context.shared.lock()) {
                return Some(self.lose(Loss::Requested(requester)));
            }
            inquiry.confirms.iter().for_each(|sent| self.confirm(*sent, context));
            self.inquiry = inquiry.next(context);
            return None;
        }
        if self.sickness.as_mut().is_some_and(|sickness| sickness.is_answered(id)) {
            let Answer::Read(read) = answer else { return None };
            if let Err(loss) = self.term.check(&read.keys, context.shared.lock()) {
                return Some(self.lose(loss));
            }
            self.saw(read, context);
            if self.must_step_down(context) {
                return Some(self.lose(Loss::Sick));
            }
            tracing::warn!("no standby can take over: the command keeps running, although its check fails");
            context.report(Progress::Stranded);
            return None;
        }
        let observed = self.observation.answered(answer, &self.term, context);
        self.observed(observed, context)
    }

    fn reported(&mut self, report: Report, context: &mut Context<'_>) -> Option<Next> {
        note(report, context);
        match report {
            Report::Ending(Reason::RenewDeadline | Reason::KillDeadline) => Some(self.lose(Loss::NotRenewed)),
            Report::Starting(program) => {
                self.is_preparing = program == Program::OnElected;
                None
            }
            Report::Ended(end) => {
                self.ended = Some(end);
                // A command that could not be started is tried again in another term.
                context.report(Progress::Ended { again: end.is_temporary() });
                None
            }
            Report::TreeExited(end) => Some(self.end(End::Command(self.ended.unwrap_or(end)), context)),
            Report::GuardLost => Some(self.end(End::GuardLost, context)),
            Report::Started(_) | Report::Fed(_) | Report::Ending(_) => None,
        }
    }

    fn end(&self, end: End, context: &mut Context<'_>) -> Next {
        end.after(self.term.clone(), self.next.entry(), context)
    }
}

impl Handle for Leading {
    fn on(&mut self, event: Event, context: &mut Context<'_>) -> Option<Next> {
        match event {
            Event::Answer(id, answer) => return self.answered(id, answer, context),
            Event::Report(report) => return self.reported(report, context),
            Event::Signal(signal) if self.is_preparing && signal.meaning == Meaning::Interrupt => {
                context.shut_down(signal);
                context.order(Order::Stop);
            }
            Event::Signal(signal) => {
                let is_stopping = self.is_stopping(context);
                signaled(signal, is_stopping, context);
            }
            Event::ClusterLost => return Some(self.lose(Loss::AnotherCluster)),
            Event::Woken => {
                self.lateness.woken(context);
                self.observation.woken(&self.term, context);
            }
            Event::Healthy(healthy) => self.checked(healthy, context),
            Event::NewLease(_) | Event::Eligible(_) => {}
        }
        None
    }

    fn next_wake(&self) -> Option<Instant> {
        [self.lateness.next_wake(), self.observation.next_wake()].into_iter().flatten().min()
    }

    fn requests(&self) -> Vec<RequestId> {
        let inquiry = self.inquiry.as_ref().map(|inquiry| inquiry.request);
        let sickness = self.sickness.as_ref().and_then(Sickness::request);
        [Some(self.renewals), inquiry, self.observation.request(), sickness].into_iter().flatten().collect()
    }

    fn shift(&mut self, shift: Shift<'_>) {
        shift.request(&mut self.renewals);
        self.lateness.shift(shift);
        self.observation.shift(shift);
        self.inquiry.iter_mut().for_each(|inquiry| inquiry.shift(shift));
        self.sickness.iter_mut().for_each(|sickness| sickness.shift(shift));
    }
}
