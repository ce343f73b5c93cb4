//! Whole machines: what ships, in containers of a real engine, some with systemd as PID 1, against a real cluster.
//!
//! Run by `cargo xtask verify`, which also says what a machine lacks for it.

mod containers;
mod engine;
mod etcd;
mod gated;
mod packages;
mod systemd;

/// The command that the other tests gate: this binary, started again; see `harness::journaled`. Does nothing in a run of
/// the tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
