//! The one short role after a gatekeeper was killed: give its lease back. The guard runs the program once more for it, when
//! nothing of the command is left.

use std::time::Duration;

use crate::{
    clock::{BootClock, Clock as _},
    config::EtcdConfig,
    election::keys::LeaseId,
    etcd,
    exit_code::Exit,
    timing::Timing,
};

/// The guard ends this role after as long.
const LIMIT: Duration = Duration::from_secs(10);

/// Revokes the lease, or leaves it to run out.
pub async fn release(lease: LeaseId, config: &EtcdConfig, timing: &Timing) -> Exit {
    let cluster = match etcd::cluster(config, timing) {
        Ok(cluster) => cluster,
        Err(error) => {
            tracing::warn!("lease {lease} of the killed gatekeeper could not be given back, it runs out: {error}");
            return Exit::Config;
        }
    };
    let limit = BootClock.now() + LIMIT.min(timing.lease());
    match BootClock.before(limit, cluster.revoke(lease)).await {
        Some(Ok(())) => {
            tracing::info!("released: lease {lease} of the killed gatekeeper given back");
            Exit::Command(0)
        }
        Some(Err(refused)) => {
            tracing::warn!("lease {lease} of the killed gatekeeper could not be given back, it runs out: {refused}");
            Exit::Refused
        }
        None => {
            tracing::warn!("lease {lease} of the killed gatekeeper could not be given back, it runs out");
            Exit::Refused
        }
    }
}
