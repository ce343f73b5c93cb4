//! The state of one candidate in one election, and the reads that all its steps need.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use super::{
    keys::Request,
    progress::{Observer, Progress},
    view::{Entry, View},
};
use crate::{
    core::{
        clock::{Clock, Instant},
        names::{LeaseId, LockName},
        timing::Timing,
    },
    etcd::{
        client::EtcdClient,
        store::{Get, KeyValue, Range, Store, StoreError},
    },
    settings::ElectionConfig,
};

/// One candidate in one election.
pub struct Election<S, C> {
    pub(super) etcd: EtcdClient<S, C>,
    pub(super) lock: LockName,
    pub(super) identity: String,
    pub(super) timing: Timing,
    /// The lease that has to be revoked at the end.
    pub(super) lease: Cell<Option<LeaseId>>,
    /// Whether etcd confirmed that lease.
    pub(super) granted: Cell<bool>,
    /// The time to live of the latest lease: etcd may grant more than was requested.
    pub(super) ttl: Cell<Duration>,
    pub(super) demand: Cell<Demand>,
    /// Whether this candidate itself led in the cluster that was lost: then no command is left running there.
    pub(super) led_lost_cluster: Cell<bool>,
    /// The leader that was logged last.
    pub(super) logged_leader: RefCell<String>,
    observer: Observer,
}

/// Which holders this candidate requests a handover from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// From none: it waits for its turn.
    None,
    /// From a holder with the same identity, if there is one when it joins; not decided before.
    OfSameIdentity,
    /// From the holder with this lease, which it found when it joined; not from a standby that is elected later.
    OfHolder(Option<LeaseId>),
    /// From every leader until it has led itself.
    OfEveryLeader,
}

impl Demand {
    /// Returns whether it requests a handover from this holder.
    pub(super) fn is_for(self, holder: &KeyValue) -> bool {
        match self {
            Self::None | Self::OfSameIdentity => false,
            Self::OfHolder(lease) => holder.lease == lease,
            Self::OfEveryLeader => true,
        }
    }

    /// Returns the handover request of a candidate with this lease. A holder without a lease cannot be asked.
    pub(super) fn request(self, lease: LeaseId) -> Option<Request> {
        match self {
            Self::None | Self::OfSameIdentity | Self::OfHolder(None) => None,
            Self::OfHolder(to) => Some(Request { to, lease }),
            Self::OfEveryLeader => Some(Request { to: None, lease }),
        }
    }
}

/// One leadership: the keys and the lease that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The lease that all its keys are attached to.
    pub lease: LeaseId,
    /// Its time to live, as granted.
    pub ttl: Duration,
    /// The fencing token: the mod revision of the holder key.
    pub token: i64,
    /// When the latest confirmed renewal was sent.
    pub renewed_at: Instant,
    /// Its queue entry, the head, as it was last written.
    pub(super) entry: KeyValue,
    /// The revision at which all this was read.
    pub(super) revision: i64,
    /// The next queue entry of an instance of this program, as the latest renewal read it.
    pub(super) next: RefCell<Option<Entry>>,
}

impl<S: Store, C: Clock> Election<S, C> {
    /// Creates a candidate that has not joined yet.
    #[must_use]
    pub fn new(config: &ElectionConfig, client: EtcdClient<S, C>, observer: Observer) -> Self {
        let demand = match (config.force, config.identity_is_explicit) {
            (true, _) => Demand::OfEveryLeader,
            (false, true) => Demand::OfSameIdentity,
            (false, false) => Demand::None,
        };
        Self {
            etcd: client,
            lock: config.lock.clone(),
            identity: config.identity.clone(),
            timing: config.timing,
            lease: Cell::new(None),
            granted: Cell::new(false),
            ttl: Cell::new(config.timing.lease()),
            demand: Cell::new(demand),
            led_lost_cluster: Cell::default(),
            logged_leader: RefCell::default(),
            observer,
        }
    }

    /// Returns the etcd client of this candidate.
    pub const fn etcd(&self) -> &EtcdClient<S, C> {
        &self.etcd
    }

    pub(super) fn clock(&self) -> &C {
        self.etcd.clock()
    }

    pub(super) fn report(&self, progress: Progress) {
        (self.observer)(progress);
    }

    /// Reads, then keeps the lease alive, at one endpoint. Returns the instant before both; `None` if the lease does not exist.
    ///
    /// The read comes first: before etcd 3.4.31 and 3.5.13, a raft leader that was frozen may confirm a keepalive although another
    /// member leads by now, but it cannot answer a linearizable read.
    pub(super) async fn renew<T>(
        &self,
        lease: LeaseId,
        read: impl AsyncFn(&S) -> Result<T, StoreError>,
    ) -> Result<Option<(Instant, T)>, StoreError> {
        let renewal = async |store: &S| {
            let sent = self.clock().now();
            Ok(self.renew_at(store, lease, &read).await?.map(|read| (sent, read)))
        };
        self.etcd.hedged(renewal).await
    }

    /// Does the same as one attempt over one connection.
    pub(super) async fn renew_at<T>(
        &self,
        store: &S,
        lease: LeaseId,
        read: impl AsyncFn(&S) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let read = read(store).await?;
        Ok(store.keep_alive(lease).await?.then_some(read))
    }

    /// Reads all keys that concern the candidate with this lease, at one endpoint.
    pub(super) async fn view(&self, store: &S, lease: LeaseId) -> Result<View, StoreError> {
        View::read(&self.lock, self.requests(lease), async |gets: &[Get]| store.read(gets).await).await
    }

    /// Returns the reads of the requests that the candidate with this lease must obey as leader, and of its own.
    pub(super) fn requests(&self, lease: LeaseId) -> impl Iterator<Item = Get> {
        let own = self.demand.get().request(lease).map(|request| Range::Key(self.lock.request(request)));
        self.lock.requests_to(lease).into_iter().chain(own).map(Get::names)
    }
}
