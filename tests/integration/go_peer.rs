//! A mixed fleet: the Go `etcd-await-election` uses only one key, the holder key.

use std::{sync::Arc, time::Duration};

use harness::{Behavior, Candidate, End, Process, Timing, World, eventually, throughout};

use crate::{shared_world, shell_gatekeeper};

/// A leading Go instance as it appears in etcd: the holder key on a lease that is kept alive.
struct GoPeer {
    lease: i64,
    /// Its keepalive.
    process: Process,
}

impl GoPeer {
    fn lead(world: &World) -> Self {
        let etcdctl = world.cluster().etcdctl();
        let lease = etcdctl.grant(Duration::from_secs(5));
        etcdctl.must(&["put", world.lock(), "go", &format!("--lease={lease:x}")]);
        Self { lease, process: etcdctl.start(&["lease", "keep-alive", &format!("{lease:x}")]) }
    }

    /// Ends it like a Go instance whose command was killed: revokes its lease.
    fn end(&self, world: &World) {
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        self.process.wait_exit(Timing::SWIFT);
        world.cluster().etcdctl().revoke(self.lease);
    }
}

/// A complete Go instance as a script: it polls for the key with a new lease each time, runs the command while it holds
/// the key, kills it when the key is deleted, and then revokes the lease. Its watch starts at its own revision.
/// Background jobs are not shell functions, so that `etcdctl` itself is killed at the end.
fn go_instance(world: &World, name: &str) -> Arc<Candidate> {
    let script = format!(
        r#"etcd() {{ {etcdctl} "$@"; }}
        while :; do
            lease=$(etcd lease grant 5 | cut -d' ' -f2)
            printf 'create("%s") = "0"\n\nput %s {name} --lease=%s\n\n\n' {lock} {lock} "$lease" | etcd txn | grep -q SUCCESS && break
            sleep 0.2
        done
        {etcdctl} lease keep-alive "$lease" >&2 & alive=$!
        ETCD_AWAIT_ELECTION_FENCING_TOKEN=$(etcd get {lock} -w fields | sed -n 's/^"ModRevision" : //p')
        export ETCD_AWAIT_ELECTION_FENCING_TOKEN
        "$@" & command=$!
        trap 'kill $command' TERM
        ({etcdctl} watch --rev=$((ETCD_AWAIT_ELECTION_FENCING_TOKEN + 1)) {lock} & echo $! >"$0.watch"; wait) | {{ grep -q -m1 DELETE && kill -9 $command; }} & watch=$!
        while kill -0 $command 2>&-; do wait $command; done
        kill $alive "$(cat "$0.watch")"
        etcd lease revoke "$lease"
        "#,
        etcdctl = world.cluster().etcdctl().line(),
        lock = world.lock(),
    );
    world.candidate(name).program(shell_gatekeeper(world, name, &script)).start()
}

/// A Go instance has no queue entry, so it gets the lock only when no standby waits.
#[test]
fn a_go_instance_waits_leads_and_hands_over() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let go = go_instance(&world, "go");
    eventually(Timing::START, "it has tried", || {
        let leases = world.cluster().etcdctl().leases()?;
        // The leader's lease, and at least one from an attempt of the Go instance.
        if leases.len() > 1 { Ok(()) } else { Err(format!("{leases:?}")) }
    });
    let b = world.candidate("b").start();
    b.waits();
    a.terminate();
    b.leads_within(Timing::SWIFT);
    b.terminate();
    go.leads();
    let c = world.candidate("c").start();
    c.waits();
    go.terminate();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

/// An evicted Go instance kills its command and revokes its lease; only then the new leader starts its command.
#[test]
fn force_makes_a_go_instance_stop_before_the_command_starts() {
    let world = shared_world();
    let go = go_instance(&world, "go");
    go.leads();
    let a = world.candidate("a").force().start();
    a.leads();
    go.wait_exit(Timing::SWIFT);
    assert!(go.living().is_empty());
    world.verdict();
}

/// The Go tool's force deletes the holder key and creates it anew, which cannot exclude an overlap. The old leader
/// steps down at once, and no standby starts beside the Go instance.
#[test]
fn an_instance_steps_down_when_a_go_instance_forces() {
    let world = shared_world();
    // Long enough for both steps of the force, between which a standby could claim the lock.
    let a = world.candidate("a").behavior(Behavior::slow(Timing::LONG.retry)).start();
    let first = a.leads();
    let b = world.candidate("b").start();
    b.waits();
    world.cluster().etcdctl().must(&["del", world.lock()]);
    let go = GoPeer::lead(&world);
    assert_eq!(a.wait_exit(Timing::LONG.retry + Timing::SWIFT), End::Code(79));
    throughout(2 * Timing::LONG.retry, "b waits", || match b.lives().as_slice() {
        [] => Ok(()),
        lives => Err(format!("{lives:?}")),
    });
    assert_eq!(world.holder().value, "go");
    go.end(&world);
    assert!(b.leads_within(Timing::SWIFT) > first);
    world.verdict();
}

#[test]
fn an_instance_waits_for_a_go_leader() {
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

/// A Go instance reads the identity of the leader from the holder key.
#[test]
fn a_leader_is_visible_on_the_holder_key() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    assert_eq!(world.holder().value, "a");
    world.verdict();
}

/// The Go instance sees that its key was deleted, kills its command, and revokes its lease: until then no command
/// starts.
#[test]
fn force_waits_until_an_evicted_go_leader_has_ended() {
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
    world.no_keys_left_within(Timing::SWIFT);
    world.verdict();
}
