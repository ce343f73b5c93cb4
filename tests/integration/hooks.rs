//! ON_ELECTED and ON_STOPPED: they run in order, once per term, and never beside a command of another instance.
//!
//! Both write to the journal as the command does, so the oracle finds a hook that runs beside another term.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use harness::{Behavior, Candidate, End, Setup, Timing, World, eventually};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::shared_world;

const SHORT_GRACE: Timing = Timing { grace: Duration::from_secs(1), ..Timing::LONG };
const MOMENT: Duration = Duration::from_millis(300);

/// Returns a hook that notes its name, the instance and the token, and then is a journaling process with this behavior.
fn hook(world: &World, name: &str, behavior: &Behavior) -> String {
    let words: Vec<_> = world.journaled().iter().map(|word| word.to_str().expect("UTF-8")).collect();
    format!(
        "sh -c 'echo {name} $ETCD_AWAIT_ELECTION_IDENTITY $ETCD_AWAIT_ELECTION_FENCING_TOKEN >>{}; \
         JOURNALED_BEHAVIOR=\"{}\" exec {}'",
        notes(world).display(),
        behavior.encode(),
        words.join(" ")
    )
}

fn notes(world: &World) -> std::path::PathBuf {
    world.directory().join("hooks")
}

/// Returns the hooks of an instance that ran, in their order.
fn ran(world: &World, instance: &str) -> Vec<String> {
    let text = fs::read_to_string(notes(world)).unwrap_or_default();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.filter(|words| words[1] == instance).map(|words| words[0].to_owned()).collect()
}

fn takes(time: Duration) -> Behavior {
    Behavior::exits(0, time)
}

/// An instance with both hooks, each of which takes a moment.
fn with_hooks(world: &World, name: &str) -> Setup {
    world
        .candidate(name)
        .set("ON_ELECTED", hook(world, "on-elected", &takes(MOMENT)))
        .set("ON_STOPPED", hook(world, "on-stopped", &takes(MOMENT)))
}

#[track_caller]
fn has_run(world: &World, instance: &str, hooks: &[&str]) {
    eventually(Timing::START, &format!("{instance} has run {hooks:?}"), || match ran(world, instance) {
        ran if ran == hooks => Ok(()),
        ran => Err(format!("{ran:?}")),
    });
}

/// Starts a leader and a standby, causes `ending`, and lets the standby lead. Returns the leader.
#[track_caller]
fn after(world: &World, a: Setup, limit: Duration, ending: impl Fn(&Candidate)) -> Arc<Candidate> {
    let a = a.start();
    has_run(world, "a", &["on-elected"]);
    // The command, and not only the hook.
    a.logs("command started");
    a.leads();
    let b = with_hooks(world, "b").start();
    b.waits();
    ending(&a);
    b.leads_within(limit + MOMENT);
    assert!(a.living().is_empty(), "{:?}", a.living());
    a.resume();
    a
}

const BOTH: [&str; 2] = ["on-elected", "on-stopped"];
/// The handover after a stop, with ON_STOPPED.
const HANDOVER: Duration = Timing::SWIFT.saturating_add(MOMENT);

#[test]
fn hooks_run_after_sigterm_in_order_and_with_the_token() {
    let world = shared_world();
    let a = after(&world, with_hooks(&world, "a"), HANDOVER, Candidate::terminate);
    has_run(&world, "a", &BOTH);
    let notes = fs::read_to_string(notes(&world)).expect("notes");
    let lines: Vec<Vec<_>> = notes.lines().map(|line| line.split(' ').collect()).collect();
    let token = |line: &[&str]| line[2].parse::<i64>().expect("a token");
    assert_eq!([lines[0][1], lines[1][1], lines[2][1]], ["a", "a", "b"], "{notes}");
    assert!(token(&lines[0]) == token(&lines[1]) && token(&lines[1]) < token(&lines[2]), "{notes}");
    a.wait_exit(Timing::START);
    world.verdict();
}

#[test]
fn on_stopped_runs_after_the_command_has_exited_or_was_killed() {
    let world = shared_world();
    let exits = with_hooks(&world, "a").behavior(Behavior::exits(3, Duration::from_secs(1)));
    let a = after(&world, exits, HANDOVER + Duration::from_secs(2), |_| {});
    has_run(&world, "a", &BOTH);
    assert_eq!(a.wait_exit(Timing::START), End::Code(3));
    world.verdict();

    let world = shared_world();
    let a = after(&world, with_hooks(&world, "a"), HANDOVER, |a| {
        kill(Pid::from_raw(a.command_pid()), Signal::SIGKILL).expect("killed");
    });
    has_run(&world, "a", &BOTH);
    assert_eq!(a.wait_exit(Timing::START), End::Code(137));
    world.verdict();
}

#[test]
fn on_stopped_runs_after_a_command_that_cannot_be_started() {
    let world = shared_world();
    let script = world.directory().join("script");
    fs::write(&script, "#!/nonexistent/interpreter\n").expect("a file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    let (end, a) = with_hooks(&world, "a").command([&script]).run();
    assert_eq!(end, End::Code(127));
    assert_eq!(ran(&world, "a"), BOTH);
    assert!(a.stderr().contains("could not execute the command"), "{}", a.stderr());
    world.verdict();
}

/// The next leader, whose ON_ELECTED may have run by then, does not wait for it.
#[test]
fn on_stopped_does_not_run_after_an_operator_has_revoked_the_lease() {
    let world = shared_world();
    let a = with_hooks(&world, "a").start();
    a.logs("command started");
    world.cluster().etcdctl().revoke(world.holder().lease);
    assert_eq!(a.wait_exit(HANDOVER), End::Code(79));
    assert_eq!(ran(&world, "a"), BOTH[..1]);
    world.verdict();
}

#[test]
fn on_stopped_runs_after_the_stop_grace() {
    let world = shared_world();
    let stubborn = with_hooks(&world, "a").timing(SHORT_GRACE).behavior(Behavior::stubborn());
    after(&world, stubborn, SHORT_GRACE.grace + HANDOVER, Candidate::terminate);
    has_run(&world, "a", &BOTH);
    world.verdict();
}

#[test]
fn on_stopped_runs_before_a_handover_on_request() {
    let world = shared_world();
    let a = with_hooks(&world, "a").start();
    a.logs("command started");
    let b = with_hooks(&world, "b").force().start();
    b.leads_within(HANDOVER + Timing::START);
    has_run(&world, "a", &BOTH);
    assert_eq!(a.wait_exit(Timing::START), End::Code(79));
    world.verdict();
}

#[test]
fn on_stopped_runs_after_the_gatekeeper_was_killed_and_not_after_the_guard_was() {
    let world = shared_world();
    after(&world, with_hooks(&world, "a"), HANDOVER, Candidate::kill);
    has_run(&world, "a", &BOTH);
    world.verdict();

    let world = shared_world();
    let a = after(&world, with_hooks(&world, "a"), HANDOVER, |a| a.signal_guard(Signal::SIGKILL));
    assert_eq!(a.wait_exit(Timing::START), End::Code(70));
    assert_eq!(ran(&world, "a"), ["on-elected"]);
    world.verdict();
}

#[test]
fn on_stopped_runs_after_the_gatekeeper_was_killed_during_on_elected() {
    let world = shared_world();
    let runs_on = hook(&world, "on-elected", &Behavior::default());
    let a = with_hooks(&world, "a").set("ON_ELECTED", runs_on).start();
    a.leads();
    let b = with_hooks(&world, "b").start();
    b.waits();
    a.kill();
    b.leads_within(HANDOVER);
    assert_eq!(ran(&world, "a"), BOTH);
    assert!(!a.stderr().contains("command started"), "{}", a.stderr());
    world.verdict();
}

#[test]
fn on_stopped_does_not_run_after_the_guard_was_frozen_or_both_were_killed() {
    let both: fn(&Candidate) = |a| {
        let guard = a.guard_pid();
        // So that it does nothing between the two kills.
        a.signal_guard(Signal::SIGSTOP);
        a.kill();
        let _ = kill(Pid::from_raw(guard), Signal::SIGKILL);
    };
    for ending in [|a: &Candidate| a.signal_guard(Signal::SIGSTOP), both] {
        let world = shared_world();
        after(&world, with_hooks(&world, "a").timing(Timing::SHORT), Timing::SHORT.latest_failover(), ending);
        assert_eq!(ran(&world, "a"), BOTH[..1]);
        world.verdict();
    }
}

/// It is killed with its guard, and leadership is not given up before.
#[test]
fn an_on_stopped_whose_guard_is_killed_is_dead_before_the_next_leader_starts() {
    let world = shared_world();
    let runs_on = hook(&world, "on-stopped", &Behavior { children: 1, daemon: true, ..Behavior::stubborn() });
    let a = after(&world, with_hooks(&world, "a").set("ON_STOPPED", runs_on), HANDOVER, |a| {
        a.terminate();
        has_run(&world, "a", &BOTH);
        a.signal_guard(Signal::SIGKILL);
    });
    a.wait_exit(Timing::START);
    world.verdict();
}

/// The gatekeeper is frozen, so nothing is renewed.
#[test]
fn on_stopped_runs_after_the_renew_deadline_and_not_after_the_kill_deadline() {
    for (behavior, hooks) in [(Behavior::default(), &BOTH[..]), (Behavior::stubborn(), &BOTH[..1])] {
        let world = shared_world();
        let a = with_hooks(&world, "a").timing(Timing::SHORT).behavior(behavior);
        after(&world, a, Timing::SHORT.latest_failover(), Candidate::pause);
        assert_eq!(ran(&world, "a"), hooks);
        world.verdict();
    }
}

#[test]
fn an_on_stopped_that_hangs_is_killed_before_the_lease_can_expire() {
    let world = shared_world();
    let hangs = hook(&world, "on-stopped", &Behavior { children: 1, daemon: true, ..Behavior::stubborn() });
    let a = with_hooks(&world, "a").timing(Timing::SHORT).set("ON_STOPPED", hangs);
    // The lease is renewed meanwhile, so leadership is handed over.
    let a = after(&world, a, Timing::SHORT.latest_death() + Timing::SWIFT, Candidate::terminate);
    has_run(&world, "a", &BOTH);
    a.logs("ON_STOPPED did not exit before the lease could have expired");
    world.verdict();
}

#[test]
fn if_on_elected_fails_another_instance_leads_and_this_one_campaigns_again() {
    let world = shared_world();
    let go = world.directory().join("go");
    let fails = format!(
        "sh -c 'echo on-elected a 0 >>{}; until test -e {}; do sleep 0.02; done; exit 4'",
        notes(&world).display(),
        go.display()
    );
    let a = with_hooks(&world, "a").set("ON_ELECTED", fails).start();
    has_run(&world, "a", &BOTH[..1]);
    let b = with_hooks(&world, "b").start();
    b.waits();
    fs::write(go, "").expect("a file");
    b.logs_within(Timing::START, "command started");
    a.logs("ON_ELECTED failed: it ended with exit code 4");
    a.logs("the command was not started, as ON_ELECTED failed");
    a.logs("joining the queue again in 2s");
    has_run(&world, "a", &BOTH);
    a.waits();
    assert!(!a.stderr().contains("command started"), "{}", a.stderr());
    world.verdict();
}

#[test]
fn a_stop_during_on_elected_ends_it() {
    let world = shared_world();
    let runs_on = hook(&world, "on-elected", &Behavior::default());
    let a = with_hooks(&world, "a").set("ON_ELECTED", runs_on).start();
    a.leads();
    a.terminate();
    assert_eq!(a.wait_exit(HANDOVER), End::Code(143));
    assert_eq!(ran(&world, "a"), BOTH);
    assert!(a.living().is_empty() && !a.stderr().contains("command started"), "{}", a.stderr());
    world.verdict();
}

#[test]
fn a_hook_that_cannot_be_executed_is_reported_at_the_start() {
    let world = shared_world();
    for (hook, text, code, line) in [
        ("ON_ELECTED", "/nonexistent/mount a", 127, "the command of ON_ELECTED /nonexistent/mount was not found"),
        ("ON_STOPPED", "/etc/passwd", 126, "the command of ON_STOPPED /etc/passwd cannot be executed"),
        ("ON_STOPPED", "sh -c 'a", 64, "is not a valid command line"),
    ] {
        let (end, a) = world.candidate("a").set(hook, text).run();
        assert_eq!(end, End::Code(code), "{text}");
        assert!(a.stderr().contains(line), "{}", a.stderr());
    }
    world.verdict();
}
