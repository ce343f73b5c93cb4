//! Tests of the harness itself: a fault without effect would let the other tests pass.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use harness::{Behavior, Cluster, Proxy, Timing, eventually, process};

use crate::shared_world;

const SOON: Duration = Duration::from_millis(500);

#[test]
fn a_killed_or_paused_member_does_not_answer_and_the_others_elect_a_leader() {
    let cluster = Cluster::builder().create();
    let old = cluster.leader().expect("a leader");
    cluster.member(old).pause();
    assert!(cluster.etcdctl_of(old).within(SOON).revision().is_err());
    let other = eventually(Timing::ETCD_ELECTION, "another leader", || match cluster.leader() {
        Ok(leader) if leader != old => Ok(leader),
        seen => Err(format!("{seen:?}")),
    });
    cluster.member(old).resume();
    cluster.wait_healthy();

    let etcdctl = cluster.etcdctl();
    etcdctl.must(&["put", "key", "value"]);
    cluster.member(other).kill();
    assert!(cluster.etcdctl_of(other).within(SOON).revision().is_err());
    cluster.member(other).restart();
    cluster.wait_healthy();
    let keys = cluster.etcdctl_of(other).keys("key").expect("it answers");
    assert_eq!((keys[0].name.as_str(), keys[0].value.as_str(), keys[0].lease), ("key", "value", 0));
}

#[test]
fn without_a_quorum_nothing_is_written() {
    let cluster = Cluster::builder().plain().create();
    cluster.member(0).stop();
    cluster.etcdctl().must(&["put", "key", "value"]);
    cluster.member(1).kill();
    let last = cluster.etcdctl_of(2).within(SOON);
    eventually(Timing::ETCD_ELECTION, "the last one refuses", || match last.run(&["put", "key", "other"]) {
        Ok(_) => Err("it was written".into()),
        Err(_) => Ok(()),
    });
}

#[test]
fn leases_are_listed_and_revoked_and_short_ttls_are_granted() {
    let cluster = Cluster::builder().size(1).plain().create();
    let etcdctl = cluster.etcdctl();
    assert_eq!(etcdctl.leases(), Ok(Vec::new()));
    let granted = etcdctl.must(&["lease", "grant", "2"]);
    assert!(granted.contains("TTL(2s)"), "{granted}");
    let lease = etcdctl.leases().expect("etcd answers")[0];
    etcdctl.must(&["put", "key", "value", &format!("--lease={lease:x}")]);
    assert_eq!(etcdctl.keys("key").expect("etcd answers")[0].lease, lease);
    etcdctl.revoke(lease);
    assert_eq!(etcdctl.keys("key"), Ok(Vec::new()));
}

#[test]
fn tls_admits_only_clients_with_a_valid_certificate_of_the_right_ca() {
    let cluster = Cluster::shared();
    let certificates = cluster.certificates();
    let path = |path: &std::path::Path| path.to_str().expect("a plain path").to_owned();
    for (pair, welcome) in
        [(&certificates.client, true), (&certificates.expired, false), (&certificates.foreign, false)]
    {
        let options = [format!("--cert={}", path(&pair.cert)), format!("--key={}", path(&pair.key))];
        let etcdctl = cluster.etcdctl().with(&[&options[0], &options[1]]).within(SOON * 4);
        assert_eq!(etcdctl.revision().is_ok(), welcome, "{}", pair.cert.display());
    }
    let foreign = format!("--cacert={}", path(&certificates.foreign_ca));
    assert!(cluster.etcdctl().with(&[&foreign]).within(SOON).revision().is_err());
}

#[test]
fn authentication_admits_only_the_user_and_only_below_the_prefix() {
    let cluster = Cluster::builder().size(1).plain().auth("app", "secret").create();
    let etcdctl = cluster.etcdctl();
    etcdctl.must(&["put", "tests/key", "value"]);
    assert!(etcdctl.run(&["put", "elsewhere", "value"]).is_err());
    assert!(etcdctl.with(&["--user=app:wrong"]).run(&["get", "tests/key"]).is_err());
}

#[test]
fn each_proxy_fault_separates_a_client_from_etcd_until_healed() {
    let world = shared_world();
    let proxy = Proxy::of(world.cluster().member(0));
    let etcdctl = world.cluster().etcdctl_at(&proxy.endpoint());
    etcdctl.revision().expect("etcd answers through the proxy");
    for fault in
        [Proxy::cut, Proxy::refuse, Proxy::black_hole, |proxy: &Proxy| proxy.hold(harness::Direction::ToMember)]
    {
        fault(&proxy);
        assert!(etcdctl.within(SOON).revision().is_err());
        proxy.heal();
        etcdctl.revision().expect("etcd answers again");
    }
    world.verdict();
}

/// The harness finds and ends every descendant, even if a gatekeeper loses track of them.
#[test]
fn no_process_outlives_a_test() {
    let world = shared_world();
    let behavior = Behavior { stubborn: true, children: 1, daemon: true, ..Behavior::default() };
    let program = world.directory().join("stand-in");
    std::fs::write(&program, "#!/bin/sh\nshift\nETCD_AWAIT_ELECTION_FENCING_TOKEN=1 exec \"$@\"\n")
        .expect("writing it");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("making it executable");
    let a = world.candidate("a").program(program).behavior(behavior).start();
    eventually(Timing::START, "command, child and daemon live", || match a.living().len() {
        3 => Ok(()),
        living => Err(format!("{living}: {}", a.stderr())),
    });
    let lives = a.lives();
    drop(a);
    let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(world)));
    assert!(verdict.is_err(), "the verdict was forgotten");
    eventually(Timing::SWIFT, "all are gone", || {
        let left: Vec<_> = lives.iter().filter(|life| process::lives(life.pid, life.started)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
