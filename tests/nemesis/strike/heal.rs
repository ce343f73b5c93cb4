//! Healing faults.

use harness::{Proxy, certificates::NAME, journal::now};
use nix::sys::signal::Signal;

use super::{
    super::{
        chronicle::Chronicle,
        fleet::{ExactProcess, Fleet},
        machine::Machine,
        plan::{Outage, Step},
    },
    Striker,
};

/// How to heal a fault.
pub(super) struct Undo {
    due: u64,
    event: usize,
    what: Healing,
}

pub(super) enum Healing {
    Thaw { instance: usize, number: u64, half: bool, processes: Vec<ExactProcess> },
    Machine { instance: usize, machine: Machine },
    Mend(usize),
    Member(usize, Outage),
    Stray,
    Name,
    Logs,
}

impl Striker<'_> {
    /// Heals the faults that are due.
    pub(crate) fn heal_due(&mut self, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) {
        self.heal(fleet, chronicle, |undo| undo.due <= now());
    }

    /// Heals everything.
    pub(crate) fn heal_all(&mut self, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) {
        self.heal(fleet, chronicle, |_| true);
    }

    fn heal(&mut self, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle, which: impl Fn(&Undo) -> bool) {
        let (due, later) = std::mem::take(&mut self.undos).into_iter().partition(which);
        self.undos = later;
        let due: Vec<Undo> = due;
        for undo in due {
            match undo.what {
                Healing::Thaw { instance, number, half, processes } => {
                    processes.iter().for_each(|process| process.signal(Signal::SIGCONT));
                    let instance = &mut fleet.instances[instance];
                    // If one process was killed meanwhile, the other one is still spared.
                    if half && instance.number == number && processes.iter().all(|process| process.lives()) {
                        instance.hurt = None;
                    }
                }
                Healing::Machine { instance, machine } => {
                    let newest = self.token_of_leader();
                    self.overtaken.extend(newest.filter(|&token| token > machine.token).map(|_| machine.token));
                    machine.resume();
                    fleet.instances[instance].frozen = false;
                }
                Healing::Mend(index) => {
                    fleet.instances[index].balancer.members().iter().for_each(Proxy::heal);
                    fleet.instances[index].unlinked = false;
                }
                Healing::Member(index, outage) => {
                    let member = self.world.cluster().member(index);
                    if outage == Outage::Frozen {
                        member.resume()
                    } else {
                        member.start()
                    }
                    self.down.remove(&index);
                }
                Healing::Stray => fleet.set_stray(false),
                Healing::Name => {
                    if let Some(names) = &fleet.ground.names {
                        names.set(NAME, &self.world.cluster().ips());
                    }
                    self.nameless = false;
                }
                Healing::Logs => {
                    if let Some(disk) = fleet.ground.disk {
                        disk.thaw();
                    }
                    fleet.logs_hang = false;
                }
            }
            chronicle.events[undo.event].to = now();
        }
    }

    pub(super) fn later(&mut self, step: &Step, event: usize, what: Healing) {
        let lasting = u64::try_from(step.lasting.as_nanos()).unwrap_or(u64::MAX);
        self.undos.push(Undo { due: now().saturating_add(lasting), event, what });
    }
}
