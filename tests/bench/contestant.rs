//! Who is measured, and one instance of it: the same verbs for all.

use std::{process::Command, sync::Arc, time::Duration};

use harness::{
    Candidate, Cluster, Process, Proxy, Setup, Timing, World, etcdctl::Etcdctl, journal::now, process, scratch::Scratch,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    floor::Floor,
    probe::Record,
    wait::{Failure, until},
};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// The program.
    Program,
    /// `etcdctl lock`.
    Etcdctl,
    /// etcd itself, or for pass-through the kernel: what none can be faster than.
    Bare,
}

impl Contestant {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Program => "etcd-await-election",
            Self::Etcdctl => "etcdctl lock",
            Self::Bare => "bare",
        }
    }
}

/// A lock, and those who compete for it: all of the same kind.
pub(crate) struct Field {
    world: World,
    contestant: Contestant,
    lock: String,
    timing: Timing,
    started: usize,
}

/// A start may take as long as this, on a machine that is busy with a hundred others.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// From standing in the queue to waiting in earnest: its watch is open, and etcd, which looks for late watches ten times a
/// second, has it among those that it tells at once.
const SETTLE: Duration = Duration::from_millis(300);

impl Field {
    /// A lock of its own.
    pub(crate) fn new(cluster: Arc<Cluster>, contestant: Contestant, timing: Timing) -> Self {
        let world = World::new(cluster, crate::program());
        let lock = world.lock().to_owned();
        Self { world, contestant, lock, timing, started: 0 }
    }

    /// The same, with a fresh lock on which nothing was ever done.
    pub(crate) fn next_lock(&mut self) {
        self.lock = format!("{}-{}", self.world.lock(), self.started);
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Starts an instance.
    pub(crate) fn start(&mut self) -> Instance {
        self.start_as(None, |setup| setup)
    }

    /// Starts one that reaches etcd through these only.
    pub(crate) fn start_via(&mut self, proxies: &[Proxy]) -> Instance {
        self.start_as(Some(proxies), |setup| setup)
    }

    /// Starts one that asks for the lead.
    pub(crate) fn start_forcing(&mut self) -> Instance {
        self.start_as(None, Setup::force)
    }

    fn start_as(&mut self, proxies: Option<&[Proxy]>, with: impl FnOnce(Setup) -> Setup) -> Instance {
        self.started += 1;
        let record = Record::new(self.world.directory().join("probes"), self.started);
        let words: Vec<_> = [probe_program()].into_iter().chain(record.arguments()).collect();
        let begun;
        let gate = if self.contestant == Contestant::Program {
            let mut setup = self.world.candidate(&format!("i{}", self.started)).timing(self.timing);
            setup = setup.set("LOCK_NAME", &self.lock);
            if let Some(proxies) = proxies {
                setup = setup.via(proxies);
            }
            let setup = with(setup).command(&words);
            begun = now();
            Gate::Program(setup.start())
        } else {
            let etcdctl = self.etcdctl(proxies);
            let ttl = format!("--ttl={}", self.timing.lease);
            let words: Vec<_> =
                ["lock", &ttl, &self.lock].into_iter().chain(words.iter().map(String::as_str)).collect();
            begun = now();
            Gate::Etcdctl(etcdctl.start(&words))
        };
        Instance { begun, record, gate }
    }

    fn etcdctl(&self, proxies: Option<&[Proxy]>) -> Etcdctl {
        match proxies {
            None => self.world.cluster().etcdctl(),
            Some(proxies) => {
                let endpoints: Vec<_> = proxies.iter().map(Proxy::endpoint).collect();
                self.world.cluster().etcdctl_at(&endpoints.join(","))
            }
        }
    }

    /// Waits until so many stand in the queue, whoever leads among them, and all has come to rest.
    pub(crate) fn settled(&self, count: i64, floor: &mut Floor) -> Result<(), Failure> {
        let below = format!("{}/", self.lock);
        until(SOON, &format!("the queue has {count} entries"), || {
            floor.count(&below).ok().filter(|seen| *seen == count)
        })?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// The end of every field.
    pub(crate) fn close(self) {
        self.world.verdict();
    }
}

/// The bench binary, which is the probe too.
pub(crate) fn probe_program() -> String {
    let path = std::env::current_exe().expect("the bench binary");
    path.to_str().expect("a path that is text").to_owned()
}

/// One instance, its command included. Killed when dropped.
pub(crate) struct Instance {
    /// The moment before it was executed.
    pub(crate) begun: u64,
    pub(crate) record: Record,
    gate: Gate,
}

enum Gate {
    Program(Arc<Candidate>),
    Etcdctl(Process),
}

impl Instance {
    pub(crate) fn pid(&self) -> i32 {
        match &self.gate {
            Gate::Program(candidate) => candidate.pid(),
            Gate::Etcdctl(process) => process.pid(),
        }
    }

    /// Every process that waits: the gatekeeper and its guard, or `etcdctl`.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut processes = vec![self.pid()];
        if let Gate::Program(candidate) = &self.gate {
            processes.extend(process::children(candidate.pid()));
        }
        processes
    }

    /// The program's own, to ask its status endpoint.
    pub(crate) fn candidate(&self) -> Option<&Candidate> {
        match &self.gate {
            Gate::Program(candidate) => Some(candidate),
            Gate::Etcdctl(_) => None,
        }
    }

    /// When its command began.
    pub(crate) fn started(&self) -> Result<u64, Failure> {
        self.record.started(SOON)
    }

    /// Its command ends, as if its work were done.
    pub(crate) fn finish_command(&self) {
        self.record.signal(Signal::SIGUSR1);
    }

    /// SIGTERM. `etcdctl lock` does not pass it on, so there it goes to the whole group, as a terminal's would.
    pub(crate) fn terminate(&self) {
        match &self.gate {
            Gate::Program(candidate) => candidate.terminate(),
            Gate::Etcdctl(process) => {
                let _ = kill(Pid::from_raw(-process.pid()), Signal::SIGTERM);
            }
        }
    }

    /// SIGKILL to what holds the lock, not to the command.
    pub(crate) fn kill(&self) {
        match &self.gate {
            Gate::Program(candidate) => candidate.kill(),
            Gate::Etcdctl(process) => process.signal(Signal::SIGKILL),
        }
    }

    /// Waits until it has ended.
    pub(crate) fn gone(&self) -> Result<(), Failure> {
        until(SOON, "the instance ends", || match &self.gate {
            Gate::Program(candidate) => candidate.end(),
            Gate::Etcdctl(process) => process.end(),
        })
        .map(drop)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A command that `etcdctl` left behind is ours to end. The program ends its own; see the verdict.
        if let Gate::Etcdctl(process) = &self.gate {
            process.signal(Signal::SIGKILL);
            self.record.signal(Signal::SIGUSR1);
        }
    }
}

/// Executes `program` with these words, and with those that make it a probe in the end; gives the moment of the probe's first
/// instruction.
pub(crate) fn execute(program: &str, words: &[String], folder: &Scratch) -> Result<u64, Failure> {
    let path = folder.path().join("probe");
    let _ = std::fs::remove_file(&path);
    let record = Record::new(path, 0);
    let mut command = Command::new(program);
    let mut child =
        command.args(words).args(record.arguments()).spawn().map_err(|error| format!("{program}: {error}"))?;
    let started = record.started(SOON);
    record.signal(Signal::SIGUSR1);
    if started.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    started
}
