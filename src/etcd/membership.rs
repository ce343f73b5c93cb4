//! The vote about which etcd cluster to use, as two clusters are two locks.
//!
//! Every endpoint has one vote: the cluster that it reported last. The cluster that more than half of the endpoints report is used,
//! so that no two sides of a partition decide for different clusters. A single endpoint may have several servers behind it, and has
//! to report the same cluster over several connections. Before the decision no other request is sent. After it DNS can add endpoints
//! of the decided cluster, but none that could outvote it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use tokio::sync::watch;

/// The votes of all endpoints, and the decision. All endpoints share it.
#[derive(Debug)]
pub struct Membership {
    /// The cluster of CLUSTER_ID: then there is no vote.
    pinned: Option<u64>,
    /// The cluster that each endpoint reported last; `None` if it never answered.
    votes: RefCell<BTreeMap<String, Option<u64>>>,
    /// The address family of each endpoint that is an address of a name.
    families: RefCell<BTreeMap<String, AddressFamily>>,
    ours: Cell<Option<u64>>,
    /// The latest decision, even if it was forgotten since: endpoints that had a vote keep it, see
    /// [`keeps_vote`](Self::keeps_vote).
    decided: Cell<Option<u64>>,
    /// The endpoints that DNS has added since a decision and that have not reported the decided cluster. They have no vote,
    /// because DNS can name any number of servers of another cluster.
    newcomers: RefCell<BTreeSet<String>>,
    /// The latest reports of a single endpoint.
    streak: Cell<Streak>,
    /// Whether most endpoints report another cluster than the decided one.
    lost: watch::Sender<bool>,
    /// The conflict that was logged last.
    logged: RefCell<String>,
}

/// The addresses of one family that a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFamily {
    /// The configured name.
    pub name: String,
    /// Whether the family is IPv6, and not IPv4.
    pub is_ipv6: bool,
}

/// The latest reports in a row of a single endpoint that name the same cluster.
#[derive(Clone, Copy, Debug)]
struct Streak {
    id: Option<u64>,
    length: u32,
    /// The length that a decision needs.
    enough: u32,
    /// Another cluster that was reported before the decision.
    other: Option<u64>,
}

impl Streak {
    const ENOUGH: u32 = 3;
    /// The length after reports of another cluster: a load balancer does not select the same server so often by chance.
    const ENOUGH_IN_DOUBT: u32 = 12;

    fn add(&mut self, id: u64, decided: bool) {
        if self.id.replace(id).is_none_or(|before| before == id) {
            self.length = self.length.saturating_add(1);
            return;
        }
        self.length = 1;
        if !decided {
            self.enough = Self::ENOUGH_IN_DOUBT;
        }
    }
}

impl Default for Streak {
    fn default() -> Self {
        Self { id: None, length: 0, enough: Self::ENOUGH, other: None }
    }
}

impl Membership {
    /// Creates the votes of these endpoints, none of which has answered.
    #[must_use]
    pub fn of(endpoints: impl IntoIterator<Item = String>, pinned: Option<u64>) -> Self {
        Self {
            pinned,
            votes: RefCell::new(endpoints.into_iter().map(|endpoint| (endpoint, None)).collect()),
            families: RefCell::default(),
            ours: Cell::default(),
            decided: Cell::default(),
            newcomers: RefCell::default(),
            streak: Cell::default(),
            lost: watch::Sender::new(false),
            logged: RefCell::default(),
        }
    }

    /// Returns the cluster in use, if that is decided.
    #[must_use]
    pub const fn ours(&self) -> Option<u64> {
        self.ours.get()
    }

    /// Returns whether any endpoint has reported its cluster.
    #[must_use]
    pub fn has_votes(&self) -> bool {
        !self.summary().is_empty()
    }

    /// Returns whether this endpoint reported the cluster in use last.
    #[must_use]
    pub fn includes(&self, endpoint: &str) -> bool {
        self.ours.get().is_some_and(|ours| self.votes.borrow().get(endpoint) == Some(&Some(ours)))
    }

    /// Sets the address families of all endpoints that are addresses of names.
    pub(super) fn set_address_families(&self, families: impl Iterator<Item = (String, AddressFamily)>) {
        self.families.replace(families.collect());
    }

    /// Returns the number of endpoints with a vote, including those that may still answer. Servers often do not listen on all address
    /// families of their name: if only one family of a name ever answered, the addresses of the other one have no vote.
    fn voters(&self, has_been_asked: impl Fn(&str) -> bool) -> usize {
        let (votes, families) = (self.votes.borrow(), self.families.borrow());
        let answers = |family: &AddressFamily| {
            votes.iter().any(|(endpoint, vote)| {
                vote.is_some() && !self.is_newcomer(endpoint) && families.get(endpoint) == Some(family)
            })
        };
        let other = |family: &AddressFamily| AddressFamily { name: family.name.clone(), is_ipv6: !family.is_ipv6 };
        let is_closed = |family: &AddressFamily| !answers(family) && answers(&other(family));
        let counts = |endpoint: &str| !has_been_asked(endpoint) || !families.get(endpoint).is_some_and(is_closed);
        votes.keys().filter(|endpoint| !self.is_newcomer(endpoint) && counts(endpoint)).count()
    }

    fn is_newcomer(&self, endpoint: &str) -> bool {
        self.newcomers.borrow().contains(endpoint)
    }

    fn is_single(&self) -> bool {
        self.voters(|_| true) == 1
    }

    /// Sets the endpoints that vote, and keeps their earlier votes.
    pub(super) fn set_endpoints<'a>(&self, endpoints: impl Iterator<Item = &'a str>) {
        let mut votes = self.votes.borrow_mut();
        let before = std::mem::take(&mut *votes);
        let endpoints: Vec<_> = endpoints.collect();
        self.newcomers.borrow_mut().retain(|newcomer| endpoints.contains(&&**newcomer));
        if self.decided.get().is_some() {
            let new = endpoints.iter().filter(|endpoint| !before.contains_key(**endpoint));
            self.newcomers.borrow_mut().extend(new.map(ToString::to_string));
        }
        let endpoints = endpoints.into_iter();
        votes.extend(endpoints.map(|endpoint| (endpoint.to_owned(), before.get(endpoint).copied().flatten())));
        let changed = *votes != before;
        drop(votes);
        if changed && self.ours.get().is_some() {
            self.log_conflict();
            self.check_lost();
        }
    }

    /// Returns whether an endpoint that its name does not resolve to any more keeps its vote. After a decision it does, so that DNS
    /// cannot change the decision by leaving out endpoints.
    pub(super) fn keeps_vote(&self, endpoint: &str) -> bool {
        let voted = || self.votes.borrow().get(endpoint).copied().flatten().is_some();
        self.pinned.is_none() && self.decided.get().is_some() && !self.is_newcomer(endpoint) && voted()
    }

    /// Returns whether endpoints report different clusters.
    pub(super) fn in_conflict(&self) -> bool {
        !self.logged.borrow().is_empty()
    }

    /// Returns whether a single endpoint decides, without CLUSTER_ID.
    pub(super) fn has_single_voter(&self) -> bool {
        self.pinned.is_none() && self.is_single()
    }

    /// Records that a response of an endpoint was from this cluster.
    pub fn record(&self, endpoint: &str, id: u64) {
        if self.decided.get() == Some(id) {
            self.newcomers.borrow_mut().remove(endpoint);
        }
        if !self.is_newcomer(endpoint) && self.is_another_server(id) {
            return;
        }
        let changed = match self.votes.borrow_mut().get_mut(endpoint) {
            Some(vote) => vote.replace(id) != Some(id),
            // The endpoint was removed after the request was sent.
            None => false,
        };
        if changed && self.ours.get().is_some() {
            self.log_conflict();
            self.check_lost();
        }
    }

    /// Returns whether this response of a single endpoint is probably from one of several servers behind it, as a load balancer may
    /// select a stray one now and then. After a new cluster was created, all responses are from that.
    fn is_another_server(&self, id: u64) -> bool {
        if !self.is_single() {
            return false;
        }
        let (mut streak, ours) = (self.streak.get(), self.ours.get());
        if ours.is_none() && streak.id.is_some_and(|before| before != id) {
            streak.other = streak.id;
        }
        streak.add(id, ours.is_some());
        self.streak.set(streak);
        ours.is_some_and(|ours| ours != id) && streak.length < Streak::ENOUGH
    }

    /// Forgets the decision. The caller must have no lease in the cluster.
    pub(super) fn forget(&self) {
        let ours = self.ours.take();
        self.lost.send_replace(false);
        if ours.is_some() && self.streak.get().id != ours {
            self.streak.set(Streak { enough: Streak::ENOUGH_IN_DOUBT, ..Streak::default() });
        }
    }

    /// Returns whether no outstanding response of these endpoints can change the result.
    pub(super) fn is_certain(&self, asked: &BTreeSet<&str>) -> bool {
        self.winner_among(|endpoint| !asked.contains(endpoint)).is_some()
    }

    /// Decides by the present votes, if they suffice. Logs the decision, and conflicts.
    pub(super) fn decide(&self) {
        let Some(winner) = self.winner() else { return self.log_conflict() };
        self.ours.set(Some(winner));
        self.decided.set(Some(winner));
        self.newcomers.borrow_mut().retain(|newcomer| self.votes.borrow().get(newcomer) != Some(&Some(winner)));
        self.streak.set(Streak { enough: Streak::ENOUGH, other: None, ..self.streak.get() });
        let votes = self.votes.borrow();
        let count = votes.values().filter(|vote| **vote == Some(winner)).count();
        tracing::info!("using etcd cluster {winner:x}, reported by {count} of {}", endpoints(votes.len()));
        drop(votes);
        self.log_conflict();
    }

    /// Completes when most endpoints report another cluster than the decided one.
    pub async fn is_lost(&self) {
        // The sender lives as long as this borrow.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Returns whether most endpoints report another cluster than the decided one.
    #[must_use]
    pub fn lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Returns the reported clusters in words; empty if no endpoint has answered.
    pub(super) fn summary(&self) -> String {
        let votes = self.votes.borrow();
        let mut clusters = BTreeMap::<u64, Vec<&str>>::new();
        for (endpoint, vote) in votes.iter() {
            for id in vote.iter().copied().chain(self.other_of(*vote)) {
                clusters.entry(id).or_default().push(endpoint);
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
        self.winner_among(|_| true)
    }

    /// Returns the cluster that wins by the votes of these endpoints, whatever the others report.
    fn winner_among(&self, counts: impl Fn(&str) -> bool) -> Option<u64> {
        let votes = self.votes.borrow();
        if let Some(pinned) = self.pinned {
            return votes.values().any(|vote| *vote == Some(pinned)).then_some(pinned);
        }
        let streak = self.streak.get();
        if self.is_single() && self.ours.get().is_none() && streak.length < streak.enough {
            return None;
        }
        let counted: Vec<u64> = votes
            .iter()
            .filter(|(endpoint, _)| counts(endpoint) && !self.is_newcomer(endpoint))
            .filter_map(|(_, vote)| *vote)
            .collect();
        let supporters = |id: u64| counted.iter().filter(|vote| **vote == id).count();
        let voters = self.voters(&counts);
        counted.iter().copied().find(|id| 2 * supporters(*id) > voters)
    }

    /// Returns the other cluster that a single endpoint with this vote has reported.
    fn other_of(&self, vote: Option<u64>) -> Option<u64> {
        let undecided = self.ours.get().is_none() && self.is_single();
        self.streak.get().other.filter(|other| undecided && vote.is_some_and(|id| id != *other))
    }

    /// Checks whether another cluster has won the vote since the decision.
    fn check_lost(&self) {
        let (ours, winner) = (self.ours.get(), self.winner());
        if let (Some(ours), Some(winner)) = (ours, winner)
            && ours != winner
            && !self.lost.send_replace(true)
        {
            tracing::error!("most endpoints belong to etcd cluster {winner:x} now, and no longer to {ours:x}");
        }
    }

    /// Logs a conflict between the votes if it has changed.
    fn log_conflict(&self) {
        let votes = self.votes.borrow();
        let expected = self.ours.get().or(self.pinned);
        let all = votes.values().flat_map(|vote| vote.iter().copied().chain(self.other_of(*vote)));
        let mut ids = all.chain(self.pinned);
        let first = ids.next();
        let conflict = ids.any(|id| Some(id) != first);
        drop(votes);
        let summary = if conflict { self.summary() } else { String::new() };
        if *self.logged.borrow() == summary {
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
        self.logged.replace(summary);
    }
}

/// Returns a number of endpoints in words.
pub(super) fn endpoints(count: usize) -> String {
    if count == 1 { "1 endpoint".to_owned() } else { format!("{count} endpoints") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(endpoints: &[&str]) -> Membership {
        Membership::of(endpoints.iter().map(ToString::to_string), None)
    }

    fn decided(votes: &[(&str, u64)], endpoints: &[&str]) -> Option<u64> {
        let membership = membership(endpoints);
        votes.iter().for_each(|(endpoint, id)| membership.record(endpoint, *id));
        membership.decide();
        membership.ours()
    }

    #[test]
    fn more_than_half_must_agree() {
        for (votes, endpoints, ours) in [
            (&[][..], &["a"][..], None),
            (&[("a", 1), ("a", 1), ("a", 1)], &["a"], Some(1)),
            (&[("a", 1)], &["a", "b"], None),
            (&[("a", 1), ("b", 1)], &["a", "b"], Some(1)),
            (&[("a", 1), ("b", 2)], &["a", "b"], None),
            (&[("a", 1)], &["a", "b", "c"], None),
            (&[("a", 1), ("b", 1)], &["a", "b", "c"], Some(1)),
            (&[("a", 2), ("b", 1), ("c", 1)], &["a", "b", "c"], Some(1)),
            (&[("a", 1), ("b", 2), ("c", 3)], &["a", "b", "c"], None),
            (&[("a", 1), ("b", 1)], &["a", "b", "c", "d"], None),
            (&[("a", 1), ("b", 1), ("c", 2), ("d", 3)], &["a", "b", "c", "d"], None),
            (&[("a", 1), ("b", 1), ("c", 2), ("d", 1)], &["a", "b", "c", "d"], Some(1)),
        ] {
            assert_eq!(decided(votes, endpoints), ours, "{votes:?} of {endpoints:?}");
        }
    }

    #[test]
    fn an_endpoint_is_waited_for_only_while_it_can_change_the_result() {
        let is_certain = |endpoints: &[&str], votes: &[(&str, u64)], asked: &[&str]| {
            let membership = membership(endpoints);
            votes.iter().for_each(|(endpoint, id)| membership.record(endpoint, *id));
            membership.is_certain(&asked.iter().copied().collect())
        };
        let three = ["a", "b", "c"];
        assert!(!is_certain(&three, &[("a", 1)], &["b", "c"]));
        assert!(is_certain(&three, &[("a", 1), ("b", 1)], &["c"]));
        assert!(!is_certain(&three, &[("a", 1), ("b", 2)], &["c"]));
        assert!(!is_certain(&["a", "b"], &[("a", 1)], &["b"]));
        // Its earlier vote does not count while it is being asked.
        assert!(!is_certain(&["a", "b"], &[("a", 1), ("b", 1)], &["b"]));
        assert!(is_certain(&["a", "b"], &[("a", 1), ("b", 1)], &[]));
    }

    /// There may be several servers behind it.
    #[test]
    fn a_single_endpoint_must_report_the_same_cluster_over_several_connections() {
        let answers = |answers: &[u64]| {
            let membership = membership(&["a"]);
            answers.iter().for_each(|id| membership.record("a", *id));
            membership.decide();
            membership
        };
        assert_eq!(answers(&[1, 1]).ours(), None);
        assert_eq!(answers(&[1, 1, 1]).ours(), Some(1));
        let mixed = answers(&[2, 1, 1, 1]);
        assert_eq!((mixed.ours(), mixed.in_conflict()), (None, true));
        assert_eq!(mixed.summary(), "a belongs to cluster 1, a belongs to cluster 2");
        (4..=Streak::ENOUGH_IN_DOUBT).for_each(|_| mixed.record("a", 1));
        mixed.decide();
        assert_eq!((mixed.ours(), mixed.in_conflict()), (Some(1), false));
    }

    #[test]
    fn an_endpoint_that_dns_removes_keeps_its_vote_after_a_decision() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b"].iter().for_each(|endpoint| membership.record(endpoint, 1));
        assert!(!membership.keeps_vote("a"), "nothing was decided");
        membership.decide();
        membership.forget();
        assert!(
            membership.keeps_vote("a")
                && membership.keeps_vote("b")
                && !membership.keeps_vote("c")
                && !membership.keeps_vote("d")
        );
        let pinned = Membership::of(["a".to_owned()], Some(1));
        pinned.record("a", 1);
        pinned.decide();
        assert!(!pinned.keeps_vote("a"));
    }

    #[test]
    fn only_a_cluster_that_wins_the_vote_replaces_the_decided_one() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|endpoint| membership.record(endpoint, 1));
        membership.decide();
        assert!(["a", "b", "c"].iter().all(|endpoint| membership.includes(endpoint)));
        membership.record("a", 2);
        assert!(!membership.lost() && !membership.includes("a") && membership.includes("b"));
        membership.record("b", 3);
        assert!(!membership.lost());
        membership.record("b", 2);
        assert!(membership.lost());
        assert_eq!(membership.ours(), Some(1), "until it is forgotten");
        membership.forget();
        assert_eq!((membership.ours(), membership.lost()), (None, false));
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
    }

    #[test]
    fn a_stray_server_behind_a_single_endpoint_does_not_change_the_decision() {
        let membership = membership(&["a"]);
        [1; 3].iter().for_each(|id| membership.record("a", *id));
        membership.decide();
        for id in [2, 2, 1, 2, 2, 1] {
            membership.record("a", id);
            assert!(!membership.lost() && membership.includes("a"));
        }
        [2; 3].iter().for_each(|id| membership.record("a", *id));
        assert!(membership.lost());
        // After contradicting reports a longer streak is needed.
        membership.forget();
        [2; 11].iter().for_each(|id| membership.record("a", *id));
        membership.decide();
        assert_eq!(membership.ours(), None);
        membership.record("a", 2);
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
    }

    /// For example `localhost` if etcd listens on 127.0.0.1, or members with AAAA records that listen on IPv4 only.
    #[test]
    fn addresses_of_a_family_without_a_listener_have_no_vote() {
        let family = |endpoint: &str, name: &str, is_ipv6| {
            (endpoint.to_owned(), AddressFamily { name: name.to_owned(), is_ipv6 })
        };
        let both = membership(&["a4", "a6", "b4", "b6", "c4", "c6"]);
        let families = ["a", "b", "c"]
            .map(|name| [false, true].map(|v6| family(&format!("{name}{}", if v6 { 6 } else { 4 }), name, v6)));
        both.set_address_families(families.into_iter().flatten());
        both.record("a4", 1);
        both.record("b4", 1);
        both.decide();
        assert_eq!(both.ours(), None, "2 of 4, as c may still answer over either family");
        both.record("c4", 1);
        assert!(!both.is_certain(&["a6", "b6", "c6"].into()), "they may still answer");
        both.decide();
        assert_eq!(both.ours(), Some(1));

        let localhost = membership(&["4", "6"]);
        localhost.set_address_families([family("4", "localhost", false), family("6", "localhost", true)].into_iter());
        (0..4).for_each(|_| localhost.record("4", 1));
        localhost.decide();
        assert_eq!(localhost.ours(), Some(1));
        localhost.record("4", 2);
        assert!(!localhost.lost(), "it counts as the only endpoint");

        let other_names = membership(&["a4", "b6"]);
        other_names.set_address_families([family("a4", "a", false), family("b6", "b", true)].into_iter());
        other_names.record("a4", 1);
        other_names.decide();
        assert_eq!(other_names.ours(), None);
    }

    #[test]
    fn endpoints_that_were_removed_have_no_vote() {
        let membership = membership(&["a", "b"]);
        membership.record("a", 1);
        membership.record("b", 2);
        membership.set_endpoints(["b", "c"].into_iter());
        membership.record("a", 2);
        membership.decide();
        assert_eq!(membership.ours(), None);
        membership.record("c", 2);
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
        membership.set_endpoints(["a", "b", "c"].into_iter());
        assert!(!membership.lost() && !membership.includes("a"), "it was not asked since");
    }

    /// DNS can change where the cluster is, but not which one is used.
    #[test]
    fn endpoints_added_by_dns_have_a_vote_once_they_report_the_decided_cluster() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|endpoint| membership.record(endpoint, 1));
        membership.decide();
        let strays = ["w", "x", "y", "z"];
        membership.set_endpoints(["a", "b", "c"].into_iter().chain(strays));
        (0..20).for_each(|_| strays.iter().for_each(|endpoint| membership.record(endpoint, 2)));
        assert!(!membership.lost() && membership.in_conflict());
        assert!(strays.iter().all(|endpoint| !membership.includes(endpoint) && !membership.keeps_vote(endpoint)));
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), Some(1));

        // One member was replaced.
        membership.set_endpoints(["b", "c", "d"].into_iter());
        membership.record("d", 1);
        assert!(membership.includes("d") && membership.keeps_vote("d"));
        // The whole cluster was created again: its former members report that.
        ["b", "d"].iter().for_each(|endpoint| membership.record(endpoint, 2));
        assert!(membership.lost());
    }

    #[test]
    fn endpoints_added_by_dns_do_not_change_the_streak_of_a_single_endpoint() {
        let membership = membership(&["a"]);
        (0..3).for_each(|_| membership.record("a", 1));
        membership.decide();
        membership.set_endpoints(["a", "b"].into_iter());
        (0..20).for_each(|_| membership.record("b", 2));
        assert!(!membership.lost());
        membership.record("a", 2);
        assert!(!membership.lost(), "one response of a single endpoint is not enough");
        // Without the first one no endpoint has a vote.
        membership.set_endpoints(["b"].into_iter());
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), None);
    }

    #[test]
    fn a_tie_neither_ends_a_decision_nor_makes_one() {
        let membership = membership(&["a", "b"]);
        ["a", "b"].iter().for_each(|endpoint| membership.record(endpoint, 1));
        membership.decide();
        membership.record("b", 2);
        assert!(!membership.lost());
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), None);
    }

    #[test]
    fn a_pinned_cluster_is_used_without_a_majority() {
        let membership = Membership::of(["a", "b", "c"].map(String::from), Some(1));
        membership.record("a", 2);
        membership.record("b", 2);
        membership.decide();
        assert_eq!(membership.ours(), None, "no endpoint belongs to it");
        membership.record("c", 1);
        assert!(membership.is_certain(&["a"].into()));
        membership.decide();
        membership.record("a", 2);
        assert_eq!((membership.ours(), membership.lost()), (Some(1), false));
        assert!(membership.includes("c") && !membership.includes("a"));
    }

    #[test]
    fn the_summary_names_every_endpoint_that_answered() {
        let membership = membership(&["a", "b", "c", "d"]);
        assert_eq!(membership.summary(), "");
        [("a", 0x1a), ("b", 0x2b), ("c", 0x1a)].iter().for_each(|(endpoint, id)| membership.record(endpoint, *id));
        assert_eq!(membership.summary(), "a and c belong to cluster 1a, b belongs to cluster 2b");
    }
}
