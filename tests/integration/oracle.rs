//! Tests of the oracle: it rejects gatekeepers that are broken on purpose, and accepts a correct one.

use std::{panic, time::Duration};

use harness::{Behavior, Timing, World, eventually};

use crate::{shared_world, shell_gatekeeper};

/// Returns the message with which the verdict fails.
fn failure(world: &World) -> String {
    let failed = panic::catch_unwind(panic::AssertUnwindSafe(|| world.verdict())).expect_err("the verdict passes");
    failed.downcast_ref::<String>().cloned().unwrap_or_default()
}

fn two_terms(world: &World, script: &str) {
    let program = shell_gatekeeper(world, "broken", script);
    let behavior = Behavior::exits(0, Duration::from_millis(200));
    let broken = world.candidate("broken").program(program).behavior(behavior).start();
    broken.wait_exit(Timing::START);
    eventually(Timing::START, "two terms have ended", || {
        let lives = world.journal().lives();
        if lives.iter().filter(|life| life.ended).count() == 2 { Ok(()) } else { Err(format!("{lives:?}")) }
    });
}

#[test]
fn two_commands_at_once_fail_the_verdict() {
    let world = shared_world();
    two_terms(&world, "ETCD_AWAIT_ELECTION_FENCING_TOKEN=5 \"$@\" & ETCD_AWAIT_ELECTION_FENCING_TOKEN=6 \"$@\" & wait");
    let message = failure(&world);
    assert!(message.contains("the guarantee is violated") && message.contains("two terms overlapped"), "{message}");
}

#[test]
fn a_decreasing_token_fails_the_verdict() {
    let world = shared_world();
    two_terms(&world, "ETCD_AWAIT_ELECTION_FENCING_TOKEN=6 \"$@\"; ETCD_AWAIT_ELECTION_FENCING_TOKEN=5 \"$@\"");
    let message = failure(&world);
    assert!(message.contains("the token decreased"), "{message}");
}

/// A frozen process writes nothing, but its successor finds that it still exists.
#[test]
fn a_frozen_predecessor_fails_the_verdict() {
    let world = shared_world();
    let script = "ETCD_AWAIT_ELECTION_FENCING_TOKEN=5 \"$@\" & while ! [ -s \"$JOURNALED_FILE\" ]; do sleep .01; done
        kill -STOP $!; ETCD_AWAIT_ELECTION_FENCING_TOKEN=6 \"$@\"; kill -CONT $!; wait";
    two_terms(&world, script);
    let message = failure(&world);
    assert!(message.contains("of another term existed"), "{message}");
}

#[test]
fn consecutive_terms_pass_the_verdict() {
    let world = shared_world();
    two_terms(&world, "ETCD_AWAIT_ELECTION_FENCING_TOKEN=5 \"$@\"; ETCD_AWAIT_ELECTION_FENCING_TOKEN=6 \"$@\"");
    world.verdict();
}

/// With the real `etcdctl lock`, whose lock revision serves as the token.
#[test]
fn three_instances_of_etcdctl_lock_pass_the_verdict() {
    let world = shared_world();
    let etcd = world.cluster();
    let tls = etcd.certificates();
    let script = format!(
        "exec etcdctl --endpoints {} --cacert {} --cert {} --key {} lock {} -- \
         sh -c 'ETCD_AWAIT_ELECTION_FENCING_TOKEN=$ETCD_LOCK_REV exec \"$@\"' sh \"$@\"",
        etcd.endpoints().join(","),
        tls.ca.display(),
        tls.client.cert.display(),
        tls.client.key.display(),
        world.lock(),
    );
    let program = shell_gatekeeper(&world, "lock", &script);
    let short = Behavior::exits(0, Duration::from_millis(100));
    let all: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| world.candidate(name).program(&program).behavior(short.clone()).start())
        .collect();
    for candidate in all {
        candidate.wait_exit(Timing::START);
    }
    assert_eq!(world.journal().lives().len(), 3);
    world.verdict();
}

#[test]
#[should_panic(expected = "a test must end with the verdict")]
fn a_test_without_a_verdict_fails() {
    let _world = shared_world();
}
