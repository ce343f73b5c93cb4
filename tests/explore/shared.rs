//! A part of a state that many states share. Its hash is computed once.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use etcd_await_election::election::Candidate;

use crate::explore::{
    etcd::Etcd,
    instance::{Instance, Orphan},
};

/// An immutable value with its hash. Two values are equal if their hashes are, as the checker also remembers hashes only.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

/// A part of a state.
pub(crate) trait Part: Hash + Sized + 'static {
    /// Returns all values of this type, by their hashes, so that equal ones are kept once.
    fn all() -> &'static Table<Self>;
}

pub(crate) type Table<T> = LazyLock<[Mutex<HashMap<u64, Arc<T>>>; 64]>;

macro_rules! parts {
    ($($part:ty),*) => {
        $(impl Part for $part {
            fn all() -> &'static Table<Self> {
                static ALL: Table<$part> = LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));
                &ALL
            }
        })*
    };
}

parts!(Candidate, Etcd, Instance, Vec<Orphan>);

impl<T: Part> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        let mut known = T::all()[hash as usize % 64].lock().unwrap_or_else(PoisonError::into_inner);
        let value = match known.entry(hash) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => Arc::clone(new.insert(Arc::new(value))),
        };
        Self { hash, value }
    }

    /// Returns how many different values there are.
    pub(crate) fn count() -> usize {
        T::all().iter().map(|known| known.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

impl<T: Part + Clone> Shared<T> {
    /// Replaces the value by a changed copy.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut value = (*self.value).clone();
        let result = change(&mut value);
        *self = Self::new(value);
        result
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Shared<T> {}
