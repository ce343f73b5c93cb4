//! Members that die, freeze and come back while somebody leads.

use harness::{Cluster, End, Timing};

use crate::{undisturbed, world_on};

/// Long enough for a leader to live through an election among the members.
const TIMING: Timing = Timing::MEDIUM;

#[test]
fn an_etcd_that_is_not_up_yet_is_waited_for() {
    let world = world_on(Cluster::builder().unstarted().create());
    let a = world.candidate("a").start();
    let b = world.candidate("b").start();
    for candidate in [&a, &b] {
        harness::eventually(Timing::START, "it says that it cannot reach etcd", || {
            let log = candidate.stderr();
            if log.contains(&world.cluster().member(0).client_address().to_string()) { Ok(()) } else { Err(log) }
        });
    }
    b.terminate();
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(143));
    world.cluster().start();
    world.cluster().wait_healthy();
    a.leads();
    world.verdict();
}

#[test]
fn a_follower_killed_paused_or_restarted_disturbs_nobody() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
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
fn the_members_leader_killed_disturbs_nobody() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
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
fn the_members_leader_paused_disturbs_nobody() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let member = world.cluster().member(world.cluster().leader().expect("a leader"));
    member.pause();
    undisturbed(&a, TIMING.lease() + TIMING.renew);
    // A stale leader comes back and must be believed by nobody.
    member.resume();
    undisturbed(&a, TIMING.lease());
    world.verdict();
}

#[test]
fn a_quorum_lost_for_less_than_the_renew_deadline_disturbs_nobody() {
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
fn a_quorum_lost_for_longer_stops_the_command_in_time_and_it_comes_back_by_itself() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(TIMING).set("ON_LOSS", "campaign").start();
    let first = a.leads();
    let b = world.candidate("b").timing(TIMING).set("ON_LOSS", "campaign").start();
    b.waits();
    let (one, two) = two_members(&world);
    let fault = harness::journal::now();
    one.kill();
    two.kill();
    a.command_gone_within(TIMING.latest_death());
    let asked = crate::between(fault, a.lives()[0].asked.expect("it was asked first"));
    assert!(asked >= TIMING.earliest_stop(), "{asked:?}");
    assert!(b.lives().is_empty());
    one.start();
    two.start();
    world.cluster().wait_healthy();
    // Whichever of the two: the leases were stretched by the election, and may have to run out.
    harness::eventually(TIMING.latest_failover_with_election(), "a new term", || {
        let lives = world.journal().lives();
        match lives.last() {
            Some(life) if life.token > first => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.verdict();
}

/// The lead moves from one member to another without a fault.
#[test]
fn a_change_of_the_members_leader_disturbs_nobody() {
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
