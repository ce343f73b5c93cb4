//! The one short role after a gatekeeper was killed: give its lease back. The guard runs the program once more for it, when
//! nothing of the command is left.

use std::time::Duration;

use crate::{
    core::{
        clock::{BootClock, Clock as _},
        exit_code::Exit,
        names::LeaseId,
        timing::show,
    },
    etcd::{self, client::Patience},
    settings::EtcdConfig,
};

/// A little less than after which the guard ends this role, so that it can say so.
const LIMIT: Duration = Duration::from_secs(9);

/// Revokes the lease, or leaves it to run out.
pub async fn release(lease: LeaseId, config: &EtcdConfig) -> Exit {
    let limit = BootClock.now() + LIMIT;
    let (exit, why) = match etcd::cluster(config, Patience::default()) {
        Err(error) => (Exit::Config, error.to_string()),
        Ok(cluster) => match BootClock.before(limit, cluster.revoke(lease)).await {
            Some(Ok(revoked)) => {
                if revoked {
                    tracing::info!("released: lease {lease} of the killed gatekeeper given back");
                } else {
                    tracing::info!("etcd has no lease {lease} of the killed gatekeeper: nothing to give back");
                }
                return Exit::Command(0);
            }
            Some(Err(refused)) => (Exit::Refused, refused.to_string()),
            None => (Exit::Refused, format!("no answer within {}", show(LIMIT))),
        },
    };
    tracing::warn!("lease {lease} of the killed gatekeeper could not be given back, it runs out: {why}");
    exit
}
