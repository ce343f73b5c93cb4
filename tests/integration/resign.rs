//! `ctl resign`: leadership moves to a standby on request of an operator.

use std::time::Duration;

use harness::{Behavior, Cluster, End, Setup, Timing, World, eventually};
use nix::sys::signal::Signal;

use crate::{shared_world, world_on};

fn resign(world: &World, flags: &[&str]) -> Setup {
    let operator = world
        .candidate("operator")
        .unset("STATUS_ENDPOINT")
        .unset("LOG")
        .command::<&str>([])
        .flag("ctl")
        .flag("resign");
    flags.iter().fold(operator, Setup::flag)
}

#[track_caller]
fn must(world: &World, flags: &[&str]) -> String {
    let (end, operator) = resign(world, flags).run();
    assert_eq!(end, End::Code(0), "{}", operator.stderr());
    operator.stdout()
}

#[track_caller]
fn refused(world: &World, flags: &[&str], code: i32, why: &str) {
    let (end, operator) = resign(world, flags).run();
    assert_eq!(end, End::Code(code), "{} {}", operator.stdout(), operator.stderr());
    let last = operator.stderr().lines().last().unwrap_or_default().to_owned();
    assert!(operator.stdout().is_empty() && last.contains(why), "{why}: {}", operator.stderr());
}

#[track_caller]
fn requests_are_made(world: &World, count: usize) {
    let prefix = format!("{}/~resign/", world.lock());
    eventually(Timing::START, "the request was made", || {
        let keys = world.keys()?;
        let made = keys.iter().filter(|key| key.name.starts_with(&prefix)).count();
        if made == count { Ok(()) } else { Err(format!("{keys:?}")) }
    });
}

#[track_caller]
fn no_request_remains(world: &World) {
    let keys = world.keys().expect("etcd answers");
    assert!(keys.iter().all(|key| !key.name.contains("~resign")), "{keys:?}");
}

#[test]
fn leadership_moves_to_the_next_standby_or_to_the_named_one() {
    let world = shared_world();
    let again = |name| world.candidate(name).set("ON_LOSS", "campaign");
    let (a, b) = crate::leader_and_standby(again("a"), again("b"));
    let c = again("c").start();
    c.waits();
    let said = must(&world, &[]);
    let token = b.leads_within(Timing::SWIFT);
    assert!(
        said.starts_with("handed over from a to b in ") && said.ends_with(&format!(" ms, token {token}\n")),
        "{said}"
    );
    a.logs("\"b\" made a handover request");
    a.waits();
    no_request_remains(&world);

    // Behind c in the queue.
    let moved: serde_json::Value = serde_json::from_str(&must(&world, &["--to=a", "--json"])).expect("JSON");
    assert_eq!((&moved["from"], &moved["to"]), (&"b".into(), &"a".into()), "{moved}");
    assert!(moved["token"].as_i64() > Some(token) && moved["milliseconds"].is_u64(), "{moved}");
    eventually(Timing::SWIFT, "a leads again", || if a.living().is_empty() { Err(a.stderr()) } else { Ok(()) });
    assert!(c.lives().is_empty());
    no_request_remains(&world);
    world.verdict();
}

#[test]
fn it_says_why_nobody_can_take_over() {
    let world = shared_world();
    let etcdctl = world.cluster().etcdctl();
    refused(&world, &[], 81, "nobody leads");
    let a = world.candidate("a").start();
    a.leads();
    refused(&world, &[], 81, "no standby can take over: nobody waits");
    refused(&world, &["--to=a"], 81, "a leads already");
    refused(&world, &["--to=x"], 81, "no standby has the identity x; there is none");
    let (end, operator) = resign(&world, &["--to="]).run();
    assert!(end == End::Code(64) && operator.stderr().contains("'' is blank"), "{}", operator.stderr());
    let lease = etcdctl.grant(Duration::from_secs(600));
    etcdctl.put(format!("{}/{lease:x}", world.lock()).as_bytes(), b"other", Some(lease));
    refused(
        &world,
        &[],
        81,
        "no standby can take over: the only other entry in the queue belongs to another etcd client",
    );
    let pause = format!("{}/~pause", world.lock());
    etcdctl.put(pause.as_bytes(), b"{}", Some(lease));
    refused(&world, &[], 81, "it is paused until an unknown time; end that with ctl resume first");
    crate::undisturbed(&a, Timing::LONG.retry);
    etcdctl.revoke(lease);

    let go = shared_world();
    let lease = etcdctl.grant(Duration::from_secs(600));
    etcdctl.put(go.lock().as_bytes(), b"go", Some(lease));
    refused(&go, &[], 81, "the leader, go, is the Go tool, which cannot be asked to hand over");
    etcdctl.revoke(lease);
    go.verdict();
    world.verdict();
}

#[test]
fn it_tells_that_it_waits_for_a_command_that_takes_time_to_stop() {
    let world = shared_world();
    let slow = world.candidate("a").behavior(Behavior::slow(Duration::from_secs(3)));
    let (_a, b) = crate::leader_and_standby(slow, world.candidate("b"));
    let (end, operator) = resign(&world, &[]).run();
    assert_eq!(end, End::Code(0), "{}", operator.stderr());
    assert_eq!(operator.stderr(), "waiting until a has stopped its command and hands over\n");
    assert!(operator.stdout().starts_with("handed over from a to b in 3"), "{}", operator.stdout());
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// The leader does not see the request, as it is frozen.
#[test]
fn a_request_is_withdrawn_if_it_is_interrupted_or_takes_too_long() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.pause();
    let operator = resign(&world, &[]).start();
    operator.logs_within(Timing::START, "waiting until a has stopped its command");
    operator.signal(Signal::SIGINT);
    assert_eq!(operator.wait_exit(Timing::SWIFT), End::Code(130));
    let told = operator.stderr();
    assert!(told.contains("to b: interrupted: the request is withdrawn, and a leads"), "{told}");
    no_request_remains(&world);
    refused(&world, &["--timeout=1"], 82, "no handover within 1s: the request is withdrawn, and a leads");
    no_request_remains(&world);
    a.resume();
    crate::undisturbed(&a, Timing::LONG.retry);
    assert!(b.lives().is_empty());
    world.verdict();
}

#[test]
fn it_reports_what_has_happened_instead() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").start();
    c.waits();
    let is_made = || requests_are_made(&world, 1);
    a.pause();
    let operator = resign(&world, &["--to=c"]).start();
    is_made();
    c.terminate();
    assert_eq!(operator.wait_exit(Timing::SWIFT), End::Code(82));
    assert!(operator.stderr().contains("c has left the queue, and a leads"), "{}", operator.stderr());

    let operator = resign(&world, &[]).start();
    is_made();
    let lease = world.cluster().etcdctl().grant(Duration::from_secs(60));
    world.cluster().etcdctl().put(format!("{}/~pause", world.lock()).as_bytes(), b"{}", Some(lease));
    assert_eq!(operator.wait_exit(Timing::SWIFT), End::Code(82));
    assert!(operator.stderr().contains("the lock was paused, and a leads"), "{}", operator.stderr());
    no_request_remains(&world);
    world.cluster().etcdctl().revoke(lease);
    a.resume();
    crate::undisturbed(&a, Timing::LONG.retry);

    // The leader dies before it has obeyed the request, so the standby claims the lock, which removes the request.
    a.pause();
    let operator = resign(&world, &[]).start();
    is_made();
    a.kill();
    b.leads_within(Timing::SWIFT);
    assert_eq!(operator.wait_exit(Timing::SWIFT), End::Code(0), "{}", operator.stderr());
    assert!(operator.stdout().starts_with("handed over from a to b in "), "{}", operator.stdout());
    no_request_remains(&world);
    world.verdict();
}

/// The leader obeys the oldest request.
#[test]
fn nothing_remains_of_a_request_if_another_standby_takes_over() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let c = world.candidate("c").start();
    c.waits();
    a.pause();
    let first = resign(&world, &["--to=c"]).start();
    requests_are_made(&world, 1);
    let second = resign(&world, &[]).start();
    requests_are_made(&world, 2);
    a.resume();
    c.leads_within(Timing::SWIFT);
    for (operator, begin) in [(first, "handed over from a to c in "), (second, "leadership moved from a to c in ")] {
        assert_eq!(operator.wait_exit(Timing::SWIFT), End::Code(0), "{}", operator.stderr());
        assert!(operator.stdout().starts_with(begin), "{}", operator.stdout());
    }
    no_request_remains(&world);
    assert!(b.lives().is_empty());
    world.verdict();
}

/// Another operator finds it, also among more requests than one read returns.
#[test]
fn a_request_remains_if_the_command_is_killed() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    let others = format!("{}/~resign/1/", world.lock());
    (0x100..0x140).for_each(|n| world.cluster().etcdctl().put(format!("{others}{n:x}").as_bytes(), b"x", None));
    a.pause();
    let killed = resign(&world, &[]).start();
    killed.logs_within(Timing::START, "waiting until a has stopped its command");
    killed.kill();
    assert_eq!(killed.wait_exit(Timing::SWIFT), End::Signal(Signal::SIGKILL as i32));
    let next = resign(&world, &[]).start();
    next.logs_within(Timing::START, "waiting until a has stopped its command");
    requests_are_made(&world, 65);
    a.resume();
    b.leads_within(Timing::SWIFT);
    assert_eq!(next.wait_exit(Timing::SWIFT), End::Code(0), "{}", next.stderr());
    world.cluster().etcdctl().must(&["del", "--prefix", &others]);
    no_request_remains(&world);
    world.verdict();
}

#[test]
fn it_survives_a_restart_of_etcd() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
    a.pause();
    let operator = resign(&world, &[]).start();
    operator.logs_within(Timing::START, "waiting until a has stopped its command");
    world.cluster().member(0).stop();
    world.cluster().member(0).start();
    world.cluster().wait_healthy();
    a.resume();
    b.leads_within(Timing::START);
    assert_eq!(operator.wait_exit(Timing::START), End::Code(0), "{}", operator.stderr());
    world.verdict();
}
