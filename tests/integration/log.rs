//! A log that is not read or cannot be written: lines may be lost, but never the lock.

use std::{
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use harness::{
    Behavior, Candidate, Disk, End, Terminal, Timing, eventually, process::children, throughout, wait::scaled,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgid},
};

use crate::{between, program, shared_world, shell_gatekeeper, undisturbed};

const TIMING: Timing = Timing::SHORT;

#[track_caller]
fn log_writer(candidate: &Candidate) -> i32 {
    let is_it =
        |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "log-writer\n");
    children(candidate.pid()).into_iter().find(is_it).expect("a log writer")
}

/// The log of a leader hangs when it is stopped or killed: its command still ends before another one starts.
#[test]
fn a_log_on_a_hung_file_system_does_not_delay_the_exit() {
    for kill in [false, true] {
        let world = shared_world();
        let Some(disk) = Disk::mount(world.directory()) else { return world.verdict() };
        let a = world.candidate("a").timing(TIMING).log_file(disk.path().join("log")).start();
        a.leads();
        a.logs_within(Timing::SWIFT, "command started");
        let b = world.candidate("b").timing(TIMING).start();
        b.waits();
        disk.freeze();
        let fault = harness::journal::now();
        if kill {
            a.kill()
        } else {
            a.terminate()
        }
        b.leads_within(Timing::SWIFT);
        let death = between(fault, a.lives()[0].to);
        eprintln!("gatekeeper killed: {kill}; its command died after {death:?}");
        assert!(death <= scaled(TIMING.earliest_stop()), "it was not the deadline that ended it: {death:?}");
        if !kill {
            assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
        }
        world.journal().assert_exclusive();
        disk.thaw();
        world.verdict();
    }
}

/// The leader is also cut off: the guard kills the command in time although its log is blocked.
#[test]
fn a_guard_with_a_blocked_log_keeps_its_deadlines() {
    let world = shared_world();
    let Some(disk) = Disk::mount(world.directory()) else { return world.verdict() };
    let proxies = world.proxies();
    let (a, b) = crate::leader_and_standby(
        world
            .candidate("a")
            .timing(TIMING)
            .via(&proxies)
            .behavior(Behavior::stubborn())
            .log_file(disk.path().join("log")),
        world.candidate("b").timing(TIMING),
    );
    disk.freeze();
    let fault = harness::journal::now();
    a.pause();
    b.leads_within(TIMING.latest_failover());
    let death = between(fault, a.lives()[0].to);
    assert!(death <= scaled(TIMING.latest_death()), "{death:?}");
    a.resume();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(79));
    world.journal().assert_exclusive();
    disk.thaw();
    world.verdict();
}

/// After Ctrl-S, or on a console that is not read, the leader continues, and later logs how many lines were lost.
#[test]
fn a_blocked_terminal_does_not_delay_the_election() {
    let world = shared_world();
    let terminal = Terminal::open();
    let a = world.candidate("a").timing(TIMING).set("LOG", "trace").stderr(terminal.slave()).start();
    a.leads();
    // At this level far more is logged within a lease than a terminal buffers.
    undisturbed(&a, 3 * TIMING.lease());
    eventually(Timing::SWIFT, "it is healthy", || match a.code("/healthz") {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    world.verdict();
}

/// The journal is a socket that can be written without blocking, so no log writer is needed. It adds the timestamps.
#[test]
fn journal_lines_have_a_priority_and_no_timestamp() {
    let world = shared_world();
    let (mut journal, stderr) = UnixStream::pair().expect("a pair");
    let stat = nix::sys::stat::fstat(&stderr).expect("a descriptor");
    let a = world
        .candidate("a")
        .variable("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
        .stderr(OwnedFd::from(stderr))
        .start();
    a.leads();
    let children = children(a.pid());
    assert_eq!(children, [a.guard_pid()], "no log writer");
    a.kill();
    let mut text = String::new();
    journal.read_to_string(&mut text).expect("all ends of it are closed at the end");
    for line in text.lines() {
        let words = line.strip_prefix("<4> WARN ").or_else(|| line.strip_prefix("<6> INFO "));
        assert!(words.is_some_and(|words| !words.starts_with("20")), "{line}");
    }
    for line in ["<4> WARN guard: the gatekeeper is gone", "<6> INFO revoked"] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
    }
    world.verdict();
}

/// The log goes through a pipe, but the command's stderr is that of the program.
#[test]
fn the_command_inherits_the_original_stderr_and_no_pipe_of_the_log_writer() {
    let world = shared_world();
    let script = "echo of the command >&2; readlink /proc/self/fd/2; ls /proc/$$/fd";
    let told = |setup: harness::Setup| {
        let (end, candidate) = setup.command(["sh", "-c", script]).run();
        assert_eq!(end, End::Code(0), "{}", candidate.stderr());
        assert!(candidate.stderr().lines().any(|line| line == "of the command"), "{}", candidate.stderr());
        let told = candidate.stdout();
        let (stderr, descriptors) = told.split_once('\n').expect("a line");
        assert!(stderr.ends_with(".stderr"), "{told}");
        descriptors.to_owned()
    };
    // Without settings the program is replaced by the command, whose descriptors are then those of the test runner.
    assert_eq!(told(world.candidate("gated")), told(world.candidate("bare").bare()));
    world.verdict();
}

/// The setting also applies to the guard.
#[test]
fn nothing_is_logged_at_level_off() {
    let world = shared_world();
    let a = world.candidate("a").set("LOG", "off").command(["sleep", "1000"]).start();
    eventually(Timing::START, "/leader is 200", || if a.code("/leader") == 200 { Ok(()) } else { Err(a.stderr()) });
    a.kill();
    world.no_keys_left_within(Timing::SWIFT);
    assert_eq!(a.stderr(), "");
    world.verdict();
}

/// The kernel's OOM killer may kill the log writer: the log ends, and nothing else.
#[test]
fn killing_the_log_writer_ends_the_log_and_nothing_else() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let _ = kill(Pid::from_raw(log_writer(&a)), Signal::SIGKILL);
    undisturbed(&a, TIMING.lease());
    a.terminate();
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    let _ = kill(Pid::from_raw(log_writer(&b)), Signal::SIGKILL);
    let c = world.candidate("c").timing(TIMING).start();
    c.waits();
    // The guard logs a line as well.
    b.kill();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

/// All processes of a unit or of a terminal's job receive the signal; the last lines are written all the same.
#[test]
fn the_last_lines_are_written_when_every_process_receives_the_signal() {
    let world = shared_world();
    for _ in 0..5 {
        let a = world.candidate("a").start();
        a.leads();
        let group = |pid| getpgid(Some(Pid::from_raw(pid))).expect("a group");
        assert_ne!(group(log_writer(&a)), group(a.pid()), "SIGKILL to a group cannot be blocked");
        let below = children(a.pid());
        for pid in below.into_iter().chain([a.pid()]) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
        let log = a.stderr();
        assert!(log.lines().last().is_some_and(|last| last.contains("revoked lease")), "{log}");
    }
    world.verdict();
}

/// A log file at its size limit must not cause SIGXFSZ, which would end the program or the command.
#[test]
fn a_log_file_at_its_size_limit_loses_lines_but_not_the_command() {
    let world = shared_world();
    let limited =
        shell_gatekeeper(&world, "limited", &format!("ulimit -S -f 4; exec '{}' -- \"$@\"", program().display()));
    let command = ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"];
    let log = world.directory().join("limited.log");
    let a = world.candidate("a").program(limited).command(command).set("LOG", "trace").log_file(&log).start();
    let size = || std::fs::metadata(&log).map_or(0, |file| file.len());
    let full = eventually(Timing::START, "the log is full", || match size() {
        full @ (2048 | 4096) => Ok(full),
        other => Err(other.to_string()),
    });
    eventually(Timing::START, "/leader is 200", || if a.code("/leader") == 200 { Ok(()) } else { Err(a.stderr()) });
    // Another renewal is logged.
    throughout(Timing::LONG.retry * 2, "it leads", || match (a.code("/leader"), size()) {
        (200, size) if size == full => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let unlimited = nix::libc::rlimit { rlim_cur: nix::libc::RLIM_INFINITY, rlim_max: nix::libc::RLIM_INFINITY };
    // SAFETY: sets one limit, without reading the old one.
    let raised = unsafe {
        nix::libc::prlimit(log_writer(&a), nix::libc::RLIMIT_FSIZE, &raw const unlimited, std::ptr::null_mut())
    };
    assert_eq!(raised, 0);
    a.logs_within(Timing::SWIFT, "log lines: File too large");
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(7));
    world.verdict();
}
