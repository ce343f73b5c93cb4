//! Each transaction over a few keys: what it changes, and when it changes nothing.
//!
//! A key is written `name=value@lease:create.mod`, for example `L=a@1:5.7`. `E1` stands for `L/~entry/1`.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::*;
use crate::{
    core::{
        kv::{KeyOnly, Outcome, Snapshot},
        names::shown,
    },
    election::view::View,
};

/// The revision of each transaction.
const REVISION: i64 = 50;

fn lock() -> LockName {
    "L".parse().expect("a name")
}

/// The keys of a lock, as etcd would hold them.
#[derive(Clone, PartialEq, Eq)]
struct Keys(BTreeMap<Vec<u8>, KeyValue>);

fn keys(text: &str) -> Keys {
    let key = |word: &str| {
        let (name, rest) = word.split_once('=').expect("a value");
        let (value, rest) = rest.split_once('@').expect("a lease");
        let (lease, revisions) = rest.split_once(':').expect("revisions");
        let (created, modified) = revisions.split_once('.').expect("two revisions");
        let name = long(name);
        let lease = i64::from_str_radix(lease, 16).expect("a lease");
        let kv = KeyValue {
            key: name.clone(),
            value: value.into(),
            create_revision: created.parse().expect("a revision"),
            mod_revision: modified.parse().expect("a revision"),
            lease: (lease != 0).then_some(LeaseId(lease)),
        };
        (name, kv)
    };
    Keys(text.split_whitespace().map(key).collect())
}

fn long(name: &str) -> Vec<u8> {
    match name.strip_prefix('E') {
        Some(lease) => format!("L/~entry/{lease}"),
        None => name.to_owned(),
    }
    .into_bytes()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |KeyValue { key, value, create_revision, mod_revision, lease }: &KeyValue| {
            let lease = lease.map_or(0, |lease| lease.0);
            format!("{}={}@{lease:x}:{create_revision}.{mod_revision}", shown(key), shown(value))
        };
        f.debug_list().entries(self.0.values().map(show)).finish()
    }
}

impl Keys {
    /// Applies a transaction as etcd does.
    fn apply(&mut self, txn: &Txn) -> Outcome {
        let holds = |compare: &Compare| match compare {
            Compare::Absent(range) => !self.0.keys().any(|key| range.contains(key)),
            Compare::Unchanged(key, revision) => self.0.get(key).map_or(0, |kv| kv.mod_revision) == *revision,
            Compare::Older(range, revision) => self.created(range).all(|created| created < *revision),
            Compare::NotOlder(range, revision) => {
                self.created(range).next().is_some() && self.created(range).all(|created| created >= *revision)
            }
        };
        if !txn.when.iter().all(holds) {
            return match txn.otherwise.as_deref().map(|otherwise| self.apply(otherwise)) {
                Some(Outcome::Then(revision)) => Outcome::Otherwise(revision),
                _ => Outcome::Nothing,
            };
        }
        for op in &txn.then {
            match op {
                Op::Put(key, value, lease) => {
                    let create_revision = self.0.get(key).map_or(REVISION, |kv| kv.create_revision);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: REVISION,
                        lease: Some(*lease),
                    };
                    self.0.insert(key.clone(), kv);
                }
                Op::Delete(key) => drop(self.0.remove(key)),
            }
        }
        Outcome::Then(REVISION)
    }

    fn created(&self, range: &Range) -> impl Iterator<Item = i64> {
        self.0.values().filter(|kv| range.contains(&kv.key)).map(|kv| kv.create_revision)
    }

    fn view(&self) -> View {
        let keys: Vec<_> = self.0.values().cloned().collect();
        let names = keys.iter().cloned().map(KeyOnly::from).collect();
        View::new(&lock(), Snapshot { revision: REVISION - 1, keys, names, cut: vec![] })
    }

    fn entry(&self, lease: i64) -> Entry {
        self.view().entry_of(LeaseId(lease)).expect("an entry").1.clone()
    }

    /// Returns the term of the leader with lease 1, as it was when these keys were read.
    fn term(&self) -> Term {
        let holder = &self.0[b"L".as_slice()];
        Term { lease: LeaseId(1), ttl: Duration::from_secs(15), token: holder.mod_revision, entry: self.entry(1).kv }
    }
}

/// Applies the transaction that was made from `read` to the keys `now`, and compares what is there afterwards; `""` if nothing is
/// changed.
#[track_caller]
fn case(what: &str, read: &str, now: &str, make: impl Fn(&Keys) -> Txn, expected: &str) {
    let mut actual = keys(now);
    let outcome = actual.apply(&make(&keys(read)));
    if expected.is_empty() {
        assert_eq!((outcome, actual), (Outcome::Nothing, keys(now)), "{what}");
        return;
    }
    assert_ne!(outcome, Outcome::Nothing, "{what}");
    assert_eq!(actual, keys(expected), "{what}");
    // Twice is as good as once, as a transaction may be sent over several connections.
    let again = actual.apply(&make(&keys(read)));
    assert_eq!((again, actual), (Outcome::Nothing, keys(expected)), "{what}, applied twice");
}

#[test]
fn joining() {
    let join = |_: &Keys| join(&lock(), "me", LeaseId(3), 0);
    for (what, now, expected) in [
        ("join a free lock: lead at once", "", "E3=me@3:50.50 L=me@3:50.50"),
        ("join behind a leader", "E1=a@1:5.5 L=a@1:5.5", "E1=a@1:5.5 L=a@1:5.5 E3=me@3:50.50"),
        ("join behind a holder without an entry", "L=go@9:5.5", "L=go@9:5.5 E3=me@3:50.50"),
        ("join while the lock is free and others wait", "E1=a@1:5.5", "E1=a@1:5.5 E3=me@3:50.50"),
        ("join beside a key of another client", "L/c0=x@c0:5.5", "L/c0=x@c0:5.5 E3=me@3:50.50"),
        (
            "join beside a key of an application",
            "L/config=x@0:5.5",
            // It cannot be told from an entry without its lease, and a range of names cannot leave it out.
            "L/config=x@0:5.5 E3=me@3:50.50",
        ),
        ("join beside an eviction marker", "L/~ousted/9=go@9:5.5", "L/~ousted/9=go@9:5.5 E3=me@3:50.50"),
        ("join beside keys of a lock below", "L/x/~entry/1=x@1:5.5", "L/x/~entry/1=x@1:5.5 E3=me@3:50.50 L=me@3:50.50"),
        ("a join that was applied before", "E3=me@3:6.6 L=a@1:5.5", ""),
    ] {
        case(what, "", now, join, expected);
    }
}

#[test]
fn joining_with_a_priority() {
    let join = |_: &Keys| join(&lock(), "me", LeaseId(3), -7);
    for (what, now, expected) in [
        ("join a free lock", "", "E3=me@3:50.50 L=me@3:50.50 L/~priority/3=-7@3:50.50"),
        ("join behind a leader", "L=go@9:5.5", "L=go@9:5.5 E3=me@3:50.50 L/~priority/3=-7@3:50.50"),
        ("a join that was applied before", "E3=me@3:6.6 L/~priority/3=-7@3:6.6 L=a@1:5.5", ""),
    ] {
        case(what, "", now, join, expected);
    }
}

#[test]
fn claiming() {
    let request = Request { to: None, lease: LeaseId(3) };
    let read = "E3=me@3:6.6";
    let with = |request: Option<Request>| move |read: &Keys| claim(&lock(), "me", &read.entry(3), request.as_slice());
    for (what, now, own, expected) in [
        ("claim a free lock", read, None, "E3=me@3:6.6 L=me@3:50.50"),
        ("claim with a holder present", "E3=me@3:6.6 L=go@9:7.7", None, ""),
        ("claim after the own entry was deleted", "", None, ""),
        ("claim after the own entry was rewritten", "E3=other@4:6.8", None, ""),
        (
            "claim with a request of its own",
            "E3=me@3:6.6 L/~force/3=me@3:7.7",
            Some(request),
            "E3=me@3:6.6 L=me@3:50.50",
        ),
    ] {
        case(what, read, now, with(own), expected);
    }
}

#[test]
fn an_outcome_alone_starts_the_command_only_if_a_read_would_show_nothing_more() {
    let (by_read, at_once) = (Outcome::Otherwise(REVISION), Outcome::Then(REVISION));
    let join = |now: &str| keys(now).apply(&join(&lock(), "me", LeaseId(3), 0));
    assert_eq!(join(""), at_once);
    assert_eq!(join("L/~ousted/9=go@9:5.5"), by_read, "a lease of an evicted holder that has not expired");
    assert_eq!(join("L/c0=x@c0:5.5"), by_read, "another client in the queue");

    let read = "E3=me@3:6.6";
    for (what, also, expected) in [
        ("nothing", "", at_once),
        ("a younger entry", "E4=x@4:7.7", at_once),
        ("an older entry", "E4=x@4:5.5", by_read),
        ("an older entry that was handed over", "E1=x@4:5.7", by_read),
        ("a key of another client", "L/c0=x@c0:7.7", by_read),
        ("an eviction marker", "L/~ousted/9=go@9:5.5", by_read),
        ("a request to any leader", "L/~force/4=x@4:7.7", by_read),
        ("a request to this candidate", "L/~resign/3/4=x@4:7.7", by_read),
        ("a request to another holder", "L/~resign/9/4=x@4:7.7", at_once),
        ("a priority of another", "L/~priority/4=1@4:7.7", by_read),
        ("its own priority", "L/~priority/3=1@3:6.6", at_once),
        ("both", "L/~priority/3=1@3:6.6 L/~priority/2=1@2:5.5", by_read),
    ] {
        let mut now = keys(&format!("{read} {also}"));
        assert_eq!(now.apply(&claim(&lock(), "me", &now.entry(3), &[])), expected, "beside {what}");
    }
    let mut negative = keys("E3=me@3:6.6 L/~priority/3=-1@3:6.6");
    assert_eq!(negative.apply(&claim(&lock(), "me", &negative.entry(3), &[])), by_read, "others may have 0");
}

#[test]
fn requesting_and_withdrawing() {
    let to_all = Request { to: None, lease: LeaseId(3) };
    let to_one = Request { to: Some(LeaseId(1)), lease: LeaseId(3) };
    let read = "E3=me@3:6.6";
    let make = |to| move |read: &Keys| request(&lock(), "me", &read.entry(3), to);
    case("request from every leader", read, read, make(to_all), "E3=me@3:6.6 L/~force/3=me@3:50.50");
    case("request from one holder", read, read, make(to_one), "E3=me@3:6.6 L/~resign/1/3=me@3:50.50");
    case("request after the own entry was deleted", read, "", make(to_all), "");
    case("request a second time", read, "E3=me@3:6.6 L/~force/3=me@3:7.7", make(to_all), "");
    let back = |_: &Keys| withdraw(&lock(), to_one, 7);
    case("withdraw a request", read, "E3=me@3:6.6 L/~resign/1/3=me@3:7.7", back, "E3=me@3:6.6");
    case("withdraw a request that was made again", read, "E3=me@3:6.6 L/~resign/1/3=me@3:8.8", back, "");
}

#[test]
fn evicting() {
    let read = "E3=me@3:6.6 L=go@9:5.5";
    let make = |read: &Keys| {
        let holder = read.view().holder.expect("a holder");
        evict(&lock(), "me", &read.entry(3), &holder)
    };
    let evicted = "E3=me@3:6.6 L/~force/3=me@3:50.50 L/~ousted/9=go@9:50.50";
    case("evict a holder without an entry", read, read, make, evicted);
    case("evict a holder that has renewed its key", read, "E3=me@3:6.6 L=go@9:5.8", make, "");
    case("evict a holder that is gone", read, "E3=me@3:6.6", make, "");
    case("evict after the own entry was deleted", read, "L=go@9:5.5", make, "");
    let by_hand = "E3=me@3:6.6 L=x@0:5.5";
    case("evict a key written by hand", by_hand, by_hand, make, "E3=me@3:6.6 L/~force/3=me@3:50.50");
}

#[test]
fn handing_over() {
    let read = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7";
    let handed_over = "E1=b@2:5.50 L=b@2:5.50";
    let to_next = |read: &Keys| hand_over_to_next(&lock(), &read.term(), &read.entry(2));
    for (what, now, expected) in [
        ("to the next in the queue", read, handed_over.to_owned()),
        ("to a standby that has left", "E1=a@1:5.5 L=a@1:5.6", String::new()),
        ("to a standby whose entry was rewritten", "E1=a@1:5.5 L=a@1:5.6 E2=b@4:7.9", String::new()),
        ("after the holder key was rewritten", "E1=a@1:5.5 L=go@9:5.9 E2=b@2:7.7", String::new()),
        ("after the holder key was deleted", "E1=a@1:5.5 E2=b@2:7.7", String::new()),
        ("after the own entry was deleted", "L=a@1:5.6 E2=b@2:7.7", String::new()),
        ("beside a request", "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~force/8=x@8:9.9", String::new()),
        ("beside a request to this holder", "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~resign/1/8=x@8:9.9", String::new()),
        (
            "beside a request to another holder",
            "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~resign/4/8=x@8:9.9",
            format!("{handed_over} L/~resign/4/8=x@8:9.9"),
        ),
        ("beside an eviction marker", "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~ousted/9=go@9:9.9", String::new()),
        ("past an entry of another client", "E1=a@1:5.5 L=a@1:5.6 L/c0=x@c0:6.6 E2=b@2:7.7", String::new()),
        (
            "before an entry of another client that stayed from an earlier leader",
            "L/c0=x@c0:4.4 E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7",
            format!("{handed_over} L/c0=x@c0:4.4"),
        ),
        ("beside a priority", "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 E3=c@3:9.9 L/~priority/3=1@3:9.9", String::new()),
        (
            "with a priority of its own",
            "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~priority/1=1@1:5.5",
            format!("{handed_over} L/~priority/1=1@1:5.5"),
        ),
    ] {
        case(what, read, now, to_next, &expected);
    }
}

#[test]
fn handing_over_to_the_highest_priority() {
    let read = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 E3=c@3:8.8 L/~priority/3=1@3:8.8";
    let make = |read: &Keys| {
        let view = read.view();
        hand_over(&lock(), &read.term(), &view.successor_of(LeaseId(1)).expect("a successor"), view.revision)
    };
    let handed_over = "E1=c@3:5.50 L=c@3:5.50 E2=b@2:7.7 L/~priority/3=1@3:8.8";
    case("to the highest priority", read, read, make, handed_over);
    let without = "E4=d@4:50.50";
    case(
        "after another without a priority joined",
        read,
        &format!("{read} {without}"),
        make,
        &format!("{handed_over} {without}"),
    );
    case("after another with a priority joined", read, &format!("{read} {without} L/~priority/4=2@4:50.50"), make, "");
    case("beside a request", read, &format!("{read} L/~force/2=b@2:9.9"), make, "");
    let negative = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 L/~priority/2=-1@2:7.7";
    case("to a negative priority", negative, negative, make, "E1=b@2:5.50 L=b@2:5.50 L/~priority/2=-1@2:7.7");
    case("to a negative priority after another joined", negative, &format!("{negative} {without}"), make, "");
    let gone = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7";
    case("after the highest priority has left", read, gone, make, "");
}

#[test]
fn handing_over_on_request() {
    let read = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 E3=c@3:8.8 L/~force/3=c@3:9.9";
    let make = |read: &Keys| {
        let view = read.view();
        hand_over(&lock(), &read.term(), &view.successor_of(LeaseId(1)).expect("a successor"), view.revision)
    };
    let handed_over = "E1=c@3:5.50 L=c@3:5.50 E2=b@2:7.7";
    case("to the owner of a request", read, read, make, handed_over);
    let withdrawn = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7 E3=c@3:8.8";
    case("to the owner of a request that was withdrawn", read, withdrawn, make, "");
    case("beside an eviction marker", read, &format!("{read} L/~ousted/9=go@9:9.9"), make, "");
}

#[test]
fn nobody_becomes_leader_during_a_pause() {
    let pause = "L/~pause={}@f0:9.9";
    let is_refused = |read: &str, make: &dyn Fn(&Keys) -> Txn| {
        let mut now = keys(&format!("{read} {pause}"));
        let outcome = now.apply(&make(&keys(read)));
        assert_eq!(keys(read).apply(&make(&keys(read))), Outcome::Then(REVISION), "without the pause");
        outcome
    };
    let join = |_: &Keys| join(&lock(), "me", LeaseId(3), 0);
    assert_eq!(is_refused("", &join), Outcome::Otherwise(REVISION));
    case("join during a pause", "", pause, join, &format!("{pause} E3=me@3:50.50"));
    let claim = |read: &Keys| claim(&lock(), "me", &read.entry(3), &[]);
    assert_eq!(is_refused("E3=me@3:6.6", &claim), Outcome::Nothing);
    let leader = "E1=a@1:5.5 L=a@1:5.6 E2=b@2:7.7";
    let to_next = |read: &Keys| hand_over_to_next(&lock(), &read.term(), &read.entry(2));
    assert_eq!(is_refused(leader, &to_next), Outcome::Nothing);
    let to_successor = |read: &Keys| {
        hand_over(&lock(), &read.term(), &read.view().successor_of(LeaseId(1)).expect("a successor"), REVISION)
    };
    assert_eq!(is_refused(leader, &to_successor), Outcome::Nothing);
    assert_eq!(is_refused(&format!("{leader} L/~resign/1/2=b@2:8.8"), &to_successor), Outcome::Nothing);
    let evict = |read: &Keys| evict(&lock(), "me", &read.entry(3), &read.view().holder.expect("a holder"));
    assert_eq!(is_refused("E3=me@3:6.6 L=go@9:5.5", &evict), Outcome::Nothing);
}
