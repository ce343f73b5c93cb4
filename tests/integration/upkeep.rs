//! Maintenance and faults of etcd under a leader and a standby.

use std::{sync::Arc, time::Duration};

use harness::{Candidate, Cluster, Direction, End, Proxy, Timing, World, address::Address, eventually, throughout};

use crate::{undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;

fn leader_and_standby(world: &World, endpoints: &str) -> (Arc<Candidate>, Arc<Candidate>) {
    let start = |name: &str| world.candidate(name).timing(TIMING).set("ENDPOINTS", endpoints).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    (a, b)
}

/// Returns the number of log lines with this text.
fn lines(candidate: &Candidate, text: &str) -> usize {
    candidate.stderr().lines().filter(|line| line.contains(text)).count()
}

/// An endpoint without a listener, with an unknown name, or of another service: wherever it is in the list, it does no
/// harm and does not fill the log.
#[test]
fn a_permanently_wrong_endpoint_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let good = world.cluster().endpoints();
    let nobody = Address::claim();
    let other_ca = Cluster::builder().size(1).create_beside(world.cluster());
    for wrong in [
        format!("https://{}:1", nobody.ip()),
        "https://no-such-name.invalid:2379".into(),
        other_ca.endpoints()[0].clone(),
    ] {
        for place in 0..2 {
            let mut endpoints = good[..2].to_vec();
            endpoints.insert(place, wrong.clone());
            let (a, b) = leader_and_standby(&world, &endpoints.join(","));
            undisturbed(&a, 4 * TIMING.retry);
            a.terminate();
            b.leads_within(Timing::SWIFT);
            b.terminate();
            for candidate in [&a, &b] {
                assert_eq!(candidate.wait_exit(Timing::SWIFT), End::Code(0));
                assert!(lines(candidate, "WARN") <= 2 + good.len(), "{}", candidate.stderr());
            }
        }
    }
    world.verdict();
}

/// Two clusters are two locks: responses of the other one must not count, and it must be reported.
#[test]
fn an_endpoint_of_another_cluster_is_reported_and_not_used() {
    let world = world_on(Cluster::builder().plain().create());
    let other = Cluster::builder().size(1).plain().create_beside(world.cluster());
    let foreign = &other.endpoints()[0];
    let mut endpoints = world.cluster().endpoints();
    endpoints.push(foreign.clone());
    let (a, b) = leader_and_standby(&world, &endpoints.join(","));
    for candidate in [&a, &b] {
        eventually(Timing::START, "the log names it", || match candidate.stderr() {
            log if log.lines().any(|line| line.contains(foreign.as_str()) && line.contains("belongs to cluster")) => {
                Ok(())
            }
            log => Err(log),
        });
    }
    // The others are slow enough to be hedged, and then stopped: the other cluster does not know the lease.
    let proxies = world.proxies();
    let mut slow: Vec<_> = proxies.iter().map(Proxy::endpoint).collect();
    slow.push(foreign.clone());
    let c = world.candidate("c").timing(TIMING).set("ENDPOINTS", slow.join(",")).start();
    c.waits();
    let lease =
        |name: &str| world.keys().expect("etcd answers").into_iter().find(|key| key.value == name).map(|key| key.lease);
    let before = lease("c");
    proxies.iter().for_each(|proxy| proxy.delay(Duration::from_millis(800)));
    throughout(TIMING.lease(), "c keeps its place", || match lease("c") {
        now if now == before => Ok(()),
        now => Err(format!("{before:x?} became {now:x?}: {}", c.stderr())),
    });
    c.terminate();
    // Each response takes over a second and a half; the last requests may take as long as a renewal.
    assert_eq!(c.wait_exit(TIMING.renew + Timing::SWIFT), End::Code(143));
    assert_eq!(lease("c"), None, "it was given back to the wrong cluster: {}", c.stderr());
    undisturbed(&a, TIMING.retry);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(other.etcdctl().keys("tests/"), Ok(Vec::new()));
    assert_eq!(other.etcdctl().leases(), Ok(Vec::new()));
    world.verdict();
}

#[test]
fn restarting_all_members_at_once_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let (a, b) = leader_and_standby(&world, &world.cluster().endpoints().join(","));
    for member in world.cluster().members() {
        member.kill();
    }
    world.cluster().start();
    world.cluster().wait_healthy();
    undisturbed(&a, TIMING.lease());
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Defragmentation blocks a member.
#[test]
fn defragmentation_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().plain().create());
    let etcdctl = world.cluster().etcdctl();
    for number in 0..20 {
        etcdctl.put(format!("filler/{number}").as_bytes(), &vec![b'x'; 1 << 20], None);
    }
    etcdctl.must(&["del", "filler/", "--prefix"]);
    let (a, b) = leader_and_standby(&world, &world.cluster().endpoints().join(","));
    for index in 0..world.cluster().members().len() {
        world.cluster().etcdctl_of(index).within(Duration::from_secs(30)).must(&["defrag"]);
        undisturbed(&a, TIMING.retry);
    }
    undisturbed(&a, TIMING.renew);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Watches break and are reopened at compacted revisions; events in between are not missed.
#[test]
fn compaction_under_lagging_watches_does_not_disturb_the_election() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcdctl = world.cluster().etcdctl();
    let proxies = world.proxies();
    // Each round makes several calls of etcdctl, which are slow on a busy machine.
    let timing = Timing::LONG;
    let start = |name: &str| world.candidate(name).timing(timing).via(&proxies).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    let c = start("c");
    c.waits();
    for round in 0..4 {
        proxies.iter().for_each(|proxy| proxy.hold(Direction::ToCandidate));
        etcdctl.must(&["put", "other", &round.to_string()]);
        // The events that its watch missed are compacted before it is reopened.
        if round == 2 {
            let key = world.keys().expect("etcd answers").into_iter().find(|key| key.value == "b");
            etcdctl.revoke(key.expect("b waits").lease);
        }
        etcdctl.must(&["compaction", &etcdctl.revision().expect("etcd answers").to_string(), "--physical"]);
        proxies.iter().for_each(Proxy::reset);
        proxies.iter().for_each(Proxy::heal);
        undisturbed(&a, timing.retry);
    }
    b.waits();
    undisturbed(&a, TIMING.lease());
    a.terminate();
    c.leads_within(Timing::SWIFT);
    c.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Without space etcd rejects writes. A leader needs none, and its lease can be revoked; a new leader logs the cause,
/// and continues when there is space again.
#[test]
fn without_space_a_leader_keeps_leadership_and_a_standby_waits_for_space() {
    let world = world_on(Cluster::builder().size(1).plain().option("quota-backend-bytes", "8388608").create());
    let etcdctl = world.cluster().etcdctl();
    let (a, b) = leader_and_standby(&world, &world.cluster().endpoints().join(","));
    let full = (0..30).any(|number| etcdctl.run(&["put", &format!("filler/{number}"), &"x".repeat(100_000)]).is_err())
        || (0..400).any(|number| etcdctl.run(&["put", &format!("more/{number}"), &"x".repeat(100_000)]).is_err());
    assert!(full, "the quota has no effect");
    assert!(etcdctl.must(&["alarm", "list"]).contains("NOSPACE"));
    undisturbed(&a, TIMING.lease());
    let c = world.candidate("c").timing(TIMING).start();
    let tells = |candidate: &Candidate| {
        eventually(Timing::START, "the log says that there is no space", || match candidate.stderr() {
            log if log.lines().any(|line| line.contains("WARN") && line.contains("space")) => Ok(()),
            log => Err(log),
        });
    };
    tells(&c);
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    eventually(Timing::SWIFT, "its lease was revoked", || {
        let keys = world.keys()?;
        if keys.iter().all(|key| key.value != "a") { Ok(()) } else { Err(format!("{keys:?}")) }
    });
    tells(&b);
    throughout(TIMING.lease(), "b keeps its place and starts nothing", || {
        let keys = world.keys()?;
        let waits = keys.iter().filter(|key| key.value == "b").count() == 1 && b.lives().is_empty();
        if waits { Ok(()) } else { Err(format!("{keys:?}; {}", b.stderr())) }
    });
    for candidate in [&b, &c] {
        assert!(lines(candidate, "space") <= 4, "one line per change, not per try: {}", candidate.stderr());
    }
    for prefix in ["filler/", "more/"] {
        etcdctl.must(&["del", prefix, "--prefix"]);
    }
    etcdctl.must(&["compaction", &etcdctl.revision().expect("etcd answers").to_string(), "--physical"]);
    etcdctl.within(Duration::from_secs(30)).must(&["defrag"]);
    etcdctl.must(&["alarm", "disarm"]);
    b.leads_within(Timing::START);
    c.waits();
    b.terminate();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

/// A member answers later than any request timeout: an instance that prefers it switches to another member.
#[test]
fn a_slow_member_does_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().create());
    let proxies = world.proxies();
    let start = |name: &str| world.candidate(name).timing(TIMING).via(&proxies).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    for proxy in &proxies {
        proxy.delay(TIMING.renew / 2);
        undisturbed(&a, TIMING.renew);
        proxy.heal();
    }
    proxies[0].delay(TIMING.renew / 2);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}
