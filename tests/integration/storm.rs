//! A minute of the nemesis, with a new seed each time; `cargo xtask nemesis` runs it for longer.

use std::{
    fs,
    io::{Write as _, stderr},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use crate::nemesis::{self, Options};

#[test]
fn a_minute_of_faults_causes_no_overlap_and_a_leader_is_elected_after_each() {
    let seed = nemesis::any_seed();
    let length = Duration::from_secs(60);
    // Not by a macro, whose output the test runner captures: the seed is also needed if the run is killed.
    let _ = writeln!(stderr(), "nemesis: cargo xtask nemesis --minutes 1 --seed {seed}");
    let options =
        Options { seed, length, beyond: false, program: crate::program().into(), say: |line| println!("{line}") };
    match nemesis::run(&options) {
        Ok(report) => println!("{report}"),
        Err(report) => panic!("{report}"),
    }
}

/// Shows that the nemesis can fail: without an election all commands run at once.
#[test]
fn the_nemesis_detects_a_missing_election() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("no-election");
    // The time serves as a growing token. The command forks nothing, so that nothing remains when it is stopped.
    let script = "#!/bin/sh\nshift\nJOURNALED_BEHAVIOR= ETCD_AWAIT_ELECTION_FENCING_TOKEN=$(date +%s%N) exec \"$@\"\n";
    fs::write(&program, script).expect("writing it");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("making it executable");
    let options = Options { seed: 0, length: Duration::ZERO, beyond: false, program, say: |line| println!("{line}") };
    let report = nemesis::run(&options).expect_err("everything was in order");
    assert!(report.contains("two terms overlapped"), "{report}");
}

/// The plan follows from the seed, and differs between seeds.
#[test]
fn a_seed_always_plans_the_same_faults() {
    assert_eq!(nemesis::plan(7, true), nemesis::plan(7, true));
    assert_ne!(nemesis::plan(7, true), nemesis::plan(8, true));
}
