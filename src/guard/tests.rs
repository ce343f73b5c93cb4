//! The guard with real processes.
//!
//! A guard kills and reaps all its descendants, so it cannot share a process with other tests. Each test therefore runs twice:
//! the test starts its own executable once more for this test only ([`scene::in_own_process`]). The second run, recognized by a
//! variable, is the gatekeeper and makes the assertions; the first run passes if the second one did.

mod checks;
mod hooks;
mod scene;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use nix::{
    libc::{self, SIGHUP, SIGKILL, SIGSTOP, SIGTERM},
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use self::scene::*;
use super::{signals::Signals, spawn::exit_of, *};
use crate::core::{clock::Instant, exit_code::Exit, timing::Deadlines};

#[test]
fn the_commands_own_code_or_signal_comes_back_in_term_after_term() {
    in_own_process("the_commands_own_code_or_signal_comes_back_in_term_after_term", |_| {
        with_guard(shell("exit $ETCD_LOCK_REV"), async |handle, _| {
            for code in [0, 1, 2, 42, 64, 77, 126, 127, 128, 200, 255] {
                handle.order(start_order(within(5000, 6000), code.into()));
                let end = CommandEnd::Exited(code);
                assert_eq!(rest_of_term(handle).await[2..], [Report::Ended(end), Report::TreeExited(end)]);
            }
        });
        with_guard(shell("kill -$ETCD_LOCK_REV $$"), async |handle, _| {
            // Real-time signals too.
            for signal in [1, 2, 6, 9, 13, 15, 31, 34, 64] {
                handle.order(start_order(within(5000, 6000), signal.into()));
                let end = CommandEnd::Signaled(signal);
                assert_eq!(rest_of_term(handle).await[2..], [Report::Ended(end), Report::TreeExited(end)]);
            }
        });
    });
}

#[test]
fn a_missing_program_and_one_that_cannot_be_executed_are_told_apart() {
    in_own_process("a_missing_program_and_one_that_cannot_be_executed_are_told_apart", |directory| {
        let file = directory.join("file");
        let file = file.to_str().expect("UTF-8");
        for (text, program, mode, end, reason) in [
            ("exit 9", "/nonexistent", 0o644, CommandEnd::NotFound, "No such file or directory"),
            ("exit 9", file, 0o644, CommandEnd::NotExecutable, "Permission denied"),
            ("#!/nonexistent", file, 0o755, CommandEnd::NotFound, "the interpreter that its first line names"),
            // A script without `#!`.
            ("exit 9", file, 0o755, CommandEnd::Exited(9), ""),
        ] {
            let logged_before = logged(directory).len();
            fs::write(file, text).expect("write");
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("chmod");
            with_guard(setup(&[program]), async |handle, _| {
                handle.order(start_order(within(5000, 6000), 1));
                assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(end)), "{program}");
            });
            let logged = logged(directory).split_off(logged_before);
            assert!(logged.contains(reason) && logged.contains("WARN") != reason.is_empty(), "{logged}");
        }
    });
}

#[test]
fn without_feeds_a_command_that_ignores_sigterm_is_dead_at_the_deadline() {
    in_own_process("without_feeds_a_command_that_ignores_sigterm_is_dead_at_the_deadline", |_| {
        let patient = GuardSetup { stop_grace: Duration::from_secs(60), ..shell(DEAF) };
        with_guard(patient, async |handle, _| {
            let deadlines = within(200, 500);
            started(handle, deadlines).await;
            let end = CommandEnd::Signaled(SIGKILL as u8);
            assert_eq!(
                rest_of_term(handle).await,
                [
                    Report::Ending(Reason::RenewDeadline),
                    Report::Ending(Reason::KillDeadline),
                    Report::Ended(end),
                    Report::TreeExited(end)
                ]
            );
            let late = Instant::now().saturating_since(deadlines.kill_at);
            assert!(late > Duration::ZERO && late < ms(1000), "{late:?} after the deadline");
        });
    });
}

#[test]
fn fed_it_runs_on() {
    in_own_process("fed_it_runs_on", |_| {
        with_guard(shell("sleep 0.8; exit 4"), async |handle, _| {
            started(handle, within(200, 300)).await;
            for _ in 0..10 {
                tokio::time::sleep(ms(50)).await;
                handle.order(Order::Feed(within(200, 300)));
            }
            handle.order(Order::Feed(within(5000, 6000)));
            let reports = rest_of_term(handle).await;
            assert_eq!(reports.last(), Some(&Report::TreeExited(CommandEnd::Exited(4))));
            assert!(!reports.iter().any(|report| matches!(report, Report::Ending(_))));
        });
    });
}

#[test]
fn a_daemon_of_the_command_is_ended_before_the_tree_has_exited() {
    in_own_process("a_daemon_of_the_command_is_ended_before_the_tree_has_exited", |directory| {
        let file = directory.join("pid");
        let script = format!(
            "setsid sh -c 'setsid sh -c \"{}\" & exit 0' &
             while ! test -e {}; do sleep 0.01; done; exit 3",
            DEAF.replace('\'', "\\\"")
                .replace("; while", &format!("; echo \\$\\$ > {0}.new; mv {0}.new {0}; while", file.display())),
            file.display(),
        );
        with_guard(shell(&script), async |handle, _| {
            started(handle, within(10_000, 11_000)).await;
            assert_eq!(handle.report().await, Report::Ended(CommandEnd::Exited(3)));
            let daemon = pid_in(&file);
            assert!(!is_dead(daemon));
            kill(daemon, Signal::SIGSTOP).expect("stopped");
            assert_eq!(handle.report().await, Report::Ending(Reason::StopGrace));
            assert_eq!(handle.report().await, Report::TreeExited(CommandEnd::Exited(3)));
            assert!(is_dead(daemon));
        });
    });
}

#[test]
fn orphans_are_asked_to_stop_at_any_depth() {
    in_own_process("orphans_are_asked_to_stop_at_any_depth", |directory| {
        let at = |name: &str| directory.join(name).display().to_string();
        let polite = format!("trap '> {}; exit' TERM; > {}; while :; do sleep 0.02; done", at("asked"), at("ready"));
        fs::write(at("polite"), polite).expect("write");
        fs::write(at("between"), format!("trap : TERM; sh {}; sleep 100", at("polite"))).expect("write");
        let script = format!("setsid sh {} & until test -e {}; do sleep 0.01; done", at("between"), at("ready"));
        with_guard(shell(&script), async |handle, _| {
            started(handle, within(10_000, 11_000)).await;
            assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Exited(0))));
            assert!(fs::exists(at("asked")).expect("a directory"));
        });
    });
}

#[test]
fn a_fork_bomb_is_ended() {
    alone_in_own_process("a_fork_bomb_is_ended", |directory| {
        // Each process starts the next, in a session of its own, and ends. So many that it would take a minute: a test
        // that fails must not leave it to the machine for ever.
        let bomb = directory.join("bomb");
        fs::write(&bomb, "#!/bin/sh\ntrap '' TERM\ntest $1 -gt 0 && setsid \"$0\" $(($1 - 1)) &\n").expect("write");
        fs::set_permissions(&bomb, fs::Permissions::from_mode(0o755)).expect("chmod");
        let script = format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do {} 3000 & done; sleep 100", bomb.display());
        with_guard(shell(&script), async |handle, _| {
            let deadlines = within(500, 700);
            started(handle, deadlines).await;
            let reports = rest_of_term(handle).await;
            assert!(matches!(reports.last(), Some(Report::TreeExited(_))), "{reports:?}");
            let late = Instant::now().saturating_since(deadlines.kill_at);
            assert!(late < Duration::from_secs(2), "{late:?} after the deadline");
        });
    });
}

#[test]
fn signals_reach_the_command_and_sigterm_begins_the_grace() {
    in_own_process("signals_reach_the_command_and_sigterm_begins_the_grace", |directory| {
        let ready = directory.join("ready");
        let script = format!(
            "trap 'hup=1' HUP; trap 'exit $((20 + hup))' TERM; > {}; while :; do sleep 0.01; done",
            ready.display()
        );
        with_guard(shell(&script), async |handle, _| {
            started(handle, within(10_000, 11_000)).await;
            eventually("ready", || ready.exists().then_some(()));
            handle.order(Order::Signal(SIGHUP));
            tokio::time::sleep(ms(50)).await;
            handle.order(Order::Signal(SIGTERM));
            assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Exited(21))));
        });
        let deaf = directory.join("deaf");
        with_guard(shell(&deaf_and_says_so(&deaf)), async |handle, _| {
            started(handle, within(10_000, 11_000)).await;
            eventually("deaf", || deaf.exists().then_some(()));
            handle.order(Order::Stop);
            assert_eq!(handle.report().await, Report::Ending(Reason::StopGrace));
            assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Signaled(9))));
        });
    });
}

#[test]
fn a_leader_cannot_be_suspended() {
    in_own_process("a_leader_cannot_be_suspended", |directory| {
        let often = "for i in 1 2 3 4 5 6 7 8 9; do kill -TSTP $$; done; exit 5";
        with_guard(shell(often), async |handle, _| {
            started(handle, within(5000, 6000)).await;
            assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Exited(5))));
        });
        assert_eq!(logged(directory).matches("cannot be suspended").count(), 1, "{}", logged(directory));
    });
}

/// The feeds that wait in the socket say how long the lock is held.
#[test]
fn a_guard_that_was_frozen_past_a_deadline_goes_on_if_it_was_fed_meanwhile() {
    const NAME: &str = "a_guard_that_was_frozen_past_a_deadline_goes_on_if_it_was_fed_meanwhile";
    in_own_process(NAME, |_| {
        with_guard(shell("sleep 1; exit 4"), async |handle, guard| {
            let deadlines = within(50, 4000);
            started(handle, deadlines).await;
            kill(guard, Signal::SIGSTOP).expect("stopped");
            // Two feeds wait behind another order, and the deadline of the first has passed, too.
            let passed = Deadlines { stop_at: deadlines.stop_at + ms(1), ..deadlines };
            handle.order(Order::Signal(nix::libc::SIGWINCH));
            handle.order(Order::Feed(passed));
            handle.order(Order::Feed(within(4000, 4100)));
            eventually("both have passed", || (Instant::now() > passed.stop_at + ms(10)).then_some(()));
            kill(guard, Signal::SIGCONT).expect("continued");
            let reports = rest_of_term(handle).await;
            assert_eq!(reports.last(), Some(&Report::TreeExited(CommandEnd::Exited(4))));
            assert!(!reports.iter().any(|report| matches!(report, Report::Ending(_))), "{reports:?}");
        });
    });
}

#[test]
fn the_command_has_the_terminal_and_gives_it_back() {
    const NAME: &str = "the_command_has_the_terminal_and_gives_it_back";
    let Some(directory) = env::var_os(DIRECTORY) else {
        let directory = tempfile::tempdir().expect("a directory");
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        nix::unistd::write(&terminal.master, b"typed\n").expect("typed");
        let run = second_run(NAME, "", directory.path());
        let mut in_terminal = Command::new("setsid");
        in_terminal
            .args(["--ctty", "--wait"])
            .arg(run.get_program())
            .args(run.get_args())
            .env(DIRECTORY, directory.path());
        in_terminal.stdin(terminal.slave);
        let (status, output) = ending(in_terminal, directory.path());
        assert!(status.success() && directory.path().join("done").exists(), "{status}\n{output}");
        return;
    };
    let (group, foreground) = (nix::unistd::getpgrp(), || nix::unistd::tcgetpgrp(std::io::stdin()));
    assert_eq!(foreground(), Ok(group));
    // In the background the command would be stopped when it reads.
    with_guard(shell("read line; test \"$line\" = typed && kill -TTOU $$ 2>&1; exit 6"), async |handle, _| {
        let command = started(handle, within(5000, 6000)).await;
        assert_ne!(command, group);
        eventually("the command in the foreground", || (foreground() == Ok(command)).then_some(()));
        // By then the shell has read the line and stopped itself.
        eventually("a stopped command", || is_stopped(command).then_some(()));
        handle.order(Order::Signal(nix::libc::SIGCONT));
        assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Exited(6))));
        assert_eq!(foreground(), Ok(group));
    });
    fs::write(Path::new(&directory).join("done"), "").expect("write");
}

/// Without free descriptors the fork fails, so no SIGCHLD wakes the guard.
#[test]
fn a_command_that_cannot_be_forked_is_reported_at_once() {
    in_own_process("a_command_that_cannot_be_forked_is_reported_at_once", |_| {
        with_guard(shell("exit 0"), async |handle, guard| {
            let end = CommandEnd::NotStarted;
            // This one is too late to be started. The report shows that the guard has opened all its own descriptors.
            handle.order(start_order(within(0, 0), 1));
            assert_eq!(rest_of_term(handle).await, [Report::TreeExited(end)]);
            // Enough for `poll`, which has the same limit.
            let few = nix::libc::rlimit { rlim_cur: 4, rlim_max: 4 };
            // SAFETY: reads one limit; the old one is not asked for.
            let limited = unsafe {
                nix::libc::prlimit(guard.as_raw(), nix::libc::RLIMIT_NOFILE, &raw const few, std::ptr::null_mut())
            };
            assert_eq!(limited, 0);
            handle.order(start_order(within(60_000, 70_000), 2));
            // There is no grace that has to pass first.
            let reports: Vec<_> = rest_of_term(handle).await;
            let reports: Vec<_> = reports.into_iter().filter(|report| !matches!(report, Report::Fed(_))).collect();
            assert_eq!(reports, [Report::Ended(end), Report::TreeExited(end)]);
        });
    });
}

#[test]
fn a_frozen_guard_is_killed_and_its_tree_with_it() {
    in_own_process("a_frozen_guard_is_killed_and_its_tree_with_it", |directory| {
        let file = directory.join("pid");
        let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 100' & {DEAF}", file.display());
        with_guard(shell(&script), async |handle, guard| {
            let deadlines = within(300, 600);
            let command = started(handle, deadlines).await;
            let daemon = pid_in(&file);
            kill(guard, Signal::try_from(SIGSTOP).expect("a signal")).expect("stopped");
            assert_eq!(handle.report().await, Report::GuardLost);
            let late = Instant::now().saturating_since(deadlines.kill_at);
            assert!(late > Duration::ZERO && late < ms(1000), "{late:?} after the deadline");
            assert!(is_dead(command) && is_dead(daemon) && is_dead(guard));
        });
    });
}

#[test]
fn a_killed_guard_takes_its_tree_with_it() {
    in_own_process("a_killed_guard_takes_its_tree_with_it", |directory| {
        let file = directory.join("pid");
        let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 100' & {DEAF}", file.display());
        with_guard(shell(&script), async |handle, guard| {
            let command = started(handle, within(60_000, 70_000)).await;
            let daemon = pid_in(&file);
            kill(guard, Signal::SIGKILL).expect("killed");
            assert_eq!(handle.report().await, Report::GuardLost);
            assert!(is_dead(command) && is_dead(daemon));
        });
    });
}

#[test]
fn after_a_killed_gatekeeper_the_command_is_dead_and_the_lease_revoked() {
    const NAME: &str = "after_a_killed_gatekeeper_the_command_is_dead_and_the_lease_revoked";
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        let deaf = deaf_and_says_so(&directory.join("deaf"));
        let script =
            format!("setsid sh -c 'echo $$ > {}; exec sleep 100' & {deaf}", directory.join("daemon").display());
        let revoke = Box::new(revoker(directory.clone()));
        with_guard(GuardSetup { revoke, ..shell(&script) }, async |handle, _| {
            handle.order(Order::Lease(Some(LEASE)));
            let command = started(handle, within(60_000, 70_000)).await;
            handle.order(Order::Cluster(7));
            fs::write(directory.join("command"), command.to_string()).expect("write");
            rest_of_term(handle).await;
        });
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let mut gatekeeper =
        second_run(NAME, "", directory.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    let (command, daemon) = (pid_in(&at("command")), pid_in(&at("daemon")));
    eventually("deaf", || at("deaf").exists().then_some(()));
    gatekeeper.kill().expect("killed");
    assert_eq!(gatekeeper.wait().expect("reaped").signal(), Some(SIGKILL));

    let revoked = eventually("the lease revoked", || fs::read_to_string(at("revoked")).ok());
    assert_eq!(revoked, "2a, command is dead: true, daemon is dead: true");
    assert_eq!(fs::read_to_string(at("prepared")).expect("prepared"), "cluster 7, command is dead: false");
    assert!(is_dead(command) && is_dead(daemon));
}

/// Returns a revoker that writes what it knows before and after it learns the lease.
fn revoker(directory: PathBuf) -> impl Fn(Option<u64>, Awaited<'_>) -> bool {
    move |cluster, awaited| {
        let write = |name: &str, text: String| write(&directory, name, &text);
        let is_dead = |name: &str| is_dead(pid_in(&directory.join(name)));
        let cluster = cluster.map_or_else(String::new, |id| id.to_string());
        write("prepared", format!("cluster {cluster}, command is dead: {}", is_dead("command")));
        let Ok(Some(lease)) = crate::system::runtime::run(awaited.lease()) else { return false };
        let (command, daemon) = (is_dead("command"), is_dead("daemon"));
        write("revoked", format!("{lease}, command is dead: {command}, daemon is dead: {daemon}"));
        true
    }
}

/// It is killed while it waits for the process tree to exit, or when it has learned the lease.
#[test]
fn a_revoker_that_dies_is_replaced() {
    const NAME: &str = "a_revoker_that_dies_is_replaced";
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        let script = format!("trap '' TERM; until test -e {}; do sleep 0.02; done", directory.join("go").display());
        let revoke: Revoke = Box::new({
            let directory = directory.clone();
            move |_, awaited| {
                let write = |name: &str, text: &str| write(&directory, name, text);
                write("revoker", &Pid::this().to_string());
                let Ok(Some(lease)) = crate::system::runtime::run(awaited.lease()) else { return false };
                if env::var_os("DIES_LATE").is_some() && !directory.join("learned").exists() {
                    write("learned", "");
                    kill(Pid::this(), Signal::SIGKILL).expect("killed");
                }
                write("revoked", &format!("{lease} by {}", Pid::this()));
                true
            }
        });
        let setup = GuardSetup { revoke, stop_grace: Duration::from_secs(60), ..shell(&script) };
        with_guard(setup, async |handle, guard| {
            handle.order(Order::Lease(Some(LEASE)));
            started(handle, within(60_000, 70_000)).await;
            write(&directory, "guard", &guard.to_string());
            rest_of_term(handle).await;
        });
        return;
    }
    for dies_late in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let mut gatekeeper = second_run(NAME, "", directory.path());
        gatekeeper.stdout(Stdio::null()).stderr(Stdio::null()).envs(dies_late.then_some(("DIES_LATE", "1")));
        let mut gatekeeper = gatekeeper.spawn().expect("runs");
        let guard = pid_in(&at("guard"));
        gatekeeper.kill().expect("killed");
        gatekeeper.wait().expect("reaped");
        let revoker = pid_in(&at("revoker"));
        if !dies_late {
            kill(revoker, Signal::SIGKILL).expect("killed");
            eventually("the revoker is dead", || is_dead(revoker).then_some(()));
        }
        assert!(!is_dead(guard) && !at("revoked").exists(), "the command runs");
        write(directory.path(), "go", "");

        let revoked = eventually("the lease revoked", || fs::read_to_string(at("revoked")).ok());
        let other = pid_in(&at("revoker"));
        assert_eq!(revoked, format!("2a by {other}"));
        assert_ne!(other, revoker);
        eventually("the guard has exited", || is_dead(guard).then_some(()));
    }
}

/// A revoker that hangs delays neither the stop nor the kill. A guard whose revokers have died exits.
#[test]
fn the_command_is_ended_in_time_whatever_the_revoker_does() {
    const NAME: &str = "the_command_is_ended_in_time_whatever_the_revoker_does";
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        let revoke: Revoke = match env::var("REVOKER").expect("a variable").as_str() {
            "hangs" => Box::new(|_, _| {
                loop {
                    thread::park()
                }
            }),
            // SAFETY: ends a process that a guard has forked.
            "dies" => Box::new(|_, _| unsafe { libc::_exit(1) }),
            _ => Box::new(|_, _| panic!("a defect")),
        };
        with_guard(GuardSetup { revoke, ..shell(DEAF) }, async |handle, guard| {
            handle.order(Order::Lease(Some(LEASE)));
            let command = started(handle, within(60_000, 70_000)).await;
            fs::write(directory.join("guard"), guard.to_string()).expect("write");
            fs::write(directory.join("command"), command.to_string()).expect("write");
            rest_of_term(handle).await;
        });
        return;
    }
    for revoker in ["hangs", "dies", "panics"] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut gatekeeper = second_run(NAME, "", directory.path())
            .env("REVOKER", revoker)
            // It takes a second on a busy machine, and both revokers panic.
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("runs");
        let command = pid_in(&directory.path().join("command"));
        let guard = pid_in(&directory.path().join("guard"));
        gatekeeper.kill().expect("killed");
        gatekeeper.wait().expect("reaped");
        let killed = Instant::now();
        eventually("the command is dead", || is_dead(command).then_some(()));
        // The stop grace is 300 ms.
        assert!(Instant::now().saturating_since(killed) < Duration::from_secs(5), "{revoker}");
        if revoker != "hangs" {
            eventually("the guard has exited", || is_dead(guard).then_some(()));
            assert!(Instant::now().saturating_since(killed) < Duration::from_secs(5), "{revoker}");
        }
    }
}

#[test]
fn the_command_finds_mask_and_dispositions_as_they_were() {
    const NAME: &str = "the_command_finds_mask_and_dispositions_as_they_were";
    for ignored in ["", "HUP PIPE", "PIPE", "USR1", "CHLD"] {
        let shell = if ignored.is_empty() { String::new() } else { format!("trap '' {ignored}") };
        in_own_process_from(
            &format!("{shell}\ncat /proc/self/status > $GUARD_TEST_DIRECTORY/before"),
            NAME,
            |directory| {
                let after = directory.join("after");
                let script = format!("exec cat /proc/self/status > {}", after.display());
                with_guard(scene::shell(&script), async |handle, _| {
                    started(handle, within(5000, 6000)).await;
                    rest_of_term(handle).await;
                });
                let signals = |file: &Path| {
                    // The C library uses 32 and 33 as soon as there is a second thread.
                    let status = fs::read_to_string(file).expect("a status");
                    [("SigBlk:", 0), ("SigIgn:", 3 << 31), ("SigCgt:", 3 << 31)].map(|(field, taken)| {
                        let set = status.lines().find_map(|line| line.strip_prefix(field)).expect("in each status");
                        u64::from_str_radix(set.trim(), 16).expect("hexadecimal") & !taken
                    })
                };
                assert_eq!(signals(&after), signals(&directory.join("before")));
            },
        );
    }
}

/// If SIGCHLD is ignored, which is inherited, the kernel reaps the children, and the guard would not see the command end.
#[test]
fn the_end_is_seen_although_the_caller_ignores_sigchld() {
    in_own_process_from("trap '' CHLD", "the_end_is_seen_although_the_caller_ignores_sigchld", |_| {
        with_guard(shell("exit 9"), async |handle, _| {
            started(handle, within(5000, 6000)).await;
            assert_eq!(rest_of_term(handle).await.last(), Some(&Report::TreeExited(CommandEnd::Exited(9))));
        });
    });
}

#[test]
fn the_command_finds_the_lock_in_its_environment_and_no_descriptor_of_ours() {
    const NAME: &str = "the_command_finds_the_lock_in_its_environment_and_no_descriptor_of_ours";
    in_own_process_from("exec 7</dev/null; ls /proc/self/fd > $GUARD_TEST_DIRECTORY/fds", NAME, |directory| {
        let (found, fds) = (directory.join("env"), directory.join("fds-of-command"));
        let script = format!("env > {}; ls /proc/self/fd > {}", found.display(), fds.display());
        with_guard(shell(&script), async |handle, _| {
            handle.order(start_order(within(5000, 6000), 77));
            rest_of_term(handle).await;
        });
        let found = fs::read_to_string(found).expect("an environment");
        let ours: BTreeSet<_> =
            found.lines().filter(|line| line.starts_with("ETCD_") || line.starts_with("NOTIFY")).collect();
        assert_eq!(
            ours,
            BTreeSet::from([
                "ETCD_AWAIT_ELECTION_FENCING_TOKEN=77",
                "ETCD_AWAIT_ELECTION_LEADER_KEY=a/lock",
                "ETCD_AWAIT_ELECTION_LEASE_ID=2a",
                "ETCD_LOCK_KEY=a/lock",
                "ETCD_LOCK_REV=77",
            ])
        );
        let list = |file: &Path| fs::read_to_string(file).expect("a list");
        assert_eq!(list(&fds), list(&directory.join("fds")));
    });
}

#[test]
fn orphans_of_the_gatekeeper_are_reaped_and_the_guard_is_not() {
    in_own_process("orphans_of_the_gatekeeper_are_reaped_and_the_guard_is_not", |_| {
        let guarded = start(shell("exit 0")).expect("a guard");
        let (reaper, guard) = (guarded.reaper(), guarded.pid);
        let orphan = Command::new("true").spawn().expect("runs").id();
        eventually("reaped", || {
            reaper.reap_orphans();
            (!fs::exists(format!("/proc/{orphan}")).expect("/proc")).then_some(())
        });
        drop(guarded);
        eventually("the guard has left", || is_dead(guard).then_some(()));
        reaper.reap_orphans();
        assert_eq!(waitpid(guard, None), Ok(WaitStatus::Exited(guard, 0)));
    });
}

/// Signals about limits of this process are not forwarded; the same signals from another process are.
#[test]
fn a_signal_about_a_limit_of_this_process_is_not_forwarded() {
    in_own_process("a_signal_about_a_limit_of_this_process_is_not_forwarded", |directory| {
        let mut full = fs::File::create(directory.join("full")).expect("a file");
        // SAFETY: the thread that runs the tests only waits here; this needs a process in which no thread takes the signals.
        let ForkResult::Parent { child } = unsafe { fork() }.expect("a child") else {
            let passes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| limits(&mut full)));
            // SAFETY: ends this process without what the test runner would run at its exit.
            unsafe { libc::_exit(i32::from(passes.is_err())) }
        };
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    });
}

fn limits(full: &mut fs::File) {
    let signals = Signals::open().expect("a descriptor");
    let read = || std::iter::from_fn(|| signals.read()).find(|signal| *signal != libc::SIGCHLD);
    let is_pending = |signal: i32| {
        let status = fs::read_to_string("/proc/self/status").expect("/proc");
        status
            .lines()
            .filter_map(|line| line.split_once("Pnd:\t"))
            .any(|(_, pending)| u64::from_str_radix(pending, 16).expect("a set of signals") & 1 << (signal - 1) != 0)
    };
    limit(libc::RLIMIT_FSIZE, 0);
    assert_eq!(full.write(b"x").map_err(|error| error.raw_os_error()), Err(Some(libc::EFBIG)));
    assert!(is_pending(libc::SIGXFSZ));
    assert_eq!(read(), None);
    limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);

    limit(libc::RLIMIT_CPU, 1);
    let until = Instant::now() + Duration::from_secs(30);
    while !is_pending(libc::SIGXCPU) {
        assert!(Instant::now() < until, "no SIGXCPU");
    }
    limit(libc::RLIMIT_CPU, libc::RLIM_INFINITY);
    assert_eq!(read(), None);

    for signal in [libc::SIGXFSZ, libc::SIGXCPU] {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} $PPID")]).status().expect("a shell");
        assert!(sent.success());
        assert_eq!(read(), Some(signal));
    }
}

/// Sets the soft limit only, as the hard limit cannot be raised again.
fn limit(what: impl Into<i64>, value: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: reads one structure that lives through the call.
    let set = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, what.into(), &raw const limit, std::ptr::null_mut::<libc::rlimit>())
    };
    assert_eq!(set, 0);
}

#[test]
fn without_an_election_the_process_becomes_the_command() {
    const NAME: &str = "without_an_election_the_process_becomes_the_command";
    if env::var_os(DIRECTORY).is_some() {
        panic!(
            "not executed: {:?}",
            exec(&["sh".into(), "-c".into(), "exit $1".into(), "sh".into(), "7".into()], &Original::save())
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (status, output) = ending(second_run(NAME, "", directory.path()), directory.path());
    assert_eq!(status.code(), Some(7), "{output}");
    let fails = |program: &str| exit_of(exec(&[program.into()], &Original::save())).code();
    assert_eq!((fails("/nonexistent"), fails("/etc/passwd"), fails("/etc"), fails("")), (127, 126, 126, 127));
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    assert!(resolve("sh".as_ref()).expect("a shell").is_absolute());
    assert_eq!(resolve("/bin/sh".as_ref()), Ok("/bin/sh".into()));
    assert_eq!(resolve("no-such-program".as_ref()).map_err(exit_of), Err(Exit::NotFound));
    assert_eq!(resolve("/etc/passwd/x".as_ref()).map_err(exit_of), Err(Exit::NotFound));
}
