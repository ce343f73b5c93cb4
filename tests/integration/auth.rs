//! An etcd with authentication.

use std::sync::Arc;

use harness::{Cluster, End, Timing, World};

use crate::world_on;

fn cluster() -> Arc<Cluster> {
    Cluster::builder().size(1).plain().auth("app", "secret-password").create()
}

/// All on one cluster, as enabling authentication takes most of the time.
#[test]
fn a_valid_login_works_and_an_invalid_one_ends_the_program_at_once() {
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

/// Checks that the program ends at once with a message that does not contain the password.
fn is_refused(world: &World, setup: harness::Setup, secret: &str) {
    let (end, candidate) = setup.run();
    assert_eq!(end, End::Code(77), "{}", candidate.stderr());
    assert!(!candidate.stderr().contains(secret), "{}", candidate.stderr());
    assert!(candidate.lives().is_empty());
    assert_eq!(world.keys().expect("etcd answers"), []);
}

/// SECURITY.md names the oldest etcd for a cluster with mutually untrusted users: an older one lets each of them keep
/// the lease of a lost leader alive for ever.
#[test]
fn a_user_without_permission_can_keep_a_foreign_lease_alive_only_on_an_old_etcd() {
    let world = world_on(cluster());
    let a = world.candidate("a").start();
    a.leads();
    let lease = world.keys().expect("etcd answers").first().expect("there is a holder").lease;
    let neighbor = world.cluster().etcdctl_as_new("neighbor", "other/");
    let lease = format!("{lease:x}");
    let kept = neighbor.run(&["lease", "keep-alive", "--once", &lease]);
    let version = Cluster::version();
    let denies = match version {
        (3, ..=4, _) => version >= (3, 4, 42),
        (3, 5, _) => version >= (3, 5, 28),
        (3, 6, _) => version >= (3, 6, 9),
        _ => true,
    };
    assert_eq!(kept.is_err(), denies, "{version:?}: {kept:?}");
    // No version lets that user revoke the lease.
    assert!(neighbor.run(&["lease", "revoke", &lease]).is_err());
    world.verdict();
}

/// A restarted member has forgotten all tokens.
#[test]
fn the_program_logs_in_again_when_etcd_has_forgotten_its_token() {
    let world = world_on(cluster());
    let timing = Timing::MEDIUM;
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(timing), world.candidate("b").timing(timing));
    world.cluster().member(0).restart();
    world.cluster().wait_healthy();
    crate::undisturbed(&a, timing.lease() + timing.renew);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}
