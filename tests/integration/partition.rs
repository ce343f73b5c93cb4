//! Faults of the network between an instance and etcd: lost, refusing, one-way, slow.

use std::{sync::Arc, time::Duration};

use harness::{Behavior, Candidate, Direction, End, Proxy, Timing, World, journal::now, wait::scaled};

use crate::{between, shared_world};

const TIMING: Timing = Timing::SHORT;

/// Starts a leader behind proxies, and a standby that connects directly.
fn leader_and_standby(world: &World, behavior: Behavior) -> (Arc<Candidate>, Vec<Proxy>, Arc<Candidate>) {
    let proxies = world.proxies();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING).via(&proxies).behavior(behavior),
        world.candidate("b").timing(TIMING),
    );
    (a, proxies, b)
}

/// Causes `fault` on every path to etcd: the command receives its stop signal at the renew deadline, has ended by the
/// kill deadline, and the standby leads when the lease has expired.
fn isolated(fault: impl Fn(&Proxy), behavior: Behavior) {
    let world = shared_world();
    let (a, proxies, b) = leader_and_standby(&world, behavior);
    let at = now();
    proxies.iter().for_each(fault);
    b.leads_within(TIMING.latest_failover());
    let life = &a.lives()[0];
    let (asked, death) = (between(at, life.asked.expect("it was asked first")), between(at, life.to));
    assert!(asked >= TIMING.earliest_stop(), "asked to stop too soon: {asked:?}");
    assert!(asked <= scaled(TIMING.latest_stop()), "asked to stop too late: {asked:?}");
    assert!(death <= scaled(TIMING.latest_death()), "dead too late: {death:?}");
    // The instance ends although etcd is still unreachable.
    assert_eq!(a.wait_exit(TIMING.lease() + Timing::SWIFT), End::Code(79));
    proxies.iter().for_each(Proxy::heal);
    world.verdict();
}

#[test]
fn a_leader_in_a_black_hole_stops_before_its_lease_ends() {
    isolated(Proxy::black_hole, Behavior::default());
}

#[test]
fn a_leader_in_a_black_hole_kills_a_command_that_ignores_sigterm_before_its_lease_ends() {
    isolated(Proxy::black_hole, Behavior::stubborn());
}

#[test]
fn a_leader_that_is_cut_off_stops_before_its_lease_ends() {
    isolated(Proxy::cut, Behavior::default());
}

/// Its renewals arrive and keep the lease alive, but the responses are lost. It stops its command, and the standby must
/// not start before the lease has expired.
#[test]
fn a_leader_that_receives_no_responses_stops_in_time() {
    let world = shared_world();
    let (a, proxies, b) = leader_and_standby(&world, Behavior::stubborn());
    let at = now();
    for proxy in &proxies {
        proxy.hold(Direction::ToCandidate);
    }
    a.command_exits_within(TIMING.latest_death());
    let asked = between(at, a.lives()[0].asked.expect("it was asked first"));
    assert!(asked >= TIMING.earliest_stop(), "{asked:?}");
    // It stops sending when it has ended; the last renewal that arrived extends the lease.
    b.leads_within(TIMING.lease() + TIMING.latest_failover());
    world.verdict();
}

#[test]
fn a_leader_whose_requests_are_lost_stops_in_time() {
    isolated(|proxy| proxy.hold(Direction::ToMember), Behavior::default());
}

#[test]
fn an_outage_shorter_than_the_renew_deadline_does_not_disturb_the_leader() {
    let world = shared_world();
    let timing = Timing::MEDIUM;
    let proxies = world.proxies();
    let a = world.candidate("a").timing(timing).via(&proxies).start();
    a.leads();
    for fault in [Proxy::black_hole, Proxy::cut] {
        proxies.iter().for_each(fault);
        crate::undisturbed(&a, timing.earliest_stop() / 2);
        proxies.iter().for_each(Proxy::heal);
        crate::undisturbed(&a, timing.lease());
    }
    world.verdict();
}

#[test]
fn one_member_in_a_black_hole_does_not_disturb_the_leader() {
    let world = shared_world();
    let proxies = world.proxies();
    let a = world.candidate("a").timing(TIMING).via(&proxies).start();
    a.leads();
    // One of them is the member that it is connected to.
    for proxy in &proxies {
        proxy.black_hole();
        crate::undisturbed(&a, TIMING.lease());
        proxy.heal();
        crate::undisturbed(&a, 2 * TIMING.retry);
    }
    world.verdict();
}

/// The handover must not wait for the member of the last request, which would take longer than this limit.
#[test]
fn a_leader_hands_over_at_once_although_some_members_are_in_a_black_hole() {
    let world = shared_world();
    let proxies = world.proxies();
    let (a, b) = crate::leader_and_standby(world.candidate("a").via(&proxies), world.candidate("b"));
    // Until a renewal has read the entry of the next standby.
    crate::undisturbed(&a, 2 * Timing::LONG.retry);
    proxies[..2].iter().for_each(Proxy::black_hole);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    proxies.iter().for_each(Proxy::heal);
    world.verdict();
}

#[test]
fn repeatedly_broken_connections_do_not_disturb_the_leader() {
    let world = shared_world();
    let proxies = world.proxies();
    let a = world.candidate("a").timing(TIMING).via(&proxies).start();
    a.leads();
    for _ in 0..6 {
        proxies.iter().for_each(Proxy::reset);
        crate::undisturbed(&a, TIMING.retry);
    }
    world.verdict();
}

#[test]
fn a_slow_network_does_not_disturb_the_election() {
    let world = shared_world();
    let proxies = world.proxies();
    for proxy in &proxies {
        proxy.delay(TIMING.retry / 5);
    }
    let a = world.candidate("a").timing(TIMING).via(&proxies).start();
    a.leads_within(2 * Timing::START);
    crate::undisturbed(&a, TIMING.lease());
    world.verdict();
}

/// Handover and revocation share one limit, of five seconds at most.
#[test]
fn a_leader_that_is_cut_off_exits_soon_after_its_command() {
    let world = shared_world();
    let proxies = world.proxies();
    let a = world.candidate("a").via(&proxies).start();
    a.leads();
    proxies.iter().for_each(Proxy::black_hole);
    a.terminate();
    // The command ends at once; one second is for the processes.
    a.wait_exit(Timing::LONG.renew.min(Duration::from_secs(5)) + Duration::from_secs(1));
    proxies.iter().for_each(Proxy::heal);
    world.verdict();
}

/// Each response takes two seconds, and a renewal needs two responses: a confirmed renewal is four seconds old.
#[test]
fn responses_that_take_seconds_do_not_disturb_the_leader() {
    let world = shared_world();
    let proxies = world.proxies();
    let a = world.candidate("a").via(&proxies).start();
    a.leads();
    slowed(&proxies, Duration::from_secs(2));
    crate::undisturbed(&a, 2 * Timing::LONG.renew);
    let said = |line: &str| a.stderr().matches(line).count();
    let (begins, ends) = ("renewals are slow", "renewals are confirmed in time again");
    assert_eq!((said(begins), said(ends)), (1, 0), "{}", a.stderr());
    // Connecting takes a round trip and TLS another one, and the earlier responses were already old.
    slowed(&proxies, Duration::from_millis(1200));
    crate::undisturbed(&a, 2 * Timing::LONG.retry);
    proxies.iter().for_each(Proxy::reset);
    crate::undisturbed(&a, Timing::LONG.lease());
    proxies.iter().for_each(Proxy::heal);
    harness::eventually(2 * Timing::LONG.retry + Timing::SWIFT, "the log reports the end of the fault", || {
        if said(ends) == said(begins) { Ok(()) } else { Err(a.stderr()) }
    });
    world.verdict();
}

#[test]
fn an_instance_is_elected_although_responses_take_seconds() {
    let world = shared_world();
    let proxies = world.proxies();
    slowed(&proxies, Duration::from_secs(2));
    let a = world.candidate("a").via(&proxies).start();
    a.leads_within(3 * Timing::START);
    crate::undisturbed(&a, Timing::LONG.lease());
    proxies.iter().for_each(Proxy::heal);
    world.verdict();
}

/// The first endpoint is slow, and the others do not wait for it.
#[test]
fn a_slow_member_that_is_listed_first_does_not_delay_a_start() {
    let world = shared_world();
    let proxies = world.proxies();
    slowed(&proxies[..1], Duration::from_secs(2));
    let begun = now();
    let a = world.candidate("a").via(&proxies).start();
    a.leads();
    let (took, limit) = (between(begun, now()), scaled(Duration::from_secs(2)));
    assert!(took < limit, "leads after {took:?}, not within {limit:?}");
    world.verdict();
}

/// The time from a request to its response.
fn slowed(proxies: &[Proxy], round_trip: Duration) {
    proxies.iter().for_each(|proxy| proxy.delay(round_trip / 2));
}

/// The lease expires while the standby is isolated: it must join again, not start on stale data.
#[test]
fn a_standby_in_a_black_hole_does_not_start_on_stale_data() {
    let world = shared_world();
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let proxies = world.proxies();
    let b = world.candidate("b").timing(TIMING).via(&proxies).start();
    b.waits();
    proxies.iter().for_each(Proxy::black_hole);
    harness::eventually(TIMING.latest_failover(), "b's entry is gone", || {
        let keys = world.keys()?;
        if keys.iter().all(|key| key.value != "b") { Ok(()) } else { Err(format!("{keys:?}")) }
    });
    let c = world.candidate("c").timing(TIMING).start();
    c.waits();
    a.terminate();
    c.leads_within(Timing::SWIFT);
    proxies.iter().for_each(Proxy::heal);
    b.waits();
    c.terminate();
    b.leads_within(Timing::START);
    world.verdict();
}

#[test]
fn with_on_loss_campaign_an_isolated_leader_rejoins_as_standby() {
    let world = shared_world();
    let proxies = world.proxies();
    let a = world.candidate("a").timing(TIMING).set("ON_LOSS", "campaign").via(&proxies).start();
    let first = a.leads();
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
    proxies.iter().for_each(Proxy::black_hole);
    b.leads_within(TIMING.latest_failover());
    proxies.iter().for_each(Proxy::heal);
    a.waits();
    b.terminate();
    assert!(a.leads() > first);
    world.verdict();
}

/// The response to the grant is delayed, but the instance chose the lease id itself and can revoke it.
#[test]
fn a_shutdown_request_during_the_grant_leaves_no_lease() {
    let world = crate::world_on(harness::Cluster::builder().size(1).plain().create());
    let proxies = world.proxies();
    slowed(&proxies, Duration::from_millis(400));
    let a = world.candidate("a").via(&proxies).start();
    let leases = || world.cluster().etcdctl().leases();
    harness::eventually(Timing::START, "the lease is granted", || match leases()?.len() {
        1 => Ok(()),
        count => Err(format!("{count} leases: {}", a.stderr())),
    });
    a.terminate();
    a.wait_exit(Timing::SWIFT);
    harness::eventually(Timing::SWIFT, "the lease is revoked", || match leases()?.len() {
        0 => Ok(()),
        count => Err(format!("{count} leases: {}", a.stderr())),
    });
    assert!(a.lives().is_empty());
    world.verdict();
}
