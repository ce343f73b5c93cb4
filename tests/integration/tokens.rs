//! Expired logins, changed users, and authentication that is enabled later.
//!
//! A simple token is extended by each use, and a restarted member forgets it. A JWT expires at its time, and with every
//! change of users and roles. In both cases the program logs in again, with the current content of the files.

use std::{env, fs, path::PathBuf, sync::Arc, time::Duration};

use harness::{Candidate, Cluster, ClusterBuilder, End, Setup, Timing, World, eventually, wait::scaled};

use crate::{undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;
/// Shorter than any of these tests.
const TTL: Duration = Duration::from_secs(2);

fn simple() -> ClusterBuilder {
    let cluster = Cluster::builder().size(1).plain();
    // etcd 3.4 has no such option; its tokens live for five minutes.
    if Cluster::version() >= (3, 5, 0) { cluster.option("auth-token-ttl", &TTL.as_secs().to_string()) } else { cluster }
}

fn jwt() -> ClusterBuilder {
    Cluster::builder().size(1).plain().jwt(TTL)
}

/// Runs the test with each kind of token.
fn with_either(test: impl Fn(ClusterBuilder)) {
    for cluster in [simple(), jwt()] {
        test(cluster);
    }
}

/// The password is in a file, which can change.
fn with_file(world: &World, setup: Setup) -> (Setup, PathBuf) {
    let file = world.directory().join("password");
    fs::write(&file, "secret-password\n").expect("writing it");
    (setup.timing(TIMING).set("USER", "app").unset("PASSWORD").set("PASSWORD_FILE", &file), file)
}

fn leader_and_standby(world: &World) -> (Arc<Candidate>, Arc<Candidate>, PathBuf) {
    let (a, file) = with_file(world, world.candidate("a"));
    let (a, b) = crate::leader_and_standby(a, with_file(world, world.candidate("b")).0);
    (a, b, file)
}

/// etcd looks for expired tokens once a second.
#[test]
fn an_expired_login_token_disturbs_neither_leader_nor_standby() {
    with_either(|cluster| {
        let world = world_on(cluster.auth("app", "secret-password").create());
        let (a, b, _) = leader_and_standby(&world);
        undisturbed(&a, 3 * TTL);
        assert!(!a.stderr().contains("refuses"), "{}", a.stderr());
        a.terminate();
        b.leads_within(Timing::SWIFT);
        world.verdict();
    });
}

#[test]
fn a_wrong_password_ends_the_program_also_with_jwt_tokens() {
    let world = world_on(jwt().auth("app", "secret-password").create());
    let (end, a) = world.candidate("a").set("PASSWORD", "wrong-password").run();
    assert_eq!(end, End::Code(77), "{}", a.stderr());
    world.verdict();
}

/// The file is changed before the password in etcd, or soon after: a leader has until its renew deadline.
#[test]
fn a_changed_password_is_read_from_its_file() {
    with_either(|cluster| {
        let world = world_on(cluster.auth("app", "secret-password").create());
        let root = world.cluster().etcdctl_as_root();
        let (a, b, file) = leader_and_standby(&world);
        fs::write(&file, "new-password\n").expect("writing it");
        root.change_password("app", "new-password");
        undisturbed(&a, TIMING.lease());
        a.terminate();
        b.leads_within(Timing::SWIFT);
        world.verdict();
    });
}

/// Without permission a leader stops in time, a standby ends, and both log why.
#[test]
fn a_leader_whose_permission_is_revoked_stops_in_time() {
    with_either(|cluster| {
        let world = world_on(cluster.auth("app", "secret-password").create());
        let root = world.cluster().etcdctl_as_root();
        let (a, b, _) = leader_and_standby(&world);
        root.must(&["user", "revoke-role", "app", "tests"]);
        a.command_exits_within(TIMING.latest_death());
        assert_eq!(a.wait_exit(TIMING.lease()), End::Code(79));
        assert!(a.stderr().contains("permission denied"), "{}", a.stderr());
        assert_eq!(b.wait_exit(TIMING.lease() + Timing::SWIFT), End::Code(77));
        assert!(b.lives().is_empty());
        world.verdict();
    });
}

#[test]
fn a_permission_that_is_restored_in_time_does_not_disturb_the_leader() {
    let world = world_on(jwt().auth("app", "secret-password").create());
    let root = world.cluster().etcdctl_as_root();
    let (a, _) = with_file(&world, world.candidate("a"));
    let a = a.start();
    a.leads();
    root.must(&["user", "revoke-role", "app", "tests"]);
    eventually(TIMING.earliest_stop(), "it says so", || match a.stderr() {
        log if log.contains("permission denied") => Ok(()),
        log => Err(log),
    });
    root.must(&["user", "grant-role", "app", "tests"]);
    undisturbed(&a, TIMING.lease());
    world.verdict();
}

/// Any change of any user invalidates every JWT.
#[test]
fn changes_to_other_users_do_not_disturb_the_leader() {
    let world = world_on(Cluster::builder().size(1).plain().jwt(60 * TTL).auth("app", "secret-password").create());
    let root = world.cluster().etcdctl_as_root();
    let (a, b, _) = leader_and_standby(&world);
    for number in 0..5 {
        root.must(&["user", "add", &format!("other-{number}:secret")]);
        undisturbed(&a, TIMING.retry);
    }
    undisturbed(&a, TIMING.renew);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// An instance with user and password uses them as soon as authentication is enabled.
#[test]
fn enabling_authentication_does_not_disturb_the_leader() {
    with_either(|cluster| {
        let world = world_on(cluster.create());
        let (a, b, _) = leader_and_standby(&world);
        world.cluster().enable_auth("app", "secret-password");
        undisturbed(&a, TIMING.lease());
        assert_eq!(b.end(), None, "{}", b.stderr());
        a.terminate();
        b.leads_within(Timing::SWIFT);
        assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
        world.verdict();
    });
}

/// An instance with user and password continues when authentication is disabled.
#[test]
fn disabling_authentication_does_not_disturb_the_leader() {
    with_either(|cluster| {
        let world = world_on(cluster.auth("app", "secret-password").create());
        let (a, b, _) = leader_and_standby(&world);
        world.cluster().etcdctl_as_root().must(&["auth", "disable"]);
        undisturbed(&a, TIMING.lease());
        assert_eq!(b.end(), None, "{}", b.stderr());
        a.terminate();
        b.leads_within(Timing::SWIFT);
        world.verdict();
    });
}

/// All members have forgotten all tokens, and checking a password is slow: each instance logs in once, the leader
/// first. `TEST_STANDBYS=150` sets the number of standbys.
#[test]
fn many_simultaneous_logins_do_not_disturb_the_leader() {
    let standbys = env::var("TEST_STANDBYS").map_or(12, |text| text.parse().expect("TEST_STANDBYS is a number"));
    // The default of etcd.
    let cluster = Cluster::builder().plain().option("bcrypt-cost", "10").auth("app", "secret-password");
    let world = world_on(cluster.create());
    let a = world.candidate("a").start();
    a.leads();
    let waiting: Vec<_> = (0..standbys).map(|number| world.candidate(&format!("b{number}")).start()).collect();
    eventually(Duration::from_secs(300), "all wait", || {
        let keys = world.keys()?.len();
        if keys == standbys + 2 { Ok(()) } else { Err(format!("{keys} keys")) }
    });
    // Writes the applied entries to disk. Otherwise recent logins would be applied again, and their tokens would be
    // valid.
    let root = world.cluster().etcdctl_as_root();
    // It logs in at one member, and another one may not have its token yet.
    eventually(Timing::START, "the members have written everything", || root.run(&["defrag"]));
    let members = world.cluster().members();
    members.iter().for_each(harness::Member::kill);
    world.cluster().start();
    let begun = harness::journal::now();
    let logged_in = eventually(Duration::from_secs(120), "each has logged in", || {
        let logins = logins(&world, "OK");
        if logins > standbys { Ok(logins) } else { Err(format!("{logins} logins; {}", a.stderr())) }
    });
    let took = crate::between(begun, harness::journal::now());
    undisturbed(&a, Timing::LONG.renew);
    let later = logins(&world, "OK");
    println!(
        "{standbys} standbys: {logged_in} logins within {took:.1?}, {later} after another {:?}",
        Timing::LONG.renew
    );
    assert!(took < scaled(Duration::from_secs(15)), "{took:?}");
    // One more for a member that was up before it received the token.
    assert!(later <= 2 * (standbys + 1), "{later} logins");
    a.terminate();
    eventually(Timing::SWIFT, "another one leads", || {
        if waiting.iter().any(|b| b.living().len() == 1) { Ok(()) } else { Err("nobody".into()) }
    });
    world.verdict();
}

/// Returns the number of logins with this result that the members have counted since their start.
fn logins(world: &World, code: &str) -> usize {
    let member = |member: &harness::Member| {
        let text = member.metrics().unwrap_or_default();
        let line = text.lines().find(|line| {
            let counted = line.starts_with("grpc_server_handled_total") && line.contains("\"Authenticate\"");
            counted && line.contains(&format!("grpc_code=\"{code}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    world.cluster().members().iter().map(member).sum()
}
