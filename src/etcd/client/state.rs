//! What all requests share: the endpoints, which of them is preferred, and what was logged about them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    super::{
        membership::Membership,
        store::{Store, StoreError},
    },
    endpoints::{Endpoints, Id},
    pauses::{Jitter, Pauses},
    timeouts::RequestTimeouts,
};
use crate::core::{clock::Clock, names::LeaseId, timing::show};

/// All endpoints of one etcd cluster; never empty.
#[derive(Debug)]
pub struct EtcdClient<S, C> {
    pub(super) endpoints: Endpoints<S>,
    pub(super) membership: Rc<Membership>,
    pub(super) clock: C,
    pub(super) timeouts: RequestTimeouts,
    pub(super) preferred: watch::Sender<Id>,
    /// An attempt has failed, or is slow.
    pub(super) trouble: Notify,
    /// Some endpoints are other ones than before.
    pub(super) others: Notify,
    pub(super) jitter: Jitter,
    /// Whether any endpoint ever answered: certificates that once were right will be right again.
    pub(super) known: Cell<bool>,
    pub(super) silent: Cell<bool>,
    /// How long the latest answer took.
    pub(super) latency: Cell<Duration>,
    /// The reasons that were told since etcd fell silent.
    pub(super) told: RefCell<BTreeSet<String>>,
    /// The votes that were told to be too few; `None` if nothing was.
    pub(super) undecided: RefCell<Option<String>>,
}

impl<S: Store, C: Clock> EtcdClient<S, C> {
    /// Whatever answers with nonsense has a new reason for ever.
    const MOST_REASONS: usize = 30;

    /// All `endpoints`, which vote by their names in `membership`; the first is preferred until another one answers faster.
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
            trouble: Notify::new(),
            others: Notify::new(),
            known: Cell::new(false),
            silent: Cell::new(false),
            latency: Cell::default(),
            told: RefCell::default(),
            undecided: RefCell::default(),
        }
    }

    /// The clock that all limits are measured with.
    pub const fn clock(&self) -> &C {
        &self.clock
    }

    /// The endpoints of the present, in the order of their names.
    pub fn endpoints(&self) -> Vec<Rc<S>> {
        self.endpoints.all().into_iter().map(|(_, store)| store).collect()
    }

    /// Which cluster is ours.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether this instance leads.
    pub(crate) fn set_urgent(&self, urgent: bool) {
        self.endpoints.names()[0].set_urgent(urgent);
    }

    /// An id for a lease that nobody else has.
    pub fn new_lease(&self) -> LeaseId {
        self.endpoints.names()[0].new_lease()
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// This connection has answered.
    pub(super) fn keep(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |_| Some(Rc::clone(store)));
    }

    /// This connection has failed: whoever uses it still may, and nobody else will.
    pub(super) fn give_up_connection(&self, id: Id, store: &Rc<S>) {
        self.endpoints.replace(id, |standing| Rc::ptr_eq(standing, store).then(|| Rc::new(store.again())));
        self.trouble.notify_one();
    }

    pub(super) fn preferred_index(&self) -> Id {
        *self.preferred.borrow()
    }

    pub(super) fn prefer(&self, index: Id) {
        self.preferred.send_if_modified(|preferred| std::mem::replace(preferred, index) != index);
    }

    /// How long an answer is waited for before etcd is said to be silent: half of what an attempt is given, or more where answers
    /// have been slow before.
    pub(super) fn silence(&self) -> Duration {
        (self.timeouts.attempt_limit / 2).max(2 * self.latency.get())
    }

    /// Returns how long to wait after one more failure in a row.
    pub(crate) fn pause_after_failure(&self, pauses: &mut Pauses, leaderless: bool) -> Duration {
        pauses.next(self.clock.now(), leaderless, &self.timeouts, &self.jitter)
    }

    /// One line when etcd answers again.
    pub(super) fn answered(&self, latency: Duration) {
        self.known.set(true);
        self.latency.set(latency);
        if self.silent.replace(false) {
            tracing::info!("etcd answers again");
        }
        self.told.borrow_mut().clear();
    }

    /// One line when no endpoint answers, and when there is a new reason; not one per try.
    pub(super) fn tell_silence(&self, reasons: &[String]) {
        let mut told = self.told.borrow_mut();
        let news = told.len() < Self::MOST_REASONS && reasons.iter().any(|reason| !told.contains(reason));
        if !self.silent.replace(true) || news {
            let pause = show(self.timeouts.pause);
            tracing::warn!("etcd does not answer; retrying at least every {pause}: {}", reasons.join("; "));
        }
        if news {
            told.extend(reasons.iter().cloned());
        }
    }

    /// What most of the endpoints refuse is final, and what they all do not trust unless they did before. One of them may be
    /// behind the others, or be set up otherwise.
    pub(super) fn all_failed(&self, failures: Vec<StoreError>) -> Result<(), StoreError> {
        let is_denied = |failure: &&StoreError| matches!(failure, StoreError::AccessDenied(_));
        let all_untrusted = failures.iter().all(|failure| matches!(failure, StoreError::Untrusted(_)));
        let final_failure = if 2 * failures.iter().filter(is_denied).count() > self.len() {
            failures.iter().find(is_denied)
        } else {
            failures.first().filter(|_| all_untrusted && !self.known.get())
        };
        if let Some(failure) = final_failure {
            return Err(failure.clone());
        }
        self.tell_silence(&failures.iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(())
    }
}
