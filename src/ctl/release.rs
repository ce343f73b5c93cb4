//! Revokes the lease of a killed gatekeeper. The guard runs the program once more for this, after the process tree has exited.

use crate::system::clock::BootClock;
use crate::{
    core::{clock::Clock as _, exit_code::Exit, limits::RELEASE, names::LeaseId, timing::show},
    etcd::{self, client::RequestTimeouts},
    settings::EtcdConfig,
};

/// Revokes the lease. If that fails within the time limit, the lease is left to expire.
pub async fn release(lease: LeaseId, config: &EtcdConfig) -> Exit {
    let limit = BootClock.now() + RELEASE;
    let (exit, cause) = match etcd::client_of(config, RequestTimeouts::default()) {
        Err(error) => (Exit::Config, error.to_string()),
        Ok(cluster) => match BootClock.before(limit, cluster.revoke(lease)).await {
            Some(Ok(revoked)) => {
                if revoked {
                    tracing::info!("revoked lease {lease} of the killed gatekeeper");
                } else {
                    tracing::info!("lease {lease} of the killed gatekeeper had already expired");
                }
                return Exit::Command(0);
            }
            Some(Err(denied)) => (Exit::NoPermission, denied.to_string()),
            None => (Exit::Unavailable, format!("no answer within {}", show(RELEASE))),
        },
    };
    tracing::warn!("could not revoke lease {lease} of the killed gatekeeper: {cause}; it will expire");
    exit
}
