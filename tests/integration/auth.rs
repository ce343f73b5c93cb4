//! An etcd that wants user and password.

use std::sync::Arc;

use harness::{Cluster, End, Timing, World};

use crate::world_on;

fn cluster() -> Arc<Cluster> {
    Cluster::builder().size(1).plain().auth("app", "secret-password").create()
}

/// All on one cluster: turning authentication on is what takes the time.
#[test]
fn user_and_password_are_used_and_wrong_ones_end_the_program_at_once() {
    let cluster = cluster();

    let world = world_on(Arc::clone(&cluster));
    let a = world.candidate("a").start();
    a.leads();
    world.verdict();

    let world = world_on(Arc::clone(&cluster));
    let file = world.directory().join("password");
    std::fs::write(&file, "secret-password\n").expect("writing it");
    let a = world.candidate("a").unset("PASSWORD").set("PASSWORD_FILE", &file).start();
    a.leads();
    world.verdict();

    let world = world_on(Arc::clone(&cluster));
    is_refused(&world, world.candidate("a").set("PASSWORD", "wrong-password"), "wrong-password");
    is_refused(&world, world.candidate("a").set("LOCK_NAME", "elsewhere/lock"), "secret-password");
    is_refused(&world, world.candidate("a").unset("USER").unset("PASSWORD"), "secret-password");
    world.verdict();
}

/// Ends at once, says why, and does not say the password.
fn is_refused(world: &World, setup: harness::Setup, secret: &str) {
    let (end, candidate) = setup.run();
    assert_eq!(end, End::Code(77), "{}", candidate.stderr());
    assert!(!candidate.stderr().contains(secret), "{}", candidate.stderr());
    assert!(candidate.lives().is_empty());
    assert_eq!(world.keys().expect("etcd answers"), []);
}

/// A member that restarts has forgotten every token.
#[test]
fn a_token_that_etcd_forgot_is_renewed() {
    let world = world_on(cluster());
    let timing = Timing::MEDIUM;
    let a = world.candidate("a").timing(timing).start();
    a.leads();
    let b = world.candidate("b").timing(timing).start();
    b.waits();
    world.cluster().member(0).restart();
    world.cluster().wait_healthy();
    crate::undisturbed(&a, timing.lease() + timing.renew);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}
