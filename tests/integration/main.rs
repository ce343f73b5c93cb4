//! The integration tests: the promise, module by module, on real etcd with the real program.

mod oracle;

use std::{path::Path, sync::Arc};

use harness::{Cluster, World};

/// A lock of its own on the cluster that all tests share.
fn shared_world() -> World {
    world_on(Cluster::shared())
}

/// A lock of its own on a cluster that the test may hurt.
fn world_on(cluster: Arc<Cluster>) -> World {
    World::new(cluster, Path::new(program()))
}

/// The program under test.
fn program() -> &'static str {
    env!("CARGO_BIN_EXE_etcd-await-election")
}

/// The command that the other tests gate: this binary, started again; see `harness::journaled`. Does nothing in a run of
/// the tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
