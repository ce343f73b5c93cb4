//! An endpoint of another etcd cluster: a member that was rebuilt alone on its old address, or a wrong address. Two
//! clusters are two locks.

use std::{sync::Arc, time::Duration};

use harness::{
    Balancer, Behavior, Candidate, Cluster, End, Member, Proxy, Setup, Timing, World, eventually, throughout,
};

use crate::{undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;
/// The interval at which unused endpoints are asked for their cluster id.
const ASKED_AGAIN: Duration = Duration::from_secs(70);
/// The interval is five seconds while the cluster ids conflict; a request is given up after the renew deadline.
const ASKED_AGAIN_IN_CONFLICT: Duration = Duration::from_secs(15);

/// A cluster of one member beside the real one.
fn stray(world: &World) -> Arc<Cluster> {
    Cluster::builder().size(1).plain().create_beside(world.cluster())
}

/// Returns the endpoints of both, the stray ones first.
fn stray_first(stray: &Cluster, world: &World) -> String {
    let mut endpoints = stray.endpoints();
    endpoints.extend(world.cluster().endpoints());
    endpoints.join(",")
}

/// Checks that nothing was ever written there.
#[track_caller]
fn is_untouched(stray: &Cluster) {
    assert_eq!(stray.etcdctl().keys("tests/"), Ok(Vec::new()));
    assert_eq!(stray.etcdctl().leases(), Ok(Vec::new()));
    assert_eq!(stray.etcdctl().revision(), Ok(1), "something was written to it");
}

/// Checks that the log has an error with the endpoint and the conflict.
#[track_caller]
fn reports_conflict(candidate: &Candidate, stray: &Cluster) {
    let endpoint = &stray.endpoints()[0];
    eventually(Timing::START, "the conflict is an error in the log", || {
        let log = candidate.stderr();
        let named = |line: &str| {
            line.contains("ERROR") && line.contains(&**endpoint) && line.contains("different etcd clusters")
        };
        if log.lines().any(named) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_stray_cluster_that_answers_first_is_never_joined() {
    let world = world_on(Cluster::builder().plain().create());
    let stray = stray(&world);
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING),
        world.candidate("b").timing(TIMING).set("ENDPOINTS", stray_first(&stray, &world)),
    );
    reports_conflict(&b, &stray);
    undisturbed(&a, 2 * TIMING.retry);
    let lines = b.stderr().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(lines, 1, "one error per change: {}", b.stderr());
    a.terminate();
    b.leads_within(Timing::SWIFT);
    is_untouched(&stray);
    world.verdict();
}

/// While the members of the real cluster hang or are down, only the stray one answers.
#[test]
fn a_stray_cluster_that_is_the_only_one_to_answer_is_never_joined() {
    let world = world_on(Cluster::builder().plain().create());
    let stray = stray(&world);
    let endpoints = |n: usize| {
        // Once as the first endpoint, once as the last.
        let mut endpoints = world.cluster().endpoints()[..2].to_vec();
        endpoints.insert(2 * n, stray.endpoints()[0].clone());
        endpoints.join(",")
    };
    let members = world.cluster().members();
    let faults = [Member::pause, Member::kill];
    let remedies = [Member::resume, Member::start];
    for (n, (fault, remedy)) in faults.into_iter().zip(remedies).enumerate() {
        members.iter().for_each(fault);
        let b = world.candidate("b").set("ENDPOINTS", endpoints(n)).start();
        // Before the requests to the hung members time out.
        eventually(b.timing().renew - Duration::from_secs(1), "it says what is missing", || {
            let log = b.stderr();
            let says =
                log.lines().any(|line| line.contains("which etcd cluster") && line.contains(&stray.endpoints()[0]));
            if says { Ok(()) } else { Err(log) }
        });
        throughout(
            2 * TIMING.retry,
            "nothing is started",
            || if b.lives().is_empty() { Ok(()) } else { Err(b.stderr()) },
        );
        members.iter().for_each(remedy);
        world.cluster().wait_healthy();
        b.leads();
        reports_conflict(&b, &stray);
        b.terminate();
        assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(0));
    }
    is_untouched(&stray);
    world.verdict();
}

/// With authentication only root may read the status of a member.
#[test]
fn a_stray_cluster_beside_a_cluster_with_authentication_is_never_joined() {
    let world = world_on(Cluster::builder().plain().auth("app", "secret").create());
    let stray = stray(&world);
    let b = world.candidate("b").timing(TIMING).set("ENDPOINTS", stray_first(&stray, &world)).start();
    b.leads();
    assert_eq!(world.holder().value, "b");
    reports_conflict(&b, &stray);
    is_untouched(&stray);
    world.verdict();
}

fn show(world: &World) -> Setup {
    world.candidate("asking").unset("STATUS_ENDPOINT").flag("ctl").flag("show").command::<&str>([])
}

#[test]
fn show_reads_the_majority_cluster_or_the_configured_one() {
    let world = world_on(Cluster::builder().plain().create());
    let stray = stray(&world);
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    let (end, asking) = show(&world).set("ENDPOINTS", stray_first(&stray, &world)).run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    assert!(asking.stdout().contains("held by a"), "{}", asking.stdout());

    // One against one has no majority; only CLUSTER_ID decides.
    let both = [stray.endpoints()[0].clone(), world.cluster().endpoints()[0].clone()].join(",");
    let (end, asking) = show(&world).set("ENDPOINTS", &both).run();
    assert_eq!(end, End::Code(69), "{}", asking.stdout());
    assert!(asking.stderr().contains("which etcd cluster"), "{}", asking.stderr());
    assert_eq!(asking.stdout(), "");
    for (of, says) in [(world.cluster().as_ref(), "held by a"), (&*stray, "nobody holds it")] {
        let status = of.etcdctl().json(&["endpoint", "status"]).expect("etcd answers");
        let id = status[0]["Status"]["header"]["cluster_id"].as_u64().expect("an id");
        let (end, asking) = show(&world).set("ENDPOINTS", &both).set("CLUSTER_ID", format!("{id:x}")).run();
        assert_eq!(end, End::Code(0), "{}", asking.stderr());
        assert!(asking.stdout().contains(says), "{}", asking.stdout());
    }
    world.verdict();
}

/// The lease of a killed gatekeeper is revoked in its cluster, so that the standby need not wait for its expiry.
#[test]
fn the_guard_revokes_the_lease_in_the_right_cluster() {
    let world = world_on(Cluster::builder().plain().create());
    let stray = stray(&world);
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").set("ENDPOINTS", stray_first(&stray, &world)),
        world.candidate("b"),
    );
    a.kill();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// The cluster of a leader has become one of three endpoints: another instance may lead in the cluster of the others.
#[test]
fn a_leader_whose_cluster_loses_its_majority_stops_without_a_handover() {
    let world = world_on(Cluster::builder().plain().create());
    let other = stray(&world);
    let proxies = world.proxies();
    let start = |name: &str| world.candidate(name).timing(TIMING).via(&proxies).set("ON_LOSS", "campaign").start();
    let a = start("a");
    a.leads();
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
    // One stray endpoint is no reason to stop.
    proxies[0].forward_to(other.member(0));
    reports_conflict_of(&a, &proxies[0]);
    undisturbed(&a, TIMING.retry);
    proxies[1].forward_to(other.member(0));
    a.logs_within(ASKED_AGAIN_IN_CONFLICT, "stepping down: most endpoints belong to another etcd cluster");
    // It is the only instance in the other cluster.
    eventually(Timing::START, "it leads in the other cluster", || {
        let keys = other.etcdctl().keys("tests/")?;
        if keys.iter().any(|key| key.name == world.lock() && key.value == "a") {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    });
    assert!(!a.stderr().contains("handed over"), "{}", a.stderr());
    // Its lease was not revoked, so that b waits for its expiry.
    assert!(b.lives().is_empty(), "{}", b.stderr());
    // Ended before b leads, as two clusters are two locks.
    a.terminate();
    a.wait_exit(Timing::SWIFT);
    b.leads_within(TIMING.latest_failover());
    world.verdict();
}

/// The only member was rebuilt: neither the leader nor a standby waits for the old cluster for ever.
#[test]
fn a_rebuilt_cluster_is_joined_by_all_instances() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let anew = stray(&world);
    // So that tokens grow, as after a restore with a bumped revision.
    for n in 0..20 {
        anew.etcdctl().must(&["put", "other", &n.to_string()]);
    }
    let proxy = Proxy::of(world.cluster().member(0));
    let start = |name: &str| world.candidate(name).timing(TIMING).via([&proxy]).set("ON_LOSS", "campaign").start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    proxy.forward_to(anew.member(0));
    eventually(TIMING.latest_failover() + Timing::START, "both take part in the new one", || {
        let keys = anew.etcdctl().keys("tests/")?;
        let holder = keys.iter().filter(|key| key.name == world.lock()).count();
        if holder == 1 && keys.len() == 3 { Ok(()) } else { Err(format!("{keys:?}: {} {}", a.stderr(), b.stderr())) }
    });
    world.verdict();
}

/// All endpoints lead to another cluster at once, and the command of the old leader ignores SIGTERM.
#[test]
fn a_standby_does_not_start_in_another_cluster_while_the_old_leader_may_run() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let anew = stray(&world);
    for n in 0..20 {
        anew.etcdctl().must(&["put", "other", &n.to_string()]);
    }
    let proxy = Proxy::of(world.cluster().member(0));
    let start = |name: &str| world.candidate(name).timing(TIMING).via([&proxy]).behavior(Behavior::stubborn()).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    proxy.forward_to(anew.member(0));
    b.leads_within(TIMING.lease() + Timing::START);
    world.verdict();
}

/// One of several servers behind the only endpoint is a stray one: a single response of it must not decide.
#[test]
fn a_stray_server_behind_a_balancer_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().plain().create());
    let stray = stray(&world);
    let balancer = Balancer::of(world.cluster());
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING).set("ENDPOINTS", balancer.endpoint()),
        world.candidate("b").timing(TIMING),
    );
    balancer.member(0).forward_to(stray.member(0));
    for _ in 0..3 {
        // Every connection is closed, so that the leader sometimes connects to the stray server.
        balancer.front().reset();
        undisturbed(&a, 2 * TIMING.retry);
    }
    a.terminate();
    b.leads_within(Timing::SWIFT);
    is_untouched(&stray);
    world.verdict();
}

#[track_caller]
fn reports_conflict_of(candidate: &Candidate, proxy: &Proxy) {
    eventually(ASKED_AGAIN, "the conflict is an error in the log", || {
        let log = candidate.stderr();
        let named = |line: &str| line.contains("ERROR") && line.contains(&proxy.endpoint());
        if log.lines().any(named) { Ok(()) } else { Err(log) }
    });
}
