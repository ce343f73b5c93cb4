//! `FORCE_ACQUIRE` requests a handover; it never takes leadership from a live leader.

use std::time::Duration;

use harness::{End, Proxy, Timing, eventually};

use crate::shared_world;

const TIMING: Timing = Timing::SHORT;

#[test]
fn force_makes_a_live_leader_hand_over() {
    let world = shared_world();
    let a = world.candidate("a").start();
    let first = a.leads();
    let b = world.candidate("b").force().start();
    assert!(b.leads() > first);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn force_keeps_the_order_of_the_other_standbys() {
    let world = shared_world();
    let (_a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").start();
    c.waits();
    let d = world.candidate("d").force().start();
    d.leads();
    d.terminate();
    b.leads_within(Timing::SWIFT);
    b.terminate();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn force_on_a_free_lock_makes_no_request() {
    let world = shared_world();
    let a = world.candidate("a").force().start();
    a.leads();
    let keys = world.keys().expect("etcd answers");
    assert!(keys.iter().all(|key| !key.name.contains("~force")), "{keys:?}");
    world.verdict();
}

/// The request is deleted once it has been served, so the next forced start is served as well.
#[test]
fn force_makes_one_request_and_does_not_take_leadership_back() {
    let world = shared_world();
    let a = world.candidate("a").force().set("ON_LOSS", "campaign").start();
    a.leads();
    let b = world.candidate("b").force().start();
    b.leads();
    a.waits();
    crate::undisturbed(&b, 2 * Timing::LONG.retry);
    world.verdict();
}

/// An instance that hands over to the other one before its command was started has been served, and makes no second
/// request.
#[test]
fn two_simultaneous_force_requests_are_both_served() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let both = [world.candidate("b").force().start(), world.candidate("c").force().start()];
    assert_eq!(a.wait_exit(Timing::START), End::Code(79));
    let leader = eventually(2 * Timing::START, "both were served and no request remains", || {
        let keys = world.keys()?;
        let running: Vec<_> = both.iter().filter(|candidate| !candidate.living().is_empty()).collect();
        let both_served = both.iter().all(|each| {
            !each.lives().is_empty()
                || each.stderr().contains("made a handover request: handing over before the command is started")
        });
        match running.as_slice() {
            [one] if both_served && keys.iter().all(|key| !key.name.contains("~force")) => Ok(*one),
            _ => Err(format!("{} run; {keys:?}", running.len())),
        }
    });
    crate::undisturbed(leader, Timing::LONG.retry);
    world.verdict();
}

#[test]
fn force_waits_for_a_leader_that_is_cut_off() {
    for fault in [Proxy::black_hole, Proxy::cut] {
        let world = shared_world();
        let proxies = world.proxies();
        let a = world.candidate("a").timing(TIMING).via(&proxies).start();
        a.leads();
        proxies.iter().for_each(fault);
        let b = world.candidate("b").timing(TIMING).force().start();
        b.leads_within(TIMING.latest_failover());
        world.verdict();
    }
}

#[test]
fn force_waits_for_a_frozen_leader() {
    let world = shared_world();
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    a.pause();
    let b = world.candidate("b").timing(TIMING).force().start();
    b.leads_within(TIMING.latest_failover());
    a.resume();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    // Its lease expired long ago.
    assert!(!a.stderr().contains("revoked lease"), "{}", a.stderr());
    world.verdict();
}

/// If the leader cannot serve a request, the next instance that claims the lock does.
#[test]
fn a_request_is_served_by_the_next_leader() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING),
        world.candidate("b").timing(TIMING).set("ON_LOSS", "campaign"),
    );
    a.pause();
    let c = world.candidate("c").timing(TIMING).force().start();
    c.leads_within(TIMING.latest_failover() + Timing::SWIFT);
    assert!(b.lives().is_empty(), "b started before the request was served");
    world.verdict();
}

/// Its owner has a lease but no queue entry. The request stops no leader and blocks no standby.
#[test]
fn a_request_without_a_queue_entry_is_ignored() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    let lease = etcdctl.grant(Duration::from_secs(600));
    let request = format!("{}/~force/{lease:x}", world.lock());
    etcdctl.put(request.as_bytes(), b"nowhere", Some(lease));
    let a = world.candidate("a").timing(TIMING).start();
    a.leads();
    // Both kinds of requests: for any leader, and for this one.
    let own = format!("{}/~resign/{:x}/{lease:x}", world.lock(), world.holder().lease);
    etcdctl.put(request.as_bytes(), b"nowhere again", Some(lease));
    etcdctl.put(own.as_bytes(), b"a", Some(lease));
    crate::undisturbed(&a, 2 * TIMING.retry);
    let b = world.candidate("b").timing(TIMING).start();
    b.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    etcdctl.revoke(lease);
    world.verdict();
}

/// An instance in the queue made the request, but for another holder.
#[test]
fn a_request_addressed_to_another_holder_is_ignored() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let etcdctl = world.cluster().etcdctl();
    let lease = world.keys().expect("etcd answers").iter().find(|key| key.value == "b").expect("its entry").lease;
    let holder = world.holder().lease;
    etcdctl.put(format!("{}/~resign/{:x}/{lease:x}", world.lock(), holder + 1).as_bytes(), b"b", Some(lease));
    crate::undisturbed(&a, 2 * TIMING.retry);
    etcdctl.put(format!("{}/~resign/{holder:x}/{lease:x}", world.lock()).as_bytes(), b"b", Some(lease));
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

/// The README of the Go tool says "any non-empty value", but its code reads these values as no.
#[test]
fn values_that_mean_no_do_not_force() {
    for word in ["0", "false", "no", "off"] {
        let world = shared_world();
        let (a, _b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").set("FORCE_ACQUIRE", word));
        crate::undisturbed(&a, Timing::LONG.retry / 4);
        world.verdict();
    }
}

/// The key was written by hand, without a lease.
#[test]
fn only_force_deletes_a_holder_key_without_a_lease() {
    let world = shared_world();
    world.cluster().etcdctl().must(&["put", world.lock(), "somebody"]);
    let a = world.candidate("a").start();
    a.waits();
    eventually(Timing::START, "the log names the key without a lease", || {
        let log = a.stderr();
        if log.contains("lease") && log.contains("somebody") { Ok(()) } else { Err(log) }
    });
    assert!(a.lives().is_empty());
    let b = world.candidate("b").force().start();
    b.leads();
    world.verdict();
}
