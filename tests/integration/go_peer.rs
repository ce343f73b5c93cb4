//! A mixed fleet: the Go `etcd-await-election` knows one key only, the lock's own name.

use std::time::Duration;

use harness::{End, Process, Timing, World, eventually, throughout};

use crate::shared_world;

/// What a Go instance that leads looks like in etcd: the lock's key on a lease that is kept alive.
struct GoPeer {
    lease: i64,
    /// Its keepalive.
    process: Process,
}

impl GoPeer {
    fn lead(world: &World) -> Self {
        let etcdctl = world.cluster().etcdctl();
        let granted = etcdctl.json(&["lease", "grant", "5"]).expect("etcd grants");
        let lease = granted["ID"].as_i64().or_else(|| granted["id"].as_i64()).expect("an id");
        etcdctl.must(&["put", world.lock(), "go", &format!("--lease={lease:x}")]);
        Self { lease, process: etcdctl.start(&["lease", "keep-alive", &format!("{lease:x}")]) }
    }

    /// Its command was killed: it gives its lease back and ends.
    fn end(&self, world: &World) {
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        self.process.wait_exit(Timing::SWIFT);
        world.cluster().etcdctl().revoke(self.lease);
    }
}

#[test]
fn a_go_leader_is_waited_for() {
    let world = shared_world();
    let go = GoPeer::lead(&world);
    let a = world.candidate("a").start();
    a.waits();
    throughout(Duration::from_secs(1), "a waits", || match a.lives().as_slice() {
        [] => Ok(()),
        lives => Err(format!("{lives:?}")),
    });
    assert_eq!(world.holder().value, "go");
    go.end(&world);
    a.leads_within(Timing::SWIFT);
    world.verdict();
}

/// A Go instance sees ours by the same key, under its identity.
#[test]
fn our_leader_is_seen_on_the_locks_own_key() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    assert_eq!(world.holder().value, "a");
    world.verdict();
}

/// It learns that its key was deleted, kills its command, and gives its lease back: until then nobody starts.
#[test]
fn a_go_leader_that_is_forced_out_is_waited_for() {
    let world = shared_world();
    let go = GoPeer::lead(&world);
    let a = world.candidate("a").force().start();
    eventually(Timing::START, "the Go leader's key is deleted", || {
        let keys = world.keys()?;
        if keys.iter().all(|key| key.name != world.lock() || key.value != "go") {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    });
    throughout(Duration::from_secs(1), "a waits for the marker", || match a.lives().as_slice() {
        [] => Ok(()),
        lives => Err(format!("{lives:?}")),
    });
    go.end(&world);
    a.leads_within(Timing::SWIFT);
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    world.nothing_left_in_etcd(Timing::SWIFT);
    world.verdict();
}
