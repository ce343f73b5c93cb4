//! Which cluster the endpoints belong to: two clusters are two locks.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

/// What the endpoints have said about their cluster. Shared by all of them.
///
/// The first answer decides. After that another cluster is believed only when it is most of the endpoints and nothing of
/// ours is held: a cluster that was made anew, not one endpoint that does not belong among the others. Otherwise that one
/// would be joined as soon as the others are slow, and its lock is free.
#[derive(Debug)]
pub struct Membership {
    endpoints: usize,
    known: Cell<Option<u64>>,
    seen: RefCell<BTreeMap<String, u64>>,
    may_move: Cell<bool>,
}

impl Membership {
    /// Of so many endpoints, about which nothing is known.
    pub(super) fn of(endpoints: usize) -> Self {
        Self { endpoints, known: Cell::default(), seen: RefCell::default(), may_move: Cell::new(false) }
    }

    /// The cluster that we are in, if that is known yet.
    pub(super) const fn known(&self) -> Option<u64> {
        self.known.get()
    }

    /// Nothing of ours is in the cluster.
    pub(super) fn release(&self) {
        self.may_move.set(true);
    }

    /// An endpoint answered from this cluster. Fails with the one that we are in, if that is another.
    pub(super) fn answered(&self, endpoint: &str, id: u64) -> Result<(), u64> {
        self.seen.borrow_mut().insert(endpoint.to_owned(), id);
        match self.known.get() {
            Some(known) if known != id && !(self.may_move.get() && self.is_most(id)) => return Err(known),
            _ => self.known.set(Some(id)),
        }
        self.may_move.set(false);
        Ok(())
    }

    fn is_most(&self, id: u64) -> bool {
        2 * self.seen.borrow().values().filter(|seen| **seen == id).count() > self.endpoints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_decides_and_one_of_another_cluster_is_never_believed() {
        let membership = Membership::of(3);
        assert_eq!(membership.answered("a", 1), Ok(()));
        for _ in 0..3 {
            assert_eq!(membership.answered("stray", 2), Err(1));
            membership.release();
            assert_eq!(membership.answered("stray", 2), Err(1));
        }
        assert_eq!(membership.answered("b", 1), Ok(()));
    }

    #[test]
    fn a_cluster_made_anew_is_believed_once_nothing_of_ours_is_held() {
        let membership = Membership::of(3);
        assert_eq!(membership.answered("a", 1), Ok(()));
        assert_eq!(membership.answered("a", 2), Err(1));
        assert_eq!(membership.answered("b", 2), Err(1));
        membership.release();
        assert_eq!(membership.answered("b", 2), Ok(()));
        assert_eq!(membership.answered("c", 1), Err(2));
        assert_eq!(membership.known(), Some(2));
    }
}
