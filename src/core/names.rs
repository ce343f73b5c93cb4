//! The names of locks, leases and instances.

use std::fmt;

use super::text;

/// The id of a lease.
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

impl LeaseId {
    /// Parses a lease id in the form that [`Display`](fmt::Display) writes: a positive number in lower-case hexadecimal.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let lease = i64::from_str_radix(hex, 16).ok().filter(|lease| *lease > 0).map(Self)?;
        (lease.to_string() == hex).then_some(lease)
    }
}

/// The name of a lock: a valid etcd key that is its own prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockName(String);

/// Why a lock name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockNameError {
    /// The name is empty.
    #[error("must not be empty")]
    Empty,
    /// `a/` is the prefix of the queue of lock `a`.
    #[error("must not end with '/': the queue's keys are kept below LOCK_NAME/")]
    TrailingSlash,
    /// `a/~entry/1` is a key of lock `a`.
    #[error("must not contain a segment that begins with '~': such keys belong to the lock above them")]
    Reserved,
}

impl std::str::FromStr for LockName {
    type Err = LockNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "" => Err(LockNameError::Empty),
            _ if name.ends_with('/') => Err(LockNameError::TrailingSlash),
            _ if name.split('/').any(|segment| segment.starts_with('~')) => Err(LockNameError::Reserved),
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
    /// Returns the name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns an identity as it is shown and compared, with at most 256 characters. Any client can write values of up to a megabyte,
/// which must not fill the log or the status.
#[must_use]
pub fn shown(identity: &[u8]) -> String {
    text::shortened(&String::from_utf8_lossy(identity), 256).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_name_has_no_segment_that_begins_with_a_tilde() {
        for name in ["a", "a/b", "a~b", "a/b~", "/a", "a//b"] {
            assert!(name.parse::<LockName>().is_ok(), "{name}");
        }
        for name in ["~a", "a/~b", "a/~entry/1", "jobs/~", "/~x/y"] {
            assert_eq!(name.parse::<LockName>(), Err(LockNameError::Reserved), "{name}");
        }
        assert_eq!("a/".parse::<LockName>(), Err(LockNameError::TrailingSlash));
        assert_eq!("".parse::<LockName>(), Err(LockNameError::Empty));
    }
}
