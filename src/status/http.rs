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
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{Phase, Status, metrics};
use crate::{
    cli::setting,
    clock::{Clock, Instant},
    config::{Refused, StatusEndpoint},
    exit_code::Exit,
    text,
};

/// From accepting a connection to its last byte: there is one request in each, and no body.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections served at a time; more have to wait. Port scanners must not cost the election its file descriptors.
const MOST_CONNECTIONS: usize = 64;

/// A port that is ours, and not yet served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the port, so that one that is taken is told at the start. May look up a host name.
///
/// # Errors
/// With [`Exit::Config`] if no address of the endpoint can be bound.
pub fn bind(endpoint: &StatusEndpoint) -> Result<Bound, Refused> {
    let bound = || {
        let listener = first_that_binds(&endpoint.resolve()?)?;
        listener.set_nonblocking(true)?;
        Ok(Bound { address: listener.local_addr()?, listener })
    };
    bound().map_err(|error: io::Error| {
        let setting = setting::STATUS_ENDPOINT.either();
        Refused::new(Exit::Config, format!("{setting}: the status cannot be served at {endpoint}: {error}"))
    })
}

fn first_that_binds(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            // Another address of the same name would hide that somebody else answers on the port.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Bound {
    /// The address, with the port that the kernel chose if it was left to it.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped; connections end with it. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the runtime cannot take the listener; nothing that a client does.
    pub async fn serve<C>(self, status: watch::Receiver<Status>, clock: C) -> io::Result<()>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let service = TowerToHyperService::new(router(status, clock));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let connection = http1::Builder::new()
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service.clone());
                        connections.spawn(tokio::time::timeout(TIMEOUT, connection));
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
        ("lease", json!(status.lease)),
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
