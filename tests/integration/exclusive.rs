//! At most one command runs; each instance leads in the order of the queue; no keys or leases remain.

use std::time::Duration;

use harness::{Behavior, Cluster, End, Timing, eventually, throughout};

use crate::{shared_world, world_on};

#[test]
fn five_instances_started_at_once_run_their_commands_one_at_a_time() {
    let world = shared_world();
    let short = Behavior::exits(0, Duration::from_millis(200));
    let all: Vec<_> =
        ["a", "b", "c", "d", "e"].iter().map(|name| world.candidate(name).behavior(short.clone()).start()).collect();
    for candidate in &all {
        // Five terms, each no longer than a start.
        assert_eq!(candidate.wait_exit(5 * Timing::START), End::Code(0), "{}", candidate.name());
        assert_eq!(candidate.lives().len(), 1, "{}", candidate.name());
    }
    world.no_keys_left_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn standbys_become_leader_in_queue_order() {
    let world = shared_world();
    let first = world.candidate("first").start();
    first.leads();
    let rest: Vec<_> = ["second", "third", "fourth"]
        .iter()
        .map(|name| {
            let candidate = world.candidate(name).start();
            candidate.waits();
            candidate
        })
        .collect();
    let mut leader = first;
    for next in rest {
        leader.terminate();
        next.leads_within(Timing::SWIFT);
        leader = next;
    }
    let order: Vec<String> = world.journal().lives().into_iter().map(|life| life.name).collect();
    assert_eq!(order, ["first", "second", "third", "fourth"]);
    world.verdict();
}

#[test]
fn a_standby_that_leaves_the_queue_is_skipped() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").start();
    c.waits();
    b.terminate();
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(143));
    a.terminate();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

/// `L/~force/…` and `L/~entry/…` are below `L/`, as are all keys of a lock that is named `L/something`.
#[test]
fn locks_with_a_common_name_prefix_are_independent() {
    let outer = shared_world();
    let inner = shared_world();
    let a = outer.candidate("a").start();
    a.leads();
    let b = inner.candidate("b").set("LOCK_NAME", format!("{}/b", outer.lock())).start();
    b.leads();
    let c = inner.candidate("c").set("LOCK_NAME", format!("{}/b", outer.lock())).start();
    c.waits();
    b.terminate();
    c.leads_within(Timing::SWIFT);
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    inner.verdict();
    outer.verdict();
}

#[test]
fn a_clean_exit_leaves_neither_keys_nor_leases() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcd = world.cluster().etcdctl();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").force().start();
    c.leads();
    b.terminate();
    c.terminate();
    for candidate in [a, b, c] {
        candidate.wait_exit(Timing::SWIFT);
    }
    world.no_keys_left_within(Timing::SWIFT);
    eventually(Timing::SWIFT, "no lease remains", || match etcd.leases()?.as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:x?}")),
    });
    world.verdict();
}

#[test]
fn leading_and_waiting_write_nothing_to_etcd() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcd = world.cluster().etcdctl();
    let (_a, _b) = crate::leader_and_standby(
        world.candidate("a").timing(Timing::SHORT),
        world.candidate("b").timing(Timing::SHORT),
    );
    let c = world.candidate("c").timing(Timing::SHORT).start();
    c.waits();
    let before = etcd.revision().expect("etcd answers");
    throughout(2 * Timing::SHORT.lease(), "the store's revision stays", || match etcd.revision()? {
        now if now == before => Ok(()),
        now => Err(format!("{before} became {now}: {:?}", world.keys())),
    });
    world.verdict();
}
