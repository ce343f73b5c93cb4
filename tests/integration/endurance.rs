//! Repeated operations leak nothing.

use std::{env, time::Duration};

use harness::{
    Cluster, Timing, World, eventually,
    process::{Stat, children, descriptors, with_environment},
};

use crate::world_on;

/// Returns the number of handovers: `TEST_HANDOVERS`, or few enough for every day.
fn hand_overs() -> usize {
    env::var("TEST_HANDOVERS").ok().map_or(50, |text| text.parse().expect("TEST_HANDOVERS is a number"))
}

/// Waits until etcd has only the holder key and this many queue entries, each with its lease.
#[track_caller]
fn only(world: &World, places: usize) {
    let etcdctl = world.cluster().etcdctl();
    eventually(Timing::START, &format!("{places} queue entries, as many leases, one holder key"), || {
        let (keys, leases) = (world.keys()?, etcdctl.leases()?);
        let expected = keys.len() == places + usize::from(places > 0) && leases.len() == places;
        if expected { Ok(()) } else { Err(format!("{keys:?}; leases {leases:x?}")) }
    });
}

/// Each leader ends, and a new instance joins at the end of the queue.
#[test]
fn a_long_series_of_instances_leaves_no_keys_or_leases_behind() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let mut leader = world.candidate("0").start();
    let mut token = leader.leads();
    for number in 1..=hand_overs() / 2 {
        let next = world.candidate(&number.to_string()).start();
        next.waits();
        leader.terminate();
        let next_token = next.leads_within(Timing::SWIFT);
        assert!(next_token > token, "{next_token} after {token}");
        leader.wait_exit(Timing::SWIFT);
        (leader, token) = (next, next_token);
    }
    only(&world, 1);
    leader.terminate();
    leader.wait_exit(Timing::SWIFT);
    only(&world, 0);
    let mine = world.journal().path().display().to_string();
    eventually(Timing::SWIFT, "no process remains", || match with_environment(&mine) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    world.verdict();
}

/// The resources that two long-running instances hold, which must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    gatekeeper: usize,
    guard: usize,
    processes: usize,
    zombies: usize,
}

impl Held {
    fn by(candidate: &harness::Candidate, journal: &str) -> Self {
        let guard = candidate.guard_pid();
        let below: Vec<i32> = [candidate.pid(), guard].iter().flat_map(|&pid| children(pid)).collect();
        Self {
            gatekeeper: descriptors(candidate.pid()),
            guard: descriptors(guard),
            processes: with_environment(journal).len(),
            zombies: below.iter().filter(|&&pid| Stat::of(pid).is_some_and(|stat| stat.state == 'Z')).count(),
        }
    }
}

/// Leadership moves back and forth between two running instances.
#[test]
fn repeated_handovers_between_two_instances_leak_nothing() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let start = |name: &str| {
        let candidate = world.candidate(name).timing(Timing::MEDIUM).set("ON_LOSS", "campaign").start();
        candidate.waits();
        candidate
    };
    let both = [start("a"), start("b")];
    let journal = world.journal().path().display().to_string();
    both[0].leads();
    let mut held = None;
    for round in 0..hand_overs() {
        let (leader, next) = (&both[round % 2], &both[(round + 1) % 2]);
        leader.leads();
        next.waits();
        if round % 2 == 0 {
            // After two rounds all caches are filled.
            match (&held, round) {
                (None, 0) => {}
                (None, _) => held = Some(settled(&world, &both, &journal, |_| true)),
                (Some(held), _) if round + 2 >= hand_overs() => {
                    let _ = settled(&world, &both, &journal, |now| now == held);
                }
                _ => {}
            }
        }
        let head = world.keys().expect("etcd answers").into_iter().find(|key| key.lease == world.holder().lease);
        let place = head
            .filter(|key| key.name != world.lock())
            .map_or_else(|| format!("{}/~entry/{:x}", world.lock(), world.holder().lease), |key| key.name);
        // As by an operator: the leader steps down, revokes its lease, and joins the queue again.
        world.cluster().etcdctl().must(&["del", &place]);
        next.leads_within(Timing::SWIFT);
    }
    world.verdict();
}

/// Returns what both hold when it is the same twice in a row.
fn settled(
    world: &World,
    both: &[std::sync::Arc<harness::Candidate>; 2],
    journal: &str,
    expected: impl Fn(&Vec<Held>) -> bool,
) -> Vec<Held> {
    only(world, 2);
    let look = || both.iter().map(|candidate| Held::by(candidate, journal)).collect::<Vec<_>>();
    let mut last = look();
    eventually(Timing::START, "as much is held as before", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = look();
        let same = std::mem::replace(&mut last, look()) == now && expected(&now) && now == last;
        if same { Ok(now) } else { Err(format!("{now:?}")) }
    })
}
