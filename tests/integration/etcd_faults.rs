//! Members that die, freeze and recover while an instance leads.

use std::{env, time::Duration};

use harness::{Candidate, Cluster, End, Timing, World, eventually, journal::now, throughout};

use crate::{between, undisturbed, world_on};

/// Long enough for a leader to survive a raft election.
const TIMING: Timing = Timing::MEDIUM;

#[test]
fn an_instance_waits_until_etcd_is_up() {
    let world = world_on(Cluster::builder().unstarted().create());
    let a = world.candidate("a").start();
    let b = world.candidate("b").start();
    for candidate in [&a, &b] {
        candidate.logs(&world.cluster().member(0).client_address().to_string());
    }
    b.terminate();
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(143));
    world.cluster().start();
    world.cluster().wait_healthy();
    a.leads();
    world.verdict();
}

#[test]
fn a_follower_that_is_killed_paused_or_restarted_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let member = world.cluster().member(world.cluster().follower());
    member.pause();
    undisturbed(&a, TIMING.lease());
    member.resume();
    member.kill();
    undisturbed(&a, TIMING.lease());
    member.start();
    world.cluster().wait_healthy();
    undisturbed(&a, TIMING.retry);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn killing_the_raft_leader_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let member = world.cluster().member(world.cluster().leader().expect("a leader"));
    member.kill();
    undisturbed(&a, TIMING.lease() + TIMING.renew);
    member.start();
    world.cluster().wait_healthy();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn pausing_the_raft_leader_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let member = world.cluster().member(world.cluster().leader().expect("a leader"));
    member.pause();
    // Where etcd may revoke live leases after a longer pause, the pause is shorter than the leases.
    let pause = if Cluster::revokes_after_a_pause() { TIMING.renew } else { TIMING.lease() + TIMING.renew };
    undisturbed(&a, pause);
    // A former raft leader resumes, whose responses may be stale.
    member.resume();
    undisturbed(&a, TIMING.lease());
    world.verdict();
}

/// Leadership may be lost only if etcd had no raft leader until just before the deadline. `TEST_LEADERS_LOST=30`
/// repeats it that often and prints each time.
#[test]
fn losing_the_raft_leader_does_not_disturb_a_leader_with_tight_timing() {
    let rounds = env::var("TEST_LEADERS_LOST").map_or(4, |text| text.parse().expect("TEST_LEADERS_LOST is a number"));
    let timing = Timing { lease: 5, renew: Duration::from_secs(3), retry: Duration::from_secs(1), ..TIMING };
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(timing).set("ON_LOSS", "campaign").start();
    a.leads();
    let mut without_reason = 0;
    for round in 0..rounds {
        world.cluster().wait_healthy();
        // So that the last renewal was after the previous fault.
        throughout(timing.retry, "a leads", || if a.living().len() == 1 { Ok(()) } else { Err(a.stderr()) });
        let (without_leader, asked) = lose_the_members_leader(&world, &a, timing, round % 2 == 0);
        println!("round {round}: etcd without a leader for {without_leader:.2?}, asked to stop after {asked:.2?}");
        let for_no_reason = asked.is_some_and(|asked| without_leader + Duration::from_millis(300) < asked);
        without_reason += u32::from(for_no_reason);
    }
    assert_eq!(without_reason, 0, "leadership was lost although etcd had a leader in time");
    world.verdict();
}

/// Returns how long etcd had no raft leader, and when the command received a stop signal, if it did.
fn lose_the_members_leader(world: &World, a: &Candidate, timing: Timing, killed: bool) -> (Duration, Option<Duration>) {
    let cluster = world.cluster();
    let lost = cluster.leader().expect("a leader");
    let member = cluster.member(lost);
    let terms = a.lives().len();
    let at = now();
    if killed {
        member.kill()
    } else {
        member.pause()
    }
    eventually(TIMING.lease() + Timing::ETCD_ELECTION, "another member leads", || {
        let leads =
            |index: usize| cluster.member(index).metrics().is_ok_and(|text| text.contains("etcd_server_is_leader 1"));
        if (0..cluster.members().len()).any(|index| index != lost && leads(index)) {
            Ok(())
        } else {
            Err("none".into())
        }
    });
    let without_leader = between(at, now());
    std::thread::sleep(timing.renew.saturating_sub(without_leader));
    let asked = a.lives()[terms - 1].asked.map(|asked| between(at, asked));
    if killed {
        member.start()
    } else {
        member.resume()
    }
    if asked.is_some() {
        eventually(timing.latest_failover_with_election(), "it leads again", || {
            if a.lives().len() > terms && a.living().len() == 1 { Ok(()) } else { Err(a.stderr()) }
        });
    }
    (without_leader, asked)
}

#[test]
fn losing_quorum_for_less_than_the_renew_deadline_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let (one, two) = two_members(&world);
    one.pause();
    two.pause();
    undisturbed(&a, TIMING.earliest_stop() / 3);
    one.resume();
    two.resume();
    undisturbed(&a, TIMING.lease() + TIMING.renew);
    world.verdict();
}

#[test]
fn losing_quorum_for_longer_stops_the_command_in_time_and_leadership_recovers() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).set("ON_LOSS", "campaign").start();
    let first = a.leads();
    let b = world.candidate("b").timing(TIMING).set("ON_LOSS", "campaign").start();
    b.waits();
    let (one, two) = two_members(&world);
    let fault = harness::journal::now();
    one.kill();
    two.kill();
    a.command_exits_within(TIMING.latest_death());
    let asked = crate::between(fault, a.lives()[0].asked.expect("it was asked first"));
    assert!(asked >= TIMING.earliest_stop(), "{asked:?}");
    assert!(b.lives().is_empty());
    one.start();
    two.start();
    world.cluster().wait_healthy();
    // Either of the two may lead: the raft election restarted the leases, which may have to expire.
    harness::eventually(TIMING.latest_failover_with_election(), "a new term", || {
        let lives = world.journal().lives();
        match lives.last() {
            Some(life) if life.token > first => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.verdict();
}

/// Raft leadership moves to another member without a fault.
#[test]
fn moving_raft_leadership_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let cluster = world.cluster();
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    for _ in 0..3 {
        let leader = cluster.leader().expect("a leader");
        let next = (leader + 1) % cluster.members().len();
        let status = cluster.etcdctl_of(next).json(&["endpoint", "status"]).expect("it answers");
        let id = status[0]["Status"]["header"]["member_id"].as_u64().expect("an id");
        cluster.etcdctl_of(leader).must(&["move-leader", &format!("{id:x}")]);
        undisturbed(&a, 2 * TIMING.retry);
    }
    world.verdict();
}

fn two_members(world: &harness::World) -> (&harness::Member, &harness::Member) {
    let follower = world.cluster().follower();
    let leader = world.cluster().leader().expect("a leader");
    (world.cluster().member(follower), world.cluster().member(leader))
}
