//! Causing faults.

mod heal;

use std::{collections::BTreeSet, time::Duration};

use harness::{Cluster, World, certificates::NAME, etcdctl::Key, journal::now};
use nix::sys::signal::Signal;

use self::heal::{Healing, Undo};
use super::{
    chronicle::{Chronicle, Lane},
    fleet::{ExactProcess, Fleet, name},
    machine::Machine,
    plan::{Fault, Link, MEMBERS, Outage, Part, REPLACED, Step, Target},
};

/// Causes faults, and heals them.
pub(crate) struct Striker<'a> {
    world: &'a World,
    undos: Vec<Undo>,
    /// Failing members: without a majority an operator cannot change keys.
    down: BTreeSet<usize>,
    nameless: bool,
    /// Tokens of terms with faults that the guarantee does not cover.
    pub(crate) victims: BTreeSet<i64>,
    /// Those of them whose machine was frozen until another instance had become leader.
    pub(crate) overtaken: BTreeSet<i64>,
}

impl<'a> Striker<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self {
            world,
            undos: Vec::new(),
            down: BTreeSet::new(),
            nameless: false,
            victims: BTreeSet::new(),
            overtaken: BTreeSet::new(),
        }
    }

    /// Causes the fault, unless it has no target or would be a second failure.
    pub(crate) fn strike(&mut self, step: &Step, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) {
        let done = match step.fault {
            Fault::Kill(part, target) => Self::kill(step, part, target, fleet, chronicle),
            Fault::Freeze(part, target) => self.freeze(step, &[part], target, fleet, chronicle),
            Fault::FreezeBoth => {
                let victim = self.token_of_leader();
                let done = self.freeze(step, &[Part::Gatekeeper, Part::Guard], Target::Leader, fleet, chronicle);
                self.victims.extend(done.and(victim));
                done
            }
            Fault::FreezeMachine { guard, gatekeeper } => {
                self.freeze_machine(step, guard, gatekeeper, fleet, chronicle)
            }
            Fault::Link(link, one, target) => self.link(step, link, one, target, fleet, chronicle),
            Fault::Member(outage, index) => self.members(step, outage, &[index], chronicle),
            Fault::Quorum(outage, spared) => {
                let others: Vec<_> = (0..MEMBERS).filter(|&index| index != spared).collect();
                self.members(step, outage, &others, chronicle)
            }
            Fault::RaftLeader(outage) => {
                self.raft_leader().and_then(|index| self.members(step, outage, &[index], chronicle))
            }
            Fault::Stray => self.stray(step, fleet, chronicle),
            Fault::Slow(one, delay) => self.slow(step, one, delay, fleet, chronicle),
            Fault::NoName => self.forget_name(step, fleet, chronicle),
            Fault::LogHangs => self.hang_logs(step, fleet, chronicle),
            Fault::Restart(target) | Fault::Force(target) => Self::restart(step, target, fleet, chronicle),
            Fault::DeleteHolder | Fault::DeleteEntry(_) | Fault::Revoke => self.operate(step, chronicle),
        };
        if done.is_none() {
            chronicle.skipped += 1;
        }
    }

    fn kill(step: &Step, part: Part, target: Target, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) -> Option<()> {
        let instance = fleet.find(target)?;
        if part != Part::Command {
            if instance.hurt.is_some_and(|hurt| hurt != part) {
                return None;
            }
            instance.hurt = Some(part);
        }
        instance.process(part)?.signal(Signal::SIGKILL);
        chronicle.note(now(), Lane::Instance(instance.index), step.fault.name(), "");
        Some(())
    }

    fn freeze(
        &mut self,
        step: &Step,
        parts: &[Part],
        target: Target,
        fleet: &mut Fleet<'_>,
        chronicle: &mut Chronicle,
    ) -> Option<()> {
        let instance = fleet.find(target)?;
        let half = parts.iter().copied().find(|&part| part != Part::Command);
        if half.is_some() && instance.hurt.is_some() {
            return None;
        }
        let processes: Vec<ExactProcess> = parts.iter().map(|&part| instance.process(part)).collect::<Option<_>>()?;
        processes.iter().for_each(|process| process.signal(Signal::SIGSTOP));
        instance.hurt = instance.hurt.or(half);
        let event = chronicle.note(now(), Lane::Instance(instance.index), step.fault.name(), "");
        let (instance, number) = (instance.index, instance.number);
        self.later(step, event, Healing::Thaw { instance, number, half: half.is_some(), processes });
        Some(())
    }

    fn freeze_machine(
        &mut self,
        step: &Step,
        guard: Duration,
        gatekeeper: Duration,
        fleet: &mut Fleet<'_>,
        chronicle: &mut Chronicle,
    ) -> Option<()> {
        let instance = fleet.find(Target::Leader).filter(|instance| instance.hurt.is_none())?;
        let machine = Machine::freeze(instance, guard, gatekeeper)?;
        instance.frozen = true;
        self.victims.insert(machine.token);
        let event = chronicle.note(now(), Lane::Instance(instance.index), step.fault.name(), "");
        let instance = instance.index;
        self.later(step, event, Healing::Machine { instance, machine });
        Some(())
    }

    fn link(
        &mut self,
        step: &Step,
        link: Link,
        one: Option<usize>,
        target: Target,
        fleet: &mut Fleet<'_>,
        chronicle: &mut Chronicle,
    ) -> Option<()> {
        let instance = fleet.find(target).filter(|instance| !instance.unlinked)?;
        let links =
            instance.balancer.members().iter().enumerate().filter(|(index, _)| one.is_none_or(|one| one == *index));
        for (_, proxy) in links {
            match link {
                Link::Cut => proxy.cut(),
                Link::Reset => proxy.reset(),
                Link::BlackHole => proxy.black_hole(),
                Link::OneWay(direction) => proxy.hold(direction),
                Link::Delay(delay) => proxy.delay(delay),
            }
        }
        let detail = one.map_or_else(|| "from all members".to_owned(), |one| format!("from m{one}"));
        let event = chronicle.note(now(), Lane::Instance(instance.index), step.fault.name(), detail);
        if link != Link::Reset {
            instance.unlinked = true;
            let index = instance.index;
            self.later(step, event, Healing::Mend(index));
        }
        Some(())
    }

    /// Causes one fault of a member at a time, as a frozen member cannot be stopped.
    fn members(&mut self, step: &Step, outage: Outage, indices: &[usize], chronicle: &mut Chronicle) -> Option<()> {
        if indices.iter().any(|index| self.down.contains(index)) {
            return None;
        }
        indices.iter().for_each(|&index| self.member(step, outage, index, chronicle));
        Some(())
    }

    fn member(&mut self, step: &Step, outage: Outage, index: usize, chronicle: &mut Chronicle) {
        let member = self.world.cluster().member(index);
        let at = now();
        // A raft leader that continues may revoke leases that were renewed meanwhile, and two may lead: a limit of the guarantee.
        let may_freeze =
            || !Cluster::revokes_after_a_pause() || self.raft_leader().is_some_and(|leader| leader != index);
        let outage = if outage == Outage::Frozen && !may_freeze() { Outage::Killed } else { outage };
        match outage {
            Outage::Killed => member.kill(),
            Outage::Stopped => member.stop(),
            Outage::Frozen => member.pause(),
        }
        self.down.insert(index);
        let how = match outage {
            Outage::Killed => "killed",
            Outage::Stopped => "stopped",
            Outage::Frozen => "frozen",
        };
        let event = chronicle.note(at, Lane::Member(index), step.fault.name(), how);
        self.later(step, event, Healing::Member(index, outage));
    }

    /// Returns the raft leader, as seen by members without a fault.
    fn raft_leader(&self) -> Option<usize> {
        let leads = |index: &usize| {
            let metrics = self.world.cluster().member(*index).metrics().unwrap_or_default();
            metrics.lines().any(|line| line == "etcd_server_is_leader 1")
        };
        (0..MEMBERS).filter(|index| !self.down.contains(index)).find(leads)
    }

    fn stray(&mut self, step: &Step, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) -> Option<()> {
        if fleet.is_stray() {
            return None;
        }
        fleet.set_stray(true);
        let event = chronicle.note(now(), Lane::Member(REPLACED), step.fault.name(), "");
        self.later(step, event, Healing::Stray);
        Some(())
    }

    /// For every instance without a network fault.
    fn slow(
        &mut self,
        step: &Step,
        one: Option<usize>,
        delay: Duration,
        fleet: &mut Fleet<'_>,
        chronicle: &mut Chronicle,
    ) -> Option<()> {
        let whole: Vec<_> = fleet.instances.iter_mut().filter(|instance| !instance.unlinked).collect();
        if whole.is_empty() {
            return None;
        }
        let detail = format!("{:.1} s for {}", delay.as_secs_f64(), if one.is_some() { "one" } else { "all" });
        let at = now();
        let events: Vec<_> = (0..MEMBERS)
            .filter(|index| one.is_none_or(|one| one == *index))
            .map(|index| (index, chronicle.note(at, Lane::Member(index), step.fault.name(), detail.clone())))
            .collect();
        for instance in whole {
            instance.unlinked = true;
            for &(index, event) in &events {
                instance.balancer.member(index).delay_one_way(harness::Direction::ToCandidate, delay);
                self.later(step, event, Healing::Mend(instance.index));
            }
        }
        Some(())
    }

    fn forget_name(&mut self, step: &Step, fleet: &Fleet<'_>, chronicle: &mut Chronicle) -> Option<()> {
        let names = fleet.ground.names.as_ref().filter(|_| !self.nameless)?;
        names.forget(NAME);
        self.nameless = true;
        let event = chronicle.note(now(), Lane::Keys, step.fault.name(), "");
        self.later(step, event, Healing::Name);
        Some(())
    }

    fn hang_logs(&mut self, step: &Step, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) -> Option<()> {
        let disk = fleet.ground.disk.filter(|_| !fleet.logs_hang)?;
        disk.freeze();
        fleet.logs_hang = true;
        let event = chronicle.note(now(), Lane::Keys, step.fault.name(), "");
        self.later(step, event, Healing::Logs);
        Some(())
    }

    fn restart(step: &Step, target: Target, fleet: &mut Fleet<'_>, chronicle: &mut Chronicle) -> Option<()> {
        let instance = fleet.find(target)?;
        instance.candidate.terminate();
        instance.force_next |= matches!(step.fault, Fault::Force(_));
        chronicle.note(now(), Lane::Instance(instance.index), step.fault.name(), "");
        Some(())
    }

    /// Changes keys as an operator does.
    fn operate(&mut self, step: &Step, chronicle: &mut Chronicle) -> Option<()> {
        if self.down.len() * 2 > MEMBERS {
            return None;
        }
        let keys = self.world.keys().ok()?;
        let lock = self.world.lock();
        let holder = keys.iter().find(|key| key.name == lock);
        let etcdctl = patient(self.world.cluster());
        let (done, target) = match step.fault {
            Fault::Revoke => {
                let key = holder?;
                self.victims.insert(key.mod_revision);
                (etcdctl.run(&["lease", "revoke", &format!("{:x}", key.lease)]), key.value.clone())
            }
            Fault::DeleteEntry(target) => {
                let key = match target {
                    Target::Leader => entries(&keys, lock).next()?,
                    Target::Instance(index) => entries(&keys, lock).find(|key| key.value == name(index))?,
                };
                (etcdctl.run(&["del", &key.name]), key.value.clone())
            }
            _ => (etcdctl.run(&["del", &holder?.name]), holder?.value.clone()),
        };
        let detail = if done.is_ok() { format!("of {target}") } else { format!("of {target}, perhaps") };
        chronicle.note(now(), Lane::Keys, step.fault.name(), detail);
        Some(())
    }

    /// Returns the token of the running term.
    fn token_of_leader(&self) -> Option<i64> {
        let lives = self.world.journal().lives();
        lives.iter().rev().find(|life| harness::process::lives(life.pid, life.started)).map(|life| life.token)
    }
}

/// Returns the queue entries, oldest first.
fn entries<'k>(keys: &'k [Key], lock: &str) -> impl Iterator<Item = &'k Key> {
    let prefix = format!("{lock}/~entry/");
    keys.iter().filter(move |key| key.name.starts_with(&prefix))
}

fn patient(cluster: &Cluster) -> harness::etcdctl::Etcdctl {
    cluster.etcdctl().within(Duration::from_secs(2))
}
