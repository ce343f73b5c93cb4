//! The real [`Store`]: one endpoint of an etcd cluster, through `etcd-client`.
//!
//! One client per endpoint, since tonic's balancer goes on using dead endpoints
//! (<https://github.com/grpc/grpc-rust/issues/2839>). A client is built from the files, with a fresh login, at the first
//! call and after every failure: so rotated certificates and passwords are picked up, and an expired token costs one
//! more round trip. Limits are the caller's: tonic's own timeout does not cover the messages of a stream.

mod endpoint;
mod failure;
mod tls;
mod watch;

pub use self::{endpoint::Endpoint, failure::ConfigError};

use std::{cell::Cell, rc::Rc};

use crate::{
    clock::BootClock,
    config::EtcdConfig,
    election::cluster::{Cluster, Patience},
    timing::Timing,
};

/// The cluster of the configuration. Nothing is connected yet.
///
/// # Errors
/// A certificate, key or password file that cannot be used.
pub fn cluster(config: &EtcdConfig, timing: &Timing) -> Result<Cluster<Endpoint, BootClock>, ConfigError> {
    tls::options(&config.tls)?;
    let (config_, cluster_id) = (Rc::new(config.clone()), Rc::new(Cell::new(None)));
    let endpoints =
        config.endpoints.iter().map(|url| Endpoint::new(url.clone(), Rc::clone(&config_), Rc::clone(&cluster_id)));
    Ok(Cluster::new(endpoints.collect(), BootClock, Patience::of(timing)))
}
