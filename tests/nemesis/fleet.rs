//! The instances, each behind its own three proxies, and the supervisor that starts again what ended.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use harness::{Candidate, End, Proxy, World, journal::now, process};
use nix::sys::signal::Signal;

use super::{
    chronicle::{Chronicle, Presence},
    plan::{INSTANCES, Life, Part, Whose},
};

const NAMES: [&str; INSTANCES] = ["anna", "bert", "cleo", "dora", "emil"];

/// How instances end: commands of theirs that end or are ended, a lost guard, a lost lead, SIGTERM, our SIGKILL. Anything
/// else is a fault of the program, such as giving up because etcd was seen to refuse.
const EXPECTED: [End; 7] = [
    End::Code(0),
    End::Code(1),
    End::Code(70),
    End::Code(79),
    End::Code(128 + Signal::SIGKILL as i32),
    End::Code(128 + Signal::SIGTERM as i32),
    End::Signal(Signal::SIGKILL as i32),
];

/// All instances.
pub(crate) struct Fleet<'a> {
    world: &'a World,
    seed: u64,
    pub(crate) instances: Vec<Instance>,
    /// Ends that no instance may come to.
    pub(crate) unexpected: Vec<String>,
}

/// One place in the fleet; whoever fills it has the same identity as the one before.
pub(crate) struct Instance {
    pub(crate) index: usize,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) candidate: Arc<Candidate>,
    life: Life,
    pub(crate) number: u64,
    /// Where it stands in the chronicle.
    presence: usize,
    /// Since when it has ended.
    ended: Option<u64>,
    pub(crate) force_next: bool,
    /// Which of its two halves was hurt. The other one is spared then: the promise is about one failure.
    pub(crate) hurt: Option<Part>,
    /// A fault of its network at a time.
    pub(crate) unlinked: bool,
}

/// That very process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exactly {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl<'a> Fleet<'a> {
    /// Starts one in each place.
    pub(crate) fn start(world: &'a World, seed: u64, chronicle: &mut Chronicle) -> Self {
        let instances = (0..INSTANCES).map(|index| {
            let proxies = world.proxies();
            let life = Life::new(seed, index, 0);
            let (candidate, presence) = start(world, index, 0, &life, false, &proxies, chronicle);
            Instance {
                index,
                proxies,
                candidate,
                life,
                number: 0,
                presence,
                ended: None,
                force_next: false,
                hurt: None,
                unlinked: false,
            }
        });
        Self { world, seed, instances: instances.collect(), unexpected: Vec::new() }
    }

    /// Notes who has ended, and starts again whose time it is.
    pub(crate) fn supervise(&mut self, chronicle: &mut Chronicle) {
        for instance in &mut self.instances {
            let Some(end) = instance.candidate.end() else { continue };
            let ended = *instance.ended.get_or_insert_with(|| {
                chronicle.presences[instance.presence].to = Some(now());
                *chronicle.ends.entry(words(end)).or_default() += 1;
                // Asked to end before it came to say what is to be done with signals: nothing was begun.
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
            instance.life = Life::new(self.seed, instance.index, instance.number);
            let force = std::mem::take(&mut instance.force_next);
            (instance.candidate, instance.presence) =
                start(self.world, instance.index, instance.number, &instance.life, force, &instance.proxies, chronicle);
            instance.ended = None;
            instance.hurt = None;
        }
    }

    /// Whom a fault is for, if there is such an instance with a living gatekeeper.
    pub(crate) fn find(&mut self, whose: Whose) -> Option<&mut Instance> {
        let index = match whose {
            Whose::Instance(index) => index,
            Whose::Leader => self.leader()?,
        };
        self.instances.get_mut(index).filter(|instance| instance.candidate.end().is_none())
    }

    /// The instance whose command runs, stopping or not.
    fn leader(&self) -> Option<usize> {
        let lives = self.world.journal().lives();
        let running = lives.iter().rev().find(|life| process::lives(life.pid, life.started))?;
        self.instances.iter().position(|instance| instance.candidate.name() == running.name)
    }

    /// Whether somebody's command runs that nobody asked to stop, and its gatekeeper with it.
    pub(crate) fn is_led(&self) -> bool {
        let lives = self.world.journal().lives();
        let running = lives.iter().rev().find(|life| process::lives(life.pid, life.started));
        running.is_some_and(|life| {
            let gatekeeper = self.instances.iter().find(|instance| instance.candidate.name() == life.name);
            life.asked.is_none() && gatekeeper.is_some_and(|instance| instance.candidate.end().is_none())
        })
    }

    /// The identities that stand in the queue now.
    pub(crate) fn queue(&self) -> BTreeSet<String> {
        let entries = format!("{}/0", self.world.lock());
        let keys = self.world.keys().unwrap_or_default().into_iter();
        keys.filter(|key| key.name.starts_with(&entries)).map(|key| key.value).collect()
    }
}

impl Instance {
    /// One of its processes, if there is such a process now.
    pub(crate) fn process(&self, part: Part) -> Option<Exactly> {
        let exactly = |pid| Some(Exactly { pid, started: process::Stat::of(pid)?.started });
        match part {
            Part::Gatekeeper => exactly(self.candidate.pid()),
            Part::Guard => exactly(self.candidate.guard()?),
            Part::Command => {
                let life = self.candidate.living().into_iter().next()?;
                Some(Exactly { pid: life.pid, started: life.started })
            }
        }
    }
}

impl Exactly {
    pub(crate) fn lives(self) -> bool {
        process::lives(self.pid, self.started)
    }

    /// Sends a signal, if it is still there.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            // It may have ended since: then there is nothing to do.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
        }
    }
}

fn start(
    world: &World,
    index: usize,
    number: u64,
    life: &Life,
    force: bool,
    proxies: &[Proxy],
    chronicle: &mut Chronicle,
) -> (Arc<Candidate>, usize) {
    // A name of its own in the journal: its processes are told from those of the life before.
    let name = format!("{}.{number}", NAMES[index]);
    let mut setup = world.candidate(&name).identity(NAMES[index]).timing(life.timing).behaviour(life.behaviour.clone());
    setup = setup.via(proxies).set("LOG", "warn,etcd_await_election=debug");
    if life.campaigns_again {
        setup = setup.set("ON_LOSS", "campaign");
    }
    if force {
        setup = setup.force();
    }
    chronicle.presences.push(Presence { instance: index, name, from: now(), to: None });
    (setup.start(), chronicle.presences.len() - 1)
}

/// The identity of whoever fills this place.
pub(crate) fn name(index: usize) -> &'static str {
    NAMES[index]
}

/// The place of whoever has this name in the journal.
pub(crate) fn place(name: &str) -> usize {
    NAMES.iter().position(|known| name.split('.').next() == Some(known)).unwrap_or(0)
}

fn words(end: End) -> String {
    match end {
        End::Code(code) => format!("exit code {code}"),
        End::Signal(signal) => format!("signal {signal}"),
    }
}

/// Every process on this machine that has this word in its environment.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let found = all.flatten().filter_map(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let has = environment.windows(word.len()).any(|part| part == word.as_bytes());
        has.then(|| entry.file_name().to_string_lossy().into_owned())
    });
    found.collect()
}
