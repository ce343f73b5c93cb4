//! Leadership that is lost in etcd: its lease revoked, its keys deleted or overwritten.

use std::time::Duration;

use harness::{Behavior, End, Timing};
use nix::sys::signal::Signal;

use crate::shared_world;

#[test]
fn a_revoked_lease_stops_the_command_at_once() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    world.cluster().etcdctl().revoke(world.holder().lease);
    a.command_exits_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn a_deleted_holder_key_stops_the_command_at_once() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    world.cluster().etcdctl().must(&["del", world.lock()]);
    a.command_exits_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.no_keys_left_within(Timing::SWIFT);
    world.verdict();
}

/// The Go tool does not notice this.
#[test]
fn an_overwritten_holder_key_stops_the_command_at_once() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    world.cluster().etcdctl().must(&["put", world.lock(), "somebody else"]);
    a.command_exits_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn a_deleted_queue_entry_stops_the_command_at_once() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    world.cluster().etcdctl().must(&["del", "--prefix", &format!("{}/", world.lock())]);
    a.command_exits_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn with_on_loss_campaign_an_instance_leads_again_with_a_larger_token() {
    let world = shared_world();
    let a = world.candidate("a").set("ON_LOSS", "campaign").start();
    let first = a.leads();
    world.cluster().etcdctl().revoke(world.holder().lease);
    harness::eventually(Timing::START, "a second term", || match a.living().first() {
        Some(life) if life.token > first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    world.verdict();
}

/// Whichever comes first, the loss or the signal: the other one is still handled while the command stops.
#[test]
fn with_on_loss_campaign_a_shutdown_request_while_stepping_down_ends_the_program() {
    let world = shared_world();
    let slow = || Behavior::slow(Duration::from_secs(1));
    let start = |name| world.candidate(name).behavior(slow()).set("ON_LOSS", "campaign").start();
    let delete_holder = || world.cluster().etcdctl().must(&["del", world.lock()]);

    let lost_first = start("lost first");
    lost_first.leads();
    delete_holder();
    lost_first.logs_within(Timing::SWIFT, "stepping down");
    lost_first.signal(Signal::SIGINT);
    assert_eq!(lost_first.wait_exit(Timing::START), End::Code(130));

    let asked_first = start("asked first");
    asked_first.leads();
    asked_first.terminate();
    asked_first.logs_within(Timing::SWIFT, "received a shutdown request");
    delete_holder();
    asked_first.logs_within(Timing::SWIFT, "stepping down");
    assert_eq!(asked_first.wait_exit(Timing::START), End::Code(143));

    assert_eq!((lost_first.lives().len(), asked_first.lives().len()), (1, 1));
    world.verdict();
}

/// etcd's own clients do not notice that their entry was deleted; this program watches its entry.
#[test]
fn a_standby_whose_lease_was_revoked_joins_again() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let lease = |world: &harness::World| {
        let keys = world.keys().expect("etcd answers");
        keys.into_iter().find(|key| key.value == "b").map(|key| key.lease)
    };
    let old = lease(&world).expect("b waits");
    world.cluster().etcdctl().revoke(old);
    harness::eventually(Timing::START, "b waits on a new lease", || match lease(&world) {
        Some(new) if new != old => Ok(()),
        other => Err(format!("{other:x?}")),
    });
    assert!(b.lives().is_empty());
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// `etcdctl elect` uses the same queue.
#[test]
fn an_instance_waits_for_etcdctl_elect_and_vice_versa() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    let foreign = etcdctl.start(&["elect", world.lock(), "foreign"]);
    harness::eventually(Timing::START, "the other client is in the queue", || {
        let keys = world.keys()?;
        if keys.len() == 1 { Ok(()) } else { Err(format!("{keys:?}")) }
    });
    let a = world.candidate("a").start();
    a.waits();
    harness::throughout(Timing::LONG.retry, "a waits", || match a.lives().as_slice() {
        [] => Ok(()),
        lives => Err(format!("{lives:?}")),
    });
    foreign.signal(Signal::SIGTERM);
    foreign.wait_exit(Timing::SWIFT);
    // etcdctl may leave its key to a lease of a minute, which this test does not check.
    let left: Vec<_> = world.keys().expect("etcd answers").into_iter().filter(|key| key.value == "foreign").collect();
    for key in left {
        etcdctl.revoke(key.lease);
    }
    a.leads_within(Timing::SWIFT);
    world.verdict();
}
