//! The HTTP endpoint: a view of the published status, which never asks etcd and so answers with etcd dark.
//!
//! | path | 200 | else 503 |
//! | --- | --- | --- |
//! | `/` | always: JSON for people and programs | |
//! | `/leader` | the command runs here | |
//! | `/healthz` | the election loop is alive | restart this instance |
//! | `/readyz` | leading, or a healthy standby | not in the queue, or etcd is silent |
//! | `/metrics` | always: Prometheus | |

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{Phase, Status, metrics};
use crate::{
    core::{
        clock::{Clock, Instant},
        exit_code::Exit,
        start_error::StartError,
        text,
        timing::show,
    },
    settings::{self, StatusEndpoint},
};

/// From accepting a connection to its last byte: there is one request in each, and no body.
const TIMEOUT: Duration = Duration::from_secs(5);
/// From accepting a connection to the end of its request's header. Probes send it at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections served at a time: a new one takes the place of the oldest. Port scanners must cost neither the election its
/// file descriptors nor a probe its answer.
const MOST_CONNECTIONS: usize = 64;
/// How long every connection may have: enough to read and answer a request that was sent with it, however many came together.
const GRACE: Duration = Duration::from_millis(20);
/// How often a port that another process occupies is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Where the status is to be served, and the listener, unless another process has the port.
#[derive(Debug)]
pub struct Bound {
    addresses: Vec<SocketAddr>,
    listener: Option<TcpListener>,
}

/// Takes the port. May look up a host name. A port that another process has is tried again while serving: the status is not
/// worth a service that does not start.
///
/// # Errors
/// With [`Exit::Config`] if no address of the endpoint can be bound for another reason.
pub fn bind(endpoint: &StatusEndpoint) -> Result<Bound, StartError> {
    let bound = || {
        let addresses = endpoint.resolve()?;
        let listener = match first_that_binds(&addresses) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            listener => Some(listener?),
        };
        Ok(Bound { addresses, listener })
    };
    bound().map_err(|error: io::Error| {
        let setting = settings::either("status_endpoint");
        StartError::new(Exit::Config, format!("{setting}: the status cannot be served at {endpoint}: {error}"))
    })
}

fn first_that_binds(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            // Another address of the same name would hide that somebody else answers on the port.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Bound {
    /// The address, with the port that the kernel chose if it was left to it; none while another process has the port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// The listener, as soon as the port is free.
    #[expect(clippy::disallowed_methods, reason = "no deadline: how often a port is tried again")]
    async fn listener(self) -> io::Result<tokio::net::TcpListener> {
        let listener = match self.listener {
            Some(listener) => listener,
            None => {
                let wanted = self.addresses.first().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(
                    "could not serve the status at {wanted}: another process uses the port; retrying every {}",
                    show(RETRY)
                );
                loop {
                    tokio::time::sleep(RETRY).await;
                    if let Ok(listener) = first_that_binds(&self.addresses) {
                        break listener;
                    }
                }
            }
        };
        tracing::info!("status at {}", listener.local_addr()?);
        tokio::net::TcpListener::from_std(listener)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "hyper measures its own limit on this clock; a suspend ends no connection early"
    )]
    /// Serves until it is dropped; connections end with it. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the runtime cannot take the listener; nothing that a client does.
    pub async fn serve<C>(self, status: watch::Receiver<Status>, clock: C) -> io::Result<()>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let service = TowerToHyperService::new(router(status, clock));
        let listener = self.listener().await?;
        let mut connections = JoinSet::new();
        let mut oldest_first: VecDeque<(tokio::time::Instant, AbortHandle)> = VecDeque::new();
        loop {
            let full = oldest_first.len() >= MOST_CONNECTIONS;
            let room_at = oldest_first.front().filter(|_| full).map(|(accepted_at, _)| *accepted_at + GRACE);
            let accept = async {
                if let Some(room_at) = room_at {
                    tokio::time::sleep_until(room_at).await;
                }
                listener.accept().await
            };
            tokio::select! {
                Some(_) = connections.join_next() => oldest_first.retain(|(_, connection)| !connection.is_finished()),
                accepted = accept => match accepted {
                    Ok((stream, _)) => {
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEADER_TIMEOUT)
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service.clone());
                        // None of them does anything but wait: for its request, or for a client that does not read.
                        if full && let Some((_, oldest)) = oldest_first.pop_front() {
                            oldest.abort();
                        }
                        let connection = connections.spawn(tokio::time::timeout(TIMEOUT, connection));
                        oldest_first.push_back((tokio::time::Instant::now(), connection));
                    }
                    // No file descriptors, or a client that is gone already: the next one may fare better.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

fn router<C>(status: watch::Receiver<Status>, clock: C) -> Router
where
    C: Clock + Clone + Send + Sync + 'static,
{
    type View = fn(&Status, Instant, &HeaderMap) -> Response;
    let route = |view: View| {
        let (status, clock) = (status.clone(), clock.clone());
        get(move |headers: HeaderMap| {
            let response = view(&status.borrow(), clock.now(), &headers);
            async move { response }
        })
    };
    Router::new()
        .route("/", route(root))
        .route("/leader", route(|status, now, _| verdict(status, status.is_leading(now))))
        .route("/healthz", route(|status, now, _| verdict(status, status.is_alive(now))))
        .route("/readyz", route(|status, now, _| verdict(status, status.is_ready(now))))
        .route("/metrics", route(metrics))
}

fn root(status: &Status, now: Instant, _: &HeaderMap) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], root_json(status, now)).into_response()
}

/// The first three fields and the blanks are what the Go tool prints, byte by byte: people grep for it.
fn root_json(status: &Status, now: Instant) -> String {
    let seconds_since = |at: Option<Instant>| json!(at.map(|at| now.saturating_since(at).as_secs()));
    let (number, behind) = match &status.phase {
        Phase::Waiting { number, behind } => (Some(number), behind.as_ref()),
        _ => (None, None),
    };
    let fields = [
        ("status", json!("ok")),
        ("phase", json!(if status.is_leading(now) { "running" } else { "awaiting" })),
        ("leader", json!(status.known_leader(now).unwrap_or("unknown"))),
        ("state", json!(status.phase.word())),
        ("lock", json!(status.lock)),
        ("identity", json!(status.identity)),
        ("fencing_token", json!(status.token)),
        ("ttl_seconds", json!(status.ttl.as_secs())),
        ("queue_number", json!(number)),
        ("queue_behind", json!(behind)),
        ("seconds_since_renewal", seconds_since(status.renewed_at)),
        ("seconds_since_election", seconds_since(status.elected_at)),
        ("healthy", Value::Bool(status.is_alive(now))),
        ("ready", Value::Bool(status.is_ready(now))),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\": {value}"));
    format!("{{{}}}\n", text::escaped_json(&fields.join(", ")))
}

fn verdict(status: &Status, good: bool) -> Response {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", status.words())).into_response()
}

fn metrics(status: &Status, now: Instant, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = metrics::Format::accepted(&accept.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, format.content_type())], metrics::render(status, now, format)).into_response()
}

#[cfg(test)]
mod tests;
