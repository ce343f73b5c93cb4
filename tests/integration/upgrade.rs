//! Maintenance of etcd, one member at a time: the leader keeps leadership, and no standby starts.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use harness::{Candidate, Cluster, ClusterBuilder, Timing, World, eventually, throughout};

use crate::{undisturbed, world_on};

/// Long enough for a member to recover within a lease, short enough to notice a missed renewal.
const TIMING: Timing = Timing::MEDIUM;

/// A leader and two standbys.
fn fleet(cluster: ClusterBuilder) -> (World, [Arc<Candidate>; 3]) {
    let world = world_on(cluster.create());
    let fleet = ["a", "b", "c"].map(|name| {
        let candidate = world.candidate(name).timing(TIMING).start();
        if name == "a" {
            candidate.leads();
        } else {
            candidate.waits();
        }
        candidate
    });
    (world, fleet)
}

/// Each member is restarted when all members answer. All keys of the lock stay the same, revisions and leases included,
/// and no command starts or stops.
#[track_caller]
fn roll(world: &World, fleet: &[Arc<Candidate>; 3], folder: Option<&Path>) {
    let before = world.keys().expect("etcd answers");
    for member in world.cluster().members() {
        member.roll(folder);
        world.cluster().wait_healthy();
        undisturbed(&fleet[0], TIMING.retry);
        assert_eq!(world.keys().expect("etcd answers"), before);
        let starts = fleet.each_ref().map(|candidate| candidate.lives().len());
        assert_eq!(starts, [1, 0, 0], "{}", fleet[0].stderr());
    }
}

/// The leader ends, and the standbys lead in queue order: they have lost neither lease nor entry.
#[track_caller]
fn served_in_order(world: &World, [a, b, c]: &[Arc<Candidate>; 3]) {
    a.terminate();
    b.leads_within(Timing::SWIFT);
    b.terminate();
    c.leads_within(Timing::SWIFT);
    world.verdict();
}

#[test]
fn a_rolling_restart_does_not_disturb_the_leader() {
    let (world, fleet) = fleet(Cluster::builder());
    roll(&world, &fleet, None);
    served_in_order(&world, &fleet);
}

#[test]
fn a_rolling_restart_with_authentication_does_not_disturb_the_leader() {
    let (world, fleet) = fleet(Cluster::builder().auth("app", "secret-password"));
    roll(&world, &fleet, None);
    served_in_order(&world, &fleet);
}

#[test]
fn a_rolling_upgrade_does_not_disturb_the_leader() {
    upgrade(Cluster::builder());
}

#[test]
fn a_rolling_upgrade_with_authentication_does_not_disturb_the_leader() {
    upgrade(Cluster::builder().auth("app", "secret-password"));
}

/// Upgrades from the first version of `ETCD_UPGRADE` to its last. It lists folders with `etcd`, separated by colons,
/// each with the next minor version.
fn upgrade(cluster: ClusterBuilder) {
    let folders: Vec<PathBuf> = env::var_os("ETCD_UPGRADE").map_or_else(Vec::new, |it| env::split_paths(&it).collect());
    let [first, later @ ..] = folders.as_slice() else {
        eprintln!("SKIPPED: rolling upgrade: ETCD_UPGRADE names no versions (cargo xtask test --etcd all sets it)");
        return;
    };
    let (world, fleet) = fleet(cluster.programs_in(first).option("snapshot-count", "10"));
    for folder in later {
        let before = cluster_version(&world);
        // A member of 3.7 that finds entries of 3.5 after its last snapshot panics.
        for number in 0..30 {
            world.cluster().etcdctl().must(&["put", "tests/to-fill-a-snapshot", &number.to_string()]);
        }
        roll(&world, &fleet, Some(folder));
        // The cluster version changes only with the last member.
        eventually(Timing::START, "the cluster has the new version", || match cluster_version(&world) {
            version if version != before => Ok(()),
            version => Err(version),
        });
    }
    throughout(TIMING.lease(), "the standbys wait", || match (fleet[1].lives(), fleet[2].lives()) {
        (b, c) if b.is_empty() && c.is_empty() => Ok(()),
        lives => Err(format!("{lives:?}")),
    });
    served_in_order(&world, &fleet);
}

/// Returns the cluster version, from the metrics of a member.
fn cluster_version(world: &World) -> String {
    let metrics = world.cluster().member(0).metrics().unwrap_or_default();
    metrics.lines().find(|line| line.starts_with("etcd_cluster_version{")).unwrap_or_default().to_owned()
}
