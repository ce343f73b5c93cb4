//! Tests of each rule, and of the guarantee for random sequences of events.

use nix::libc::{SIGHUP, SIGKILL, SIGQUIT};
use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const LEASE: LeaseId = LeaseId(0x2a);

const fn at(seconds: u64) -> Instant {
    Instant::from_boot(Duration::from_secs(seconds))
}

const fn until(term: u64, kill: u64) -> Deadlines {
    Deadlines { stop_at: at(term), kill_at: at(kill) }
}

const fn start(deadlines: Deadlines) -> Event {
    Event::Order(Order::Start { deadlines, token: 7, lease: LEASE })
}

const fn report(report: Report) -> Action {
    Action::Report(report)
}

const STARTS: [Action; 2] = [Action::Begin { token: 7, lease: LEASE }, Action::Run(Program::Command)];
const STOPS: [Action; 2] = [Action::Signal(SIGQUIT), Action::Signal(SIGCONT)];

fn idle() -> Switch {
    Switch::new(SIGQUIT, GRACE, Hooks::default())
}

/// Started at 0, stop signal at 10, SIGKILL at 14.
fn running() -> Switch {
    let mut switch = idle();
    switch.on(Event::Order(Order::Lease(Some(LEASE))), at(0));
    assert_eq!(switch.on(start(until(10, 14)), at(0)), STARTS);
    assert_eq!(switch.on(Event::Started(99), at(0)), [report(Report::Started(99)), report(Report::Fed(until(10, 14)))]);
    switch
}

#[test]
fn without_feeds_it_stops_at_stop_at_and_kills_at_kill_at() {
    let mut switch = running();
    assert_eq!(switch.next_wake(), Some(at(10)));
    assert_eq!(switch.on(Event::Woken, at(9)), []);
    let [signal, cont] = STOPS;
    assert_eq!(switch.on(Event::Woken, at(10)), [signal, cont, report(Report::Ending(Reason::RenewDeadline))]);
    assert_eq!(switch.next_wake(), Some(at(14)));
    assert_eq!(switch.on(Event::Woken, at(13)), []);
    assert_eq!(switch.on(Event::Woken, at(14)), [Action::KillTree, report(Report::Ending(Reason::KillDeadline))]);
    assert_eq!(switch.next_wake(), Some(at(14) + Switch::ROUND));
    assert_eq!(switch.on(Event::Woken, at(14) + Switch::ROUND), [Action::KillTree]);
}

#[test]
fn a_guard_that_wakes_after_both_deadlines_kills_before_it_handles_the_event() {
    for event in [
        Event::Woken,
        Event::Order(Order::Feed(until(100, 104))),
        Event::Order(Order::Signal(SIGHUP)),
        Event::Order(Order::Stop),
        Event::GatekeeperGone,
        start(until(100, 104)),
    ] {
        let actions = running().on(event, at(20));
        assert_eq!(actions[..2], [Action::KillTree, report(Report::Ending(Reason::KillDeadline))], "{event:?}");
        assert!(!actions.contains(&STARTS[1]));
    }
}

#[test]
fn a_feed_moves_both_deadlines_and_never_backwards() {
    let mut switch = running();
    let fed = |term, kill| [report(Report::Fed(until(term, kill)))];
    assert_eq!(switch.on(Event::Order(Order::Feed(until(12, 16))), at(2)), fed(12, 16));
    assert_eq!(switch.on(Event::Order(Order::Feed(until(11, 15))), at(3)), fed(12, 16));
    assert_eq!(switch.on(Event::Order(Order::Feed(until(11, 17))), at(3)), fed(12, 17));
    assert_eq!(switch.next_wake(), Some(at(12)));
}

#[test]
fn a_feed_does_not_cancel_a_stop_but_moves_kill_at() {
    let mut switch = running();
    switch.on(Event::Woken, at(10));
    assert_eq!(switch.on(Event::Order(Order::Feed(until(100, 104))), at(11)), [report(Report::Fed(until(100, 104)))]);
    assert_eq!(switch.next_wake(), Some(at(20)), "the grace from the stop signal on");
    assert_eq!(switch.on(Event::Woken, at(20)), [Action::KillTree, report(Report::Ending(Reason::StopGrace))]);
}

/// The feed was sent in time and says how long the lock is held.
#[test]
fn a_feed_that_is_read_between_the_deadlines_keeps_the_command_from_being_stopped() {
    let mut switch = running();
    let feed = |term, kill| Event::Order(Order::Feed(until(term, kill)));
    assert_eq!(switch.on(feed(20, 24), at(12)), [report(Report::Fed(until(20, 24)))]);
    assert_eq!(switch.on(Event::Woken, at(13)), []);
    let [signal, cont] = STOPS;
    let ending = report(Report::Ending(Reason::RenewDeadline));
    let late = [signal, cont, ending, report(Report::Fed(until(21, 25)))];
    assert_eq!(switch.on(feed(21, 25), at(22)), late, "that one has passed, too");
    assert_eq!(switch.next_wake(), Some(at(25)));
}

#[test]
fn a_start_that_comes_too_late_starts_nothing() {
    for (term, kill) in [(5, 9), (1, 2), (9, 5)] {
        let mut switch = idle();
        assert_eq!(switch.on(start(until(term, kill)), at(5)), [report(Report::TreeExited(CommandEnd::NotStarted))]);
        assert_eq!(switch.next_wake(), None);
    }
}

#[test]
fn a_second_start_is_invalid_and_stops_the_first() {
    let mut switch = running();
    let [signal, cont] = STOPS;
    assert_eq!(
        switch.on(start(until(100, 104)), at(1)),
        [signal, cont, Action::PrepareRelease(None), report(Report::Ending(Reason::GatekeeperGone))]
    );
}

#[test]
fn stop_sends_the_stop_signal_and_kills_at_the_grace_or_the_deadline() {
    let mut switch = running();
    assert_eq!(switch.on(Event::Order(Order::Stop), at(1)), STOPS);
    assert_eq!(switch.on(Event::Order(Order::Stop), at(2)), []);
    assert_eq!(switch.next_wake(), Some(at(11)));
    assert_eq!(switch.on(Event::Woken, at(11)), [Action::KillTree, report(Report::Ending(Reason::StopGrace))]);

    let mut switch = running();
    switch.on(Event::Order(Order::Stop), at(8));
    assert_eq!(switch.on(Event::Woken, at(10)), [], "it has the stop signal already");
    assert_eq!(switch.next_wake(), Some(at(14)), "the deadline is before the end of the grace");
}

#[test]
fn signals_are_forwarded_and_sigterm_and_the_stop_signal_begin_a_stop() {
    let signal = |signal| Event::Order(Order::Signal(signal));
    for asks in [SIGTERM, SIGQUIT] {
        let mut switch = running();
        assert_eq!(switch.on(signal(SIGHUP), at(0)), [Action::Signal(SIGHUP)]);
        assert_eq!(switch.next_wake(), Some(at(10)));
        assert_eq!(switch.on(signal(asks), at(1)), STOPS);
        assert_eq!(switch.on(signal(asks), at(2)), [Action::Signal(SIGQUIT)]);
        assert_eq!(switch.next_wake(), Some(at(11)), "the grace does not start again");
        switch.on(Event::MainEnded(CommandEnd::Exited(0)), at(3));
        assert_eq!(switch.on(signal(asks), at(4)), [], "its pid may be another process's by now");
        assert_eq!(switch.on(signal(SIGKILL), at(4)), []);
    }
}

#[test]
fn orphans_are_ended_and_a_new_term_can_begin() {
    let mut switch = running();
    let end = CommandEnd::Exited(3);
    assert_eq!(switch.on(Event::MainEnded(end), at(1)), [Action::StopTree, report(Report::Ended(end))]);
    assert_eq!(switch.next_wake(), Some(at(11)));
    assert_eq!(switch.on(Event::Woken, at(11)), [Action::KillTree, report(Report::Ending(Reason::StopGrace))]);
    assert_eq!(switch.on(Event::TreeExited, at(11)), [Action::KillTree, report(Report::TreeExited(end))]);
    assert_eq!(switch.next_wake(), None);
    assert_eq!(switch.on(start(until(30, 34)), at(20)), STARTS);
    assert_eq!(switch.on(Event::TreeExited, at(20)), [], "an event from before the start");
}

#[test]
fn without_a_gatekeeper_it_stops_the_command_revokes_the_lease_and_exits() {
    let mut switch = running();
    switch.on(Event::Order(Order::Cluster(7)), at(1));
    let [signal, cont] = STOPS;
    assert_eq!(
        switch.on(Event::GatekeeperGone, at(1)),
        [signal, cont, Action::PrepareRelease(Some(7)), report(Report::Ending(Reason::GatekeeperGone))]
    );
    assert_eq!(switch.on(Event::GatekeeperGone, at(1)), []);
    let end = CommandEnd::Signaled(3);
    switch.on(Event::MainEnded(end), at(2));
    assert_eq!(
        switch.on(Event::TreeExited, at(2)),
        [report(Report::TreeExited(end)), Action::Release(LEASE), Action::Exit]
    );
    assert_eq!(switch.on(start(until(30, 34)), at(20)), []);
}

#[test]
fn without_a_command_it_exits_at_once() {
    let lease = |lease| Event::Order(Order::Lease(lease));
    let mut switch = idle();
    switch.on(lease(Some(LEASE)), at(0));
    assert_eq!(
        switch.clone().on(Event::GatekeeperGone, at(1)),
        [Action::PrepareRelease(None), Action::Release(LEASE), Action::Exit]
    );
    assert_eq!(switch.clone().on(Event::Order(Order::Dismiss), at(1)), [Action::Exit], "the gatekeeper owns the lease");
    switch.on(lease(None), at(1));
    assert_eq!(switch.on(Event::GatekeeperGone, at(1)), [Action::Exit]);
}

#[test]
fn when_dismissed_it_stops_the_command_first() {
    let mut switch = running();
    assert_eq!(switch.on(Event::Order(Order::Dismiss), at(1)), STOPS);
    switch.on(Event::MainEnded(CommandEnd::Exited(0)), at(2));
    assert_eq!(switch.on(Event::TreeExited, at(2)), [report(Report::TreeExited(CommandEnd::Exited(0))), Action::Exit]);
}

#[test]
fn a_tree_that_does_not_exit_is_logged_seldom_and_heartbeats_are_reported() {
    let mut switch = running();
    let (mut rounds, mut beats, mut warnings) = (0, 0, Vec::new());
    switch.on(Event::Woken, at(14));
    for _ in 0..10_000 {
        let Some(now) = switch.next_wake().filter(|now| *now < at(14 + 130)) else { break };
        for action in switch.on(Event::Woken, now) {
            match action {
                Action::KillTree => rounds += 1,
                Action::Report(Report::Fed(_)) => beats += 1,
                Action::WarnNotExited(tried) => warnings.push(tried.as_secs()),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert_eq!(warnings, [5, 65, 125]);
    assert!((1000..3000).contains(&rounds), "{rounds}");
    assert!((100..=130).contains(&beats), "{beats}");
}

const RUNS_COMMAND: [Action; 2] = [report(Report::Starting(Program::Command)), Action::Run(Program::Command)];
const RUNS_ON_STOPPED: [Action; 2] = [report(Report::Starting(Program::OnStopped)), Action::Run(Program::OnStopped)];
const OK: CommandEnd = CommandEnd::Exited(0);

/// ON_ELECTED was started at 0, with the deadlines 10 and 14.
fn preparing() -> Switch {
    let mut switch = Switch::new(SIGQUIT, GRACE, Hooks { on_elected: true, on_stopped: true });
    switch.on(Event::Order(Order::Lease(Some(LEASE))), at(0));
    let [begins, _] = STARTS;
    let first = Program::OnElected;
    assert_eq!(
        switch.on(start(until(10, 14)), at(0)),
        [begins, report(Report::Starting(first)), Action::Run(first)],
        "the gatekeeper is told before"
    );
    assert_eq!(switch.on(Event::Started(98), at(0)), [report(Report::Fed(until(10, 14)))]);
    switch
}

/// The same, and the command was started at 1.
fn prepared() -> Switch {
    let mut switch = preparing();
    assert_eq!(switch.on(Event::MainEnded(OK), at(1)), [Action::StopTree]);
    assert_eq!(switch.on(Event::TreeExited, at(1)), RUNS_COMMAND);
    assert_eq!(switch.next_wake(), Some(at(10)), "the grace of ON_ELECTED has ended with it");
    assert_eq!(switch.on(Event::Started(99), at(1)), [report(Report::Started(99)), report(Report::Fed(until(10, 14)))]);
    switch
}

/// The same, and ON_STOPPED was started at 3.
fn cleaning() -> Switch {
    let mut switch = prepared();
    let end = CommandEnd::Exited(3);
    assert_eq!(switch.on(Event::MainEnded(end), at(2)), [Action::StopTree, report(Report::Ended(end))]);
    assert_eq!(switch.on(Event::TreeExited, at(3)), RUNS_ON_STOPPED);
    assert_eq!(switch.on(Event::Started(100), at(3)), [report(Report::Fed(until(10, 14)))]);
    switch
}

/// What a hook costs where it is not set.
#[test]
fn without_hooks_a_term_has_one_program_and_no_further_report() {
    let mut switch = running();
    let end = CommandEnd::Exited(3);
    assert_eq!(switch.on(Event::MainEnded(end), at(2)), [Action::StopTree, report(Report::Ended(end))]);
    assert_eq!(switch.on(Event::TreeExited, at(3)), [report(Report::TreeExited(end))]);
    assert!(!switch.is_busy() && switch.next_wake().is_none());
}

#[test]
fn hooks_run_before_and_after_the_command_and_the_tree_has_exited_after_the_last() {
    let mut switch = cleaning();
    assert_eq!(switch.on(Event::MainEnded(OK), at(4)), [Action::StopTree]);
    let end = CommandEnd::Exited(3);
    assert_eq!(switch.on(Event::TreeExited, at(5)), [report(Report::TreeExited(end))]);
    assert!(!switch.is_busy() && switch.next_wake().is_none());
}

#[test]
fn a_failed_on_elected_ends_the_term_and_on_stopped_runs() {
    for failed in [CommandEnd::Exited(4), CommandEnd::Signaled(11), CommandEnd::NotFound, CommandEnd::NotStarted] {
        let mut switch = preparing();
        let end = CommandEnd::OnElectedFailed;
        assert_eq!(
            switch.on(Event::MainEnded(failed), at(1)),
            [Action::StopTree, Action::WarnFailed(Program::OnElected, failed), report(Report::Ended(end))]
        );
        assert_eq!(switch.on(Event::TreeExited, at(1)), RUNS_ON_STOPPED);
        assert_eq!(
            switch.on(Event::MainEnded(failed), at(2)),
            [Action::StopTree, Action::WarnFailed(Program::OnStopped, failed)]
        );
        assert_eq!(switch.on(Event::TreeExited, at(2)), [report(Report::TreeExited(end))]);
    }
}

#[test]
fn a_stop_during_on_elected_ends_it_by_sigterm_and_the_command_is_not_started() {
    for (asks, orphaned) in [
        (Event::Order(Order::Stop), false),
        (Event::Order(Order::Signal(SIGQUIT)), false),
        (Event::Order(Order::Signal(SIGTERM)), false),
        (Event::GatekeeperGone, true),
    ] {
        // It may end in any way, and after it has ended its descendants may still run.
        for (end, before) in [(OK, false), (OK, true), (CommandEnd::Signaled(15), false)] {
            let mut switch = preparing();
            if before {
                switch.on(Event::MainEnded(end), at(1));
            }
            let actions = switch.on(asks, at(1));
            assert_eq!(actions.starts_with(&[Action::Signal(SIGTERM), Action::Signal(SIGCONT)]), !before, "{asks:?}");
            assert_eq!(switch.on(Event::Order(Order::Signal(SIGHUP)), at(1)), [], "signals are for the command");
            if !before {
                assert_eq!(switch.on(Event::MainEnded(end), at(2)), [Action::StopTree]);
            }
            assert_eq!(switch.on(Event::TreeExited, at(2)), RUNS_ON_STOPPED);
            switch.on(Event::MainEnded(OK), at(3));
            let last = switch.on(Event::TreeExited, at(3));
            assert_eq!(last[0], report(Report::TreeExited(CommandEnd::NotStarted)));
            assert_eq!(last.contains(&Action::Release(LEASE)), orphaned);
        }
    }
}

#[test]
fn without_feeds_on_elected_is_stopped_and_killed_at_the_deadlines() {
    let mut switch = preparing();
    let ending = report(Report::Ending(Reason::RenewDeadline));
    assert_eq!(switch.on(Event::Woken, at(10)), [Action::Signal(SIGTERM), Action::Signal(SIGCONT), ending]);
    assert_eq!(switch.on(Event::Woken, at(14)), [Action::KillTree, report(Report::Ending(Reason::KillDeadline))]);
    // Even if it had succeeded, it is too late for the command and for ON_STOPPED.
    switch.on(Event::MainEnded(OK), at(14));
    assert_eq!(
        switch.on(Event::TreeExited, at(14)),
        [Action::KillTree, report(Report::TreeExited(CommandEnd::NotStarted))]
    );
}

#[test]
fn on_stopped_runs_after_the_stop_grace_and_not_after_the_kill_deadline() {
    let killed = CommandEnd::Signaled(9);
    let mut switch = prepared();
    switch.on(Event::Order(Order::Feed(until(20, 24))), at(1));
    switch.on(Event::Order(Order::Stop), at(2));
    assert_eq!(switch.on(Event::Woken, at(12)), [Action::KillTree, report(Report::Ending(Reason::StopGrace))]);
    switch.on(Event::MainEnded(killed), at(12));
    assert_eq!(switch.on(Event::TreeExited, at(12))[1..], RUNS_ON_STOPPED);
    assert_eq!(switch.next_wake(), Some(at(24)));

    let mut switch = prepared();
    switch.on(Event::Woken, at(14));
    switch.on(Event::Order(Order::Feed(until(30, 34))), at(14));
    switch.on(Event::MainEnded(killed), at(14));
    assert_eq!(switch.on(Event::TreeExited, at(14)), [Action::KillTree, report(Report::TreeExited(killed))]);

    // The deadline comes in the moment in which the tree has exited.
    let mut switch = prepared();
    switch.on(Event::MainEnded(OK), at(13));
    let last = switch.on(Event::TreeExited, at(14));
    assert_eq!(last.last(), Some(&report(Report::TreeExited(OK))));
    assert!(!last.contains(&Action::Run(Program::OnStopped)));
}

#[test]
fn on_stopped_has_what_was_left_until_kill_at_and_is_not_asked_to_stop() {
    let mut switch = cleaning();
    assert_eq!(switch.on(Event::Order(Order::Feed(until(30, 34))), at(5)), [report(Report::Fed(until(30, 34)))]);
    for asks in [Order::Stop, Order::Signal(SIGTERM), Order::Signal(SIGQUIT), Order::Signal(SIGHUP), Order::Dismiss] {
        assert_eq!(switch.on(Event::Order(asks), at(6)), [], "{asks:?}");
    }
    assert_eq!(switch.next_wake(), Some(at(14)), "what was left when it began");
    assert_eq!(switch.on(Event::Woken, at(14)), [Action::KillTree, report(Report::Ending(Reason::OnStoppedLimit))]);
    switch.on(Event::MainEnded(CommandEnd::Signaled(9)), at(14));
    let last = [Action::KillTree, report(Report::TreeExited(CommandEnd::Exited(3))), Action::Exit];
    assert_eq!(switch.on(Event::TreeExited, at(14)), last);

    // Without the feed the lease may expire then.
    let mut switch = cleaning();
    assert_eq!(switch.on(Event::Woken, at(13)), []);
    assert_eq!(switch.on(Event::Woken, at(14)), [Action::KillTree, report(Report::Ending(Reason::KillDeadline))]);
}

#[test]
fn without_a_lease_nothing_more_starts() {
    for mut switch in [preparing(), prepared()] {
        switch.on(Event::Order(Order::Lease(None)), at(1));
        switch.on(Event::MainEnded(OK), at(2));
        let last = switch.on(Event::TreeExited, at(2));
        assert!(matches!(last[..], [Action::Report(Report::TreeExited(_))]), "{last:?}");
    }
}

#[test]
fn without_a_gatekeeper_the_lease_is_revoked_after_on_stopped() {
    let mut switch = cleaning();
    let gone = [Action::PrepareRelease(None), report(Report::Ending(Reason::GatekeeperGone))];
    assert_eq!(switch.on(Event::GatekeeperGone, at(4)), gone);
    assert_eq!(switch.on(Event::MainEnded(OK), at(5)), [Action::StopTree]);
    let last = [report(Report::TreeExited(CommandEnd::Exited(3))), Action::Release(LEASE), Action::Exit];
    assert_eq!(switch.on(Event::TreeExited, at(6)), last);
}

fn any_deadlines() -> impl Strategy<Value = Deadlines> {
    (0u64..60, 0u64..10).prop_map(|(term, room)| until(term, term + room))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Woken),
        4 => any_deadlines().prop_map(|deadlines| Event::Order(Order::Feed(deadlines))),
        4 => any_deadlines().prop_map(start),
        1 => Just(Event::Order(Order::Lease(Some(LEASE)))),
        1 => Just(Event::Order(Order::Lease(None))),
        2 => prop_oneof![Just(SIGTERM), Just(SIGQUIT), Just(SIGHUP)].prop_map(|s| Event::Order(Order::Signal(s))),
        1 => Just(Event::Order(Order::Stop)),
        1 => Just(Event::Order(Order::Dismiss)),
        1 => Just(Event::GatekeeperGone),
        3 => prop_oneof![Just(0), any::<u8>()].prop_map(|code| Event::MainEnded(CommandEnd::Exited(code))),
        3 => Just(Event::TreeExited),
    ]
}

/// The state of the programs of a term, derived from events and actions only.
#[derive(Default)]
struct Observer {
    hooks: Hooks,
    /// The latest deadlines that were confirmed in time.
    alive: Option<Deadlines>,
    overdue: bool,
    /// The program that was started last, and how its main process ended.
    program: Option<Program>,
    main: Option<CommandEnd>,
    /// When ON_STOPPED must be killed.
    limit: Option<Instant>,
    /// A stop was ordered in this term, or the gatekeeper has died.
    asked_to_stop: bool,
    /// The latest order of this term about the lease said that there is none.
    without_lease: bool,
    orphaned: bool,
    left: bool,
}

impl Observer {
    fn saw(
        &mut self,
        event: Event,
        due: Option<Instant>,
        now: Instant,
        actions: &[Action],
    ) -> Result<(), TestCaseError> {
        if self.left {
            prop_assert_eq!(actions, []);
            return Ok(());
        }
        if let Some(deadlines) = self.alive {
            let due = due.expect("a command that runs has a deadline");
            prop_assert!(due <= deadlines.kill_at.max(now + Switch::SLOW_ROUND), "wakes in time");
            self.overdue |= now >= deadlines.kill_at;
            if self.overdue {
                prop_assert!(actions.contains(&Action::KillTree), "alive after kill_at and not killed");
            }
            if self.limit.is_some_and(|limit| now >= limit) {
                prop_assert!(actions.contains(&Action::KillTree), "ON_STOPPED is alive after its limit");
            }
            if let Event::Order(Order::Feed(fed)) = event {
                let held = Deadlines {
                    stop_at: deadlines.stop_at.max(fed.stop_at),
                    kill_at: deadlines.kill_at.max(fed.kill_at),
                };
                // A feed counts only if it came in time.
                if !self.overdue {
                    prop_assert!(actions.contains(&report(Report::Fed(held))));
                    self.alive = Some(held);
                }
            }
        }
        match event {
            Event::MainEnded(end) if self.alive.is_some() => drop(self.main.get_or_insert(end)),
            Event::Order(Order::Stop | Order::Dismiss | Order::Signal(SIGTERM | SIGQUIT)) | Event::GatekeeperGone => {
                self.asked_to_stop = true;
            }
            Event::Order(Order::Lease(lease)) => self.without_lease = lease.is_none(),
            _ => {}
        }
        for action in actions {
            match action {
                Action::Begin { .. } => {
                    let Event::Order(Order::Start { deadlines, .. }) = event else { panic!("started by {event:?}") };
                    prop_assert!(now < deadlines.stop_at && now < deadlines.kill_at, "started too late");
                    prop_assert!(self.alive.is_none() && !self.orphaned, "started twice, or for nobody");
                    *self = Self { hooks: self.hooks, alive: Some(deadlines), ..Self::default() };
                }
                Action::Run(program) => {
                    let deadlines = self.alive.expect("a term");
                    if self.program.is_some() {
                        prop_assert!(
                            event == Event::TreeExited && self.main.is_some(),
                            "started beside another program"
                        );
                        prop_assert!(now < deadlines.kill_at && !self.overdue, "started after the deadline");
                        prop_assert!(!self.without_lease, "started while another instance may lead");
                    }
                    match (self.program, program) {
                        (None, Program::OnElected) => prop_assert!(self.hooks.on_elected),
                        (None, Program::Command) => prop_assert!(!self.hooks.on_elected),
                        (Some(Program::OnElected), Program::Command) => {
                            prop_assert_eq!(self.main, Some(CommandEnd::Exited(0)), "ON_ELECTED has failed");
                            prop_assert!(
                                !self.asked_to_stop && now < deadlines.stop_at,
                                "must not be started any more"
                            );
                        }
                        (Some(Program::OnElected | Program::Command), Program::OnStopped) => {
                            prop_assert!(self.hooks.on_stopped);
                            self.limit = Some(deadlines.kill_at);
                        }
                        other => prop_assert!(false, "out of order: {other:?}"),
                    }
                    (self.program, self.main) = (Some(*program), None);
                }
                Action::Signal(_) => {
                    prop_assert!(self.alive.is_some() && self.main.is_none(), "signaled a reaped process");
                    prop_assert!(self.program != Some(Program::OnStopped), "ON_STOPPED is not asked to stop");
                }
                Action::Report(Report::TreeExited(_)) if self.alive.is_none() => {
                    let is_late = matches!(event, Event::Order(Order::Start { .. }));
                    prop_assert!(is_late);
                }
                Action::Report(Report::TreeExited(_)) => {
                    prop_assert!(event == Event::TreeExited && self.main.is_some());
                    let is_last = self.program == Some(Program::OnStopped);
                    let is_over = self.overdue || self.without_lease;
                    prop_assert!(is_last || is_over || !self.hooks.on_stopped, "ON_STOPPED did not run");
                    (self.alive, self.limit) = (None, None);
                }
                Action::Release(_) | Action::Exit => {
                    prop_assert!(self.alive.is_none(), "left its command alone");
                    self.left = *action == Action::Exit;
                }
                _ => {}
            }
        }
        self.orphaned |= event == Event::GatekeeperGone;
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_command_outlives_its_deadline_for_any_sequence_of_events(
        steps in proptest::collection::vec((any_event(), 0u64..4000), 1..60),
        grace in 0u64..20,
        (on_elected, on_stopped) in any::<(bool, bool)>(),
    ) {
        let hooks = Hooks { on_elected, on_stopped };
        let mut switch = Switch::new(SIGQUIT, Duration::from_secs(grace), hooks);
        let mut observer = Observer { hooks, ..Observer::default() };
        let mut now = at(0);
        for (event, later) in steps {
            now = now + Duration::from_millis(later);
            let due = switch.next_wake();
            let actions = switch.on(event, now);
            observer.saw(event, due, now, &actions)?;
            prop_assert_eq!(switch.is_busy(), observer.alive.is_some());
        }

        // From every state: when the gatekeeper has died and all actions have been performed, the guard exits.
        let mut events = vec![Event::GatekeeperGone];
        for _ in 0..100 {
            let Some(event) = events.pop() else { break };
            let due = switch.next_wake();
            let actions = switch.on(event, now);
            observer.saw(event, due, now, &actions)?;
            if !events.is_empty() || observer.alive.is_none() {
                continue;
            }
            if actions.contains(&Action::KillTree) {
                events.extend([Event::TreeExited, Event::MainEnded(CommandEnd::Signaled(9))]);
            } else if let Some(wake) = switch.next_wake() {
                prop_assert!(wake <= now.max(observer.alive.expect("busy").kill_at));
                now = now.max(wake);
                events.push(Event::Woken);
            }
        }
        prop_assert!(observer.left);
    }
}
