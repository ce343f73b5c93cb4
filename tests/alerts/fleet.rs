//! A real fleet in a real Prometheus: alerts fire when something happens, and clear when it is over.

use std::{fs, sync::Arc, time::Duration};

use harness::{Candidate, Cluster, Proxy, Timing, World, eventually};

use crate::prometheus::Prometheus;

/// Also on a loaded machine, a leader rarely loses leadership.
const TIMING: Timing = Timing::MEDIUM;

const NOBODY_LEADS: &str = "EtcdAwaitElectionNobodyLeads";
const NOT_READY: &str = "EtcdAwaitElectionStandbyNotReady";
const FLAPS: &str = "EtcdAwaitElectionLeadershipFlaps";
const LATE: &str = "EtcdAwaitElectionRenewalsLate";
const TWO_LEAD: &str = "EtcdAwaitElectionMoreThanOneLeads";
const NOT_SEEN: &str = "EtcdAwaitElectionLeaderNotSeen";
const ENDS_SOON: &str = "EtcdAwaitElectionCertificateEndsSoon";
const PAUSED: &str = "EtcdAwaitElectionPausedForLong";
const UNREADABLE: &str = "EtcdAwaitElectionCertificateUnreadable";

fn world() -> World {
    let cluster = Cluster::builder().size(1).create();
    World::new(cluster, env!("CARGO_BIN_EXE_etcd-await-election").as_ref())
}

/// Returns the instance whose command runs.
#[track_caller]
fn leader(fleet: &[Arc<Candidate>]) -> &Candidate {
    eventually(Timing::START + TIMING.latest_failover_with_election(), "an instance leads", || {
        let leader = fleet.iter().find(|candidate| candidate.end().is_none() && !candidate.living().is_empty());
        leader.map(AsRef::as_ref).ok_or_else(|| "none".to_owned())
    })
}

#[test]
fn a_dead_leader_without_etcd_and_flapping_leadership() {
    let world = world();
    let setup = |number: i32| world.candidate(&number.to_string()).timing(TIMING).set("ON_LOSS", "campaign");
    let fleet: Vec<_> = (0..4).map(|number| setup(number).start()).collect();
    let everyone: Vec<&Candidate> = fleet.iter().map(AsRef::as_ref).collect();
    let prometheus = Prometheus::start(world.directory());
    prometheus.scrape(&everyone);
    prometheus.is_quiet(fleet.len());
    let first = leader(&fleet);
    prometheus.sees(&format!(
        "count(etcd_await_election_leader_info{{leader=\"{}\"}}) == {}",
        first.name(),
        fleet.len()
    ));

    // The guard cannot revoke the lease, and no standby can take over.
    world.cluster().member(0).pause();
    first.kill();
    prometheus.fires(NOBODY_LEADS);
    prometheus.fires(NOT_READY);
    world.cluster().member(0).resume();
    prometheus.clears(NOBODY_LEADS);
    prometheus.clears(NOT_READY);

    // The leader is not scraped.
    let mut unseen = "";
    prometheus.fires_while(NOT_SEEN, || {
        let leader = leader(&fleet).name();
        if unseen != leader {
            unseen = leader;
            let others: Vec<_> = everyone.iter().copied().filter(|candidate| candidate.name() != leader).collect();
            prometheus.scrape(&others);
        }
    });
    prometheus.scrape(&everyone);
    prometheus.clears(NOT_SEEN);

    prometheus.fires_while(FLAPS, || {
        // A token that no rule has recorded is no change.
        let token = leader(&fleet).living().first().map_or(0, |life| life.token);
        if prometheus.has(&format!("job_lock:etcd_await_election_fencing_token:max == {token}")) == Ok(true) {
            let operator = world.candidate("operator").unset("STATUS_ENDPOINT").command::<&str>([]);
            // If leadership is lost at this moment, that is a change, too.
            let _ = operator.flag("ctl").flag("resign").run();
        }
    });
    // One series of each instance, however often the leader changed.
    prometheus.sees(&format!("count(etcd_await_election_leader_info) == {}", fleet.len() - 1));
    prometheus.clears(FLAPS);
    world.verdict();
}

/// Instances of two etcd clusters, which are two locks of one name.
#[test]
fn two_leaders() {
    let (world, other) = (world(), world());
    let a = world.candidate("a").start();
    a.leads();
    let b = other.candidate("b").set("LOCK_NAME", world.lock()).start();
    b.leads();
    let prometheus = Prometheus::start(world.directory());
    prometheus.scrape(&[&a]);
    prometheus.is_quiet(1);
    prometheus.scrape(&[&a, &b]);
    prometheus.fires(TWO_LEAD);
    b.terminate();
    prometheus.clears(TWO_LEAD);
    world.verdict();
    other.verdict();
}

/// That nobody leads is the purpose of a pause.
#[test]
fn a_pause() {
    let world = world();
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").start();
    b.waits();
    let proxies = world.proxies();
    let c = world.candidate("c").timing(TIMING).via(&proxies).start();
    c.waits();
    let prometheus = Prometheus::start(world.directory());
    prometheus.scrape(&[&a, &b, &c]);
    prometheus.is_quiet(3);
    let key = format!("{}/~pause", world.lock());
    world.cluster().etcdctl().put(key.as_bytes(), b"{\"until\":4102444800}", None);
    prometheus.fires(PAUSED);
    // What c reads last is that the lock is paused.
    c.logs("paused until");
    proxies.iter().for_each(Proxy::black_hole);
    prometheus.fires(NOT_READY);
    a.terminate();
    prometheus.sees("count_over_time((job_lock:etcd_await_election_leaders:sum == 0)[10s:500ms]) > 6");
    let mut firing = prometheus.firing().expect("Prometheus answers");
    firing.sort();
    assert_eq!(firing, [PAUSED, NOT_READY]);
    world.cluster().etcdctl().must(&["del", &key]);
    b.leads();
    prometheus.clears(PAUSED);
    world.verdict();
}

#[test]
fn late_renewals() {
    let world = world();
    let proxies = world.proxies();
    let a = world.candidate("a").timing(TIMING).via(&proxies).start();
    a.leads();
    let prometheus = Prometheus::start(world.directory());
    prometheus.scrape(&[&a]);
    prometheus.is_quiet(1);
    proxies.iter().for_each(|proxy| proxy.delay(TIMING.retry));
    prometheus.fires(LATE);
    proxies.iter().for_each(Proxy::heal);
    prometheus.clears(LATE);
    world.verdict();
}

#[test]
fn certificates() {
    let world = world();
    let short = world.cluster().certificates().short_lived("alerts", Duration::from_secs(3600));
    let long = world.cluster().certificates().client.clone();
    let a = world.candidate("a").set("CERT", &short.cert).set("KEY", &short.key).start();
    a.leads();
    let prometheus = Prometheus::start(world.directory());
    prometheus.scrape(&[&a]);
    prometheus.fires(ENDS_SOON);
    fs::write(&short.cert, "-----BEGIN CERTIFICATE-----\nrotated by").expect("written");
    prometheus.fires(UNREADABLE);
    prometheus.clears(ENDS_SOON);
    for (from, to) in [(&long.cert, &short.cert), (&long.key, &short.key)] {
        fs::copy(from, to).expect("copied");
    }
    prometheus.clears(UNREADABLE);
    prometheus.is_quiet(1);
    world.verdict();
}
