//! The cost of many standbys: requests, proposals, CPU and memory in the steady state, and a handover.

use std::{sync::Arc, thread, time::Duration};

use harness::{Cluster, Timing, journal::now};

use crate::{
    contestant::{self, Contestant, Field, Instance},
    counters::{self, Etcd},
    floor::Floor,
    results::Fleet,
    times::{Ending, Pair},
    wait::{Failure, ms, until},
};

/// The number of instances that start at once.
const BATCH: usize = 10;
/// The time from the last start to the steady state: longer than the leases of instances that were killed before.
const REST: Duration = Duration::from_secs(Timing::LONG.lease + 2);
/// Four renewal periods of standbys.
const STEADY: Duration = Duration::from_secs(20);

/// Measures etcd without clients.
pub(crate) fn idle(cluster: &Cluster) -> Result<Etcd, Failure> {
    thread::sleep(REST);
    steady(cluster, || ()).map(|(idle, ())| idle)
}

/// Measures one leader and `waiting` standbys.
pub(crate) fn measure(
    cluster: &Arc<Cluster>,
    floor: &mut Floor,
    contestant: Contestant,
    waiting: usize,
    runs: usize,
    idle: &Etcd,
) -> Result<Fleet, Failure> {
    let mut field = Field::new(Arc::clone(cluster), contestant, Timing::LONG);
    let mut fleet = Vec::new();
    let mut pair = Pair::new(cluster, contestant);
    let measured = gather(&mut field, &mut fleet, waiting, floor)
        .and_then(|()| observe(cluster, contestant, &fleet, idle))
        .and_then(|mut measured| {
            for run in 0..runs {
                // With many and with one standby, alternating, each first equally often.
                for turn in 0..2 {
                    if (run + turn) % 2 == 0 {
                        measured.hand_over.push(hand_over(&mut field, &mut fleet, floor)?);
                    } else {
                        measured.hand_over_of_one.push(pair.hand_over(Ending::Exit, floor)?);
                    }
                }
            }
            Ok(measured)
        });
    pair.close();
    drop(fleet);
    field.close();
    measured
}

fn gather(field: &mut Field, fleet: &mut Vec<Instance>, waiting: usize, floor: &mut Floor) -> Result<(), Failure> {
    fleet.push(field.start());
    fleet[0].started()?;
    while fleet.len() <= waiting {
        for _ in 0..BATCH.min(waiting + 1 - fleet.len()) {
            fleet.push(field.start());
        }
        field.settled(count(fleet), floor)?;
    }
    Ok(())
}

fn observe(cluster: &Cluster, contestant: Contestant, fleet: &[Instance], idle: &Etcd) -> Result<Fleet, Failure> {
    thread::sleep(REST);
    let processes: Vec<i32> = fleet.iter().flat_map(Instance::processes).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let each = fleet.len() as f64;
    let before = counters::cpu_ms(&processes);
    let (etcd, pss) = steady(cluster, || counters::pss_mb(&processes))?;
    let cpu = counters::cpu_ms(&processes) - before;
    if etcd.leader_changes > 0.0 {
        return Err("etcd elected a raft leader meanwhile, so there is no steady state".into());
    }
    Ok(Fleet {
        contestant,
        waiting: fleet.len() - 1,
        requests: etcd.requests - idle.requests,
        proposals: etcd.proposals - idle.proposals,
        cpu_ms: cpu / each / STEADY.as_secs_f64(),
        etcd_cpu_ms: (etcd.cpu - idle.cpu) * 1e3,
        pss_mb: pss / each,
        hand_over: Vec::new(),
        hand_over_of_one: Vec::new(),
    })
}

/// Measures the counters of etcd in the steady state, and calls `look` at the end.
fn steady<T>(cluster: &Cluster, look: impl FnOnce() -> T) -> Result<(Etcd, T), Failure> {
    let (before, from) = (Etcd::of(cluster)?, now());
    thread::sleep(STEADY);
    let (after, to) = (Etcd::of(cluster)?, now());
    Ok((after.per_second(&before, ms(from, to) / 1e3), look()))
}

/// Ends the leader's command; a standby leads, and a new instance joins the queue.
fn hand_over(field: &mut Field, fleet: &mut Vec<Instance>, floor: &mut Floor) -> Result<f64, Failure> {
    let old = fleet.remove(0);
    old.finish_command();
    let ended = old.record.ended(contestant::SOON)?;
    // The order of instances that were started together is not known before.
    let number = until(contestant::SOON, "an instance leads", || {
        old.record.last_started().filter(|&number| number != old.record.number())
    })?;
    let next = fleet.iter().position(|instance| instance.record.number() == number);
    fleet.swap(0, next.ok_or("an unknown instance leads")?);
    let started = fleet[0].started()?;
    old.gone()?;
    fleet.push(field.start());
    field.settled(count(fleet), floor)?;
    Ok(ms(ended, started))
}

fn count(fleet: &[Instance]) -> i64 {
    i64::try_from(fleet.len()).unwrap_or(i64::MAX)
}
