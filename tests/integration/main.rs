//! The integration tests: the promise, module by module, on real etcd with the real program.

mod assumptions;
mod auth;
mod backup;
mod cluster;
mod endurance;
mod environment;
mod etcd_faults;
mod etcdctl;
mod exclusive;
mod exhaustion;
mod exit_codes;
mod force;
mod foreign_keys;
mod freeze;
mod go_peer;
mod handover;
mod identity;
mod input;
mod log;
mod loss;
mod names;
#[path = "../nemesis/run.rs"]
mod nemesis;
mod notify;
mod oracle;
mod partition;
mod pass_through;
mod rotation;
mod show;
mod signals;
mod srv;
mod status;
mod storm;
mod stray;
mod streams;
mod tls;
mod tokens;
mod trees;
mod unreachable;
mod upgrade;
mod upkeep;
mod versions;
mod votes;
mod waiting;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use harness::{Candidate, Cluster, Setup, World, throughout};

/// A lock of its own on the cluster that all tests share.
fn shared_world() -> World {
    world_on(Cluster::shared())
}

/// A lock of its own on a cluster that the test may hurt.
fn world_on(cluster: Arc<Cluster>) -> World {
    World::new(cluster, program())
}

/// Starts a leader, and then a standby.
#[track_caller]
fn leader_and_standby(leader: Setup, standby: Setup) -> (Arc<Candidate>, Arc<Candidate>) {
    let leader = leader.start();
    leader.leads();
    let standby = standby.start();
    standby.waits();
    (leader, standby)
}

/// The program under test: the one just built, or the one that `PROGRAM_BIN` names, such as a packaged one.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = || assert_cmd::cargo::cargo_bin!("etcd-await-election").into();
        std::env::var_os("PROGRAM_BIN").map_or_else(built, PathBuf::from)
    });
    &PROGRAM
}

/// A gatekeeper in shell that does what `script` says with its command in `"$@"`.
fn shell_gatekeeper(world: &World, name: &str, script: &str) -> PathBuf {
    let path = world.directory().join(format!("{name}.sh"));
    fs::write(&path, format!("#!/bin/sh\nshift\n{script}\n")).expect("writing it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("making it executable");
    path
}

/// From one moment of the journal's clock to a later one.
fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

/// Watches all through `span` that the leader is left alone: the command that runs is still the same process.
#[track_caller]
fn undisturbed(leader: &Candidate, span: Duration) {
    let pid = leader.command_pid();
    throughout(span, &format!("{} leads undisturbed", leader.name()), || {
        let lives = leader.lives();
        match lives.as_slice() {
            [only] if only.pid == pid && only.asked.is_none() && leader.living().len() == 1 => Ok(()),
            _ => Err(format!("{lives:?}; {}", leader.stderr())),
        }
    });
}

/// The command that the other tests gate: this binary, started again; see `harness::journaled`. Does nothing in a run of
/// the tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
