//! A candidate with made-up events: the cases that need an order of events which etcd and the model seldom produce.

mod checks;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    core::{
        clock,
        kv::{Change, KeyOnly, KeyValue, Op, Outcome, Snapshot, StoreError},
        timing::Timing,
    },
    election::{
        progress::Progress,
        protocol::{Answer, Reading, Request, RequestId, Signal},
    },
    guard::CommandEnd,
    settings::OnLoss,
};

const S: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(1000 + seconds))
}

fn config() -> ElectionConfig {
    ElectionConfig {
        lock: "L".parse().expect("a name"),
        identity: "me".into(),
        identity_is_explicit: false,
        timing: Timing::new(15 * S, 10 * S, 2 * S, 10 * S).expect("the defaults"),
        force: false,
        acquire_timeout: None,
        on_loss: OnLoss::Exit,
        priority: 0,
        failback: None,
        asks_eligibility: false,
        sick_pause: Duration::from_secs(60),
    }
}

/// A candidate, and the requests that it has sent and not cancelled.
struct Driven {
    candidate: Candidate,
    requests: Vec<(RequestId, Request)>,
    now: Instant,
}

impl Driven {
    fn new(config: ElectionConfig) -> Self {
        let candidate = Candidate::new(Arc::new(config), Duration::ZERO, at(0));
        Self { candidate, requests: vec![], now: at(0) }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        let actions = self.candidate.on(event, self.now);
        for action in &actions {
            match action {
                Action::Request(id, request) => self.requests.push((*id, request.clone())),
                Action::Cancel(id) => self.requests.retain(|(open, _)| open != id),
                _ => {}
            }
        }
        actions
    }

    /// Answers the latest request that can have this answer.
    fn answer(&mut self, answer: Answer) -> Vec<Action> {
        let fits = |request: &Request| match answer {
            Answer::Granted { .. } => matches!(request, Request::Grant { .. }),
            Answer::Read(_) => matches!(request, Request::Read(..)),
            Answer::Renewed { .. } | Answer::LeaseGone => {
                matches!(request, Request::Renew { .. } | Request::RenewEvery { .. })
            }
            Answer::KeptAlive { .. } => matches!(request, Request::KeepAlive(_)),
            Answer::Committed(_) => matches!(request, Request::Commit(_)),
            Answer::Changes(_) => matches!(request, Request::Watch { .. }),
            Answer::Revoked(_) => matches!(request, Request::Revoke(_)),
            Answer::Failed { .. } => true,
        };
        let index = self.requests.iter().rposition(|(_, request)| fits(request)).expect("a request");
        let (id, request) = self.requests[index].clone();
        if !matches!(request, Request::RenewEvery { .. } | Request::Watch { .. }) {
            self.requests.remove(index);
        }
        self.on(Event::Answer(id, answer))
    }

    /// Wakes it when it wants to be woken.
    fn wake(&mut self) -> Vec<Action> {
        self.now = self.candidate.next_wake().expect("a deadline");
        self.on(Event::Woken)
    }

    /// Gets this lease, and sends the transaction that joins the queue.
    fn enter(&mut self, lease: i64) {
        self.on(Event::Woken);
        self.on(Event::NewLease(LeaseId(lease)));
        self.answer(Answer::Granted { sent: self.now, ttl: 15 * S });
    }

    /// Joins with this lease, beside other keys.
    fn join(&mut self, lease: i64) -> Vec<Action> {
        self.enter(lease);
        self.answer(Answer::Committed(Outcome::Otherwise(5)))
    }

    fn lead(&mut self) -> Vec<Action> {
        self.join(1);
        self.answer(Answer::Read(snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)])))
    }
}

fn snapshot(keys: &[(&str, &str, i64, i64)]) -> Snapshot {
    let kv = |&(key, value, lease, revision): &(&str, &str, i64, i64)| KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: revision,
        mod_revision: revision,
        lease: Some(LeaseId(lease)),
    };
    let keys: Vec<_> = keys.iter().map(kv).collect();
    let names = keys.iter().cloned().map(KeyOnly::from).collect();
    Snapshot { revision: 20, keys, names, cut: vec![] }
}

fn started(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Order(Order::Start { .. })))
}

#[test]
fn an_election_from_the_first_request_to_the_exit() {
    let mut driven = Driven::new(config());
    assert!(started(&driven.lead()) && driven.candidate.leads());
    assert_eq!(driven.on(Event::Report(Report::Ended(CommandEnd::Exited(3)))).len(), 1);
    driven.on(Event::Report(Report::TreeExited(CommandEnd::Exited(3))));
    // There is no successor.
    driven.answer(Answer::Read(snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)])));
    assert_eq!(driven.requests, [(driven.requests[0].0, Request::Revoke(LeaseId(1)))], "all others are cancelled");
    let last = driven.answer(Answer::Revoked(true)).pop();
    assert_eq!(last, Some(Action::Exit(Exit::Command(3))));
    assert!(driven.candidate.has_exited() && driven.candidate.next_wake().is_none());
}

#[test]
fn the_guard_learns_the_lease_before_it_is_granted() {
    let mut driven = Driven::new(config());
    driven.on(Event::Woken);
    let actions = driven.on(Event::NewLease(LeaseId(1)));
    assert_eq!(actions[0], Action::Order(Order::Lease(Some(LeaseId(1)))));
    assert!(matches!(actions[1], Action::Request(_, Request::Grant { .. })));
}

#[test]
fn an_answer_to_a_cancelled_request_changes_nothing() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let (read, _) = driven.requests[0].clone();
    driven.on(Event::Signal(Signal { number: 15, meaning: Meaning::Shutdown }));
    let before = driven.candidate.clone();
    let leads = snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)]);
    assert_eq!(driven.on(Event::Answer(read, Answer::Read(leads))), []);
    assert_eq!(driven.candidate, before);
}

#[test]
fn the_command_starts_as_soon_as_a_free_lock_is_taken() {
    let mut joined = Driven::new(config());
    joined.enter(1);
    assert!(started(&joined.answer(Answer::Committed(Outcome::Then(5)))), "by joining");

    let mut freed = Driven::new(config());
    freed.join(1);
    let next = [("L", "other", 9, 4), ("L/~entry/9", "other", 9, 4), ("L/~entry/1", "me", 1, 5)];
    freed.answer(Answer::Read(snapshot(&next)));
    let expired = ["L", "L/~entry/9"].map(|key| Change::Deleted(key.into(), 21));
    freed.answer(Answer::Changes(expired.to_vec()));
    assert!(started(&freed.answer(Answer::Committed(Outcome::Then(22)))), "after the leader's lease has expired");
}

/// A lock that is taken beside an eviction marker, or with an old renewal, is read first.
#[test]
fn an_outcome_alone_does_not_start_the_command_in_doubt() {
    for (what, outcome, seconds) in
        [("otherwise", Outcome::Otherwise(5), 0), ("nothing", Outcome::Nothing, 0), ("stale", Outcome::Then(5), 5)]
    {
        let mut driven = Driven::new(config());
        driven.enter(1);
        driven.now = at(seconds);
        assert!(!started(&driven.answer(Answer::Committed(outcome))), "{what}");
        assert!(matches!(driven.requests[0].1, Request::Read(..) | Request::Renew { .. }), "{what}");

        let mut head = Driven::new(config());
        head.join(1);
        head.answer(Answer::Read(snapshot(&[("L/~entry/1", "me", 1, 5)])));
        head.now = at(seconds);
        assert!(!started(&head.answer(Answer::Committed(outcome))), "claim: {what}");
    }
}

/// The head of the queue with these keys takes the free lock; `true` if it then starts the command, `false` if it hands over.
fn starts_as_head(config: ElectionConfig, also: &[(&str, &str, i64, i64)], holder_revision: i64) -> bool {
    let mut head = Driven::new(config);
    head.join(1);
    let queue = [&[("L/~entry/1", "me", 1, 5)], also].concat();
    head.answer(Answer::Read(snapshot(&queue)));
    head.answer(Answer::Committed(Outcome::Otherwise(21)));
    let actions = head.answer(Answer::Read(snapshot(&[&queue[..], &[("L", "me", 1, holder_revision)]].concat())));
    let hands_over = matches!(head.candidate.phase, Phase::HandingOver(_));
    assert_ne!(started(&actions), hands_over, "{actions:?}");
    !hands_over
}

#[test]
fn the_head_hands_the_free_lock_over_to_a_higher_priority_before_it_starts_the_command() {
    let with = |priority| ElectionConfig { priority, ..config() };
    let other = ("L/~entry/2", "b", 2, 6);
    for (own, key, of_other, starts) in
        [(0, "", "1", false), (1, "1", "1", true), (1, "1", "2", false), (2, "2", "1", true), (-1, "-1", "", false)]
    {
        let mut also = vec![other];
        also.extend((!key.is_empty()).then_some(("L/~priority/1", key, 1, 5)));
        also.extend((!of_other.is_empty()).then_some(("L/~priority/2", of_other, 2, 6)));
        assert_eq!(starts_as_head(with(own), &also, 21), starts, "{own} {of_other:?}");
    }
    let higher = [other, ("L/~priority/2", "1", 2, 6)];
    assert!(starts_as_head(config(), &higher, 5), "what was handed over to it, it keeps");
    assert!(starts_as_head(ElectionConfig { force: true, ..config() }, &higher, 21), "what it requested, too");
    let behind_another_client = [("L/20", "x", 0x20, 6), ("L/~entry/2", "b", 2, 7), ("L/~priority/2", "1", 2, 7)];
    assert!(starts_as_head(config(), &behind_another_client, 21));
}

/// A standby with `FAILBACK=4` beside these keys; `true` if it then makes a request to the leader with lease 9.
fn fails_back(priority: i32, also: &[(&str, &str, i64, i64)]) -> bool {
    let makes_request = |standby: &Driven| {
        standby.requests.iter().any(|(_, request)| match request {
            Request::Commit(txn) => txn.then.iter().any(|op| matches!(op, Op::Put(key, ..) if key == b"L/~resign/9/1")),
            _ => false,
        })
    };
    let mut standby = Driven::new(ElectionConfig { priority, failback: Some(4 * S), ..config() });
    standby.join(1);
    let own = priority.to_string();
    let led = [("L", "b", 9, 4), ("L/~entry/9", "b", 9, 4), ("L/~entry/1", "me", 1, 5), ("L/~priority/1", &own, 1, 5)];
    let keys = [&led, also].concat();
    standby.answer(Answer::Read(snapshot(&keys)));
    assert!(!makes_request(&standby) && standby.candidate.next_wake() == Some(at(4)), "before the time");
    standby.wake();
    standby.answer(Answer::Read(snapshot(&keys)));
    makes_request(&standby)
}

#[test]
fn a_standby_with_a_higher_priority_requests_a_handover_after_failback() {
    let other = ("L/~entry/2", "c", 2, 6);
    for (what, priority, also, expected) in [
        ("a leader without a priority", 1, vec![], true),
        ("a leader with a lower priority", 2, vec![("L/~priority/9", "1", 9, 4)], true),
        ("a leader with the same priority", 1, vec![("L/~priority/9", "1", 9, 4)], false),
        ("a leader with a higher priority", 1, vec![("L/~priority/9", "2", 9, 4)], false),
        ("a higher standby", 1, vec![other, ("L/~priority/2", "2", 2, 6)], false),
        ("an equal standby", 1, vec![other, ("L/~priority/2", "1", 2, 6)], true),
    ] {
        assert_eq!(fails_back(priority, &also), expected, "{what}");
    }
}

#[test]
fn a_leader_reads_who_is_next_if_another_instance_has_a_priority() {
    for (priority, reads) in
        [(vec![], false), (vec![("L/~priority/2", "1", 2, 6)], true), (vec![("L/~priority/1", "1", 1, 5)], false)]
    {
        let mut leader = Driven::new(config());
        leader.lead();
        let keys = [vec![("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5), ("L/~entry/2", "b", 2, 6)], priority].concat();
        leader.answer(Answer::Renewed { sent: leader.now, read: snapshot(&keys) });
        leader.on(Event::Report(Report::TreeExited(CommandEnd::Exited(0))));
        let reading = leader.requests.iter().any(|(_, request)| matches!(request, Request::Read(Reading::Lock(_), _)));
        assert_eq!(reading, reads, "{keys:?}");
    }
}

const PAUSE: (&str, &str, i64, i64) = ("L/~pause", r#"{"version":1,"until":1}"#, 0xf0, 15);

fn pauses(actions: &[Action]) -> Vec<bool> {
    let paused = actions.iter().filter_map(|action| match action {
        Action::Progress(Progress::Paused(pause)) => Some(pause.is_some()),
        _ => None,
    });
    paused.collect()
}

fn pause_change() -> Vec<Change> {
    snapshot(&[PAUSE]).keys.into_iter().map(|kv| Change::Put(KeyValue { mod_revision: 21, ..kv })).collect()
}

#[test]
fn the_head_of_a_paused_queue_takes_the_lock_when_the_pause_is_over() {
    let own = ("L/~entry/1", "me", 1, 5);
    let mut head = Driven::new(config());
    head.join(1);
    assert_eq!(pauses(&head.answer(Answer::Read(snapshot(&[own, PAUSE])))), [true]);
    assert!(!head.requests.iter().any(|(_, request)| matches!(request, Request::Commit(_))), "{:?}", head.requests);
    let actions = head.answer(Answer::Changes(vec![Change::Deleted("L/~pause".into(), 21)]));
    assert_eq!(pauses(&actions), [false]);
    head.answer(Answer::Read(Snapshot { revision: 21, ..snapshot(&[own]) }));
    assert!(started(&head.answer(Answer::Committed(Outcome::Then(22)))));
}

#[test]
fn the_end_of_a_pause_wakes_only_the_first_two_of_the_queue() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let queue = [("L/~entry/8", "b", 8, 3), ("L/~entry/9", "a", 9, 4), ("L/~entry/1", "me", 1, 5)];
    driven.answer(Answer::Read(snapshot(&queue)));
    assert_eq!(pauses(&driven.answer(Answer::Changes(pause_change()))), [true]);
    assert_eq!(pauses(&driven.answer(Answer::Changes(vec![Change::Deleted("L/~pause".into(), 22)]))), [false]);
    assert!(driven.requests.iter().all(|(_, request)| matches!(request, Request::Watch { .. })), "nothing is read");
}

#[test]
fn a_change_of_the_leader_is_reported_by_a_candidate_wherever_it_waits() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let queue = [("L", "a", 9, 4), ("L/~entry/9", "a", 9, 3), ("L/~entry/8", "b", 8, 4), ("L/~entry/1", "me", 1, 5)];
    driven.answer(Answer::Read(snapshot(&queue)));
    assert!(
        matches!(&driven.requests[..], [(_, Request::Watch { ranges, .. })] if ranges.iter().any(|it| it.contains(b"L")))
    );
    let mut change = |change| {
        let actions = driven.answer(Answer::Changes(vec![change]));
        assert!(driven.requests.iter().all(|(_, request)| matches!(request, Request::Watch { .. })), "nothing is read");
        actions.into_iter().find_map(|action| match action {
            Action::Progress(Progress::LeaderSeen(leader)) => Some(leader),
            _ => None,
        })
    };
    // The lease of the leader has expired, and the next one leads.
    assert_eq!(change(Change::Deleted("L".into(), 21)), Some(None));
    let holder = snapshot(&[("L", "b", 8, 4)]).keys.remove(0);
    assert_eq!(change(Change::Put(KeyValue { mod_revision: 22, ..holder })), Some(Some("b".to_owned())));
    // A read that shows the same is no news.
    keep_alive_until_it_reads(&mut driven);
    let now = driven.now;
    driven.answer(Answer::Renewed { sent: now, read: snapshot(&[("L", "b", 8, 22), queue[2], queue[3]]) });
    assert!(driven.requests.iter().all(|(_, request)| matches!(request, Request::Watch { .. })), "nothing is read");
}

/// It may evict a holder that cannot be asked to hand over.
#[test]
fn the_end_of_a_pause_wakes_a_candidate_with_a_demand_wherever_it_waits() {
    let mut driven = Driven::new(ElectionConfig { force: true, ..config() });
    driven.join(1);
    let queue = [("L", "go", 7, 2), ("L/~entry/8", "b", 8, 3), ("L/~entry/9", "a", 9, 4), ("L/~entry/1", "me", 1, 5)];
    driven.answer(Answer::Read(snapshot(&[&queue[..], &[PAUSE, ("L/~force/1", "me", 1, 16)]].concat())));
    driven.answer(Answer::Changes(vec![Change::Deleted("L/~pause".into(), 22)]));
    assert!(matches!(driven.requests.last(), Some((_, Request::Read(..)))), "{:?}", driven.requests);
}

#[test]
fn a_leader_goes_on_during_a_pause_whatever_is_requested() {
    let mut leader = Driven::new(config());
    leader.lead();
    let mut keys = vec![("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5), ("L/~entry/2", "b", 2, 6), PAUSE];
    keys.push(("L/~force/2", "b", 2, 16));
    let actions = leader.answer(Answer::Renewed { sent: leader.now, read: snapshot(&keys) });
    assert_eq!(pauses(&actions), [true]);
    assert!(actions.iter().any(|action| matches!(action, Action::Order(Order::Feed(_)))), "{actions:?}");
    // The request is obeyed after the pause.
    keys.remove(3);
    let after = Snapshot { revision: 22, ..snapshot(&keys) };
    assert_eq!(pauses(&leader.answer(Answer::Renewed { sent: leader.now, read: after.clone() })), [false]);
    leader.answer(Answer::Read(after));
    assert!(matches!(leader.candidate.phase, Phase::Stopping(_)));
}

/// An answer that was under way is older than what the watch has shown.
#[test]
fn the_pause_is_reported_once() {
    let mut leader = Driven::new(config());
    leader.lead();
    leader.wake();
    assert_eq!(pauses(&leader.answer(Answer::Changes(pause_change()))), [true]);
    let older = snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)]);
    assert!(pauses(&leader.answer(Answer::Renewed { sent: leader.now, read: older })).is_empty());
}

/// The renewal counts from when it was sent, and may be too old when the read is answered.
#[test]
fn a_command_is_not_started_after_a_stale_renewal() {
    let mut driven = Driven::new(config());
    driven.join(1);
    driven.now = at(5);
    let leads = snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)]);
    assert!(!started(&driven.answer(Answer::Read(leads.clone()))));
    assert!(matches!(driven.requests[0].1, Request::Renew { .. }));
    driven.now = at(6);
    assert!(started(&driven.answer(Answer::Renewed { sent: at(5), read: leads })));
}

/// Old versions of etcd confirm a lease that they are about to revoke.
#[test]
fn a_lease_that_is_confirmed_after_its_ttl_is_not_used() {
    let mut driven = Driven::new(config());
    driven.join(1);
    driven.now = at(4);
    let waits = snapshot(&[("L", "other", 9, 4), ("L/~entry/9", "other", 9, 4), ("L/~entry/1", "me", 1, 5)]);
    driven.answer(Answer::Read(waits.clone()));
    driven.wake();
    driven.now = at(15);
    driven.answer(Answer::Renewed { sent: at(14), read: waits });
    assert_eq!(driven.requests.last().map(|(_, request)| request.clone()), Some(Request::Revoke(LeaseId(1))));
}

/// It reads again before it starts its command. Its watch may have stalled without an error, so it does not wait for that for ever.
#[test]
fn a_standby_that_is_not_next_seldom_reads() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let queue = [("L", "a", 9, 4), ("L/~entry/9", "a", 9, 4), ("L/~entry/8", "b", 8, 4), ("L/~entry/1", "me", 1, 5)];
    driven.answer(Answer::Read(snapshot(&queue)));
    let keepalives = keep_alive_until_it_reads(&mut driven);
    assert_eq!((keepalives, driven.now), (9, at(5 * 15)), "twice per TTL, and a read every five TTLs");
    let now = driven.now;
    driven.answer(Answer::Renewed { sent: now, read: snapshot(&[("L", "b", 8, 4), queue[2], queue[3]]) });
    assert!(matches!(driven.requests.last(), Some((_, Request::Read(..)))), "the keys have changed");
}

/// Returns how many keepalives came before.
fn keep_alive_until_it_reads(driven: &mut Driven) -> usize {
    let mut keepalives = 0;
    loop {
        driven.wake();
        match driven.requests.last() {
            Some((_, Request::KeepAlive(LeaseId(1)))) => keepalives += 1,
            Some((_, Request::Renew { lease: LeaseId(1), .. })) => return keepalives,
            request => panic!("{request:?}"),
        }
        driven.answer(Answer::KeptAlive { sent: driven.now });
    }
}

/// The watch shows it, so that a handover needs no read.
#[test]
fn a_leader_hands_over_at_once_to_a_standby_that_has_just_joined() {
    for (created, handed_over) in
        [(vec!["L/~entry/8"], true), (vec!["L/~entry/8", "L/~entry/9"], true), (vec![], false)]
    {
        let mut driven = Driven::new(config());
        driven.lead();
        driven.wake();
        for name in &created {
            let entry = snapshot(&[(name, "other", 8, 21)]).keys.remove(0);
            driven.answer(Answer::Changes(vec![Change::Put(entry)]));
        }
        driven.on(Event::Report(Report::Ended(CommandEnd::Exited(0))));
        driven.on(Event::Report(Report::TreeExited(CommandEnd::Exited(0))));
        let request = driven.requests.last().map(|(_, request)| request.clone());
        match request.expect("a request") {
            Request::Commit(txn) => {
                assert!(handed_over && txn.then.contains(&crate::core::kv::Op::Delete("L/~entry/8".into())), "{txn:?}");
            }
            Request::Read(..) => assert!(!handed_over, "{created:?}"),
            request => panic!("{request:?}"),
        }
    }
}

/// Another standby may be the next one then.
#[test]
fn a_leader_reads_again_after_the_next_standby_has_left() {
    let mut driven = Driven::new(config());
    driven.lead();
    driven.wake();
    let entry = |name| Change::Put(snapshot(&[(name, "other", 8, 21)]).keys.remove(0));
    driven.answer(Answer::Changes(vec![entry("L/~entry/8"), Change::Deleted("L/~entry/8".into(), 22)]));
    driven.answer(Answer::Changes(vec![entry("L/~entry/9")]));
    driven.on(Event::Report(Report::TreeExited(CommandEnd::Exited(0))));
    assert!(matches!(driven.requests.last(), Some((_, Request::Read(..)))), "{:?}", driven.requests);
}

/// The leader in the cluster that was lost may run for one lease more.
#[test]
fn another_cluster_is_joined_one_lease_later() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let actions = driven.on(Event::ClusterLost);
    assert!(!actions.contains(&Action::NewLease) && driven.requests.is_empty(), "{actions:?}");
    assert_eq!(driven.candidate.next_wake(), Some(at(15)));
    assert!(driven.wake().contains(&Action::NewLease));
}

/// It stops its own command, so nothing is left running there.
#[test]
fn a_leader_that_lost_its_cluster_joins_another_one_at_once() {
    let mut driven = Driven::new(ElectionConfig { on_loss: OnLoss::Campaign, ..config() });
    driven.lead();
    assert!(driven.on(Event::ClusterLost).contains(&Action::Order(Order::Stop)));
    let actions = driven.on(Event::Report(Report::TreeExited(CommandEnd::Signaled(15))));
    assert!(actions.contains(&Action::NewLease) && driven.requests.is_empty(), "it writes nothing to the lost one");
}

#[test]
fn a_request_counts_only_while_it_exists_and_its_owner_has_an_entry() {
    let fed = Order::Feed(config().timing.deadlines(at(2), 15 * S));
    let (entry, request) = (("L/~entry/7", "other", 7, 8), ("L/~force/7", "other", 7, 9));
    for (keys, expected) in [(vec![entry, request], Order::Stop), (vec![request], fed), (vec![entry], fed)] {
        let mut driven = Driven::new(config());
        driven.lead();
        let read = snapshot(&[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5), ("L/~force/7", "other", 7, 9)]);
        driven.now = at(2);
        let actions = driven.answer(Answer::Renewed { sent: at(2), read });
        assert!(!actions.iter().any(|action| matches!(action, Action::Order(_))), "{actions:?}");
        let actions = driven.answer(Answer::Read(snapshot(&keys)));
        assert!(actions.contains(&Action::Order(expected)), "{actions:?}");
    }
}

#[test]
fn a_failed_join_is_given_back_and_repeated_after_the_pause() {
    let mut driven = Driven::new(config());
    driven.on(Event::Woken);
    driven.on(Event::NewLease(LeaseId(1)));
    driven.answer(Answer::Granted { sent: at(0), ttl: 15 * S });
    driven.answer(Answer::Failed { failure: StoreError::Unavailable("no answer".into()), retry_at: at(3) });
    assert_eq!(driven.requests.last().map(|(_, request)| request.clone()), Some(Request::Revoke(LeaseId(1))));
    driven.answer(Answer::Revoked(true));
    assert_eq!(driven.candidate.next_wake(), Some(at(3)));
}

#[test]
fn acquire_timeout_zero_gives_up_at_the_first_sight_of_a_holder() {
    let mut driven = Driven::new(ElectionConfig { acquire_timeout: Some(Duration::ZERO), ..config() });
    driven.join(1);
    driven.answer(Answer::Read(snapshot(&[("L", "go", 9, 4), ("L/~entry/1", "me", 1, 5)])));
    assert_eq!(driven.answer(Answer::Revoked(true)).pop(), Some(Action::Exit(Exit::GaveUp)));
}

/// Lets a leader run for `time` while every answer of etcd takes `delay`, and each renewal reads a handover request whose owner has no
/// entry. Puts of that request are observed with this period, if any. Returns whether the guard was fed.
fn is_fed_beside_a_request(delay: Duration, puts: Option<Duration>, time: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(5);
    let keys = [("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5), ("L/~force/7", "other", 7, 9)];
    let put = snapshot(&keys[2..]).keys.remove(0);
    let mut driven = Driven::new(config());
    driven.lead();
    let (begin, mut renewals, mut reads) = (driven.now, vec![], vec![]);
    let mut renew_at = begin + 2 * S;
    let mut put_at = puts.map(|period| begin + period);
    while driven.now < begin + time {
        driven.now = driven.now + STEP;
        let now = driven.now;
        let mut actions = vec![];
        if driven.candidate.next_wake().is_some_and(|due| due <= now) {
            actions.extend(driven.on(Event::Woken));
        }
        if now >= renew_at {
            renewals.push(now);
            renew_at = now + 2 * S;
        }
        let id_of = |driven: &Driven, wanted: fn(&Request) -> bool| {
            driven.requests.iter().find(|(_, request)| wanted(request)).map(|(id, _)| *id).expect("it is open")
        };
        if let Some(period) = puts.filter(|_| put_at.is_some_and(|due| due <= now)) {
            let watch = id_of(&driven, |request| matches!(request, Request::Watch { .. }));
            actions.extend(driven.on(Event::Answer(watch, Answer::Changes(vec![Change::Put(put.clone())]))));
            put_at = Some(now + period);
        }
        if renewals.first().is_some_and(|sent| *sent + delay <= now) {
            let sent = renewals.remove(0);
            let id = id_of(&driven, |request| matches!(request, Request::RenewEvery { .. }));
            actions.extend(driven.on(Event::Answer(id, Answer::Renewed { sent, read: snapshot(&keys) })));
        }
        for (id, request) in &driven.requests {
            if matches!(request, Request::Read(..)) && !reads.iter().any(|(_, read)| read == id) {
                reads.push((now, *id));
            }
        }
        while let Some(due) = reads.iter().position(|(sent, _)| *sent + delay <= now) {
            let (_, id) = reads.remove(due);
            driven.requests.retain(|(open, _)| *open != id);
            actions.extend(driven.on(Event::Answer(id, Answer::Read(snapshot(&[])))));
        }
        if actions.iter().any(|action| matches!(action, Action::Order(Order::Feed(_)))) {
            return true;
        }
    }
    false
}

/// Everything that answers within RENEW_DEADLINE − RETRY_PERIOD is ridden through, also beside a request that does not count. The
/// read that finds that out must not be begun anew by each renewal.
#[test]
fn a_renewal_is_confirmed_beside_a_request_although_each_answer_takes_longer_than_the_retry_period() {
    assert!(is_fed_beside_a_request(Duration::from_millis(1500), None, 10 * S), "answers in time");
    assert!(is_fed_beside_a_request(Duration::from_millis(2500), None, 10 * S), "slow answers");
}

/// Many instances with FORCE_ACQUIRE may start at once.
#[test]
fn a_renewal_is_confirmed_while_many_requests_are_made() {
    let (delay, period) = (Duration::from_millis(100), Duration::from_millis(50));
    assert!(is_fed_beside_a_request(delay, Some(period), 10 * S));
}

/// The service manager sends it once, and kills this instance if it does not end.
#[test]
fn a_shutdown_request_while_handing_over_to_the_same_identity_ends_the_restart_pause() {
    let config = ElectionConfig { identity_is_explicit: true, ..config() };
    let mut driven = Driven::new(config.clone());
    driven.candidate = Candidate::new(Arc::new(config), 300 * S, at(0));
    driven.lead();
    driven.now = at(2);
    let leads = [("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5), ("L/~force/7", "me", 7, 9)];
    driven.answer(Answer::Renewed { sent: at(2), read: snapshot(&leads) });
    driven.answer(Answer::Read(snapshot(&[("L/~entry/7", "me", 7, 8)])));
    driven.on(Event::Report(Report::TreeExited(CommandEnd::Signaled(15))));
    driven.on(Event::Signal(Signal { number: 15, meaning: Meaning::Shutdown }));
    driven.answer(Answer::Read(snapshot(&leads[..2])));
    let last = driven.answer(Answer::Revoked(true)).pop();
    assert_eq!(last, Some(Action::Exit(Exit::Signal(15))));
}

/// The eviction made a request, whether or not its outcome is known: a transaction that is sent twice answers that nothing was
/// changed. The owner of a request does not start without a read.
#[test]
fn after_an_eviction_whose_outcome_is_unknown_no_command_is_started_beside_the_marker() {
    let failed = Answer::Failed { failure: StoreError::Unavailable("no answer".into()), retry_at: at(1) };
    for outcome in [Answer::Committed(Outcome::Nothing), failed] {
        let mut driven = Driven::new(ElectionConfig { identity_is_explicit: true, ..config() });
        driven.join(1);
        // A Go instance with the same identity leads, and another instance is ahead.
        let queue = [("L/~entry/5", "other", 5, 4), ("L/~entry/1", "me", 1, 5)];
        driven.answer(Answer::Read(snapshot(&[("L", "me", 9, 3), queue[0], queue[1]])));
        assert!(
            matches!(&driven.requests.last().expect("a request").1, Request::Commit(evict) if evict.then.len() == 3)
        );
        driven.answer(outcome);
        driven.wake();
        driven.answer(Answer::Read(snapshot(&[
            queue[0],
            queue[1],
            ("L/~force/1", "me", 1, 19),
            ("L/~ousted/9", "me", 9, 19),
        ])));
        // The other instance has taken the lock, has found the request, and hands over before it starts anything.
        let handover = snapshot(&[("L/~entry/5", "me", 1, 21), ("L", "me", 1, 21)]).keys.into_iter().map(Change::Put);
        let actions = driven.answer(Answer::Changes(handover.collect()));
        assert!(!started(&actions), "the command of the evicted instance may run: {actions:?}");
    }
}

/// The service manager extends its limit, and the instance is not ready any more, from when it is known that no other term follows.
#[test]
fn the_end_is_announced_before_the_lease_is_revoked_whatever_prevents_another_campaign() {
    let interrupt = Event::Signal(Signal { number: 2, meaning: Meaning::Interrupt });
    let cases = [(Some(interrupt), None, Exit::Signal(2)), (None, Some(Event::Report(Report::GuardLost)), Exit::Guard)];
    for (while_stopping, while_releasing, exit) in cases {
        let mut driven = Driven::new(ElectionConfig { on_loss: OnLoss::Campaign, ..config() });
        driven.lead();
        let mut actions = driven.answer(Answer::LeaseGone);
        while_stopping.into_iter().for_each(|event| actions.extend(driven.on(event)));
        actions.extend(driven.on(Event::Report(Report::TreeExited(CommandEnd::Signaled(15)))));
        actions.extend(driven.answer(Answer::Read(snapshot(&[]))));
        while_releasing.into_iter().for_each(|event| actions.extend(driven.on(event)));
        assert!(driven.requests.iter().any(|(_, request)| matches!(request, Request::Revoke(_))));
        let last = driven.answer(Answer::Revoked(true)).pop();
        assert_eq!(last, Some(Action::Exit(exit)));
        assert!(actions.contains(&Action::Progress(Progress::Ending)), "{exit:?}: {actions:?}");
    }
}

/// Another client, or an operator, may write or delete such a key.
#[test]
fn a_request_that_somebody_else_made_and_withdrew_is_not_repeated() {
    let mut driven = Driven::new(config());
    driven.join(1);
    let waits =
        [("L", "other", 9, 4), ("L/~entry/9", "other", 9, 4), ("L/~entry/1", "me", 1, 5), ("L/~force/1", "x", 8, 6)];
    driven.answer(Answer::Read(snapshot(&waits)));
    driven.answer(Answer::Changes(vec![Change::Deleted("L".into(), 7)]));
    driven.answer(Answer::Read(snapshot(&waits[..3])));
    let commits: Vec<_> = driven.requests.iter().filter(|(_, request)| matches!(request, Request::Commit(_))).collect();
    assert!(commits.is_empty(), "{commits:?}");
}

/// Events that can be made up without a request.
fn event() -> impl Strategy<Value = Step> {
    let signal = prop_oneof![Just(Meaning::Shutdown), Just(Meaning::Interrupt), Just(Meaning::Other)];
    prop_oneof![
        8 => (0..6_u8).prop_map(Step::Answer),
        4 => (0..4000_u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => signal.prop_map(|meaning| Step::Event(Event::Signal(Signal { number: 15, meaning }))),
        1 => Just(Step::Event(Event::ClusterLost)),
        1 => Just(Step::Event(Event::Report(Report::TreeExited(CommandEnd::NotStarted)))),
        1 => Just(Step::Event(Event::Report(Report::GuardLost))),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u8),
    Wait(Duration),
    Event(Event),
}

/// Returns some answer to a request.
fn answer(request: &Request, which: u8, now: Instant) -> Answer {
    let keys: &[_] = match which {
        0 => &[("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)],
        1 => &[("L", "other", 9, 4), ("L/~entry/9", "other", 9, 4), ("L/~entry/1", "me", 1, 5)],
        2 => &[("L/~entry/1", "me", 1, 5)],
        3 => &[
            ("L/~entry/1", "me", 1, 5),
            ("L", "me", 1, 5),
            ("L/~force/9", "other", 9, 9),
            ("L/~entry/9", "other", 9, 8),
        ],
        _ => &[],
    };
    let read = snapshot(keys);
    match request {
        _ if which == 5 => Answer::Failed {
            failure: StoreError::Unavailable("down".into()),
            retry_at: now + Duration::from_millis(50),
        },
        Request::Grant { ttl, .. } => Answer::Granted { sent: now, ttl: *ttl },
        Request::Read(..) => Answer::Read(read),
        Request::Renew { .. } | Request::RenewEvery { .. } if which == 4 => Answer::LeaseGone,
        Request::Renew { .. } | Request::RenewEvery { .. } => Answer::Renewed { sent: now, read },
        Request::KeepAlive(_) => Answer::KeptAlive { sent: now },
        Request::Commit(_) if which == 4 => Answer::Committed(Outcome::Nothing),
        Request::Commit(_) => Answer::Committed(Outcome::Then(21)),
        Request::Watch { .. } => Answer::Changes(vec![]),
        Request::Revoke(_) => Answer::Revoked(true),
    }
}

impl Driven {
    fn step(&mut self, step: &Step) -> Vec<Action> {
        match step {
            Step::Answer(which) => match self.requests.last().cloned() {
                Some((_, request)) => self.answer(answer(&request, *which, self.now)),
                None => self.on(Event::NewLease(LeaseId(1))),
            },
            Step::Wait(time) => {
                self.now = self.now + *time;
                self.on(Event::Woken)
            }
            Step::Event(event) => self.on(event.clone()),
        }
    }
}

proptest! {
    /// Its decisions depend on the differences between instants only, and each instant is moved by a shift: the exploration
    /// treats states that differ by a shift as one.
    #[test]
    fn a_shifted_candidate_decides_the_same(steps in vec(event(), 1..40), by in 1..1000_u64) {
        let (by, none) = (clock::Shift { from: at(0), to: at(by) }, clock::Shift { from: at(0), to: at(0) });
        let (mut plain, mut shifted) = (Driven::new(config()), Driven::new(config()));
        shifted.candidate.shift(by);
        shifted.now = by.to;
        for step in &steps {
            let (_, _) = (plain.step(step), shifted.step(step));
            let (mut one, mut other) = (plain.candidate.clone(), shifted.candidate.clone());
            one.shift(by);
            other.shift(none);
            prop_assert_eq!(&one, &other);
        }
    }

    /// Whatever happens, a candidate that was not exited waits for an answer, a report, or an instant.
    #[test]
    fn a_candidate_never_gets_stuck(steps in vec(event(), 1..40)) {
        let mut driven = Driven::new(config());
        driven.on(Event::Woken);
        for step in &steps {
            driven.step(step);
            let waits = driven.candidate.leads() || !driven.requests.is_empty() || driven.candidate.next_wake().is_some();
            let numbering = matches!(driven.candidate.phase, Phase::Joining(Joining::Numbering));
            prop_assert!(waits || numbering || driven.candidate.has_exited(), "{:?}", driven.candidate);
        }
    }
}
