//! Leadership goes to the highest priority.

use std::{sync::Arc, time::Duration};

use harness::{Candidate, Random, Timing};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::shared_world;

const TIMING: Timing = Timing::SHORT;

#[test]
fn a_leader_hands_over_to_the_highest_priority() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").set("PRIORITY", "10").start();
    c.waits();
    let d = world.candidate("d").set("PRIORITY", "10").start();
    d.waits();
    a.terminate();
    c.leads_within(Timing::SWIFT);
    c.terminate();
    d.leads_within(Timing::SWIFT);
    d.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_negative_priority_is_the_last_choice() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").set("PRIORITY", "-1"));
    let c = world.candidate("c").start();
    c.waits();
    a.terminate();
    c.leads_within(Timing::SWIFT);
    c.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// The leader ignores the priorities of others, and a free lock is taken by whoever is there.
#[test]
fn a_running_leader_ignores_priorities() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").set("PRIORITY", "10"));
    crate::undisturbed(&a, 2 * Timing::LONG.retry);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Both processes are killed, so that nothing but the end of the lease frees the lock.
#[test]
fn the_head_hands_over_before_it_starts_anything() {
    let world = shared_world();
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
    let c = world.candidate("c").timing(TIMING).start();
    c.waits();
    let d = world.candidate("d").timing(TIMING).set("PRIORITY", "10").start();
    d.waits();
    a.pause();
    d.leads_within(TIMING.latest_failover());
    b.logs("\"d\" has a higher priority, 10: handing over before the command is started");
    assert!(b.lives().is_empty() && c.lives().is_empty(), "{}", world.journal().timeline());
    b.waits();
    a.resume();
    world.verdict();
}

#[test]
fn a_request_comes_before_a_priority() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").set("PRIORITY", "10"));
    let c = world.candidate("c").force().start();
    c.leads();
    crate::undisturbed(&c, Timing::LONG.retry);
    assert!(b.lives().is_empty());
    drop(a);
    world.verdict();
}

/// Values that this version cannot read, such as those of a later one, are a priority of 0.
#[test]
fn strange_priority_keys_do_no_harm() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").set("PRIORITY", "2147483647").start();
    c.waits();
    let lock = world.lock();
    let etcdctl = world.cluster().etcdctl();
    let lease = |name: &str| {
        world
            .keys()
            .expect("etcd answers")
            .into_iter()
            .find(|key| key.name.contains("~entry") && key.value == name)
            .expect("an entry")
            .lease
    };
    let of_b = lease("b");
    for (name, value, lease) in [
        (format!("{lock}/~priority/{of_b:x}"), "9223372036854775808", Some(of_b)),
        (format!("{lock}/~priority/1"), "99", None),
        (format!("{lock}/~priority/x"), "99", Some(of_b)),
    ] {
        etcdctl.put(name.as_bytes(), value.as_bytes(), lease);
    }
    a.terminate();
    c.leads_within(Timing::SWIFT);
    c.terminate();
    b.leads_within(Timing::SWIFT);
    etcdctl.must(&["del", "--prefix", &format!("{lock}/~priority/")]);
    world.verdict();
}

#[test]
fn a_standby_with_a_higher_priority_takes_leadership_back_after_failback() {
    let world = shared_world();
    let setup = |name: &str, priority: &str| {
        world.candidate(name).set("PRIORITY", priority).set("FAILBACK", "3").set("ON_LOSS", "campaign")
    };
    let a = setup("a", "0").start();
    a.leads();
    let (b, c) = (setup("b", "1").start(), setup("c", "2").start());
    b.waits();
    c.waits();
    c.leads_within(Duration::from_secs(3) + Timing::SWIFT);
    a.waits();
    crate::undisturbed(&c, Duration::from_secs(4));
    assert!(b.lives().is_empty(), "leadership moved once: {}", world.journal().timeline());
    world.verdict();
}

#[test]
fn equals_never_compete() {
    let world = shared_world();
    let setup = |name: &str| world.candidate(name).set("PRIORITY", "1").set("FAILBACK", "1");
    let (a, b) = crate::leader_and_standby(setup("a"), setup("b"));
    crate::undisturbed(&a, Duration::from_secs(4));
    b.waits();
    world.verdict();
}

/// One or two of three hosts crash, again and again. Whenever one of them comes back, the highest priority leads after FAILBACK, and
/// leadership moves no more often than that takes.
#[test]
fn the_highest_priority_that_lives_leads_through_random_crashes() {
    const ROUNDS: usize = 4;
    let failback = Duration::from_secs(1);
    let world = shared_world();
    let start = |host: usize| {
        let setup = world.candidate(["low", "middle", "high"][host]).timing(TIMING);
        setup.set("PRIORITY", (10 * host).to_string()).set("FAILBACK", "1").set("ON_LOSS", "campaign").start()
    };
    let mut hosts: Vec<_> = (0..3).map(|host| Some(start(host))).collect();
    // Both processes are killed, so that the lease has to expire.
    let crash = |host: &Candidate| {
        let guard = host.guard_pid();
        host.kill();
        let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
    };
    let highest = |hosts: &[Option<_>]| hosts.iter().rposition(Option::is_some).expect("one lives");
    let lead = |host: &Option<Arc<Candidate>>, limit| host.as_ref().expect("it lives").leads_within(limit);
    lead(&hosts[2], Timing::START + failback);
    let mut terms = world.journal().lives().len();
    let mut random = Random::new(5);
    for _ in 0..ROUNDS {
        let leader = highest(&hosts);
        let some = 1 + random.index(6);
        for host in (0..3).filter(|host| some & (1 << host) != 0) {
            crash(&hosts[host].take().expect("it lives"));
        }
        if hosts[leader].is_none() {
            // The head of the queue hands over before it starts anything, so it is one term, whichever instance is the head.
            lead(&hosts[highest(&hosts)], TIMING.latest_failover() + Timing::SWIFT);
            terms += 1;
        }
        while let Some(host) = hosts.iter().position(Option::is_none) {
            let leader = highest(&hosts);
            hosts[host] = Some(start(host));
            if host > leader {
                lead(&hosts[host], Timing::START + failback);
                terms += 1;
            } else {
                hosts[host].as_ref().expect("it lives").waits();
            }
        }
        assert_eq!(world.journal().lives().len(), terms, "{}", world.journal().timeline());
    }
    world.verdict();
}
