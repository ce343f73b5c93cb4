//! The keepalive of a lease. `etcd-client` does not return the header of the first response, which has the ID of the cluster.

use etcd_client::Error;
use futures_util::stream::{self, StreamExt as _};
use hyper::http::uri::PathAndQuery;
use tonic::Status;
use tonic_prost::ProstCodec;

use super::login::{Authorized, prepare};
use crate::core::names::LeaseId;

/// Keeps a lease alive once. Each keepalive has its own stream, so that it has the present token and no stream breaks between two
/// renewals.
pub(super) async fn keep_alive(channel: Authorized, lease: LeaseId) -> Result<KeptAlive, Error> {
    // The stream of requests does not end before the response, as a proxy may then close the connection.
    let asked = stream::iter([KeepAlive { lease: lease.0 }]).chain(stream::pending());
    let (mut client, request) = prepare(channel, asked).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let answers = client.streaming(request, path, ProstCodec::<KeepAlive, KeptAlive>::default()).await?;
    let answer = answers.into_inner().message().await?;
    Ok(answer.ok_or_else(|| Status::unavailable("the keepalive was not answered"))?)
}

/// As in etcd's `rpc.proto`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct KeepAlive {
    #[prost(int64, tag = "1")]
    lease: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct KeptAlive {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "2")]
    pub(super) lease: i64,
    /// Zero or negative if the lease does not exist.
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

impl KeptAlive {
    /// Returns the ID of the cluster that the response is from.
    pub(super) fn cluster(&self) -> Option<u64> {
        self.header.map(|header| header.cluster)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster: u64,
}
