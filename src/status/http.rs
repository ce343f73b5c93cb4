//! The HTTP status endpoint. It sends no request to etcd, so it answers also while etcd does not.
//!
//! | path | 200 | 503 |
//! | --- | --- | --- |
//! | `/` | always: JSON | |
//! | `/leader` | the command runs here | the command does not run here |
//! | `/healthz` | the election loop is alive | the loop has stalled: restart this instance |
//! | `/readyz` | leader, or a healthy standby | not in the queue, or etcd does not answer |
//! | `/metrics` | always: Prometheus or OpenMetrics text | |

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

use super::{
    Phase, Status,
    certificates::CertificateFile,
    metrics::{self, Snapshot},
};
use crate::{
    core::{
        clock::{Clock, Instant},
        exit_code::Exit,
        start_error::StartError,
        text,
        timing::show,
    },
    settings::{self, StatusEndpoint},
    system::clock::time_of_day,
};

/// Time from accepting a connection to its last byte. Each connection serves one request without a body.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time from accepting a connection to the end of the request's header. Probes send it at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of connections that are served at a time; a new one replaces the oldest. A port scan must neither use up the
/// file descriptors of the election nor keep a probe from its answer.
const MAX_CONNECTIONS: usize = 64;
/// The time for which a connection is not replaced: enough to read a request that was sent with it, and to answer it.
const GRACE: Duration = Duration::from_millis(20);
/// The pause between attempts to bind a port that another process uses.
const RETRY: Duration = Duration::from_secs(2);

/// The status endpoint, with its listener unless another process uses the port.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    listener: Option<TcpListener>,
}

/// Binds the port of the endpoint; may look up a host name. If another process uses the port, [`Server::serve`] retries, so that
/// this does not keep the service from starting.
///
/// # Errors
/// With [`Exit::Config`] if no address of the endpoint can be bound for another reason.
pub fn bind(endpoint: &StatusEndpoint) -> Result<Server, StartError> {
    let bind = || {
        let addresses = endpoint.resolve()?;
        let listener = match bind_first(&addresses) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            listener => Some(listener?),
        };
        Ok(Server { addresses, listener })
    };
    bind().map_err(|error: io::Error| {
        let setting = settings::either("status_endpoint");
        StartError::new(Exit::Config, format!("{setting}: could not serve the status at {endpoint}: {error}"))
    })
}

fn bind_first(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            // With another address of the same name, probes of this one would be answered by the other process.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Server {
    /// Returns the bound address, with the port that the kernel chose for port 0; `None` while another process uses the port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Returns the listener as soon as the port is free.
    #[expect(clippy::disallowed_methods, reason = "no deadline: a pause between attempts")]
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
                    if let Ok(listener) = bind_first(&self.addresses) {
                        break listener;
                    }
                }
            }
        };
        tracing::info!("serving the status at {}", listener.local_addr()?);
        tokio::net::TcpListener::from_std(listener)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "hyper measures its own limit on this clock; a suspend ends no connection early"
    )]
    /// Serves until the future is dropped, which also closes all connections. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// If the listener cannot be registered with the runtime. No client can cause an error.
    pub async fn serve<C>(
        self,
        status: watch::Receiver<Status>,
        certificates: watch::Receiver<Vec<CertificateFile>>,
        clock: C,
    ) -> io::Result<()>
    where
        C: Clock + Clone + Send + Sync + 'static,
    {
        let service = TowerToHyperService::new(router(status, certificates, clock));
        let listener = self.listener().await?;
        let mut connections = JoinSet::new();
        let mut oldest_first: VecDeque<(tokio::time::Instant, AbortHandle)> = VecDeque::new();
        loop {
            let full = oldest_first.len() >= MAX_CONNECTIONS;
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
                        // The oldest has had its time to answer, so it waits for its client.
                        if full && let Some((_, oldest)) = oldest_first.pop_front() {
                            oldest.abort();
                        }
                        let connection = connections.spawn(tokio::time::timeout(TIMEOUT, connection));
                        oldest_first.push_back((tokio::time::Instant::now(), connection));
                    }
                    // There is no free file descriptor, or the client has closed the connection already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

fn router<C>(status: watch::Receiver<Status>, certificates: watch::Receiver<Vec<CertificateFile>>, clock: C) -> Router
where
    C: Clock + Clone + Send + Sync + 'static,
{
    type Handler = fn(&Status, Instant) -> Response;
    let route = |handler: Handler| {
        let (status, clock) = (status.clone(), clock.clone());
        get(move || {
            let response = handler(&status.borrow(), clock.now());
            async move { response }
        })
    };
    let metrics = {
        let (status, clock) = (status.clone(), clock.clone());
        get(move |headers: HeaderMap| {
            let (status, certificates) = (status.borrow().clone(), certificates.borrow().clone());
            let snapshot = Snapshot { status, certificates, now: clock.now(), time_of_day: time_of_day() };
            async move { metrics(snapshot, &headers) }
        })
    };
    Router::new()
        .route("/", route(root))
        .route("/leader", route(|status, now| probe(status, status.is_leading(now))))
        .route("/healthz", route(|status, now| probe(status, status.is_alive(now))))
        .route("/readyz", route(|status, now| probe(status, status.is_ready(now))))
        .route("/metrics", metrics)
}

fn root(status: &Status, now: Instant) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], root_json(status, now)).into_response()
}

/// Returns the JSON object of `/`. Scripts search for the first three fields with the exact text of the Go tool, blanks included.
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
        ("state", json!(status.phase.name())),
        ("lock", json!(status.lock)),
        ("identity", json!(status.identity)),
        ("priority", json!(status.priority)),
        ("fencing_token", json!(status.token)),
        ("ttl_seconds", json!(status.ttl.as_secs())),
        ("queue_number", json!(number)),
        ("queue_behind", json!(behind)),
        ("seconds_since_renewal", seconds_since(status.renewed_at)),
        ("seconds_since_election", seconds_since(status.elected_at)),
        ("eligible", json!(status.eligible)),
        ("command_healthy", json!(status.command_healthy)),
        ("healthy", Value::Bool(status.is_alive(now))),
        ("ready", Value::Bool(status.is_ready(now))),
        ("pause", json!(status.pause)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\": {value}"));
    format!("{{{}}}\n", text::escaped_json(&fields.join(", ")))
}

fn probe(status: &Status, success: bool) -> Response {
    let code = if success { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", status.summary())).into_response()
}

fn metrics(snapshot: Snapshot, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = metrics::Format::accepted(&accept.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, format.content_type())], metrics::render(snapshot, format)).into_response()
}

#[cfg(test)]
mod tests;
