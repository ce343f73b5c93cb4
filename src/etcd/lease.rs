//! The keepalive of a lease. `etcd-client` keeps the header of the first answer to itself, which says what cluster it is from.

use etcd_client::Error;
use futures_util::stream::{self, StreamExt as _};
use hyper::http::uri::PathAndQuery;
use tonic::{Status, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use super::login::Authorized;
use crate::core::names::LeaseId;

/// Asks once for a lease to be kept alive. In a stream of its own, so that it has the present token, and nothing of it can break
/// between two renewals.
pub(super) async fn keep_alive(channel: Authorized, lease: LeaseId) -> Result<KeptAlive, Error> {
    // The stream is open until it is dropped: a proxy may take its end for that of the question.
    let asked = stream::iter([KeepAlive { lease: lease.0 }]).chain(stream::pending());
    let mut request = tonic::Request::new(asked);
    // A member that has no way to the others says so at once.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
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
    /// Zero, or less, if there is no such lease any more.
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

impl KeptAlive {
    /// The cluster that the answer is from.
    pub(super) fn cluster(&self) -> Option<u64> {
        self.header.map(|header| header.cluster)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster: u64,
}
