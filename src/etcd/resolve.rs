//! The addresses of the name of an endpoint, by the system's resolver, which reads `/etc/hosts` and `nsswitch.conf`.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use tokio::{
    sync::Mutex,
    task::{JoinError, JoinHandle},
};

use crate::system::runtime::look_up;

/// A host and a port.
#[derive(Debug)]
pub(super) struct Name {
    /// The host, without brackets.
    pub(super) host: String,
    port: u16,
    /// The lookup in progress. It occupies a thread as long as the resolver takes, so there is never a second one.
    lookup: Mutex<Option<JoinHandle<io::Result<Vec<SocketAddr>>>>>,
    failure: RefCell<Option<String>>,
}

impl Name {
    /// Parses the host and the port of a configured URL.
    pub(super) fn of_url(url: &str) -> Self {
        let authority = url.split_once("://").map_or(url, |(_, authority)| authority).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let host = host.trim_matches(['[', ']']).to_owned();
        Self { host, port: port.parse().unwrap_or(2379), lookup: Mutex::default(), failure: RefCell::default() }
    }

    /// Returns the address, if the host is an address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }

    /// Returns all addresses in the order of the resolver. If the future is dropped, the next call waits for the same lookup.
    ///
    /// # Errors
    /// If the name has no address, or the lookup fails.
    pub(super) async fn look_up(&self) -> Result<Vec<SocketAddr>, String> {
        let found = match self.address() {
            Some(address) => Ok(vec![address]),
            None => self.ask_resolver().await.map_err(|error| error.to_string()),
        };
        self.failure.replace(found.as_ref().err().cloned());
        found
    }

    /// Returns why the latest lookup failed, or that there is no answer yet.
    pub(super) fn failure(&self) -> String {
        let why = self.failure.borrow();
        format!("could not resolve {:?}: {}", self.host, why.as_deref().unwrap_or("no answer from the resolver yet"))
    }

    async fn ask_resolver(&self) -> io::Result<Vec<SocketAddr>> {
        let lookup = look_up(self.host.clone(), self.port);
        let answer = one_at_a_time(&self.lookup, lookup).await;
        let mut addresses = Vec::new();
        for address in answer.map_err(io::Error::other)?? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let addresses = usable(addresses, has_route);
        if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
    }
}

/// Waits for the lookup in progress, or starts this one. If the future is dropped, the next call waits for the same lookup.
pub(super) async fn one_at_a_time<T: Send + 'static>(
    lookup: &Mutex<Option<JoinHandle<T>>>,
    new: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let mut lookup = lookup.lock().await;
    let answer = lookup.get_or_insert_with(|| tokio::spawn(new)).await;
    *lookup = None;
    answer
}

/// Returns the addresses that the machine has a route to, or all if it has a route to none. A machine without IPv6 cannot use the
/// IPv6 addresses of a name.
fn usable(addresses: Vec<SocketAddr>, has_route: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let usable: Vec<_> = addresses.iter().copied().filter(has_route).collect();
    if usable.is_empty() { addresses } else { usable }
}

/// Returns whether the kernel has a route to an address, without sending a packet.
fn has_route(address: &SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_route_are_left_out_unless_there_are_no_others() {
        let addresses: Vec<SocketAddr> =
            ["10.0.0.1:1", "[2001:db8::1]:1"].map(|text| text.parse().expect("one")).to_vec();
        assert_eq!(usable(addresses.clone(), SocketAddr::is_ipv4), addresses[..1]);
        assert_eq!(usable(addresses.clone(), |_| false), addresses);
        assert_eq!(usable(addresses.clone(), |_| true), addresses);
        assert!(has_route(&"127.0.0.1:1".parse().expect("an address")));
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        for (url, address) in [
            ("http://127.0.0.1:23", "127.0.0.1:23"),
            ("https://[::1]:2379", "[::1]:2379"),
            ("http://10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let name = Name::of_url(url);
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(name.address(), Some(address));
            assert_eq!(name.look_up().await, Ok(vec![address]));
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_failure_has_its_cause() {
        let localhost = Name::of_url("http://localhost:5");
        assert_eq!(localhost.address(), None);
        assert!(localhost.failure().contains("yet"), "{}", localhost.failure());
        let found = localhost.look_up().await.expect("/etc/hosts has it");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5), "{found:?}");
        let invalid = Name::of_url("http://no-such-name.invalid:5");
        invalid.look_up().await.expect_err("a reserved name");
        assert!(invalid.failure().starts_with("could not resolve \"no-such-name.invalid\": "), "{}", invalid.failure());
    }

    /// Dropped campaigns must not occupy one thread each.
    #[tokio::test]
    async fn a_dropped_lookup_is_continued_and_not_started_again() {
        let name = Name::of_url("http://localhost:5");
        tokio::select! {
            biased;
            _ = name.look_up() => panic!("it takes a thread"),
            () = std::future::ready(()) => {}
        }
        assert!(name.lookup.lock().await.is_some());
        name.look_up().await.expect("/etc/hosts has it");
        assert!(name.lookup.lock().await.is_none());
    }
}
