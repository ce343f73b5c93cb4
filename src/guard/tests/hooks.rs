//! The programs before and after the command.

use super::*;

/// They have the environment of the command and no input, and what they leave behind is ended before the next program starts.
#[test]
fn hooks_run_one_after_the_other() {
    in_own_process("hooks::hooks_run_one_after_the_other", |directory| {
        let file = directory.join("file").display().to_string();
        let hook = |name: &str, then: &str| {
            let script = format!("read x; echo {name} $ETCD_LOCK_REV $x $? >>{file}; {then}");
            Some(executable(&["sh", "-c", &script]))
        };
        let left = format!(
            "(trap 'echo left >>{file}; exit' TERM; echo ready >>{file}; while :; do sleep 0.02; done) & \
                            until grep -q ready {file}; do sleep 0.02; done"
        );
        let setup = GuardSetup {
            on_elected: hook("before", &left),
            on_stopped: hook("after", "exit 3"),
            ..shell(&format!("echo command >>{file}; exit 5"))
        };
        let ended = CommandEnd::Exited(5);
        with_guard(setup, async |handle, _| {
            let deadlines = within(5000, 6000);
            handle.order(start_order(deadlines, 7));
            let mut reports = rest_of_term(handle).await;
            reports.retain(|report| !matches!(report, Report::Fed(_) | Report::Started(_)));
            let starting = [Program::OnElected, Program::Command, Program::OnStopped].map(Report::Starting);
            let [before, command, after] = starting;
            assert_eq!(reports, [before, command, Report::Ended(ended), after, Report::TreeExited(ended)]);
        });
        let lines = fs::read_to_string(&file).expect("a file");
        assert_eq!(lines, "before 7 1\nready\nleft\ncommand\nafter 7 1\n");
        assert!(logged(directory).contains("ON_STOPPED failed: it ended with exit code 3"), "{}", logged(directory));
    });
}

/// The order to stop waits in the socket when ON_ELECTED is found to have exited.
#[test]
fn a_guard_that_was_frozen_during_on_elected_starts_nothing_after_a_stop() {
    const NAME: &str = "hooks::a_guard_that_was_frozen_during_on_elected_starts_nothing_after_a_stop";
    in_own_process(NAME, |directory| {
        let (ready, started) = (directory.join("ready"), directory.join("started"));
        let setup = GuardSetup {
            on_elected: Some(executable(&["sh", "-c", &format!("echo $$ >{}; sleep 0.2", ready.display())])),
            ..shell(&format!("echo >{}", started.display()))
        };
        with_guard(setup, async |handle, guard| {
            handle.order(start_order(within(20_000, 21_000), 1));
            let hook = pid_in(&ready);
            kill(guard, Signal::SIGSTOP).expect("stopped");
            handle.order(Order::Signal(nix::libc::SIGWINCH));
            handle.order(Order::Stop);
            eventually("ON_ELECTED has exited", || is_dead(hook).then_some(()));
            kill(guard, Signal::SIGCONT).expect("continued");
            let reports = rest_of_term(handle).await;
            assert_eq!(reports.last(), Some(&Report::TreeExited(CommandEnd::NotStarted)), "{reports:?}");
        });
        assert!(!started.exists());
    });
}

#[test]
fn a_hook_that_hangs_is_dead_at_the_deadline() {
    in_own_process("hooks::a_hook_that_hangs_is_dead_at_the_deadline", |_| {
        for (before, command, killed) in
            [(DEAF, "exit 0", CommandEnd::NotStarted), ("exit 0", "exit 5", CommandEnd::Exited(5))]
        {
            let setup = GuardSetup {
                stop_grace: Duration::from_secs(60),
                on_elected: Some(executable(&["sh", "-c", before])),
                on_stopped: Some(executable(&["sh", "-c", DEAF])),
                ..shell(command)
            };
            with_guard(setup, async |handle, _| {
                let deadlines = within(200, 500);
                handle.order(start_order(deadlines, 1));
                let reports = rest_of_term(handle).await;
                assert!(reports.contains(&Report::Ending(Reason::KillDeadline)), "{reports:?}");
                assert_eq!(reports.last(), Some(&Report::TreeExited(killed)));
                let late = Instant::now().saturating_since(deadlines.kill_at);
                assert!(late > Duration::ZERO && late < ms(2000), "{late:?} after the deadline");
            });
        }
    });
}
