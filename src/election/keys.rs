//! The keys in etcd: their names, and how a key and its lease say whose it is.
//!
//! | key | value | what it is |
//! | --- | --- | --- |
//! | `L/0<hex of the lease>` | identity | *entry* in the queue; `L/<hex>` is one of etcd's own clients |
//! | `L` | identity | the *holder* |
//! | `L/~force/<hex>` | identity | a *request* for the lead |
//! | `L/~ousted/<hex>` | identity | a *marker* on the lease of a holder that was deleted by force |

use std::fmt;

/// The id of a lease, as etcd gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    /// Hexadecimal without leading zeros, as `etcdctl` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

/// The name of a lock: a valid etcd key that is its own prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockName(String);

/// Why a lock name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockNameError {
    /// Nothing to lock.
    #[error("must not be empty")]
    Empty,
    /// `a/` would be the entries' own prefix.
    #[error("must not end with '/': the queue's keys are kept below LOCK_NAME/")]
    TrailingSlash,
}

impl std::str::FromStr for LockName {
    type Err = LockNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "" => Err(LockNameError::Empty),
            _ if name.ends_with('/') => Err(LockNameError::TrailingSlash),
            _ => Ok(Self(name.to_owned())),
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LockName {
    /// The name as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The holder key: the lock's own name.
    #[must_use]
    pub fn holder(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    /// The prefix of everything but the holder.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        self.below("")
    }

    /// From and to (exclusive) of all names that an entry can have, ours or foreign: they begin with a hexadecimal digit.
    #[must_use]
    pub fn entries(&self) -> (Vec<u8>, Vec<u8>) {
        (self.below("0"), self.below("g"))
    }

    /// The prefix of our own entries.
    #[must_use]
    pub fn own_entries(&self) -> Vec<u8> {
        self.below("0")
    }

    /// From and to (exclusive) of the names that an entry of etcd's own clients can have.
    #[must_use]
    pub fn foreign_entries(&self) -> (Vec<u8>, Vec<u8>) {
        (self.below("1"), self.below("g"))
    }

    /// The entry that a candidate creates for its lease.
    #[must_use]
    pub fn entry(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("0{lease}"))
    }

    /// The request of the candidate with this lease.
    #[must_use]
    pub fn request(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("~force/{lease}"))
    }

    /// The prefix of the requests.
    #[must_use]
    pub fn requests(&self) -> Vec<u8> {
        self.below("~force/")
    }

    /// The marker on the lease of an ousted holder.
    #[must_use]
    pub fn marker(&self, lease: LeaseId) -> Vec<u8> {
        self.below(&format!("~ousted/{lease}"))
    }

    /// The prefix of the markers.
    #[must_use]
    pub fn markers(&self) -> Vec<u8> {
        self.below("~ousted/")
    }

    fn below(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}", self.0).into_bytes()
    }
}
