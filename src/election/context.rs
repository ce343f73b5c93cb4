//! The data that all phases of a candidate share, and the context in which a phase handles an event.

use std::{sync::Arc, time::Duration};

use super::{
    absence::Absence,
    demand::Demand,
    keys, pause,
    progress::Progress,
    protocol::{Action, Answer, Request, RequestId, Signal},
};
use crate::{
    core::{
        clock::{self, Instant},
        kv::{Get, KeyValue, Range},
        names::{LeaseId, LockName},
    },
    guard::Order,
    settings::ElectionConfig,
};

/// The data that all phases share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shared {
    pub(super) config: Arc<ElectionConfig>,
    pub(super) restart_pause: Duration,
    pub(super) demand: Demand,
    /// The lease that has to be revoked at the end.
    pub(super) lease: Option<OwnLease>,
    /// The time to live of the latest lease: etcd may grant more than was requested.
    pub(super) ttl: Duration,
    /// Whether most endpoints belong to another cluster than the one that is used.
    pub(super) cluster_lost: bool,
    /// Whether this candidate itself led in the cluster that was lost: then no command is left running there.
    pub(super) led_lost_cluster: bool,
    /// Whether a term began, and the lease of it is not revoked yet.
    pub(super) in_term: bool,
    /// The pause, as far as it is known. Only the choice of the next request, and whether a sick leader steps down, depend on it.
    pub(super) paused: pause::Known,
    /// Whether this host may lead, as far as it was told since the latest term.
    pub(super) eligible: bool,
    /// How long it stays out of the queue after its command was sick.
    pub(super) sick_terms: Absence,
    /// The signal that requested a shutdown.
    pub(super) shutdown: Option<Signal>,
    /// How long it stays out of the queue after ON_ELECTED has failed.
    pub(super) failed_preparations: Absence,
    /// Whether the guard was lost while no command ran.
    pub(super) guard_lost: bool,
    /// The leader that was logged last.
    pub(super) logged_leader: String,
    /// When the present campaign began.
    pub(super) campaign_began: Instant,
    /// When the present campaign is given up.
    pub(super) give_up_at: Option<Instant>,
    pub(super) requests: Requests,
}

/// A lease that this candidate has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OwnLease {
    pub(super) id: LeaseId,
    /// Whether etcd confirmed it.
    pub(super) granted: bool,
}

impl Shared {
    pub(super) fn new(config: Arc<ElectionConfig>, restart_pause: Duration, now: Instant) -> Self {
        let mut shared = Self {
            demand: Demand::at_start(&config),
            ttl: config.timing.lease(),
            restart_pause,
            lease: None,
            cluster_lost: false,
            led_lost_cluster: false,
            in_term: false,
            paused: pause::Known::default(),
            eligible: !config.asks_eligibility,
            sick_terms: Absence::default(),
            shutdown: None,
            failed_preparations: Absence::default(),
            guard_lost: false,
            logged_leader: String::new(),
            campaign_began: now,
            give_up_at: None,
            requests: Requests::default(),
            config,
        };
        shared.begin_campaign(now);
        shared
    }

    /// Begins another campaign, with a new ACQUIRE_TIMEOUT.
    pub(super) fn begin_campaign(&mut self, now: Instant) {
        self.campaign_began = now;
        self.give_up_at = self.config.acquire_timeout.map(|_| now + self.acquire_limit());
    }

    /// Returns how long a campaign may take. With an ACQUIRE_TIMEOUT of zero it ends as soon as somebody else is seen to be ahead; if
    /// etcd does not answer, after the time that a renewal may take.
    pub(super) fn acquire_limit(&self) -> Duration {
        let timeout = self.config.acquire_timeout.unwrap_or(Duration::MAX);
        if timeout.is_zero() { self.config.timing.renew_deadline() } else { timeout }
    }

    /// Forgets whether this host may lead, which is not asked during the term that begins.
    pub(super) fn forget_eligibility(&mut self) {
        self.eligible = !self.config.asks_eligibility;
    }

    pub(super) fn lock(&self) -> &LockName {
        &self.config.lock
    }

    /// Returns whether this is the identity of this instance.
    pub(super) fn is_own_identity(&self, kv: &KeyValue) -> bool {
        kv.value == self.config.identity.as_bytes()
    }

    /// Returns the reads of the requests that the candidate with this lease must obey as leader, and of those that it may have made.
    pub(super) fn requests_of(&self, lease: LeaseId) -> Vec<Get> {
        let own = match self.demand.request(lease) {
            // An eviction makes one to every leader.
            Some(request) => vec![request, keys::Request { to: None, lease }],
            None => vec![],
        };
        let own = own.into_iter().map(|request| Range::Key(self.lock().request(request)));
        // An operator may have made others for it.
        let [_, to_one] = self.lock().requests();
        self.lock().requests_to(lease).into_iter().chain(own).chain([to_one]).map(Get::names).collect()
    }

    pub(super) fn shift(&mut self, shift: Shift<'_>) {
        shift.instant(&mut self.campaign_began);
        self.give_up_at.iter_mut().for_each(|limit| shift.instant(limit));
        self.requests.last = shift.open.len() as u64;
        self.requests.open.iter_mut().for_each(|open| shift.request(&mut open.id));
    }
}

/// The requests that are not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Requests {
    last: u64,
    open: Vec<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    id: RequestId,
    ends: Ends,
}

/// Which answer is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ends {
    WithTheFirst,
    WithAFailure,
    Never,
}

impl Requests {
    fn add(&mut self, request: &Request) -> RequestId {
        self.last = self.last.wrapping_add(1);
        let id = RequestId(self.last);
        let ends = match request {
            Request::RenewEvery { .. } => Ends::Never,
            Request::Watch { .. } => Ends::WithAFailure,
            _ => Ends::WithTheFirst,
        };
        self.open.push(Open { id, ends });
        id
    }

    /// Notes an answer. Returns `false` if nothing waits for it any more.
    pub(super) fn is_answered(&mut self, id: RequestId, answer: &Answer) -> bool {
        let Some(index) = self.open.iter().position(|open| open.id == id) else { return false };
        let over = match self.open[index].ends {
            Ends::WithTheFirst => true,
            Ends::WithAFailure => matches!(answer, Answer::Failed { .. }),
            Ends::Never => false,
        };
        if over {
            self.open.remove(index);
        }
        true
    }

    /// Returns the requests that are not finished.
    pub(super) fn open(&self) -> Vec<RequestId> {
        self.open.iter().map(|open| open.id).collect()
    }

    /// Cancels all requests but these.
    pub(super) fn keep_only(&mut self, wanted: &[RequestId], actions: &mut Vec<Action>) {
        self.open.retain(|open| {
            let keep = wanted.contains(&open.id);
            if !keep {
                actions.push(Action::Cancel(open.id));
            }
            keep
        });
    }
}

/// Makes states equal that differ only in time and in the numbers of their requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift<'a> {
    /// How instants are moved.
    pub(super) clock: clock::Shift,
    /// The open requests. Each gets its place among them as its number.
    pub(super) open: &'a [RequestId],
}

impl Shift<'_> {
    pub(super) fn instant(self, instant: &mut Instant) {
        self.clock.instant(instant);
    }

    pub(super) fn request(self, id: &mut RequestId) {
        let place = self.open.iter().position(|open| open == id);
        id.0 = place.map_or(0, |place| place as u64 + 1);
    }
}

/// What a phase needs to handle an event.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) now: Instant,
    pub(super) actions: &'a mut Vec<Action>,
}

impl Context<'_> {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Sends a request. It is cancelled as soon as the present phase does not wait for it.
    pub(super) fn request(&mut self, request: Request) -> RequestId {
        let id = self.shared.requests.add(&request);
        self.act(Action::Request(id, request));
        id
    }

    pub(super) fn order(&mut self, order: Order) {
        self.act(Action::Order(order));
    }

    /// Notes a shutdown request: no other term follows.
    pub(super) fn shut_down(&mut self, signal: Signal) {
        self.shared.shutdown = Some(signal);
        self.report(Progress::Ending);
    }

    pub(super) fn report(&mut self, progress: Progress) {
        self.act(Action::Progress(progress));
    }
}
