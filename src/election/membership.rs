//! Which etcd cluster is ours: two clusters are two locks.
//!
//! Every endpoint has one vote, the cluster that it reported last. Ours is the cluster that at least half of the endpoints
//! report, and more than report any other. Before that is decided nothing is sent to etcd except the question.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use tokio::sync::watch;

/// The votes of all endpoints. Shared by all of them.
#[derive(Debug)]
pub struct Membership {
    /// The cluster that the operator named: there is no vote then.
    pinned: Option<u64>,
    /// What each endpoint reported last; `None` if it never answered.
    votes: RefCell<BTreeMap<String, Option<u64>>>,
    ours: Cell<Option<u64>>,
    /// How many answers in a row were of another cluster, where there is one endpoint only.
    strikes: Cell<u32>,
    /// Whether the endpoints report another cluster than the decided one by now.
    lost: watch::Sender<bool>,
    /// The conflict that was logged last.
    told: RefCell<String>,
}

/// What the votes come to while some endpoints have not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No cluster has enough votes.
    Open,
    /// A cluster has enough votes, unless the endpoints that are still being asked say otherwise.
    Likely,
    /// No answer can change it any more.
    Decided,
}

impl Membership {
    /// Of these endpoints, none of which has answered.
    #[must_use]
    pub fn of(endpoints: impl IntoIterator<Item = String>, pinned: Option<u64>) -> Self {
        Self {
            pinned,
            votes: RefCell::new(endpoints.into_iter().map(|endpoint| (endpoint, None)).collect()),
            ours: Cell::default(),
            strikes: Cell::default(),
            lost: watch::Sender::new(false),
            told: RefCell::default(),
        }
    }

    /// Our cluster, if that is decided.
    #[must_use]
    pub const fn ours(&self) -> Option<u64> {
        self.ours.get()
    }

    /// Whether this endpoint reported our cluster last.
    #[must_use]
    pub fn includes(&self, endpoint: &str) -> bool {
        self.ours.get().is_some_and(|ours| self.votes.borrow().get(endpoint) == Some(&Some(ours)))
    }

    /// Has these endpoints vote, and no others. What they reported before is kept.
    pub(super) fn set_endpoints<'a>(&self, endpoints: impl Iterator<Item = &'a str>) {
        let mut votes = self.votes.borrow_mut();
        let before = std::mem::take(&mut *votes);
        votes.extend(endpoints.map(|endpoint| (endpoint.to_owned(), before.get(endpoint).copied().flatten())));
        let changed = *votes != before;
        drop(votes);
        if changed && self.ours.get().is_some() {
            self.tell();
            self.recount();
        }
    }

    /// Records an answer of an endpoint from this cluster.
    pub fn heard(&self, endpoint: &str, id: u64) {
        if self.is_another_server(id) {
            return;
        }
        let changed = match self.votes.borrow_mut().get_mut(endpoint) {
            Some(vote) => vote.replace(id) != Some(id),
            // It was asked when it was still one of them.
            None => false,
        };
        if changed && self.ours.get().is_some() {
            self.tell();
            self.recount();
        }
    }

    /// Whether this answer of the only endpoint is probably of one server among several behind it: a balancer may lead to a stray
    /// one now and then. A cluster that was made anew goes on answering.
    fn is_another_server(&self, id: u64) -> bool {
        const ENOUGH: u32 = 3;
        if self.votes.borrow().len() > 1 || self.ours.get().is_none_or(|ours| ours == id) {
            self.strikes.set(0);
            return false;
        }
        self.strikes.set(self.strikes.get() + 1);
        self.strikes.get() < ENOUGH
    }

    /// Forgets the decision: nothing of ours is in the cluster.
    pub(super) fn forget(&self) {
        self.ours.set(None);
        self.lost.send_replace(false);
    }

    /// What the votes come to while these endpoints are being asked.
    pub(super) fn verdict(&self, asked: &BTreeSet<&str>) -> Verdict {
        let votes = self.votes.borrow();
        let open = votes.keys().filter(|endpoint| asked.contains(endpoint.as_str())).count();
        let settled = votes.iter().filter(|(endpoint, _)| !asked.contains(endpoint.as_str()));
        let tally = Tally::of(settled.filter_map(|(_, vote)| *vote), votes.len());
        match (self.pinned, tally.winner) {
            (Some(pinned), _) if votes.values().any(|vote| *vote == Some(pinned)) => Verdict::Decided,
            (Some(_), _) | (None, None) => Verdict::Open,
            (None, Some(_)) if tally.lead > open => Verdict::Decided,
            (None, Some(_)) => Verdict::Likely,
        }
    }

    /// Decides by the votes as they are. Logs what that comes to.
    pub(super) fn decide(&self) {
        let Some(winner) = self.winner() else { return self.tell() };
        self.ours.set(Some(winner));
        let votes = self.votes.borrow();
        let count = votes.values().filter(|vote| **vote == Some(winner)).count();
        tracing::info!("etcd cluster {winner:x}, as reported by {count} of {}", endpoints(votes.len()));
        drop(votes);
        self.tell();
    }

    /// Completes when the endpoints report another cluster than the decided one.
    pub async fn is_lost(&self) {
        // The sender lives as long as this borrow.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Whether the endpoints report another cluster than the decided one.
    #[must_use]
    pub fn lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// What the endpoints reported, in words; empty if none did.
    pub(super) fn summary(&self) -> String {
        let votes = self.votes.borrow();
        let mut clusters = BTreeMap::<u64, Vec<&str>>::new();
        for (endpoint, vote) in votes.iter() {
            if let Some(id) = vote {
                clusters.entry(*id).or_default().push(endpoint);
            }
        }
        let mut text = String::new();
        for (id, endpoints) in clusters {
            let belong = if endpoints.len() == 1 { "belongs" } else { "belong" };
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{} {belong} to cluster {id:x}", endpoints.join(" and "));
        }
        text
    }

    fn winner(&self) -> Option<u64> {
        let votes = self.votes.borrow();
        match self.pinned {
            Some(pinned) => votes.values().any(|vote| *vote == Some(pinned)).then_some(pinned),
            None => Tally::of(votes.values().filter_map(|vote| *vote), votes.len()).winner,
        }
    }

    /// Notices when the decision has become wrong.
    fn recount(&self) {
        let (ours, winner) = (self.ours.get(), self.winner());
        if let (Some(ours), Some(winner)) = (ours, winner)
            && ours != winner
            && !self.lost.send_replace(true)
        {
            tracing::error!("most endpoints belong to etcd cluster {winner:x} now, and no longer to {ours:x}");
        }
    }

    /// Logs a conflict when it has changed.
    fn tell(&self) {
        let votes = self.votes.borrow();
        let expected = self.ours.get().or(self.pinned);
        let mut ids = votes.values().flatten().copied().chain(self.pinned);
        let first = ids.next();
        let conflict = ids.any(|id| Some(id) != first);
        drop(votes);
        let summary = if conflict { self.summary() } else { String::new() };
        if *self.told.borrow() == summary {
            return;
        }
        match (expected, conflict) {
            (Some(ours), true) => tracing::error!(
                "the endpoints belong to different etcd clusters, which are different locks: {summary}; only those of cluster \
                 {ours:x} are used; correct ETCD_AWAIT_ELECTION_ENDPOINTS"
            ),
            (None, true) => tracing::error!(
                "the endpoints belong to different etcd clusters, which are different locks: {summary}; correct \
                 ETCD_AWAIT_ELECTION_ENDPOINTS or set ETCD_AWAIT_ELECTION_CLUSTER_ID"
            ),
            (_, false) => tracing::info!("all endpoints that answer belong to the same etcd cluster again"),
        }
        self.told.replace(summary);
    }
}

/// So many endpoints, in words.
pub(super) fn endpoints(count: usize) -> String {
    if count == 1 { "1 endpoint".to_owned() } else { format!("{count} endpoints") }
}

/// The count of the votes.
struct Tally {
    winner: Option<u64>,
    /// By how many votes the winner is ahead of the next cluster.
    lead: usize,
}

impl Tally {
    /// Of these votes, among so many voters.
    fn of(votes: impl Iterator<Item = u64>, voters: usize) -> Self {
        let mut counts = BTreeMap::<u64, usize>::new();
        votes.for_each(|id| *counts.entry(id).or_default() += 1);
        let first = counts.iter().max_by_key(|(_, count)| **count).map(|(id, count)| (*id, *count));
        let Some((id, most)) = first else { return Self { winner: None, lead: 0 } };
        let next = counts.iter().filter(|(other, _)| **other != id).map(|(_, count)| *count).max().unwrap_or(0);
        Self { winner: (2 * most >= voters && most > next).then_some(id), lead: most - next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(endpoints: &[&str]) -> Membership {
        Membership::of(endpoints.iter().map(ToString::to_string), None)
    }

    fn decided(votes: &[(&str, u64)], endpoints: &[&str]) -> Option<u64> {
        let membership = membership(endpoints);
        votes.iter().for_each(|(endpoint, id)| membership.heard(endpoint, *id));
        membership.decide();
        membership.ours()
    }

    #[test]
    fn at_least_half_must_agree_and_more_than_on_any_other() {
        for (votes, endpoints, ours) in [
            (&[][..], &["a"][..], None),
            (&[("a", 1)], &["a"], Some(1)),
            (&[("a", 1)], &["a", "b"], Some(1)),
            (&[("a", 1), ("b", 2)], &["a", "b"], None),
            (&[("a", 1)], &["a", "b", "c"], None),
            (&[("a", 1), ("b", 1)], &["a", "b", "c"], Some(1)),
            (&[("a", 2), ("b", 1), ("c", 1)], &["a", "b", "c"], Some(1)),
            (&[("a", 1), ("b", 2), ("c", 3)], &["a", "b", "c"], None),
            (&[("a", 1), ("b", 1)], &["a", "b", "c", "d"], Some(1)),
            (&[("a", 1), ("b", 1), ("c", 2), ("d", 2)], &["a", "b", "c", "d"], None),
            (&[("a", 1), ("b", 1), ("c", 2), ("d", 3)], &["a", "b", "c", "d"], Some(1)),
        ] {
            assert_eq!(decided(votes, endpoints), ours, "{votes:?} of {endpoints:?}");
        }
    }

    #[test]
    fn an_endpoint_is_waited_for_only_while_it_can_change_the_result() {
        let verdict = |endpoints: &[&str], votes: &[(&str, u64)], asked: &[&str]| {
            let membership = membership(endpoints);
            votes.iter().for_each(|(endpoint, id)| membership.heard(endpoint, *id));
            membership.verdict(&asked.iter().copied().collect())
        };
        let three = ["a", "b", "c"];
        assert_eq!(verdict(&three, &[("a", 1)], &["b", "c"]), Verdict::Open);
        assert_eq!(verdict(&three, &[("a", 1), ("b", 1)], &["c"]), Verdict::Decided);
        assert_eq!(verdict(&three, &[("a", 1), ("b", 2)], &["c"]), Verdict::Open);
        assert_eq!(verdict(&["a", "b"], &[("a", 1)], &["b"]), Verdict::Likely);
        assert_eq!(verdict(&["a", "b"], &[("a", 1)], &[]), Verdict::Decided);
        assert_eq!(verdict(&["a"], &[("a", 1)], &[]), Verdict::Decided);
        // What it said before does not count while it is being asked.
        assert_eq!(verdict(&["a", "b"], &[("a", 1), ("b", 1)], &["b"]), Verdict::Likely);
    }

    #[test]
    fn only_a_cluster_that_wins_the_vote_takes_the_place_of_ours() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|endpoint| membership.heard(endpoint, 1));
        membership.decide();
        assert!(["a", "b", "c"].iter().all(|endpoint| membership.includes(endpoint)));
        membership.heard("a", 2);
        assert!(!membership.lost() && !membership.includes("a") && membership.includes("b"));
        membership.heard("b", 3);
        assert!(!membership.lost());
        membership.heard("b", 2);
        assert!(membership.lost());
        assert_eq!(membership.ours(), Some(1), "as long as anything of ours may be there");
        membership.forget();
        assert_eq!((membership.ours(), membership.lost()), (None, false));
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
    }

    #[test]
    fn one_stray_server_behind_the_only_endpoint_takes_nothing_away() {
        let membership = membership(&["a"]);
        membership.heard("a", 1);
        membership.decide();
        for id in [2, 2, 1, 2, 2, 1] {
            membership.heard("a", id);
            assert!(!membership.lost() && membership.includes("a"));
        }
        [2, 2, 2].iter().for_each(|id| membership.heard("a", *id));
        assert!(membership.lost());
    }

    #[test]
    fn who_does_not_take_part_any_more_has_no_vote() {
        let membership = membership(&["a", "b"]);
        membership.heard("a", 1);
        membership.heard("b", 2);
        membership.set_endpoints(["b", "c"].into_iter());
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
        membership.heard("a", 1);
        membership.set_endpoints(["a", "b", "c"].into_iter());
        assert!(!membership.lost() && !membership.includes("a"), "nobody has asked it since");
    }

    #[test]
    fn a_tie_takes_nothing_away_and_gives_nothing() {
        let membership = membership(&["a", "b"]);
        membership.heard("a", 1);
        membership.decide();
        membership.heard("b", 2);
        assert!(!membership.lost());
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), None);
    }

    #[test]
    fn a_pinned_cluster_needs_no_majority_and_loses_to_none() {
        let membership = Membership::of(["a", "b", "c"].map(String::from), Some(1));
        membership.heard("a", 2);
        membership.heard("b", 2);
        membership.decide();
        assert_eq!(membership.ours(), None, "nobody belongs to it");
        membership.heard("c", 1);
        assert_eq!(membership.verdict(&["a"].into()), Verdict::Decided);
        membership.decide();
        membership.heard("a", 2);
        assert_eq!((membership.ours(), membership.lost()), (Some(1), false));
        assert!(membership.includes("c") && !membership.includes("a"));
    }

    #[test]
    fn the_summary_names_every_endpoint_that_answered() {
        let membership = membership(&["a", "b", "c", "d"]);
        assert_eq!(membership.summary(), "");
        [("a", 0x1a), ("b", 0x2b), ("c", 0x1a)].iter().for_each(|(endpoint, id)| membership.heard(endpoint, *id));
        assert_eq!(membership.summary(), "a and c belong to cluster 1a, b belongs to cluster 2b");
    }
}
