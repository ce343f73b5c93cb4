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
    /// The holder key: the lock's own name.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.0
    }

    /// The entry that a candidate creates for its lease.
    #[must_use]
    pub fn entry(&self, lease: LeaseId) -> String {
        format!("{}/0{lease}", self.0)
    }

    /// The request of the candidate with this lease.
    #[must_use]
    pub fn request(&self, lease: LeaseId) -> String {
        format!("{}/~force/{lease}", self.0)
    }

    /// The marker on the lease of an ousted holder.
    #[must_use]
    pub fn marker(&self, lease: LeaseId) -> String {
        format!("{}/~ousted/{lease}", self.0)
    }

    /// The prefix of everything but the holder.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}/", self.0)
    }

    /// The prefix of the requests.
    #[must_use]
    pub fn requests(&self) -> String {
        format!("{}/~force/", self.0)
    }

    /// The prefix of the markers.
    #[must_use]
    pub fn markers(&self) -> String {
        format!("{}/~ousted/", self.0)
    }
}
