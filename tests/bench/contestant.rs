//! The contestants, and one instance of each, with the same operations.

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

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// The program.
    Program,
    /// `etcdctl lock`.
    Etcdctl,
    /// etcd itself, or for pass-through the kernel: a lower limit.
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

/// A lock, and the instances of one contestant that use it.
pub(crate) struct Field {
    world: World,
    contestant: Contestant,
    lock: String,
    timing: Timing,
    started: usize,
}

/// The limit of a start, on a machine that is busy with a hundred others.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The time from the queue entry until its watch is open and synchronized: etcd looks for lagging watches ten times a
/// second.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

impl Field {
    /// Creates a new lock.
    pub(crate) fn new(cluster: Arc<Cluster>, contestant: Contestant, timing: Timing) -> Self {
        let world = World::new(cluster, crate::program());
        let lock = world.lock().to_owned();
        Self { world, contestant, lock, timing, started: 0 }
    }

    /// Switches to a fresh lock.
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

    /// Starts an instance that reaches etcd only through these proxies.
    pub(crate) fn start_via(&mut self, proxies: &[Proxy]) -> Instance {
        self.start_as(Some(proxies), |setup| setup)
    }

    /// Starts an instance with FORCE_ACQUIRE.
    pub(crate) fn start_forcing(&mut self) -> Instance {
        self.start_as(None, Setup::force)
    }

    /// Starts an instance that logs each event.
    pub(crate) fn start_traced(&mut self) -> Instance {
        self.start_as(None, |setup| setup.set("LOG", "etcd_await_election=trace").set("LOG_FORMAT", "json"))
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

    /// Waits until the queue, leader included, has this many entries, and all watches are open.
    pub(crate) fn settled(&self, count: i64, floor: &mut Floor) -> Result<(), Failure> {
        let below = format!("{}/", self.lock);
        until(SOON, &format!("the queue has {count} entries"), || {
            floor.count(&below).ok().filter(|seen| *seen == count)
        })?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Ends all instances.
    pub(crate) fn close(self) {
        self.world.verdict();
    }
}

/// Returns the bench binary, which is also the probe.
pub(crate) fn probe_program() -> String {
    let path = std::env::current_exe().expect("the bench binary");
    path.to_str().expect("a path that is text").to_owned()
}

/// One instance with its command. Killed when dropped.
pub(crate) struct Instance {
    /// The instant before it was executed.
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

    /// Returns its processes without the command: gatekeeper and guard, or `etcdctl`.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut processes = vec![self.pid()];
        if let Gate::Program(candidate) = &self.gate {
            processes.extend(process::children(candidate.pid()));
        }
        processes
    }

    /// Returns the candidate, to use its status endpoint.
    pub(crate) fn candidate(&self) -> Option<&Candidate> {
        match &self.gate {
            Gate::Program(candidate) => Some(candidate),
            Gate::Etcdctl(_) => None,
        }
    }

    /// Returns when its command started.
    pub(crate) fn started(&self) -> Result<u64, Failure> {
        self.record.started(SOON)
    }

    /// Ends its command, as if its work were done.
    pub(crate) fn finish_command(&self) {
        self.record.signal(Signal::SIGUSR1);
    }

    /// Sends SIGTERM: to the whole group of `etcdctl lock`, as that does not forward it.
    pub(crate) fn terminate(&self) {
        match &self.gate {
            Gate::Program(candidate) => candidate.terminate(),
            Gate::Etcdctl(process) => {
                let _ = kill(Pid::from_raw(-process.pid()), Signal::SIGTERM);
            }
        }
    }

    /// Sends SIGKILL to the process that holds the lock, not to the command.
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
        // `etcdctl` may leave its command behind. The program ends its own; see the verdict.
        if let Gate::Etcdctl(process) = &self.gate {
            process.signal(Signal::SIGKILL);
            self.record.signal(Signal::SIGUSR1);
        }
    }
}

/// Executes `program` with these arguments and those of the probe; returns the instant of the probe's first
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
