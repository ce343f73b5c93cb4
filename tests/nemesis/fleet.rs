//! The instances, each behind its own three proxies, and the supervisor that restarts them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use harness::{
    Balancer, Candidate, Cluster, Disk, End, LockSet, Names, Proxy, World, certificates::NAME, journal::now, process,
};
use nix::sys::signal::Signal;

use super::{
    chronicle::{Chronicle, Presence},
    life::{Life, Way},
    plan::{INSTANCES, Part, REPLACED, Target},
};

const NAMES: [&str; INSTANCES] = ["anna", "bert", "cleo", "dora", "emil"];

/// The first port of the proxies on the members' addresses; each instance has its own port.
const FIRST_PORT: u16 = 24_000;

/// The expected ends of instances: a command that ends or is killed, a lost guard, lost leadership, SIGTERM, SIGKILL by
/// the nemesis. Any other end is a fault of the program.
const EXPECTED: [End; 7] = [
    End::Code(0),
    End::Code(1),
    End::Code(70),
    End::Code(79),
    End::Code(128 + Signal::SIGKILL as i32),
    End::Code(128 + Signal::SIGTERM as i32),
    End::Signal(Signal::SIGKILL as i32),
];

/// The environment that all instances share.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a World,
    pub(crate) seed: u64,
    pub(crate) stray: &'a Cluster,
    /// The id of the right cluster.
    pub(crate) id: u64,
    pub(crate) names: Option<Names>,
    pub(crate) disk: Option<&'a Disk>,
    /// The set to which the commands add.
    pub(crate) lock_set: Option<&'a LockSet>,
}

/// All instances.
pub(crate) struct Fleet<'a> {
    pub(crate) ground: Ground<'a>,
    /// Whether a stray cluster answers at the address of a member.
    stray: bool,
    /// Whether the logs hang: no new file can be opened then.
    pub(crate) logs_hang: bool,
    pub(crate) instances: Vec<Instance>,
    /// Unexpected ends of instances.
    pub(crate) unexpected: Vec<String>,
}

/// One slot of the fleet, whose successive instances have the same identity.
pub(crate) struct Instance {
    pub(crate) index: usize,
    /// The balancer in front of its own proxies.
    pub(crate) balancer: Balancer,
    /// Whether its proxy of the replaceable member forwards to the stray cluster.
    stray: bool,
    pub(crate) candidate: Arc<Candidate>,
    life: Life,
    pub(crate) number: u64,
    /// Its index in the chronicle.
    presence: usize,
    /// Since when it has ended.
    ended: Option<u64>,
    pub(crate) force_next: bool,
    /// Which of its two processes had a fault. The other one is spared then, as the guarantee covers a single failure.
    pub(crate) hurt: Option<Part>,
    /// Its present network fault, of which there is one at a time.
    pub(crate) unlinked: bool,
    /// Whether its machine is frozen, so that no other fault has an effect.
    pub(crate) frozen: bool,
}

/// A process by id and start time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExactProcess {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl<'a> Fleet<'a> {
    /// Starts one instance in each slot.
    pub(crate) fn start(ground: Ground<'a>, chronicle: &mut Chronicle) -> Self {
        let instances = (0..INSTANCES).map(|index| {
            let balancer = Balancer::new(ground.proxies(index));
            let life = Life::new(ground.seed, index, 0);
            let (candidate, presence) = ground.start(index, 0, &life, false, &balancer, false, chronicle);
            Instance {
                index,
                balancer,
                stray: false,
                candidate,
                life,
                number: 0,
                presence,
                ended: None,
                force_next: false,
                hurt: None,
                unlinked: false,
                frozen: false,
            }
        });
        let instances = instances.collect();
        Self { ground, stray: false, logs_hang: false, instances, unexpected: Vec::new() }
    }

    /// Switches the address of a member to a stray cluster, or back.
    pub(crate) fn set_stray(&mut self, stray: bool) {
        self.stray = stray;
        self.instances.iter_mut().for_each(|instance| instance.lead(stray, &self.ground));
    }

    pub(crate) const fn is_stray(&self) -> bool {
        self.stray
    }

    /// Notes which instances have ended, and restarts those that are due.
    pub(crate) fn supervise(&mut self, chronicle: &mut Chronicle) {
        for instance in &mut self.instances {
            let Some(end) = instance.candidate.end() else { continue };
            let ended = *instance.ended.get_or_insert_with(|| {
                chronicle.presences[instance.presence].to = Some(now());
                *chronicle.ends.entry(words(end)).or_default() += 1;
                // It received SIGTERM before it installed its signal handlers.
                let unborn = end == End::Signal(Signal::SIGTERM as i32) && instance.candidate.stderr().is_empty();
                if !EXPECTED.contains(&end) && !unborn {
                    self.unexpected.push(format!("{} ended with {}", instance.candidate.name(), words(end)));
                }
                now()
            });
            if Duration::from_nanos(now() - ended) < instance.life.pause {
                continue;
            }
            instance.number += 1;
            instance.life = Life::new(self.ground.seed, instance.index, instance.number);
            instance.lead(self.stray, &self.ground);
            let force = std::mem::take(&mut instance.force_next);
            (instance.candidate, instance.presence) = self.ground.start(
                instance.index,
                instance.number,
                &instance.life,
                force,
                &instance.balancer,
                self.logs_hang,
                chronicle,
            );
            instance.ended = None;
            instance.hurt = None;
        }
    }

    /// Returns the target of a fault, if its gatekeeper lives and its machine is not frozen.
    pub(crate) fn find(&mut self, target: Target) -> Option<&mut Instance> {
        let index = match target {
            Target::Instance(index) => index,
            Target::Leader => self.leader()?,
        };
        self.instances.get_mut(index).filter(|instance| !instance.frozen && instance.candidate.end().is_none())
    }

    /// Returns the instance whose command runs, stopping or not.
    fn leader(&self) -> Option<usize> {
        let lives = self.ground.world.journal().lives();
        let running = lives.iter().rev().find(|life| process::lives(life.pid, life.started))?;
        self.instances.iter().position(|instance| instance.candidate.name() == running.name)
    }

    /// Returns whether the command of an instance runs without a stop signal, and its gatekeeper with it.
    pub(crate) fn is_led(&self) -> bool {
        let lives = self.ground.world.journal().lives();
        let running = lives.iter().rev().find(|life| process::lives(life.pid, life.started));
        running.is_some_and(|life| {
            let gatekeeper = self.instances.iter().find(|instance| instance.candidate.name() == life.name);
            life.asked.is_none() && gatekeeper.is_some_and(|instance| instance.candidate.end().is_none())
        })
    }

    /// Returns the identities in the queue.
    pub(crate) fn queue(&self) -> BTreeSet<String> {
        let entries = format!("{}/~entry/", self.ground.world.lock());
        let keys = self.ground.world.keys().unwrap_or_default().into_iter();
        keys.filter(|key| key.name.starts_with(&entries)).map(|key| key.value).collect()
    }
}

impl Instance {
    fn lead(&mut self, stray: bool, ground: &Ground<'_>) {
        let stray = stray && self.life.way.may_stray();
        if self.stray != stray {
            self.stray = stray;
            let to = if stray { ground.stray.member(0) } else { ground.world.cluster().member(REPLACED) };
            self.balancer.member(REPLACED).forward_to(to);
        }
    }

    /// Returns one of its processes, if it exists now.
    pub(crate) fn process(&self, part: Part) -> Option<ExactProcess> {
        let exactly = |pid| Some(ExactProcess { pid, started: process::Stat::of(pid)?.started });
        match part {
            Part::Gatekeeper => self.candidate.exact_pid().map(|(pid, started)| ExactProcess { pid, started }),
            Part::Guard => exactly(self.candidate.guard()?),
            Part::Command => {
                let life = self.candidate.living().into_iter().next()?;
                Some(ExactProcess { pid: life.pid, started: life.started })
            }
        }
    }
}

impl ExactProcess {
    pub(crate) fn lives(self) -> bool {
        process::lives(self.pid, self.started)
    }

    /// Sends a signal, if the process still exists.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            // It may have ended since.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
        }
    }
}

impl Ground<'_> {
    /// On the members' addresses and one port, so that one name can resolve to all of them.
    fn proxies(&self, index: usize) -> Vec<Proxy> {
        let port = FIRST_PORT + u16::try_from(index).unwrap_or(0);
        let members = self.world.cluster().members().iter();
        members.map(|member| Proxy::at(member, (member.client_address().ip(), port).into())).collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn start(
        &self,
        index: usize,
        number: u64,
        life: &Life,
        force: bool,
        balancer: &Balancer,
        logs_hang: bool,
        chronicle: &mut Chronicle,
    ) -> (Arc<Candidate>, usize) {
        // Its own name in the journal, to distinguish its processes from those of the instance before.
        let name = format!("{}.{number}", NAMES[index]);
        let setup = self.world.candidate(&name).identity(NAMES[index]).timing(life.timing);
        let mut setup = setup.behavior(life.behavior.clone()).set("LOG", "warn,etcd_await_election=debug");
        let mut endpoints: Vec<String> = balancer.members().iter().map(Proxy::endpoint).collect();
        let way = match (life.way, &self.names) {
            // Where names cannot be resolved.
            (Way::Name, None) => Way::Members(0),
            (way, _) => way,
        };
        match way {
            Way::Members(first) => endpoints.rotate_left(first),
            Way::StrayFirst => endpoints.splice(0..0, self.stray.endpoints()).for_each(drop),
            Way::StrayInstead => endpoints.splice(REPLACED..=REPLACED, self.stray.endpoints()).for_each(drop),
            Way::Name => {
                let port = balancer.member(0).address().port();
                endpoints = vec![format!("https://{NAME}:{port}")];
            }
            Way::Balancer => {
                endpoints = vec![balancer.endpoint()];
                setup = setup.set("CLUSTER_ID", format!("{:x}", self.id));
            }
        }
        setup = setup.set("ENDPOINTS", endpoints.join(","));
        if let Some(names) = &self.names {
            setup = setup.names(names);
        }
        if let Some(disk) = self.disk.filter(|_| life.log_may_hang && !logs_hang) {
            setup = setup.log_file(disk.path().join(format!("{name}.stderr")));
        }
        if let Some((variable, directory)) = self.lock_set.map(LockSet::variable) {
            setup = setup.variable(variable, directory);
        }
        if life.campaigns_again {
            setup = setup.set("ON_LOSS", "campaign");
        }
        if force {
            setup = setup.force();
        }
        chronicle.presences.push(Presence { instance: index, name, way: way.name(), from: now(), to: None });
        (setup.start(), chronicle.presences.len() - 1)
    }
}

/// Returns the identity of this slot.
pub(crate) fn name(index: usize) -> &'static str {
    NAMES[index]
}

/// Returns the slot of an instance with this name in the journal.
pub(crate) fn place(name: &str) -> usize {
    NAMES.iter().position(|known| name.split('.').next() == Some(known)).unwrap_or(0)
}

fn words(end: End) -> String {
    match end {
        End::Code(code) => format!("exit code {code}"),
        End::Signal(signal) => format!("signal {signal}"),
    }
}

/// Returns every process on this machine that has this word in its environment.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let found = all.flatten().filter_map(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let has = environment.windows(word.len()).any(|part| part == word.as_bytes());
        has.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    found.collect()
}
