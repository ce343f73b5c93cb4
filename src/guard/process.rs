//! The process of the guard: a loop that waits for events, passes them to the switch, and performs its actions.
//!
//! It has one thread and no runtime, and it only waits in `poll`. The same thread reaps and signals, so no signal can reach
//! another process that was given the number of a reaped one.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    process::abort,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
    unistd::{Pid, setpgid},
};

use super::{
    cgroup::Cgroup,
    protocol::{CommandEnd, Order, Program, Reason, Report},
    release::Release,
    signals::Signals,
    spawn::{Executed, Programs, Spawned, end_of},
    switch::{Action, Event, Switch},
    terminal::Terminal,
    tree::{self, Tree},
    wait::{self, Waited},
    wire::{Line, Received},
};
use crate::{
    core::{clock::Instant, timing::Deadlines},
    log::Style,
};

/// The parts of the guard that are created before the fork.
pub(super) struct Equipment {
    pub(super) switch: Switch,
    pub(super) programs: Programs,
    pub(super) release: Release,
    pub(super) terminal: Terminal,
    pub(super) log: Style,
}

/// Runs the guard in this process.
pub(super) fn run(equipment: Equipment, socket: OwnedFd, cgroup: Option<Cgroup>) -> ! {
    // A panic must not unwind into `main` of the gatekeeper, of which this process is a copy. After the abort the gatekeeper
    // ends the command.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Ok(mut process) = Process::new(equipment, socket, cgroup) {
            process.guard();
        }
    }));
    abort()
}

struct Process {
    switch: Switch,
    line: Line<Report>,
    signals: Signals,
    timer: TimerFd,
    programs: Programs,
    release: Release,
    terminal: Terminal,
    log: Style,
    tree: Tree,
    /// The program that was started last.
    program: Program,
    /// Its main process, until it is reaped.
    main: Option<Spawned>,
    /// Why `execve` failed, until that child is reaped.
    not_executed: Option<CommandEnd>,
    /// Warnings that are logged once per term.
    logged: Logged,
    /// Orders that were received and not yet carried out, oldest first.
    inbox: VecDeque<Received<Order>>,
}

#[derive(Default)]
struct Logged {
    denied: bool,
    suspended: bool,
}

impl Process {
    /// A gatekeeper sends fewer orders than this while the guard is frozen.
    const INBOX: usize = 512;

    fn new(equipment: Equipment, socket: OwnedFd, cgroup: Option<Cgroup>) -> io::Result<Self> {
        let Equipment { switch, programs, release, terminal, log } = equipment;
        // Orphans of the command become children of this process, so that it can reap and kill them.
        prctl::set_child_subreaper(true)?;
        let _ = prctl::set_name(c"await-guard");
        // Leaves the gatekeeper's process group: SIGKILL and SIGSTOP to a whole group cannot be blocked.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        Ok(Self {
            switch,
            line: Line::new(socket),
            signals: Signals::open()?,
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?,
            programs,
            release,
            terminal,
            log,
            tree: Tree::new(cgroup),
            program: Program::Command,
            main: None,
            not_executed: None,
            logged: Logged::default(),
            inbox: VecDeque::new(),
        })
    }

    fn guard(&mut self) {
        loop {
            self.wait();
            self.receive_orders();
            // The deadlines come before all other events, as those may have come too late.
            self.handle(Event::Woken);
            while self.signals.read().is_some() {} // SIGCHLD only wakes the loop; waitpid reports which child ended.
            self.check_execution();
            self.reap();
            if !self.switch.is_orphaned() {
                self.obey_next_order();
            }
            if self.main.is_none() {
                // If the fork failed, no SIGCHLD wakes the loop.
                self.reap();
            }
        }
    }

    /// Receives orders. Feeds are applied at once, before other orders: if this process was frozen, the feeds that wait in the
    /// socket still say how long the lock is held. The switch decides whether they are too late.
    fn receive_orders(&mut self) {
        let mut fed: Option<Deadlines> = None;
        for _ in self.inbox.len()..Self::INBOX {
            if self.switch.is_orphaned() || self.inbox.back() == Some(&Received::Gone) {
                break;
            }
            match self.line.receive() {
                Received::Nothing => break,
                // Without a command the feed belongs to one whose start is still in the inbox.
                Received::Message(Order::Feed(deadlines)) if self.switch.is_busy() => {
                    fed = Some(fed.map_or(deadlines, |earlier| earlier.later(deadlines)));
                }
                other => self.inbox.push_back(other),
            }
        }
        if let Some(deadlines) = fed {
            self.handle(Event::Order(Order::Feed(deadlines)));
        }
    }

    fn obey_next_order(&mut self) {
        // One order per round, so that many orders cannot delay the deadlines.
        match self.inbox.pop_front() {
            Some(Received::Message(order)) => self.handle(Event::Order(order)),
            Some(Received::Gone) => self.handle(Event::GatekeeperGone),
            Some(Received::Nothing) | None => {}
        }
        if !self.line.flush() {
            self.handle(Event::GatekeeperGone);
        }
    }

    /// Waits for a signal, an order, the result of `execve`, the exit of a foreign process, or the next deadline.
    fn wait(&self) {
        let armed = self.arm_timer();
        let mut socket = PollFlags::POLLIN;
        if self.line.has_unsent() {
            socket |= PollFlags::POLLOUT;
        }
        let mut sources = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        // A closed socket is always readable, which would keep the loop busy.
        if !self.switch.is_orphaned() {
            sources.push(PollFd::new(self.line.as_fd(), socket));
        }
        if let Some(pending) = self.main.as_ref().and_then(Spawned::pending) {
            sources.push(PollFd::new(pending, PollFlags::POLLIN));
        }
        sources.extend(self.tree.exits().map(|exit| PollFd::new(exit, PollFlags::POLLIN)));
        // If the timer could not be set, the guard reads the clock often instead.
        let timeout = match (self.inbox.is_empty(), armed) {
            (false, _) => PollTimeout::ZERO,
            (true, true) => PollTimeout::NONE,
            (true, false) => PollTimeout::from(20u8),
        };
        if poll(&mut sources, timeout).is_err_and(|errno| errno != Errno::EINTR) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn arm_timer(&self) -> bool {
        let Some(wake) = self.switch.next_wake() else {
            return self.timer.unset().is_ok();
        };
        // Zero would disarm the timer. With an instant in the past it fires at once.
        let wake = TimeSpec::from(wake.since_boot().max(Duration::from_nanos(1)));
        self.timer.set(Expiration::OneShot(wake), TimerSetTimeFlags::TFD_TIMER_ABSTIME).is_ok()
    }

    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if event != Event::Woken {
                self.log.trace("guard", format_args!("event: {event:?}"));
            }
            for action in self.switch.on(event, Instant::now()) {
                self.log.trace("guard", format_args!("action: {action:?}"));
                events.extend(self.perform(action));
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Begin { token, lease } => {
                self.logged = Logged::default();
                self.programs.begin_term(token, lease);
            }
            Action::Run(program) => {
                self.program = program;
                match self.programs.start(program, &self.terminal, self.tree.cgroup()) {
                    Ok(spawned) => {
                        self.log.trace("guard", format_args!("forked {}", spawned.pid));
                        self.main = Some(spawned);
                    }
                    Err(error) => {
                        self.log.warn("guard", &format!("could not start {program}: {error}"));
                        return Some(Event::MainEnded(CommandEnd::NotStarted));
                    }
                }
            }
            Action::Signal(signal) => self.signal_main(signal),
            Action::StopTree => {
                let denied = self.tree.terminate();
                self.log_denied(denied);
            }
            Action::KillTree => {
                let denied = self.tree.kill(self.main.as_ref().map(|main| main.pid));
                self.log_denied(denied);
            }
            Action::Report(report) => return self.report(report),
            Action::WarnFailed(hook, end) => self.log.warn("guard", &format!("{hook} failed: it {end}")),
            Action::WarnNotExited(tried) => self.log.warn("guard", &format!(
                "could not kill the process tree within {}s: a process waits in an uninterruptible system call or runs \
                 as another user; the lease is kept",
                tried.as_secs()
            )),
            Action::PrepareRelease(cluster) => self.release.prepare(cluster),
            Action::Release(lease) => match self.release.revoke(lease) {
                Ok(true) => {}
                Ok(false) | Err(_) => {
                    self.log.warn("guard", &format!("could not revoke lease {lease}; it will expire"));
                }
            },
            Action::Exit => {
                self.tree.remove_cgroup();
                // SAFETY: ends this process without running what the gatekeeper registered to run at its own exit.
                unsafe { libc::_exit(0) }
            }
        }
        None
    }

    fn report(&self, report: Report) -> Option<Event> {
        let is_received = self.switch.is_orphaned() || self.line.send(report);
        if let Report::Ending(reason) = report {
            self.log.warn(
                "guard",
                match reason {
                    Reason::RenewDeadline => "no renewal was confirmed in time: stopping the command",
                    Reason::KillDeadline => "lease about to expire: killing the command and its process tree",
                    Reason::StopGrace => "the stop grace has passed: killing the process tree of the command",
                    Reason::OnStoppedLimit => "the time for ON_STOPPED has passed: killing its process tree",
                    Reason::GatekeeperGone => "the gatekeeper is gone: stopping the command",
                },
            );
        }
        (!is_received).then_some(Event::GatekeeperGone)
    }

    /// Logs the first process of a term that cannot be signaled.
    fn log_denied(&mut self, denied: Option<tree::Denied>) {
        if let Some(denied) = denied.filter(|_| !self.logged.denied) {
            self.log.warn("guard", &denied.to_string());
            self.logged.denied = true;
        }
    }

    fn signal_main(&mut self, signal: i32) {
        let Some(main) = &self.main else { return };
        let denied = tree::signal_child(main.pid, signal);
        if signal == libc::SIGCONT && self.terminal.is_ours() {
            // A shell has put this program's group into the foreground (`fg`), which is meant for the command.
            Terminal::give_to(main.pid);
        }
        self.log_denied(denied);
    }

    fn check_execution(&mut self) {
        let Some(main) = &mut self.main else { return };
        let pid = main.pid;
        match main.executed() {
            Executed::Yes => self.handle(Event::Started(pid.as_raw())),
            Executed::No(errno) => {
                self.not_executed = Some(end_of(errno));
                let hint = match errno {
                    Errno::ENOENT => {
                        "; the interpreter that its first line names, or its dynamic loader, may be missing"
                    }
                    _ => "",
                };
                let program = self.program;
                self.log.warn("guard", &format!("could not execute {program}: {}{hint}", errno.desc()));
            }
            Executed::Unknown => {}
        }
    }

    /// Reaps everything that has ended: SIGCHLD comes once for many.
    fn reap(&mut self) {
        self.tree.forget_exited();
        loop {
            match wait::reap(None) {
                Waited::Ended(pid, end) => self.reaped(pid, end),
                // Only after Ctrl-Z: a process that was stopped because it reads from the terminal would stop again at once.
                Waited::Stopped(pid, libc::SIGTSTP) => self.suspended(pid),
                Waited::Stopped(..) => {}
                Waited::Nothing => return,
                Waited::NoChildren => {
                    // An order that waits can forbid the next program of the term. No round ends before it is obeyed.
                    if !self.inbox.is_empty() && !self.switch.is_orphaned() {
                        return;
                    }
                    if self.tree.has_exited() {
                        self.handle(Event::TreeExited);
                    }
                    // The next program of the term runs now, unless its fork failed: no SIGCHLD would wake the loop.
                    if !self.switch.is_busy() || self.main.is_some() || !self.tree.has_exited() {
                        return;
                    }
                }
            }
        }
    }

    fn reaped(&mut self, pid: Pid, end: CommandEnd) {
        if self.main.as_ref().is_none_or(|main| main.pid != pid) {
            return; // An orphan.
        }
        // The result of execve may have arrived in the meantime.
        self.check_execution();
        self.main = None;
        self.terminal.take_back_from(pid);
        let end = self.not_executed.take().unwrap_or(end);
        self.handle(Event::MainEnded(end));
    }

    fn suspended(&mut self, pid: Pid) {
        if self.main.as_ref().is_some_and(|main| main.pid == pid) {
            // SAFETY: kill has no memory effects; the group's number is taken, its leader has not been reaped.
            unsafe { libc::kill(-pid.as_raw(), libc::SIGCONT) };
            // A command can stop itself any number of times.
            if !std::mem::replace(&mut self.logged.suspended, true) {
                self.log.warn("guard", "a leader cannot be suspended while it holds the lock: continued the command");
            }
        }
    }
}
