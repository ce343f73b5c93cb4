//! The login of this instance: one at a time, and all endpoints use its token.
//!
//! etcd verifies a password with bcrypt, which takes about 0.1 s, and a member loses all tokens when it restarts. So all requests
//! wait for the login in progress, and standbys do not log in all at once.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher as _, RandomState},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, Error, Txn};
use futures_util::{FutureExt as _, future::Shared};
use hyper::http::{HeaderValue, Request, Response, uri::PathAndQuery};
use tokio::sync::watch;
use tonic::{Status, body::Body, client::Grpc, metadata::MetadataValue, transport::Channel};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use crate::{core::clock::Clock as _, system::clock::BootClock};

/// The token that requests carry; without a value if authentication is not enabled.
#[derive(Clone)]
pub(super) struct Token {
    value: Option<HeaderValue>,
    number: u64,
}

impl Token {
    /// Returns the token of an instance without a user.
    pub(super) const fn none() -> Self {
        Self { value: None, number: 0 }
    }
}

type Running = Shared<Pin<Box<dyn Future<Output = Result<Option<HeaderValue>, Status>>>>>;

/// The present token, or the login in progress.
pub(super) struct Login {
    token: RefCell<Option<Token>>,
    count: Cell<u64>,
    running: RefCell<Option<Running>>,
    urgent: watch::Sender<bool>,
    /// The time after which a response is useless.
    limit: Duration,
}

impl Login {
    pub(super) fn new(limit: Duration) -> Self {
        let (token, running, urgent) = (RefCell::default(), RefCell::default(), watch::Sender::new(false));
        Self { token, count: Cell::default(), running, urgent, limit }
    }

    /// Sets whether this instance leads, so that its logins do not wait.
    pub(super) fn set_urgent(&self, urgent: bool) {
        self.urgent.send_replace(urgent);
    }

    pub(super) fn token(&self) -> Option<Token> {
        self.token.borrow().clone()
    }

    /// Forgets a token that is not valid any more, unless it was replaced already.
    pub(super) fn forget(&self, token: &Token) {
        self.token.borrow_mut().take_if(|present| present.number == token.number);
    }

    /// Waits for the login in progress. Returns `false` if there is none.
    pub(super) async fn wait(&self) -> bool {
        let running = self.running.borrow().clone();
        let Some(running) = running else { return false };
        let _ = self.end(running).await;
        true
    }

    /// Logs in over this connection. The login goes on if the future is dropped.
    ///
    /// # Errors
    /// If etcd denies access, or the connection fails.
    pub(super) async fn log_in(&self, channel: Channel, user: String, password: String) -> Result<(), Status> {
        let (limit, mut urgent) = (self.limit, self.urgent.subscribe());
        let spread = if self.count.get() == 0 { Duration::ZERO } else { limit / 4 };
        let task = tokio::spawn(async move {
            // A random pause, as other instances may have lost their tokens at the same time.
            let part = RandomState::new().hash_one(0) % 1024;
            let pause = spread.mul_f64(f64::from(u32::try_from(part).unwrap_or(0)) / 1024.0);
            let _ = BootClock.before(BootClock.now() + pause, urgent.wait_for(|urgent| *urgent)).await;
            tokio::select! {
                result = authenticate(channel.clone(), user, password) => result,
                () = stops_answering(channel, limit) => Err(Status::unavailable("no answer to the login")),
            }
        });
        let running = async move { task.await.unwrap_or_else(|_| Err(Status::unavailable("the login was lost"))) };
        let running = running.boxed_local().shared();
        self.running.replace(Some(running.clone()));
        self.end(running).await
    }

    async fn end(&self, running: Running) -> Result<(), Status> {
        let result = running.clone().await;
        let mut present = self.running.borrow_mut();
        // Several requests may have waited; the first one records the token.
        if present.as_ref().is_some_and(|present| present.ptr_eq(&running)) {
            *present = None;
            if let Ok(value) = &result {
                self.count.set(self.count.get() + 1);
                self.token.replace(Some(Token { value: value.clone(), number: self.count.get() }));
            }
        }
        result.map(drop)
    }
}

/// Requests a token. Returns `None` if authentication is not enabled: then no password is needed, as with etcd's own client.
async fn authenticate(channel: Channel, name: String, password: String) -> Result<Option<HeaderValue>, Status> {
    let (mut client, request) = prepare(channel, AuthenticateRequest { name, password }).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
    match client.unary(request, path, ProstCodec::<_, AuthenticateResponse>::default()).await {
        Ok(answer) => HeaderValue::try_from(answer.into_inner().token)
            .map(Some)
            .map_err(|_| Status::unavailable("the token cannot be sent")),
        Err(status) if status.message().contains("authentication is not enabled") => Ok(None),
        Err(status) => Err(status),
    }
}

/// Completes when a member stops answering. A member that is busy with many logins still answers empty transactions.
async fn stops_answering(channel: Channel, limit: Duration) {
    loop {
        BootClock.sleep(limit / 10).await;
        let asked = async { client(etcd_client::Channel::Tonic(channel.clone())).await?.txn(Txn::new()).await };
        if BootClock.before(BootClock.now() + limit * 3 / 10, asked).await.is_none() {
            return;
        }
    }
}

/// Prepares a call that `etcd-client` does not have. A member that is cut off from the others returns an error at once.
pub(super) async fn prepare<S: tonic::client::GrpcService<Body>, T>(
    service: S,
    message: T,
) -> Result<(Grpc<S>, tonic::Request<T>), Status> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut client = Grpc::new(service);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok((client, request))
}

/// Creates a client to whose requests the same applies.
pub(super) async fn client(channel: impl Into<etcd_client::Channel>) -> Result<Client, Error> {
    Client::from_channel(channel.into(), Some(ConnectOptions::new().with_require_leader(true))).await
}

/// A connection whose requests carry this token.
#[derive(Clone)]
pub(super) struct Authorized {
    pub(super) channel: Channel,
    pub(super) token: Token,
}

impl From<Authorized> for etcd_client::Channel {
    fn from(authorized: Authorized) -> Self {
        match authorized.token.value {
            Some(_) => Self::Custom(BoxCloneSyncService::new(authorized.map_err(Into::into))),
            None => Self::Tonic(authorized.channel),
        }
    }
}

impl Service<Request<Body>> for Authorized {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token.value {
            request.headers_mut().insert("token", token.clone());
        }
        self.channel.call(request)
    }
}

/// As in etcd's `rpc.proto`; etcd-client does not export these messages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    token: String,
}
