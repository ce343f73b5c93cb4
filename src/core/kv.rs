//! The data model of etcd, as far as an election uses it: keys, reads, transactions and changes.

use std::time::Duration;

use super::names::{LeaseId, shown};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreError {
    /// etcd denied access: wrong password or missing permission. An operator has to correct it.
    #[error("{0}")]
    AccessDenied(String),
    /// TLS verification failed. An operator has to correct it, unless another endpoint works.
    #[error("{0}")]
    Untrusted(String),
    /// etcd has no leader, or its leader has just changed. Another attempt may succeed at once.
    #[error("{0}")]
    NoLeader(String),
    /// Any other failure, such as a broken connection. Another attempt may succeed later.
    #[error("{0}")]
    Unavailable(String),
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Granted {
    /// Its id.
    pub lease: LeaseId,
    /// Its time to live: the requested one, or etcd's minimum.
    pub ttl: Duration,
}

/// A key or a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A read of one range. It always has a limit, as other clients can create any number of keys there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Get {
    /// The range.
    pub range: Range,
    /// Whether to read values and leases as well.
    pub values: bool,
    /// If set, only the oldest key that was created after this revision.
    pub next_after: Option<i64>,
    /// The revision to read at; `None` for the latest.
    pub at: Option<i64>,
    /// The maximum number of keys, in the order of their names. An endpoint lowers it if a response is too large.
    pub limit: u16,
}

impl Get {
    /// The limit of a page of the queue: small, so that keys of an application are soon skipped.
    const PAGE: u16 = 200;
    /// The limit for requests and markers. One transaction can have a read for each.
    pub const FEW: usize = 50;

    /// Returns a read of one key with its value.
    #[must_use]
    pub const fn key(key: Vec<u8>) -> Self {
        Self { range: Range::Key(key), values: true, next_after: None, at: None, limit: 1 }
    }

    /// Returns a read of a few keys without their values.
    #[must_use]
    pub const fn names(range: Range) -> Self {
        Self { range, values: false, next_after: None, at: None, limit: Self::FEW as u16 }
    }

    /// Returns a read of a page of a range; [`Snapshot::cut`] has its last key.
    #[must_use]
    pub const fn page(range: Range, values: bool) -> Self {
        Self { range, values, next_after: None, at: None, limit: Self::PAGE }
    }

    /// Returns a read of the oldest key that was created after a revision, with its value.
    #[must_use]
    pub const fn next_after(range: Range, revision: i64) -> Self {
        Self { range, values: true, next_after: Some(revision), at: None, limit: 1 }
    }
}

/// A key with its value, revisions and lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub create_revision: i64,
    /// The revision that changed it last.
    pub mod_revision: i64,
    /// The lease that it is attached to, if any.
    pub lease: Option<LeaseId>,
}

impl KeyValue {
    /// Returns the value as text, as it is [`shown`].
    #[must_use]
    pub fn identity(&self) -> String {
        shown(&self.value)
    }
}

/// A key that was read without its value. It has no lease, as etcd 3.7 does not return the lease then.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The revision of the store.
    pub revision: i64,
    /// The keys that were read with their values.
    pub keys: Vec<KeyValue>,
    /// The keys that were read without their values.
    pub names: Vec<KeyOnly>,
    /// The index of each read that reached its limit, with the last key that it returned.
    pub cut: Vec<(usize, Vec<u8>)>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Created or rewritten.
    Put(KeyValue),
    /// Deleted: this key, at this revision.
    Deleted(Vec<u8>, i64),
}

impl Change {
    /// Returns the key that changed.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Deleted(key, _) => key,
        }
    }
}

/// A transaction: applies `then` if all compares succeed, else `otherwise`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Txn {
    /// The compares.
    pub when: Vec<Compare>,
    /// The operations if all compares succeed.
    pub then: Vec<Op>,
    /// The transaction that is applied otherwise.
    pub otherwise: Option<Box<Self>>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// No key of the range exists.
    Absent(Range),
    /// The key was last changed at this revision.
    Unchanged(Vec<u8>, i64),
    /// All keys of the range were created before this revision.
    Older(Range, i64),
    /// All keys of the range were created at this revision or later, and there is at least one.
    NotOlder(Range, i64),
}

/// A change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Writes a value to a key and attaches the key to a lease.
    Put(Vec<u8>, Vec<u8>, LeaseId),
    /// Deletes a key, if it exists.
    Delete(Vec<u8>),
}

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `then` was applied, at this revision.
    Then(i64),
    /// `otherwise` was applied, at this revision.
    Otherwise(i64),
    /// Nothing was changed.
    Nothing,
}
