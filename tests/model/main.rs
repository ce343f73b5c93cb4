//! A model of the election: the real [`Candidate`](etcd_await_election::election::Candidate), the real
//! [`gatekeeper`](etcd_await_election::gatekeeper) and the real [`Switch`](etcd_await_election::guard::switch::Switch) over
//! an etcd in memory, on simulated time.
//!
//! One seed is one schedule: the instances, the faults and their times. A failing seed is printed with the log of its
//! run, and replays exactly:
//!
//! ```text
//! MODEL_SEED=17 cargo test --test model seeded -- --nocapture   # one seed, with its story
//! MODEL_SEEDS=100000 cargo test --test model seeded             # more of them
//! ```

mod chaos;
mod command;
mod endpoint;
mod etcd;
mod guard;
mod mutant;
mod net;
mod oracle;
mod peers;
mod plan;
mod run;
mod sim;
mod story;
mod watch;
mod world;

use mutant::Mutant;
use plan::Profile;
use run::{Schedule, seeds};

/// The number of seeds of each profile, unless `MODEL_SEEDS` sets it.
const SEEDS: u64 = 250;

#[test]
fn commands_never_overlap_and_a_leader_is_elected_under_all_faults() {
    seeds(Profile::Any, SEEDS);
}

#[test]
fn commands_never_overlap_and_a_leader_is_elected_with_late_responses() {
    seeds(Profile::Late, SEEDS);
}

#[test]
fn commands_never_overlap_and_a_leader_is_elected_in_a_mixed_fleet() {
    seeds(Profile::Mixed, SEEDS);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..3 {
        let run = || Schedule { seed, profile: Profile::Any, mutant: None }.run(true).story;
        let (first, second) = (run(), run());
        assert!(first.len() > 100, "a run has a log");
        assert_eq!(first, second, "seed {seed} is one run");
    }
}

/// Checks that the model finds this fault soon, and that the real code passes under the same schedules.
#[track_caller]
fn is_found(mutant: Mutant, profile: Profile, sign: &str) {
    const BOUND: u64 = 400;
    for seed in 0..BOUND {
        let schedule = Schedule { seed, profile, mutant: Some(mutant) };
        if let Err(violation) = schedule.run(false).result {
            // A mutant may cause other violations too; only the expected one counts.
            if !violation.contains(sign) {
                continue;
            }
            eprintln!("{mutant:?}: found by seed {seed}: {violation}");
            for seed in 0..=seed.min(20) {
                let real = Schedule { seed, profile, mutant: None }.run(false).result;
                assert_eq!(real.map(|_| ()), Ok(()), "seed {seed} without the fault");
            }
            return;
        }
    }
    panic!("{mutant:?} was not found in {BOUND} schedules");
}

#[test]
fn a_release_before_the_tree_has_exited_is_found() {
    is_found(Mutant::ReleasesEarly, Profile::Any, "while the command of");
}

#[test]
fn deadlines_counted_from_the_response_are_found() {
    is_found(Mutant::CountsFromReply, Profile::Late, "while the command of");
}

#[test]
fn a_handover_that_does_not_compare_the_holder_is_found() {
    is_found(Mutant::HandOverWithoutHolder, Profile::Mixed, "while the command of");
}

#[test]
fn a_start_beside_an_eviction_marker_is_found() {
    is_found(Mutant::IgnoresMarkers, Profile::Mixed, "while the command of go");
}

#[test]
fn a_handover_past_another_etcd_client_is_found() {
    is_found(Mutant::HandOverPastOthers, Profile::Any, "out of turn");
}

#[test]
fn a_leader_that_obeys_a_request_to_another_holder_is_found() {
    is_found(Mutant::ObeysRequestsToOthers, Profile::Any, "is disturbed");
}

#[test]
fn a_leader_that_obeys_a_request_without_an_entry_is_found() {
    is_found(Mutant::ObeysWithoutEntry, Profile::Any, "is disturbed");
}

#[test]
fn an_instance_that_becomes_leader_during_a_pause_is_found() {
    is_found(Mutant::IgnoresPause, Profile::Any, "while the lock is paused");
}

#[test]
fn a_join_that_overwrites_the_holder_key_is_found() {
    is_found(Mutant::JoinOverwrites, Profile::Mixed, "while the command of");
}

#[test]
fn renewals_that_feed_the_guard_despite_a_request_are_found() {
    is_found(Mutant::FeedsWhileRequested, Profile::Any, "forced");
}

#[test]
fn renewals_by_serializable_reads_are_found() {
    is_found(Mutant::RenewsBySerializableReads, Profile::Any, "while the command of");
}
