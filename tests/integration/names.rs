//! One name for all members, like a headless Kubernetes service, or one address for all members, like a load balancer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use harness::{
    Balancer, Candidate, Cluster, Direction, End, Names, Proxy, Timing, World,
    address::{Address, CLIENT_PORT},
    certificates::NAME,
    eventually, throughout,
};

use crate::{undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;

fn url(world: &World) -> String {
    let scheme = if world.cluster().tls() { "https" } else { "http" };
    format!("{scheme}://{NAME}:{CLIENT_PORT}")
}

fn start(world: &World, names: &Names, name: &str) -> Arc<Candidate> {
    world.candidate(name).timing(TIMING).set("ENDPOINTS", url(world)).names(names).start()
}

/// Whichever address comes first, a hung member behind it has no more effect than any hung member.
#[test]
fn a_member_that_hangs_behind_a_name_does_not_disturb_the_leader() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().create());
    names.set(NAME, &world.cluster().ips());
    let first = names.resolve(NAME).expect("it is in the file")[0];
    let place = world.cluster().ips().iter().position(|ip| *ip == first).expect("one of them");
    let member = world.cluster().member(place);

    let a = start(&world, &names, "a");
    a.leads();
    member.pause();
    undisturbed(&a, TIMING.lease());
    let b = start(&world, &names, "b");
    b.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    member.resume();
    undisturbed(&b, TIMING.retry);
    world.verdict();
}

/// As when all pods of etcd are replaced, one after the other: the current addresses of the name are used.
#[test]
fn changed_addresses_are_used_without_a_restart() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().plain().create());
    let places = [(); 3].map(|()| Address::claim());
    let members = world.cluster().members().iter().zip(&places);
    let proxies: Vec<Proxy> = members.map(|(member, place)| Proxy::elsewhere(member, place)).collect();
    let ips = places.each_ref().map(|place| IpAddr::from(place.ip()));
    names.set(NAME, &ips[..1]);
    let a = start(&world, &names, "a");
    a.leads();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        names.set(NAME, &ips[to..=to]);
        proxies[from].cut();
        undisturbed(&a, TIMING.renew);
        proxies[from].heal();
    }
    world.verdict();
}

/// While DNS fails or does not answer, the last addresses are used.
#[test]
fn a_resolver_that_fails_or_hangs_does_not_disturb_the_leader() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().plain().create());
    names.set(NAME, &world.cluster().ips());
    let a = start(&world, &names, "a");
    a.leads();
    names.forget(NAME);
    // One of them is the member that it is connected to.
    for (n, member) in world.cluster().members().iter().enumerate() {
        if n == 1 {
            names.dns_hangs();
        }
        member.kill();
        undisturbed(&a, TIMING.renew);
        member.start();
        world.cluster().wait_healthy();
    }
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    assert_eq!(world.keys(), Ok(Vec::new()));
    names.dns_fails();
    world.verdict();
}

#[test]
fn a_name_that_does_not_resolve_yet_is_logged_and_used_as_soon_as_it_resolves() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().size(1).plain().create());
    let a = start(&world, &names, "a");
    a.logs(&format!("could not resolve \"{NAME}\""));
    names.set(NAME, &world.cluster().ips());
    a.leads();
    assert!(a.stderr().lines().filter(|line| line.contains("WARN")).count() <= 2, "{}", a.stderr());
    world.verdict();
}

/// An address of another family without a listener, and a member that hangs.
#[test]
fn addresses_of_both_families_are_used() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().plain().create());
    let mut all = world.cluster().ips();
    all.insert(0, "::1".parse().expect("an address"));
    names.set(NAME, &all);
    let a = start(&world, &names, "a");
    a.leads();
    world.cluster().member(world.cluster().follower()).pause();
    undisturbed(&a, TIMING.lease());
    world.cluster().members().iter().for_each(harness::Member::resume);
    world.verdict();
}

/// Like `localhost` where etcd listens only on 127.0.0.1.
#[test]
fn an_address_family_without_a_listener_does_not_prevent_a_start() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().size(1).plain().create());
    let mut both = world.cluster().ips();
    both.insert(0, "::1".parse().expect("an address"));
    names.set(NAME, &both);
    let a = start(&world, &names, "a");
    a.leads();
    world.verdict();
}

/// The release process of the guard and `ctl show` resolve names as well.
#[test]
fn the_lease_of_a_killed_gatekeeper_is_revoked_through_a_name() {
    let Some(names) = Names::new() else { return };
    let world = world_on(Cluster::builder().plain().create());
    names.set(NAME, &world.cluster().ips());
    let a = world.candidate("a").set("ENDPOINTS", url(&world)).names(&names).start();
    a.leads();
    let show = world.candidate("asking").set("ENDPOINTS", url(&world)).names(&names).unset("STATUS_ENDPOINT");
    let (end, asking) = show.flag("ctl").flag("show").command::<&str>([]).run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    assert!(asking.stdout().contains("held by a"), "{}", asking.stdout());
    let b = world.candidate("b").start();
    b.waits();
    a.kill();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Returns how long ago the latest confirmed renewal was sent, from the status of the instance.
fn renewal_age(candidate: &Candidate) -> Result<Duration, String> {
    let answer = candidate.http("GET", "/metrics").map_err(|error| error.to_string())?;
    let age = answer.body.lines().find_map(|line| line.strip_prefix("etcd_await_election_last_renewal_age_seconds "));
    age.and_then(|age| age.parse().ok()).map(Duration::from_secs_f64).ok_or(answer.body)
}

/// Five leaders, each behind its own balancer, in ten rounds: whichever member hangs, a renewal succeeds through
/// another one within half of the renew deadline.
#[test]
fn a_member_that_hangs_behind_a_balancer_delays_no_renewal() {
    const ROUNDS: usize = 10;
    let cluster = Cluster::builder().plain().create();
    let worlds = [(); 5].map(|()| world_on(Arc::clone(&cluster)));
    let balancers = [(); 5].map(|()| Balancer::of(&cluster));
    let start = |(world, balancer): (&World, &Balancer)| {
        world.candidate("a").timing(TIMING).set("ENDPOINTS", balancer.endpoint()).start()
    };
    let leaders: Vec<_> = worlds.iter().zip(&balancers).map(start).collect();
    for leader in &leaders {
        leader.leads();
    }
    let mut oldest = Duration::ZERO;
    for round in 0..ROUNDS {
        // Renewals from before the round do not count.
        eventually(Timing::START, "all renew in time", || {
            let ages = leaders.iter().map(|leader| renewal_age(leader)).collect::<Result<Vec<_>, _>>()?;
            if ages.iter().all(|age| *age <= TIMING.retry) { Ok(()) } else { Err(format!("{ages:?}")) }
        });
        balancers.iter().for_each(|balancer| balancer.member(round % 3).black_hole());
        throughout(TIMING.retry + TIMING.renew / 2, "renewals get through", || {
            for leader in &leaders {
                let age = renewal_age(leader)?;
                oldest = oldest.max(age);
                if age > TIMING.renew / 2 {
                    return Err(format!("{age:?} in round {round}: {}", leader.stderr()));
                }
            }
            Ok(())
        });
        balancers.iter().for_each(Balancer::heal);
    }
    eprintln!("the oldest renewal in {} rounds: {oldest:?}", ROUNDS * leaders.len());
    worlds.iter().for_each(World::verdict);
}

/// At the start, with a member that accepts requests but does not answer.
#[test]
fn an_instance_starts_behind_a_balancer_with_a_hung_member() {
    let world = world_on(Cluster::builder().create());
    let balancer = Balancer::of(world.cluster());
    balancer.member(1).hold(Direction::ToMember);
    for name in ["a", "b", "c", "d"] {
        let candidate = world.candidate(name).set("ENDPOINTS", balancer.endpoint()).start();
        candidate.leads_within(Timing::SWIFT);
        candidate.terminate();
        assert_eq!(candidate.wait_exit(Timing::SWIFT), End::Code(0), "{}", candidate.stderr());
    }
    world.verdict();
}
