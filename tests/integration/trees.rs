//! Commands that are hard to end: they ignore SIGTERM, fork, and daemonize.

use std::{ffi::OsString, time::Duration};

use harness::{Behavior, End, Timing, process};
use nix::sys::signal::Signal;

use crate::shared_world;

/// A command, two children in its group and a daemon, all of which ignore SIGTERM.
fn stubborn_tree() -> Behavior {
    Behavior { stubborn: true, children: 2, daemon: true, ..Behavior::default() }
}

/// The number of processes of [`stubborn_tree`].
const STUBBORN_TREE_SIZE: usize = 4;

/// Starts a leader with `behavior` and a standby, causes `fault` and lets the standby lead: by then the leader's
/// process tree has exited, which the oracle checks.
fn standby_takes_over(
    behavior: Behavior,
    count: usize,
    timing: Timing,
    limit: Duration,
    fault: impl Fn(&harness::Candidate),
) {
    let world = shared_world();
    let a = world.candidate("a").timing(timing).behavior(behavior).start();
    a.leads();
    harness::eventually(Timing::START, "the whole tree runs", || match a.living().len() {
        living if living == count => Ok(()),
        living => Err(format!("{living} processes")),
    });
    let b = world.candidate("b").timing(timing).start();
    b.waits();
    fault(&a);
    b.leads_within(limit);
    assert!(a.living().is_empty(), "{:?}", a.living());
    a.resume();
    a.wait_exit(Timing::START);
    world.verdict();
}

fn standby_outwaits_stubborn_tree(timing: Timing, limit: Duration, fault: impl Fn(&harness::Candidate)) {
    standby_takes_over(stubborn_tree(), STUBBORN_TREE_SIZE, timing, limit, fault);
}

const SHORT_GRACE: Timing = Timing { grace: Duration::from_secs(1), ..Timing::LONG };

#[test]
fn a_command_that_ignores_sigterm_is_killed_after_the_grace_period() {
    standby_takes_over(
        Behavior::stubborn(),
        1,
        SHORT_GRACE,
        SHORT_GRACE.grace + Timing::SWIFT,
        harness::Candidate::terminate,
    );
}

#[test]
fn a_standby_starts_only_after_the_tree_has_exited_after_sigterm() {
    standby_outwaits_stubborn_tree(SHORT_GRACE, SHORT_GRACE.grace + Timing::SWIFT, harness::Candidate::terminate);
}

#[test]
fn a_standby_starts_only_after_the_tree_has_exited_after_sigkill_of_the_gatekeeper() {
    standby_outwaits_stubborn_tree(SHORT_GRACE, SHORT_GRACE.grace + Timing::SWIFT, harness::Candidate::kill);
}

#[test]
fn a_standby_starts_only_after_the_tree_has_exited_after_sigkill_of_the_guard() {
    standby_outwaits_stubborn_tree(SHORT_GRACE, SHORT_GRACE.grace + Timing::SWIFT, |a| a.signal_guard(Signal::SIGKILL));
}

#[test]
fn a_standby_starts_only_after_the_tree_of_a_frozen_gatekeeper_has_exited() {
    standby_outwaits_stubborn_tree(Timing::SHORT, Timing::SHORT.latest_failover(), harness::Candidate::pause);
}

#[test]
fn a_standby_starts_only_after_the_tree_of_a_frozen_guard_has_exited() {
    standby_outwaits_stubborn_tree(Timing::SHORT, Timing::SHORT.latest_failover(), |a| a.signal_guard(Signal::SIGSTOP));
}

/// The main process exits by itself; its descendants do not outlive leadership.
#[test]
fn descendants_of_an_exited_command_are_ended_before_the_handover() {
    let world = shared_world();
    let leaves = Behavior { exit: Some((3, Duration::from_millis(500))), ..stubborn_tree() };
    let a = world.candidate("a").timing(SHORT_GRACE).behavior(leaves).start();
    a.leads();
    let b = world.candidate("b").start();
    b.leads_within(Timing::START + SHORT_GRACE.grace);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(3));
    assert_eq!(a.lives().len(), STUBBORN_TREE_SIZE);
    world.verdict();
}

/// Starts `script` beside the journaling command, and lets b lead when a is stopped: by then the whole process tree has
/// exited, also processes that do not write to the journal.
fn tree_exits_before_takeover(script: &str, count: usize) {
    let world = shared_world();
    let mut command: Vec<OsString> =
        vec!["sh".into(), "-c".into(), format!("{script}\nexec \"$@\"").into(), "sh".into()];
    command.extend_from_slice(world.journaled());
    let a = world.candidate("a").timing(SHORT_GRACE).command(command).start();
    a.leads();
    let mine = format!("{}=a", harness::journaled::NAME);
    let journal = world.journal().path().display().to_string();
    let left = || {
        let of_journal = process::with_environment(&journal);
        let mine: Vec<i32> =
            process::with_environment(&mine).into_iter().filter(|pid| of_journal.contains(pid)).collect();
        mine.into_iter()
            .filter(|&pid| pid != a.pid() && process::children(a.pid()).iter().all(|&guard| guard != pid))
            .count()
    };
    harness::eventually(Timing::START, "the whole tree runs", || match left() {
        living if living >= count => Ok(()),
        living => Err(format!("{living} processes")),
    });
    let b = world.candidate("b").start();
    b.waits();
    a.terminate();
    b.leads_within(SHORT_GRACE.grace + Timing::START);
    assert_eq!(left(), 0);
    a.wait_exit(Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_standby_starts_only_after_a_tree_of_five_hundred_has_exited() {
    // Some in the group and some not, all of which ignore SIGTERM.
    tree_exits_before_takeover(
        "trap '' TERM; i=0; while [ $i -lt 250 ]; do sleep 300 & setsid sleep 300 & i=$((i+1)); done",
        501,
    );
}

/// Each process of these chains forks the next one and exits at once. None lives long enough to be seen, but each
/// writes a mark.
#[test]
fn a_standby_starts_only_after_a_rapidly_forking_tree_has_exited() {
    let world = shared_world();
    let marks = world.directory().join("marks");
    let chain = world.directory().join("chain");
    // dash limits the depth of functions to 1000. The size of the file ends chains that a broken guard leaves behind.
    let script = "run() { [ $1 -lt 900 ] || exec sh \"$0\"; printf . >>\"$MARKS\"; run $(($1+1)) & }\n\
                  [ $(wc -c <\"$MARKS\") -gt 400000 ] || run 0\n";
    std::fs::write(&marks, "").and_then(|()| std::fs::write(&chain, script)).expect("written");
    let run = format!("sh '{}' & ", chain.display());
    let script = format!("trap '' TERM INT HUP; setsid {run} setsid {run} {run} {run} exec \"$@\"");
    let mut command: Vec<OsString> = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
    command.extend_from_slice(world.journaled());
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(SHORT_GRACE).command(command).variable("MARKS", &marks),
        world.candidate("b"),
    );
    let count = || std::fs::metadata(&marks).map_or(0, |file| file.len());
    let grows = |limit| {
        let before = count();
        harness::eventually(limit, "the chains continue", || match count() {
            now if now > before => Ok(()),
            now => Err(format!("{now} marks")),
        });
    };
    grows(Timing::START);
    a.terminate();
    // The chains continue in the grace period.
    grows(SHORT_GRACE.grace / 2);
    b.leads_within(SHORT_GRACE.grace + Timing::START);
    let last = count();
    harness::throughout(Duration::from_millis(300), "no chain continues", || match count() {
        now if now == last => Ok(()),
        now => Err(format!("{} more marks", now - last)),
    });
    a.wait_exit(Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_configured_stop_signal_is_used() {
    let world = shared_world();
    let a = world.candidate("a").set("STOP_SIGNAL", "INT").start();
    a.leads();
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    assert!(a.lives()[0].asked.is_some());
    world.verdict();
}

/// As with `tini`, signals to the gatekeeper reach the command.
#[test]
fn other_signals_are_forwarded_to_the_command() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    a.signal(Signal::SIGUSR1);
    // The journaling command does not handle this signal, which ends it.
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(128 + 10));
    world.verdict();
}
