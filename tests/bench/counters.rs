//! Counters of etcd and of the kernel.

use std::fs;

use harness::Cluster;

use crate::wait::Failure;

/// The counters of all members together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Etcd {
    /// Messages from clients: one for a unary request, and each one on a stream.
    pub(crate) requests: f64,
    /// Raft proposals that were committed: each costs a write to the disk of every member.
    pub(crate) proposals: f64,
    /// CPU time in seconds.
    pub(crate) cpu: f64,
    /// The number of raft elections.
    pub(crate) leader_changes: f64,
}

impl Etcd {
    pub(crate) fn of(cluster: &Cluster) -> Result<Self, Failure> {
        let mut all = Self::default();
        for member in cluster.members() {
            let text = member.metrics().map_err(|error| format!("{}: {error}", member.endpoint()))?;
            all.requests += sum(&text, "grpc_server_msg_received_total");
            all.cpu += sum(&text, "process_cpu_seconds_total");
            // Every member counts the same ones.
            all.proposals = all.proposals.max(sum(&text, "etcd_server_proposals_committed_total"));
            all.leader_changes = all.leader_changes.max(sum(&text, "etcd_server_leader_changes_seen_total"));
        }
        Ok(all)
    }

    /// Returns the difference since `earlier`, per second.
    pub(crate) fn per_second(&self, earlier: &Self, seconds: f64) -> Self {
        let rate = |now: f64, then: f64| (now - then) / seconds;
        Self {
            requests: rate(self.requests, earlier.requests),
            proposals: rate(self.proposals, earlier.proposals),
            cpu: rate(self.cpu, earlier.cpu),
            leader_changes: self.leader_changes - earlier.leader_changes,
        }
    }
}

/// Returns the sum of one metric over all its labels.
fn sum(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    samples.sum()
}

/// Returns the CPU time that these processes have used, in milliseconds.
pub(crate) fn cpu_ms(processes: &[i32]) -> f64 {
    // The kernel reports hundredths of a second on every machine.
    const TICK_MS: f64 = 10.0;
    let ticks = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let (user, system): (f64, f64) = (fields.nth(11)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(user + system)
    };
    processes.iter().filter_map(ticks).sum::<f64>() * TICK_MS
}

/// Returns their proportional set size in megabytes (10^6 bytes).
pub(crate) fn pss_mb(processes: &[i32]) -> f64 {
    let kilobytes = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok())
    };
    processes.iter().filter_map(kilobytes).sum::<f64>() * 1024.0 / 1e6
}
