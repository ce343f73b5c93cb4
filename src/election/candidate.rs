//! What one candidate of one election keeps, and the reads that all its steps need.

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
    /// The lease that has to be given back.
    pub(super) lease: Cell<Option<LeaseId>>,
    /// Whether etcd confirmed that lease.
    pub(super) granted: Cell<bool>,
    /// The time to live of the latest lease: what etcd grants can be more than what is asked for.
    pub(super) ttl: Cell<Duration>,
    pub(super) demand: Cell<Demand>,
    /// Whether this candidate itself was the leader of the cluster that was lost: its command has ended.
    pub(super) led_the_lost: Cell<bool>,
    /// Who was last said to lead.
    pub(super) told_leader: RefCell<String>,
    /// Who is told what changes.
    observer: Observer,
}

/// Whether this candidate asks for the lead instead of waiting for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It waits.
    None,
    /// It asks if its own identity leads when it joins first.
    OfSameIdentity,
    /// It asks only the holder that it found when it joined, by its lease. A standby that is elected later is left alone.
    OfHolder(Option<LeaseId>),
    /// It asks every leader until it has led itself.
    OfEveryLeader,
}

impl Demand {
    /// Returns whether this holder is asked.
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

/// One leadership: what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The lease that everything hangs on.
    pub lease: LeaseId,
    /// Its time to live, as granted.
    pub ttl: Duration,
    /// The fencing token: the mod revision of the holder key.
    pub token: i64,
    /// When the latest confirmed renewal was sent.
    pub renewed_at: Instant,
    /// Our queue entry, the head, as it was last written.
    pub(super) entry: KeyValue,
    /// The revision of the store at which all this was read.
    pub(super) revision: i64,
    /// The next queue entry of ours, as the latest renewal saw it.
    pub(super) next: RefCell<Option<Entry>>,
}

impl<S: Store, C: Clock> Election<S, C> {
    /// A candidate that has not joined yet.
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
            led_the_lost: Cell::default(),
            told_leader: RefCell::default(),
            observer,
        }
    }

    /// The endpoints this candidate uses.
    pub const fn etcd(&self) -> &EtcdClient<S, C> {
        &self.etcd
    }

    pub(super) fn clock(&self) -> &C {
        self.etcd.clock()
    }

    /// Tells of a change.
    pub(super) fn tell(&self, progress: Progress) {
        (self.observer)(progress);
    }

    /// Reads, then keeps the lease alive, both at one endpoint. The confirmation counts from the moment before either was sent.
    /// Returns `None` if the lease is gone.
    ///
    /// In this order, as a leader of etcd that was frozen answers a keepalive without having it from the others (before 3.4.31
    /// and 3.5.13); a linearizable read it cannot answer before it knows that it leads no more.
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

    /// The same over one connection, as one attempt.
    pub(super) async fn renew_at<T>(
        &self,
        store: &S,
        lease: LeaseId,
        read: impl AsyncFn(&S) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let read = read(store).await?;
        Ok(store.keep_alive(lease).await?.then_some(read))
    }

    /// Reads everything that concerns the candidate with this lease, at one endpoint.
    pub(super) async fn view(&self, store: &S, lease: LeaseId) -> Result<View, StoreError> {
        View::read(&self.lock, self.requests(lease), async |gets: &[Get]| store.read(gets).await).await
    }

    /// Returns what to read of requests: those that the candidate with this lease must obey as leader, and its own.
    pub(super) fn requests(&self, lease: LeaseId) -> impl Iterator<Item = Get> {
        let own = self.demand.get().request(lease).map(|request| Range::Key(self.lock.request(request)));
        self.lock.requests_to(lease).into_iter().chain(own).map(Get::names)
    }
}
