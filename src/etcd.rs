//! The real [`Store`](crate::etcd::store::Store): one address of an etcd cluster, through `etcd-client`.
//!
//! One client per endpoint, since tonic's balancer goes on using dead endpoints
//! (<https://github.com/grpc/grpc-rust/issues/2839>). A connection is built from the files at the first
//! call and after every failure: so rotated certificates and passwords are picked up, and an expired token costs one
//! more round trip. Limits are the caller's: tonic's own timeout does not cover the messages of a stream.

pub mod client;
mod convert;
mod discovery;
mod endpoint;
mod failure;
mod handshake;
mod lease;
mod login;
pub mod membership;
mod resolve;
pub mod store;
mod tls;
mod watch;

pub use self::{endpoint::Endpoint, failure::ConfigError};

use std::{rc::Rc, time::Duration};

use self::{discovery::Records, endpoint::Host, login::Login};
use crate::{
    core::clock::{BootClock, Clock},
    etcd::{
        client::{Cluster, Patience},
        membership::Membership,
        store::Store as _,
    },
    settings::{Endpoints, EtcdConfig},
};

/// The first versions of each line whose leases can be relied on: a keepalive is not answered for a revoked lease
/// (CHANGELOG-3.4.md, CHANGELOG-3.5.md and CHANGELOG-3.6.md of etcd).
const SOUND_LEASES: [(u64, u64, u64); 3] = [(3, 4, 38), (3, 5, 23), (3, 6, 5)];

/// The first versions whose members revoke no living leases when they wake from a stall, having led before it
/// (<https://github.com/etcd-io/etcd/issues/15247>): two may lead then, for as long as the first one takes to stop.
const KEEP_LIVING_LEASES: [(u64, u64, u64); 2] = [(3, 4, 31), (3, 5, 13)];

/// One line for each endpoint whose server is too old to be trusted with leases alone.
pub async fn warn_about_endpoints<C: Clock>(cluster: &Cluster<Endpoint, C>) {
    for endpoint in cluster.endpoints() {
        let limit = cluster.clock().now() + Duration::from_secs(5);
        let Some(Ok(version)) = cluster.clock().before(limit, endpoint.version()).await else { continue };
        if is_older(&version, &KEEP_LIVING_LEASES) {
            tracing::warn!(
                "{}: a member of etcd {version} that led and was stalled may revoke the leases of living instances: two may \
                 lead for a moment; update to 3.4.38, 3.5.23, 3.6.5 or later",
                endpoint.name()
            );
        } else if is_older(&version, &SOUND_LEASES) {
            tracing::warn!(
                "{}: etcd {version} may renew a lease that was revoked; update to 3.4.38, 3.5.23, 3.6.5 or later",
                endpoint.name()
            );
        }
    }
}

/// Whether a version is older than the first sound one of its line, or than all lines.
fn is_older(version: &str, sound: &[(u64, u64, u64)]) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    let line = sound.iter().find(|sound| (sound.0, sound.1) == (version.0, version.1));
    sound.first().is_some_and(|first| version < *first) || line.is_some_and(|sound| version < *sound)
}

/// The cluster of the configuration. Nothing is connected yet.
///
/// # Errors
/// A certificate, key or password file that cannot be used.
pub fn cluster(config: &EtcdConfig, patience: Patience) -> Result<Cluster<Endpoint, BootClock>, ConfigError> {
    tls::options(&config.tls)?;
    let uses_tls = match &config.endpoints {
        Endpoints::Listed(urls) => urls.iter().any(|url| url.starts_with("https://")),
        // Without a setting for TLS there may be members without it.
        Endpoints::Discovered(discovery) => discovery.tls_only,
    };
    if uses_tls {
        tls::verifiable(&config.tls)?;
    }
    let shared = Rc::new(config.clone());
    let hosts: Vec<_> = match &config.endpoints {
        Endpoints::Listed(urls) => urls.iter().map(|url| (url.clone(), Host::of_url(url))).collect(),
        Endpoints::Discovered(discovery) => {
            let records = Records::new(discovery, 3 * patience.hedge_delay);
            vec![(records.name(), Host::Records(Box::new(records)))]
        }
    };
    let membership = Rc::new(Membership::of(hosts.iter().map(|(name, _)| name.clone()), config.cluster_id));
    let login = Rc::new(Login::new(patience.attempt_limit));
    let endpoint = |(url, host)| {
        let (shared, membership, login) = (Rc::clone(&shared), Rc::clone(&membership), Rc::clone(&login));
        Endpoint::new(url, host, shared, patience.attempt_limit, membership, login)
    };
    let endpoints = hosts.into_iter().map(endpoint).collect();
    Ok(Cluster::new(endpoints, Rc::clone(&membership), BootClock, patience))
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod rogue_tests;

#[cfg(test)]
mod tests {
    use super::{KEEP_LIVING_LEASES, SOUND_LEASES, is_older};

    #[test]
    fn old_servers_are_known_by_their_version() {
        for old in ["3.3.27", "3.4.23", "3.4.37", "3.5.16", "3.5.22", "3.6.4", "3.6.0-rc.1", "nonsense"] {
            assert!(is_older(old, &SOUND_LEASES), "{old}");
        }
        for sound in ["3.4.38", "3.5.23", "3.5.30", "3.6.5", "3.7.0", "4.0.0"] {
            assert!(!is_older(sound, &SOUND_LEASES), "{sound}");
        }
        for (version, old) in
            [("3.4.23", true), ("3.4.31", false), ("3.5.12", true), ("3.5.13", false), ("3.6.0", false)]
        {
            assert_eq!(is_older(version, &KEEP_LIVING_LEASES), old, "{version}");
        }
    }
}
