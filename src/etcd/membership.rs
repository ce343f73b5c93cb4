//! Which etcd cluster is ours: two clusters are two locks.
//!
//! Every endpoint has one vote, the cluster that it reported last. Ours is the cluster that more than half of the endpoints
//! report, so that no two sides of a partition can decide on two clusters. Behind the only endpoint there may be several servers:
//! it has to report the same cluster over several connections. Before that is decided nothing is sent to etcd except the question.
//! After that DNS may add endpoints of our cluster, and none that could outvote it.

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
    /// The endpoints that are addresses of a name.
    ways: RefCell<BTreeMap<String, Way>>,
    ours: Cell<Option<u64>>,
    /// The cluster that was decided last, even if that is forgotten by now: who had a vote then keeps it, see
    /// [`keeps`](Self::keeps).
    decided: Cell<Option<u64>>,
    /// The endpoints that DNS has added since a decision and that have not reported the decided cluster. They have no vote: an
    /// answer of DNS can name any number of servers of another cluster.
    newcomers: RefCell<BTreeSet<String>>,
    /// What the only endpoint reported, where there is one only.
    streak: Cell<Streak>,
    /// Whether the endpoints report another cluster than the decided one by now.
    lost: watch::Sender<bool>,
    /// The conflict that was logged last.
    told: RefCell<String>,
}

/// One of the two ways to the servers that a name stands for: its addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The name, as it was configured.
    pub name: String,
    /// Whether it is that of IPv6.
    pub is_ipv6: bool,
}

/// The latest answers of the only endpoint that were of the same cluster.
#[derive(Clone, Copy, Debug)]
struct Streak {
    id: Option<u64>,
    length: u32,
    /// How long it has to be for a decision.
    enough: u32,
    /// Another cluster that was reported while nothing was decided.
    other: Option<u64>,
}

impl Streak {
    const ENOUGH: u32 = 3;
    /// After answers of another cluster: so often no balancer leads to the same one of several servers by chance.
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
    /// Of these endpoints, none of which has answered.
    #[must_use]
    pub fn of(endpoints: impl IntoIterator<Item = String>, pinned: Option<u64>) -> Self {
        Self {
            pinned,
            votes: RefCell::new(endpoints.into_iter().map(|endpoint| (endpoint, None)).collect()),
            ways: RefCell::default(),
            ours: Cell::default(),
            decided: Cell::default(),
            newcomers: RefCell::default(),
            streak: Cell::default(),
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

    /// Has these endpoints be addresses of names, and no others.
    pub(super) fn set_ways(&self, ways: impl Iterator<Item = (String, Way)>) {
        self.ways.replace(ways.collect());
    }

    /// How many have a vote, those that were asked and may still answer among them. A name often has addresses of a family that
    /// its servers do not listen on: where nothing of one family ever answered, and something of the other one did, it has none.
    fn voters(&self, has_been_asked: impl Fn(&str) -> bool) -> usize {
        let (votes, ways) = (self.votes.borrow(), self.ways.borrow());
        let answers = |way: &Way| {
            votes.iter().any(|(endpoint, vote)| {
                vote.is_some() && !self.is_newcomer(endpoint) && ways.get(endpoint) == Some(way)
            })
        };
        let is_closed = |way: &Way| !answers(way) && answers(&Way { name: way.name.clone(), is_ipv6: !way.is_ipv6 });
        let counts = |endpoint: &str| !has_been_asked(endpoint) || !ways.get(endpoint).is_some_and(is_closed);
        votes.keys().filter(|endpoint| !self.is_newcomer(endpoint) && counts(endpoint)).count()
    }

    fn is_newcomer(&self, endpoint: &str) -> bool {
        self.newcomers.borrow().contains(endpoint)
    }

    fn is_single(&self) -> bool {
        self.voters(|_| true) == 1
    }

    /// Has these endpoints vote, and no others. What they reported before is kept.
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
            self.tell();
            self.recount();
        }
    }

    /// Whether an endpoint that is not among the addresses of its name any more has a vote all the same: where one decision was
    /// made, the next one may not come of DNS leaving out those that would know better.
    pub(super) fn keeps(&self, endpoint: &str) -> bool {
        let voted = || self.votes.borrow().get(endpoint).copied().flatten().is_some();
        self.pinned.is_none() && self.decided.get().is_some() && !self.is_newcomer(endpoint) && voted()
    }

    /// Whether a conflict was logged that still stands.
    pub(super) fn in_conflict(&self) -> bool {
        !self.told.borrow().is_empty()
    }

    /// Whether there is one endpoint only, and nothing that says which cluster it must belong to.
    pub(super) fn rests_on_one(&self) -> bool {
        self.pinned.is_none() && self.is_single()
    }

    /// Records an answer of an endpoint from this cluster.
    pub fn heard(&self, endpoint: &str, id: u64) {
        if self.decided.get() == Some(id) {
            self.newcomers.borrow_mut().remove(endpoint);
        }
        if !self.is_newcomer(endpoint) && self.is_another_server(id) {
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

    /// Forgets the decision: nothing of ours is in the cluster.
    pub(super) fn forget(&self) {
        let ours = self.ours.take();
        self.lost.send_replace(false);
        if ours.is_some() && self.streak.get().id != ours {
            self.streak.set(Streak { enough: Streak::ENOUGH_IN_DOUBT, ..Streak::default() });
        }
    }

    /// Whether no answer of these endpoints, which are being asked, can change the result.
    pub(super) fn is_certain(&self, asked: &BTreeSet<&str>) -> bool {
        self.winner_among(|endpoint| !asked.contains(endpoint)).is_some()
    }

    /// Decides by the votes as they are. Logs what that comes to.
    pub(super) fn decide(&self) {
        let Some(winner) = self.winner() else { return self.tell() };
        self.ours.set(Some(winner));
        self.decided.set(Some(winner));
        self.newcomers.borrow_mut().retain(|newcomer| self.votes.borrow().get(newcomer) != Some(&Some(winner)));
        self.streak.set(Streak { enough: Streak::ENOUGH, other: None, ..self.streak.get() });
        let votes = self.votes.borrow();
        let count = votes.values().filter(|vote| **vote == Some(winner)).count();
        tracing::info!("using etcd cluster {winner:x}, reported by {count} of {}", endpoints(votes.len()));
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

    /// The cluster that wins by the votes of these endpoints alone, whatever the others say.
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

    /// What the endpoint of this vote reported as well, if it is the only one.
    fn other_of(&self, vote: Option<u64>) -> Option<u64> {
        let undecided = self.ours.get().is_none() && self.is_single();
        self.streak.get().other.filter(|other| undecided && vote.is_some_and(|id| id != *other))
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
        let all = votes.values().flat_map(|vote| vote.iter().copied().chain(self.other_of(*vote)));
        let mut ids = all.chain(self.pinned);
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
            votes.iter().for_each(|(endpoint, id)| membership.heard(endpoint, *id));
            membership.is_certain(&asked.iter().copied().collect())
        };
        let three = ["a", "b", "c"];
        assert!(!is_certain(&three, &[("a", 1)], &["b", "c"]));
        assert!(is_certain(&three, &[("a", 1), ("b", 1)], &["c"]));
        assert!(!is_certain(&three, &[("a", 1), ("b", 2)], &["c"]));
        assert!(!is_certain(&["a", "b"], &[("a", 1)], &["b"]));
        // What it said before does not count while it is being asked.
        assert!(!is_certain(&["a", "b"], &[("a", 1), ("b", 1)], &["b"]));
        assert!(is_certain(&["a", "b"], &[("a", 1), ("b", 1)], &[]));
    }

    /// Behind it there may be several servers.
    #[test]
    fn the_only_endpoint_must_report_the_same_cluster_over_several_connections() {
        let answers = |answers: &[u64]| {
            let membership = membership(&["a"]);
            answers.iter().for_each(|id| membership.heard("a", *id));
            membership.decide();
            membership
        };
        assert_eq!(answers(&[1, 1]).ours(), None);
        assert_eq!(answers(&[1, 1, 1]).ours(), Some(1));
        let mixed = answers(&[2, 1, 1, 1]);
        assert_eq!((mixed.ours(), mixed.in_conflict()), (None, true));
        assert_eq!(mixed.summary(), "a belongs to cluster 1, a belongs to cluster 2");
        (4..=Streak::ENOUGH_IN_DOUBT).for_each(|_| mixed.heard("a", 1));
        mixed.decide();
        assert_eq!((mixed.ours(), mixed.in_conflict()), (Some(1), false));
    }

    #[test]
    fn who_has_gone_keeps_the_vote_that_it_had_in_a_decision() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b"].iter().for_each(|endpoint| membership.heard(endpoint, 1));
        assert!(!membership.keeps("a"), "nothing was decided");
        membership.decide();
        membership.forget();
        assert!(membership.keeps("a") && membership.keeps("b") && !membership.keeps("c") && !membership.keeps("d"));
        let pinned = Membership::of(["a".to_owned()], Some(1));
        pinned.heard("a", 1);
        pinned.decide();
        assert!(!pinned.keeps("a"));
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
        [1; 3].iter().for_each(|id| membership.heard("a", *id));
        membership.decide();
        for id in [2, 2, 1, 2, 2, 1] {
            membership.heard("a", id);
            assert!(!membership.lost() && membership.includes("a"));
        }
        [2; 3].iter().for_each(|id| membership.heard("a", *id));
        assert!(membership.lost());
        // Now it is in doubt which one it is.
        membership.forget();
        [2; 11].iter().for_each(|id| membership.heard("a", *id));
        membership.decide();
        assert_eq!(membership.ours(), None);
        membership.heard("a", 2);
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
    }

    /// As `localhost` where etcd listens on 127.0.0.1, or three members with an AAAA each that listen on IPv4 only.
    #[test]
    fn addresses_of_a_family_that_nobody_listens_on_have_no_vote() {
        let way = |endpoint: &str, name: &str, is_ipv6| (endpoint.to_owned(), Way { name: name.to_owned(), is_ipv6 });
        let both = membership(&["a4", "a6", "b4", "b6", "c4", "c6"]);
        let ways = ["a", "b", "c"]
            .map(|name| [false, true].map(|v6| way(&format!("{name}{}", if v6 { 6 } else { 4 }), name, v6)));
        both.set_ways(ways.into_iter().flatten());
        both.heard("a4", 1);
        both.heard("b4", 1);
        both.decide();
        assert_eq!(both.ours(), None, "2 of 4, as c may answer in either way");
        both.heard("c4", 1);
        assert!(!both.is_certain(&["a6", "b6", "c6"].into()), "they may still answer");
        both.decide();
        assert_eq!(both.ours(), Some(1));

        let localhost = membership(&["4", "6"]);
        localhost.set_ways([way("4", "localhost", false), way("6", "localhost", true)].into_iter());
        (0..4).for_each(|_| localhost.heard("4", 1));
        localhost.decide();
        assert_eq!(localhost.ours(), Some(1));
        localhost.heard("4", 2);
        assert!(!localhost.lost(), "it counts as the only endpoint");

        let other_names = membership(&["a4", "b6"]);
        other_names.set_ways([way("a4", "a", false), way("b6", "b", true)].into_iter());
        other_names.heard("a4", 1);
        other_names.decide();
        assert_eq!(other_names.ours(), None);
    }

    #[test]
    fn who_does_not_take_part_any_more_has_no_vote() {
        let membership = membership(&["a", "b"]);
        membership.heard("a", 1);
        membership.heard("b", 2);
        membership.set_endpoints(["b", "c"].into_iter());
        membership.heard("a", 2);
        membership.decide();
        assert_eq!(membership.ours(), None);
        membership.heard("c", 2);
        membership.decide();
        assert_eq!(membership.ours(), Some(2));
        membership.set_endpoints(["a", "b", "c"].into_iter());
        assert!(!membership.lost() && !membership.includes("a"), "nobody has asked it since");
    }

    /// However many there are: DNS says where our cluster is, and never which one it is.
    #[test]
    fn what_dns_adds_after_a_decision_has_a_vote_once_it_has_reported_our_cluster() {
        let membership = membership(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|endpoint| membership.heard(endpoint, 1));
        membership.decide();
        let strays = ["w", "x", "y", "z"];
        membership.set_endpoints(["a", "b", "c"].into_iter().chain(strays));
        (0..20).for_each(|_| strays.iter().for_each(|endpoint| membership.heard(endpoint, 2)));
        assert!(!membership.lost() && membership.in_conflict());
        assert!(strays.iter().all(|endpoint| !membership.includes(endpoint) && !membership.keeps(endpoint)));
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), Some(1));

        // A member that was replaced.
        membership.set_endpoints(["b", "c", "d"].into_iter());
        membership.heard("d", 1);
        assert!(membership.includes("d") && membership.keeps("d"));
        // The whole cluster was made anew: those that were of it say so.
        ["b", "d"].iter().for_each(|endpoint| membership.heard(endpoint, 2));
        assert!(membership.lost());
    }

    #[test]
    fn what_dns_adds_has_no_part_in_the_streak_of_the_only_endpoint() {
        let membership = membership(&["a"]);
        (0..3).for_each(|_| membership.heard("a", 1));
        membership.decide();
        membership.set_endpoints(["a", "b"].into_iter());
        (0..20).for_each(|_| membership.heard("b", 2));
        assert!(!membership.lost());
        membership.heard("a", 2);
        assert!(!membership.lost(), "one answer of the only one is not enough");
        // Without the first one there is nobody left to ask.
        membership.set_endpoints(["b"].into_iter());
        membership.forget();
        membership.decide();
        assert_eq!(membership.ours(), None);
    }

    #[test]
    fn a_tie_takes_nothing_away_and_gives_nothing() {
        let membership = membership(&["a", "b"]);
        ["a", "b"].iter().for_each(|endpoint| membership.heard(endpoint, 1));
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
        assert!(membership.is_certain(&["a"].into()));
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
