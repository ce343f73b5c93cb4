//! Signals to the gatekeeper: which of them are forwarded, and that none is lost or ends the program.

use std::{ffi::OsString, fs};

use harness::{End, Terminal, Timing, eventually};
use nix::{libc, sys::signal::Signal};

use crate::{shared_world, undisturbed};

/// Sends any signal, also one without a name in libc.
fn send(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

/// The guard is frozen for a moment, while the gatekeeper receives more signals than the socket can buffer.
#[test]
fn sigterm_is_not_lost_behind_other_signals_while_the_guard_is_frozen() {
    let world = shared_world();
    let mut command: Vec<OsString> =
        ["sh", "-c", "trap '' 40; exec \"$@\"", "sh"].into_iter().map(Into::into).collect();
    command.extend_from_slice(world.journaled());
    let a = world.candidate("a").command(command).start();
    a.leads();
    a.signal_guard(Signal::SIGSTOP);
    for _ in 0..1000 {
        send(a.pid(), 40);
    }
    // The lower number would come first.
    eventually(Timing::SWIFT, "the gatekeeper has accepted all of them", || {
        let status = fs::read_to_string(format!("/proc/{}/status", a.pid())).map_err(|error| error.to_string())?;
        if status.contains("ShdPnd:\t0000000000000000") { Ok(()) } else { Err(status) }
    });
    a.terminate();
    eventually(Timing::SWIFT, "the gatekeeper has seen SIGTERM", || match a.stderr() {
        log if log.contains("received a shutdown request") => Ok(()),
        log => Err(log),
    });
    a.signal_guard(Signal::SIGCONT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0), "{}", a.stderr());
    assert!(a.lives()[0].asked.is_some());
    world.verdict();
}

/// The journaling command has threads, for which glibc handles this signal itself.
const GLIBC_SETXID: i32 = 33;

/// C libraries reserve some signals: 32 and 33, musl also 34.
#[test]
fn signals_reserved_by_a_c_library_are_forwarded() {
    for signal in [32, 33, 34, 64] {
        let world = shared_world();
        let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b"));
        send(b.pid(), signal);
        send(b.guard_pid(), signal);
        send(a.guard_pid(), signal);
        undisturbed(&a, Timing::LONG.retry / 4);
        send(a.pid(), signal);
        let end = if signal == GLIBC_SETXID {
            undisturbed(&a, Timing::LONG.retry / 4);
            a.terminate();
            0
        } else {
            128 + signal
        };
        assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(end), "{}", a.stderr());
        b.leads_within(Timing::SWIFT);
        world.verdict();
    }
}

/// A closed terminal cannot be detected afterwards.
#[test]
fn a_standby_leaves_the_queue_when_its_terminal_closes() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let terminal = Terminal::open();
    let b = world.candidate("b").on(&terminal).start();
    b.waits();
    drop(terminal);
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGHUP as i32), "{}", b.stderr());
    undisturbed(&a, Timing::LONG.retry / 4);
    world.verdict();
}
