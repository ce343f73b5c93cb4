//! A test double of an endpoint.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    time::Duration,
};

use super::store::{self, Store};
use crate::core::{
    kv::{Change, Get, Granted, Outcome, Range, Snapshot, StoreError, Txn},
    names::LeaseId,
};

/// A response and its delay; `None` for no response.
pub(crate) type Answer = (Option<Duration>, Result<&'static str, StoreError>);

/// Answers requests for its cluster, and those of [`ask`](Self::ask) as scripted; does not answer any other.
#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) name: &'static str,
    pub(crate) first: Answer,
    /// The response over later connections.
    pub(crate) later: Answer,
    pub(crate) asked: Rc<RefCell<Vec<&'static str>>>,
    /// The response with the ID of its cluster.
    pub(crate) cluster: (Option<Duration>, Result<u64, StoreError>),
    /// The endpoints that were asked for their cluster.
    pub(crate) voted: Rc<RefCell<Vec<&'static str>>>,
    /// The number of requests to revoke a lease. The first one is not answered.
    pub(crate) revoked: Rc<Cell<u32>>,
    /// The number of new lease IDs.
    pub(crate) leases: Rc<Cell<u32>>,
}

impl Double {
    pub(crate) fn named(name: &'static str) -> Self {
        let silent = (None, Ok(""));
        Self {
            name,
            first: silent.clone(),
            later: silent,
            asked: Rc::default(),
            cluster: (Some(Duration::ZERO), Ok(1)),
            voted: Rc::default(),
            revoked: Rc::default(),
            leases: Rc::default(),
        }
    }

    pub(crate) async fn ask(&self) -> Result<&'static str, StoreError> {
        self.asked.borrow_mut().push(self.name);
        match self.first.0 {
            Some(time) => tokio::time::sleep(time).await,
            None => pending().await,
        }
        self.first.1.clone()
    }
}

pub(crate) struct NoWatch;

impl store::Watch for NoWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        pending().await
    }
}

impl Store for Double {
    type Watch = NoWatch;

    fn name(&self) -> &str {
        self.name
    }

    fn new_connection(&self) -> Self {
        Self { first: self.later.clone(), ..self.clone() }
    }

    fn new_lease(&self) -> LeaseId {
        self.leases.set(self.leases.get() + 1);
        LeaseId(7)
    }

    async fn cluster_id(&self) -> Result<u64, StoreError> {
        self.voted.borrow_mut().push(self.name);
        match self.cluster.0 {
            Some(time) => tokio::time::sleep(time).await,
            None => pending().await,
        }
        self.cluster.1.clone()
    }

    async fn grant(&self, _: LeaseId, _: Duration) -> Result<Granted, StoreError> {
        pending().await
    }

    async fn keep_alive(&self, _: LeaseId) -> Result<bool, StoreError> {
        pending().await
    }

    async fn revoke(&self, _: LeaseId) -> Result<bool, StoreError> {
        self.revoked.set(self.revoked.get() + 1);
        if self.revoked.get() == 1 { pending().await } else { Ok(true) }
    }

    async fn read(&self, _: &[Get]) -> Result<Snapshot, StoreError> {
        pending().await
    }

    async fn commit(&self, _: &Txn) -> Result<Outcome, StoreError> {
        pending().await
    }

    async fn watch(&self, _: &[Range], _: i64) -> Result<NoWatch, StoreError> {
        pending().await
    }
}
