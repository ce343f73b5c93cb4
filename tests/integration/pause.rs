//! `ctl pause` and `ctl resume`: nobody becomes leader meanwhile, and a running command goes on.

use std::time::Duration;

use harness::{Candidate, Cluster, End, Setup, Timing, World, eventually, throughout};

use crate::{shared_world, world_on};

const TIMING: Timing = Timing::SHORT;
/// Longer than any test.
const LONG: &str = "--for=1h";

fn ctl(world: &World, verb: &str, flags: &[&str]) -> Setup {
    let operator =
        world.candidate("operator").unset("STATUS_ENDPOINT").unset("LOG").command::<&str>([]).flag("ctl").flag(verb);
    flags.iter().fold(operator, Setup::flag)
}

/// Runs an operator command that succeeds, and returns what it prints.
#[track_caller]
fn must(world: &World, verb: &str, flags: &[&str]) -> String {
    let (end, operator) = ctl(world, verb, flags).run();
    assert_eq!(end, End::Code(0), "{}", operator.stderr());
    operator.stdout()
}

/// Runs one that is refused, and returns the error.
#[track_caller]
fn refused(world: &World, verb: &str, flags: &[&str], code: i32) -> String {
    let (end, operator) = ctl(world, verb, flags).run();
    assert_eq!(end, End::Code(code), "{} {}", operator.stdout(), operator.stderr());
    assert_eq!((operator.stdout(), operator.stderr().lines().count()), (String::new(), 1), "{}", operator.stderr());
    operator.stderr()
}

/// Checks that nobody leads although the lock is free.
#[track_caller]
fn stays_free(world: &World, standby: &Candidate, span: Duration) {
    throughout(span, "nobody leads while the lock is paused", || {
        let holder = world.keys()?.into_iter().find(|key| key.name == world.lock());
        let is_free = holder.is_none() && standby.living().is_empty();
        if is_free { Ok(()) } else { Err(format!("{holder:?} {}", standby.stderr())) }
    });
}

fn is_free(world: &World) {
    eventually(Timing::SWIFT, "the lock is free", || {
        let keys = world.keys()?;
        if keys.iter().all(|key| key.name != world.lock()) { Ok(()) } else { Err(format!("{keys:?}")) }
    });
}

#[test]
fn a_leader_that_exits_during_a_pause_has_no_successor_until_it_is_over() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").start();
    c.waits();
    let said = must(&world, "pause", &[LONG, "--reason=disk replacement"]);
    assert!(said.starts_with(&format!("paused {} until ", world.lock())), "{said}");
    assert!(said.ends_with(": disk replacement; a goes on, and no other instance takes over\n"), "{said}");
    for each in [&a, &b, &c] {
        each.logs(": disk replacement; no instance becomes its leader");
        let status = each.http("GET", "/").expect("an answer").body;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status["pause"]["reason"], "disk replacement", "{status}");
        assert!(each.http("GET", "/metrics").expect("an answer").body.contains("etcd_await_election_paused 1\n"));
    }
    let shown: serde_json::Value = serde_json::from_str(&must(&world, "show", &["--json"])).expect("JSON");
    let left = shown["pause"]["ttl_left_seconds"].as_u64().expect("a number");
    assert!((3500..=3600).contains(&left), "{shown}");
    crate::undisturbed(&a, Timing::LONG.retry);

    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    a.logs("releasing the lock without a handover, as it is paused");
    is_free(&world);
    let d = world.candidate("d").start();
    stays_free(&world, &b, Timing::LONG.retry);

    let said = must(&world, "resume", &[]);
    assert!(said.starts_with(&format!("resumed {}: it was paused until ", world.lock())), "{said}");
    b.leads_within(Timing::SWIFT);
    for each in [&b, &c, &d] {
        each.logs(&format!("the pause of {} is over", world.lock()));
    }
    assert_eq!(must(&world, "resume", &[]), format!("{} is not paused\n", world.lock()));
    assert!(c.lives().is_empty() && d.lives().is_empty());
    world.verdict();
}

#[test]
fn the_head_starts_when_the_lease_of_the_pause_has_expired() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    must(&world, "pause", &["--for=8s"]);
    a.kill();
    is_free(&world);
    assert!(b.lives().is_empty());
    // etcd revokes expired leases every half second.
    b.leads_within(Duration::from_secs(8) + Timing::SWIFT);
    world.verdict();
}

/// A standby of the same lock with `FORCE_ACQUIRE` neither stops the leader nor evicts a Go instance, before the pause is over.
#[test]
fn force_has_no_effect_before_the_pause_is_over() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    must(&world, "pause", &[LONG]);
    let b = world.candidate("b").force().start();
    b.waits();
    eventually(Timing::START, "the request was made", || {
        let keys = world.keys()?;
        if keys.iter().any(|key| key.name.contains("~force")) { Ok(()) } else { Err(format!("{keys:?}")) }
    });
    crate::undisturbed(&a, 2 * Timing::LONG.retry);
    must(&world, "resume", &[]);
    b.leads_within(Timing::LONG.retry + Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.verdict();
}

#[test]
fn a_go_instance_is_not_evicted_during_a_pause() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    let lease = etcdctl.grant(Duration::from_secs(5));
    etcdctl.must(&["put", world.lock(), "go", &format!("--lease={lease:x}")]);
    let alive = etcdctl.start(&["lease", "keep-alive", &format!("{lease:x}")]);
    must(&world, "pause", &[LONG]);
    let b = world.candidate("b").force().start();
    b.waits();
    throughout(Timing::LONG.retry, "the Go instance holds the lock", || match world.holder() {
        holder if holder.value == "go" => Ok(()),
        holder => Err(format!("{holder:?}")),
    });
    must(&world, "resume", &[]);
    b.logs("evicting it when the pause ends, as FORCE_ACQUIRE is set");
    eventually(Timing::SWIFT, "the Go instance is evicted", || {
        let keys = world.keys()?;
        if keys.iter().any(|key| key.name.contains("~ousted")) { Ok(()) } else { Err(format!("{keys:?}")) }
    });
    alive.signal(nix::sys::signal::Signal::SIGKILL);
    etcdctl.revoke(lease);
    b.leads();
    world.verdict();
}

#[test]
fn a_pause_is_extended_and_not_shortened_and_leaves_nothing_behind() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcdctl = world.cluster().etcdctl();
    let first = must(&world, "pause", &["--for=30m", "--reason=one"]);
    assert!(first.ends_with(": one; no instance takes the lock\n"), "{first}");
    let why = refused(&world, "pause", &["--for=10m", "--reason=two"], 81);
    assert!(
        why.contains("it is already paused for another") && why.contains(": one; end that with ctl resume first"),
        "{why}"
    );
    let second: serde_json::Value =
        serde_json::from_str(&must(&world, "pause", &["--for=1d", "--reason=three", "--json"])).expect("JSON");
    assert_eq!((&second["replaced"]["reason"], &second["pause"]["reason"]), (&"one".into(), &"three".into()));
    assert_eq!(etcdctl.leases().expect("etcd answers").len(), 1, "the others are revoked");

    // An instance that does not wait.
    let (end, hasty) = world.candidate("hasty").set("ACQUIRE_TIMEOUT", "0").run();
    assert_eq!(end, End::Code(75));
    assert!(hasty.stderr().contains("the lock is paused: giving up"), "{}", hasty.stderr());

    let resumed: serde_json::Value = serde_json::from_str(&must(&world, "resume", &["--json"])).expect("JSON");
    assert_eq!((&resumed["resumed"], &resumed["pause"]["reason"]), (&true.into(), &"three".into()));
    assert!(etcdctl.leases().expect("etcd answers").is_empty());

    // What an operator writes with another program pauses the lock as well, also without a lease.
    etcdctl.must(&["put", &format!("{}/~pause", world.lock()), "maintenance"]);
    let why = refused(&world, "pause", &[LONG], 81);
    assert!(why.contains("it is already paused, until an unknown time"), "{why}");
    let a = world.candidate("a").start();
    a.waits();
    must(&world, "resume", &[]);
    a.leads();
    world.verdict();
}

#[test]
fn wrong_arguments_are_explained() {
    let world = shared_world();
    for (flags, why) in [
        (&[][..], "--for <TIME>"),
        (&["--for=0"], "'0' is too short"),
        (&["--for=8d"], "'8d' is too long; use at most 7d"),
        (&["--for=soon"], "'soon' is not a valid duration; use 90s, 30m, 2h or 1d"),
        (&[LONG, "--reason=a\nb"], "contains control characters"),
    ] {
        let (end, operator) = ctl(&world, "pause", flags).run();
        assert!(end == End::Code(64) && operator.stderr().contains(why), "{why}: {}", operator.stderr());
    }
    world.verdict();
}
