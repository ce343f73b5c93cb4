//! Log lines about the version of etcd.

use std::time::Duration;

use harness::{Candidate, Cluster, Timing, eventually, throughout};

use crate::{undisturbed, world_on};

/// Returns the log lines about the version.
fn lines(candidate: &Candidate) -> Vec<String> {
    candidate.stderr().lines().filter(|line| line.contains("install etcd ")).map(str::to_owned).collect()
}

/// Waits until an instance has logged exactly one line with all of these words, or none.
#[track_caller]
fn says(candidate: &Candidate, expected: Option<&[&str]>) {
    let seen = || match (lines(candidate).as_slice(), expected) {
        ([line], Some(parts)) if parts.iter().all(|part| line.contains(part)) => Ok(()),
        ([], None) => Ok(()),
        (lines, _) => Err(format!("{lines:#?}, expected {expected:?}")),
    };
    if expected.is_some() {
        eventually(Timing::START, "it logs its one line", seen);
    }
    throughout(Timing::SHORT.lease(), "it logs no more about versions", seen);
}

/// Returns the words that an instance without a password logs on three members of this version.
fn expected() -> Option<&'static [&'static str]> {
    match Cluster::version() {
        (3, 4, ..31) | (3, 5, ..13) => Some(&["WARN", "may revoke live leases", "is affected", "affected=true"]),
        (3, 4, ..38) | (3, 5, ..23) | (3, 6, ..5) => {
            Some(&["INFO", "may confirm the renewal", "is not affected", "affected=false"])
        }
        (3, 4, ..42) | (3, 5, ..28) | (3, 6, ..9) => {
            Some(&["INFO", "lets every etcd user", "is not affected", "affected=false"])
        }
        _ => None,
    }
}

#[test]
fn each_instance_logs_the_limits_of_the_etcd_version_once() {
    let world = world_on(Cluster::builder().create());
    let a = world.candidate("a").timing(Timing::SHORT).start();
    a.leads();
    let b = world.candidate("b").timing(Timing::SHORT).start();
    b.waits();
    for candidate in [&a, &b] {
        says(candidate, expected());
        let log = candidate.stderr();
        let members = world.cluster().endpoints();
        assert!(expected().is_none() || members.iter().all(|member| log.contains(&format!("{member} 3."))), "{log}");
    }
    world.verdict();
}

#[test]
fn a_single_member_causes_no_warning_about_live_leases() {
    let world = world_on(Cluster::builder().size(1).create());
    let a = world.candidate("a").timing(Timing::SHORT).start();
    a.leads();
    let single = ["INFO", "may revoke live leases", "is not affected", "single member"];
    says(&a, if matches!(Cluster::version(), (3, 4, ..31) | (3, 5, ..13)) { Some(&single) } else { expected() });
    world.verdict();
}

#[test]
fn with_authentication_an_instance_logs_who_can_keep_its_lease_alive() {
    let world = world_on(Cluster::builder().auth("app", "secret-password").create());
    let a = world.candidate("a").timing(Timing::SHORT).start();
    a.leads();
    let users = ["WARN", "lets every etcd user", "is affected", "USER is set"];
    says(
        &a,
        match Cluster::version() {
            (3, 4, ..31) | (3, 5, ..13) => expected(),
            (3, 4, ..42) | (3, 5, ..28) | (3, 6, ..9) => Some(&users),
            _ => None,
        },
    );
    world.verdict();
}

/// The line omits a hung member, which delays neither the start nor the renewals.
#[test]
fn a_hung_member_is_omitted_from_the_version_line() {
    let world = world_on(Cluster::builder().create());
    let member = world.cluster().member(world.cluster().follower());
    member.pause();
    let a = world.candidate("a").timing(Timing::MEDIUM).start();
    a.leads();
    if let Some(parts) = expected() {
        eventually(Timing::START + Duration::from_secs(5), "it logs its one line", || match lines(&a).as_slice() {
            [line] if parts.iter().all(|part| line.contains(part)) && !line.contains(&member.endpoint()) => Ok(()),
            lines => Err(format!("{lines:#?}")),
        });
    }
    undisturbed(&a, Timing::MEDIUM.retry);
    member.resume();
    world.verdict();
}
