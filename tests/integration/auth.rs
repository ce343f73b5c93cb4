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

/// Each verb with the rights that docs/operations.md names, and no others.
#[test]
fn an_operator_needs_only_the_documented_rights() {
    let world = world_on(cluster());
    let (_a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let (lock, root) = (world.lock(), world.cluster().etcdctl_as_root());
    let (below, pause) = (format!("{lock}/"), format!("{lock}/~pause"));
    for (user, rights) in [
        ("reader", [["read", lock, ""], ["read", &below, "--prefix"]]),
        ("pauser", [["read", lock, ""], ["readwrite", &pause, ""]]),
        ("mover", [["readwrite", lock, ""], ["readwrite", &below, "--prefix"]]),
    ] {
        root.must(&["role", "add", user]);
        for [right, key, prefix] in rights {
            let words = ["role", "grant-permission", user, right, key, prefix];
            root.must(words.split(|word| word.is_empty()).next().expect("words"));
        }
        root.must(&["user", "add", &format!("{user}:{user}")]);
        root.must(&["user", "grant-role", user, user]);
    }
    let run = |user: &str, flags: &[&str], code: i32| {
        let operator =
            world.candidate("operator").unset("STATUS_ENDPOINT").unset("LOG").command::<&str>([]).flag("ctl");
        let operator = flags.iter().fold(operator.set("USER", user).set("PASSWORD", user), harness::Setup::flag);
        let (end, operator) = operator.run();
        assert_eq!(end, End::Code(code), "{user} {flags:?}: {}", operator.stderr());
        operator.stdout()
    };
    let leases = root.leases().expect("etcd answers").len();
    run("reader", &["show"], 0);
    run("reader", &["pause", "--for=1h"], 77);
    run("reader", &["resign"], 77);
    run("pauser", &["show"], 77);
    run("pauser", &["resign"], 77);
    run("pauser", &["pause", "--for=1h"], 0);
    run("reader", &["show"], 0);
    run("pauser", &["resume"], 0);
    assert_eq!(root.leases().expect("etcd answers").len(), leases, "those of pauses are revoked");
    assert!(run("mover", &["resign"], 0).starts_with("handed over from a to b in "));
    b.leads();
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
