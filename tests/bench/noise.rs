//! How idle the machine was.

use std::{
    fs,
    hint::black_box,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::statistics::Summary;

/// Repeats a fixed amount of work throughout the bench.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    when: String,
    /// Milliseconds of each round.
    rounds: Vec<f64>,
    load: String,
}

impl Noise {
    const ROUNDS: usize = 40;

    /// Measures now.
    pub(crate) fn sample(&mut self, when: &str) {
        let rounds = (0..Self::ROUNDS).map(|_| round()).collect();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("?").to_owned();
        self.samples.push(Sample { when: when.to_owned(), rounds, load });
    }

    /// Returns the fastest round: the speed of the idle machine.
    fn best(&self) -> f64 {
        self.samples.iter().flat_map(|sample| sample.rounds.iter().copied()).fold(f64::INFINITY, f64::min)
    }

    /// Returns the 90th percentile of all rounds, relative to the fastest.
    fn slowdown(&self) -> f64 {
        let all: Vec<f64> = self.samples.iter().flat_map(|sample| sample.rounds.iter().copied()).collect();
        Summary::of(&all).map_or(f64::NAN, |summary| summary.p90 / self.best())
    }

    /// Describes the load in a sentence.
    pub(crate) fn verdict(&self) -> String {
        let slowdown = self.slowdown();
        let word = match slowdown {
            calm if calm < 1.15 => "calm",
            uneasy if uneasy < 1.5 => "uneasy",
            _ => "NOISY: compare the ratios, not the figures",
        };
        let loads: Vec<_> = self.samples.iter().map(|sample| sample.load.as_str()).collect();
        format!(
            "The machine was {word}: one round in ten of a fixed loop took {slowdown:.2} times the fastest or more; load average \
             {} from the beginning to the end.",
            loads.join(", ")
        )
    }

    pub(crate) fn json(&self) -> Value {
        let samples: Vec<_> = self
            .samples
            .iter()
            .map(|sample| json!({"when": sample.when, "load": sample.load, "rounds_ms": sample.rounds}))
            .collect();
        json!({"slowdown_p90": self.slowdown(), "verdict": self.verdict(), "samples": samples})
    }
}

/// Does a fixed amount of arithmetic, for a few milliseconds.
fn round() -> f64 {
    let begun = Instant::now();
    let mut state = 1u64;
    for _ in 0..black_box(2_000_000) {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    }
    black_box(state);
    let taken = begun.elapsed().as_secs_f64() * 1e3;
    // So that a round puts no load on the machine.
    thread::sleep(Duration::from_millis(5));
    taken
}

/// Describes the machine and its software.
pub(crate) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("?");
    let etcd = std::env::var_os("ETCD_BIN").unwrap_or_else(|| "etcd".into());
    let etcd = Command::new(etcd).arg("--version").output();
    let etcd = etcd.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let etcd = etcd.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or("?");
    format!(
        "{cores} cores ({cpu}), Linux {}, etcd {etcd}: three members with TLS on the same machine",
        read("/proc/sys/kernel/osrelease")
    )
}
