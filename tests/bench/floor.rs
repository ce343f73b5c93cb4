//! Bare etcd: the same requests by a client that does nothing else, as a lower limit.

use std::{fs, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, PutOptions, TlsOptions, Txn, TxnOp,
    WatchOptions, WatchStream,
};
use harness::{Cluster, journal::now, scratch::Scratch};
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::{
    contestant::{SETTLE, execute, probe_program},
    wait::{Failure, ms},
};

/// Two clients, connected to the first member, which the program also prefers.
pub(crate) struct Floor {
    runtime: Runtime,
    /// The first member, and the one that makes a majority with it.
    endpoints: [String; 2],
    tls: TlsOptions,
    giver: Client,
    taker: Client,
    probes: Scratch,
}

/// The limit of one request on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

impl Floor {
    pub(crate) fn new(cluster: &Cluster) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said)?;
        let endpoints = [0, 1].map(|member| cluster.member(member).endpoint());
        let certificates = cluster.certificates();
        let read = |path: &std::path::Path| fs::read(path).map_err(said);
        let client = &certificates.client;
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&certificates.ca)?))
            .identity(Identity::from_pem(read(&client.cert)?, read(&client.key)?));
        let connect = || runtime.block_on(connect(&endpoints[0], &tls));
        let (giver, taker) = (connect()?, connect()?);
        Ok(Self { runtime, endpoints, tls, giver, taker, probes: Scratch::new("floor") })
    }

    /// Returns the number of keys with a prefix.
    pub(crate) fn count(&mut self, prefix: &str) -> Result<i64, Failure> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let Self { runtime, giver, .. } = self;
        Ok(runtime.block_on(within(giver.get(prefix, Some(options))))?.count())
    }

    /// Connects, grants a lease, creates a key and executes the command; returns the milliseconds. With `vote`, it first asks a
    /// majority of the members which cluster they belong to, as the program does.
    pub(crate) fn start(&mut self, key: &str, vote: bool) -> Result<f64, Failure> {
        let begun = now();
        let Self { runtime, endpoints, tls, probes, .. } = self;
        let (mut client, lease) = runtime.block_on(async {
            let mut client = if vote {
                let (first, second) = tokio::join!(asked(&endpoints[0], tls), asked(&endpoints[1], tls));
                second.and(first)?
            } else {
                connect(&endpoints[0], tls).await?
            };
            let lease = within(client.lease_grant(15, None)).await?.id();
            create(&mut client, key, lease).await?;
            Ok::<_, Failure>((client, lease))
        })?;
        let started = execute(&probe_program(), &[], probes)?;
        runtime.block_on(within(client.lease_revoke(lease)))?;
        Ok(ms(begun, started))
    }

    /// One client deletes a key; the other one sees it in its watch, creates it and executes the command. Returns the
    /// milliseconds. Both, and etcd, are idle before, as while instances wait: right after another request all are faster.
    pub(crate) fn hand_over(&mut self, key: &str) -> Result<f64, Failure> {
        let Self { runtime, giver, taker, probes, .. } = self;
        let (begun, lease) = runtime.block_on(async {
            let lease = within(taker.lease_grant(15, None)).await?.id();
            create(giver, key, 0).await?;
            let mut watch = watch(taker, key).await?;
            sleep(SETTLE).await;
            let begun = now();
            // The second client does not wait for the response of the first one.
            let (deleted, taken) = tokio::join!(within(giver.delete(key, None)), async {
                within(watch.message()).await?;
                create(taker, key, lease).await
            });
            deleted.and(taken)?;
            Ok::<_, Failure>((begun, lease))
        })?;
        let started = execute(&probe_program(), &[], probes)?;
        runtime.block_on(within(taker.lease_revoke(lease)))?;
        Ok(ms(begun, started))
    }
}

async fn connect(endpoint: &str, tls: &TlsOptions) -> Result<Client, Failure> {
    within(Client::connect([endpoint], Some(ConnectOptions::new().with_tls(tls.clone())))).await
}

/// Connects, and asks for the cluster.
async fn asked(endpoint: &str, tls: &TlsOptions) -> Result<Client, Failure> {
    let mut client = connect(endpoint, tls).await?;
    within(client.status()).await?;
    Ok(client)
}

/// Creates a key that must not exist.
async fn create(client: &mut Client, key: &str, lease: i64) -> Result<(), Failure> {
    let free = Compare::create_revision(key, CompareOp::Equal, 0);
    let put = TxnOp::put(key, "bare", Some(PutOptions::new().with_lease(lease)));
    let answer = within(client.txn(Txn::new().when([free]).and_then([put]))).await?;
    if answer.succeeded() { Ok(()) } else { Err(format!("{key} is there already")) }
}

/// Opens a watch that etcd has confirmed, and that is notified at once.
async fn watch(client: &mut Client, key: &str) -> Result<WatchStream, Failure> {
    let mut stream = within(client.watch(key, Some(WatchOptions::new()))).await?;
    within(stream.message()).await?;
    Ok(stream)
}

async fn within<T, E: std::fmt::Display>(request: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    timeout(LIMIT, request).await.map_err(said)?.map_err(said)
}

fn said(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}
