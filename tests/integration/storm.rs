//! A minute of the nemesis, with a new seed each time; `cargo xtask nemesis` runs it for longer.

use std::{
    fs,
    io::{Write as _, stderr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::Duration,
};

use crate::nemesis::{self, Options, Scope};

#[test]
fn a_minute_of_faults_causes_no_overlap_and_a_leader_is_elected_after_each() {
    run_a_minute("nemesis", nemesis::any_seed(), false);
}

/// `cargo xtask lock-set` runs it for longer, and with faults that the guarantee does not cover.
#[test]
fn a_minute_of_faults_loses_no_update_of_a_set() {
    run_a_minute("lock-set", 11, true);
}

fn run_a_minute(name: &str, seed: u64, lock_set: bool) {
    let length = Duration::from_secs(60);
    // Not by a macro, whose output the test runner captures: the seed is also needed if the run is killed.
    let _ = writeln!(stderr(), "{name}: cargo xtask {name} --minutes 1 --seed {seed}");
    let options = Options { length, program: crate::program().into(), ..options(seed, lock_set) };
    match nemesis::run(&options) {
        Ok(report) => println!("{report}"),
        Err(report) => panic!("{report}"),
    }
}

fn options(seed: u64, lock_set: bool) -> Options {
    let say = |line: &str| println!("{line}");
    Options { seed, length: Duration::ZERO, scope: Scope::Guarantee, lock_set, program: PathBuf::new(), say }
}

/// Shows that the nemesis can fail: without an election all commands run at once, and remove what others have added.
#[test]
fn the_nemesis_detects_a_missing_election() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("no-election");
    // The time serves as a growing token. The command forks nothing, so that nothing remains when it is stopped.
    let script = "#!/bin/sh\nshift\nJOURNALED_BEHAVIOR= ETCD_AWAIT_ELECTION_FENCING_TOKEN=$(date +%s%N) exec \"$@\"\n";
    fs::write(&program, script).expect("writing it");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("making it executable");
    let report = nemesis::run(&Options { program, ..options(0, true) }).expect_err("everything was in order");
    assert!(report.contains("two terms overlapped"), "{report}");
    assert!(report.contains("updates of the plain register were lost"), "{report}");
    assert!(!report.contains("updates of the fenced register were lost"), "{report}");
}

/// The plan follows from the seed, and differs between seeds.
#[test]
fn a_seed_always_plans_the_same_faults() {
    for scope in [Scope::Guarantee, Scope::Beyond, Scope::Machines] {
        assert_eq!(nemesis::plan(7, scope), nemesis::plan(7, scope));
        assert_ne!(nemesis::plan(7, scope), nemesis::plan(8, scope));
    }
}
