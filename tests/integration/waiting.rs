//! Waiting for the lock, and its ends.

use std::time::{Duration, Instant};

use harness::{End, Timing};
use nix::sys::signal::Signal;

use crate::shared_world;

#[test]
fn sigterm_and_sigint_end_the_wait_and_revoke_the_lease() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let b = world.candidate("b").start();
        b.waits();
        b.signal(signal);
        assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(code));
        let keys = world.keys().expect("etcd answers");
        assert!(keys.iter().all(|key| key.value != "b"), "{keys:?}");
        assert!(b.lives().is_empty());
    }
    crate::undisturbed(&a, Timing::LONG.retry / 2);
    world.verdict();
}

#[test]
fn sighup_does_not_end_a_standby() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    b.signal(Signal::SIGHUP);
    b.signal(Signal::SIGUSR1);
    // It kept its queue entry, and leads next.
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_killed_standby_is_skipped_when_its_lease_ends() {
    let world = shared_world();
    let timing = Timing::SHORT;
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").timing(timing));
    let c = world.candidate("c").start();
    c.waits();
    b.kill();
    a.terminate();
    c.leads_within(timing.latest_failover());
    world.verdict();
}

#[test]
fn acquire_timeout_ends_the_wait_in_time() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    for (text, least) in [("0", Duration::ZERO), ("1500ms", Duration::from_millis(1500)), ("2", Duration::from_secs(2))]
    {
        let begun = Instant::now();
        let b = world.candidate("b").set("ACQUIRE_TIMEOUT", text).start();
        assert_eq!(b.wait_exit(least + Timing::SWIFT), End::Code(75), "{text}");
        assert!(begun.elapsed() >= least, "{text}: {:?}", begun.elapsed());
        let keys = world.keys().expect("etcd answers");
        assert!(keys.iter().all(|key| key.value != "b"), "{keys:?}");
    }
    crate::undisturbed(&a, Timing::LONG.retry / 2);
    world.verdict();
}

#[test]
fn acquire_timeout_zero_takes_a_free_lock() {
    let world = shared_world();
    let a = world.candidate("a").set("ACQUIRE_TIMEOUT", "0").start();
    a.leads();
    world.verdict();
}

/// Data of an application below the name of the lock is not a queue entry.
#[test]
fn acquire_timeout_zero_takes_a_free_lock_with_keys_below_it() {
    let world = shared_world();
    world.cluster().etcdctl().must(&["put", &format!("{}/config", world.lock()), "data"]);
    let a = world.candidate("a").set("ACQUIRE_TIMEOUT", "0").start();
    a.leads();
    world.verdict();
}

/// The timeout also applies if etcd cannot be reached.
#[test]
fn acquire_timeout_counts_while_etcd_does_not_answer() {
    let world = shared_world();
    let a = world.candidate("a").set("ENDPOINTS", "127.0.0.1:1").set("ACQUIRE_TIMEOUT", "1").start();
    assert_eq!(a.wait_exit(Duration::from_secs(1) + Timing::SWIFT), End::Code(75));
    world.verdict();
}
