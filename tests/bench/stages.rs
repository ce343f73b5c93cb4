//! The stages of a handover, from the old command's last instruction to the next one's first.
//!
//! At `LOG=trace` gatekeeper and guard log each event and action with the time of day. So these runs are a little slower than those
//! of the other parts.

use std::{sync::Arc, time::Duration};

use harness::{Cluster, journal::now};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::{
    floor::Floor,
    statistics::Summary,
    times::{Ending, Pair},
    wait::{Failure, ms},
};

/// What happens in each stage.
pub(crate) const STAGES: [(&str, &str); 9] = [
    ("exit", "the old command exits; its guard wakes and reaps it"),
    ("old guard", "it finds that no process is left, and reports that"),
    ("old gatekeeper", "it receives the report and sends the transaction that hands over"),
    ("commit", "etcd commits the transaction and answers"),
    ("watch event", "the event arrives at the next gatekeeper, if that is later than the answer"),
    ("next gatekeeper", "it decides and orders its guard to start the command"),
    ("next guard", "it wakes, prepares and forks"),
    ("fork", "the new process executes the command"),
    ("exec", "the kernel and the dynamic loader start it, up to its first instruction"),
];

/// The durations of the stages, run by run, in milliseconds.
#[derive(Debug)]
pub(crate) struct Stages(Vec<[f64; STAGES.len()]>);

/// Measures handovers after exit.
pub(crate) fn measure(cluster: &Arc<Cluster>, floor: &mut Floor, runs: usize) -> Stages {
    let mut pair = Pair::traced(cluster);
    let mut stages = Vec::new();
    for run in 0..runs {
        match pair.hand_over_traced(Ending::Exit, floor).and_then(|traced| split(&traced)) {
            Ok(split) => stages.push(split),
            Err(failure) => eprintln!("stages, run {run}: {failure}"),
        }
    }
    pair.close();
    Stages(stages)
}

/// A handover, and the logs of both instances.
pub(crate) struct Traced {
    pub(crate) ended: u64,
    pub(crate) started: u64,
    pub(crate) old_log: String,
    pub(crate) next_log: String,
}

impl Stages {
    /// Returns the medians, or `None` without a run.
    pub(crate) fn medians(&self) -> Option<[f64; STAGES.len()]> {
        let median = |stage: usize| {
            Summary::of(&self.0.iter().map(|run| run[stage]).collect::<Vec<_>>()).map_or(0.0, |summary| summary.median)
        };
        (!self.0.is_empty()).then(|| std::array::from_fn(median))
    }

    pub(crate) const fn runs(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn json(&self) -> Value {
        let names: Vec<_> = STAGES.iter().map(|(name, _)| name).collect();
        json!({ "stages": names, "runs_ms": self.0 })
    }
}

fn split(Traced { ended, started, old_log, next_log }: &Traced) -> Result<[f64; STAGES.len()], Failure> {
    let (old, next) = (Log::after(*ended, old_log), Log::after(*ended, next_log));
    let reaped = old.first("guard", "event: MainEnded(")?;
    let reported = old.first("guard", "action: Report(TreeExited(")?;
    let committing = old.first("run", "action: Request(RequestId(")?;
    let answered = old.first("run", "event: Answer(RequestId(")?;
    let ordered = next.first("run", "action: Order(Start")?;
    let notified = next.last_before(ordered, "run", "event: ")?;
    let forked = next.first("guard", "forked ")?;
    let executed = next.first("guard", "event: Started(")?;
    let mut from = *ended;
    let ends = [reaped, reported, committing, answered.min(notified), notified, ordered, forked, executed, *started];
    Ok(ends.map(|end| {
        // Two processes can note the same moment in either order.
        let to = end.clamp(from, *started);
        let length = ms(from, to);
        from = to;
        length
    }))
}

/// The lines after the end of the old command: their time on the journal's clock, their subject and their text.
struct Log(Vec<(u64, String, String)>);

impl Log {
    fn after(ended: u64, text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let at = on_the_journals_clock(line["timestamp"].as_str()?)?;
            let subject = line["target"].as_str()?.rsplit("::").next()?.to_owned();
            Some((at, subject, line["fields"]["message"].as_str()?.to_owned()))
        });
        Self(lines.filter(|(at, ..)| *at >= ended).collect())
    }

    fn first(&self, subject: &str, begin: &str) -> Result<u64, Failure> {
        self.find(subject, begin, |_| true).next().ok_or_else(|| format!("no line {subject}: {begin}"))
    }

    fn last_before(&self, before: u64, subject: &str, begin: &str) -> Result<u64, Failure> {
        self.find(subject, begin, |at| at <= before).last().ok_or_else(|| format!("no line {subject}: {begin} before"))
    }

    fn find(&self, subject: &str, begin: &str, counts: impl Fn(u64) -> bool) -> impl Iterator<Item = u64> {
        let found = move |(at, of, message): &&(u64, String, String)| {
            counts(*at) && of == subject && message.starts_with(begin)
        };
        self.0.iter().filter(found).map(|(at, ..)| *at)
    }
}

/// Converts a time of today, `2026-01-31T12:34:56.123456Z`.
fn on_the_journals_clock(time: &str) -> Option<u64> {
    const DAY: u64 = 86_400_000_000_000;
    let mut parts = time.split_once('T')?.1.strip_suffix('Z')?.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (seconds, micros) = parts.next()?.split_once('.')?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    let of_day = (((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros) * 1000;
    let today = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME).ok()?);
    let today = u64::try_from(today.as_nanos()).ok()? % DAY;
    now().checked_sub((today + DAY - of_day) % DAY)
}
