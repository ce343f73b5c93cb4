//! A whole machine that freezes, as a paused virtual machine does, and resumes with the command ahead of the guard.

use std::{thread, time::Duration};

use harness::process::Stat;
use nix::sys::signal::Signal;

use super::{
    fleet::{ExactProcess, Instance},
    plan::Part,
};

/// A frozen machine.
pub(crate) struct Machine {
    /// The token of the term that it interrupts.
    pub(crate) token: i64,
    command: Vec<ExactProcess>,
    /// The guard and the gatekeeper, the first one to resume first, with the times after the command.
    others: [(Duration, ExactProcess); 2],
}

impl Machine {
    /// Freezes all processes of an instance; returns `None` if its command does not run undisturbed.
    pub(crate) fn freeze(instance: &Instance, guard: Duration, gatekeeper: Duration) -> Option<Self> {
        let mut others = [(guard, instance.process(Part::Guard)?), (gatekeeper, instance.process(Part::Gatekeeper)?)];
        others.sort_by_key(|other| other.0);
        // First, so that neither starts or stops a command meanwhile.
        others.iter().for_each(|other| other.1.signal(Signal::SIGSTOP));
        let living = instance.candidate.living();
        let command: Vec<_> = living.iter().map(|life| ExactProcess { pid: life.pid, started: life.started }).collect();
        let is_stopped = |process: &ExactProcess| Stat::of(process.pid).is_some_and(|stat| stat.state == 'T');
        let token = living.first().map(|life| life.token);
        let Some(token) = token.filter(|_| !command.iter().any(is_stopped)) else {
            others.iter().for_each(|other| other.1.signal(Signal::SIGCONT));
            return None;
        };
        command.iter().for_each(|process| process.signal(Signal::SIGSTOP));
        Some(Self { token, command, others })
    }

    /// Resumes the command, and then the guard and the gatekeeper.
    pub(crate) fn resume(&self) {
        self.command.iter().for_each(|process| process.signal(Signal::SIGCONT));
        let mut passed = Duration::ZERO;
        for (at, process) in self.others {
            // Here and not by a later step, as milliseconds count.
            thread::sleep(at - passed);
            process.signal(Signal::SIGCONT);
            passed = at;
        }
    }
}
