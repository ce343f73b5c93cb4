//! The calls on one endpoint of etcd that the election needs. [`Endpoint`](super::Endpoint) implements them.

use std::time::Duration;

use super::membership::AddressFamily;
use crate::core::{
    kv::{Change, Get, Granted, Outcome, Range, Snapshot, StoreError, Txn},
    names::LeaseId,
};

/// A connection to one endpoint of an etcd cluster.
///
/// Each call is one attempt without a time limit. Reads are linearizable.
pub trait Store: Sized {
    /// A stream of changes.
    type Watch: Watch;

    /// Returns the name of this endpoint for messages.
    fn name(&self) -> &str;

    /// Returns its address: two endpoints with the same address are one.
    fn address(&self) -> String {
        self.name().to_owned()
    }

    /// Returns the name and the family of its address; `None` if it is not an address of a name.
    fn address_family(&self) -> Option<AddressFamily> {
        None
    }

    /// Resolves its name, and returns one endpoint for each address.
    fn resolve(&self) -> impl Future<Output = Result<Vec<Self>, StoreError>> {
        async { Ok(vec![self.new_connection()]) }
    }

    /// Returns the same endpoint with a new connection, which is opened by the first call.
    #[must_use]
    fn new_connection(&self) -> Self;

    /// Sets whether this instance leads, so that its logins do not wait.
    fn set_urgent(&self, _urgent: bool) {}

    /// Returns a random ID for a lease.
    fn new_lease(&self) -> LeaseId;

    /// Returns the ID of the cluster that this endpoint belongs to.
    fn cluster_id(&self) -> impl Future<Output = Result<u64, StoreError>>;

    /// Grants a lease of at least `ttl` with this ID. Succeeds also if an earlier attempt granted it.
    fn grant(&self, lease: LeaseId, ttl: Duration) -> impl Future<Output = Result<Granted, StoreError>>;

    /// Keeps a lease alive. Returns `false` if it does not exist any more.
    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<bool, StoreError>>;

    /// Revokes a lease, which deletes its keys. Returns `false` if it does not exist any more.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<bool, StoreError>>;

    /// Reads several ranges at one revision.
    fn read(&self, gets: &[Get]) -> impl Future<Output = Result<Snapshot, StoreError>>;

    /// Reads several ranges without a round trip between the members of etcd, so the result may be out of date. For keys that a
    /// transaction compares afterwards.
    fn serializable_read(&self, gets: &[Get]) -> impl Future<Output = Result<Snapshot, StoreError>> {
        self.read(gets)
    }

    /// Applies a transaction. After an error its outcome is unknown: it may have been applied, or may be applied later.
    fn commit(&self, txn: &Txn) -> impl Future<Output = Result<Outcome, StoreError>>;

    /// Watches several ranges from a revision on.
    fn watch(&self, ranges: &[Range], from: i64) -> impl Future<Output = Result<Self::Watch, StoreError>>;
}

/// A stream of changes; those of one range are in the order of their revisions.
pub trait Watch {
    /// Waits for the next changes. After an error the watch has ended: read again, and watch from that revision.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Change>, StoreError>>;
}
