//! The results, and their goals.

use serde_json::{Value, json};

use crate::{
    contestant::Contestant,
    statistics::{Summary, ratios},
    wait::Failure,
};

/// One measurement of all contestants.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    /// The measured interval.
    pub(crate) what: &'static str,
    pub(crate) series: Vec<Series>,
    pub(crate) goals: Vec<Goal>,
}

/// The figures of one contestant, in milliseconds, run by run; NaN where a run failed.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) contestant: Contestant,
    /// A remark.
    pub(crate) note: &'static str,
    pub(crate) values: Vec<f64>,
}

/// A goal for the median of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At most so many times another's, run by run.
    Times(Contestant, f64),
    /// At most this more than another's, run by run.
    More(Contestant, f64),
}

impl Case {
    pub(crate) fn new(key: &'static str, title: &'static str, what: &'static str, whose: &[Contestant]) -> Self {
        let series = whose.iter().map(|&contestant| Series { contestant, note: "", values: Vec::new() }).collect();
        Self { key, title, what, series, goals: Vec::new() }
    }

    pub(crate) fn goals(mut self, goals: &[Goal]) -> Self {
        self.goals = goals.to_vec();
        self
    }

    pub(crate) fn note(mut self, contestant: Contestant, note: &'static str) -> Self {
        self.series.iter_mut().filter(|series| series.contestant == contestant).for_each(|series| series.note = note);
        self
    }

    /// Runs all contestants `runs` times, alternating and starting with another one each time, so that other load
    /// affects all alike.
    pub(crate) fn run(mut self, runs: usize, mut measure: impl FnMut(Contestant) -> Result<f64, Failure>) -> Self {
        for run in 0..runs {
            let count = self.series.len();
            for turn in 0..count {
                let series = &mut self.series[(run + turn) % count];
                let figure = measure(series.contestant).unwrap_or_else(|failure| {
                    eprintln!("{}, run {run}, {}: {failure}", self.key, series.contestant.name());
                    f64::NAN
                });
                series.values.push(figure);
            }
        }
        for series in &self.series {
            if let Some(Summary { median, quartiles: (low, high), count, .. }) = Summary::of(&series.values) {
                eprintln!(
                    "{:14} {:20} {median:9.1} ms  [{low:.1} .. {high:.1}]  {count} runs",
                    self.key,
                    series.contestant.name()
                );
            }
        }
        self
    }

    /// Returns the figures of one contestant, if it takes part.
    pub(crate) fn of(&self, contestant: Contestant) -> &[f64] {
        self.series.iter().find(|series| series.contestant == contestant).map_or(&[], |series| &series.values)
    }

    /// Returns the ratio of the program to another contestant, run by run.
    pub(crate) fn ratio(&self, to: Contestant) -> Option<Summary> {
        Summary::of(&ratios(self.of(Contestant::Program), self.of(to)))
    }

    /// Returns each goal as text, and whether it is reached.
    pub(crate) fn reached(&self) -> Vec<(String, bool)> {
        let ours = Summary::of(self.of(Contestant::Program)).map_or(f64::NAN, |summary| summary.median);
        let judge = |goal: &Goal| match *goal {
            Goal::AtMost(limit) => (format!("≤ {limit:.0} ms"), ours <= limit),
            Goal::Times(contestant, limit) => {
                let ratio = self.ratio(contestant).map_or(f64::NAN, |summary| summary.median);
                (format!("≤ {limit} × {} (is {ratio:.2})", contestant.name()), ratio <= limit)
            }
            Goal::More(contestant, limit) => {
                let more: Vec<f64> =
                    self.of(Contestant::Program).iter().zip(self.of(contestant)).map(|(a, b)| a - b).collect();
                let more = Summary::of(&more).map_or(f64::NAN, |summary| summary.median);
                (format!("≤ {} + {limit} ms (is + {more:.2})", contestant.name()), more <= limit)
            }
        };
        self.goals.iter().map(judge).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            let summary = Summary::of(&series.values);
            json!({
                "contestant": series.contestant.name(),
                "note": series.note,
                "median_ms": summary.map(|summary| summary.median),
                "quartiles_ms": summary.map(|summary| summary.quartiles),
                "values_ms": series.values,
            })
        });
        let goals = self.reached().into_iter().map(|(goal, reached)| json!({"goal": goal, "reached": reached}));
        json!({
            "key": self.key,
            "title": self.title,
            "what": self.what,
            "series": series.collect::<Vec<_>>(),
            "ratio_to_etcdctl": self.ratio(Contestant::Etcdctl).map(|ratio| ratio.median),
            "ratio_to_bare": self.ratio(Contestant::Bare).map(|ratio| ratio.median),
            "goals": goals.collect::<Vec<_>>(),
        })
    }
}

/// The results of many standbys and a leader.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) contestant: Contestant,
    pub(crate) waiting: usize,
    /// Requests to etcd per second, in the steady state.
    pub(crate) requests: f64,
    /// Raft proposals per second, less those of an idle etcd.
    pub(crate) proposals: f64,
    /// CPU time of one instance per second, in milliseconds.
    pub(crate) cpu_ms: f64,
    /// The same of all members of etcd, less that of an idle etcd.
    pub(crate) etcd_cpu_ms: f64,
    /// Memory of one instance, in megabytes.
    pub(crate) pss_mb: f64,
    /// Handovers after exit in milliseconds, with so many waiting.
    pub(crate) hand_over: Vec<f64>,
    /// The same with one waiting, at the same time.
    pub(crate) hand_over_of_one: Vec<f64>,
}

impl Fleet {
    pub(crate) fn json(&self) -> Value {
        json!({
            "contestant": self.contestant.name(),
            "waiting": self.waiting,
            "requests_per_second": self.requests,
            "proposals_per_second": self.proposals,
            "cpu_ms_per_second_each": self.cpu_ms,
            "etcd_cpu_ms_per_second": self.etcd_cpu_ms,
            "pss_mb_each": self.pss_mb,
            "hand_over_ms": self.hand_over,
            "hand_over_with_one_ms": self.hand_over_of_one,
        })
    }
}
