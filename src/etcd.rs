//! Access to etcd: the client of a cluster, and [`Endpoint`], the [`Store`](crate::etcd::store::Store) at one address.
//!
//! Each endpoint has its own `etcd-client`, because tonic's balancer keeps using dead endpoints
//! (<https://github.com/grpc/grpc-rust/issues/2839>). A connection reads certificates and password again from their files at the
//! first call and after every failure, so they can be rotated. Callers set time limits: tonic's timeout does not cover streams.

pub mod client;
mod convert;
mod discovery;
mod endpoint;
mod failure;
mod handshake;
mod lease;
mod login;
pub mod membership;
pub(crate) mod pages;
mod resolve;
pub mod store;
mod tls;
mod versions;
mod watch;

pub use self::{endpoint::Endpoint, failure::ConfigError, versions::log_risks};

use std::rc::Rc;

use self::{
    discovery::Records,
    endpoint::{Host, Shared},
    login::Login,
};
use crate::system::clock::BootClock;
use crate::{
    etcd::{
        client::{EtcdClient, RequestTimeouts},
        membership::Membership,
    },
    settings::{Endpoints, EtcdConfig},
};

/// Creates the client of the configured cluster, without connecting.
///
/// # Errors
/// If a certificate, key or password file cannot be used.
pub fn client_of(
    config: &EtcdConfig,
    timeouts: RequestTimeouts,
) -> Result<EtcdClient<Endpoint, BootClock>, ConfigError> {
    tls::options(&config.tls)?;
    let uses_tls = match &config.endpoints {
        Endpoints::Listed(urls) => urls.iter().any(|url| url.starts_with("https://")),
        // Without a TLS setting, members without TLS are used, too.
        Endpoints::Discovered(discovery) => discovery.tls_only,
    };
    if uses_tls {
        tls::verifiable(&config.tls)?;
    }
    let hosts: Vec<_> = match &config.endpoints {
        Endpoints::Listed(urls) => urls.iter().map(|url| (url.clone(), Host::of_url(url))).collect(),
        Endpoints::Discovered(discovery) => {
            let records = Records::new(discovery, 3 * timeouts.hedge_delay);
            vec![(records.name(), Host::Records(Box::new(records)))]
        }
    };
    let membership = Rc::new(Membership::of(hosts.iter().map(|(name, _)| name.clone()), config.cluster_id));
    let shared = Rc::new(Shared {
        config: config.clone(),
        connect_limit: timeouts.attempt_limit,
        membership: Rc::clone(&membership),
        login: Login::new(timeouts.attempt_limit),
    });
    let endpoints = hosts.into_iter().map(|(url, host)| Endpoint::new(url, host, Rc::clone(&shared))).collect();
    Ok(EtcdClient::new(endpoints, membership, BootClock, timeouts))
}

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod rogue_tests;
