//! The state that all requests share: the endpoints, the preferred one, and the failures that were logged.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    super::{membership::Membership, store::Store},
    endpoints::{Endpoints, Id},
    pauses::{Jitter, Pauses},
    timeouts::RequestTimeouts,
};
use crate::core::{clock::Clock, kv::StoreError, names::LeaseId, timing::show};

/// The client of one etcd cluster, with at least one endpoint.
#[derive(Debug)]
pub struct EtcdClient<S, C> {
    pub(super) endpoints: Endpoints<S>,
    pub(super) membership: Rc<Membership>,
    pub(super) clock: C,
    pub(super) timeouts: RequestTimeouts,
    pub(super) preferred: watch::Sender<Id>,
    /// Notified when an attempt has failed or is slow.
    pub(super) slow_or_failed: Notify,
    /// Notified when a name resolves to other endpoints than before.
    pub(super) endpoints_changed: Notify,
    pub(super) jitter: Jitter,
    /// Whether any endpoint ever answered. After that, failing certificates are taken for a temporary error.
    pub(super) has_answered: Cell<bool>,
    pub(super) silent: Cell<bool>,
    /// The duration of the latest request.
    pub(super) latency: Cell<Duration>,
    /// The failures that were logged since etcd stopped answering.
    pub(super) logged_reasons: RefCell<BTreeSet<String>>,
    /// The insufficient votes that were logged last.
    pub(super) logged_votes: RefCell<Option<String>>,
}

impl<S: Store, C: Clock> EtcdClient<S, C> {
    /// The limit for logged failures, as a failing endpoint may report another one each time.
    const MAX_REASONS: usize = 30;

    /// Creates a client of these endpoints, whose votes are counted in `membership`. The first one is preferred until another one
    /// answers faster.
    ///
    /// # Panics
    /// Without an endpoint.
    #[must_use]
    pub fn new(endpoints: Vec<S>, membership: Rc<Membership>, clock: C, timeouts: RequestTimeouts) -> Self {
        assert!(!endpoints.is_empty(), "a cluster has endpoints");
        Self {
            endpoints: Endpoints::new(endpoints),
            membership,
            jitter: Jitter::new(clock.now()),
            clock,
            timeouts,
            preferred: watch::Sender::new(0),
            slow_or_failed: Notify::new(),
            endpoints_changed: Notify::new(),
            has_answered: Cell::new(false),
            silent: Cell::new(false),
            latency: Cell::default(),
            logged_reasons: RefCell::default(),
            logged_votes: RefCell::default(),
        }
    }

    /// Returns the clock for all time limits.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// Returns all endpoints, in the order of their names.
    pub fn endpoints(&self) -> Vec<Rc<S>> {
        self.endpoints.all().into_iter().map(|(_, store)| store).collect()
    }

    /// Returns the votes about which cluster to use.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Sets whether this instance leads, so that its logins do not wait.
    pub(crate) fn set_urgent(&self, urgent: bool) {
        self.endpoints.names()[0].set_urgent(urgent);
    }

    /// Returns a random ID for a lease.
    pub fn new_lease(&self) -> LeaseId {
        self.endpoints.names()[0].new_lease()
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Makes a connection that has answered the open connection of its endpoint.
    pub(super) fn keep_connection(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |_| Some(Rc::clone(store)));
    }

    /// Replaces a connection that has failed. Requests in flight go on using it.
    pub(super) fn replace_connection(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |open| Rc::ptr_eq(open, store).then(|| Rc::new(store.new_connection())));
        self.slow_or_failed.notify_one();
    }

    pub(super) fn preferred_index(&self) -> Id {
        *self.preferred.borrow()
    }

    pub(super) fn prefer(&self, index: Id) {
        self.preferred.send_if_modified(|preferred| std::mem::replace(preferred, index) != index);
    }

    /// Returns how long there may be no response before a line is logged: half of the attempt limit, or more if responses have been
    /// slow.
    pub(super) fn silence(&self) -> Duration {
        (self.timeouts.attempt_limit / 2).max(2 * self.latency.get())
    }

    /// Returns how long to wait after one more failure in a row.
    pub(crate) fn pause_after_failure(&self, pauses: &mut Pauses, leaderless: bool) -> Duration {
        pauses.next(self.clock.now(), leaderless, &self.timeouts, &self.jitter)
    }

    /// Returns the longest pause after failures.
    pub(crate) const fn longest_pause(&self) -> Duration {
        self.timeouts.pause
    }

    /// Records a response, and logs one line if etcd did not answer before.
    pub(super) fn answered(&self, latency: Duration) {
        self.has_answered.set(true);
        self.latency.set(latency);
        if self.silent.replace(false) {
            tracing::info!("etcd answers again");
        }
        self.logged_reasons.borrow_mut().clear();
    }

    /// Logs one line when no endpoint answers, and when there is a new reason.
    pub(super) fn log_silence(&self, reasons: &[String]) {
        let mut logged = self.logged_reasons.borrow_mut();
        let is_new = logged.len() < Self::MAX_REASONS && reasons.iter().any(|reason| !logged.contains(reason));
        if !self.silent.replace(true) || is_new {
            let pause = show(self.timeouts.pause);
            tracing::warn!("etcd does not answer; retrying at least every {pause}: {}", reasons.join("; "));
        }
        if is_new {
            logged.extend(reasons.iter().cloned());
        }
    }

    /// Returns an error if more than half of the endpoints deny access, or if TLS verification fails for all of them and none ever
    /// answered. A single endpoint may lag behind the others or be configured differently.
    pub(super) fn all_failed(&self, failures: Vec<StoreError>) -> Result<(), StoreError> {
        let is_denied = |failure: &&StoreError| matches!(failure, StoreError::AccessDenied(_));
        let all_untrusted = failures.iter().all(|failure| matches!(failure, StoreError::Untrusted(_)));
        let final_failure = if 2 * failures.iter().filter(is_denied).count() > self.len() {
            failures.iter().find(is_denied)
        } else {
            failures.first().filter(|_| all_untrusted && !self.has_answered.get())
        };
        if let Some(failure) = final_failure {
            return Err(failure.clone());
        }
        self.log_silence(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }
}
