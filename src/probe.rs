//! Probes: asks a URL, a port or a check command whether something works. No answer in time is a failure, and so is any other answer than
//! the one that is expected.

mod http;

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, task::JoinHandle};

use crate::{
    core::{clock::Clock, timing::show},
    guard::checker,
    settings::Probe,
    system::runtime::look_up,
};

/// Sends probes, one at a time.
#[derive(Debug)]
pub struct Prober<C> {
    clock: C,
    timeout: Duration,
    checker: Option<checker::Handle>,
    lookup: Option<Lookup>,
}

/// A lookup of a host and port in progress. It occupies a thread as long as the resolver takes, so it is awaited again, and not repeated.
#[derive(Debug)]
struct Lookup {
    of: (String, u16),
    task: JoinHandle<io::Result<Vec<SocketAddr>>>,
}

impl<C: Clock> Prober<C> {
    /// Creates a prober; `checker` is needed for commands.
    pub const fn new(timeout: Duration, checker: Option<checker::Handle>, clock: C) -> Self {
        Self { clock, timeout, checker, lookup: None }
    }

    /// Returns whether check commands cannot run any more.
    pub fn is_lost(&self) -> bool {
        self.checker.as_ref().is_some_and(checker::Handle::is_lost)
    }

    /// Sends a probe. A command is that with the number `command` of the checker.
    ///
    /// # Errors
    /// With why it failed; within the timeout.
    pub async fn send(&mut self, probe: &Probe, command: usize) -> Result<(), String> {
        // The checker enforces the timeout itself; this one is for a checker that is frozen.
        let slack = if matches!(probe, Probe::Command(_)) { Duration::from_millis(500) } else { Duration::ZERO };
        let deadline = self.clock.now() + self.timeout + slack;
        let Self { checker, lookup, .. } = self;
        let answer = async {
            match (probe, checker) {
                (Probe::Command(_), Some(checker)) => checker.run(command).await,
                (Probe::Command(_), None) => Err("there is no process that runs check commands".to_owned()),
                (Probe::Tcp(host, port), _) => connect(host, *port, lookup).await.map(drop),
                (Probe::Http(http), _) => http::get(connect(&http.host, http.port, lookup).await?, http).await,
            }
        };
        let outcome = self.clock.before(deadline, answer).await;
        outcome.unwrap_or_else(|| Err(format!("there was no answer within {}", show(self.timeout))))
    }
}

/// Connects to the first address that accepts it.
async fn connect(host: &str, port: u16, lookup: &mut Option<Lookup>) -> Result<TcpStream, String> {
    let mut failure = "the host name has no address".to_owned();
    for address in addresses(host, port, lookup).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = format!("could not connect to {address}: {error}"),
        }
    }
    Err(failure)
}

async fn addresses(host: &str, port: u16, lookup: &mut Option<Lookup>) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let of = (host.to_owned(), port);
    let running = lookup.take_if(|lookup| lookup.of != of || lookup.task.is_finished());
    drop(running);
    let task = &mut lookup.get_or_insert_with(|| Lookup { task: tokio::spawn(look_up(of.0.clone(), of.1)), of }).task;
    let found = task.await;
    *lookup = None;
    let found = found.map_err(io::Error::other).and_then(|found| found);
    found.map_err(|error| format!("could not resolve {host:?}: {error}"))
}

#[cfg(test)]
mod tests;
