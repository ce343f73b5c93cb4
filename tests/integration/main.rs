//! The integration tests of the guarantee, with the real program on real etcd.

mod assumptions;
mod auth;
mod backup;
mod checks;
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
mod hooks;
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
mod pause;
mod priority;
mod resign;
mod rotation;
mod show;
mod show_watch;
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

/// Creates a world with a new lock on the shared cluster.
fn shared_world() -> World {
    world_on(Cluster::shared())
}

/// Creates a world with a new lock on a cluster of the test, in which it may cause faults.
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

/// Writes a gatekeeper as a shell script that has the command in `"$@"`.
fn shell_gatekeeper(world: &World, name: &str, script: &str) -> PathBuf {
    let path = world.directory().join(format!("{name}.sh"));
    fs::write(&path, format!("#!/bin/sh\nshift\n{script}\n")).expect("writing it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("making it executable");
    path
}

/// Returns the time between two instants of the journal's clock.
fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_nanos(later.saturating_sub(earlier))
}

/// Checks throughout `span` that the command of the leader is the same process and received no stop signal.
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

/// The command of the other tests: this binary, started again; see `harness::journaled`. Does nothing in a run of the
/// tests.
#[test]
#[ignore = "not a test"]
fn journaled() {
    harness::journaled::run();
}
