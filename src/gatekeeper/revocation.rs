//! Revokes the lease of a killed gatekeeper, in a process that its guard forks: see [`Revoke`].

use futures_util::future;

use crate::{
    etcd::{self, client::RequestTimeouts},
    guard::{Awaited, Revoke},
    settings::EtcdConfig,
    system::runtime,
};

/// Returns the code of the revoker.
pub(super) fn revoker(config: EtcdConfig) -> Revoke {
    Box::new(move |cluster, awaited| {
        // The gatekeeper has decided which cluster to use, and only that has the lease.
        let config = EtcdConfig { cluster_id: config.cluster_id.or(cluster), ..config.clone() };
        runtime::run(revoke(&config, awaited)).unwrap_or(false)
    })
}

async fn revoke(config: &EtcdConfig, awaited: Awaited<'_>) -> bool {
    let client = match etcd::client_of(config, RequestTimeouts::default()) {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!("could not revoke the lease of the killed gatekeeper: {error}; it will expire");
            return false;
        }
    };
    // If no cluster can be decided, the request below fails for the same reason.
    let (_, lease) = future::join(client.decide(), awaited.lease()).await;
    let Some(lease) = lease else { return false };
    match client.revoke(lease).await {
        Ok(true) => tracing::info!("revoked lease {lease} of the killed gatekeeper"),
        Ok(false) => tracing::info!("lease {lease} of the killed gatekeeper had already expired"),
        Err(denied) => {
            tracing::warn!("could not revoke lease {lease} of the killed gatekeeper: {denied}; it will expire");
            return false;
        }
    }
    true
}
