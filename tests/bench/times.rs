//! The times: start, handover, failover, force, pass-through.

use std::{sync::Arc, time::Duration};

use harness::{Cluster, Proxy, Timing, journal::now, scratch::Scratch};

use crate::{
    contestant::{self, Contestant, Field, Instance},
    floor::Floor,
    results::{Case, Goal},
    stages::Traced,
    wait::{Failure, ms, until},
};

const ALL: [Contestant; 3] = [Contestant::Program, Contestant::Etcdctl, Contestant::Bare];

/// The lease of runs that wait for its expiry.
const SHORT: Timing = Timing::SHORT;

const TO_COMMAND: &str = "executed → the command's first instruction";

/// Measures the time from the execution to the command's first instruction, with a free lock.
pub(crate) fn start(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Case {
    let case = Case::new("start", "Start", TO_COMMAND, &ALL)
        .note(Contestant::Bare, "connect, grant, create the key, execute")
        .goals(&[Goal::Times(Contestant::Etcdctl, 0.6), Goal::Times(Contestant::Bare, 1.4)]);
    run_starts(case, cluster, floor, runs, false)
}

/// Measures the same beside a minimal client that asks a majority of the members for their cluster, as the program does.
pub(crate) fn start_after_vote(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Case {
    let case = Case::new("vote", "Start, bare with a vote", TO_COMMAND, &[Contestant::Program, Contestant::Bare])
        .note(Contestant::Bare, "connect to two members, ask both for their cluster, grant, create the key, execute");
    run_starts(case, cluster, floor, runs, true)
}

fn run_starts(case: Case, cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize, vote: bool) -> Case {
    let mut fields = Fields::new(cluster, Timing::LONG);
    let (key, mut number) = (case.key, 0);
    let case = case.run(runs, |contestant| {
        number += 1;
        let Some(field) = fields.of(contestant) else { return floor.start(&format!("bare/{key}/{number}"), vote) };
        field.next_lock();
        let instance = field.start();
        let started = instance.started()?;
        instance.terminate();
        instance.gone()?;
        Ok(ms(instance.begun, started))
    });
    fields.close();
    case
}

/// How the leader's term ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exit,
    Terminate,
}

/// Measures the time from the old command's end to the next one's first instruction, with one standby.
pub(crate) fn hand_over(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize, ending: Ending) -> Case {
    let (key, title) = match ending {
        Ending::Exit => ("exit", "Handover after exit"),
        Ending::Terminate => ("sigterm", "Handover after SIGTERM"),
    };
    let goals = [Goal::Times(Contestant::Etcdctl, 1.0), Goal::Times(Contestant::Bare, 1.0)];
    let mut pairs = [Pair::new(cluster, Contestant::Program), Pair::new(cluster, Contestant::Etcdctl)];
    let mut number = 0;
    let case = Case::new(key, title, "the command's last instruction → the next one's first", &ALL)
        .note(Contestant::Bare, "delete, watch, create the key, execute")
        .goals(if ending == Ending::Exit { &goals } else { &goals[..1] })
        .run(runs, |contestant| {
            number += 1;
            match pairs.iter_mut().find(|pair| pair.contestant == contestant) {
                None => floor.hand_over(&format!("bare/{key}/{number}")),
                Some(pair) => pair.hand_over(ending, floor),
            }
        });
    pairs.into_iter().for_each(Pair::close);
    case
}

/// A leader and a standby.
pub(crate) struct Pair {
    contestant: Contestant,
    field: Field,
    instances: Vec<Instance>,
    /// Whether the instances log each event.
    traced: bool,
}

impl Pair {
    pub(crate) fn new(cluster: &Arc<Cluster>, contestant: Contestant) -> Self {
        let field = Field::new(Arc::clone(cluster), contestant, Timing::LONG);
        Self { contestant, field, instances: Vec::new(), traced: false }
    }

    /// Creates instances of the program that log each event.
    pub(crate) fn traced(cluster: &Arc<Cluster>) -> Self {
        Self { traced: true, ..Self::new(cluster, Contestant::Program) }
    }

    /// Ends the leader's term and waits for the next one's.
    pub(crate) fn hand_over(&mut self, ending: Ending, floor: &mut Floor) -> Result<f64, Failure> {
        self.hand_over_of(ending, floor).map(|handed_over| ms(handed_over.ended, handed_over.started))
    }

    /// Does the same, and returns the logs of both instances.
    pub(crate) fn hand_over_traced(&mut self, ending: Ending, floor: &mut Floor) -> Result<Traced, Failure> {
        let HandedOver { old, ended, started } = self.hand_over_of(ending, floor)?;
        let log_of = |instance: &Instance| instance.candidate().map(harness::Candidate::stderr).unwrap_or_default();
        let next_log = until(contestant::SOON, "the start is in the log", || {
            Some(log_of(&self.instances[0])).filter(|log| log.contains("event: Started("))
        })?;
        Ok(Traced { ended, started, old_log: log_of(&old), next_log })
    }

    fn hand_over_of(&mut self, ending: Ending, floor: &mut Floor) -> Result<HandedOver, Failure> {
        let handed_over = self.try_hand_over(ending, floor);
        if handed_over.is_err() {
            // It must not disturb the next run.
            self.instances.clear();
            self.field.next_lock();
        }
        handed_over
    }

    fn try_hand_over(&mut self, ending: Ending, floor: &mut Floor) -> Result<HandedOver, Failure> {
        while self.instances.len() < 2 {
            let instance = if self.traced { self.field.start_traced() } else { self.field.start() };
            if self.instances.is_empty() {
                instance.started()?;
            }
            self.instances.push(instance);
        }
        self.field.settled(2, floor)?;
        let old = self.instances.remove(0);
        match ending {
            Ending::Exit => old.finish_command(),
            Ending::Terminate => old.terminate(),
        }
        let ended = old.record.ended(contestant::SOON)?;
        let started = self.instances[0].started()?;
        old.gone()?;
        Ok(HandedOver { old, ended, started })
    }

    pub(crate) fn close(self) {
        drop(self.instances);
        self.field.close();
    }
}

/// The instance that has handed over, and the old command's last and the next one's first instruction.
struct HandedOver {
    old: Instance,
    ended: u64,
    started: u64,
}

/// The gatekeeper is killed: from its command's end to the next one's start. The command of `etcdctl lock` continues
/// beside its successor, so there it is the time from the kill.
pub(crate) fn killed(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Case {
    let mut fields = Fields::new(cluster, SHORT);
    let case =
        Case::new("killed", "Gatekeeper killed", "the command's end → the next one's first instruction", &ALL[..2])
            .note(
                Contestant::Etcdctl,
                "from the kill, with a lease of 3 s; the old command RUNS ON beside the next one",
            )
            .goals(&[Goal::AtMost(8.0)])
            .run(runs, |contestant| {
                let field = fields.of(contestant).ok_or("nothing to kill")?;
                let (old, next) = two(field, None, floor)?;
                let killed = now();
                old.kill();
                let started = next.started()?;
                let from = if contestant == Contestant::Program { old.record.ended(contestant::SOON)? } else { killed };
                leave(&old, &next)?;
                Ok(ms(from, started))
            });
    fields.close();
    case
}

/// The leader's machine is cut off: from its last renewal to the next one's start.
pub(crate) fn cut_off(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Case {
    let mut fields = Fields::new(cluster, SHORT);
    let lease = SHORT.lease().as_secs_f64() * 1e3;
    let case = Case::new(
        "cut-off",
        "Machine cut off (lease 3 s)",
        "last renewal → the next one's first instruction",
        &ALL[..2],
    )
    .note(Contestant::Etcdctl, "from the cut; the old command RUNS ON beside the next one")
    .goals(&[Goal::AtMost(lease + 1500.0)])
    .run(runs, |contestant| {
        let field = fields.of(contestant).ok_or("nothing to cut off")?;
        let proxies = field.world().proxies();
        let (old, next) = two(field, Some(&proxies), floor)?;
        let cut = now();
        proxies.iter().for_each(Proxy::black_hole);
        // A response in flight may still confirm a renewal.
        std::thread::sleep(Duration::from_millis(50));
        let from = old.candidate().map_or(Ok(cut), last_renewal)?;
        let started = next.started()?;
        leave(&old, &next)?;
        Ok(ms(from, started))
    });
    fields.close();
    case
}

/// An instance that forces: from its execution to its command's first instruction, the end of the old command included.
pub(crate) fn force(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Case {
    let mut fields = Fields::new(cluster, Timing::LONG);
    let case = Case::new(
        "force",
        "Force",
        "executed → the command's first instruction, the old one's end included",
        &ALL[..1],
    )
    .run(runs, |contestant| {
        let field = fields.of(contestant).ok_or("no contestant to force")?;
        field.next_lock();
        let old = field.start();
        old.started()?;
        field.settled(1, floor)?;
        let next = field.start_forcing();
        let (begun, started) = (next.begun, next.started()?);
        leave(&old, &next)?;
        Ok(ms(begun, started))
    });
    fields.close();
    case
}

/// No election: from the execution to the command's first instruction.
pub(crate) fn pass_through(runs: usize) -> Case {
    let folder = Scratch::new("pass-through");
    let (program, probe) = (crate::program().to_string_lossy().into_owned(), contestant::probe_program());
    Case::new(
        "pass-through",
        "Pass-through",
        "executed → the command's first instruction",
        &[Contestant::Program, Contestant::Bare],
    )
    .note(Contestant::Bare, "executed directly")
    .goals(&[Goal::More(Contestant::Bare, 1.0)])
    .run(runs, |contestant| {
        let begun = now();
        let started = match contestant {
            Contestant::Program => contestant::execute(&program, std::slice::from_ref(&probe), &folder),
            _ => contestant::execute(&probe, &[], &folder),
        };
        Ok(ms(begun, started?))
    })
}

/// A field for each who takes part in elections.
struct Fields([(Contestant, Field); 2]);

impl Fields {
    fn new(cluster: &Arc<Cluster>, timing: Timing) -> Self {
        Self(
            [Contestant::Program, Contestant::Etcdctl]
                .map(|contestant| (contestant, Field::new(Arc::clone(cluster), contestant, timing))),
        )
    }

    fn of(&mut self, contestant: Contestant) -> Option<&mut Field> {
        self.0.iter_mut().find(|(whose, _)| *whose == contestant).map(|(_, field)| field)
    }

    fn close(self) {
        for (_, field) in self.0 {
            field.close();
        }
    }
}

/// Starts a leader, through the proxies if there are any, and a standby on a fresh lock.
fn two(field: &mut Field, proxies: Option<&[Proxy]>, floor: &mut Floor) -> Result<(Instance, Instance), Failure> {
    field.next_lock();
    let old = match proxies {
        Some(proxies) => field.start_via(proxies),
        None => field.start(),
    };
    old.started()?;
    let next = field.start();
    field.settled(2, floor)?;
    Ok((old, next))
}

/// Ends the instances of a run. The verdict waits for those that were killed or cut off.
fn leave(old: &Instance, next: &Instance) -> Result<(), Failure> {
    old.kill();
    next.terminate();
    next.gone()
}

/// Returns when a leader sent its last confirmed renewal.
fn last_renewal(candidate: &harness::Candidate) -> Result<u64, Failure> {
    const METRIC: &str = "etcd_await_election_last_renewal_age_seconds ";
    let asked = now();
    let age = until(contestant::SOON, "the status endpoint answers", || {
        let page = candidate.http("GET", "/metrics").ok()?.body;
        page.lines().find_map(|line| line.strip_prefix(METRIC)?.parse::<f64>().ok())
    })?;
    let age = Duration::from_secs_f64(age).as_nanos();
    Ok(asked.saturating_sub(u64::try_from(age).unwrap_or(u64::MAX)))
}
