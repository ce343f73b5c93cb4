//! What the election needs of etcd: a few calls on one endpoint, and no more.
//!
//! [`crate::etcd`] has the real one.

use std::time::Duration;

use super::membership::Way;
use crate::core::names::{LeaseId, shown};

/// A connection to one endpoint of an etcd cluster.
///
/// Each call is one attempt: no retry, no limit of its own. Reads are linearizable.
pub trait Store: Sized {
    /// A stream of changes.
    type Watch: Watch;

    /// What to call this endpoint in a message.
    fn name(&self) -> &str;

    /// Where it is: two endpoints with the same address are one.
    fn address(&self) -> String {
        self.name().to_owned()
    }

    /// Which way to its servers this is, if it is an address of a name.
    fn way(&self) -> Option<Way> {
        None
    }

    /// Looks its name up: one endpoint for each address.
    fn resolve(&self) -> impl Future<Output = Result<Vec<Self>, StoreError>> {
        async { Ok(vec![self.again()]) }
    }

    /// The same endpoint over a connection of its own, which is built with the first call.
    #[must_use]
    fn again(&self) -> Self;

    /// Whether this instance leads, and its logins must not wait for those of others.
    fn set_urgent(&self, _urgent: bool) {}

    /// An id for a lease that nobody else has.
    fn new_lease(&self) -> LeaseId;

    /// Asks which cluster this endpoint belongs to.
    fn cluster_id(&self) -> impl Future<Output = Result<u64, StoreError>>;

    /// Grants a lease of at least `ttl` with this id; done as well if it has been granted before.
    fn grant(&self, lease: LeaseId, ttl: Duration) -> impl Future<Output = Result<Granted, StoreError>>;

    /// Keeps a lease alive; `false` if there is no such lease any more.
    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<bool, StoreError>>;

    /// Revokes a lease, and with it its keys; `false` if there is no such lease any more.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<bool, StoreError>>;

    /// Reads several ranges at one revision.
    fn read(&self, gets: &[Get]) -> impl Future<Output = Result<Snapshot, StoreError>>;

    /// Reads several ranges as this endpoint knows them, which may be what they were a moment ago: one round trip, and none
    /// between the members of etcd. For what is compared by a transaction afterwards.
    fn serializable_read(&self, gets: &[Get]) -> impl Future<Output = Result<Snapshot, StoreError>> {
        self.read(gets)
    }

    /// Applies a transaction. After an error its outcome is unknown: it may have been applied, or still be.
    fn commit(&self, txn: &Txn) -> impl Future<Output = Result<Outcome, StoreError>>;

    /// Watches several ranges from a revision on.
    fn watch(&self, ranges: &[Range], from: i64) -> impl Future<Output = Result<Self::Watch, StoreError>>;
}

/// A stream of changes; those of one range in the order of their revisions.
pub trait Watch {
    /// The next changes. After an error the watch is of no more use: read again, and watch from there.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Change>, StoreError>>;
}

/// Why a call brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// etcd knows us and says no, and only a person can mend it: wrong password, no permission.
    #[error("{0}")]
    AccessDenied(String),
    /// No trust between the two: certificates. A person has to mend it unless another endpoint works.
    #[error("{0}")]
    Untrusted(String),
    /// There is no leader in etcd, or there has just been another one: it may work at once.
    #[error("{0}")]
    NoLeader(String),
    /// All else: not reached, no etcd leader, a broken stream. It may pass.
    #[error("{0}")]
    Unavailable(String),
}

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub lease: LeaseId,
    /// Its time to live: what was asked for, or etcd's minimum.
    pub ttl: Duration,
}

/// A key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Range {
    /// One key.
    Key(Vec<u8>),
    /// All keys with this prefix.
    Prefix(Vec<u8>),
    /// All keys from the first to just before the second.
    Between(Vec<u8>, Vec<u8>),
}

impl Range {
    /// Returns whether it contains this key.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(one) => key == one,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Between(from, to) => from.as_slice() <= key && key < to.as_slice(),
        }
    }
}

/// A read of one range. It always has a limit, as other clients can put any number of keys there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The range.
    pub range: Range,
    /// Whether to read values and leases, too.
    pub values: bool,
    /// Only the oldest key that was created after this revision.
    pub next_after: Option<i64>,
    /// The revision to read at; `None` for the latest.
    pub at: Option<i64>,
    /// The limit, in the order of the names. An endpoint lowers it if an answer is too large.
    pub most: u16,
}

impl Get {
    /// The limit of a page of the queue: small enough to skip an application's keys soon.
    const PAGE: u16 = 200;
    /// The limit for requests and markers. One transaction has room for a read for each.
    pub const FEW: usize = 50;

    /// Reads one key with its value.
    #[must_use]
    pub const fn key(key: Vec<u8>) -> Self {
        Self { range: Range::Key(key), values: true, next_after: None, at: None, most: 1 }
    }

    /// Reads a few keys without their values.
    #[must_use]
    pub const fn names(range: Range) -> Self {
        Self { range, values: false, next_after: None, at: None, most: Self::FEW as u16 }
    }

    /// Reads a page of a range; [`Snapshot::cut`] tells where it ends.
    #[must_use]
    pub const fn page(range: Range, values: bool) -> Self {
        Self { range, values, next_after: None, at: None, most: Self::PAGE }
    }

    /// Reads the oldest key that was created after a revision, with its value.
    #[must_use]
    pub const fn next_after(range: Range, revision: i64) -> Self {
        Self { range, values: true, next_after: Some(revision), at: None, most: 1 }
    }
}

/// A key with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// The lease it hangs on, if any.
    pub lease: Option<LeaseId>,
}

impl KeyValue {
    /// The value as text: an identity, as it is [`shown`].
    #[must_use]
    pub fn identity(&self) -> String {
        shown(&self.value)
    }
}

/// A key that was read without its value. etcd 3.7 does not tell its lease then, so this type has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOnly {
    /// The key.
    pub key: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
}

impl From<KeyValue> for KeyOnly {
    fn from(KeyValue { key, create_revision, mod_revision, .. }: KeyValue) -> Self {
        Self { key, create_revision, mod_revision }
    }
}

/// Several ranges at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the store.
    pub revision: i64,
    /// The keys that were read with their values.
    pub keys: Vec<KeyValue>,
    /// The keys that were read without their values.
    pub names: Vec<KeyOnly>,
    /// The reads that reached their limit, by their index, with the last key that was read.
    pub cut: Vec<(usize, Vec<u8>)>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Created or rewritten.
    Put(KeyValue),
    /// Deleted: this key, at this revision.
    Deleted(Vec<u8>, i64),
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Deleted(key, _) => key,
        }
    }
}

/// A transaction: `then` if all of `when` holds, else `otherwise`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub when: Vec<Compare>,
    /// What is done then.
    pub then: Vec<Op>,
    /// What is tried if it does not hold.
    pub otherwise: Option<Box<Self>>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// No key of the range exists.
    Absent(Range),
    /// The key was last changed at this revision.
    Unchanged(Vec<u8>, i64),
    /// All keys of the range were created before this revision.
    Older(Range, i64),
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key that hangs on a lease.
    Put(Vec<u8>, Vec<u8>, LeaseId),
    /// Deletes a key, if it exists.
    Delete(Vec<u8>),
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `then` was applied, at this revision.
    Then(i64),
    /// `otherwise` was applied, at this revision.
    Otherwise(i64),
    /// Nothing was changed.
    Nothing,
}
