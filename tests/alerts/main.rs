//! The files of `packaging/prometheus/`: the alerts fire and clear in a real Prometheus that scrapes real instances, and every query
//! is valid and asks for metrics that the program has.
//!
//! Run by `cargo xtask alerts`, which installs Prometheus.

mod fleet;
mod prometheus;
mod queries;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns a file of `packaging/prometheus/`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(shipped(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_rules_pass_their_unit_tests() {
    prometheus::promtool(["test".as_ref(), "rules".as_ref(), shipped("alerts.test.yml").as_os_str()]);
}

/// The command of the other tests: this binary, started again; see `harness::journaled`. Does nothing in a run of the
/// tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
